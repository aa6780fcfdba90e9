// SPDX-License-Identifier: Apache-2.0
// See the header.
#include "io/verbs/exchange.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace outrigger::io::verbs {
namespace {

static_assert(std::endian::native == std::endian::little, "written as it lies in memory, as all frames are");

constexpr uint16_t kFrameType = 0xFFFF;         // HDR_TYPE_EXT of Aeron
constexpr uint32_t kMagic = 0x5856524F;         // "ORVX"
constexpr uint32_t kMaxQueueNumber = 0xFFFFFF;  // 24 bits on the wire
constexpr uint32_t kFirstQueueNumber = 2;       // 0 and 1 are the port's management queue pairs
constexpr uint32_t kMaxQueueKey = 0x7FFFFFFF;   // above, the sender's own key would be taken (IBA 10.2.5)
constexpr uint32_t kMinMtu = 256;
constexpr uint32_t kMaxMtu = 4096;

template <typename T>
T at(std::span<const uint8_t> bytes, size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof(value));
  return value;
}

template <typename T>
void put(std::span<uint8_t> bytes, size_t offset, T value) {
  std::memcpy(bytes.data() + offset, &value, sizeof(value));
}

bool zeros(std::span<const uint8_t> bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](uint8_t each) { return each == 0; });
}

bool validAnswer(const ExchangeMessage& message) {
  return !zeros(message.gid) && message.gid[0] != 0xFF && message.queueNumber >= kFirstQueueNumber &&
         message.queueNumber <= kMaxQueueNumber && message.queueKey <= kMaxQueueKey && message.mtu >= kMinMtu && message.mtu <= kMaxMtu &&
         std::has_single_bit(message.mtu);
}

}  // namespace

void writeExchange(const ExchangeMessage& message, std::span<uint8_t, kExchangeLength> to) {
  std::fill(to.begin(), to.end(), uint8_t{0});
  put(to, 0, static_cast<int32_t>(kExchangeLength));
  put(to, 6, kFrameType);
  put(to, 8, kMagic);
  put(to, 12, message.version);
  put(to, 13, static_cast<uint8_t>(message.kind));
  put(to, 14, static_cast<uint8_t>(message.reason));
  put(to, 16, message.nonce);
  std::copy(message.gid.begin(), message.gid.end(), to.begin() + 24);
  put(to, 40, message.queueNumber);
  put(to, 44, message.queueKey);
  put(to, 48, message.mtu);
}

ExchangeVerdict readExchange(std::span<const uint8_t> from, ExchangeMessage& message) {
  if (from.size() < kExchangePrefixLength || at<uint16_t>(from, 6) != kFrameType || at<uint32_t>(from, 8) != kMagic) {
    return ExchangeVerdict::kNotExchange;
  }
  message = {};
  message.version = from[12];
  const uint8_t kind = from[13];
  const uint8_t reason = from[14];
  message.nonce = at<uint64_t>(from, 16);
  if (kind < static_cast<uint8_t>(ExchangeKind::kAsk) || kind > static_cast<uint8_t>(ExchangeKind::kRefusal)) {
    return ExchangeVerdict::kMalformed;
  }
  message.kind = static_cast<ExchangeKind>(kind);
  if (message.version != kExchangeVersion) return message.version == 0 ? ExchangeVerdict::kMalformed : ExchangeVerdict::kOtherVersion;
  if (from.size() != kExchangeLength || at<int32_t>(from, 0) != static_cast<int32_t>(kExchangeLength) || from[4] != 0 || from[5] != 0 ||
      from[15] != 0 || !zeros(from.subspan(52))) {
    return ExchangeVerdict::kMalformed;
  }
  std::copy_n(from.begin() + 24, message.gid.size(), message.gid.begin());
  message.queueNumber = at<uint32_t>(from, 40);
  message.queueKey = at<uint32_t>(from, 44);
  message.mtu = at<uint32_t>(from, 48);
  const bool refusal = message.kind == ExchangeKind::kRefusal;
  if (refusal != (reason != 0) || reason > static_cast<uint8_t>(RefusalReason::kPortDown)) return ExchangeVerdict::kMalformed;
  message.reason = static_cast<RefusalReason>(reason);
  if (message.kind == ExchangeKind::kAnswer) return validAnswer(message) ? ExchangeVerdict::kOk : ExchangeVerdict::kMalformed;
  return zeros(from.subspan(24, 28)) ? ExchangeVerdict::kOk : ExchangeVerdict::kMalformed;
}

const char* refusalText(RefusalReason reason) {
  switch (reason) {
    case RefusalReason::kNone:
      break;
    case RefusalReason::kNoGid:
      return "its address has no RoCE v2 GID on the device that it uses";
    case RefusalReason::kVersion:
      return "it speaks another version of the exchange";
    case RefusalReason::kPortDown:
      return "the port of its device is down";
  }
  return "";
}

}  // namespace outrigger::io::verbs
