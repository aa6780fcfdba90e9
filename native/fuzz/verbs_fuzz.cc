// SPDX-License-Identifier: Apache-2.0
// Fuzzes what `verbs` reads from the network: messages of the exchange, and the route header before a datagram.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <utility>
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
      // The addresses are those that stand there: GIDs at 8 and 24, IPv4's addresses at 32 and 36.
      const auto stands = [&](const outrigger::net::IpAddress& address, size_t gidAt, size_t v4At) {
        const Gid gid = gidOf(address);
        return std::pair(std::equal(gid.begin(), gid.end(), header.begin() + static_cast<std::ptrdiff_t>(gidAt)),
                         !address.isV6() && std::equal(gid.begin() + 12, gid.end(), header.begin() + static_cast<std::ptrdiff_t>(v4At)));
      };
      const auto [sourceGid, sourceV4] = stands(route->source, 8, 32);
      const auto [destinationGid, destinationV4] = stands(route->destination, 24, 36);
      require((sourceGid && destinationGid) || (sourceV4 && destinationV4));
    }
  }
  return 0;
}
