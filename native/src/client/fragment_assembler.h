// SPDX-License-Identifier: Apache-2.0
// Puts the fragments of one image's messages back together. One thread, one image. Reuses its buffer, so that it stops allocating once the
// longest message has been seen; that is bounded by the maximum message length of the log.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>

#include "wire/frames.h"

namespace outrigger::client {

class Image;

// A frame, or the last fragment of a message, as handlers see it.
struct FragmentHeader {
  const uint8_t* frame;   // 32-byte DATA header in the term
  int64_t startPosition;  // of this frame
  int64_t position;       // after this frame: the stream position once it is consumed
  uint8_t flags;
  Image* image;

  int32_t sessionId() const { return readAt<int32_t>(frame, offsetof(wire::DataHeader, sessionId)); }
  int32_t streamId() const { return readAt<int32_t>(frame, offsetof(wire::DataHeader, streamId)); }
  int64_t reservedValue() const { return readAt<int64_t>(frame, offsetof(wire::DataHeader, reservedValue)); }
};

// What a handler may answer; a void handler means kContinue.
enum class PollAction : uint8_t {
  kContinue,
  kBreak,  // consumed; stop polling
  kAbort,  // not consumed: the next poll shows it again
};

class FragmentAssembler {
 public:
  explicit FragmentAssembler(int32_t maxMessageLength) : maxLength_(static_cast<uint32_t>(maxMessageLength)) {}

  // Calls handler(data, length, header) for each whole message. A message with a fragment missing is dropped and counted: that only
  // happens on unreliable streams and when an image is joined in the middle of a message.
  template <typename Handler>
  PollAction onFragment(const uint8_t* data, int32_t length, const FragmentHeader& header, Handler&& handler) {
    if ((header.flags & wire::kFlagUnfragmented) == wire::kFlagUnfragmented) {
      abandon();
      return handler(data, length, header);
    }
    if ((header.flags & wire::kFlagBegin) != 0) {
      abandon();
      building_ = append(data, length);
      expected_ = header.position;
      return PollAction::kContinue;
    }
    if (!building_) return PollAction::kContinue;
    if (header.startPosition != expected_) {
      abandon();
      return PollAction::kContinue;
    }
    if ((header.flags & wire::kFlagEnd) == 0) {
      if (!append(data, length)) abandon();
      expected_ = header.position;
      return PollAction::kContinue;
    }
    const uint32_t before = length_;
    if (!append(data, length)) {
      abandon();
      return PollAction::kContinue;
    }
    const PollAction action = handler(static_cast<const uint8_t*>(buffer_.get()), static_cast<int32_t>(length_), header);
    if (action == PollAction::kAbort) {
      length_ = before;  // the last fragment comes again
    } else {
      building_ = false;
      length_ = 0;
    }
    return action;
  }

  // True between the first and the last fragment of a message.
  bool isBuilding() const { return building_; }
  uint64_t dropped() const { return dropped_; }

 private:
  void abandon() {
    if (building_) ++dropped_;
    building_ = false;
    length_ = 0;
  }
  bool append(const uint8_t* data, int32_t length) {
    const uint32_t needed = length_ + static_cast<uint32_t>(length);
    if (needed > maxLength_) return false;
    if (needed > capacity_) grow(needed);
    std::memcpy(buffer_.get() + length_, data, static_cast<size_t>(length));
    length_ = needed;
    return true;
  }
  void grow(uint32_t needed) {
    uint32_t capacity = capacity_ == 0 ? 4096 : capacity_;
    while (capacity < needed) capacity *= 2;
    std::unique_ptr<uint8_t[]> bigger(new uint8_t[capacity]);
    if (length_ > 0) std::memcpy(bigger.get(), buffer_.get(), length_);
    buffer_ = std::move(bigger);
    capacity_ = capacity;
  }

  std::unique_ptr<uint8_t[]> buffer_;
  uint32_t capacity_ = 0;
  uint32_t length_ = 0;
  uint32_t maxLength_;
  int64_t expected_ = 0;
  bool building_ = false;
  uint64_t dropped_ = 0;
};

}  // namespace outrigger::client
