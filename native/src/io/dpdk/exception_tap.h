// SPDX-License-Identifier: Apache-2.0
// The exception path of a device that the kernel does not own: a TAP interface with the device's MAC address and the IP addresses that the
// configuration gives it. What is not ours goes to the kernel there, and what the kernel sends comes back: so ARP, NDP, ICMP, routes,
// neighbours, ports and every tool (ip, ss, ping, tcpdump) work as on an ordinary interface. It goes with the driver.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "io/dpdk_loader/address_list.h"
#include "io/frame/frame_io.h"

namespace outrigger::io::dpdk {

struct ExceptionTapConfig {
  std::string name;  // of the interface; one that exists and belongs to this user is taken over
  MacAddress mac{};
  uint32_t mtu = 1500;
  std::vector<InterfaceAddress> addresses;
  std::vector<SockAddr> gateways;
};

class ExceptionTap {
 public:
  // In the network namespace of the calling thread. Fails with the call, its errno and the fix.
  static Result<ExceptionTap> open(const ExceptionTapConfig& config);

  const std::string& name() const { return name_; }
  uint32_t index() const { return index_; }
  int fd() const { return fd_.get(); }

  // To the kernel. False: it took nothing, the frame is lost.
  bool give(std::span<const iovec> pieces, size_t length);
  // From the kernel: the length of the frame put into `room`, 0 when there is none.
  uint32_t take(std::span<uint8_t> room);
  // Control thread: the kernel's interface has a carrier as the device has.
  void setCarrier(bool on);
  // Control thread: nor a longer MTU than the device. Without CAP_NET_ADMIN it stays what it is.
  void setMtu(uint32_t mtu);

 private:
  UniqueFd fd_;
  UniqueFd control_;  // a socket of the interface's network namespace, whichever the caller is in later
  std::string name_;
  uint32_t index_ = 0;
};

}  // namespace outrigger::io::dpdk
