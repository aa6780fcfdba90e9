// SPDX-License-Identifier: Apache-2.0
// See drain_check.h.
#include "addon/drain_check.h"

#include <string_view>

namespace outrigger::addon {
namespace {

// Key of a stream's counter: int64 registration id, int32 session, int32 stream, int32 channel length, channel.
constexpr size_t kKeySession = 8;
constexpr size_t kKeyStream = 12;
constexpr size_t kKeyChannelLength = 16;
constexpr size_t kKeyChannel = 20;

bool isIpcKey(const std::vector<uint8_t>& key) {
  const auto length = readAt<int32_t>(key.data(), kKeyChannelLength);
  constexpr std::string_view kIpc = "aeron:ipc";
  if (length < static_cast<int32_t>(kIpc.size())) return false;
  return std::string_view(reinterpret_cast<const char*>(key.data()) + kKeyChannel, kIpc.size()) == kIpc;
}

}  // namespace

bool DrainCheck::isDrained(const client::DriverMemory& memory) const {
  if (position_ < 0) return false;  // closed before
  bool senderFound = false;
  for (const cnc::CounterSnapshot& counter : cnc::readCounters(memory.regions())) {
    const bool ours =
        readAt<int32_t>(counter.key.data(), kKeySession) == sessionId_ && readAt<int32_t>(counter.key.data(), kKeyStream) == streamId_;
    if (!ours) continue;
    if (ipc_) {
      if (counter.typeId == cnc::counter_type::kSubscriberPosition && isIpcKey(counter.key) && counter.value < position_) return false;
    } else if (counter.typeId == cnc::counter_type::kSenderPosition && readAt<int64_t>(counter.key.data(), 0) == registrationId_) {
      if (counter.value < position_) return false;
      senderFound = true;
    }
  }
  return ipc_ || senderFound;
}

}  // namespace outrigger::addon
