// SPDX-License-Identifier: Apache-2.0
// Appending to a log buffer: claim by moving the tail, write, commit by releasing frame_length. Every value read from shared memory is
// bounded before it addresses anything: a hostile tail or limit can cost this stream its messages, never memory outside the log.
#include "client/publication.h"

#include <algorithm>

namespace outrigger::client {
namespace {

struct FlatSource {
  const uint8_t* data;
  void copyTo(uint8_t* destination, int32_t length) {
    if (length > 0) std::memcpy(destination, data, static_cast<size_t>(length));
    data += length;
  }
};

struct PartsSource {
  const MessagePart* part;
  int32_t offset = 0;
  void copyTo(uint8_t* destination, int32_t length) {
    while (length > 0) {
      const int32_t chunk = std::min(length, part->length - offset);
      if (chunk > 0) {
        std::memcpy(destination, static_cast<const uint8_t*>(part->data) + offset, static_cast<size_t>(chunk));
        destination += chunk;
        length -= chunk;
        offset += chunk;
      }
      if (offset >= part->length) {
        ++part;
        offset = 0;
      }
    }
  }
};

// Total of the parts, -1 when one is negative or the sum is over int32.
int32_t totalLength(const MessagePart* parts, int32_t count) {
  int64_t total = 0;
  for (int32_t i = 0; i < count; ++i) {
    if (parts[i].length < 0) return -1;
    total += parts[i].length;
  }
  return total > INT32_MAX ? -1 : static_cast<int32_t>(total);
}

}  // namespace

PublicationBase::PublicationBase(PublicationParams params)
    : params_(std::move(params)),
      log_(params_.mapping->log()),
      termLength_(params_.mapping->termLength()),
      initialTermId_(params_.mapping->initialTermId()),
      maxPayload_(params_.mapping->mtu() - wire::kDataHeaderLength),
      maxMessage_(logbuffer::maxMessageLength(termLength_)),
      ipc_(params_.channel.starts_with("aeron:ipc")) {
  // The driver's default frame may carry a reserved value (a timestamp marker); all else in it follows from the answer it gave.
  reservedDefault_ = readAt<int64_t>(log_.metadata() + logbuffer::meta::kDefaultHeader, offsetof(wire::DataHeader, reservedValue));
  // A fragment and its header must fit a term eight times over for the arithmetic below; the MTU was validated, a small term may not be.
  maxPayload_ = std::min(maxPayload_, termLength_ / 8);
}

int64_t PublicationBase::channelStatus() const {
  const int64_t* value = params_.memory->counterValue(params_.channelStatusId);
  return value == nullptr ? cnc::kChannelStatusActive : loadAcquire<int64_t>(value);
}

int64_t PublicationBase::refusal(int64_t position, int32_t messageLength) const {
  if (position + wire::alignedFrameLength(messageLength + wire::kDataHeaderLength) >= logbuffer::maxPossiblePosition(termLength_)) {
    return kOfferMaxPositionExceeded;
  }
  return log_.getAcquire<int32_t>(logbuffer::meta::kIsConnected) == 1 ? kOfferBackPressured : kOfferNotConnected;
}

int32_t PublicationBase::requiredLength(int32_t messageLength) const {
  if (messageLength <= maxPayload_) return wire::alignedFrameLength(messageLength + wire::kDataHeaderLength);
  const int32_t whole = messageLength / maxPayload_;
  const int32_t rest = messageLength % maxPayload_;
  const int32_t last = rest > 0 ? wire::alignedFrameLength(rest + wire::kDataHeaderLength) : 0;
  return whole * wire::alignedFrameLength(maxPayload_ + wire::kDataHeaderLength) + last;
}

void PublicationBase::writePadding(uint8_t* term, int32_t termOffset, int32_t termId) const {
  const int32_t length = termLength_ - termOffset;
  if (length < wire::kDataHeaderLength) return;  // only after a hostile tail: real offsets are aligned
  claimHeader(term + termOffset, length, termOffset, termId, wire::kFlagUnfragmented, wire::FrameType::kPad);
  logbuffer::frameLengthRelease(term + termOffset, length);
}

template <typename Source>
void PublicationBase::writeMessage(uint8_t* term, int32_t termOffset, int32_t termId, Source& source, int32_t length) const {
  if (length <= maxPayload_) {
    uint8_t* frame = term + termOffset;
    const int32_t frameLength = length + wire::kDataHeaderLength;
    claimHeader(frame, frameLength, termOffset, termId, wire::kFlagUnfragmented, wire::FrameType::kData);
    source.copyTo(frame + wire::kDataHeaderLength, length);
    logbuffer::frameLengthRelease(frame, frameLength);
    return;
  }
  int32_t remaining = length;
  uint8_t flags = wire::kFlagBegin;
  while (remaining > 0) {
    const int32_t chunk = std::min(remaining, maxPayload_);
    if (chunk == remaining) flags |= wire::kFlagEnd;
    uint8_t* frame = term + termOffset;
    const int32_t frameLength = chunk + wire::kDataHeaderLength;
    claimHeader(frame, frameLength, termOffset, termId, flags, wire::FrameType::kData);
    source.copyTo(frame + wire::kDataHeaderLength, chunk);
    logbuffer::frameLengthRelease(frame, frameLength);
    termOffset += wire::alignedFrameLength(frameLength);
    remaining -= chunk;
    flags = 0;
  }
}

// ---- concurrent ----

Publication::Room Publication::reserve(int32_t messageLength, int32_t required) {
  if (isClosed()) return {kOfferClosed, nullptr, 0, 0};
  const auto limit = loadAcquire<int64_t>(params_.positionLimit);
  const auto termCount = log_.getAcquire<int32_t>(logbuffer::meta::kActiveTermCount);
  const int32_t index = logbuffer::indexByTermCount(static_cast<int64_t>(static_cast<uint32_t>(termCount)));
  const auto seenTail = loadAcquire<int64_t>(log_.tailAddress(index));
  // Another publisher is between moving the tail and the count, or the count is not one a log can have.
  if (termCount < 0 || logbuffer::termDelta(logbuffer::tailTermId(seenTail), initialTermId_) != termCount) {
    return {kOfferAdminAction, nullptr, 0, 0};
  }
  // A tail that no publisher wrote would put frames where readers do not look, and their lengths on unaligned words.
  if (seenTail % wire::kFrameAlignment != 0) return {kOfferAdminAction, nullptr, 0, 0};
  const int64_t termBegin = static_cast<int64_t>(termCount) << log_.bits();
  const int64_t seenPosition = termBegin + (seenTail & 0xFFFFFFFFLL);
  if (seenPosition >= limit) return {refusal(seenPosition, messageLength), nullptr, 0, 0};

  const auto rawTail = fetchAdd<int64_t>(log_.tailAddress(index), required);
  const int64_t offset = rawTail & 0xFFFFFFFFLL;
  const int32_t termId = logbuffer::tailTermId(rawTail);
  uint8_t* term = log_.term(index);
  if (offset % wire::kFrameAlignment != 0) return {kOfferAdminAction, nullptr, 0, 0};
  if (offset + required <= termLength_) {
    const int64_t position = logbuffer::computePosition(termId, static_cast<int32_t>(offset), log_.bits(), initialTermId_);
    if (position < 0) return {kOfferAdminAction, nullptr, 0, 0};
    return {position + required, term, static_cast<int32_t>(offset), termId};
  }
  // Past the end: whoever tripped it pads the rest; everyone helps to rotate.
  if (offset < termLength_) writePadding(term, static_cast<int32_t>(offset), termId);
  if (logbuffer::termDelta(termId, initialTermId_) == INT32_MAX) return {kOfferMaxPositionExceeded, nullptr, 0, 0};
  log_.rotate(logbuffer::termDelta(termId, initialTermId_), termId);
  ring();
  return {kOfferAdminAction, nullptr, 0, 0};
}

template <typename Source>
int64_t Publication::append(Source& source, int32_t length, Wake wake) {
  if (length < 0 || length > maxMessage_) return kOfferMessageTooLong;
  const Room room = reserve(length, requiredLength(length));
  if (room.position < 0) return room.position;
  writeMessage(room.term, room.termOffset, room.termId, source, length);
  if (wake == Wake::kNow) ring();
  return room.position;
}

int64_t Publication::offer(const void* message, int32_t length, Wake wake) {
  FlatSource source{static_cast<const uint8_t*>(message)};
  return append(source, length, wake);
}

int64_t Publication::offer(const MessagePart* parts, int32_t count, Wake wake) {
  PartsSource source{parts};
  return append(source, totalLength(parts, count), wake);
}

int64_t Publication::tryClaim(int32_t length, BufferClaim& claim) {
  if (length < 0 || length > maxPayload_) return kOfferMessageTooLong;
  const Room room = reserve(length, requiredLength(length));
  if (room.position < 0) return room.position;
  uint8_t* frame = room.term + room.termOffset;
  const int32_t frameLength = length + wire::kDataHeaderLength;
  claimHeader(frame, frameLength, room.termOffset, room.termId, wire::kFlagUnfragmented, wire::FrameType::kData);
  claim = BufferClaim(frame, frameLength);
  return room.position;
}

int64_t Publication::position() const { return isClosed() ? kOfferClosed : log_.producerPosition(initialTermId_); }

// ---- exclusive ----

ExclusivePublication::ExclusivePublication(PublicationParams params) : PublicationBase(std::move(params)) {
  const auto termCount = log_.getAcquire<int32_t>(logbuffer::meta::kActiveTermCount);
  termIndex_ = logbuffer::indexByTermCount(static_cast<int64_t>(static_cast<uint32_t>(termCount)));
  const auto rawTail = loadAcquire<int64_t>(log_.tailAddress(termIndex_));
  termId_ = logbuffer::tailTermId(rawTail);
  termOffset_ = logbuffer::tailOffset(rawTail, termLength_) & ~(wire::kFrameAlignment - 1);
  termBegin_ = logbuffer::computePosition(termId_, 0, log_.bits(), initialTermId_);
  // The index of a term follows from its position; a log that says otherwise is damaged, and the position is what readers use.
  if (termBegin_ < 0) markClosed();
  if (termBegin_ >= 0) termIndex_ = logbuffer::indexByPosition(termBegin_, log_.bits());
}

int64_t ExclusivePublication::endTerm() {
  uint8_t* term = log_.term(termIndex_);
  if (termOffset_ < termLength_) {
    storeRelease<int64_t>(log_.tailAddress(termIndex_), logbuffer::packTail(termId_, termLength_));
    writePadding(term, termOffset_, termId_);
  }
  if (termBegin_ + termLength_ >= logbuffer::maxPossiblePosition(termLength_)) {
    termOffset_ = termLength_;
    return kOfferMaxPositionExceeded;
  }
  termId_ = logbuffer::termAdd(termId_, 1);
  termIndex_ = (termIndex_ + 1) % logbuffer::kPartitionCount;
  termBegin_ += termLength_;
  termOffset_ = 0;
  storeRelease<int64_t>(log_.tailAddress(termIndex_), logbuffer::packTail(termId_, 0));
  storeRelease<int32_t>(log_.activeTermCountAddress(), logbuffer::termDelta(termId_, initialTermId_));
  return kOfferAdminAction;
}

int64_t ExclusivePublication::reserve(int32_t messageLength, int32_t required) {
  if (isClosed()) return kOfferClosed;
  const int64_t position = termBegin_ + termOffset_;
  if (position >= loadAcquire<int64_t>(params_.positionLimit)) return refusal(position, messageLength);
  if (termOffset_ + required > termLength_) {
    const int64_t result = endTerm();
    ring();
    return result;
  }
  storeRelease<int64_t>(log_.tailAddress(termIndex_), logbuffer::packTail(termId_, termOffset_ + required));
  return position;
}

template <typename Source>
int64_t ExclusivePublication::append(Source& source, int32_t length, Wake wake) {
  if (length < 0 || length > maxMessage_) return kOfferMessageTooLong;
  const int32_t required = requiredLength(length);
  const int64_t position = reserve(length, required);
  if (position < 0) return position;
  writeMessage(log_.term(termIndex_), termOffset_, termId_, source, length);
  termOffset_ += required;
  if (wake == Wake::kNow) ring();
  return position + required;
}

int64_t ExclusivePublication::offer(const void* message, int32_t length, Wake wake) {
  FlatSource source{static_cast<const uint8_t*>(message)};
  return append(source, length, wake);
}

int64_t ExclusivePublication::offer(const MessagePart* parts, int32_t count, Wake wake) {
  PartsSource source{parts};
  return append(source, totalLength(parts, count), wake);
}

int64_t ExclusivePublication::tryClaim(int32_t length, BufferClaim& claim) {
  if (length < 0 || length > maxPayload_) return kOfferMessageTooLong;
  const int32_t required = requiredLength(length);
  const int64_t position = reserve(length, required);
  if (position < 0) return position;
  uint8_t* frame = log_.term(termIndex_) + termOffset_;
  const int32_t frameLength = length + wire::kDataHeaderLength;
  claimHeader(frame, frameLength, termOffset_, termId_, wire::kFlagUnfragmented, wire::FrameType::kData);
  claim = BufferClaim(frame, frameLength);
  termOffset_ += required;
  return position + required;
}

ManyResult ExclusivePublication::offerMany(const MessagePart* messages, int32_t count) {
  ManyResult many;
  many.result = termBegin_ + termOffset_;
  bool moved = false;
  while (many.accepted < count) {
    if (isClosed()) {
      many.result = kOfferClosed;
      break;
    }
    const int64_t position = termBegin_ + termOffset_;
    const int64_t limit = loadAcquire<int64_t>(params_.positionLimit);
    const MessagePart* next = messages + many.accepted;
    if (next->length < 0 || next->length > maxMessage_) {
      many.result = kOfferMessageTooLong;
      break;
    }
    if (position >= limit) {
      many.result = refusal(position, next->length);
      break;
    }
    // The longest run of unfragmented messages that starts below the limit and fits the term.
    const int64_t room = limit - termBegin_;
    int32_t end = termOffset_;
    int32_t run = 0;
    while (many.accepted + run < count && end < room) {
      const int32_t length = next[run].length;
      if (length < 0 || length > maxPayload_) break;
      const int32_t aligned = wire::alignedFrameLength(length + wire::kDataHeaderLength);
      if (aligned > termLength_ - end) break;
      end += aligned;
      ++run;
    }
    if (run == 0) {
      const int64_t result = offer(next->data, next->length, Wake::kLater);
      if (result == kOfferAdminAction) continue;
      many.result = result;
      if (result < 0) break;
      many.position = result;
      moved = true;
      ++many.accepted;
      continue;
    }
    storeRelease<int64_t>(log_.tailAddress(termIndex_), logbuffer::packTail(termId_, end));
    uint8_t* frame = log_.term(termIndex_) + termOffset_;
    for (int32_t i = 0; i < run; ++i) {
      const int32_t frameLength = next[i].length + wire::kDataHeaderLength;
      writeHeader(frame, termOffset_, termId_, wire::kFlagUnfragmented, wire::FrameType::kData);
      if (next[i].length > 0) {
        std::memcpy(frame + wire::kDataHeaderLength, next[i].data, static_cast<size_t>(next[i].length));
      }
      logbuffer::frameLengthRelease(frame, frameLength);
      const int32_t aligned = wire::alignedFrameLength(frameLength);
      frame += aligned;
      termOffset_ += aligned;
    }
    many.accepted += run;
    many.position = many.result = termBegin_ + termOffset_;
    moved = true;
  }
  if (moved) ring();
  return many;
}

}  // namespace outrigger::client
