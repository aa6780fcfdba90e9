// SPDX-License-Identifier: Apache-2.0
// The to-driver command ring of cnc.dat: many client processes produce, the conductor consumes (Aeron many-to-one ring layout).
#pragma once

#include <cstdint>
#include <cstring>

#include "base/shared_memory.h"
#include "cnc/cnc_file.h"

namespace outrigger::cnc {

class MpscRing {
 public:
  static constexpr int32_t kRecordHeaderLength = 8;  // int32 length (negative while claimed), int32 type
  static constexpr int32_t kAlignment = 8;
  static constexpr int32_t kPaddingType = -1;

  MpscRing() = default;
  explicit MpscRing(Region region) : buffer_(region.data), capacity_(static_cast<int64_t>(region.length - kRingTrailerLength)) {}

  int64_t capacity() const { return capacity_; }
  int32_t maxMessageLength() const { return static_cast<int32_t>(capacity_ / 8); }

  // Any thread of any process. False when the ring is full or the message too long.
  bool write(int32_t type, const void* message, int32_t length) {
    if (type < 1 || length < 0 || length > maxMessageLength()) return false;
    const int32_t recordLength = length + kRecordHeaderLength;
    const int64_t required = alignUp<int64_t>(recordLength, kAlignment);
    const int64_t index = claim(required);
    if (index < 0) return false;
    uint8_t* record = buffer_ + index;
    storeRelease<int32_t>(record, -recordLength);
    std::memcpy(record + kRecordHeaderLength, message, static_cast<size_t>(length));
    writeAt<int32_t>(record, 4, type);
    storeRelease<int32_t>(record, recordLength);
    return true;
  }

  // Conductor. handler(type, const uint8_t* message, int32_t length); returns the number of messages. A record with an impossible
  // length is hostile or damaged: the ring is skipped to its tail and `corrupted` counts one.
  template <typename Handler>
  int32_t read(Handler&& handler, int32_t limit, int64_t& corrupted) {
    const int64_t head = loadRelaxed<int64_t>(trailer(kHead));
    const int64_t headIndex = head & (capacity_ - 1);
    const int64_t contiguous = capacity_ - headIndex;
    int64_t bytes = 0;
    int32_t messages = 0;
    while (bytes < contiguous && messages < limit) {
      uint8_t* record = buffer_ + headIndex + bytes;
      const int32_t recordLength = loadAcquire<int32_t>(record);
      if (recordLength <= 0) break;
      const int64_t aligned = alignUp<int64_t>(recordLength, kAlignment);
      if (recordLength < kRecordHeaderLength || aligned > contiguous - bytes) {
        ++corrupted;
        skipToTail();
        return messages;
      }
      const auto type = readAt<int32_t>(record, 4);
      bytes += aligned;
      if (type == kPaddingType) continue;
      ++messages;
      handler(type, static_cast<const uint8_t*>(record) + kRecordHeaderLength, recordLength - kRecordHeaderLength);
    }
    if (bytes > 0) {
      std::memset(buffer_ + headIndex, 0, static_cast<size_t>(bytes));
      storeRelease<int64_t>(trailer(kHead), head + bytes);
    }
    return messages;
  }

  // Conductor. After the head has stood still for the unblock timeout while the tail is beyond it: turns a dead client's claim into
  // padding. True when something was unblocked.
  bool unblock() {
    const int64_t head = loadAcquire<int64_t>(trailer(kHead));
    const int64_t tail = loadAcquire<int64_t>(trailer(kTail));
    if (head == tail) return false;
    const int64_t headIndex = head & (capacity_ - 1);
    const int64_t available = tail - head;
    uint8_t* record = buffer_ + headIndex;
    const int32_t length = loadAcquire<int32_t>(record);
    if (length < 0) {
      int64_t claimed = alignUp<int64_t>(-static_cast<int64_t>(length), kAlignment);
      if (claimed > capacity_ - headIndex) claimed = capacity_ - headIndex;
      writeAt<int32_t>(record, 4, kPaddingType);
      storeRelease<int32_t>(record, static_cast<int32_t>(claimed));
      return true;
    }
    if (length > 0) return false;
    const int64_t limit = headIndex + available < capacity_ ? headIndex + available : capacity_;
    int64_t end = headIndex + kAlignment;
    while (end < limit && loadAcquire<int32_t>(buffer_ + end) == 0) end += kAlignment;
    for (int64_t at = end - kAlignment; at >= headIndex; at -= kAlignment) {
      if (loadAcquire<int32_t>(buffer_ + at) != 0) return false;
    }
    writeAt<int32_t>(record, 4, kPaddingType);
    storeRelease<int32_t>(record, static_cast<int32_t>(end - headIndex));
    return true;
  }

  int64_t nextCorrelationId() { return fetchAdd<int64_t>(trailer(kCorrelation), 1); }
  int64_t consumerHeartbeatMs() const { return loadAcquire<int64_t>(trailer(kHeartbeat)); }
  void consumerHeartbeatMs(int64_t value) { storeRelease<int64_t>(trailer(kHeartbeat), value); }
  int64_t consumerPosition() const { return loadAcquire<int64_t>(trailer(kHead)); }
  int64_t producerPosition() const { return loadAcquire<int64_t>(trailer(kTail)); }

 private:
  static constexpr size_t kTail = 128;
  static constexpr size_t kHeadCache = 256;
  static constexpr size_t kHead = 384;
  static constexpr size_t kCorrelation = 512;
  static constexpr size_t kHeartbeat = 640;

  uint8_t* trailer(size_t offset) const { return buffer_ + capacity_ + offset; }

  int64_t claim(int64_t required) {
    const int64_t mask = capacity_ - 1;
    int64_t head = loadAcquire<int64_t>(trailer(kHeadCache));
    for (;;) {
      const int64_t tail = loadAcquire<int64_t>(trailer(kTail));
      if (required > capacity_ - (tail - head)) {
        head = loadAcquire<int64_t>(trailer(kHead));
        if (required > capacity_ - (tail - head)) return -1;
        storeRelease<int64_t>(trailer(kHeadCache), head);
      }
      const int64_t tailIndex = tail & mask;
      const int64_t toEnd = capacity_ - tailIndex;
      int64_t padding = 0;
      if (required > toEnd) {
        int64_t headIndex = head & mask;
        if (required > headIndex) {
          head = loadAcquire<int64_t>(trailer(kHead));
          headIndex = head & mask;
          if (required > headIndex) return -1;
          storeRelease<int64_t>(trailer(kHeadCache), head);
        }
        padding = toEnd;
      }
      if (!compareAndSet<int64_t>(trailer(kTail), tail, tail + required + padding)) continue;
      if (padding == 0) return tailIndex;
      uint8_t* record = buffer_ + tailIndex;
      storeRelease<int32_t>(record, static_cast<int32_t>(-padding));
      writeAt<int32_t>(record, 4, kPaddingType);
      storeRelease<int32_t>(record, static_cast<int32_t>(padding));
      return 0;
    }
  }

  // Everything in the ring is lost; producers go on behind it. The tail is theirs to write, so it may be a lie as well: it is cut to the
  // alignment of records, and whatever it says becomes the new head.
  void skipToTail() {
    int64_t tail = loadAcquire<int64_t>(trailer(kTail));
    while (tail % kAlignment != 0 || tail < 0) {
      const int64_t aligned = tail < 0 ? 0 : alignUp<int64_t>(tail & ~(int64_t{1} << 62), kAlignment);
      if (compareAndSet<int64_t>(trailer(kTail), tail, aligned)) {
        tail = aligned;
        break;
      }
      tail = loadAcquire<int64_t>(trailer(kTail));
    }
    std::memset(buffer_, 0, static_cast<size_t>(capacity_));
    storeRelease<int64_t>(trailer(kHeadCache), tail);
    storeRelease<int64_t>(trailer(kHead), tail);
  }

  uint8_t* buffer_ = nullptr;
  int64_t capacity_ = 0;
};

}  // namespace outrigger::cnc
