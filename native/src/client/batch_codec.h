// SPDX-License-Identifier: Apache-2.0
// The bytes of outrigger.v1 (proto/outrigger/v1/messaging.proto) on the data path, without a protobuf library: walks a PublishRequest that
// holds a batch, writes SubscribeResponse messages. Knows nothing of publications, credit or threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "client/publication.h"

namespace outrigger::client {

// Why bytes are no PublishRequest with a batch.
enum class CodecError : uint8_t {
  kNone,
  kTruncated,    // a field reaches past the end of what holds it
  kBadVarint,    // a varint of more than 64 bits
  kBadTag,       // field number 0, or a tag over 32 bits
  kBadWireType,  // 6 or 7, or a group that ends without a start
  kTooDeep,      // unknown groups nested deeper than any real message
  kNoBatch,      // well-formed, but neither batch nor open in it
  kIsOpen,       // an open request: only the first one of a stream may be
  kTooLong,      // over 2 GiB
};
// A phrase for "the request ...".
const char* describe(CodecError error);

// Messages point into the bytes that were read. The vector is reused between batches.
struct PublishBatch {
  uint64_t sequence = 0;
  std::vector<MessagePart> messages;
};

// Reads the whole request before anything of it is used. Unknown fields are skipped, as every protobuf reader does; of several members of
// the oneof the last one counts, and parts of a split batch are put together.
CodecError readPublishBatch(const uint8_t* request, size_t length, PublishBatch& batch);

// outrigger.v1.ImageEnd and outrigger.v1.GapReason.
enum class ImageEndCode : uint8_t { kEndOfStream = 1, kTimedOut = 2, kDriverLost = 3, kRevoked = 4 };
enum class GapCode : uint8_t { kSkipped = 1, kRejoined = 2, kUnreliableLoss = 3 };

// Encoded SubscribeResponse messages in one piece of memory, in order. A batch stays open, and grows, until another image, an event, its
// size limit or seal() ends it. One thread at a time.
class ResponseChunk {
 public:
  struct Slice {
    size_t begin;
    size_t length;
  };

  // position: of the stream after this message. A batch holds at most maxBatchBytes of messages; one that is longer travels alone.
  void addMessage(int32_t sessionId, int32_t streamId, int64_t position, const uint8_t* message, size_t length, size_t maxBatchBytes);
  // source is made ASCII, since a protobuf string must be UTF-8 and this one comes out of shared memory.
  void addImageAvailable(int32_t sessionId, int64_t joinPosition, std::string_view source);
  void addImageUnavailable(int32_t sessionId, int64_t position, ImageEndCode reason);
  void addGap(int32_t sessionId, int64_t from, int64_t to, uint64_t messages, GapCode reason);
  void addLagging(uint32_t milliseconds);

  // Ends the open batch. After it responses() is complete.
  void seal();
  const std::vector<Slice>& responses() const { return slices_; }
  const uint8_t* data() const { return buffer_.get(); }
  // Bytes of memory used so far, and nothing in it at all.
  size_t size() const { return used_; }
  bool empty() const { return slices_.empty() && !open_; }
  // Forgets everything; keeps at most keepCapacity bytes of memory.
  void clear(size_t keepCapacity);

  uint64_t messages() const { return messages_; }
  uint64_t payloadBytes() const { return payloadBytes_; }

 private:
  uint8_t* room(size_t bytes);
  void putEvent(uint32_t field, const uint8_t* body, size_t length);

  std::unique_ptr<uint8_t[]> buffer_;
  size_t capacity_ = 0;
  size_t used_ = 0;
  std::vector<Slice> slices_;
  uint64_t messages_ = 0;
  uint64_t payloadBytes_ = 0;

  bool open_ = false;
  int32_t sessionId_ = 0;
  int32_t streamId_ = 0;
  int64_t position_ = 0;
  size_t bodyBegin_ = 0;
  size_t batchBytes_ = 0;
};

}  // namespace outrigger::client
