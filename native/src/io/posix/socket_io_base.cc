// SPDX-License-Identifier: Apache-2.0
// Shared part of the socket backends; see the header.
#include "io/posix/socket_io_base.h"

#include <algorithm>
#include <bit>

namespace outrigger::io {
namespace {

constexpr size_t kExpectedEndpoints = 256;  // attaching up to this many allocates nothing

UdpEndpoint& own(Endpoint& endpoint) { return static_cast<UdpEndpoint&>(endpoint); }

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

SocketIoBase::SocketIoBase(Caps caps, UdpSocketOptions socketOptions, uint32_t receiveSlots)
    : caps_(std::move(caps)),
      socketOptions_(socketOptions),
      epoll_(::epoll_create1(EPOLL_CLOEXEC)),
      epollErrno_(epoll_.valid() ? 0 : errno),
      slots_(receiveSlots) {
  attached_.reserve(kExpectedEndpoints);
}

Result<void> SocketIoBase::check() const {
  if (!epoll_.valid()) return makeError(ErrorCode::kGeneric, "backend " + caps_.name + ": cannot create an epoll descriptor", epollErrno_);
  if (!slots_.valid()) {
    return makeError(ErrorCode::kGeneric,
                     "backend " + caps_.name + ": cannot map " + std::to_string(slots_.count()) + " receive slots of 64 KiB");
  }
  return {};
}

Result<std::unique_ptr<Endpoint>> SocketIoBase::openEndpoint(const EndpointConfig& config) {
  auto endpoint = UdpEndpoint::open(config, socketOptions_);
  if (!endpoint) return endpoint.error();
  return std::unique_ptr<Endpoint>(endpoint.take());
}

Result<std::unique_ptr<NextHop>> SocketIoBase::resolve(Endpoint& endpoint, const SockAddr& destination) {
  if (destination.family() != endpoint.localAddress().family()) {
    return makeError(ErrorCode::kInvalidChannel, "destination " + destination.toString() + " is of another address family than endpoint " +
                                                     endpoint.localAddress().toString());
  }
  if (destination.port() == 0) {
    return makeError(ErrorCode::kInvalidChannel, "destination " + destination.toString() + " has port 0: name the port to send to");
  }
  return std::unique_ptr<NextHop>(std::make_unique<UdpNextHop>(destination));
}

void SocketIoBase::attach(Endpoint& endpoint) {
  UdpEndpoint& udp = own(endpoint);
  if (udp.attachIndex != UdpEndpoint::kNotAttached) return;
  udp.attachIndex = attached_.size();
  attached_.push_back(&udp);
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.ptr = &udp;
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, udp.fd(), &event);
}

void SocketIoBase::detach(Endpoint& endpoint) {
  UdpEndpoint& udp = own(endpoint);
  if (udp.attachIndex == UdpEndpoint::kNotAttached) return;
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, udp.fd(), nullptr);
  UdpEndpoint* last = attached_.back();
  attached_[udp.attachIndex] = last;
  last->attachIndex = udp.attachIndex;
  attached_.pop_back();
  udp.attachIndex = UdpEndpoint::kNotAttached;
  detachedTotals_.add(udp.stats);
}

IoTotals SocketIoBase::totals() const {
  IoTotals totals = detachedTotals_;
  for (const UdpEndpoint* endpoint : attached_) totals.add(endpoint->stats);
  return totals;
}

uint32_t SocketIoBase::poll(RxBurst& burst, int64_t) {
  burst.count = 0;
  slots_.prepare(usedSlots_);
  uint32_t datagrams = 0;
  uint32_t slot = 0;
  if (attached_.size() <= kDirectPollEndpoints) {
    // Each poll starts one endpoint further, so one that fills all slots can't starve the next.
    const size_t count = attached_.size();
    for (size_t i = 0; i < count && slot < slots_.count(); ++i) {
      if (nextEndpoint_ >= count) nextEndpoint_ = 0;
      slot += receive(*attached_[nextEndpoint_++], burst, slot, slots_.count(), datagrams);
    }
    usedSlots_ = slot;
    return datagrams;
  }
  // Level-triggered epoll moves the descriptors it reports to the end of its list, so all get a turn. Those of one call share
  // the slots, each at least one; what one leaves over goes to those behind it.
  const int limit = std::min<int>(kMaxEvents, static_cast<int>(slots_.count()));
  const int events = ::epoll_wait(epoll_.get(), events_.data(), limit, 0);
  const auto ready = static_cast<uint32_t>(std::max(events, 0));
  for (uint32_t i = 0; i < ready; ++i) {
    const uint32_t share = (slots_.count() - slot) / (ready - i);
    slot += receive(*static_cast<UdpEndpoint*>(events_[i].data.ptr), burst, slot, slot + share, datagrams);
  }
  usedSlots_ = slot;
  return datagrams;
}

bool SocketIoBase::arm() {
  epoll_event event{};
  return ::epoll_wait(epoll_.get(), &event, 1, 0) <= 0;
}

TxStatus SocketIoBase::sendOne(UdpEndpoint& endpoint, const SockAddr& destination, const uint8_t* data, uint32_t length) {
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

TxStatus SocketIoBase::reserve(Endpoint&, const SockAddr&, uint32_t length, TxSlot& slot) {
  if (length > kTxSlotLength) return TxStatus::kTooLong;
  const uint32_t index = static_cast<uint32_t>(std::countr_one(txSlotsInUse_));
  if (index >= kTxSlotCount) return TxStatus::kWouldBlock;
  txSlotsInUse_ |= 1U << index;
  slot = TxSlot{txSlots_[index].data(), kTxSlotLength, index};
  return TxStatus::kPending;
}

TxStatus SocketIoBase::commit(Endpoint& endpoint, const SockAddr& destination, TxSlot& slot, uint32_t length) {
  const TxStatus status = length > slot.capacity ? TxStatus::kTooLong : sendOne(own(endpoint), destination, slot.data, length);
  abort(endpoint, slot);
  return status;
}

void SocketIoBase::abort(Endpoint&, TxSlot& slot) {
  if (slot.data != nullptr) txSlotsInUse_ &= ~(1U << slot.cookie);
  slot = TxSlot{};
}

}  // namespace outrigger::io
