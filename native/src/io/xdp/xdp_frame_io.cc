// SPDX-License-Identifier: Apache-2.0
// Moving chunks between rings. See the header for who owns which.
#include "io/xdp/xdp_frame_io.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <utility>

#include "io/xdp/partial_checksum.h"

namespace outrigger::io::xdp {
namespace {

constexpr uint32_t kQueueShift = 48;  // cookie: queue above, address below; a UMEM is far shorter than 2^48 bytes
constexpr uint64_t kAddressMask = (1ULL << kQueueShift) - 1;
constexpr uint32_t kMaxRing = 4096;  // entries; more only adds latency and cache misses when we lag
constexpr uint32_t kMaxKicks = 64;   // system calls in one flush where the kernel takes 32 frames a call: a ring of 2048

// Calls in a row that moved no frame, after which it is not worth staying awake for them: a link without carrier takes none at all.
constexpr uint32_t kMaxIdleKicks = 10'000;

void add(std::atomic<int64_t>& value, int64_t delta) {
  // One writer: no locked instruction on the data path.
  value.store(value.load(std::memory_order_relaxed) + delta, std::memory_order_relaxed);
}

}  // namespace

RingSizes ringSizesFor(uint64_t lengthBytes, uint32_t chunkBytes, uint32_t queues, XskMode mode) {
  const auto chunks = static_cast<uint32_t>(std::min<uint64_t>(lengthBytes / chunkBytes, 1u << 20));
  const uint32_t half = std::max(chunks / 2, 2U);
  RingSizes sizes;
  sizes.fill = std::min(std::bit_floor(std::max(half / std::max(queues, 1U), 1U)), kMaxRing);
  sizes.receive = mode == XskMode::kZeroCopy ? std::max(sizes.fill / 2, 1U) : sizes.fill;
  sizes.transmit = std::min(std::bit_floor(half), kMaxRing / 2);
  sizes.completion = std::min(std::bit_floor(half), kMaxRing);
  return sizes;
}

Result<std::unique_ptr<XdpFrameIo>> XdpFrameIo::create(XdpParts parts) {
  std::unique_ptr<XdpFrameIo> io(new XdpFrameIo(std::move(parts)));
  if (auto r = io->open(); !r) return r.error();
  return io;
}

XdpFrameIo::~XdpFrameIo() {
  // Mappings first: a queue stays taken as long as one is left.
  queues_.clear();
}

Result<void> XdpFrameIo::open() {
  const auto chunkBytes = parts_.layout.chunkBytes;
  const auto queueCount = static_cast<uint32_t>(parts_.sockets.size());
  const uint64_t chunks = parts_.memory.lengthBytes() / chunkBytes;
  const uint64_t receiveChunks = static_cast<uint64_t>(queueCount) * parts_.rings.fill;
  if (queueCount == 0 || chunks <= receiveChunks) {
    return makeError(ErrorCode::kGeneric, "xdp: UMEM of " + std::to_string(parts_.memory.lengthBytes()) + " bytes is too small for " +
                                              std::to_string(queueCount) + " queues with fill rings of " +
                                              std::to_string(parts_.rings.fill));
  }
  // As many chunks to send from as may be on their way: the completion ring takes each back.
  transmitChunks_ = static_cast<uint32_t>(std::min<uint64_t>(chunks - receiveChunks, parts_.rings.completion));
  firstTransmitAddress_ = receiveChunks * chunkBytes;
  lent_.assign(receiveChunks, 1);
  free_.reserve(transmitChunks_);
  for (uint32_t i = transmitChunks_; i-- > 0;) free_.push_back(firstTransmitAddress_ + static_cast<uint64_t>(i) * chunkBytes);

  if (queueCount > 1) {
    wakes_ = std::make_unique<WakeWatch>();
    if (wakes_->error() != 0) return makeError(ErrorCode::kGeneric, "xdp: epoll_create1", wakes_->error());
  }
  for (uint32_t i = 0; i < queueCount; ++i) {
    Queue queue;
    queue.socket = parts_.sockets[i].get();
    auto rings = XskRings::map(queue.socket, parts_.rings);
    if (!rings) return rings.error();
    queue.rings = rings.take();
    for (uint64_t chunk = 0; chunk < parts_.rings.fill; ++chunk) {
      queue.rings.fill.push((static_cast<uint64_t>(i) * parts_.rings.fill + chunk) * chunkBytes);
    }
    queue.rings.fill.publish();
    if (wakes_) wakes_->add(queue.socket);
    queues_.push_back(std::move(queue));
  }
  if (wakes_ && !wakes_->watch()) return makeError(ErrorCode::kGeneric, "xdp: epoll_ctl", errno);
  FrameCaps& caps = parts_.caps;
  caps.name = "xdp";
  caps.queues = queueCount;
  caps.maxTransmitPieces = parts_.multiBuffer ? kMaxBuffersOfFrame : 1;
  caps.transmitBufferLength = chunkBytes - parts_.layout.txMetadataBytes;
  caps.transmitChecksum = parts_.transmitChecksum;
  caps.emptyFillRingLoses = !parts_.zeroCopy;
  // Frames for the sender (status messages) and the receiver come in on the same queues, whichever the device hashes them to.
  caps.singleOwner = true;
  return {};
}

LinkState XdpFrameIo::link() {
  LinkState state = parts_.device->link();
  if (const int lost = lostErrno_.load(std::memory_order_relaxed); lost != 0 && !state.gone) {
    state.gone = true;
    state.up = false;
    state.reason = "the kernel took the AF_XDP socket of interface " + parts_.caps.interface + " from its queue: " + std::strerror(lost);
    ++state.generation;
  }
  return state;
}

void XdpFrameIo::describe(const xdp_desc& descriptor, uint32_t queue, RxFrame& frame) const {
  frame = RxFrame{};
  frame.data = parts_.memory.data() + descriptor.addr;
  frame.length = descriptor.len;
  frame.more = (descriptor.options & kPacketContinues) != 0;
  frame.cookie = static_cast<uint64_t>(queue) << kQueueShift | chunkOf(descriptor.addr);
}

bool XdpFrameIo::take(const xdp_desc& descriptor) {
  if (descriptor.len > parts_.layout.chunkBytes || descriptor.addr > firstTransmitAddress_ - descriptor.len) return false;
  const uint64_t chunk = descriptor.addr / parts_.layout.chunkBytes;
  return chunk < lent_.size() && std::exchange(lent_[chunk], uint8_t{0}) != 0;
}

void XdpFrameIo::recycle(uint32_t queue, uint64_t address) {
  lent_[address / parts_.layout.chunkBytes] = 1;
  auto& fill = queues_[queue].rings.fill;
  // There is room for each chunk that this queue's frames are made of.
  if (fill.room(1) != 0) fill.push(chunkOf(address));
}

uint32_t XdpFrameIo::receiveFrom(uint32_t index, std::span<RxFrame> frames) {
  auto& ring = queues_[index].rings.receive;
  uint32_t available = ring.available();
  if (available < frames.size()) available = ring.refreshed();
  uint32_t taken = 0;  // descriptors
  uint32_t given = 0;  // entries of `frames`
  bool dropped = false;
  while (taken < available) {
    // The kernel publishes a frame whole, so its last buffer is there.
    uint32_t buffers = 1;
    while (taken + buffers < available && (ring.peek(taken + buffers - 1).options & kPacketContinues) != 0) ++buffers;
    if ((ring.peek(taken + buffers - 1).options & kPacketContinues) != 0) break;
    const bool fits = buffers <= frames.size();
    if (fits && given + buffers > frames.size()) break;
    uint32_t sound = 0;  // buffers, from the first on
    while (fits && sound < buffers && take(ring.peek(taken + sound))) ++sound;
    if (sound == buffers) {
      for (uint32_t i = 0; i < buffers; ++i) {
        describe(ring.peek(taken + i), index, frames[given + i]);
        add(stats.receivedBytes, frames[given + i].length);
      }
      if (!parts_.zeroCopy && hasPartialChecksum(frames[given].data, frames[given].length)) {
        frames[given].checksum = RxChecksum::kPartial;
      }
      add(stats.receivedFrames, 1);
      given += buffers;
    } else {
      add(fits ? stats.invalidDescriptors : stats.oversizedFrames, 1);
      for (uint32_t i = 0; i < buffers; ++i) {
        const xdp_desc descriptor = ring.peek(taken + i);
        if (i < sound || take(descriptor)) recycle(index, descriptor.addr);
      }
      dropped = true;
    }
    taken += buffers;
  }
  if (taken != 0) ring.pop(taken);
  if (dropped) queues_[index].rings.fill.publish();
  receiveHeld_ += given;
  return given;
}

uint32_t XdpFrameIo::receive(std::span<RxFrame> frames) {
  if (unkicked_) kick();
  uint32_t count = 0;
  const auto queueCount = static_cast<uint32_t>(queues_.size());
  for (uint32_t i = 0; i < queueCount && count < frames.size(); ++i) {
    const uint32_t index = (nextQueue_ + i) % queueCount;
    Queue& queue = queues_[index];
    const uint32_t got = receiveFrom(index, frames.subspan(count));
    count += got;
    // A driver that ran out of work to do on its own wants to be called when there are chunks again.
    if (parts_.busyPoll || (got == 0 && queue.rings.fill.needsWakeup())) {
      if (::recvfrom(queue.socket, nullptr, 0, MSG_DONTWAIT, nullptr, nullptr) < 0 && errno == ENXIO) {
        lostErrno_.store(ENXIO, std::memory_order_relaxed);
      }
    }
  }
  nextQueue_ = (nextQueue_ + 1) % queueCount;
  if (wakes_) wakes_->polled();
  return count;
}

void XdpFrameIo::giveBack(std::span<const RxFrame> frames) {
  for (const RxFrame& frame : frames) recycle(static_cast<uint32_t>(frame.cookie >> kQueueShift), frame.cookie & kAddressMask);
  receiveHeld_ -= static_cast<uint32_t>(frames.size());
  for (Queue& queue : queues_) queue.rings.fill.publish();
}

void XdpFrameIo::reap() {
  auto& ring = queues_[0].rings.completion;
  const uint32_t count = ring.refreshed();
  for (uint32_t i = 0; i < count; ++i) {
    const uint64_t chunk = chunkOf(ring.peek(i));
    const bool ours = chunk >= firstTransmitAddress_ && chunk < parts_.memory.lengthBytes();
    if (ours && free_.size() < transmitChunks_) free_.push_back(chunk);
  }
  if (count != 0) ring.pop(count);
}

uint32_t XdpFrameIo::reserve(std::span<TxFrame> frames) {
  const auto wanted = static_cast<uint32_t>(frames.size());
  if (free_.size() < wanted) reap();
  const uint32_t room = queues_[0].rings.transmit.room(reserved_ + wanted) - reserved_;
  const uint32_t count = std::min({wanted, room, static_cast<uint32_t>(free_.size())});
  for (uint32_t i = 0; i < count; ++i) {
    const uint64_t chunk = free_.back();
    free_.pop_back();
    frames[i] = TxFrame{};
    frames[i].data = parts_.memory.data() + chunk + parts_.layout.txMetadataBytes;
    frames[i].capacity = parts_.caps.transmitBufferLength;
    frames[i].cookie = chunk;
  }
  reserved_ += count;
  if (count == 0 && wanted != 0) add(stats.noBuffer, 1);
  return count;
}

void XdpFrameIo::commit(std::span<const TxFrame> frames) {
  auto& ring = queues_[0].rings.transmit;
  bool first = true;
  for (const TxFrame& frame : frames) {
    xdp_desc descriptor{};
    descriptor.addr = frame.cookie + parts_.layout.txMetadataBytes;
    descriptor.len = frame.length;
    if (frame.more) descriptor.options |= kPacketContinues;
    if (first) {
      if (frame.checksumStart != 0 && parts_.transmitChecksum) {
        auto* metadata = reinterpret_cast<TxMetadata*>(frame.data - parts_.layout.txMetadataBytes);
        *metadata = TxMetadata{};
        metadata->flags = kTxMetadataChecksum;
        metadata->checksumStart = frame.checksumStart;
        metadata->checksumOffset = frame.checksumOffset;
        descriptor.options |= kTxMetadata;
      }
      add(stats.transmittedFrames, 1);
    }
    first = !frame.more;
    add(stats.transmittedBytes, frame.length);
    ring.push(descriptor);
  }
  reserved_ -= static_cast<uint32_t>(frames.size());
  unkicked_ = unkicked_ || !frames.empty();
}

void XdpFrameIo::abort(std::span<const TxFrame> frames) {
  for (const TxFrame& frame : frames) free_.push_back(frame.cookie);
  reserved_ -= static_cast<uint32_t>(frames.size());
}

// Calls the kernel until it has taken all, or takes no more for now.
void XdpFrameIo::kick() {
  auto& ring = queues_[0].rings.transmit;
  ring.publish();
  kickBlocked_ = false;
  unkicked_ = false;
  uint32_t pending = ring.pending();
  for (uint32_t call = 0; pending != 0 && ring.needsWakeup() && call < kMaxKicks; ++call) {
    const bool refused = ::sendto(queues_[0].socket, nullptr, 0, MSG_DONTWAIT, nullptr, 0) < 0;
    const int error = refused ? errno : 0;
    // EBUSY in copy mode: the device's queue dropped a frame that had been taken already. With zero-copy it means "called too often".
    if (error == EBUSY && !parts_.zeroCopy) add(stats.transmitErrors, 1);
    if (error == ENXIO) lostErrno_.store(error, std::memory_order_relaxed);
    if (error == ENXIO) return;  // unbound: nothing will ever leave
    if (error == ENETDOWN) {
      unkicked_ = true;  // asked again at each poll, but nothing to stay awake for
      return;
    }
    const uint32_t left = ring.pending();
    if (left == pending) {
      // A driver that sends by itself was told and takes its time; a kernel that takes nothing has no room (EAGAIN, ENOBUFS). With busy
      // polling nobody was told: the call is the device's work itself, and does nothing while another thread is at it.
      unkicked_ = error != 0 || parts_.busyPoll;
      kickBlocked_ = unkicked_ && ++idleKicks_ < kMaxIdleKicks;
      return;
    }
    idleKicks_ = 0;
    pending = left;
  }
  if (pending == 0) idleKicks_ = 0;
}

bool XdpFrameIo::flush() {
  if (unkicked_) kick();
  reap();
  return !free_.empty() && queues_[0].rings.transmit.room(reserved_ + 1) > reserved_;
}

bool XdpFrameIo::arm() {
  if (unkicked_) kick();
  if (kickBlocked_ || (wakes_ && !wakes_->watch())) return false;
  for (Queue& queue : queues_) {
    if (queue.rings.receive.refreshed() != 0) return false;
  }
  return true;
}

void XdpFrameIo::refreshStats() {
  XskStatistics sum;
  for (const Queue& queue : queues_) {
    auto one = readXskStatistics(queue.socket);
    if (!one) continue;
    sum.receiveDropped += one->receiveDropped;
    sum.receiveRingFull += one->receiveRingFull;
    sum.fillRingEmpty += one->fillRingEmpty;
    sum.invalidReceiveDescriptors += one->invalidReceiveDescriptors;
    sum.invalidTransmitDescriptors += one->invalidTransmitDescriptors;
  }
  // With copies, a frame that found the fill ring empty is in rx_dropped too: once is enough. With zero-copy it is the device's to count, and an
  // empty fill ring only a try that has to be repeated.
  const auto dropped = [this](const XskStatistics& of) {
    return std::max<int64_t>(of.receiveDropped + of.receiveRingFull - (parts_.zeroCopy ? 0 : of.fillRingEmpty), 0);
  };
  add(stats.ringFullDrops, std::max<int64_t>(dropped(sum) - dropped(seen_), 0));
  add(stats.fillRingEmpty, sum.fillRingEmpty - seen_.fillRingEmpty);
  add(stats.invalidDescriptors, sum.invalidReceiveDescriptors - seen_.invalidReceiveDescriptors);
  // The kernel drops what it can't send, and says so only here.
  add(stats.transmitErrors, sum.invalidTransmitDescriptors - seen_.invalidTransmitDescriptors);
  seen_ = sum;
  const int64_t left = parts_.device->framesLeftToKernel();
  add(stats.leftToKernel, left - leftSeen_);
  leftSeen_ = left;
}

}  // namespace outrigger::io::xdp
