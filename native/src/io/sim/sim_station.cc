// SPDX-License-Identifier: Apache-2.0
// Rings and buffers of a simulated station; see the header.
#include "io/sim/sim_station.h"

#include <algorithm>

namespace outrigger::io {

SimStation::SimStation(SimWire& wire, uint32_t index, const SimStationOptions& options)
    : wire_(wire), index_(index), options_(options), received_(options.receiveRing), transmit_(options.transmitRing) {
  caps_.name = "sim";
  caps_.mode = "simulated wire";
  caps_.interfaceIndex = options.interfaceIndex;
  caps_.queues = options.queues;
  caps_.maxTransmitPieces = options.maxTransmitPieces;
  caps_.transmitBufferLength = options.transmitBufferLength;
  caps_.transmitChecksum = options.transmitChecksum || options.transmitSegmentation;
  caps_.transmitSegmentation = options.transmitSegmentation;
  caps_.receiveChecksum = options.receiveChecksum;
  caps_.receiveTrains = true;
  caps_.arrivalTimes = options.arrivalTimes;
  caps_.emptyFillRingLoses = options.emptyFillRingLoses;
  caps_.untoldRing = options.tellsOverflow ? 0 : options.receiveRing;
  caps_.kernelOwnsDevice = options.kernelOwnsDevice;
  caps_.singleOwner = options.singleOwner;
  link_.mac = options.mac;
  link_.mtu = options.mtu;
  link_.up = true;
  link_.generation = 1;
  for (uint32_t i = options.receiveRing; i-- > 0;) freeReceived_.push_back(i);
  for (uint32_t i = options.transmitRing; i-- > 0;) freeTransmit_.push_back(i);
  for (auto& buffer : transmit_) buffer.resize(options.transmitBufferLength);
}

SimStation::~SimStation() { wire_.stations_[index_] = nullptr; }

Result<void> SimStation::steer(const SteerRule& rule) {
  const auto same = [&](const SteerRule& each) { return each.address == rule.address; };
  if (std::none_of(rules_.begin(), rules_.end(), same)) rules_.push_back(rule);
  return {};
}

Result<void> SimStation::unsteer(const SteerRule& rule) {
  std::erase_if(rules_, [&](const SteerRule& each) { return each.address == rule.address; });
  return {};
}

bool SimStation::accepts(const SimWire::Frame& frame) const {
  if (options_.promiscuous || frame.bytes.size() < 6 || (frame.bytes[0] & 1) != 0) return true;
  return std::equal(link_.mac.begin(), link_.mac.end(), frame.bytes.begin());
}

uint32_t SimStation::buffersOf(size_t length) const {
  if (options_.receiveBufferLength == 0 || length == 0) return 1;
  return static_cast<uint32_t>((length + options_.receiveBufferLength - 1) / options_.receiveBufferLength);
}

void SimStation::arrive(const SimWire::Frame& frame) {
  if (freeReceived_.empty()) {
    if (options_.tellsOverflow) stats.ringFullDrops.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  const uint32_t slot = freeReceived_.back();
  freeReceived_.pop_back();
  received_[slot].frame = frame;
  received_[slot].arrivedNs = options_.arrivalTimes ? wire_.nowNs() : 0;
  if (options_.receiveChecksum && frame.checksum == RxChecksum::kUnknown) received_[slot].frame.checksum = RxChecksum::kGood;
  ring_.push_back(slot);
}

uint32_t SimStation::receive(std::span<RxFrame> frames) {
  uint32_t count = 0;
  while (!ring_.empty()) {
    const uint32_t slot = ring_.front();
    Received& received = received_[slot];
    const uint32_t buffers = buffersOf(received.frame.bytes.size());
    if (buffers > frames.size()) {
      stats.oversizedFrames.fetch_add(1, std::memory_order_relaxed);
      ring_.pop_front();
      freeReceived_.push_back(slot);
      continue;
    }
    if (count + buffers > frames.size()) break;
    ring_.pop_front();
    received.buffersOut = buffers;
    receivedOut_ += buffers;
    size_t offset = 0;
    for (uint32_t i = 0; i < buffers; ++i) {
      RxFrame& frame = frames[count++];
      const size_t left = received.frame.bytes.size() - offset;
      frame = {};
      frame.data = received.frame.bytes.data() + offset;
      frame.length = static_cast<uint32_t>(options_.receiveBufferLength == 0 ? left : std::min<size_t>(left, options_.receiveBufferLength));
      frame.more = i + 1 < buffers;
      frame.segmentLength = received.frame.segmentLength;
      frame.checksum = received.frame.checksum;
      frame.vlanPresent = received.frame.vlanPresent;
      frame.vlanTci = received.frame.vlanTci;
      frame.arrivedNs = received.arrivedNs;
      frame.cookie = slot;
      offset += frame.length;
    }
    stats.receivedFrames.fetch_add(1, std::memory_order_relaxed);
    stats.receivedBytes.fetch_add(static_cast<int64_t>(received.frame.bytes.size()), std::memory_order_relaxed);
  }
  return count;
}

void SimStation::giveBack(std::span<const RxFrame> frames) {
  for (const RxFrame& frame : frames) {
    Received& received = received_[frame.cookie];
    --receivedOut_;
    if (--received.buffersOut == 0) freeReceived_.push_back(static_cast<uint32_t>(frame.cookie));
  }
}

uint32_t SimStation::reserve(std::span<TxFrame> frames) {
  uint32_t count = 0;
  while (count < frames.size() && !freeTransmit_.empty()) {
    TxFrame& frame = frames[count++];
    frame = {};
    frame.cookie = freeTransmit_.back();
    freeTransmit_.pop_back();
    frame.data = transmit_[frame.cookie].data();
    frame.capacity = options_.transmitBufferLength;
  }
  transmitOut_ += count;
  if (count == 0) stats.noBuffer.fetch_add(1, std::memory_order_relaxed);
  return count;
}

void SimStation::commit(std::span<const TxFrame> frames) {
  for (const TxFrame& frame : frames) {
    if (building_.bytes.empty()) {
      building_.segmentLength = frame.segmentLength;
      // What the device was to fill in stays open on a wire between two of them.
      building_.checksum = frame.checksumStart != 0 ? RxChecksum::kPartial : RxChecksum::kUnknown;
    }
    building_.bytes.insert(building_.bytes.end(), frame.data, frame.data + frame.length);
    sent_.push_back(static_cast<uint32_t>(frame.cookie));
    if (frame.more) continue;
    stats.transmittedFrames.fetch_add(1, std::memory_order_relaxed);
    stats.transmittedBytes.fetch_add(static_cast<int64_t>(building_.bytes.size()), std::memory_order_relaxed);
    wire_.send(index_, building_);
    building_ = {};
  }
  transmitOut_ -= static_cast<uint32_t>(frames.size());
}

void SimStation::abort(std::span<const TxFrame> frames) {
  for (const TxFrame& frame : frames) freeTransmit_.push_back(static_cast<uint32_t>(frame.cookie));
  transmitOut_ -= static_cast<uint32_t>(frames.size());
}

bool SimStation::flush() {
  freeTransmit_.insert(freeTransmit_.end(), sent_.begin(), sent_.end());
  sent_.clear();
  return true;
}

}  // namespace outrigger::io
