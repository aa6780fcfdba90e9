// SPDX-License-Identifier: Apache-2.0
// Receive ring of slots (TPACKET_V2). Slots hold a frame of the link's MTU. A longer one, a train from a local sender, is left by the
// kernel in the socket's queue (PACKET_COPY_THRESH) and fetched with a call of its own: cheap for a train, and slots stay short.
#pragma once

#include <vector>

#include "io/packet/receive_ring.h"

namespace outrigger::io {

class SlotRing final : public ReceiveRing {
 public:
  static SlotLayout layoutOf(const ReceiveRingOptions& options);
  // On a socket that has its version: everything that belongs to this kind of ring.
  static Result<void> request(int fd, const Netdev& netdev, const SlotLayout& layout);
  static Result<std::unique_ptr<ReceiveRing>> map(UniqueFd fd, const ReceiveRingOptions& options);
  ~SlotRing() override;

  uint32_t receive(std::span<RxFrame> frames, uint32_t count, FrameStats& stats) override;
  void giveBack(const RxFrame& frame) override;
  bool hasFrame() const override;

 private:
  // Trains held by the stack at a time: a poll takes fewer. 128 KiB each holds the longest frame, 65535 + 14 + 4 bytes, and its header.
  static constexpr uint32_t kTrainBuffers = 64;
  static constexpr uint32_t kTrainBufferLength = 128 * 1024;
  static constexpr uint32_t kTrainCookie = 1U << 31;

  using ReceiveRing::ReceiveRing;
  uint8_t* slotAt(uint32_t index) const { return layout_.slot(ring_.data(), index); }
  void release(uint32_t slot);
  bool fetchTrain(uint32_t& buffer, uint32_t& length);

  SlotLayout layout_;
  uint32_t next_ = 0;
  std::vector<uint8_t> slotHeld_;
  uint8_t* trains_ = nullptr;
  std::vector<uint32_t> freeTrains_;
};

}  // namespace outrigger::io
