// SPDX-License-Identifier: Apache-2.0
// What the backends `socket` and `mmsg` share: an epoll descriptor over the attached endpoints, receive slots, and a fair walk over both.
#pragma once

#include <sys/epoll.h>

#include <array>

#include "io/posix/receive_slots.h"
#include "io/posix/udp_io_base.h"
#include "io/wake_watch.h"

namespace outrigger::io {

class SocketIoBase : public UdpIoBase {
 public:
  std::vector<std::pair<std::string, std::string>> facts() const override;
  void attach(Endpoint& endpoint) override;
  void detach(Endpoint& endpoint) override;
  uint32_t poll(RxBurst& burst, int64_t nowNs) final;
  int waitHandle() const override { return wakes_.fd(); }
  bool arm() override;

 protected:
  SocketIoBase(Caps caps, UdpSocketOptions socketOptions, uint32_t receiveSlots);

  // Empty when construction got everything it needs from the kernel.
  Result<void> check() const;

  // Receives from one endpoint into slots [firstSlot, endSlot), appends packets to the burst, adds to datagrams.
  // Returns the number of slots used.
  virtual uint32_t receive(UdpEndpoint& endpoint, RxBurst& burst, uint32_t firstSlot, uint32_t endSlot, uint32_t& datagrams) = 0;

  ReceiveSlots& slots() { return slots_; }

 private:
  // Up to this many endpoints are tried one by one: cheaper than asking epoll first. More are asked for through epoll.
  static constexpr size_t kDirectPollEndpoints = 4;
  static constexpr int kMaxEvents = 64;

  WakeWatch wakes_;
  ReceiveSlots slots_;
  size_t nextEndpoint_ = 0;
  uint32_t usedSlots_ = 0;  // by the last poll, always the first ones
  std::array<epoll_event, kMaxEvents> events_{};
};

}  // namespace outrigger::io
