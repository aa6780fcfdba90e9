// SPDX-License-Identifier: Apache-2.0
// SockAddr: comparison, hash, text form, numeric parsing. No name is looked up here.
#include <arpa/inet.h>
#include <net/if.h>

#include "io/datagram_io.h"

namespace outrigger::io {
namespace {

const sockaddr_in& v4(const SockAddr& address) { return *reinterpret_cast<const sockaddr_in*>(&address.storage); }
const sockaddr_in6& v6(const SockAddr& address) { return *reinterpret_cast<const sockaddr_in6*>(&address.storage); }

// One splitmix64 round: spreads neighbouring addresses and ports over the whole word.
uint64_t mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
  return z ^ (z >> 31);
}

}  // namespace

bool SockAddr::operator==(const SockAddr& other) const {
  if (family() != other.family()) return false;
  if (family() == AF_INET) {
    return v4(*this).sin_port == v4(other).sin_port && v4(*this).sin_addr.s_addr == v4(other).sin_addr.s_addr;
  }
  if (family() == AF_INET6) {
    return v6(*this).sin6_port == v6(other).sin6_port && v6(*this).sin6_scope_id == v6(other).sin6_scope_id &&
           std::memcmp(&v6(*this).sin6_addr, &v6(other).sin6_addr, sizeof(in6_addr)) == 0;
  }
  return true;
}

uint64_t SockAddr::hash() const {
  const uint64_t familyAndPort = (static_cast<uint64_t>(family()) << 16) | port();
  if (family() == AF_INET) return mix((static_cast<uint64_t>(v4(*this).sin_addr.s_addr) << 32) | familyAndPort);
  if (family() == AF_INET6) {
    uint64_t words[2];
    std::memcpy(words, &v6(*this).sin6_addr, sizeof(words));
    return mix(mix(words[0] ^ familyAndPort) ^ words[1]);
  }
  return 0;
}

std::string SockAddr::toString() const {
  char text[INET6_ADDRSTRLEN] = "";
  if (family() == AF_INET) {
    ::inet_ntop(AF_INET, &v4(*this).sin_addr, text, sizeof(text));
    return std::string(text) + ":" + std::to_string(port());
  }
  if (family() == AF_INET6) {
    ::inet_ntop(AF_INET6, &v6(*this).sin6_addr, text, sizeof(text));
    std::string host = text;
    if (v6(*this).sin6_scope_id != 0) {
      char name[IF_NAMESIZE] = "";
      const unsigned scope = v6(*this).sin6_scope_id;
      host += "%";
      host += ::if_indextoname(scope, name) != nullptr ? std::string(name) : std::to_string(scope);
    }
    return "[" + host + "]:" + std::to_string(port());
  }
  return "unspecified";
}

Result<SockAddr> SockAddr::parseNumeric(const std::string& host, uint16_t port) {
  SockAddr address;
  auto* in = reinterpret_cast<sockaddr_in*>(&address.storage);
  if (::inet_pton(AF_INET, host.c_str(), &in->sin_addr) == 1) {
    in->sin_family = AF_INET;
    address.length = sizeof(sockaddr_in);
    address.setPort(port);
    return address;
  }
  const size_t percent = host.find('%');
  auto* in6 = reinterpret_cast<sockaddr_in6*>(&address.storage);
  if (::inet_pton(AF_INET6, host.substr(0, percent).c_str(), &in6->sin6_addr) != 1) {
    return makeError(ErrorCode::kUnknownHost, "'" + host + "' is not a numeric IPv4 or IPv6 address");
  }
  in6->sin6_family = AF_INET6;
  address.length = sizeof(sockaddr_in6);
  address.setPort(port);
  if (percent != std::string::npos) {
    const std::string scope = host.substr(percent + 1);
    in6->sin6_scope_id = ::if_nametoindex(scope.c_str());
    if (in6->sin6_scope_id == 0) {
      return makeError(ErrorCode::kUnknownHost,
                       "address '" + host + "' names the network interface '" + scope + "', which does not exist here");
    }
  }
  return address;
}

}  // namespace outrigger::io
