// SPDX-License-Identifier: Apache-2.0
// Any bytes in the to-driver ring and in a command: the ring must stay inside its memory and stay usable, the decoder inside its record.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "cnc/mpsc_ring.h"
#include "driver/conductor/client_commands.h"
#include "driver/conductor/stream_params.h"
#include "logbuffer/descriptor.h"
#include "net/channel_uri.h"

namespace {

constexpr size_t kCapacity = 4096;

void require(bool condition) {
  if (!condition) std::abort();
}

void decode(int32_t type, const uint8_t* bytes, int32_t length) {
  // An allocation of exactly this length, so that a sanitizer sees each byte read behind it.
  const std::vector<uint8_t> copy(bytes, bytes + length);
  const auto decoded = outrigger::driver::decodeCommand(type, copy.data(), length);
  require(decoded.correlationKnown == (length >= 16));
  if (decoded.status != outrigger::driver::DecodeStatus::kDecoded) {
    require(!decoded.problem.empty());
    return;
  }
  require(decoded.command.channel.size() <= copy.size() && decoded.command.key.size() + decoded.command.text.size() <= copy.size());
  if (decoded.command.channel.empty()) return;
  auto uri = outrigger::net::ChannelUri::parse(decoded.command.channel);
  if (!uri) return;
  const outrigger::driver::DriverConfig config;
  auto publication = outrigger::driver::parsePublicationParams(*uri, decoded.command.streamId, config);
  if (publication) {
    require(outrigger::logbuffer::isValidTermLength(publication->termLength) && outrigger::logbuffer::isValidMtu(publication->mtu));
    require(publication->termOffset >= 0 && publication->termOffset < publication->termLength);
    require(publication->windowLength <= publication->termLength / 2);
  }
  auto subscription = outrigger::driver::parseSubscriptionParams(*uri, decoded.command.streamId, config);
  if (subscription) require(subscription->receiverWindow > 0);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 4) return 0;
  int32_t type = 0;
  std::memcpy(&type, data, sizeof(type));
  decode(type & 0x1F, data + 4, static_cast<int32_t>(size - 4));

  // The same bytes as the ring's memory, tail and all.
  std::vector<int64_t> memory((kCapacity + outrigger::cnc::kRingTrailerLength) / 8);
  auto* base = reinterpret_cast<uint8_t*>(memory.data());
  std::memcpy(base, data, size < kCapacity ? size : kCapacity);
  if (size > kCapacity) std::memcpy(base + kCapacity + 128, data + kCapacity, size - kCapacity < 8 ? size - kCapacity : 8);
  outrigger::cnc::MpscRing ring({base, kCapacity + outrigger::cnc::kRingTrailerLength});
  int64_t corrupted = 0;
  const auto read = [&] {
    return ring.read([](int32_t each, const uint8_t* message, int32_t length) { decode(each, message, length); }, 64, corrupted);
  };
  for (int i = 0; i < 64; ++i) {
    if (read() == 0 && corrupted > 0) break;
    ring.unblock();
  }
  return 0;
}
