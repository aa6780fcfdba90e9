// SPDX-License-Identifier: Apache-2.0
// See the header.
#include "io/posix/udp_io_base.h"

#include <bit>

namespace outrigger::io {
namespace {

constexpr size_t kExpectedEndpoints = 256;  // attaching up to this many allocates nothing

}  // namespace

TxStatus sendStatusOf(int err) {
  switch (err) {
    case EMSGSIZE:
      return TxStatus::kTooLong;
    case ECONNREFUSED:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case EHOSTDOWN:
    case ENETDOWN:
      return TxStatus::kUnreachable;
    default:
      return isWouldBlock(err) ? TxStatus::kWouldBlock : TxStatus::kError;
  }
}

UdpIoBase::UdpIoBase(Caps caps, UdpSocketOptions socketOptions) : caps_(std::move(caps)), socketOptions_(socketOptions) {
  attached_.reserve(kExpectedEndpoints);
}

Result<std::unique_ptr<Endpoint>> UdpIoBase::openEndpoint(const EndpointConfig& config) {
  auto endpoint = UdpEndpoint::open(config, socketOptions_);
  if (!endpoint) return endpoint.error();
  return std::unique_ptr<Endpoint>(endpoint.take());
}

Result<std::unique_ptr<NextHop>> UdpIoBase::resolve(Endpoint& endpoint, const SockAddr& destination) {
  if (destination.family() != endpoint.localAddress().family()) {
    return makeError(ErrorCode::kInvalidChannel, "destination " + destination.toString() + " is of another address family than endpoint " +
                                                     endpoint.localAddress().toString());
  }
  if (destination.port() == 0) {
    return makeError(ErrorCode::kInvalidChannel, "destination " + destination.toString() + " has port 0: name the port to send to");
  }
  return std::unique_ptr<NextHop>(std::make_unique<UdpNextHop>(destination));
}

bool UdpIoBase::enlist(UdpEndpoint& endpoint) {
  if (endpoint.attachIndex != UdpEndpoint::kNotAttached) return false;
  endpoint.attachIndex = attached_.size();
  attached_.push_back(&endpoint);
  return true;
}

bool UdpIoBase::strike(UdpEndpoint& endpoint) {
  if (endpoint.attachIndex == UdpEndpoint::kNotAttached) return false;
  UdpEndpoint* last = attached_.back();
  attached_[endpoint.attachIndex] = last;
  last->attachIndex = endpoint.attachIndex;
  attached_.pop_back();
  endpoint.attachIndex = UdpEndpoint::kNotAttached;
  detachedTotals_.add(endpoint.stats);
  return true;
}

IoTotals UdpIoBase::totals() const {
  IoTotals totals = detachedTotals_;
  for (const UdpEndpoint* endpoint : attached_) totals.add(endpoint->stats);
  return totals;
}

TxStatus UdpIoBase::sendOne(UdpEndpoint& endpoint, const SockAddr& destination, const uint8_t* data, uint32_t length) {
  bool retried = false;
  while (true) {
    const ssize_t sent = ::sendto(endpoint.fd(), data, length, MSG_DONTWAIT | MSG_NOSIGNAL, destination.get(), destination.length);
    if (sent >= 0) {
      // The first failure was another destination's, reported late: that one lost a datagram, this one did not.
      if (retried) endpoint.stats.sendErrors.fetch_add(1, std::memory_order_relaxed);
      return TxStatus::kSent;
    }
    const int err = errno;
    if (err == EINTR) continue;
    if (isWouldBlock(err)) return TxStatus::kWouldBlock;
    if (!retried && err != EMSGSIZE) {
      retried = true;
      continue;
    }
    endpoint.stats.sendErrors.fetch_add(1, std::memory_order_relaxed);
    return sendStatusOf(err);
  }
}

TxStatus UdpIoBase::reserve(Endpoint&, const SockAddr&, uint32_t length, TxSlot& slot) {
  if (length > kTxSlotLength) return TxStatus::kTooLong;
  const uint32_t index = static_cast<uint32_t>(std::countr_one(txSlotsInUse_));
  if (index >= kTxSlotCount) return TxStatus::kWouldBlock;
  txSlotsInUse_ |= 1U << index;
  slot = TxSlot{txSlots_[index].data(), kTxSlotLength, index};
  return TxStatus::kPending;
}

TxStatus UdpIoBase::commit(Endpoint& endpoint, const SockAddr& destination, TxSlot& slot, uint32_t length) {
  const TxStatus status =
      length > slot.capacity ? TxStatus::kTooLong : sendOne(static_cast<UdpEndpoint&>(endpoint), destination, slot.data, length);
  abort(endpoint, slot);
  return status;
}

void UdpIoBase::abort(Endpoint&, TxSlot& slot) {
  if (slot.data != nullptr) txSlotsInUse_ &= ~(1U << slot.cookie);
  slot = TxSlot{};
}

}  // namespace outrigger::io
