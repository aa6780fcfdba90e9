// SPDX-License-Identifier: Apache-2.0
// SimWire: what happens to a frame between two stations; see the header.
#include "io/sim/sim_wire.h"

#include <algorithm>
#include <limits>

#include "io/sim/sim_station.h"

namespace outrigger::io {

SimWire::~SimWire() = default;

std::unique_ptr<FrameIo> SimWire::createStation(const SimStationOptions& options) {
  auto station = std::make_unique<SimStation>(*this, static_cast<uint32_t>(stations_.size()), options);
  stations_.push_back(station.get());
  return station;
}

void SimWire::launch(uint32_t to, const Frame& frame) {
  if (random_.chance(options_.loss)) return;
  const int copies = random_.chance(options_.duplicate) ? 2 : 1;
  for (int i = 0; i < copies; ++i) {
    auto flight = std::make_shared<Flight>();
    flight->sequence = nextSequence_++;
    flight->to = to;
    flight->frame = frame;
    flight->arrivalNs = nowNs_ + options_.delayNs +
                        (options_.jitterNs > 0 ? static_cast<int64_t>(random_.below(static_cast<uint64_t>(options_.jitterNs))) : 0);
    if (random_.chance(options_.reorder)) flight->arrivalNs += options_.reorderDelayNs;
    if (random_.chance(options_.corrupt) && flight->frame.bytes.size() > 12) {
      constexpr size_t kBurstBits = 15;
      constexpr size_t kBehindAddresses = 12 * 8;
      const size_t bits = flight->frame.bytes.size() * 8;
      const size_t first = kBehindAddresses + random_.below(bits - kBehindAddresses);
      for (size_t bit = first; bit < std::min(first + kBurstBits, bits); ++bit) {
        if (bit == first || random_.chance(0.5)) flight->frame.bytes[bit / 8] ^= static_cast<uint8_t>(0x80U >> (bit % 8));
      }
      flight->frame.checksum = RxChecksum::kUnknown;
    }
    inFlight_.push(std::move(flight));
  }
}

void SimWire::send(uint32_t from, const Frame& frame) {
  if (watcher_) watcher_(from, frame.bytes);
  for (uint32_t to = 0; to < stations_.size(); ++to) {
    if (to != from && stations_[to] != nullptr && stations_[to]->accepts(frame)) launch(to, frame);
  }
}

void SimWire::inject(const std::vector<uint8_t>& bytes, uint16_t segmentLength, RxChecksum checksum) {
  const Frame frame{bytes, segmentLength, checksum, false, 0};
  for (uint32_t to = 0; to < stations_.size(); ++to) {
    if (stations_[to] != nullptr && stations_[to]->accepts(frame)) launch(to, frame);
  }
}

void SimWire::deliver(uint32_t station, const std::vector<uint8_t>& bytes, RxChecksum checksum, bool vlanPresent, uint16_t vlanTci) {
  stations_[station]->arrive({bytes, 0, checksum, vlanPresent, vlanTci});
}

void SimWire::setNow(int64_t nowNs) {
  nowNs_ = std::max(nowNs_, nowNs);
  while (!inFlight_.empty() && inFlight_.top()->arrivalNs <= nowNs_) {
    const std::shared_ptr<Flight> flight = inFlight_.top();
    inFlight_.pop();
    if (stations_[flight->to] != nullptr) stations_[flight->to]->arrive(flight->frame);
  }
}

int64_t SimWire::nextEventNs() const { return inFlight_.empty() ? std::numeric_limits<int64_t>::max() : inFlight_.top()->arrivalNs; }

void SimWire::setMtu(uint32_t station, uint32_t mtu) {
  stations_[station]->link_.mtu = mtu;
  ++stations_[station]->link_.generation;
}

void SimWire::setMac(uint32_t station, const MacAddress& mac) {
  stations_[station]->link_.mac = mac;
  ++stations_[station]->link_.generation;
}

uint32_t SimWire::outstanding(uint32_t station) const { return stations_[station]->receivedOut_ + stations_[station]->transmitOut_; }

}  // namespace outrigger::io
