// SPDX-License-Identifier: Apache-2.0
// The ring of captured frames, and what a tap puts into it.
#include "io/capture/capture_tap.h"

#include <time.h>

#include <algorithm>
#include <new>

namespace outrigger::io {
namespace {

int64_t epochNanos() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<int64_t>(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
}

}  // namespace

uint8_t* CaptureRing::reserve(uint32_t length) {
  const uint32_t size = (static_cast<uint32_t>(sizeof(Record)) + length + kAlignment - 1) & ~(kAlignment - 1);
  uint64_t head = head_.load(std::memory_order_relaxed);
  const uint64_t tail = tail_.load(std::memory_order_acquire);
  const auto offset = static_cast<uint32_t>(head % kCapacity);
  const uint32_t toEnd = kCapacity - offset;
  // A record does not wrap: what is left at the end is filled, whatever its size, with the first fields of a record.
  const uint32_t filler = size > toEnd ? toEnd : 0;
  if (head + filler + size - tail > kCapacity) {
    dropped_.fetch_add(1, std::memory_order_relaxed);
    return nullptr;
  }
  if (filler > 0) {
    const uint32_t fields[2] = {filler, 1};
    std::memcpy(bytes_.get() + offset, fields, sizeof(fields));
    head += filler;
    head_.store(head, std::memory_order_release);
  }
  reservedAt_ = head;
  reservedSize_ = size;
  return bytes_.get() + head % kCapacity + sizeof(Record);
}

void CaptureRing::push(const CapturedFrame& frame) {
  uint8_t* at = bytes_.get() + reservedAt_ % kCapacity;
  auto* record = new (at) Record{reservedSize_, 0, frame};
  record->frame.data = at + sizeof(Record);
  seen_.fetch_add(1, std::memory_order_relaxed);
  head_.store(reservedAt_ + reservedSize_, std::memory_order_release);
}

bool CaptureRing::peek(CapturedFrame& frame) {
  for (;;) {
    const uint64_t tail = tail_.load(std::memory_order_relaxed);
    if (tail == head_.load(std::memory_order_acquire)) return false;
    const uint8_t* at = bytes_.get() + tail % kCapacity;
    uint32_t fields[2];
    std::memcpy(fields, at, sizeof(fields));
    if (fields[1] == 0) {
      frame = reinterpret_cast<const Record*>(at)->frame;
      return true;
    }
    tail_.store(tail + fields[0], std::memory_order_release);
  }
}

void CaptureRing::pop() {
  const uint64_t tail = tail_.load(std::memory_order_relaxed);
  uint32_t size = 0;
  std::memcpy(&size, bytes_.get() + tail % kCapacity, sizeof(size));
  tail_.store(tail + size, std::memory_order_release);
}

void CaptureTap::start(uint32_t snapLength) {
  if (ring_ == nullptr) ring_ = std::make_unique<CaptureRing>();
  CapturedFrame old;
  while (ring_->peek(old)) ring_->pop();
  snapLength_.store(snapLength, std::memory_order_relaxed);
  active_.store(ring_.get(), std::memory_order_release);
}

template <typename Frame>
void CaptureTap::copy(CaptureRing& ring, std::span<const Frame> pieces, CapturedFrame& frame) {
  frame.originalLength = 0;
  for (const Frame& piece : pieces) frame.originalLength += piece.length;
  frame.length = std::min(frame.originalLength, snapLength_.load(std::memory_order_relaxed));
  uint8_t* to = ring.reserve(frame.length);
  if (to == nullptr) return;
  uint32_t left = frame.length;
  for (const Frame& piece : pieces) {
    const uint32_t take = std::min(left, piece.length);
    std::memcpy(to, piece.data, take);
    to += take;
    left -= take;
  }
  ring.push(frame);
}

void CaptureTap::received(std::span<const RxFrame> frames) {
  CaptureRing* ring = active_.load(std::memory_order_acquire);
  if (ring == nullptr || frames.empty()) return;
  CapturedFrame frame;
  frame.timestampNs = epochNanos();
  for (size_t first = 0, end = 0; first < frames.size(); first = end) {
    for (end = first + 1; frames[end - 1].more && end < frames.size();) ++end;
    frame.checksumMissing = frames[first].checksum == RxChecksum::kPartial;
    frame.vlanPresent = frames[first].vlanPresent;
    frame.vlanTci = frames[first].vlanTci;
    frame.segmentLength = frames[first].segmentLength;
    copy(*ring, frames.subspan(first, end - first), frame);
  }
}

void CaptureTap::transmitted(std::span<const TxFrame> frames) {
  CaptureRing* ring = active_.load(std::memory_order_acquire);
  if (ring == nullptr || frames.empty()) return;
  CapturedFrame frame;
  frame.timestampNs = epochNanos();
  frame.outbound = true;
  for (size_t first = 0, end = 0; first < frames.size(); first = end) {
    for (end = first + 1; frames[end - 1].more && end < frames.size();) ++end;
    frame.checksumMissing = frames[first].checksumStart != 0;
    frame.segmentLength = frames[first].segmentLength;
    copy(*ring, frames.subspan(first, end - first), frame);
  }
}

}  // namespace outrigger::io
