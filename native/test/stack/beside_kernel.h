// SPDX-License-Identifier: Apache-2.0
// A NetStack beside a real kernel, over each device that a veth interface can be.
#pragma once

#include <memory>
#include <string>

#include "io/dpdk_loader/dpdk_loader.h"
#include "io/xdp/xdp_open.h"
#include "io/xdp/xdp_program.h"
#include "veth_world.h"

namespace outrigger::io::testing {

// The device under the stack: AF_PACKET ("packet"), AF_XDP in one of its modes ("native", "generic"), or a port of DPDK's: "dpdk" over packet
// sockets of an interface that stays the kernel's (net_af_packet), "dpdkExceptions" with every frame of the wire (net_af_xdp, by its own
// program), so that the kernel has only what the exception interface brings, as beside a VF under vfio.
class BesideKernel : public StackOverVeth {
 protected:
  explicit BesideKernel(std::string device) : kind_(std::move(device)) {}
  // The kernel sees the same frames as the device.
  bool sharesFrames() const { return kind_ == "packet" || kind_ == "dpdk"; }
  bool isDpdk() const { return kind_ == "dpdk" || hasExceptions(); }
  bool hasExceptions() const { return kind_ == "dpdkExceptions"; }
  // What a sender on this machine leaves to offloads comes through the kernel's socket.
  bool isGenericXdp() const { return kind_ == "generic"; }
  // The interface that has the addresses, and the kernel's routes.
  std::string interface() const { return hasExceptions() ? "except0" : nearDevice_; }

  void SetUp() override {
    if (isDpdk()) {
      if (const auto module = loadDpdk(); !module) GTEST_SKIP() << module.error().message;
    } else if (kind_ != "packet" && !xdp::programsAreBuilt()) {
      GTEST_SKIP() << "built without clang or libbpf";
    }
    StackOverVeth::SetUp();
  }
  Result<std::unique_ptr<FrameIo>> openDevice() override {
    if (isDpdk()) return openPort();
    if (kind_ == "packet") {
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
  bool jumbo_ = false;               // frames beyond 2 KiB
  // Of the exception interface.
  std::string addresses_ = "10.92.0.1/24,fd92::1/64";
  std::string gateways_;

 private:
  Result<std::unique_ptr<FrameIo>> openPort() {
    BackendOptions options;
    options.hugepages = false;  // they are the machine's
    options.umemBytes = 24 << 20;
    // One EAL serves all tests of the process: the first one's memory is everybody's.
    options.dpdkArguments = {"-m", "256"};
    if (hasExceptions()) {
      near("ip addr flush dev near0");
      options.dpdkArguments.emplace_back("--vdev=net_af_xdp0,iface=near0");
      options.dpdkAddresses = addresses_;
      options.dpdkGateways = gateways_;
      options.dpdkInterface = interface();
    } else {
      options.dpdkArguments.push_back(std::string("--vdev=net_af_packet0,iface=near0,qdisc_bypass=1,framecnt=1024,blocksz=65536,framesz=") +
                                      (jumbo_ ? "16384" : "2048"));
    }
    return openDpdkFrames(options);
  }

  std::string kind_;
};

class StackBesideKernel : public BesideKernel, public ::testing::WithParamInterface<const char*> {
 protected:
  StackBesideKernel() : BesideKernel(GetParam()) {}
};

}  // namespace outrigger::io::testing
