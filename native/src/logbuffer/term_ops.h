// SPDX-License-Identifier: Apache-2.0
// Operations of the driver on a term: insert received frames, find gaps, fill gaps, unblock a dead publisher's claim, cut trains.
// (Appending is the client's: client/publication.)
#pragma once

#include <algorithm>
#include <cstdint>

#include "logbuffer/descriptor.h"
#include "logbuffer/frame_stamps.h"

namespace outrigger::logbuffer {

// Receiver thread. Inserts one validated datagram (one or several contiguous frames; a PAD with its header only) at termOffset.
// Frames that stand already are left alone (a duplicate), so a reader never sees bytes change under it.
inline void insertFrames(uint8_t* term, int32_t termOffset, const uint8_t* packet, int32_t length) {
  int32_t offset = 0;
  while (offset < length) {
    const uint8_t* frame = packet + offset;
    const int32_t declared = wire::frameLength(frame);
    const bool pad = wire::frameType(frame) == wire::FrameType::kPad;
    const int32_t stored = pad ? wire::kDataHeaderLength : std::min(wire::alignedFrameLength(declared), length - offset);
    uint8_t* destination = term + termOffset + offset;
    if (loadRelaxed<int32_t>(destination) == 0) {
      std::memcpy(destination + 8, frame + 8, static_cast<size_t>(stored - 8));
      std::memcpy(destination + 4, frame + 4, 4);
      frameLengthRelease(destination, declared);
    }
    offset += stored;
  }
}

// Receiver thread. One memcpy for a whole run of contiguous datagrams whose place was never written (packet position >= high-water
// mark): a reader walks frame by frame, so it cannot pass the first frame before its length is released. Times are written before that.
inline void insertFreshRun(uint8_t* term, int32_t termOffset, const uint8_t* run, int32_t length, std::span<const FrameStamp> stamps = {}) {
  uint8_t* destination = term + termOffset;
  std::memcpy(destination + 4, run + 4, static_cast<size_t>(length - 4));
  stampFrames(run, destination, length, stamps);
  frameLengthRelease(destination, wire::frameLength(run));
}

// Offset of the first frame at or after `offset` that is not committed, up to `limit` (both in the term).
inline int32_t scanContiguous(const uint8_t* term, int32_t offset, int32_t limit) {
  while (offset < limit) {
    const int32_t length = frameLengthAcquire(term + offset);
    if (length <= 0) break;
    const int32_t next = offset + wire::alignedFrameLength(length);
    if (next <= offset) break;
    offset = next;
  }
  return std::min(offset, limit);
}

// First gap in [offset, limit): returns its start, and its length by reference (0: none). Steps 32 bytes inside a hole.
inline int32_t findGap(const uint8_t* term, int32_t offset, int32_t limit, int32_t& gapLength) {
  const int32_t begin = scanContiguous(term, offset, limit);
  int32_t end = begin;
  while (end < limit && frameLengthAcquire(term + end) == 0) end += wire::kFrameAlignment;
  gapLength = end - begin;
  return begin;
}

// Fills [offset, offset+length) of an unreliable image with a PAD. False when a frame has arrived meanwhile.
inline bool fillGap(uint8_t* term, int32_t termOffset, int32_t length, int32_t sessionId, int32_t streamId, int32_t termId) {
  for (int32_t at = termOffset; at < termOffset + length; at += wire::kFrameAlignment) {
    if (loadRelaxed<int32_t>(term + at) != 0) return false;
  }
  wire::DataHeader header{};
  header.header = {0, 0, wire::kFlagUnfragmented, static_cast<uint16_t>(wire::FrameType::kPad)};
  header.termOffset = termOffset;
  header.sessionId = sessionId;
  header.streamId = streamId;
  header.termId = termId;
  uint8_t* frame = term + termOffset;
  std::memcpy(frame + 4, reinterpret_cast<const uint8_t*>(&header) + 4, sizeof(header) - 4);
  frameLengthRelease(frame, length);
  return true;
}

// One train cut out of a term for sending: a run of datagrams of equal length, one shorter allowed at the end.
struct Train {
  int32_t length = 0;         // bytes to send
  int32_t segmentLength = 0;  // datagram length; == length for a single datagram
  int32_t padding = 0;        // term bytes after `length` that a PAD covers without being sent
};

// Sender thread. Cuts the next train from committed frames at [offset, offset+maxLength), datagrams of at most `mtu`, at most
// maxSegments datagrams and maxTrainBytes. A PAD, a shorter datagram or a claimed frame ends it. Frame lengths come from shared
// memory: each is read once; one that is not plausible (< 32, past the term end, unaligned over the MTU) ends the train, and
// `invalid` is set when it is the very first.
inline Train cutTrain(const uint8_t* term, int32_t termLength, int32_t offset, int32_t maxLength, int32_t mtu, int32_t maxSegments,
                      int32_t maxTrainBytes, bool& invalid) {
  Train train;
  invalid = false;
  const int32_t limit = std::min(termLength, offset + std::min(maxLength, termLength - offset));
  int32_t at = offset;
  int32_t segments = 0;
  while (segments < maxSegments && at < limit) {
    int32_t datagram = 0;
    int32_t padding = 0;
    while (at + datagram < limit) {
      const uint8_t* frame = term + at + datagram;
      const int32_t declared = frameLengthAcquire(frame);
      if (declared <= 0) break;
      if (declared < wire::kDataHeaderLength || declared > termLength - (at + datagram)) {
        invalid = (train.length == 0 && datagram == 0);
        break;
      }
      const int32_t aligned = wire::alignedFrameLength(declared);
      if (wire::frameType(frame) == wire::FrameType::kPad) {
        // The window need only hold its header: a PAD can be longer than any receiver window.
        if (datagram + wire::kDataHeaderLength <= mtu) {
          datagram += wire::kDataHeaderLength;
          padding = aligned - wire::kDataHeaderLength;
        }
        break;
      }
      if (aligned > mtu) {
        invalid = (train.length == 0 && datagram == 0);
        break;
      }
      if (datagram + aligned > mtu || at + datagram + aligned > limit) break;
      datagram += aligned;
    }
    if (datagram == 0) break;
    if (segments > 0 && (datagram > train.segmentLength || train.length + datagram > maxTrainBytes)) break;
    if (segments == 0) train.segmentLength = datagram;
    train.length += datagram;
    at += datagram;
    ++segments;
    if (padding > 0) {
      train.padding = padding;
      break;
    }
    if (datagram < train.segmentLength) break;
  }
  return train;
}

enum class UnblockResult : uint8_t { kNoAction, kUnblocked, kUnblockedToEnd };

// Conductor thread. Turns the claim at [blockedOffset, tailOffset) of a publisher that died into a PAD, so that the stream goes on.
UnblockResult unblockTerm(const LogBuffer& log, int32_t index, int32_t blockedOffset, int32_t tailOffset, int32_t termId);
// The same for a log at blockedPosition, with rotation when the publisher died between trip and rotate. True when something moved.
bool unblockLog(const LogBuffer& log, int64_t blockedPosition, int32_t initialTermId);

}  // namespace outrigger::logbuffer
