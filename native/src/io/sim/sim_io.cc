// SPDX-License-Identifier: Apache-2.0
// Backend `sim`; see the header.
#include "io/sim/sim_io.h"

#include <algorithm>
#include <bit>

namespace outrigger::io {
namespace {

class SimNextHop final : public NextHop {
 public:
  explicit SimNextHop(const SockAddr& address) : NextHop(address) {}
};

SimEndpoint& own(Endpoint& endpoint) { return static_cast<SimEndpoint&>(endpoint); }

}  // namespace

SimIo::SimIo(SimNetwork& network, uint32_t host) : network_(network), host_(host) {
  caps_.name = "sim";
  caps_.segmentationOffload = network.options_.segmentationOffload;
  caps_.receiveCoalescing = network.options_.coalescing;
  caps_.maxTrainLengthBytes = 65507;
  caps_.maxTrainSegments = caps_.segmentationOffload ? 64 : 1;
  for (Slot& slot : slots_) slot.bytes.reserve(kSlotLength);
}

Result<std::unique_ptr<Endpoint>> SimIo::openEndpoint(const EndpointConfig& config) { return network_.open(host_, config); }

Result<std::unique_ptr<NextHop>> SimIo::resolve(Endpoint& endpoint, const SockAddr& destination) {
  if (destination.family() != endpoint.localAddress().family()) {
    return makeError(ErrorCode::kInvalidChannel, "destination " + destination.toString() + " is of another address family than endpoint " +
                                                     endpoint.localAddress().toString());
  }
  if (destination.port() == 0) {
    return makeError(ErrorCode::kInvalidChannel, "destination " + destination.toString() + " has port 0: name the port to send to");
  }
  return std::unique_ptr<NextHop>(std::make_unique<SimNextHop>(destination));
}

void SimIo::attach(Endpoint& endpoint) {
  SimEndpoint& sim = own(endpoint);
  if (sim.attached) return;
  sim.attached = true;
  attached_.push_back(&sim);
}

void SimIo::detach(Endpoint& endpoint) {
  own(endpoint).attached = false;
  std::erase(attached_, &own(endpoint));
}

// Takes one datagram, or a train of equal ones, out of the endpoint's queue. Returns the number of datagrams.
uint32_t SimIo::take(SimEndpoint& endpoint, Slot& slot, RxPacket& packet) {
  slot.bytes.clear();
  uint32_t datagrams = 0;
  size_t segment = 0;
  size_t lastLength = 0;
  while (!endpoint.queue.empty()) {
    const SimEndpoint::Received& next = endpoint.queue.front();
    if (datagrams > 0) {
      const bool joins = caps_.receiveCoalescing && datagrams < kMaxTrainDatagrams && lastLength == segment &&
                         next.bytes.size() <= segment && slot.bytes.size() + next.bytes.size() <= caps_.maxTrainLengthBytes &&
                         next.source == slot.source && next.destination == slot.destination;
      if (!joins) break;
    } else {
      segment = next.bytes.size();
      slot.source = next.source;
      slot.destination = next.destination;
    }
    lastLength = next.bytes.size();
    slot.bytes.insert(slot.bytes.end(), next.bytes.begin(), next.bytes.end());
    endpoint.queuedBytes -= static_cast<int64_t>(next.bytes.size());
    endpoint.queue.pop_front();
    ++datagrams;
  }
  packet = RxPacket{slot.bytes.data(), static_cast<uint32_t>(slot.bytes.size()), static_cast<uint32_t>(segment), &endpoint, &slot.source,
                    &slot.destination};
  return datagrams;
}

uint32_t SimIo::poll(RxBurst& burst, int64_t nowNs) {
  network_.setNow(nowNs);
  burst.count = 0;
  uint32_t datagrams = 0;
  // One packet of each endpoint in turn, until the slots are used or the queues are empty.
  size_t idle = 0;
  while (burst.count < kSlots && idle < attached_.size()) {
    if (nextEndpoint_ >= attached_.size()) nextEndpoint_ = 0;
    SimEndpoint& endpoint = *attached_[nextEndpoint_++];
    if (endpoint.queue.empty()) {
      ++idle;
      continue;
    }
    idle = 0;
    datagrams += take(endpoint, slots_[burst.count], burst.packets[burst.count]);
    ++burst.count;
  }
  return datagrams;
}

uint32_t SimIo::transmit(Endpoint& endpoint, std::span<TxItem> items) {
  for (TxItem& item : items) {
    item.status = TxStatus::kPending;
    item.sentBytes = 0;
  }
  uint32_t finished = 0;
  for (TxItem& item : items) {
    const uint32_t step = item.segmentLength == 0 ? item.length : std::min(item.segmentLength, item.length);
    TxStatus worst = TxStatus::kSent;
    do {
      const uint32_t length = std::min(step, item.length - item.sentBytes);
      const TxStatus status = network_.send(own(endpoint), item.nextHop->address(), item.data + item.sentBytes, length);
      if (status == TxStatus::kWouldBlock) {
        item.status = status;
        return finished;
      }
      if (status != TxStatus::kSent) worst = status;
      item.sentBytes += length;
    } while (item.sentBytes < item.length);
    item.status = worst;
    ++finished;
  }
  return finished;
}

TxStatus SimIo::reserve(Endpoint&, const SockAddr&, uint32_t length, TxSlot& slot) {
  if (length > txSlots_[0].size()) return TxStatus::kTooLong;
  const auto index = static_cast<uint32_t>(std::countr_one(txSlotsInUse_));
  if (index >= txSlots_.size()) return TxStatus::kWouldBlock;
  txSlotsInUse_ |= 1U << index;
  slot = TxSlot{txSlots_[index].data(), static_cast<uint32_t>(txSlots_[index].size()), index};
  return TxStatus::kPending;
}

TxStatus SimIo::commit(Endpoint& endpoint, const SockAddr& destination, TxSlot& slot, uint32_t length) {
  const TxStatus status = length > slot.capacity ? TxStatus::kTooLong : network_.send(own(endpoint), destination, slot.data, length);
  abort(endpoint, slot);
  return status;
}

void SimIo::abort(Endpoint&, TxSlot& slot) {
  if (slot.data != nullptr) txSlotsInUse_ &= ~(1U << slot.cookie);
  slot = TxSlot{};
}

bool SimIo::arm() {
  return std::all_of(attached_.begin(), attached_.end(), [](const SimEndpoint* endpoint) { return endpoint->queue.empty(); });
}

}  // namespace outrigger::io
