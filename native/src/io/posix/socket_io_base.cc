// SPDX-License-Identifier: Apache-2.0
// Shared part of the socket backends; see the header.
#include "io/posix/socket_io_base.h"

#include <algorithm>

#include "io/preload.h"

namespace outrigger::io {

SocketIoBase::SocketIoBase(Caps caps, UdpSocketOptions socketOptions, uint32_t receiveSlots)
    : UdpIoBase(std::move(caps), socketOptions), slots_(receiveSlots) {}

std::vector<std::pair<std::string, std::string>> SocketIoBase::facts() const {
  return {{"mode", socketProvider()},
          {"segmentation offload (UDP_SEGMENT)", caps().segmentationOffload ? "on" : "off"},
          {"receive coalescing (UDP_GRO)", caps().receiveCoalescing ? "on" : "off"},
          {"timestamps", kTimestampsOnArrival}};
}

Result<void> SocketIoBase::check() const {
  if (wakes_.error() != 0) {
    return makeError(ErrorCode::kGeneric, "backend " + caps().name + ": cannot create an epoll descriptor", wakes_.error());
  }
  if (!slots_.valid()) {
    return makeError(ErrorCode::kGeneric,
                     "backend " + caps().name + ": cannot map " + std::to_string(slots_.count()) + " receive slots of 64 KiB");
  }
  return {};
}

void SocketIoBase::attach(Endpoint& endpoint) {
  auto& udp = static_cast<UdpEndpoint&>(endpoint);
  if (!enlist(udp)) return;
  wakes_.add(udp.fd(), &udp);
}

void SocketIoBase::detach(Endpoint& endpoint) {
  auto& udp = static_cast<UdpEndpoint&>(endpoint);
  if (!strike(udp)) return;
  wakes_.remove(udp.fd());
}

uint32_t SocketIoBase::poll(RxBurst& burst, int64_t) {
  burst.count = 0;
  slots_.prepare(usedSlots_);
  uint32_t datagrams = 0;
  uint32_t slot = 0;
  if (attached().size() <= kDirectPollEndpoints || !wakes_.watch()) {
    // Each poll starts one endpoint further, so one that fills all slots can't starve the next.
    const size_t count = attached().size();
    for (size_t i = 0; i < count && slot < slots_.count(); ++i) {
      if (nextEndpoint_ >= count) nextEndpoint_ = 0;
      slot += receive(*attached()[nextEndpoint_++], burst, slot, slots_.count(), datagrams);
    }
    usedSlots_ = slot;
    wakes_.polled();
    return datagrams;
  }
  // Level-triggered epoll moves the descriptors it reports to the end of its list, so all get a turn. Those of one call share
  // the slots, each at least one; what one leaves over goes to those behind it.
  const int limit = std::min<int>(kMaxEvents, static_cast<int>(slots_.count()));
  const int events = ::epoll_wait(wakes_.fd(), events_.data(), limit, 0);
  const auto ready = static_cast<uint32_t>(std::max(events, 0));
  for (uint32_t i = 0; i < ready; ++i) {
    const uint32_t share = (slots_.count() - slot) / (ready - i);
    slot += receive(*static_cast<UdpEndpoint*>(events_[i].data.ptr), burst, slot, slot + share, datagrams);
  }
  usedSlots_ = slot;
  return datagrams;
}

bool SocketIoBase::arm() {
  if (!wakes_.watch()) return false;
  epoll_event event{};
  return ::epoll_wait(wakes_.fd(), &event, 1, 0) <= 0;
}

}  // namespace outrigger::io
