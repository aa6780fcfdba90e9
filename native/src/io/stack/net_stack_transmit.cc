// SPDX-License-Identifier: Apache-2.0
// The way of a datagram out: by the device in frames, or through the reserved socket.
#include <algorithm>

#include "io/posix/socket_io_base.h"
#include "io/stack/checksum.h"
#include "io/stack/net_stack.h"
#include "io/stack/packet.h"

namespace outrigger::io {
namespace {

// The kernel asks for a neighbour once a second, three times, and keeps what waits for the answer: ten datagrams a second keep it asking.
constexpr int64_t kAskIntervalNs = 100'000'000;
// A stale neighbour is confirmed by the kernel five seconds after it saw traffic (delay_first_probe_time).
constexpr int64_t kConfirmIntervalNs = 10'000'000'000;
constexpr uint32_t kMaxIpPayload = 65507;
// Late errors of other datagrams that sending one puts up with. While a path shrinks a router answers each frame that is under way.
constexpr int kMaxLateErrors = 4;

}  // namespace

bool NetStack::mayAskKernel(Path& path, int64_t intervalNs) const {
  if (!device_->caps().kernelOwnsDevice) return false;
  if (path.lastKernelNs != 0 && nowNs_ - path.lastKernelNs < intervalNs) return false;
  path.lastKernelNs = std::max<int64_t>(nowNs_, 1);
  return true;
}

TxStatus NetStack::kernelSend(StackEndpoint& endpoint, const SockAddr& destination, const uint8_t* data, uint32_t length) {
  int lateErrors = 0;
  while (true) {
    const ssize_t sent =
        ::sendto(endpoint.reserved().fd(), data, length, MSG_DONTWAIT | MSG_NOSIGNAL, destination.get(), destination.length);
    if (sent >= 0) {
      stats_.add(StackCounter::kKernelSends);
      device_->kernelSent();
      faces_[endpoint.face()].kernelReady = true;  // over lo it is there at once
      return TxStatus::kSent;
    }
    const int err = errno;
    if (err == EINTR) continue;
    if (isWouldBlock(err)) return TxStatus::kWouldBlock;
    // An earlier datagram's error, reported late (any destination's; EMSGSIZE too, see net_stack_errors.cc): it is in the error queue, and counted when
    // that is read.
    if (lateErrors++ < (err == EMSGSIZE ? kMaxLateErrors : 1)) continue;
    const TxStatus status = sendStatusOf(err);
    endpoint.stats.sendErrors.fetch_add(1, std::memory_order_relaxed);
    if (status == TxStatus::kUnreachable) stats_.add(StackCounter::kUnreachableSends);
    return status;
  }
}

TxStatus NetStack::sendByKernel(StackEndpoint& endpoint, const SockAddr& destination, TxItem& item) {
  const uint32_t segment = item.segmentLength == 0 ? item.length : std::min(item.segmentLength, item.length);
  do {
    const uint32_t length = std::min(segment, item.length - item.sentBytes);
    const TxStatus status = kernelSend(endpoint, destination, item.data + item.sentBytes, length);
    if (status == TxStatus::kWouldBlock) return status;
    item.sentBytes += length;
    if (status != TxStatus::kSent) {
      // The rest of the item goes the same way: one system call for it, not one for each of its datagrams.
      if (const uint32_t rest = item.length - item.sentBytes; rest > 0) {
        endpoint.stats.sendErrors.fetch_add(datagramCount(rest, segment), std::memory_order_relaxed);
      }
      item.sentBytes = item.length;
      return status;
    }
  } while (item.sentBytes < item.length);
  return TxStatus::kSent;
}

uint32_t NetStack::piecesOf(uint32_t frameLength) const {
  const uint32_t capacity = device_->caps().transmitBufferLength;
  return (frameLength + capacity - 1) / capacity;
}

void NetStack::commitFrames() {
  if (bank_.used > 0) commit({bank_.frames.data(), bank_.used});
  std::copy(bank_.frames.begin() + bank_.used, bank_.frames.begin() + bank_.reserved, bank_.frames.begin());
  bank_.reserved -= bank_.used;
  bank_.used = 0;
}

void NetStack::endFrames() {
  const bool any = bank_.used > 0;
  commitFrames();
  if (bank_.reserved > 0) device_->abort({bank_.frames.data(), bank_.reserved});
  bank_.reserved = 0;
  if (any) device_->flush();
}

// Makes sure that the bank has `pieces` buffers behind those that are written.
bool NetStack::reserveFrames(uint32_t pieces) {
  if (bank_.reserved - bank_.used >= pieces) return true;
  commitFrames();
  const uint32_t wanted = std::clamp(bank_.wanted * pieces, pieces, kMaxBatch) - bank_.reserved;
  bank_.reserved += device_->reserve({bank_.frames.data() + bank_.reserved, wanted});
  if (bank_.reserved >= pieces) return true;
  // The device may have sent meanwhile what it was told of only now.
  device_->flush();
  bank_.reserved += device_->reserve({bank_.frames.data() + bank_.reserved, pieces - bank_.reserved});
  return bank_.reserved >= pieces;
}

void NetStack::buildFrame(const Path& path, std::span<TxFrame> pieces, const uint8_t* data, uint32_t length, uint32_t segmentLength) {
  const bool offload = device_->caps().transmitChecksum;
  const uint32_t headerLength = path.header.length();
  TxFrame& first = pieces.front();
  first.checksumStart = 0;
  first.checksumOffset = 0;
  first.segmentLength = static_cast<uint16_t>(segmentLength);
  first.isIpv6 = path.header.isV6();
  uint64_t sum = 0;
  uint32_t done = 0;
  for (size_t i = 0; i < pieces.size(); ++i) {
    TxFrame& piece = pieces[i];
    const uint32_t offset = i == 0 ? headerLength : 0;
    const uint32_t part = std::min(piece.capacity - offset, length - done);
    if (offload) {
      std::memcpy(piece.data + offset, data + done, part);
    } else {
      // Capacity and headers are even, so each part but the last is.
      sum += copyAndSum(piece.data + offset, data + done, part);
    }
    done += part;
    piece.length = offset + part;
    piece.more = i + 1 < pieces.size();
  }
  if (offload) {
    path.header.writeForOffload(first, length);
  } else {
    path.header.write(first.data, length, sum);
  }
  if (pieces.size() == 1 && first.length < packet::kMinFrameLength) {
    std::memset(first.data + first.length, 0, packet::kMinFrameLength - first.length);
    first.length = packet::kMinFrameLength;
  }
  stats_.add(StackCounter::kFramesSent);
  if (segmentLength != 0) stats_.add(StackCounter::kTrainsSent);
}

TxStatus NetStack::sendByDevice(Path& path, TxItem& item) {
  const FrameCaps& device = device_->caps();
  const uint32_t segment = item.segmentLength == 0 ? item.length : std::min(item.segmentLength, item.length);
  uint32_t step = segment;
  if (device.transmitSegmentation && segment > 0 && segment < item.length && !item.nextHop->segmentationRefused) {
    const uint32_t longest = device.transmitBufferLength * std::max<uint32_t>(device.maxTransmitPieces, 1) - path.header.length();
    step = segment * std::clamp<uint32_t>(std::min(longest, kMaxIpPayload) / segment, 1, kMaxTrainSegments);
  }
  do {
    const uint32_t length = std::min(step, item.length - item.sentBytes);
    const uint32_t pieces = piecesOf(path.header.length() + length);
    if (!reserveFrames(pieces)) {
      stats_.add(StackCounter::kRingFull);
      return TxStatus::kWouldBlock;
    }
    buildFrame(path, {bank_.frames.data() + bank_.used, pieces}, item.data + item.sentBytes, length, length > segment ? segment : 0);
    bank_.used += pieces;
    if (bank_.wanted > 0) --bank_.wanted;
    item.sentBytes += length;
  } while (item.sentBytes < item.length);
  return TxStatus::kSent;
}

TxStatus NetStack::refuseTooLong(StackEndpoint& endpoint, TxItem& item) {
  const uint32_t count = datagramCount(item.length, item.segmentLength);
  endpoint.stats.sendErrors.fetch_add(count, std::memory_order_relaxed);
  stats_.add(StackCounter::kTooLongSends, count);
  item.sentBytes = item.length;
  return TxStatus::kTooLong;
}

TxStatus NetStack::sendItem(StackEndpoint& endpoint, TxItem& item) {
  Path& path = static_cast<StackNextHop*>(item.nextHop)->path;
  refreshPath(path, endpoint);
  const uint32_t segment = item.segmentLength == 0 ? item.length : std::min(item.segmentLength, item.length);
  switch (path.state) {
    case PathState::kDevice:
      if (segment > path.maxPayload && !device_->caps().kernelOwnsDevice) return refuseTooLong(endpoint, item);
      if (segment > path.maxPayload) {
        // The path has shrunk since these were written into the log: the kernel sends them in IP fragments.
        const TxStatus status = sendByKernel(endpoint, path.destination, item);
        stats_.add(StackCounter::kFragmentedSends, item.sentBytes == 0 ? 0 : datagramCount(item.sentBytes, segment));
        return status;
      }
      if (path.confirm && mayAskKernel(path, kConfirmIntervalNs)) {
        // The first datagram goes the kernel's way, so that it confirms the neighbour.
        const uint32_t length = std::min(segment, item.length);
        if (kernelSend(endpoint, path.destination, item.data, length) == TxStatus::kSent) {
          item.sentBytes = length;
          if (item.sentBytes >= item.length) return TxStatus::kSent;
        }
      }
      return sendByDevice(path, item);
    case PathState::kNeighbour:
      if (mayAskKernel(path, kAskIntervalNs)) {
        const uint32_t length = std::min(segment, item.length);
        if (kernelSend(endpoint, path.destination, item.data, length) == TxStatus::kSent) {
          item.sentBytes = length;
          if (item.sentBytes >= item.length) return TxStatus::kSent;
        }
      }
      stats_.add(StackCounter::kNeighbourWaits);
      return TxStatus::kNeighbour;
    case PathState::kOurselves: {
      if (segment > kMaxIpPayload) return refuseTooLong(endpoint, item);
      const uint32_t step = segment == 0 ? item.length : segment * (kMaxIpPayload / segment);
      do {
        const uint32_t length = std::min(step, item.length - item.sentBytes);
        deliverLocally(endpoint, path, item.data + item.sentBytes, length, segment);
        item.sentBytes += length;
      } while (item.sentBytes < item.length);
      return TxStatus::kSent;
    }
    case PathState::kKernel:
      return sendByKernel(endpoint, path.destination, item);
    case PathState::kNowhere:
      break;
  }
  const uint32_t count = datagramCount(item.length, item.segmentLength);
  endpoint.stats.sendErrors.fetch_add(count, std::memory_order_relaxed);
  stats_.add(StackCounter::kUnreachableSends, count);
  item.sentBytes = item.length;
  return TxStatus::kUnreachable;
}

uint32_t NetStack::transmit(Endpoint& base, std::span<TxItem> items) {
  auto& endpoint = static_cast<StackEndpoint&>(base);
  bank_.wanted = 0;
  for (TxItem& item : items) {
    item.status = TxStatus::kPending;
    item.sentBytes = 0;
    bank_.wanted += datagramCount(item.length, item.segmentLength);
  }
  uint32_t finished = 0;
  for (TxItem& item : items) {
    item.status = sendItem(endpoint, item);
    if (item.status == TxStatus::kWouldBlock || item.status == TxStatus::kNeighbour) break;
    ++finished;
  }
  endFrames();
  return finished;
}

TxStatus NetStack::reserve(Endpoint& base, const SockAddr& destination, uint32_t length, TxSlot& slot) {
  auto& endpoint = static_cast<StackEndpoint&>(base);
  if (length > kControlSlotLength) return TxStatus::kTooLong;
  const auto free = std::find_if(controlSlots_.begin(), controlSlots_.end(), [](const ControlSlot& each) { return !each.inUse; });
  if (free == controlSlots_.end()) return TxStatus::kWouldBlock;
  Path* path = controlPath(endpoint, destination);
  if (path == nullptr) {
    stats_.add(StackCounter::kPathTableFull);
    if (!device_->caps().kernelOwnsDevice) return TxStatus::kWouldBlock;
  } else {
    refreshPath(*path, endpoint);
    if (path->state == PathState::kDevice && length > path->maxPayload && !device_->caps().kernelOwnsDevice) {
      endpoint.stats.sendErrors.fetch_add(1, std::memory_order_relaxed);
      stats_.add(StackCounter::kTooLongSends);
      return TxStatus::kTooLong;
    }
    if (path->state == PathState::kNowhere) {
      endpoint.stats.sendErrors.fetch_add(1, std::memory_order_relaxed);
      stats_.add(StackCounter::kUnreachableSends);
      return TxStatus::kUnreachable;
    }
    if (path->state == PathState::kNeighbour && !mayAskKernel(*path, kAskIntervalNs)) {
      stats_.add(StackCounter::kNeighbourWaits);
      return TxStatus::kNeighbour;
    }
    if (path->state == PathState::kOurselves) {
      // In scratch memory, as for the kernel.
    } else if (path->state != PathState::kDevice || length > path->maxPayload ||
               (path->confirm && mayAskKernel(*path, kConfirmIntervalNs))) {
      path = nullptr;
    }
  }
  free->path = path;
  free->viaDevice = false;
  slot.data = free->bytes.data();
  slot.capacity = kControlSlotLength;
  slot.cookie = static_cast<uint64_t>(free - controlSlots_.begin());
  if (path != nullptr && path->state == PathState::kDevice && !controlInPlace_ &&
      path->header.length() + length <= device_->caps().transmitBufferLength) {
    // In place, in the device's buffer. One at a time: what is reserved behind it may be committed before it.
    if (device_->reserve({&free->frame, 1}) == 0) {
      device_->flush();
      if (device_->reserve({&free->frame, 1}) == 0) {
        stats_.add(StackCounter::kRingFull);
        return TxStatus::kWouldBlock;
      }
    }
    controlInPlace_ = true;
    free->viaDevice = true;
    slot.data = free->frame.data + path->header.length();
    slot.capacity = std::min(free->frame.capacity - path->header.length(), path->maxPayload);
  }
  free->inUse = true;
  return TxStatus::kPending;
}

TxStatus NetStack::commit(Endpoint& base, const SockAddr& destination, TxSlot& slot, uint32_t length) {
  auto& endpoint = static_cast<StackEndpoint&>(base);
  ControlSlot& control = controlSlots_[slot.cookie];
  if (length > slot.capacity) {
    abort(slot);
    return TxStatus::kTooLong;
  }
  TxStatus status = TxStatus::kSent;
  if (control.viaDevice) {
    TxFrame& frame = control.frame;
    frame.more = false;
    frame.segmentLength = 0;
    frame.checksumStart = 0;
    frame.checksumOffset = 0;
    frame.length = control.path->header.length() + length;
    frame.isIpv6 = control.path->header.isV6();
    if (device_->caps().transmitChecksum) {
      control.path->header.writeForOffload(frame, length);
    } else {
      control.path->header.write(frame.data, length, sumBytes(slot.data, length));
    }
    if (frame.length < packet::kMinFrameLength) {
      std::memset(frame.data + frame.length, 0, packet::kMinFrameLength - frame.length);
      frame.length = packet::kMinFrameLength;
    }
    commit({&frame, 1});
    device_->flush();
    stats_.add(StackCounter::kFramesSent);
    control.viaDevice = false;
    controlInPlace_ = false;
  } else if (control.path != nullptr && control.path->state == PathState::kOurselves) {
    deliverLocally(endpoint, *control.path, slot.data, length, 0);
  } else if (control.path != nullptr && control.path->state == PathState::kDevice && length <= control.path->maxPayload) {
    bank_.wanted = 1;
    if (const uint32_t pieces = piecesOf(control.path->header.length() + length); reserveFrames(pieces)) {
      buildFrame(*control.path, {bank_.frames.data(), pieces}, slot.data, length, 0);
      bank_.used = pieces;
    } else {
      stats_.add(StackCounter::kRingFull);
      status = TxStatus::kWouldBlock;
    }
    endFrames();
  } else {
    status = kernelSend(endpoint, destination, slot.data, length);
  }
  abort(slot);
  return status;
}

void NetStack::abort(TxSlot& slot) {
  if (slot.data == nullptr) return;
  ControlSlot& control = controlSlots_[slot.cookie];
  if (control.viaDevice) {
    device_->abort({&control.frame, 1});
    control.viaDevice = false;
    controlInPlace_ = false;
  }
  control.inUse = false;
  slot = {};
}

}  // namespace outrigger::io
