// SPDX-License-Identifier: Apache-2.0
// See the header.
#include "io/packet/block_ring.h"

#include <linux/if_packet.h>
#include <sys/socket.h>

#include <algorithm>

namespace outrigger::io {
namespace {

constexpr uint32_t kFrameLength = 2048;  // of no meaning to V3 but that it must divide the whole

tpacket_hdr_v1& blockHeaderOf(uint8_t* block) { return reinterpret_cast<tpacket_block_desc*>(block)->hdr.bh1; }

uint32_t blockStatusOf(uint8_t* block) { return __atomic_load_n(&blockHeaderOf(block).block_status, __ATOMIC_ACQUIRE); }

}  // namespace

SlotLayout BlockRing::layoutOf(const ReceiveRingOptions& options) {
  SlotLayout layout;
  layout.slotLength = kFrameLength;
  layout.blockLength = kBlockLength;
  layout.slotsPerBlock = kBlockLength / kFrameLength;
  layout.blocks = std::max(kMinBlocks, options.bytes / kBlockLength);
  return layout;
}

Result<void> BlockRing::request(int fd, const Netdev& netdev, const SlotLayout& layout) {
  tpacket_req3 request{};
  request.tp_block_size = layout.blockLength;
  request.tp_block_nr = layout.blocks;
  request.tp_frame_size = layout.slotLength;
  request.tp_frame_nr = layout.slots();
  request.tp_retire_blk_tov = 1;  // ms, the shortest
  if (::setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &request, sizeof(request)) == 0) return {};
  return makeError(ErrorCode::kGeneric,
                   "backend packet on " + netdev.name + ": cannot make a receive ring of " + std::to_string(layout.blocks) + " blocks of " +
                       std::to_string(layout.blockLength) + " bytes",
                   errno);
}

Result<std::unique_ptr<ReceiveRing>> BlockRing::map(UniqueFd fd, const ReceiveRingOptions& options) {
  std::unique_ptr<BlockRing> ring(new BlockRing(std::move(fd), options));
  ring->blocks_ = layoutOf(options).blocks;
  auto memory = PacketRing::map(ring->fd(), static_cast<size_t>(ring->blocks_) * kBlockLength, "receive");
  if (!memory) return memory.error();
  ring->ring_ = memory.take();
  ring->outstanding_.assign(ring->blocks_, 0);
  return std::unique_ptr<ReceiveRing>(std::move(ring));
}

// A block whose frames are all read but not all given back is behind next_; when the ring has come around to it, it still reads as ours.
bool BlockRing::hasFrame() const {
  return framesLeft_ > 0 || (outstanding_[next_] == 0 && (blockStatusOf(blockAt(next_)) & TP_STATUS_USER) != 0);
}

void BlockRing::release(uint32_t block) {
  __atomic_store_n(&blockHeaderOf(blockAt(block)).block_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
}

uint32_t BlockRing::receive(std::span<RxFrame> frames, uint32_t count, FrameStats& stats) {
  while (count < frames.size() && hasFrame()) {
    uint8_t* block = blockAt(next_);
    if (framesLeft_ == 0) {
      framesLeft_ = blockHeaderOf(block).num_pkts;
      frame_ = block + blockHeaderOf(block).offset_to_first_pkt;
    }
    while (framesLeft_ > 0 && count < frames.size()) {
      const auto* header = reinterpret_cast<const tpacket3_hdr*>(frame_);
      RawFrame raw;
      raw.status = header->tp_status;
      raw.vlanTci = static_cast<uint16_t>(header->hv1.tp_vlan_tci);
      raw.data = frame_ + header->tp_mac;
      raw.length = header->tp_len;
      raw.arrivedNs = int64_t{header->tp_sec} * 1'000'000'000 + header->tp_nsec;
      RxFrame& frame = frames[count];
      frame.cookie = tag_ | next_;
      if (header->tp_snaplen < header->tp_len) {
        stats.oversizedFrames.fetch_add(1, std::memory_order_relaxed);
      } else if (describe(raw, frame, stats)) {
        ++outstanding_[next_];
        ++held_;
        ++count;
      }
      frame_ += header->tp_next_offset;
      --framesLeft_;
    }
    if (framesLeft_ > 0) break;
    if (outstanding_[next_] == 0) release(next_);
    next_ = next_ + 1 == blocks_ ? 0 : next_ + 1;
  }
  return count;
}

void BlockRing::giveBack(const RxFrame& frame) {
  const auto block = static_cast<uint32_t>(frame.cookie);
  --held_;
  if (--outstanding_[block] == 0 && (block != next_ || framesLeft_ == 0)) release(block);
}

}  // namespace outrigger::io
