// SPDX-License-Identifier: Apache-2.0
// Image: one publisher's stream as a subscription reads it from its log buffer. Polled by one thread; the conductor may close it at any
// time, and the memory stays mapped as long as the object lives.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <type_traits>

#include "client/driver_memory.h"
#include "client/fragment_assembler.h"

namespace outrigger::client {

struct ImageParams {
  std::shared_ptr<DriverMemory> memory;
  std::shared_ptr<LogMapping> mapping;
  int64_t correlationId = 0;
  int64_t subscriptionRegistrationId = 0;
  int32_t sessionId = 0;
  int32_t streamId = 0;
  int32_t subscriberPositionId = -1;
  int64_t* subscriberPosition = nullptr;
  std::string sourceIdentity;
  bool local = false;                               // IPC or spy: read from a publication's log
  bool reliable = true;                             // false: a PAD inside a term may stand for lost datagrams
  cnc::AgentId consumer = cnc::AgentId::kReceiver;  // the agent that waits for this image's consumption
};

// Why an image ended, as far as it can be seen from here.
enum class ImageEndReason : uint8_t { kNone, kEndOfStream, kTimedOut, kRevoked, kDriverLost, kClosed };

class Image {
 public:
  explicit Image(ImageParams params);
  Image(const Image&) = delete;
  Image& operator=(const Image&) = delete;

  int64_t correlationId() const { return params_.correlationId; }
  int64_t subscriptionRegistrationId() const { return params_.subscriptionRegistrationId; }
  int32_t sessionId() const { return params_.sessionId; }
  int32_t streamId() const { return params_.streamId; }
  int32_t termLength() const { return termLength_; }
  int32_t maxMessageLength() const { return logbuffer::maxMessageLength(termLength_); }
  const std::string& sourceIdentity() const { return params_.sourceIdentity; }
  int32_t subscriberPositionId() const { return params_.subscriberPositionId; }
  int64_t joinPosition() const { return joinPosition_; }
  bool isLocal() const { return params_.local; }
  bool isReliable() const { return params_.reliable; }
  bool isClosed() const { return closed_.load(std::memory_order_acquire); }
  ImageEndReason endReason() const { return endReason_.load(std::memory_order_acquire); }
  // Position up to which this subscription has consumed. Any thread.
  int64_t position() const { return position_.load(std::memory_order_relaxed); }
  int64_t endOfStreamPosition() const { return log_.getAcquire<int64_t>(logbuffer::meta::kEndOfStreamPosition); }
  bool isEndOfStream() const { return position() >= endOfStreamPosition(); }
  bool isRevoked() const { return log_.getAcquire<uint8_t>(logbuffer::meta::kIsPublicationRevoked) != 0; }
  // A frame length in the log was impossible: the image stands still for good.
  bool isDamaged() const { return damaged_.load(std::memory_order_relaxed); }

  // Poll thread. Calls handler(const uint8_t* data, int32_t length, const FragmentHeader&) for at most fragmentLimit fragments, never past
  // the end of a term; then moves the subscriber position once. The handler answers void or PollAction. Returns fragments consumed.
  template <typename Handler>
  int32_t poll(Handler&& handler, int32_t fragmentLimit) {
    return pollFrames(
        handler, [](int64_t, int32_t, bool) {}, fragmentLimit);
  }
  // The same with padHandler(startPosition, length, atTermEnd) for each PAD that is passed.
  template <typename Handler, typename PadHandler>
  int32_t pollFrames(Handler&& handler, PadHandler&& padHandler, int32_t fragmentLimit);
  // Whole messages: handler(data, length, header of the last fragment).
  template <typename Handler>
  int32_t pollMessages(Handler&& handler, int32_t fragmentLimit) {
    return poll(
        [&](const uint8_t* data, int32_t length, const FragmentHeader& header) {
          return assembler_.onFragment(data, length, header,
                                       [&](const uint8_t* message, int32_t messageLength, const FragmentHeader& last) {
                                         return invoke(handler, message, messageLength, last);
                                       });
        },
        fragmentLimit);
  }

  FragmentAssembler& assembler() { return assembler_; }

  // Poll thread. A committed frame stands at the position.
  bool hasWork() const {
    if (isClosed() || isDamaged()) return false;
    return frameAt(position()) > 0;
  }
  // Poll thread. Tells the driver agent of what was consumed, once that is enough to move its window or at the end of the stream.
  void ringConsumption() {
    const int64_t position = position_.load(std::memory_order_relaxed);
    if (position - rungPosition_ < ringThreshold_ && !(position > rungPosition_ && isEndOfStream())) return;
    rungPosition_ = position;
    params_.memory->bells().ringAgent(params_.consumer);
  }

  // Conductor. The first reason stands.
  void close(ImageEndReason reason);

  template <typename Handler>
  static PollAction invoke(Handler& handler, const uint8_t* data, int32_t length, const FragmentHeader& header) {
    if constexpr (std::is_void_v<std::invoke_result_t<Handler&, const uint8_t*, int32_t, const FragmentHeader&>>) {
      handler(data, length, header);
      return PollAction::kContinue;
    } else {
      return handler(data, length, header);
    }
  }

 private:
  int32_t frameAt(int64_t position) const {
    const int32_t offset = logbuffer::termOffsetFromPosition(position, termLength_);
    // At the start of a term the memory may not be there yet: see LogMapping::firstFrameLength.
    if (offset == 0) return params_.mapping->firstFrameLength(position);
    return logbuffer::frameLengthAcquire(log_.term(logbuffer::indexByPosition(position, log_.bits())) + offset);
  }

  ImageParams params_;
  logbuffer::LogBuffer log_;
  int32_t termLength_;
  int64_t joinPosition_ = 0;
  std::atomic<int64_t> position_{0};
  int64_t rungPosition_ = 0;
  int64_t ringThreshold_ = 0;
  FragmentAssembler assembler_;
  std::atomic<bool> closed_{false};
  std::atomic<bool> damaged_{false};
  std::atomic<ImageEndReason> endReason_{ImageEndReason::kNone};
};

template <typename Handler, typename PadHandler>
int32_t Image::pollFrames(Handler&& handler, PadHandler&& padHandler, int32_t fragmentLimit) {
  if (isClosed() || damaged_.load(std::memory_order_relaxed)) return 0;
  const int64_t initial = position_.load(std::memory_order_relaxed);
  int32_t offset = logbuffer::termOffsetFromPosition(initial, termLength_);
  if (offset == 0 && params_.mapping->firstFrameLength(initial) == 0) return 0;
  const int64_t termBegin = initial - offset;
  const uint8_t* term = log_.term(logbuffer::indexByPosition(initial, log_.bits()));
  int32_t fragments = 0;
  while (offset < termLength_ && fragments < fragmentLimit) {
    const uint8_t* frame = term + offset;
    const int32_t length = logbuffer::frameLengthAcquire(frame);
    if (length <= 0) break;
    if (length < wire::kDataHeaderLength || length > termLength_ - offset) {
      damaged_.store(true, std::memory_order_relaxed);
      break;
    }
    const int32_t start = offset;
    offset += wire::alignedFrameLength(length);
    if (wire::frameType(frame) == wire::FrameType::kPad) {
      padHandler(termBegin + start, offset - start, offset >= termLength_);
      continue;
    }
    ++fragments;
    const FragmentHeader header{frame, termBegin + start, termBegin + offset, wire::frameFlags(frame), this};
    const PollAction action = invoke(handler, frame + wire::kDataHeaderLength, length - wire::kDataHeaderLength, header);
    if (action == PollAction::kContinue) continue;
    if (action == PollAction::kAbort) {
      offset = start;
      --fragments;
    }
    break;
  }
  const int64_t next = termBegin + offset;
  if (next > initial) {
    position_.store(next, std::memory_order_relaxed);
    // A closed image's counter may belong to somebody else by now.
    if (!isClosed()) storeRelease<int64_t>(params_.subscriberPosition, next);
  }
  return fragments;
}

}  // namespace outrigger::client
