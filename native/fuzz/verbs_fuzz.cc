// SPDX-License-Identifier: Apache-2.0
// Fuzzes what `verbs` reads from the network: messages of the exchange, and the route header before a datagram.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "io/verbs/exchange.h"
#include "io/verbs/gid.h"

using namespace outrigger::io::verbs;

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // A copy of its own length: what is read beyond it is found.
  const std::vector<uint8_t> bytes(data, data + size);
  ExchangeMessage message;
  if (readExchange(bytes, message) == ExchangeVerdict::kOk) {
    require(size == kExchangeLength && message.version == kExchangeVersion);
    if (message.kind == ExchangeKind::kAnswer) {
      require(message.queueNumber >= 2 && message.queueNumber < 1U << 24 && message.mtu >= 256 && message.mtu <= 4096);
    }
    // Nothing of it is lost: written again it is the same.
    std::array<uint8_t, kExchangeLength> again;
    writeExchange(message, again);
    require(std::equal(again.begin(), again.end(), bytes.begin()));
  }
  if (size >= kRouteHeaderLength) {
    const std::vector<uint8_t> header(data, data + kRouteHeaderLength);
    if (const auto route = readRouteHeader(std::span<const uint8_t, kRouteHeaderLength>(header.data(), kRouteHeaderLength))) {
      require(route->source.family == route->destination.family || route->source.isV6() || route->destination.isV6());
    }
  }
  return 0;
}
