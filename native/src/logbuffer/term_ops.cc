// SPDX-License-Identifier: Apache-2.0
// Unblocking a log whose publisher died while it held a claim or between tripping and rotating a term.
#include "logbuffer/term_ops.h"

namespace outrigger::logbuffer {
namespace {

void padFrame(const LogBuffer& log, uint8_t* frame, int32_t termOffset, int32_t termId, int32_t length) {
  // The session and stream come from the default header in the metadata, which the driver wrote itself.
  uint8_t header[wire::kDataHeaderLength];
  std::memcpy(header, log.metadata() + meta::kDefaultHeader, sizeof(header));
  header[4] = 0;
  header[5] = wire::kFlagUnfragmented;
  writeAt<uint16_t>(header, 6, static_cast<uint16_t>(wire::FrameType::kPad));
  writeAt<int32_t>(header, 8, termOffset);
  writeAt<int32_t>(header, 20, termId);
  writeAt<int64_t>(header, 24, 0);
  std::memcpy(frame + 4, header + 4, sizeof(header) - 4);
  frameLengthRelease(frame, length);
}

}  // namespace

UnblockResult unblockTerm(const LogBuffer& log, int32_t index, int32_t blockedOffset, int32_t tailOffset, int32_t termId) {
  uint8_t* term = log.term(index);
  uint8_t* frame = term + blockedOffset;
  const int32_t claimed = frameLengthAcquire(frame);
  if (claimed < 0) {
    const int64_t length = -static_cast<int64_t>(claimed);
    if (length < wire::kDataHeaderLength || length > log.termLength() - blockedOffset) return UnblockResult::kNoAction;
    padFrame(log, frame, blockedOffset, termId, static_cast<int32_t>(length));
    return UnblockResult::kUnblocked;
  }
  if (claimed > 0) return UnblockResult::kNoAction;
  // Nothing was written at all: the claim ends where the next frame stands, or at the tail.
  int32_t end = blockedOffset + wire::kFrameAlignment;
  while (end < tailOffset && frameLengthAcquire(term + end) == 0) end += wire::kFrameAlignment;
  if (end >= tailOffset) {
    // Look again: a slow but living publisher may have committed meanwhile.
    if (frameLengthAcquire(frame) != 0 || tailOffset <= blockedOffset) return UnblockResult::kNoAction;
    padFrame(log, frame, blockedOffset, termId, tailOffset - blockedOffset);
    return tailOffset == log.termLength() ? UnblockResult::kUnblockedToEnd : UnblockResult::kUnblocked;
  }
  for (int32_t at = end - wire::kFrameAlignment; at >= blockedOffset; at -= wire::kFrameAlignment) {
    if (frameLengthAcquire(term + at) != 0) return UnblockResult::kNoAction;
  }
  padFrame(log, frame, blockedOffset, termId, end - blockedOffset);
  return UnblockResult::kUnblocked;
}

bool unblockLog(const LogBuffer& log, int64_t blockedPosition, int32_t initialTermId) {
  const int32_t index = indexByPosition(blockedPosition, log.bits());
  const int32_t termCount = static_cast<int32_t>(blockedPosition >> log.bits());
  const int32_t blockedOffset = termOffsetFromPosition(blockedPosition, log.termLength());
  const int32_t activeTermCount = log.getAcquire<int32_t>(meta::kActiveTermCount);
  if (activeTermCount == termAdd(termCount, -1) && blockedOffset == 0) {
    // Tripped the previous term, died before rotating it.
    const int64_t raw = loadAcquire<int64_t>(log.tailAddress(indexByTermCount(static_cast<uint32_t>(activeTermCount))));
    log.rotate(activeTermCount, tailTermId(raw));
    return true;
  }
  const int64_t rawTail = loadAcquire<int64_t>(log.tailAddress(index));
  const int32_t termId = tailTermId(rawTail);
  if (termId != termIdFromPosition(blockedPosition, log.bits(), initialTermId)) return false;
  const int32_t tail = tailOffset(rawTail, log.termLength());
  switch (unblockTerm(log, index, blockedOffset, tail, termId)) {
    case UnblockResult::kUnblockedToEnd:
      log.rotate(termCount, termId);
      return true;
    case UnblockResult::kUnblocked:
      return true;
    case UnblockResult::kNoAction:
      return false;
  }
  return false;
}

}  // namespace outrigger::logbuffer
