// SPDX-License-Identifier: Apache-2.0
// Receive rings of AF_PACKET: slots (TPACKET_V2), where each frame can be read as soon as it is there, and blocks (TPACKET_V3), which
// cost less a frame but show nothing until a block is full or its time is over, a millisecond at the least.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/fd.h"
#include "io/frame/frame_io.h"
#include "io/packet/packet_socket.h"

namespace outrigger::io {

struct ReceiveRingOptions {
  bool blocks = false;     // TPACKET_V3
  bool vnetHeader = true;  // frames come with a virtio-net header: checksum state, trains
  uint32_t mtu = 1500;     // of the link when it is opened: slots are made for it, longer frames take a way that costs more
  uint32_t bytes = 4u << 20;
};

// A frame as the kernel left it, behind its virtio-net header where there is one.
struct RawFrame {
  uint8_t* data = nullptr;
  uint32_t length = 0;
  uint32_t status = 0;
  uint16_t vlanTci = 0;
  int64_t arrivedNs = 0;  // of the socket's clock, the epoch's (PACKET_TIMESTAMP is not set)
};

class ReceiveRing {
 public:
  virtual ~ReceiveRing() = default;
  int fd() const { return fd_.get(); }

  // Appends frames from frames[count] on, with the tag in the upper half of their cookies; returns the new count.
  virtual uint32_t receive(std::span<RxFrame> frames, uint32_t count, FrameStats& stats) = 0;
  virtual void giveBack(const RxFrame& frame) = 0;
  virtual bool hasFrame() const = 0;
  // Frames that the stack has.
  uint32_t held() const { return held_; }

  // Why the ring is not locked in memory; empty when it is.
  const std::string& unlocked() const { return ring_.unlocked(); }

  void setTag(uint32_t tag) { tag_ = static_cast<uint64_t>(tag) << 32; }
  // What the kernel granted for frames longer than a slot; 0 where there are no slots.
  uint32_t trainBufferBytes() const { return trainBufferBytes_; }

 protected:
  ReceiveRing(UniqueFd fd, const ReceiveRingOptions& options);

  // False: not for the stack; counted.
  bool describe(const RawFrame& raw, RxFrame& frame, FrameStats& stats) const;

  UniqueFd fd_;
  PacketRing ring_;
  bool vnetHeader_;
  uint32_t maxPlainLength_;  // of a frame that is no train
  uint64_t tag_ = 0;
  uint32_t held_ = 0;
  uint32_t trainBufferBytes_ = 0;
};

// What the kernel is asked for, and what is mapped.
SlotLayout receiveLayout(const ReceiveRingOptions& options);

// A socket with its ring that drops everything until a filter lets something in; not bound yet. Needs CAP_NET_RAW, the rest does not:
// outrigger-nicd does this for a driver in another process, with the layout that the driver asks for.
Result<UniqueFd> openReceiveSocket(const Netdev& netdev, bool blocks, bool vnetHeader, const SlotLayout& layout);

// The ring of a socket that openReceiveSocket made with receiveLayout(options), here or in another process.
Result<std::unique_ptr<ReceiveRing>> mapReceiveRing(UniqueFd fd, const ReceiveRingOptions& options);

// Both.
Result<std::unique_ptr<ReceiveRing>> openReceiveRing(const Netdev& netdev, const ReceiveRingOptions& options);

}  // namespace outrigger::io
