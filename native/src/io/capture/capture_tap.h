// SPDX-License-Identifier: Apache-2.0
// CaptureTap: where a NetStack lets its frames be seen, those that came and those that go, on request. The stack's thread copies them into a
// bounded ring while somebody reads, and never waits: what finds no room is counted. Any thread may start, read and stop; one reader at a time.
// What a frame becomes in a file is frame_expander's and pcapng's.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <span>
#include <string>

#include "io/frame/frame_io.h"

namespace outrigger::io {

// A frame as it was seen. `data` is shorter than `originalLength` when it was cut.
struct CapturedFrame {
  int64_t timestampNs = 0;  // since 1970
  const uint8_t* data = nullptr;
  uint32_t length = 0;
  uint32_t originalLength = 0;
  bool outbound = false;
  bool checksumMissing = false;  // the UDP checksum is left to the device (sent), or was never computed (received)
  bool vlanPresent = false;      // the tag was taken out by the device
  uint16_t vlanTci = 0;
  uint16_t segmentLength = 0;  // payload bytes of each datagram of a train; 0: one datagram
};

// Bytes of records between one writer and one reader.
class CaptureRing {
 public:
  // 64 of the longest trains, or 20 ms of 10 GbE's full frames: the reader's naps fit in.
  static constexpr uint32_t kCapacity = 8u << 20;

  CaptureRing() : bytes_(std::make_unique<uint8_t[]>(kCapacity)) {}

  // Writer. Room for `length` bytes of a frame, or null and counted as dropped. The record is not seen before push.
  uint8_t* reserve(uint32_t length);
  void push(const CapturedFrame& frame);

  // Reader. The oldest frame; false when there is none. Its bytes are valid until pop.
  bool peek(CapturedFrame& frame);
  void pop();

  int64_t seen() const { return seen_.load(std::memory_order_relaxed); }
  int64_t dropped() const { return dropped_.load(std::memory_order_relaxed); }

 private:
  struct Record {
    uint32_t size = 0;  // of the whole record; the frame's bytes follow this header
    uint32_t skip = 0;  // 1: nothing but a filler up to the end of the memory
    CapturedFrame frame;
  };
  static constexpr uint32_t kAlignment = 16;

  std::unique_ptr<uint8_t[]> bytes_;
  alignas(64) std::atomic<uint64_t> head_{0};  // writer's
  uint64_t reservedAt_ = 0;
  uint32_t reservedSize_ = 0;
  std::atomic<int64_t> seen_{0};
  std::atomic<int64_t> dropped_{0};
  alignas(64) std::atomic<uint64_t> tail_{0};  // reader's
};

class CaptureTap {
 public:
  CaptureTap(std::string interface, std::string description) : interface_(std::move(interface)), description_(std::move(description)) {}

  const std::string& interface() const { return interface_; }
  const std::string& description() const { return description_; }

  // --- any thread ---
  // From now on frames are copied, `snapLength` bytes of each at most. What is left from a capture before is thrown away.
  void start(uint32_t snapLength);
  void stop() { active_.store(nullptr, std::memory_order_release); }
  // After the first start. Its counts grow over all captures.
  CaptureRing& ring() { return *ring_; }

  // --- the stack's thread ---
  bool active() const { return active_.load(std::memory_order_relaxed) != nullptr; }
  void received(std::span<const RxFrame> frames);
  void transmitted(std::span<const TxFrame> frames);

 private:
  // One frame in one or several pieces.
  template <typename Frame>
  void copy(CaptureRing& ring, std::span<const Frame> pieces, CapturedFrame& frame);

  std::string interface_;
  std::string description_;
  // Made once and kept: the stack's thread may be writing to it when a capture ends.
  std::unique_ptr<CaptureRing> ring_;
  std::atomic<uint32_t> snapLength_{0};
  std::atomic<CaptureRing*> active_{nullptr};
};

}  // namespace outrigger::io
