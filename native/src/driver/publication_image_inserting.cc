// SPDX-License-Identifier: Apache-2.0
// How an image takes in what arrives: runs of datagrams, heartbeats, end of stream. Nothing here sends, and nothing of a datagram is kept
// before all of it was found to fit.
#include <algorithm>

#include "driver/publication_image.h"
#include "driver/publication_image_state.h"
#include "driver/receiver.h"
#include "logbuffer/term_ops.h"

namespace outrigger::driver {

using cnc::OutriggerCounter;
using cnc::SystemCounter;
namespace meta = logbuffer::meta;

namespace {

int32_t datagramsIn(int32_t length, int32_t segment) { return (length + segment - 1) / segment; }

// What the last datagram of a run covers in the term: a PAD, always the last frame, travels with its header alone.
int64_t coveredLength(const uint8_t* run, int32_t length, int32_t segment) {
  int32_t offset = (length - 1) / segment * segment;
  while (true) {
    const uint8_t* frame = run + offset;
    const int32_t aligned = wire::alignedFrameLength(wire::frameLength(frame));
    if (wire::frameType(frame) == wire::FrameType::kPad) return int64_t{offset} + aligned;
    offset += aligned;
    if (offset >= length) return length;
  }
}

}  // namespace

int32_t PublicationImage::onData(ReceiverContext& context, const uint8_t* data, uint32_t length, uint32_t segmentLength,
                                 const io::SockAddr&, std::span<const logbuffer::FrameStamp> stamps, int64_t nowNs) {
  ReceiverState& s = *receiver_;
  if (wire::isHeartbeat(data, length)) return onHeartbeat(context, data, nowNs);
  auto runLength = static_cast<int32_t>(length);
  const auto segment = static_cast<int32_t>(segmentLength == 0 ? length : std::min(length, segmentLength));
  const int32_t datagrams = datagramsIn(runLength, segment);
  if (s.rejected || state_.load(std::memory_order_relaxed) != ImageState::kActive) {
    driverCounters_.add(OutriggerCounter::kUnknownStreamDrops, datagrams);
    return 0;
  }
  const auto header = wire::load<wire::DataHeader>(data);
  int64_t covered = coveredLength(data, runLength, segment);
  if (header.termOffset + covered > params_.termLength) {
    driverCounters_.add(SystemCounter::kInvalidPackets, datagrams);
    return 0;
  }
  const int64_t position = logbuffer::computePosition(header.termId, header.termOffset, log_.bits(), params_.initialTermId);
  // A PAD counts with its header, as the sender's limit does; memory it needs for all that it covers.
  const int64_t wireLimit = s.statusPosition + params_.termLength / 2;
  if (position + runLength > wireLimit || position + covered > s.backedPosition) {
    const int64_t room = std::max<int64_t>(0, std::min(wireLimit, s.backedPosition) - position);
    const auto fitting = static_cast<int32_t>(std::min<int64_t>(room / segment, datagrams - 1));
    driverCounters_.add(SystemCounter::kFlowControlOverRuns, datagrams - fitting);
    if (fitting == 0) return 0;
    runLength = fitting * segment;
    covered = runLength;
  }
  if (position < s.statusPosition) {
    const auto below = static_cast<int32_t>(std::min<int64_t>(s.statusPosition - position, runLength));
    driverCounters_.add(SystemCounter::kFlowControlUnderRuns, datagramsIn(below, segment));
    if (position + covered <= s.statusPosition) return 0;
  }
  lastPacketNs_.store(nowNs, std::memory_order_relaxed);
  if (position >= s.highWaterMark) {
    if (position > s.highWaterMark && !openGap(position, nowNs)) {
      driverCounters_.add(SystemCounter::kFlowControlOverRuns, datagrams);
      return 0;
    }
    insertFresh(position, position + covered, data, runLength, stamps);
  } else {
    insertLate(position, data, runLength, stamps, nowNs);
  }
  updatePositions();
  return runLength;
}

// Remembers that [high-water mark, end) is missing and makes it read as nothing. False when there are too many holes already.
bool PublicationImage::openGap(int64_t end, int64_t nowNs) {
  ReceiverState& s = *receiver_;
  if (!s.detector.onGap(s.highWaterMark, end, nowNs)) return false;
  s.lossFound = true;
  int64_t at = s.highWaterMark;
  while (at < end) {
    const int64_t length = std::min(end - at, int64_t{params_.termLength} - logbuffer::termOffsetFromPosition(at, params_.termLength));
    uint8_t* hole = log_.atPosition(at);
    // The first length is zero for the hole's begin; a reader may be looking at it.
    if (at == s.highWaterMark) {
      std::memset(hole + sizeof(int32_t), 0, static_cast<size_t>(length) - sizeof(int32_t));
    } else {
      std::memset(hole, 0, static_cast<size_t>(length));
    }
    at += length;
  }
  s.highWaterMark = end;
  return true;
}

// At the high-water mark: one copy for the whole run, whatever stood there.
void PublicationImage::insertFresh(int64_t position, int64_t end, const uint8_t* run, int32_t length,
                                   std::span<const logbuffer::FrameStamp> stamps) {
  ReceiverState& s = *receiver_;
  // First the stop behind it, then its own first length: a reader never walks out of the run into frames of an older term.
  storeRelaxed<int32_t>(log_.atPosition(end), 0);
  logbuffer::insertFreshRun(log_.term(logbuffer::indexByPosition(position, log_.bits())),
                            logbuffer::termOffsetFromPosition(position, params_.termLength), run, length, stamps);
  s.highWaterMark = end;
}

// Below the high-water mark: repairs and duplicates. Only what lies whole in a hole is taken.
void PublicationImage::insertLate(int64_t position, const uint8_t* run, int32_t length, std::span<const logbuffer::FrameStamp> stamps,
                                  int64_t nowNs) {
  ReceiverState& s = *receiver_;
  int32_t offset = 0;
  while (offset < length) {
    const int64_t at = position + offset;
    if (at >= s.highWaterMark) {
      const int64_t rest = at == s.highWaterMark ? coveredLength(run + offset, length - offset, length - offset) : 0;
      if (rest == 0) {
        driverCounters_.add(SystemCounter::kInvalidPackets, 1);  // a frame across the mark: not cut where this stream cuts
        return;
      }
      insertFresh(at, at + rest, run + offset, length - offset, stamps);
      return;
    }
    // As many frames as lie together in one hole, with one copy.
    const size_t index = s.detector.gaps().find(at);
    const bool hasGap = index < s.detector.gaps().size();
    const int64_t gapBegin = hasGap ? s.detector.gaps()[index].begin : INT64_MAX;
    const int64_t gapEnd = hasGap ? s.detector.gaps()[index].end : INT64_MAX;
    const bool inside = gapBegin <= at;
    int64_t covered = 0;
    int32_t taken = 0;
    while (offset + taken < length) {
      const uint8_t* frame = run + offset + taken;
      const int32_t aligned = wire::alignedFrameLength(wire::frameLength(frame));
      const bool pad = wire::frameType(frame) == wire::FrameType::kPad;
      if (inside ? at + covered + aligned > gapEnd : at + covered >= std::min(gapBegin, s.highWaterMark)) break;
      covered += aligned;
      taken += pad ? wire::kDataHeaderLength : aligned;
    }
    if (taken == 0) {
      // Inside a hole, but longer than it: as above.
      driverCounters_.add(SystemCounter::kInvalidPackets, 1);
      return;
    }
    if (inside) {
      if (!s.detector.onArrival(index, at, at + covered, nowNs)) {
        driverCounters_.add(SystemCounter::kFlowControlOverRuns, 1);
        return;
      }
      logbuffer::insertFreshRun(log_.term(logbuffer::indexByPosition(at, log_.bits())),
                                logbuffer::termOffsetFromPosition(at, params_.termLength), run + offset, taken, stamps);
    }
    offset += taken;
    if (covered != taken) return;  // a PAD ended the run
  }
}

void PublicationImage::updatePositions() {
  ReceiverState& s = *receiver_;
  const GapList& gaps = s.detector.gaps();
  const int64_t rebuilt = gaps.empty() ? s.highWaterMark : gaps.front().begin;
  if (s.highWaterMark != counters_.receiverHwm.getRelaxed()) counters_.receiverHwm.set(s.highWaterMark);
  if (rebuilt == s.rebuildPosition) return;
  s.rebuildPosition = rebuilt;
  counters_.receiverPosition.set(rebuilt);
  s.advanced = true;
}

int32_t PublicationImage::onHeartbeat(ReceiverContext& context, const uint8_t* data, int64_t nowNs) {
  ReceiverState& s = *receiver_;
  driverCounters_.add(SystemCounter::kHeartbeatsReceived, 1);
  const auto header = wire::load<wire::DataHeader>(data);
  if (s.rejected || state_.load(std::memory_order_relaxed) != ImageState::kActive) return 0;
  const int64_t position = logbuffer::computePosition(header.termId, header.termOffset, log_.bits(), params_.initialTermId);
  if (header.termOffset > params_.termLength) {
    driverCounters_.add(SystemCounter::kInvalidPackets, 1);
    return 0;
  }
  const bool revoked = (header.header.flags & wire::kFlagRevoked) != 0 && (header.header.flags & wire::kFlagEos) != 0;
  // The sender stands where it may: at most one PAD, which is shorter than a term, beyond what data may reach.
  if (position > s.statusPosition + params_.termLength / 2 + params_.termLength || position > s.backedPosition) {
    driverCounters_.add(SystemCounter::kFlowControlOverRuns, 1);
    return 0;
  }
  if (position < s.statusPosition - params_.termLength) {
    driverCounters_.add(SystemCounter::kFlowControlUnderRuns, 1);
    return 0;
  }
  lastPacketNs_.store(nowNs, std::memory_order_relaxed);
  if (position > s.highWaterMark) {
    if (!openGap(position, nowNs)) {
      driverCounters_.add(SystemCounter::kFlowControlOverRuns, 1);
      return 0;
    }
    // What lies behind the sender's position is not there yet: the next frame's length must read as nothing.
    storeRelaxed<int32_t>(log_.atPosition(position), 0);
    updatePositions();
  }
  if ((header.header.flags & wire::kFlagEos) == 0 || s.endOfStreamPosition != INT64_MAX) return wire::kDataHeaderLength;
  if (position < s.highWaterMark) {
    driverCounters_.add(SystemCounter::kInvalidPackets, 1);  // a stream does not end before what it has sent
    return 0;
  }
  s.endOfStreamPosition = position;
  s.advanced = true;
  if (revoked) log_.putRelease<uint8_t>(meta::kIsPublicationRevoked, 1);
  log_.putRelease<int64_t>(meta::kEndOfStreamPosition, position);
  if (revoked) {
    driverCounters_.add(SystemCounter::kPublicationImagesRevoked, 1);
    revoked_.store(true, std::memory_order_release);
  }
  endOfStream_.store(true, std::memory_order_release);
  if (revoked) enter(context, ImageState::kLinger, nowNs);
  return wire::kDataHeaderLength;
}

}  // namespace outrigger::driver
