// SPDX-License-Identifier: Apache-2.0
// See the header. What the kernel does with slots and statuses: Linux net/packet/af_packet.c, tpacket_snd.
#include "io/packet/transmit_ring.h"

#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <sys/socket.h>

#include <algorithm>

#include "base/clock.h"
#include "io/frame/vnet_header.h"

namespace outrigger::io {
namespace {

// Where the kernel looks for the frame in a slot: behind its own header.
constexpr uint32_t kSlotHeaderLength = TPACKET2_HDRLEN - sizeof(sockaddr_ll);
// A train's slot: page-aligned pieces, so that a frame covers at most 16 pages of 4 KiB; an skb takes 17 (MAX_SKB_FRAGS).
constexpr uint32_t kTrainSlotLength = 64 * 1024;
// A frame that is refused this often, over this time, never leaves. A device that is only full has room again after what it sends in milliseconds;
// a thread that slept through the time has not tried often.
constexpr uint32_t kHopelessRefusals = 1000;
constexpr int64_t kHopelessNs = 100'000'000;

tpacket2_hdr& transmitHeaderOf(uint8_t* slot) { return *reinterpret_cast<tpacket2_hdr*>(slot); }
uint32_t transmitStatusOf(uint8_t* slot) {
  // Above the low bits the kernel may leave timestamp flags.
  return __atomic_load_n(&transmitHeaderOf(slot).tp_status, __ATOMIC_ACQUIRE) &
         (TP_STATUS_SEND_REQUEST | TP_STATUS_SENDING | TP_STATUS_WRONG_FORMAT);
}
void setTransmitStatus(uint8_t* slot, uint32_t status) { __atomic_store_n(&transmitHeaderOf(slot).tp_status, status, __ATOMIC_RELEASE); }

}  // namespace

SlotLayout transmitLayout(const TransmitRingOptions& options) {
  const uint32_t header = kSlotHeaderLength + (options.vnetHeader ? static_cast<uint32_t>(sizeof(VnetHeader)) : 0U);
  return layOut(options.trains ? kTrainSlotLength : header + ETH_HLEN + 4 + options.mtu, options.bytes);
}

TransmitRing::TransmitRing(UniqueFd fd, const Netdev& netdev, const TransmitRingOptions& options, LinkReader& link)
    : fd_(std::move(fd)),
      netdev_(netdev),
      link_(link),
      vnetHeader_(options.vnetHeader),
      trains_(options.trains),
      dataOffset_(kSlotHeaderLength + (options.vnetHeader ? static_cast<uint32_t>(sizeof(VnetHeader)) : 0U)),
      layout_(transmitLayout(options)) {
  states_.assign(layout_.slots(), State::kFree);
}

Result<UniqueFd> openTransmitSocket(const Netdev& netdev, bool vnetHeader, const SlotLayout& layout) {
  auto fd = openPacketSocket(netdev);
  if (!fd) return fd.error();
  if (auto r = setPacketOption(fd->get(), PACKET_VERSION, TPACKET_V2, "PACKET_VERSION", netdev); !r) return r.error();
  if (vnetHeader) {
    if (auto r = setPacketOption(fd->get(), PACKET_VNET_HDR, 1, "PACKET_VNET_HDR", netdev); !r) return r.error();
  }
  if (auto r = setPacketOption(fd->get(), PACKET_QDISC_BYPASS, 1, "PACKET_QDISC_BYPASS", netdev); !r) return r.error();
  // The kernel charges frames under way against it: as much as the ring holds. Less only makes `flush` take more calls.
  raiseBuffer(fd->get(), SO_SNDBUFFORCE, SO_SNDBUF, static_cast<int32_t>(layout.lengthBytes()));
  const tpacket_req request = ringRequest(layout);
  if (::setsockopt(fd->get(), SOL_PACKET, PACKET_TX_RING, &request, sizeof(request)) != 0) {
    return makeError(ErrorCode::kGeneric,
                     "backend packet on " + netdev.name + ": cannot make a transmit ring of " + std::to_string(request.tp_frame_nr) +
                         " slots of " + std::to_string(request.tp_frame_size) + " bytes",
                     errno);
  }
  if (auto r = bindPacketSocket(fd->get(), netdev, 0); !r) return r.error();
  return fd;
}

Result<std::unique_ptr<TransmitRing>> TransmitRing::map(UniqueFd fd, const Netdev& netdev, const TransmitRingOptions& options,
                                                        LinkReader& link) {
  std::unique_ptr<TransmitRing> ring(new TransmitRing(std::move(fd), netdev, options, link));
  auto memory = PacketRing::map(ring->fd_.get(), ring->layout_.lengthBytes(), "transmit");
  if (!memory) return memory.error();
  ring->ring_ = memory.take();
  return ring;
}

Result<std::unique_ptr<TransmitRing>> TransmitRing::open(const Netdev& netdev, const TransmitRingOptions& options, LinkReader& link) {
  auto fd = openTransmitSocket(netdev, options.vnetHeader, transmitLayout(options));
  if (!fd) return fd.error();
  return map(fd.take(), netdev, options, link);
}

void TransmitRing::reclaim() {
  while (reclaimed_ < sent_ && transmitStatusOf(slotAt(reclaimed_)) == TP_STATUS_AVAILABLE) {
    stateAt(reclaimed_) = State::kFree;
    ++reclaimed_;
  }
}

uint32_t TransmitRing::inUse() {
  reclaim();
  return static_cast<uint32_t>(tail_ - reclaimed_);
}

uint32_t TransmitRing::reserve(std::span<TxFrame> frames, FrameStats& stats) {
  if (layout_.slots() - (tail_ - reclaimed_) < frames.size()) {
    if (sent_ != handed_) flush(stats);
    reclaim();
  }
  const auto count = static_cast<uint32_t>(std::min<uint64_t>(frames.size(), layout_.slots() - (tail_ - reclaimed_)));
  for (uint32_t i = 0; i < count; ++i) {
    TxFrame& frame = frames[i];
    frame = TxFrame{};
    frame.data = slotAt(tail_) + dataOffset_;
    frame.capacity = capacity();
    frame.cookie = tail_;
    stateAt(tail_++) = State::kReserved;
  }
  if (count == 0 && !frames.empty()) stats.noBuffer.fetch_add(1, std::memory_order_relaxed);
  return count;
}

void TransmitRing::commit(std::span<const TxFrame> frames) {
  for (const TxFrame& frame : frames) {
    const uint64_t position = positionOf(frame);
    uint8_t* slot = slotAt(position);
    transmitHeaderOf(slot).tp_len = frame.length;
    if (vnetHeader_) {
      const VnetHeader header = vnetHeaderOf(frame);
      std::memcpy(slot + kSlotHeaderLength, &header, sizeof(header));
      transmitHeaderOf(slot).tp_len += static_cast<uint32_t>(sizeof(header));
    }
    stateAt(position) = State::kCommitted;
  }
}

void TransmitRing::abort(std::span<const TxFrame> frames) {
  for (const TxFrame& frame : frames) stateAt(positionOf(frame)) = State::kHole;
  while (tail_ > handed_ && stateAt(tail_ - 1) == State::kHole) stateAt(--tail_) = State::kFree;
}

// Offers committed frames to the kernel, in order, up to the first that is still being written. A hole takes the content of the next
// committed frame: a copy, in a case that is as rare as its cause.
void TransmitRing::handOver() {
  for (; handed_ < tail_; ++handed_) {
    if (stateAt(handed_) == State::kReserved) return;
    if (stateAt(handed_) == State::kHole) {
      uint64_t from = handed_ + 1;
      while (from < tail_ && stateAt(from) == State::kHole) ++from;
      if (from == tail_) {
        for (; tail_ > handed_; --tail_) stateAt(tail_ - 1) = State::kFree;
        return;
      }
      if (stateAt(from) == State::kReserved) return;
      transmitHeaderOf(slotAt(handed_)).tp_len = transmitHeaderOf(slotAt(from)).tp_len;
      std::memcpy(slotAt(handed_) + kSlotHeaderLength, slotAt(from) + kSlotHeaderLength, transmitHeaderOf(slotAt(from)).tp_len);
      stateAt(from) = State::kHole;
    }
    stateAt(handed_) = State::kHanded;
    setTransmitStatus(slotAt(handed_), TP_STATUS_SEND_REQUEST);
  }
}

bool TransmitRing::isTrain(uint64_t position) const {
  if (!vnetHeader_) return false;
  VnetHeader header;
  std::memcpy(&header, slotAt(position) + kSlotHeaderLength, sizeof(header));
  return header.gsoType != kVnetGsoNone;
}

uint32_t TransmitRing::frameLengthAt(uint64_t position) const {
  return transmitHeaderOf(slotAt(position)).tp_len - (dataOffset_ - kSlotHeaderLength);
}

void TransmitRing::noteSent(FrameStats& stats) {
  int64_t frames = 0;
  int64_t bytes = 0;
  for (; sent_ < handed_; ++sent_) {
    const uint32_t status = transmitStatusOf(slotAt(sent_));
    if (status == TP_STATUS_SEND_REQUEST || status == TP_STATUS_WRONG_FORMAT) break;
    if (frameLengthAt(sent_) >= hopelessLength_ && !isTrain(sent_)) hopelessLength_ = UINT32_MAX;
    ++frames;
    bytes += frameLengthAt(sent_);
  }
  stats.transmittedFrames.fetch_add(frames, std::memory_order_relaxed);
  stats.transmittedBytes.fetch_add(bytes, std::memory_order_relaxed);
}

// Takes what the kernel has not taken back from it: it reads slots only within a call of ours.
void TransmitRing::takeBack(uint64_t from) {
  for (uint64_t position = from; position < handed_; ++position) {
    setTransmitStatus(slotAt(position), TP_STATUS_AVAILABLE);
    stateAt(position) = State::kCommitted;
  }
  handed_ = from;
}

// Gives up those for which `which(position)` holds of all that the kernel has not taken, and offers it the others.
template <typename Which>
void TransmitRing::discard(FrameStats& stats, Which&& which) {
  takeBack(sent_);
  for (uint64_t position = sent_; position < tail_; ++position) {
    if (stateAt(position) != State::kCommitted || !which(position)) continue;
    stateAt(position) = State::kHole;
    stats.transmitErrors.fetch_add(1, std::memory_order_relaxed);
  }
  refused_ = UINT64_MAX;  // whatever stands there now
  handOver();
}

// The kernel says ENOBUFS of a frame that finds the device full and of one that can't get through at all: veth drops what is longer than the MTU
// of its far end, which nobody on this side knows. The kernel goes no further than such a frame, so nothing would ever leave again.
// True: it was given up, with those behind it that are as long.
bool TransmitRing::giveUpHopeless(const LinkState& link, FrameStats& stats) {
  const uint64_t first = sent_;
  const bool lone = !isTrain(first);
  // The link has become narrower since these were made for it. A device may still take them, so they are tried.
  const uint32_t tooLong = link.mtu == 0 ? UINT32_MAX : link.mtu + ETH_HLEN + 4 + 1;
  if (!lone || frameLengthAt(first) < std::min(hopelessLength_, tooLong)) {
    const int64_t nowNs = SystemClock().nanoTime();
    if (refused_ != first) {
      refused_ = first;
      refusals_ = 0;
      refusedSinceNs_ = nowNs;
    }
    if (++refusals_ < kHopelessRefusals || nowNs - refusedSinceNs_ < kHopelessNs) return false;
    // The next ones of this length need not wait as long, until one gets through.
    if (lone) hopelessLength_ = frameLengthAt(first);
  }
  const uint32_t limit = std::min(hopelessLength_, tooLong);
  discard(stats, [&](uint64_t position) { return position == first || (!isTrain(position) && frameLengthAt(position) >= limit); });
  return true;
}

// After a refused call. True: worth another one.
bool TransmitRing::recover(int err, FrameStats& stats) {
  if (sent_ < handed_ && transmitStatusOf(slotAt(sent_)) == TP_STATUS_WRONG_FORMAT) {
    const uint64_t refused = sent_;
    discard(stats, [refused](uint64_t position) { return position == refused; });
    return sent_ < handed_;
  }
  const auto discardAll = [&] { discard(stats, [](uint64_t /*position*/) { return true; }); };
  switch (err) {
    case EINTR:
      return true;
    case ENETDOWN:  // administratively down
    case ENXIO:     // removed
    case ENODEV:
      discardAll();
      return false;
    case ENOBUFS: {
      // The device's queue is full, or it has no carrier and drops: then nothing would ever make room.
      const LinkState link = link_.peek();
      if (!link.up) {
        discardAll();
        return false;
      }
      // Without a qdisc a train must be the device's to cut; one that lost the ability drops each of them.
      if (trains_ && !lostBypass_.load(std::memory_order_relaxed) && !link_.feature("tx-udp-segmentation")) {
        const int off = 0;
        ::setsockopt(fd_.get(), SOL_PACKET, PACKET_QDISC_BYPASS, &off, sizeof(off));
        lostBypass_.store(true, std::memory_order_relaxed);
        return true;
      }
      return giveUpHopeless(link, stats) && sent_ < handed_;
    }
    default:
      return false;
  }
}

bool TransmitRing::flush(FrameStats& stats) {
  handOver();
  while (sent_ < handed_) {
    const ssize_t result = ::send(fd_.get(), nullptr, 0, MSG_DONTWAIT | MSG_NOSIGNAL);
    const int err = result < 0 ? errno : 0;
    const uint64_t before = sent_;
    noteSent(stats);
    if (sent_ == handed_) break;
    if (err == 0 && sent_ != before) continue;  // stopped half way by the send buffer
    if (!recover(err, stats)) return sent_ == handed_;
  }
  return true;
}

}  // namespace outrigger::io
