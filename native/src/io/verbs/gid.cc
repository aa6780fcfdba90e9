// SPDX-License-Identifier: Apache-2.0
// See the header.
#include "io/verbs/gid.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>

namespace outrigger::io::verbs {
namespace {

constexpr std::array<uint8_t, 12> kMapped{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF};
constexpr uint32_t kIpv4Offset = 20;  // the IPv4 header is the end of the 40 bytes

// RFC 791: over all 16-bit words of the header, its checksum among them.
bool checksumHolds(const uint8_t* header) {
  uint32_t sum = 0;
  for (uint32_t i = 0; i < 20; i += 2) sum += static_cast<uint32_t>(header[i] << 8 | header[i + 1]);
  sum = (sum & 0xFFFF) + (sum >> 16);
  sum = (sum & 0xFFFF) + (sum >> 16);
  return sum == 0xFFFF;
}

}  // namespace

Gid gidOf(const net::IpAddress& address) {
  if (address.isV6()) return address.bytes;
  Gid gid{};
  std::copy(kMapped.begin(), kMapped.end(), gid.begin());
  std::copy_n(address.bytes.begin(), 4, gid.begin() + 12);
  return gid;
}

net::IpAddress addressOf(const Gid& gid) {
  if (std::equal(kMapped.begin(), kMapped.end(), gid.begin())) return net::IpAddress::fromBytes(AF_INET, gid.data() + 12);
  return net::IpAddress::fromBytes(AF_INET6, gid.data());
}

std::string gidText(const Gid& gid) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  ::inet_ntop(AF_INET6, gid.data(), text.data(), text.size());
  return text.data();
}

std::optional<RouteAddresses> readRouteHeader(std::span<const uint8_t, kRouteHeaderLength> header) {
  const uint8_t* v4 = header.data() + kIpv4Offset;
  const bool looksV6 = header[0] >> 4 == 6;
  const bool looksV4 = v4[0] == 0x45;
  if (!looksV6 && !looksV4) return std::nullopt;
  // Both can hold, since nothing says what stands before an IPv4 header, nor which bytes an IPv6 address begins its second half with. The checksum
  // tells, and is asked only then: a datagram that never left the host may come without.
  if (looksV4 && (!looksV6 || checksumHolds(v4))) {
    return RouteAddresses{net::IpAddress::fromBytes(AF_INET, v4 + 12), net::IpAddress::fromBytes(AF_INET, v4 + 16)};
  }
  Gid source;
  Gid destination;
  std::copy_n(header.begin() + 8, source.size(), source.begin());
  std::copy_n(header.begin() + 24, destination.size(), destination.begin());
  return RouteAddresses{addressOf(source), addressOf(destination)};
}

}  // namespace outrigger::io::verbs
