// SPDX-License-Identifier: Apache-2.0
// Layout of a log buffer file (three terms, then 4096 bytes of metadata, padded to the page size) and position arithmetic.
// Source: Aeron log buffer descriptor, as of 1.52. Offsets are the shared-memory contract with every Aeron client.
#pragma once

#include <cstdint>

#include "base/shared_memory.h"
#include "wire/frames.h"

namespace outrigger::logbuffer {

constexpr int32_t kPartitionCount = 3;
constexpr int32_t kMetadataLength = 4096;
constexpr int32_t kMinTermLength = 64 * 1024;
constexpr int32_t kMaxTermLength = 1024 * 1024 * 1024;
constexpr int32_t kMinPageSize = 4 * 1024;
constexpr int32_t kMaxPageSize = 1024 * 1024 * 1024;
constexpr int32_t kMaxMessageLengthCap = 16 * 1024 * 1024;

// Metadata offsets, from the start of the metadata section.
namespace meta {
constexpr size_t kTailCounters = 0;  // int64[3]: term_id << 32 | offset
constexpr size_t kActiveTermCount = 24;
constexpr size_t kEndOfStreamPosition = 128;
constexpr size_t kIsConnected = 136;
constexpr size_t kActiveTransportCount = 140;
constexpr size_t kCorrelationId = 256;
constexpr size_t kInitialTermId = 264;
constexpr size_t kDefaultFrameHeaderLength = 268;
constexpr size_t kMtu = 272;
constexpr size_t kTermLength = 276;
constexpr size_t kPageSize = 280;
constexpr size_t kPublicationWindow = 284;
constexpr size_t kReceiverWindow = 288;
constexpr size_t kSocketSendBuffer = 292;
constexpr size_t kOsDefaultSendBuffer = 296;
constexpr size_t kOsMaxSendBuffer = 300;
constexpr size_t kSocketReceiveBuffer = 304;
constexpr size_t kOsDefaultReceiveBuffer = 308;
constexpr size_t kOsMaxReceiveBuffer = 312;
constexpr size_t kMaxResend = 316;
constexpr size_t kDefaultHeader = 320;  // 128 bytes
constexpr size_t kEntityTag = 448;
constexpr size_t kResponseCorrelationId = 456;
constexpr size_t kLingerNs = 464;
constexpr size_t kUntetheredWindowLimitNs = 472;
constexpr size_t kUntetheredRestingNs = 480;
constexpr size_t kGroup = 488;
constexpr size_t kIsResponse = 489;
constexpr size_t kRejoin = 490;
constexpr size_t kReliable = 491;
constexpr size_t kSparse = 492;
constexpr size_t kSignalEos = 493;
constexpr size_t kSpiesSimulateConnection = 494;
constexpr size_t kTether = 495;
constexpr size_t kIsPublicationRevoked = 496;
constexpr size_t kType = 497;  // LogType
constexpr size_t kUntetheredLingerNs = 500;
}  // namespace meta

enum class LogType : uint8_t { kConcurrentPublication = 0, kExclusivePublication = 1, kImage = 2 };

constexpr uint64_t logFileLength(int32_t termLength, int32_t pageSize) {
  return alignUp<uint64_t>(static_cast<uint64_t>(termLength) * kPartitionCount + kMetadataLength, static_cast<uint64_t>(pageSize));
}
constexpr uint64_t metadataOffset(int32_t termLength) { return static_cast<uint64_t>(termLength) * kPartitionCount; }

constexpr int32_t positionBitsToShift(int32_t termLength) {
  int32_t bits = 0;
  while ((int64_t{1} << bits) < termLength) ++bits;
  return bits;
}
// Wrapping subtraction and addition of term ids (they are counted modulo 2^32).
constexpr int32_t termDelta(int32_t termId, int32_t initialTermId) {
  return static_cast<int32_t>(static_cast<uint32_t>(termId) - static_cast<uint32_t>(initialTermId));
}
constexpr int32_t termAdd(int32_t termId, int32_t delta) {
  return static_cast<int32_t>(static_cast<uint32_t>(termId) + static_cast<uint32_t>(delta));
}
constexpr int64_t computePosition(int32_t termId, int32_t termOffset, int32_t bits, int32_t initialTermId) {
  return (static_cast<int64_t>(termDelta(termId, initialTermId)) << bits) + termOffset;
}
constexpr int32_t termIdFromPosition(int64_t position, int32_t bits, int32_t initialTermId) {
  return termAdd(static_cast<int32_t>(position >> bits), 0 + initialTermId);
}
constexpr int32_t indexByPosition(int64_t position, int32_t bits) { return static_cast<int32_t>((position >> bits) % kPartitionCount); }
constexpr int32_t indexByTermCount(int64_t termCount) { return static_cast<int32_t>(termCount % kPartitionCount); }
constexpr int32_t termOffsetFromPosition(int64_t position, int32_t termLength) {
  return static_cast<int32_t>(position & (static_cast<int64_t>(termLength) - 1));
}
constexpr int64_t maxPossiblePosition(int32_t termLength) { return static_cast<int64_t>(termLength) << 31; }
constexpr int32_t maxMessageLength(int32_t termLength) {
  return termLength / 8 < kMaxMessageLengthCap ? termLength / 8 : kMaxMessageLengthCap;
}
constexpr int64_t packTail(int32_t termId, int32_t offset) {
  return static_cast<int64_t>((static_cast<uint64_t>(static_cast<uint32_t>(termId)) << 32) | static_cast<uint32_t>(offset));
}
constexpr int32_t tailTermId(int64_t rawTail) { return static_cast<int32_t>(rawTail >> 32); }
// The offset may overrun the term length after a trip (concurrent publications); clamp it.
constexpr int32_t tailOffset(int64_t rawTail, int32_t termLength) {
  const int64_t offset = rawTail & 0xFFFFFFFFLL;
  return static_cast<int32_t>(offset < termLength ? offset : termLength);
}
constexpr bool isValidTermLength(int64_t value) { return value >= kMinTermLength && value <= kMaxTermLength && isPowerOfTwo(value); }
constexpr bool isValidMtu(int64_t mtu) {
  return mtu > wire::kDataHeaderLength && mtu <= wire::kMaxUdpPayloadLength && mtu % wire::kFrameAlignment == 0;
}

// A mapped log buffer seen as three terms and metadata. Does not own the memory. termLength is validated by whoever makes it,
// never re-read from the shared metadata.
class LogBuffer {
 public:
  LogBuffer() = default;
  // fileLength: of the mapped file. The metadata is its last 4096 bytes, which is not right behind the terms when the file is padded to
  // a page size above 4 KiB. 0: a file of 4 KiB pages.
  LogBuffer(uint8_t* base, int32_t termLength, uint64_t fileLength = 0)
      : base_(base),
        metadata_(base + (fileLength == 0 ? metadataOffset(termLength) : fileLength - kMetadataLength)),
        termLength_(termLength),
        bits_(positionBitsToShift(termLength)) {}

  uint8_t* term(int32_t index) const { return base_ + static_cast<uint64_t>(termLength_) * static_cast<uint64_t>(index); }
  uint8_t* metadata() const { return metadata_; }
  int32_t termLength() const { return termLength_; }
  int32_t bits() const { return bits_; }
  uint8_t* atPosition(int64_t position) const {
    return term(indexByPosition(position, bits_)) + termOffsetFromPosition(position, termLength_);
  }

  template <typename T>
  T get(size_t offset) const {
    return loadRelaxed<T>(metadata() + offset);
  }
  template <typename T>
  T getAcquire(size_t offset) const {
    return loadAcquire<T>(metadata() + offset);
  }
  template <typename T>
  void put(size_t offset, T value) const {
    storeRelaxed<T>(metadata() + offset, value);
  }
  template <typename T>
  void putRelease(size_t offset, T value) const {
    storeRelease<T>(metadata() + offset, value);
  }
  uint8_t* tailAddress(int32_t index) const { return metadata() + meta::kTailCounters + 8 * static_cast<size_t>(index); }
  uint8_t* activeTermCountAddress() const { return metadata() + meta::kActiveTermCount; }

  // Tail counters for a log that starts at initialTermId, or (activeTermId, offset) for a publication with an initial position.
  void initialiseTails(int32_t initialTermId, int32_t activeTermId, int32_t termOffset) const {
    const int32_t termCount = termDelta(activeTermId, initialTermId);
    const int32_t activeIndex = indexByTermCount(termCount);
    putRelease<int64_t>(meta::kTailCounters + 8 * static_cast<size_t>(activeIndex), packTail(activeTermId, termOffset));
    for (int32_t i = 1; i < kPartitionCount; ++i) {
      const int32_t index = (activeIndex + i) % kPartitionCount;
      put<int64_t>(meta::kTailCounters + 8 * static_cast<size_t>(index), packTail(termAdd(activeTermId, i - kPartitionCount), 0));
    }
    putRelease<int32_t>(meta::kActiveTermCount, termCount);
  }

  // Producer position from the tail counters (concurrent: the raw tail, clamped).
  int64_t producerPosition(int32_t initialTermId) const {
    const int32_t count = getAcquire<int32_t>(meta::kActiveTermCount);
    const int32_t index = indexByTermCount(static_cast<int64_t>(static_cast<uint32_t>(count)));
    const int64_t rawTail = loadAcquire<int64_t>(tailAddress(index));
    return computePosition(tailTermId(rawTail), tailOffset(rawTail, termLength_), bits_, initialTermId);
  }

  // Moves the log to the next term: sets the next tail, then the active term count. Safe to race: one CAS wins. True for the winner.
  bool rotate(int32_t currentTermCount, int32_t currentTermId) const {
    const int32_t nextTermId = termAdd(currentTermId, 1);
    const int32_t nextTermCount = termAdd(currentTermCount, 1);
    uint8_t* nextTail = tailAddress(indexByTermCount(static_cast<int64_t>(static_cast<uint32_t>(nextTermCount))));
    const int32_t expectedTermId = termAdd(nextTermId, -kPartitionCount);
    int64_t raw = loadAcquire<int64_t>(nextTail);
    while (tailTermId(raw) == expectedTermId) {
      if (compareAndSet<int64_t>(nextTail, raw, packTail(nextTermId, 0))) break;
      raw = loadAcquire<int64_t>(nextTail);
    }
    return compareAndSet<int32_t>(activeTermCountAddress(), currentTermCount, nextTermCount);
  }

 private:
  uint8_t* base_ = nullptr;
  uint8_t* metadata_ = nullptr;
  int32_t termLength_ = 0;
  int32_t bits_ = 0;
};

// frame_length of a frame in a term: <0 claimed, 0 not written, >0 committed. Acquire: what follows is then visible.
inline int32_t frameLengthAcquire(const uint8_t* frame) { return loadAcquire<int32_t>(frame); }
inline void frameLengthRelease(uint8_t* frame, int32_t length) { storeRelease<int32_t>(frame, length); }

}  // namespace outrigger::logbuffer
