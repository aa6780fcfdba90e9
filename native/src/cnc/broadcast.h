// SPDX-License-Identifier: Apache-2.0
// The to-clients broadcast buffer of cnc.dat: the conductor transmits, every client reads all and drops what is not for it.
#pragma once

#include <cstdint>
#include <cstring>

#include "base/shared_memory.h"
#include "cnc/cnc_file.h"

namespace outrigger::cnc {

namespace broadcast {
constexpr int32_t kRecordHeaderLength = 8;
constexpr int32_t kAlignment = 8;
constexpr int32_t kPaddingType = -1;
constexpr size_t kTailIntent = 0;
constexpr size_t kTail = 8;
constexpr size_t kLatest = 16;
}  // namespace broadcast

class BroadcastTransmitter {
 public:
  BroadcastTransmitter() = default;
  explicit BroadcastTransmitter(Region region)
      : buffer_(region.data), capacity_(static_cast<int64_t>(region.length - kBroadcastTrailerLength)) {}

  int32_t maxMessageLength() const { return static_cast<int32_t>(capacity_ / 8); }

  // Conductor only. False when the message is longer than the buffer allows.
  bool transmit(int32_t type, const void* message, int32_t length) {
    using namespace broadcast;
    if (length < 0 || length > maxMessageLength()) return false;
    int64_t tail = loadRelaxed<int64_t>(trailer(kTail));
    int64_t index = tail & (capacity_ - 1);
    const int32_t recordLength = length + kRecordHeaderLength;
    const int64_t aligned = alignUp<int64_t>(recordLength, kAlignment);
    const int64_t toEnd = capacity_ - index;
    const int64_t padding = toEnd < aligned ? toEnd : 0;
    storeRelease<int64_t>(trailer(kTailIntent), tail + padding + aligned);
    fullFence();
    if (padding > 0) {
      writeAt<int32_t>(buffer_, static_cast<size_t>(index), static_cast<int32_t>(padding));
      writeAt<int32_t>(buffer_, static_cast<size_t>(index) + 4, kPaddingType);
      tail += padding;
      index = 0;
    }
    writeAt<int32_t>(buffer_, static_cast<size_t>(index), recordLength);
    writeAt<int32_t>(buffer_, static_cast<size_t>(index) + 4, type);
    std::memcpy(buffer_ + index + kRecordHeaderLength, message, static_cast<size_t>(length));
    storeRelaxed<int64_t>(trailer(kLatest), tail);
    storeRelease<int64_t>(trailer(kTail), tail + aligned);
    return true;
  }

 private:
  uint8_t* trailer(size_t offset) const { return buffer_ + capacity_ + offset; }

  uint8_t* buffer_ = nullptr;
  int64_t capacity_ = 0;
};

class BroadcastReceiver {
 public:
  BroadcastReceiver() = default;
  // Starts at the current tail: a client has no interest in what was said before it came.
  explicit BroadcastReceiver(Region region)
      : buffer_(region.data), capacity_(static_cast<int64_t>(region.length - kBroadcastTrailerLength)) {
    next_ = loadAcquire<int64_t>(trailer(broadcast::kTail));
  }

  enum class Status : uint8_t { kNothing, kMessage, kLapped };

  bool hasNext() const { return next_ < loadAcquire<int64_t>(trailer(broadcast::kTail)); }

  // Copies the next message into `out` (capacity bytes). kLapped: the transmitter overtook this reader and messages are lost; the
  // client must treat its state as unknown (in practice: close and reconnect).
  Status receive(int32_t& type, uint8_t* out, int32_t outCapacity, int32_t& length) {
    using namespace broadcast;
    for (;;) {
      const int64_t tail = loadAcquire<int64_t>(trailer(kTail));
      if (next_ >= tail) return Status::kNothing;
      if (overtaken(next_)) return lapped();
      const int64_t index = next_ & (capacity_ - 1);
      if (index % kAlignment != 0) return lapped();
      const auto recordLength = loadRelaxed<int32_t>(buffer_ + index);
      type = loadRelaxed<int32_t>(buffer_ + index + 4);
      const int64_t aligned = alignUp<int64_t>(recordLength, kAlignment);
      if (recordLength < kRecordHeaderLength || aligned > capacity_ - index) return lapped();
      if (type == kPaddingType) {
        // Padding only ever fills the end of the buffer; any other would let a damaged tail hold this loop for ever.
        if (overtaken(next_) || aligned != capacity_ - index) return lapped();
        next_ += aligned;
        continue;
      }
      length = recordLength - kRecordHeaderLength;
      if (length > outCapacity) return lapped();
      std::memcpy(out, buffer_ + index + kRecordHeaderLength, static_cast<size_t>(length));
      if (overtaken(next_)) return lapped();
      next_ += aligned;
      return Status::kMessage;
    }
  }

 private:
  uint8_t* trailer(size_t offset) const { return buffer_ + capacity_ + offset; }
  bool overtaken(int64_t cursor) const {
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    return cursor + capacity_ < loadAcquire<int64_t>(trailer(broadcast::kTailIntent));
  }
  Status lapped() {
    next_ = loadAcquire<int64_t>(trailer(broadcast::kLatest));
    return Status::kLapped;
  }

  uint8_t* buffer_ = nullptr;
  int64_t capacity_ = 0;
  int64_t next_ = 0;
};

}  // namespace outrigger::cnc
