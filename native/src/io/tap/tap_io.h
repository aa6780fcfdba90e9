// SPDX-License-Identifier: Apache-2.0
// FrameIo over a TAP interface (Linux Documentation/networking/tuntap.rst): what we send, the kernel receives on that interface, and what
// the kernel sends through it, we receive. So the far end of the wire is the kernel's own stack, in tests and as the way of what a
// raw device receives but is not ours. One frame a call.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/fd.h"
#include "io/frame/frame_io.h"
#include "io/frame/netdev.h"

namespace outrigger::io {

struct TapOptions {
  std::string name = "tap%d";  // the kernel puts a number for %d
  bool vnetHeader = true;      // checksum offload and trains between the kernel and us
  bool filtered = true;        // receive what steer names; false: everything
  uint32_t buffers = 64;       // frames the stack can hold, each way
};

class TapIo final : public FrameIo {
 public:
  // Makes the interface, down and without address. It goes when the object does. Needs CAP_NET_ADMIN.
  static Result<std::unique_ptr<TapIo>> open(const TapOptions& options);
  ~TapIo() override;

  const FrameCaps& caps() const override { return caps_; }
  Result<void> steer(const SteerRule& rule) override;
  Result<void> unsteer(const SteerRule& rule) override;
  // Of our end of the wire: its own hardware address; MTU and state are the interface's.
  LinkState link() override;
  uint32_t receive(std::span<RxFrame> frames) override;
  void giveBack(std::span<const RxFrame> frames) override;
  uint32_t reserve(std::span<TxFrame> frames) override;
  void commit(std::span<const TxFrame> frames) override;
  void abort(std::span<const TxFrame> frames) override;
  bool flush() override { return true; }
  int waitHandle() const override { return fd_.get(); }
  bool arm() override;

  uint32_t framesHeld() const { return buffers_ - static_cast<uint32_t>(freeReceive_.size()); }
  uint32_t transmitBuffersInUse() const { return buffers_ - static_cast<uint32_t>(freeTransmit_.size()); }

 private:
  // Over the longest frame, 65535 + 14 + 4 bytes, with its virtio-net header.
  static constexpr uint32_t kBufferLength = 72 * 1024;
  // Before the frame: room for the virtio-net header, and an even address.
  static constexpr uint32_t kFrameOffset = 64;

  explicit TapIo(const TapOptions& options) : buffers_(options.buffers), vnetHeader_(options.vnetHeader), filtered_(options.filtered) {}
  Result<void> create(const TapOptions& options);
  Result<void> replaceFilter(const std::vector<SteerRule>& rules);
  uint8_t* bufferAt(uint32_t index) const { return memory_ + static_cast<size_t>(index) * kBufferLength; }

  uint32_t buffers_;
  bool vnetHeader_;
  bool filtered_;
  UniqueFd fd_;
  Netdev netdev_;
  FrameCaps caps_;
  MacAddress mac_{};
  std::unique_ptr<LinkReader> link_;
  uint8_t* memory_ = nullptr;           // receive buffers, then transmit buffers
  std::vector<uint32_t> freeReceive_;   // indexes
  std::vector<uint32_t> freeTransmit_;  // indexes, behind the receive buffers
  std::mutex rulesMutex_;
  std::vector<SteerRule> rules_;
};

}  // namespace outrigger::io
