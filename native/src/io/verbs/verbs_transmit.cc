// SPDX-License-Identifier: Apache-2.0
// What `verbs` sends: by the queue pair where the peer has one, else through the kernel's socket.
#include <algorithm>
#include <cstring>

#include "io/posix/udp_io_base.h"
#include "io/verbs/verbs_io.h"

namespace outrigger::io::verbs {
namespace {

uint32_t segmentOf(const TxItem& item) { return item.segmentLength == 0 ? item.length : std::min(item.segmentLength, item.length); }

}  // namespace

bool VerbsIo::byQueue(const VerbsEndpoint& endpoint, const TxItem& item, const PeerAnswer& peer) const {
  return endpoint.onDevice() && peer.state == PeerState::kReady && segmentOf(item) <= peer.mtu;
}

uint32_t VerbsIo::transmit(Endpoint& base, std::span<TxItem> items) {
  auto& endpoint = static_cast<VerbsEndpoint&>(base);
  for (TxItem& item : items) {
    item.status = TxStatus::kPending;
    item.sentBytes = 0;
  }
  uint32_t done = 0;
  while (done < items.size()) {
    TxItem& item = items[done];
    const PeerAnswer& peer = static_cast<VerbsNextHop*>(item.nextHop)->peer.answer();
    if (endpoint.onDevice() && peer.state == PeerState::kAsking) {
      // Soon it is known. What went through the kernel now could be overtaken by what follows.
      item.status = TxStatus::kNeighbour;
      stats_.add(StackCounter::kNeighbourWaits);
      break;
    }
    if (byQueue(endpoint, item, peer)) {
      if (!sendItem(endpoint, item, peer)) break;
      ++done;
      continue;
    }
    // As many as go the same way, in one call.
    uint32_t end = done + 1;
    while (end < items.size()) {
      const PeerAnswer& next = static_cast<VerbsNextHop*>(items[end].nextHop)->peer.answer();
      if (byQueue(endpoint, items[end], next) || (endpoint.onDevice() && next.state == PeerState::kAsking)) break;
      ++end;
    }
    const uint32_t finished = kernel_->transmit(endpoint, items.subspan(done, end - done));
    for (uint32_t i = done; i < done + finished; ++i) {
      if (items[i].status != TxStatus::kSent) continue;
      const bool tooLong = segmentOf(items[i]) > mtu_;
      stats_.add(tooLong ? StackCounter::kFragmentedSends : StackCounter::kKernelSends,
                 datagramCount(items[i].length, items[i].segmentLength));
    }
    done += finished;
    if (done < end) break;
  }
  flush(endpoint);
  return done;
}

// False: the queue is full, and the item says how much of it is sent.
bool VerbsIo::sendItem(VerbsEndpoint& endpoint, TxItem& item, const PeerAnswer& peer) {
  const uint32_t segment = segmentOf(item);
  const uint16_t port = item.nextHop->address().port();
  do {
    uint8_t* to = nextSlot(endpoint);
    if (to == nullptr) {
      item.status = TxStatus::kWouldBlock;
      stats_.add(StackCounter::kRingFull);
      return false;
    }
    const uint32_t length = std::min(segment, item.length - item.sentBytes);
    if (length > 0) std::memcpy(to, item.data + item.sentBytes, length);
    post(endpoint, peer, port, length);
    item.sentBytes += length;
  } while (item.sentBytes < item.length);
  item.status = TxStatus::kSent;
  return true;
}

// Memory for the next datagram, null when there is none.
uint8_t* VerbsIo::nextSlot(VerbsEndpoint& endpoint) {
  if (outgoingCount_ == outgoing_.size()) flush(endpoint);
  if (freeCount_ == 0) freeCount_ = queue_->reserve(free_);
  return freeCount_ == 0 ? nullptr : free_[freeCount_ - 1].data;
}

// Puts the slot that nextSlot answered, filled, among what flush sends.
void VerbsIo::post(const VerbsEndpoint& endpoint, const PeerAnswer& peer, uint16_t port, uint32_t length) {
  Outgoing& outgoing = outgoing_[outgoingCount_++];
  outgoing.slot = free_[--freeCount_].slot;
  outgoing.length = length;
  outgoing.to = peer.to;
  outgoing.queueNumber = peer.queueNumber;
  outgoing.queueKey = peer.queueKey;
  outgoing.immediate = static_cast<uint32_t>(endpoint.port()) << 16 | port;
}

void VerbsIo::flush(VerbsEndpoint& endpoint) {
  if (outgoingCount_ == 0) return;
  const uint32_t taken = queue_->send({outgoing_.data(), outgoingCount_});
  stats_.add(StackCounter::kFramesSent, taken);
  // For want of memory for a moment; or the queue pair is broken, which health() tells.
  if (taken < outgoingCount_) endpoint.stats.sendErrors.fetch_add(outgoingCount_ - taken, std::memory_order_relaxed);
  outgoingCount_ = 0;
}

TxStatus VerbsIo::reserve(Endpoint& endpoint, const SockAddr& destination, uint32_t length, TxSlot& slot) {
  return kernel_->reserve(endpoint, destination, length, slot);
}

TxStatus VerbsIo::commit(Endpoint& base, const SockAddr& destination, TxSlot& slot, uint32_t length) {
  auto& endpoint = static_cast<VerbsEndpoint&>(base);
  if (endpoint.onDevice() && length <= slot.capacity && destination.family() == endpoint.localAddress().family()) {
    const PeerAnswer& peer = controlPeer(endpoint, destination).answer();
    uint8_t* to = peer.state == PeerState::kReady && length <= peer.mtu ? nextSlot(endpoint) : nullptr;
    if (to != nullptr) {
      std::memcpy(to, slot.data, length);
      post(endpoint, peer, destination.port(), length);
      flush(endpoint);
      kernel_->abort(endpoint, slot);
      return TxStatus::kSent;
    }
  }
  // Control frames stand for themselves: one that goes the kernel's way until the peer is known loses nothing by it.
  const TxStatus status = kernel_->commit(endpoint, destination, slot, length);
  if (status == TxStatus::kSent) stats_.add(StackCounter::kKernelSends);
  return status;
}

Peer& VerbsIo::controlPeer(const VerbsEndpoint& endpoint, const SockAddr& destination) {
  ControlPeer* set = &controlPeers_[(destination.hash() ^ endpoint.number()) % kControlSets * kWays];
  ControlPeer* oldest = set;
  ++uses_;
  for (uint32_t i = 0; i < kWays; ++i) {
    if (set[i].endpoint == endpoint.number() && set[i].destination == destination) {
      set[i].lastUse = uses_;
      return set[i].peer;
    }
    if (set[i].endpoint == 0 || (oldest->endpoint != 0 && set[i].lastUse < oldest->lastUse)) oldest = &set[i];
  }
  if (oldest->endpoint != 0) stats_.add(StackCounter::kPathTableFull);
  oldest->endpoint = endpoint.number();
  oldest->destination = destination;
  oldest->lastUse = uses_;
  PeerQuestion question;
  question.number = ++oldest->question;
  question.endpoint = endpoint.number();
  question.destination = destination;
  oldest->peer.cell.question.store(question);
  oldest->peer.forgetAnswer(question.number);
  directory_->wake();
  return oldest->peer;
}

}  // namespace outrigger::io::verbs
