// SPDX-License-Identifier: Apache-2.0
// See the header.
#include "io/packet/slot_ring.h"

#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <atomic>

#include "io/frame/vnet_header.h"

namespace outrigger::io {
namespace {

// The kernel writes and reads the status word while we do: each access is one atomic one.
uint32_t statusOf(const uint8_t* slot) {
  return __atomic_load_n(&reinterpret_cast<const tpacket2_hdr*>(slot)->tp_status, __ATOMIC_ACQUIRE);
}
void setStatus(uint8_t* slot, uint32_t status) {
  __atomic_store_n(&reinterpret_cast<tpacket2_hdr*>(slot)->tp_status, status, __ATOMIC_RELEASE);
}

// Trains waiting in the socket's queue; the kernel charges what their buffers take, up to twice the bytes in them.
constexpr int32_t kTrainQueueBytes = 8 << 20;

}  // namespace

SlotLayout SlotRing::layoutOf(const ReceiveRingOptions& options) {
  // Headers, the kernel's sockaddr_ll, and at least 16 bytes that it keeps before the network header (tpacket_rcv).
  constexpr uint32_t kOverhead = TPACKET2_HDRLEN + sizeof(VnetHeader) + 2 * TPACKET_ALIGNMENT;
  return layOut(kOverhead + ETH_HLEN + 4 + options.mtu, options.bytes);
}

Result<void> SlotRing::request(int fd, const Netdev& netdev, const SlotLayout& layout) {
  if (auto r = setPacketOption(fd, PACKET_COPY_THRESH, 1, "PACKET_COPY_THRESH", netdev); !r) return r;
  raiseBuffer(fd, SO_RCVBUFFORCE, SO_RCVBUF, kTrainQueueBytes);
  const tpacket_req request = ringRequest(layout);
  if (::setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &request, sizeof(request)) == 0) return {};
  return makeError(ErrorCode::kGeneric,
                   "backend packet on " + netdev.name + ": cannot make a receive ring of " + std::to_string(request.tp_frame_nr) +
                       " slots of " + std::to_string(request.tp_frame_size) + " bytes",
                   errno);
}

Result<std::unique_ptr<ReceiveRing>> SlotRing::map(UniqueFd fd, const ReceiveRingOptions& options) {
  std::unique_ptr<SlotRing> ring(new SlotRing(std::move(fd), options));
  ring->layout_ = layoutOf(options);
  ring->trainBufferBytes_ = static_cast<uint32_t>(grantedBuffer(ring->fd(), SO_RCVBUF));
  auto memory = PacketRing::map(ring->fd(), ring->layout_.lengthBytes(), "receive");
  if (!memory) return memory.error();
  ring->ring_ = memory.take();
  ring->slotHeld_.assign(ring->layout_.slots(), 0);
  void* trains = ::mmap(nullptr, static_cast<size_t>(kTrainBuffers) * kTrainBufferLength, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (trains == MAP_FAILED) return makeError(ErrorCode::kGeneric, "backend packet: cannot map buffers for trains", errno);
  ring->trains_ = static_cast<uint8_t*>(trains);
  for (uint32_t i = kTrainBuffers; i-- > 0;) ring->freeTrains_.push_back(i);
  return std::unique_ptr<ReceiveRing>(std::move(ring));
}

SlotRing::~SlotRing() {
  if (trains_ != nullptr) ::munmap(trains_, static_cast<size_t>(kTrainBuffers) * kTrainBufferLength);
}

bool SlotRing::hasFrame() const { return slotHeld_[next_] == 0 && (statusOf(slotAt(next_)) & TP_STATUS_USER) != 0; }

void SlotRing::release(uint32_t slot) { setStatus(slotAt(slot), TP_STATUS_KERNEL); }

// The queue holds the long frames in the order of their slots. The virtio-net header comes first and lands right before the frame.
bool SlotRing::fetchTrain(uint32_t& buffer, uint32_t& length) {
  buffer = freeTrains_.back();
  uint8_t* memory = trains_ + static_cast<size_t>(buffer) * kTrainBufferLength;
  // 64 bytes of room before the frame keep it aligned as the kernel's ring does.
  constexpr uint32_t kFrameOffset = 64;
  const uint32_t headerLength = vnetHeader_ ? sizeof(VnetHeader) : 0;
  const ssize_t received =
      ::recv(fd_.get(), memory + kFrameOffset - headerLength, kTrainBufferLength - kFrameOffset + headerLength, MSG_DONTWAIT | MSG_TRUNC);
  if (received < static_cast<ssize_t>(headerLength) + ETH_HLEN) return false;
  length = static_cast<uint32_t>(received) - headerLength;
  if (length > kTrainBufferLength - kFrameOffset) return false;
  freeTrains_.pop_back();
  return true;
}

uint32_t SlotRing::receive(std::span<RxFrame> frames, uint32_t count, FrameStats& stats) {
  while (count < frames.size() && hasFrame()) {
    uint8_t* slot = slotAt(next_);
    const auto* header = reinterpret_cast<const tpacket2_hdr*>(slot);
    RawFrame raw;
    raw.status = statusOf(slot);
    raw.vlanTci = header->tp_vlan_tci;
    raw.data = slot + header->tp_mac;
    raw.length = header->tp_len;
    raw.arrivedNs = int64_t{header->tp_sec} * 1'000'000'000 + header->tp_nsec;
    RxFrame& frame = frames[count];
    frame.cookie = tag_ | next_;
    bool whole = true;
    if ((raw.status & TP_STATUS_COPY) != 0) {
      if (freeTrains_.empty()) break;
      uint32_t buffer = 0;
      whole = fetchTrain(buffer, raw.length);
      raw.data = trains_ + static_cast<size_t>(buffer) * kTrainBufferLength + 64;
      frame.cookie = tag_ | kTrainCookie | buffer;
      release(next_);
      if (!whole) stats.oversizedFrames.fetch_add(1, std::memory_order_relaxed);
    } else if (header->tp_snaplen < header->tp_len) {
      // Too long for the slot, and the socket's queue had no room for it.
      whole = false;
      release(next_);
      stats.ringFullDrops.fetch_add(1, std::memory_order_relaxed);
    }
    const bool fromSlot = (frame.cookie & kTrainCookie) == 0;
    const bool usable = whole && describe(raw, frame, stats);
    if (usable) {
      if (fromSlot) slotHeld_[next_] = 1;
      ++held_;
      ++count;
    } else if (whole && fromSlot) {
      release(next_);
    } else if (whole) {
      freeTrains_.push_back(static_cast<uint32_t>(frame.cookie) & ~kTrainCookie);
    }
    next_ = next_ + 1 == slotHeld_.size() ? 0 : next_ + 1;
  }
  return count;
}

void SlotRing::giveBack(const RxFrame& frame) {
  const auto cookie = static_cast<uint32_t>(frame.cookie);
  --held_;
  if ((cookie & kTrainCookie) != 0) {
    freeTrains_.push_back(cookie & ~kTrainCookie);
    return;
  }
  slotHeld_[cookie] = 0;
  release(cookie);
}

}  // namespace outrigger::io
