// SPDX-License-Identifier: Apache-2.0
// A NetStack beside a real kernel whose far end (10.92.0.2, fd92::2) is a router: to a third namespace behind it, by `far1` there and `beyond0` here.
// How the near end gets there is the test's.
#pragma once

#include <memory>
#include <string>

#include "beside_kernel.h"

namespace outrigger::io::testing {

constexpr const char* kBeyond = "192.0.2.2";
constexpr const char* kBeyondV6 = "2001:db8:92::2";

class BehindGateway : public BesideKernel {
 protected:
  using BesideKernel::BesideKernel;

  void SetUp() override {
    BesideKernel::SetUp();
    if (IsSkipped()) return;
    beyond_ = std::make_unique<Namespace>();
    withoutDad(*beyond_);
    far("ip link add far1 type veth peer name beyond0 netns " + beyond_->path());
    far("ip addr add 192.0.2.1/24 dev far1");
    far("ip addr add 2001:db8:92::1/64 dev far1 nodad");
    far("ip link set far1 up");
    {
      const Inside inside(*far_);
      writeFile("/proc/sys/net/ipv4/ip_forward", "1");
      writeFile("/proc/sys/net/ipv6/conf/all/forwarding", "1");
    }
    beyond("ip link set beyond0 up");
    beyond("ip addr add 192.0.2.2/24 dev beyond0");
    beyond("ip addr add 2001:db8:92::2/64 dev beyond0 nodad");
    beyond("ip route add default via 192.0.2.1");
    beyond("ip -6 route add default via 2001:db8:92::1");
  }
  bool beyond(const std::string& line) { return command(*beyond_, line); }

  std::unique_ptr<Namespace> beyond_;
};

}  // namespace outrigger::io::testing
