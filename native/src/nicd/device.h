// SPDX-License-Identifier: Apache-2.0
// The steering program and its maps on one interface, for as long as a session needs them; pinned, so that they outlive this process.
#pragma once

#include <memory>
#include <string>

#include "io/frame/netdev.h"
#include "io/nicd_client/protocol.h"
#include "io/xdp/xdp_program.h"
#include "nicd/bpf.h"

namespace outrigger::nicd {

class Device {
 public:
  struct Options {
    io::Netdev netdev;
    XdpMode mode = XdpMode::kAuto;  // kGeneric: not in the driver; others: in the driver, kAuto with generic behind it
    uint32_t mtu = 0;
    std::string bpfDirectory;  // empty: not pinned
  };

  // Attaches. The error names a program that is there already.
  static Result<std::unique_ptr<Device>> attach(const Options& options);
  // Takes up what an earlier process pinned for this interface. Fails when there is nothing, or when it is no longer attached.
  static Result<std::unique_ptr<Device>> adopt(const io::Netdev& netdev, const std::string& bpfDirectory, bool generic);
  // Takes off the program that is pinned in a directory entry of bpfDirectory, and removes that.
  static void unpin(const std::string& entry);
  static std::string entryOf(uint32_t interfaceIndex) { return "if" + std::to_string(interfaceIndex); }

  const io::Netdev& netdev() const { return netdev_; }
  bool generic() const { return generic_; }
  const std::string& reason() const { return reason_; }  // why not native, or not pinned
  io::xdp::XdpProgram& program() { return program_; }
  // Takes the program off and removes the pins.
  void discard();

 private:
  Device(io::Netdev netdev, io::xdp::XdpProgram program) : netdev_(std::move(netdev)), program_(std::move(program)) {}

  io::Netdev netdev_;
  io::xdp::XdpProgram program_;
  std::string pinned_;  // directory, empty: not pinned
  bool generic_ = false;
  std::string reason_;
};

}  // namespace outrigger::nicd
