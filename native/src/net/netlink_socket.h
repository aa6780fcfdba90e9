// SPDX-License-Identifier: Apache-2.0
// An rtnetlink socket: dumps that start over when the kernel says that they were interrupted, single requests, and notifications.
#pragma once

#include <functional>

#include "base/fd.h"
#include "net/netlink_message.h"

namespace outrigger::net {

class NetlinkSocket {
 public:
  // groups: RTNLGRP_ numbers to hear of. Fails naming the call.
  static Result<NetlinkSocket> open(std::initializer_list<uint32_t> groups);

  int fd() const { return fd_.get(); }

  // Asks for all of a kind (RTM_GETLINK, ...). restart() is called before each attempt: a dump that changes while it runs is read again.
  Result<void> dump(uint16_t type, uint8_t family, const std::function<void()>& restart, const std::function<void(const nlmsghdr*)>& visit);

  // How a question would be routed. Answers 0, or the errno that the kernel gave.
  int route(const RouteQuestion& question, NetlinkRoute& out);

  // Reads the notifications that are there. False when some were lost (ENOBUFS): all has to be read again.
  bool drain(const std::function<void(const nlmsghdr*)>& visit);

 private:
  explicit NetlinkSocket(UniqueFd fd) : fd_(std::move(fd)) {}
  int receive(std::vector<uint8_t>& buffer, bool wait);

  UniqueFd fd_;
  uint32_t sequence_ = 0;
  std::vector<uint8_t> buffer_ = std::vector<uint8_t>(64 * 1024);  // the kernel fills dumps in pieces of up to 32 KiB
};

}  // namespace outrigger::net
