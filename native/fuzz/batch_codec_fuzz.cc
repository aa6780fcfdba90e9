// SPDX-License-Identifier: Apache-2.0
// Any bytes as a PublishRequest: they are read or refused, messages lie inside them, and what was read survives being written as a response.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "client/batch_codec.h"

using namespace outrigger::client;

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static PublishBatch batch;
  if (readPublishBatch(data, size, batch) != CodecError::kNone) return 0;
  size_t total = 0;
  for (const MessagePart& part : batch.messages) {
    const auto* at = static_cast<const uint8_t*>(part.data);
    require(part.length >= 0 && at >= data && at + part.length <= data + size);
    total += static_cast<size_t>(part.length);
  }
  require(total <= size);

  // A MessageBatch keeps its messages in another field; turned back into a PublishRequest it must read the same.
  ResponseChunk chunk;
  for (const MessagePart& part : batch.messages) {
    chunk.addMessage(0, 0, 0, static_cast<const uint8_t*>(part.data), static_cast<size_t>(part.length), size + 1);
  }
  chunk.seal();
  if (batch.messages.empty()) {
    require(chunk.responses().empty());
    return 0;
  }
  require(chunk.responses().size() == 1);
  const auto slice = chunk.responses().front();
  std::vector<uint8_t> request(chunk.data() + slice.begin, chunk.data() + slice.begin + slice.length);
  require(request.front() == 0x12);
  size_t at = 1;
  while ((request[at] & 0x80) != 0) ++at;
  ++at;
  for (const MessagePart& part : batch.messages) {
    require(request[at] == 0x22);
    request[at] = 0x12;
    ++at;
    while ((request[at] & 0x80) != 0) ++at;
    ++at;
    at += static_cast<size_t>(part.length);
  }
  require(at == request.size());
  PublishBatch again;
  require(readPublishBatch(request.data(), request.size(), again) == CodecError::kNone);
  require(again.messages.size() == batch.messages.size());
  for (size_t i = 0; i < again.messages.size(); ++i) {
    require(again.messages[i].length == batch.messages[i].length);
    require(again.messages[i].length == 0 ||
            std::memcmp(again.messages[i].data, batch.messages[i].data, static_cast<size_t>(again.messages[i].length)) == 0);
  }
  return 0;
}
