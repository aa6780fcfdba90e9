// SPDX-License-Identifier: Apache-2.0
// The way of a received frame to its endpoint: from the device, from an endpoint's queue, or through the reserved sockets.
#include <sys/epoll.h>

#include <algorithm>

#include "io/posix/socket_io_base.h"
#include "io/stack/net_stack.h"
#include "io/stack/packet.h"

namespace outrigger::io {
namespace {

// Buffers taken in one call, at the least: a frame of the longest IP packet in buffers of 2 KiB is 33 of them, and must come whole.
constexpr uint32_t kMinBatch = 40;
// The reserved sockets carry what is rare, and looking costs a system call, a third of a microsecond: on a busy device once in this many polls that
// found frames.
constexpr uint32_t kBusyPollsPerKernelLook = 16;
// While frames are awaited polls follow one another in a fraction of a microsecond: a look at each was two fifths of such a poll, and on the way of the
// next frame. The short interval holds after the last datagram through a reserved socket.
constexpr int64_t kKernelLookIntervalNs = 5'000;
constexpr int64_t kQuietKernelLookIntervalNs = 50'000;
constexpr int64_t kKernelQuietAfterNs = 10'000'000;
// Also for a caller whose clock stands still.
constexpr uint32_t kIdlePollsPerKernelLook = 256;
// Buffers of the device that waiting datagrams may keep: a quarter of a small ring. More are copied out.
constexpr uint32_t kMaxHeldFrames = 64;
constexpr int kMaxEvents = 16;
// While the device's ring overflows this many more batches are taken in a poll: what a flooded endpoint has too much of is dropped here, at the
// price of a look at its headers, instead of everybody's frames in the ring.
constexpr int kIsolationBatches = 8;
constexpr int64_t kOverflowLookNs = 1'000'000;  // reading the device's counters may be a system call
constexpr int64_t kIsolationNs = 1'000'000'000;
// An endpoint's share when copies run short: every one still has its turn.
constexpr uint32_t kScarceWaiting = 16;

}  // namespace

void NetStack::drop(const Held& held) {
  if (held.block != CopyPool::kNone) {
    copies_.give(held.block);
  } else if (held.ofDevice) {
    if (returningCount_ == returning_.size()) giveBackDropped();
    returning_[returningCount_++] = held.frame;
  }
}

void NetStack::giveBackDropped() {
  if (returningCount_ > 0) device_->giveBack({returning_.data(), returningCount_});
  returningCount_ = 0;
}

void NetStack::release(uint32_t index, RxBurst& burst) {
  Face& face = faces_[index];
  burst.count = 0;
  for (uint32_t i = 0; i < face.used; ++i) {
    drop(face.slots[i].held);
    face.slots[i].held = {};
  }
  face.used = 0;
  giveBackDropped();
}

uint32_t NetStack::poll(uint32_t index, RxBurst& burst, int64_t nowNs) {
  Face& face = faces_[index];
  release(index, burst);
  nowNs_ = nowNs;
  upkeep(nowNs);
  uint32_t datagrams = serveWaiting(face, burst);
  // Where the ring overflows it is emptied also while what waits fills the burst.
  if (burst.count < RxBurst::kMaxPackets || nowNs < isolateUntilNs_) datagrams += readDevice(face, index, burst);
  giveBackDropped();
  face.wakes.polled();
  const bool due = burst.count > 0 ? ++face.busyPollsSinceKernel >= kBusyPollsPerKernelLook
                                   : ++face.idlePollsSinceKernel >= kIdlePollsPerKernelLook || nowNs >= face.nextKernelLookNs;
  if (burst.count < RxBurst::kMaxPackets && (due || face.kernelReady)) datagrams += readKernel(face, burst);
  return datagrams;
}

uint32_t NetStack::appendPacket(Face& face, RxBurst& burst, StackEndpoint& endpoint, const Waiting& entry) {
  Face::Slot& slot = face.slots[burst.count];
  const uint32_t interfaceIndex = device_->caps().interfaceIndex;
  slot.held = entry.held;
  entry.source.writeTo(slot.source, entry.sourcePort, interfaceIndex);
  RxPacket& packet = burst.packets[burst.count];
  packet.data = entry.data;
  packet.length = entry.length;
  packet.segmentLength = entry.segmentLength;
  packet.endpoint = &endpoint;
  packet.source = &slot.source;
  packet.destination = &endpoint.localAddress();
  packet.arrivedNs = entry.arrivedNs;
  if (endpoint.wildcard()) {
    entry.destination.writeTo(slot.destination, endpoint.port(), interfaceIndex);
    packet.destination = &slot.destination;
  }
  face.used = static_cast<uint32_t>(++burst.count);
  return datagramCount(entry.length, entry.segmentLength);
}

// One of each endpoint's in turn, until the burst is full or nothing waits.
uint32_t NetStack::serveWaiting(Face& face, RxBurst& burst) {
  uint32_t datagrams = 0;
  while (face.waiting > 0 && burst.count < RxBurst::kMaxPackets) {
    if (face.nextWaiting >= face.attached.size()) face.nextWaiting = 0;
    StackEndpoint& endpoint = *face.attached[face.nextWaiting++];
    if (!endpoint.hasWaiting()) continue;
    const Waiting entry = endpoint.front();
    endpoint.pop();
    --face.waiting;
    if (entry.held.block == CopyPool::kNone) --heldFrames_;
    datagrams += appendPacket(face, burst, endpoint, entry);
  }
  return datagrams;
}

// Holds the device's buffer while few are held, copies when more are, drops when the endpoint has more than its receive buffer waiting.
void NetStack::wait(StackEndpoint& endpoint, const Waiting& entry) {
  const auto full = [&] {
    const uint32_t lost = datagramCount(entry.length, entry.segmentLength);
    endpoint.stats.receiveQueueDrops.fetch_add(lost, std::memory_order_relaxed);
    stats_.add(StackCounter::kQueueFullDrops, lost);
    drop(entry.held);
  };
  const uint32_t limit = copies_.freeCount() < copies_.count() / 4 ? kScarceWaiting : StackEndpoint::kMaxWaiting;
  if (endpoint.waitingCount() >= limit ||
      (endpoint.hasWaiting() && endpoint.waitingBytes() + entry.length > endpoint.receiveBufferBytes())) {
    return full();
  }
  Waiting kept = entry;
  if (entry.held.block == CopyPool::kNone) {
    // Not while the ring overflows, which has too few buffers as it is.
    if (heldFrames_ < kMaxHeldFrames && nowNs_ >= isolateUntilNs_) {
      ++heldFrames_;
    } else {
      const int32_t block = copies_.take();
      if (block == CopyPool::kNone) return full();
      uint8_t* copy = copies_.data(block);
      std::memcpy(copy, entry.data, entry.length);
      drop(entry.held);
      kept.held = Held::copy(block);
      kept.data = copy;
    }
  }
  stats_.add(StackCounter::kStashedDatagrams, datagramCount(entry.length, entry.segmentLength));
  endpoint.push(kept);
  ++faces_[endpoint.face()].waiting;
}

bool NetStack::linearise(std::span<const RxFrame> pieces, int32_t& block, RxFrame& whole) {
  size_t length = 0;
  for (const RxFrame& piece : pieces) length += piece.length;
  block = length <= CopyPool::kBlockLength ? copies_.take() : CopyPool::kNone;
  if (block == CopyPool::kNone) return false;
  whole = pieces.front();
  uint8_t* at = copies_.data(block);
  whole.data = at;
  whole.length = static_cast<uint32_t>(length);
  whole.more = false;
  for (const RxFrame& piece : pieces) {
    std::memcpy(at, piece.data, piece.length);
    at += piece.length;
  }
  return true;
}

uint32_t NetStack::readDevice(Face& face, uint32_t index, RxBurst& burst) {
  uint32_t datagrams = 0;
  bool more = readBatch(face, index, burst, datagrams);
  if (!more || attached_ < 2 || !ringOverflows()) return datagrams;
  stats_.add(StackCounter::kIsolationPolls);
  for (int i = 0; i < kIsolationBatches && more; ++i) more = readBatch(face, index, burst, datagrams);
  return datagrams;
}

// Whether the device has dropped frames for want of room a moment ago: in its ring, or (AF_XDP with copies, whose ring has an entry for each
// buffer) for want of a buffer, which it counts apart. Of a device that does not tell: whether as many frames as its ring holds were read without
// finding it empty, as they are after every overflow. That may be so without one, too, and then costs copies, and no datagram.
bool NetStack::ringOverflows() {
  const uint32_t untold = device_->caps().untoldRing;
  if (untold > 0 && framesSinceEmpty_ >= untold) isolateUntilNs_ = nowNs_ + kIsolationNs;
  if (lastOverflowLookNs_ == 0 || nowNs_ - lastOverflowLookNs_ >= kOverflowLookNs) {
    lastOverflowLookNs_ = std::max<int64_t>(nowNs_, 1);
    device_->refreshStats();
    int64_t drops = device_->stats.ringFullDrops.load(std::memory_order_relaxed);
    if (device_->caps().emptyFillRingLoses) drops += device_->stats.fillRingEmpty.load(std::memory_order_relaxed);
    if (drops > lastRingDrops_) isolateUntilNs_ = nowNs_ + kIsolationNs;
    lastRingDrops_ = drops;
  }
  return nowNs_ < isolateUntilNs_;
}

// Takes what the burst has room for; true when the device may have more.
bool NetStack::readBatch(Face& face, uint32_t index, RxBurst& burst, uint32_t& datagrams) {
  const auto room = static_cast<uint32_t>(RxBurst::kMaxPackets - burst.count);
  const uint32_t wanted = std::clamp(room, kMinBatch, kMaxBatch);
  const uint32_t count = device_->receive({received_.data(), wanted});
  if (tap_->active()) tap_->received({received_.data(), count});
  for (uint32_t i = 0; i < count;) {
    uint32_t pieces = 1;
    while (received_[i + pieces - 1].more && i + pieces < count) ++pieces;
    if (pieces == 1 && !received_[i].more) {
      onFrame(face, index, burst, Held::buffer(received_[i]), received_[i], datagrams);
    } else {
      Held held;
      RxFrame whole;
      if (linearise({received_.data() + i, pieces}, held.block, whole)) {
        stats_.add(StackCounter::kLinearisedFrames);
        onFrame(face, index, burst, held, whole, datagrams);
      } else {
        stats_.add(StackCounter::kOversizedFrames);
      }
      for (uint32_t k = i; k < i + pieces; ++k) drop(Held::buffer(received_[k]));
    }
    i += pieces;
  }
  framesSinceEmpty_ = count == wanted ? framesSinceEmpty_ + count : 0;
  return count == wanted;
}

void NetStack::onFrame(Face& face, uint32_t index, RxBurst& burst, const Held& held, const RxFrame& frame, uint32_t& datagrams) {
  ParsedFrame parsed;
  parseFrame(frame, rules_, parsed);
  if (parsed.kind == FrameKind::kDatagram) {
    onDatagram(face, index, burst, held, parsed, frame, datagrams);
    return;
  }
  onOther(parsed, frame);
  drop(held);
}

void NetStack::refreshAddresses() {
  if (const uint64_t version = tables_->addressVersion(); version != addressVersion_ && tables_->copyAddresses(addresses_)) {
    addressVersion_ = version;
  }
}

bool NetStack::isLocal(const net::IpAddress& address) {
  refreshAddresses();
  return std::any_of(addresses_.begin(), addresses_.end(), [&](const net::LocalAddress& each) { return each.address == address; });
}

StackEndpoint* NetStack::findEndpoint(const net::IpAddress& destination, uint16_t port) {
  StackEndpoint* any = nullptr;
  bool otherAddress = false;
  for (StackEndpoint* endpoint = ports_[port % kPortBuckets]; endpoint != nullptr; endpoint = endpoint->nextOfBucket) {
    if (endpoint->port() != port || endpoint->ip().family != destination.family) continue;
    if (endpoint->ip() == destination) return endpoint;
    if (endpoint->wildcard()) {
      any = endpoint;
    } else {
      otherAddress = true;
    }
  }
  if (any != nullptr && isLocal(destination)) return any;
  stats_.add(any != nullptr || otherAddress ? StackCounter::kOtherAddressDatagrams : StackCounter::kOtherPortDatagrams);
  return nullptr;
}

void NetStack::onDatagram(Face& face, uint32_t index, RxBurst& burst, const Held& held, const ParsedFrame& parsed, const RxFrame& frame,
                          uint32_t& datagrams) {
  StackEndpoint* endpoint = findEndpoint(parsed.destination, parsed.destinationPort);
  if (endpoint == nullptr) return drop(held);
  if (parsed.length == 0) {
    endpoint->stats.emptyDatagrams.fetch_add(1, std::memory_order_relaxed);
    return drop(held);
  }
  Waiting entry;
  entry.held = held;
  entry.data = parsed.body;
  entry.length = parsed.length;
  entry.segmentLength = frame.segmentLength == 0 ? parsed.length : std::min<uint32_t>(frame.segmentLength, parsed.length);
  entry.source = parsed.source;
  entry.destination = parsed.destination;
  entry.sourcePort = parsed.sourcePort;
  entry.arrivedNs = frame.arrivedNs;
  stats_.add(StackCounter::kDatagramsReceived, datagramCount(entry.length, entry.segmentLength));
  if (entry.segmentLength < entry.length) stats_.add(StackCounter::kTrainsReceived);
  // What waits already goes first.
  if (endpoint->face() == index && burst.count < RxBurst::kMaxPackets && !endpoint->hasWaiting()) {
    datagrams += appendPacket(face, burst, *endpoint, entry);
  } else {
    wait(*endpoint, entry);
  }
}

// From one of our endpoints to another, without a wire: what the kernel's loopback does elsewhere.
void NetStack::deliverLocally(const StackEndpoint& from, const Path& path, const uint8_t* data, uint32_t length, uint32_t segmentLength) {
  StackEndpoint* endpoint = findEndpoint(path.destinationIp, path.destination.port());
  if (endpoint == nullptr) return;
  if (length == 0) {
    endpoint->stats.emptyDatagrams.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  const int32_t block = copies_.take();
  Waiting entry;
  entry.length = length;
  entry.segmentLength = segmentLength == 0 ? length : std::min(segmentLength, length);
  const uint32_t count = datagramCount(entry.length, entry.segmentLength);
  if (block == CopyPool::kNone) {
    endpoint->stats.receiveQueueDrops.fetch_add(count, std::memory_order_relaxed);
    return stats_.add(StackCounter::kQueueFullDrops, count);
  }
  std::memcpy(copies_.data(block), data, length);
  entry.held = Held::copy(block);
  entry.data = copies_.data(block);
  entry.source = from.wildcard() ? path.destinationIp : from.ip();
  entry.destination = path.destinationIp;
  entry.sourcePort = from.port();
  stats_.add(StackCounter::kDatagramsReceived, count);
  wait(*endpoint, entry);
}

// Whether the stack had the datagram as a frame already: what the socket's filter can't tell (socket_filter.h). Of what this host sends to an
// address of the device's the kernel names the device too, although it came over lo.
bool NetStack::isSecondCopy(const ReceiveSlots::Arrival& arrival, const SockAddr& source, uint32_t length) {
  const FrameCaps& device = device_->caps();
  const bool joined = device.joinsFragments && !source.isV6() && length + packet::kIpv4Length + packet::kUdpLength <= link_.mtu;
  return device.kernelSeesFrames && arrival.interfaceIndex == device.interfaceIndex && (!arrival.reassembled || joined) &&
         !arrival.options && !isLocal(net::IpAddress::of(source));
}

uint32_t NetStack::readKernel(Face& face, RxBurst& burst) {
  face.busyPollsSinceKernel = 0;
  face.idlePollsSinceKernel = 0;
  std::array<epoll_event, kMaxEvents> events;
  ReceiveSlots& slots = *face.kernelSlots;
  const int ready = ::epoll_wait(face.kernelEpoll.get(), events.data(), std::min<int>(kMaxEvents, static_cast<int>(slots.count())), 0);
  face.kernelReady = ready > 0;  // where there was something, more may be
  if (face.kernelReady) face.kernelQuietNs = nowNs_ + kKernelQuietAfterNs;
  face.nextKernelLookNs = nowNs_ + (nowNs_ < face.kernelQuietNs ? kKernelLookIntervalNs : kQuietKernelLookIntervalNs);
  uint32_t datagrams = 0;
  slots.prepare(face.kernelSlotsUsed);
  uint32_t slot = 0;
  for (int i = 0; i < ready; ++i) {
    auto& endpoint = *static_cast<StackEndpoint*>(events[static_cast<size_t>(i)].data.ptr);
    if ((events[static_cast<size_t>(i)].events & EPOLLERR) != 0) readErrors(endpoint);
    const auto room = static_cast<uint32_t>(RxBurst::kMaxPackets - burst.count);
    const uint32_t share = std::min(room, (slots.count() - slot) / static_cast<uint32_t>(ready - i));
    if (share == 0) break;
    int received = -1;
    for (int attempt = 0; attempt < 2; ++attempt) {
      received = ::recvmmsg(endpoint.reserved().fd(), slots.headers(slot), share, MSG_DONTWAIT, nullptr);
      if (received >= 0 || isWouldBlock(errno)) break;
      // An error of an earlier send, reported late: it is in the error queue, and the next datagram is none the worse.
    }
    for (int k = 0; k < received; ++k, ++slot) {
      RxPacket& packet = burst.packets[burst.count];
      if (!slots.read(slot, slots.headers(slot)->msg_len, endpoint.reserved(), packet)) continue;
      if (isSecondCopy(slots.arrival(slot), *packet.source, packet.length)) {
        stats_.add(StackCounter::kDuplicateKernelCopies);
        continue;
      }
      packet.endpoint = &endpoint;
      stats_.add(StackCounter::kKernelDatagrams);
      // The slot of the burst holds nothing of the device's.
      face.slots[burst.count].held = {};
      face.used = static_cast<uint32_t>(++burst.count);
      datagrams += datagramCount(packet.length, packet.segmentLength);
    }
    endpoint.takeReservedStats();
  }
  face.kernelSlotsUsed = slot;
  return datagrams;
}

}  // namespace outrigger::io
