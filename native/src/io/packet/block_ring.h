// SPDX-License-Identifier: Apache-2.0
// Receive ring of blocks (TPACKET_V3): frames of any length one after the other, a block handed over when it is full or a millisecond
// old. A block goes back to the kernel when the last of its frames has come back from the stack.
#pragma once

#include <vector>

#include "io/packet/receive_ring.h"

namespace outrigger::io {

class BlockRing final : public ReceiveRing {
 public:
  static SlotLayout layoutOf(const ReceiveRingOptions& options);
  // On a socket that has its version: everything that belongs to this kind of ring.
  static Result<void> request(int fd, const Netdev& netdev, const SlotLayout& layout);
  static Result<std::unique_ptr<ReceiveRing>> map(UniqueFd fd, const ReceiveRingOptions& options);

  uint32_t receive(std::span<RxFrame> frames, uint32_t count, FrameStats& stats) override;
  void giveBack(const RxFrame& frame) override;
  bool hasFrame() const override;

 private:
  // Holds two trains of the length that our senders make, 62 to 64 kB with their headers, and one of the longest there can be: a block is given
  // up when the next frame does not fit.
  static constexpr uint32_t kBlockLength = 128 * 1024;
  // The kernel ends a block after a millisecond however little is in it, so with sparse traffic this is also how many milliseconds the reader
  // may be away before frames are lost. 100 ms is the period of a CPU quota (cpu.cfs_period_us, what limits.cpu of a container sets): a
  // throttled driver sleeps up to that long.
  static constexpr uint32_t kMinBlocks = 128;

  using ReceiveRing::ReceiveRing;
  uint8_t* blockAt(uint32_t index) const { return ring_.data() + static_cast<size_t>(index) * kBlockLength; }
  void release(uint32_t block);

  uint32_t blocks_ = 0;
  uint32_t next_ = 0;         // block being read, or to be read next
  uint32_t framesLeft_ = 0;   // in it
  uint8_t* frame_ = nullptr;  // the next of them
  std::vector<uint32_t> outstanding_;
};

}  // namespace outrigger::io
