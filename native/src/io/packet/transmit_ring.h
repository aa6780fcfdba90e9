// SPDX-License-Identifier: Apache-2.0
// Transmit ring of AF_PACKET (TPACKET_V2): frames are written into slots that the kernel reads, and one call sends all that are ready.
// The kernel goes through the slots strictly in order, so a slot that was given up, or that it refused, is filled by the frame behind it.
// Owner thread only.
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

struct TransmitRingOptions {
  bool vnetHeader = true;
  bool trains = false;  // slots of 64 KiB, else of the link's MTU
  uint32_t mtu = 1500;
  uint32_t bytes = 4u << 20;
};

SlotLayout transmitLayout(const TransmitRingOptions& options);

// Bound, with its ring, and deaf: needs CAP_NET_RAW, the rest does not. outrigger-nicd does this for a driver in another process, with the layout
// that the driver asks for.
Result<UniqueFd> openTransmitSocket(const Netdev& netdev, bool vnetHeader, const SlotLayout& layout);

class TransmitRing {
 public:
  // Over a socket that openTransmitSocket made with transmitLayout(options), here or in another process.
  static Result<std::unique_ptr<TransmitRing>> map(UniqueFd fd, const Netdev& netdev, const TransmitRingOptions& options, LinkReader& link);
  static Result<std::unique_ptr<TransmitRing>> open(const Netdev& netdev, const TransmitRingOptions& options, LinkReader& link);

  uint32_t capacity() const { return layout_.slotLength - dataOffset_; }
  uint32_t slots() const { return layout_.slots(); }

  uint32_t reserve(std::span<TxFrame> frames, FrameStats& stats);
  void commit(std::span<const TxFrame> frames);
  void abort(std::span<const TxFrame> frames);
  bool flush(FrameStats& stats);
  // The device took less than it was offered; the rest goes with the next flush.
  bool hasUnsent() const { return sent_ != handed_; }
  // Slots that are neither free nor given back by the kernel yet; all of them come back.
  uint32_t inUse();
  // Why the ring is not locked in memory; empty when it is.
  const std::string& unlocked() const { return ring_.unlocked(); }
  // Trains go through the kernel's own segmentation since the device stopped taking them. Any thread.
  bool lostBypass() const { return lostBypass_.load(std::memory_order_relaxed); }

 private:
  enum class State : uint8_t { kFree, kReserved, kCommitted, kHole, kHanded };

  TransmitRing(UniqueFd fd, const Netdev& netdev, const TransmitRingOptions& options, LinkReader& link);
  uint32_t indexOf(uint64_t position) const { return static_cast<uint32_t>(position % layout_.slots()); }
  uint8_t* slotAt(uint64_t position) const { return layout_.slot(ring_.data(), indexOf(position)); }
  State& stateAt(uint64_t position) { return states_[indexOf(position)]; }
  uint64_t positionOf(const TxFrame& frame) const { return frame.cookie; }
  void reclaim();
  void handOver();
  void noteSent(FrameStats& stats);
  bool isTrain(uint64_t position) const;
  uint32_t frameLengthAt(uint64_t position) const;
  void takeBack(uint64_t from);
  template <typename Which>
  void discard(FrameStats& stats, Which&& which);
  bool giveUpHopeless(const LinkState& link, FrameStats& stats);
  bool recover(int err, FrameStats& stats);

  UniqueFd fd_;
  Netdev netdev_;
  LinkReader& link_;
  bool vnetHeader_;
  bool trains_;
  uint32_t dataOffset_ = 0;
  SlotLayout layout_;
  PacketRing ring_;
  std::vector<State> states_;
  // Positions grow without end. reclaimed <= sent <= handed <= tail <= reclaimed + slots.
  uint64_t reclaimed_ = 0;  // before it all slots are free
  uint64_t sent_ = 0;       // before it the kernel has taken every frame
  uint64_t handed_ = 0;     // before it every frame is offered to the kernel
  uint64_t tail_ = 0;       // the next to be reserved
  // The frame that was refused last, how often in a row and since when.
  uint64_t refused_ = UINT64_MAX;
  uint32_t refusals_ = 0;
  int64_t refusedSinceNs_ = 0;
  uint32_t hopelessLength_ = UINT32_MAX;  // of a frame that never got through; none as long has since
  std::atomic<bool> lostBypass_{false};
};

}  // namespace outrigger::io
