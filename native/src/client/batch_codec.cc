// SPDX-License-Identifier: Apache-2.0
// Reading and writing of protobuf bytes: see batch_codec.h.
#include "client/batch_codec.h"

#include <algorithm>
#include <cstring>

namespace outrigger::client {
namespace {

constexpr int32_t kMaxGroupDepth = 100;  // what protobuf's own readers allow
constexpr size_t kMaxVarintBytes = 10;
// PublishRequest and PublishBatch.
constexpr uint32_t kRequestOpen = 1;
constexpr uint32_t kRequestBatch = 2;
constexpr uint32_t kBatchSequence = 1;
constexpr uint32_t kBatchMessages = 2;

enum WireType : uint32_t { kVarint = 0, kFixed64 = 1, kLengthDelimited = 2, kStartGroup = 3, kEndGroup = 4, kFixed32 = 5 };

class Reader {
 public:
  Reader(const uint8_t* begin, const uint8_t* end) : at_(begin), end_(end) {}

  bool done() const { return at_ == end_; }
  CodecError error() const { return error_; }

  bool varint(uint64_t& value) {
    value = 0;
    for (size_t i = 0; i < kMaxVarintBytes; ++i) {
      if (at_ == end_) return fail(CodecError::kTruncated);
      const uint8_t byte = *at_++;
      if (i == kMaxVarintBytes - 1 && byte > 1) break;
      value |= static_cast<uint64_t>(byte & 0x7F) << (7 * i);
      if ((byte & 0x80) == 0) return true;
    }
    return fail(CodecError::kBadVarint);
  }

  bool tag(uint32_t& field, uint32_t& wireType) {
    uint64_t value = 0;
    if (!varint(value)) return false;
    field = static_cast<uint32_t>(value >> 3);
    wireType = static_cast<uint32_t>(value & 7);
    if (value > UINT32_MAX || field == 0) return fail(CodecError::kBadTag);
    return true;
  }

  bool bytes(const uint8_t*& data, size_t& length) {
    uint64_t value = 0;
    if (!varint(value)) return false;
    if (value > static_cast<uint64_t>(end_ - at_)) return fail(CodecError::kTruncated);
    data = at_;
    length = static_cast<size_t>(value);
    at_ += length;
    return true;
  }

  // The value of an unknown field whose tag was just read.
  bool skip(uint32_t field, uint32_t wireType, int32_t depth = 0) {
    const uint8_t* data = nullptr;
    size_t length = 0;
    uint64_t value = 0;
    switch (wireType) {
      case kVarint:
        return varint(value);
      case kFixed64:
        return advance(8);
      case kLengthDelimited:
        return bytes(data, length);
      case kFixed32:
        return advance(4);
      case kStartGroup:
        if (depth >= kMaxGroupDepth) return fail(CodecError::kTooDeep);
        for (;;) {
          uint32_t innerField = 0;
          uint32_t innerType = 0;
          if (!tag(innerField, innerType)) return false;
          if (innerType == kEndGroup) return innerField == field || fail(CodecError::kBadWireType);
          if (!skip(innerField, innerType, depth + 1)) return false;
        }
      default:
        return fail(CodecError::kBadWireType);
    }
  }

 private:
  bool advance(ptrdiff_t count) {
    if (end_ - at_ < count) return fail(CodecError::kTruncated);
    at_ += count;
    return true;
  }
  bool fail(CodecError error) {
    error_ = error;
    return false;
  }

  const uint8_t* at_;
  const uint8_t* end_;
  CodecError error_ = CodecError::kNone;
};

CodecError readBatch(const uint8_t* begin, size_t length, PublishBatch& batch) {
  Reader reader(begin, begin + length);
  while (!reader.done()) {
    uint32_t field = 0;
    uint32_t wireType = 0;
    if (!reader.tag(field, wireType)) return reader.error();
    if (field == kBatchMessages && wireType == kLengthDelimited) {
      const uint8_t* message = nullptr;
      size_t messageLength = 0;
      if (!reader.bytes(message, messageLength)) return reader.error();
      batch.messages.push_back({message, static_cast<int32_t>(messageLength)});
    } else if (field == kBatchSequence && wireType == kVarint) {
      if (!reader.varint(batch.sequence)) return reader.error();
    } else if (!reader.skip(field, wireType)) {
      return reader.error();
    }
  }
  return CodecError::kNone;
}

// ---- writing ----

constexpr uint32_t kResponseBatch = 2;
constexpr uint32_t kResponseEvent = 3;
constexpr uint32_t kEventImageAvailable = 1;
constexpr uint32_t kEventImageUnavailable = 2;
constexpr uint32_t kEventGap = 3;
constexpr uint32_t kEventLagging = 4;
constexpr uint32_t kMessagesOfBatch = 4;
// Tag and length of the response, and three 64-bit varints with their tags.
constexpr size_t kMaxBatchHeader = 1 + kMaxVarintBytes + 3 * (1 + kMaxVarintBytes);
constexpr size_t kMaxSource = 256;
constexpr size_t kMaxEventBody = 64 + kMaxSource;
constexpr size_t kFirstCapacity = 1024;  // an idle subscriber holds little

uint8_t* putVarint(uint8_t* at, uint64_t value) {
  while (value > 0x7F) {
    *at++ = static_cast<uint8_t>(value | 0x80);
    value >>= 7;
  }
  *at++ = static_cast<uint8_t>(value);
  return at;
}
uint8_t* putTag(uint8_t* at, uint32_t field, uint32_t wireType) { return putVarint(at, (field << 3) | wireType); }
// A scalar field; proto3 leaves zeros out.
uint8_t* putField(uint8_t* at, uint32_t field, uint64_t value) { return value == 0 ? at : putVarint(putTag(at, field, kVarint), value); }
// Negative numbers of int32 and int64 fields are sign-extended to 64 bits.
uint8_t* putSigned(uint8_t* at, uint32_t field, int64_t value) { return putField(at, field, static_cast<uint64_t>(value)); }

}  // namespace

const char* describe(CodecError error) {
  switch (error) {
    case CodecError::kNone:
      return "is well-formed";
    case CodecError::kTruncated:
      return "ends in the middle of a field";
    case CodecError::kBadVarint:
      return "holds a number of more than 64 bits";
    case CodecError::kBadTag:
      return "holds an impossible field number";
    case CodecError::kBadWireType:
      return "holds an impossible wire type";
    case CodecError::kTooDeep:
      return "nests groups deeper than 100";
    case CodecError::kNoBatch:
      return "holds no batch";
    case CodecError::kIsOpen:
      return "is an open; only the first request of a stream may be";
    case CodecError::kTooLong:
      return "is over 2 GiB long";
  }
  return "is malformed";
}

CodecError readPublishBatch(const uint8_t* request, size_t length, PublishBatch& batch) {
  batch.sequence = 0;
  batch.messages.clear();
  if (length > INT32_MAX) return CodecError::kTooLong;
  if (length == 0) return CodecError::kNoBatch;
  CodecError missing = CodecError::kNoBatch;
  Reader reader(request, request + length);
  while (!reader.done()) {
    uint32_t field = 0;
    uint32_t wireType = 0;
    if (!reader.tag(field, wireType)) return reader.error();
    if (wireType != kLengthDelimited || (field != kRequestBatch && field != kRequestOpen)) {
      if (!reader.skip(field, wireType)) return reader.error();
      continue;
    }
    const uint8_t* body = nullptr;
    size_t bodyLength = 0;
    if (!reader.bytes(body, bodyLength)) return reader.error();
    if (field == kRequestOpen) {
      batch.sequence = 0;
      batch.messages.clear();
      missing = CodecError::kIsOpen;
      continue;
    }
    if (const CodecError error = readBatch(body, bodyLength, batch); error != CodecError::kNone) return error;
    missing = CodecError::kNone;
  }
  return missing;
}

uint8_t* ResponseChunk::room(size_t bytes) {
  const size_t needed = used_ + bytes;
  if (needed > capacity_) {
    size_t capacity = std::max(capacity_, kFirstCapacity);
    while (capacity < needed) capacity *= 2;
    std::unique_ptr<uint8_t[]> bigger(new uint8_t[capacity]);
    if (used_ > 0) std::memcpy(bigger.get(), buffer_.get(), used_);
    buffer_ = std::move(bigger);
    capacity_ = capacity;
  }
  return buffer_.get() + used_;
}

void ResponseChunk::addMessage(int32_t sessionId, int32_t streamId, int64_t position, const uint8_t* message, size_t length,
                               size_t maxBatchBytes) {
  const bool fits = length <= maxBatchBytes && batchBytes_ <= maxBatchBytes - length;
  if (open_ && (sessionId != sessionId_ || streamId != streamId_ || !fits)) seal();
  if (!open_) {
    // The header is written in front of the messages once its length is known.
    uint8_t* header = room(kMaxBatchHeader);
    std::memset(header, 0, kMaxBatchHeader);
    used_ += kMaxBatchHeader;
    bodyBegin_ = used_;
    batchBytes_ = 0;
    sessionId_ = sessionId;
    streamId_ = streamId;
    open_ = true;
  }
  uint8_t* begin = room(1 + kMaxVarintBytes + length);
  uint8_t* at = putVarint(putTag(begin, kMessagesOfBatch, kLengthDelimited), length);
  if (length > 0) std::memcpy(at, message, length);
  used_ += static_cast<size_t>(at - begin) + length;
  batchBytes_ += length;
  position_ = position;
  ++messages_;
  payloadBytes_ += length;
}

void ResponseChunk::seal() {
  if (!open_) return;
  open_ = false;
  uint8_t fields[kMaxBatchHeader];
  uint8_t* at = putSigned(fields, 1, sessionId_);
  at = putSigned(at, 2, streamId_);
  at = putSigned(at, 3, position_);
  const auto fieldsLength = static_cast<size_t>(at - fields);
  uint8_t prefix[1 + kMaxVarintBytes];
  at = putVarint(putTag(prefix, kResponseBatch, kLengthDelimited), fieldsLength + (used_ - bodyBegin_));
  const auto prefixLength = static_cast<size_t>(at - prefix);
  const size_t begin = bodyBegin_ - fieldsLength - prefixLength;
  std::memcpy(buffer_.get() + begin, prefix, prefixLength);
  std::memcpy(buffer_.get() + begin + prefixLength, fields, fieldsLength);
  slices_.push_back({begin, used_ - begin});
}

void ResponseChunk::putEvent(uint32_t field, const uint8_t* body, size_t length) {
  seal();
  uint8_t event[kMaxEventBody + 16];
  uint8_t* at = event;
  if (field == kEventLagging) {
    at = putTag(at, field, kVarint);
  } else {
    at = putVarint(putTag(at, field, kLengthDelimited), length);
  }
  std::memcpy(at, body, length);
  at += length;
  const auto eventLength = static_cast<size_t>(at - event);
  uint8_t* begin = room(1 + kMaxVarintBytes + eventLength);
  at = putVarint(putTag(begin, kResponseEvent, kLengthDelimited), eventLength);
  std::memcpy(at, event, eventLength);
  const size_t total = static_cast<size_t>(at - begin) + eventLength;
  slices_.push_back({used_, total});
  used_ += total;
}

void ResponseChunk::addImageAvailable(int32_t sessionId, int64_t joinPosition, std::string_view source) {
  uint8_t body[kMaxEventBody];
  uint8_t* at = putSigned(putSigned(body, 1, sessionId), 2, joinPosition);
  const std::string_view shown = source.substr(0, kMaxSource);
  if (!shown.empty()) {
    at = putVarint(putTag(at, 3, kLengthDelimited), shown.size());
    for (const char c : shown) *at++ = static_cast<uint8_t>(c >= 0x20 && c < 0x7F ? c : '?');
  }
  putEvent(kEventImageAvailable, body, static_cast<size_t>(at - body));
}

void ResponseChunk::addImageUnavailable(int32_t sessionId, int64_t position, ImageEndCode reason) {
  uint8_t body[kMaxEventBody];
  uint8_t* at = putSigned(putSigned(body, 1, sessionId), 2, position);
  at = putField(at, 3, static_cast<uint64_t>(reason));
  putEvent(kEventImageUnavailable, body, static_cast<size_t>(at - body));
}

void ResponseChunk::addGap(int32_t sessionId, int64_t from, int64_t to, uint64_t messages, GapCode reason) {
  uint8_t body[kMaxEventBody];
  uint8_t* at = putSigned(putSigned(putSigned(body, 1, sessionId), 2, from), 3, to);
  at = putField(putField(at, 4, messages), 5, static_cast<uint64_t>(reason));
  putEvent(kEventGap, body, static_cast<size_t>(at - body));
}

void ResponseChunk::addLagging(uint32_t milliseconds) {
  uint8_t body[kMaxVarintBytes];
  putEvent(kEventLagging, body, static_cast<size_t>(putVarint(body, milliseconds) - body));
}

void ResponseChunk::clear(size_t keepCapacity) {
  used_ = 0;
  slices_.clear();
  messages_ = 0;
  payloadBytes_ = 0;
  open_ = false;
  batchBytes_ = 0;
  if (capacity_ > keepCapacity) {
    buffer_.reset();
    capacity_ = 0;
  }
}

}  // namespace outrigger::client
