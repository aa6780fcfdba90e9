// SPDX-License-Identifier: Apache-2.0
// FrameIo over AF_XDP sockets that are bound already: one socket a receive queue, all over one UMEM, all polled by one thread. Who bound them
// and owns the program (this process: xdp_open.cc, or outrigger-nicd) stands behind DeviceControl.
//
// Chunks of the UMEM: the first part belongs to receiving and goes round between fill ring, receive ring and stack; the rest belongs to
// sending and goes round between the free list, the stack, the transmit ring and the completion ring. So a receiver that holds frames can't
// starve the sender, nor the other way round.
//
// Sending is on the first queue alone: a device keeps the order within a queue, and one queue sends as fast as one thread fills it.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <vector>

#include "base/fd.h"
#include "io/frame/device_control.h"
#include "io/frame/frame_io.h"
#include "io/wake_watch.h"
#include "io/xdp/umem_memory.h"
#include "io/xdp/xsk.h"

namespace outrigger::io::xdp {

// Everything that an XdpFrameIo is made of.
struct XdpParts {
  FrameCaps caps;  // mode, reason, interface and index, offloads; the rest is filled by create()
  UmemMemory memory;
  UmemLayout layout;
  RingSizes rings;
  std::vector<UniqueFd> sockets;  // bound, one a receive queue; the first also sends
  bool multiBuffer = false;       // bound with XDP_USE_SG
  bool transmitChecksum = false;  // layout has room for transmit metadata, and the device or the kernel fills checksums
  // The device itself writes into our memory. If not, a frame may come from a sender on this machine, its checksum never computed.
  bool zeroCopy = false;
  bool busyPoll = false;  // the sockets prefer busy polling: each poll is a system call that runs the device's
  std::unique_ptr<DeviceControl> device;
};

// How `lengthBytes` of memory and `queues` queues are divided. Rings are as long as there are chunks to be in them; with zero-copy, where the
// device holds many of a queue's chunks, the receive ring takes half of them.
RingSizes ringSizesFor(uint64_t lengthBytes, uint32_t chunkBytes, uint32_t queues, XskMode mode = XskMode::kCopy);

class XdpFrameIo final : public FrameIo {
 public:
  // Maps the rings and fills the fill rings. Fails when a socket is not bound or its rings are shorter than said.
  static Result<std::unique_ptr<XdpFrameIo>> create(XdpParts parts);
  ~XdpFrameIo() override;

  const FrameCaps& caps() const override { return parts_.caps; }
  Result<void> steer(const SteerRule& rule) override { return parts_.device->steer(rule); }
  Result<void> unsteer(const SteerRule& rule) override { return parts_.device->unsteer(rule); }
  Result<UniqueFd> openPort(const SockAddr& address, int32_t receiveBufferBytes) override {
    return parts_.device->openPort(address, receiveBufferBytes);
  }
  LinkState link() override;

  uint32_t receive(std::span<RxFrame> frames) override;
  void giveBack(std::span<const RxFrame> frames) override;
  uint32_t reserve(std::span<TxFrame> frames) override;
  void commit(std::span<const TxFrame> frames) override;
  void abort(std::span<const TxFrame> frames) override;
  bool flush() override;
  int waitHandle() const override { return wakes_ ? wakes_->fd() : parts_.sockets[0].get(); }
  bool arm() override;
  void refreshStats() override;

  // For tests: chunks on their way or with the stack.
  uint32_t receiveChunksHeld() const { return receiveHeld_; }
  uint32_t transmitChunksOut() const { return transmitChunks_ - static_cast<uint32_t>(free_.size()); }

 private:
  struct Queue {
    int socket = -1;
    XskRings rings;
  };

  explicit XdpFrameIo(XdpParts parts) : parts_(std::move(parts)) {}
  Result<void> open();
  uint32_t receiveFrom(uint32_t queue, std::span<RxFrame> frames);
  void describe(const xdp_desc& descriptor, uint32_t queue, RxFrame& frame) const;
  // A ring is shared memory: what it says is checked before it is followed. False for what lies outside of the receive chunks, and for a chunk
  // that the kernel does not have: given back once more, it would be written to while it is read.
  bool take(const xdp_desc& descriptor);
  void recycle(uint32_t queue, uint64_t address);
  void reap();
  void kick();
  uint64_t chunkOf(uint64_t address) const { return address & ~static_cast<uint64_t>(parts_.layout.chunkBytes - 1); }

  XdpParts parts_;
  std::vector<Queue> queues_;
  std::unique_ptr<WakeWatch> wakes_;  // over several sockets
  std::vector<uint64_t> free_;        // chunks to send from; never longer than transmitChunks_
  std::vector<uint8_t> lent_;         // by receive chunk: whether the kernel has it
  uint64_t firstTransmitAddress_ = 0;
  uint32_t transmitChunks_ = 0;
  uint32_t receiveHeld_ = 0;
  uint32_t reserved_ = 0;   // given to the stack, neither committed nor aborted
  uint32_t nextQueue_ = 0;  // whose turn it is
  bool unkicked_ = false;   // the kernel has not been told about all that was committed
  bool kickBlocked_ = false;
  uint32_t idleKicks_ = 0;
  XskStatistics seen_;  // what of the kernel's counters is in `stats` already
  int64_t leftSeen_ = 0;
  std::atomic<int> lostErrno_{0};  // why the kernel took the socket from its queue
};

}  // namespace outrigger::io::xdp
