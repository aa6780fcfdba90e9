// SPDX-License-Identifier: Apache-2.0
// Receive ring of blocks (TPACKET_V3): frames of any length one after the other, a block handed over when it is full or a millisecond
// old. A block goes back to the kernel when the last of its frames has come back from the stack.
#pragma once

#include <vector>

#include "io/packet/receive_ring.h"

namespace outrigger::io {

class BlockRing final : public ReceiveRing {
 public:
  static Result<std::unique_ptr<ReceiveRing>> open(UniqueFd fd, const Netdev& netdev, const ReceiveRingOptions& options);

  uint32_t receive(std::span<RxFrame> frames, uint32_t count, FrameStats& stats) override;
  void giveBack(const RxFrame& frame) override;
  bool hasFrame() const override;

 private:
  // Holds the longest train, 65535 bytes with its headers, twice over: a half-empty one is given up when the next does not fit.
  static constexpr uint32_t kBlockLength = 256 * 1024;
  static constexpr uint32_t kMinBlocks = 4;

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
