// SPDX-License-Identifier: Apache-2.0
// A NetStack beside a real kernel, over each device that a veth interface can be.
#pragma once

#include <memory>
#include <string>

#include "io/xdp/xdp_open.h"
#include "io/xdp/xdp_program.h"
#include "veth_world.h"

namespace outrigger::io::testing {

// The device under the stack: AF_PACKET ("packet"), or AF_XDP in one of its modes ("native", "generic").
class BesideKernel : public StackOverVeth {
 protected:
  explicit BesideKernel(std::string device) : kind_(std::move(device)) {}
  bool isPacket() const { return kind_ == "packet"; }
  // What a sender on this machine leaves to offloads comes through the kernel's socket.
  bool isGenericXdp() const { return kind_ == "generic"; }

  void SetUp() override {
    if (!isPacket() && !xdp::programsAreBuilt()) GTEST_SKIP() << "built without clang or libbpf";
    StackOverVeth::SetUp();
  }
  Result<std::unique_ptr<FrameIo>> openDevice() override {
    if (isPacket()) {
      PacketOptions packetOptions;
      packetOptions.interface = nearDevice_;
      if (packetReceiveBytes_ != 0) packetOptions.receiveBytes = packetReceiveBytes_;
      auto device = PacketIo::open(packetOptions);
      if (!device) return device.error();
      return std::unique_ptr<FrameIo>(device.take());
    }
    BackendOptions options;
    options.interface = nearDevice_;
    options.xdpMode = kind_;
    options.umemBytes = 1 << 20;
    options.hugepages = false;
    xdp::XdpAttempt attempt;
    auto parts = xdp::openXdp(options, attempt);
    if (!parts) return parts.error();
    auto device = xdp::XdpFrameIo::create(parts.take());
    if (!device) return device.error();
    return std::unique_ptr<FrameIo>(device.take());
  }

  uint32_t packetReceiveBytes_ = 0;  // 0: as is usual

 private:
  std::string kind_;
};

class StackBesideKernel : public BesideKernel, public ::testing::WithParamInterface<const char*> {
 protected:
  StackBesideKernel() : BesideKernel(GetParam()) {}
};

}  // namespace outrigger::io::testing
