// SPDX-License-Identifier: Apache-2.0
// An IPv4 or IPv6 address without a port, as bytes in network order: what routes, neighbours and packets are made of.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <string>

#include "io/datagram_io.h"

namespace outrigger::net {

struct IpAddress {
  std::array<uint8_t, 16> bytes{};  // IPv4: the first four
  uint8_t family = AF_UNSPEC;

  bool operator==(const IpAddress&) const = default;
  bool isV6() const { return family == AF_INET6; }
  uint32_t length() const { return isV6() ? 16 : 4; }
  bool unspecified() const { return bytes == std::array<uint8_t, 16>{}; }
  bool isMulticast() const { return isV6() ? bytes[0] == 0xFF : (bytes[0] & 0xF0) == 0xE0; }
  bool isLinkLocalV6() const { return isV6() && bytes[0] == 0xFE && (bytes[1] & 0xC0) == 0x80; }
  bool isLoopback() const {
    if (!isV6()) return bytes[0] == 127;
    std::array<uint8_t, 16> one{};
    one[15] = 1;
    return bytes == one;
  }

  static IpAddress fromBytes(uint8_t family, const void* bytes) {
    IpAddress address;
    address.family = family;
    std::memcpy(address.bytes.data(), bytes, address.length());
    return address;
  }
  static IpAddress of(const io::SockAddr& address) {
    if (address.isV6()) return fromBytes(AF_INET6, &reinterpret_cast<const sockaddr_in6*>(&address.storage)->sin6_addr);
    if (address.family() == AF_INET) return fromBytes(AF_INET, &reinterpret_cast<const sockaddr_in*>(&address.storage)->sin_addr);
    return {};
  }
  // For one that is used again and again: only what an address of this family has is written, not all of its storage.
  void writeTo(io::SockAddr& to, uint16_t port, uint32_t scopeId = 0) const {
    if (isV6()) {
      auto* in6 = reinterpret_cast<sockaddr_in6*>(&to.storage);
      in6->sin6_family = AF_INET6;
      in6->sin6_port = htons(port);
      in6->sin6_flowinfo = 0;
      std::memcpy(&in6->sin6_addr, bytes.data(), 16);
      in6->sin6_scope_id = isLinkLocalV6() ? scopeId : 0;
      to.length = sizeof(sockaddr_in6);
    } else {
      auto* in = reinterpret_cast<sockaddr_in*>(&to.storage);
      in->sin_family = AF_INET;
      in->sin_port = htons(port);
      std::memcpy(&in->sin_addr, bytes.data(), 4);
      to.length = sizeof(sockaddr_in);
    }
  }
  io::SockAddr toSockAddr(uint16_t port, uint32_t scopeId = 0) const {
    io::SockAddr address;
    writeTo(address, port, scopeId);
    return address;
  }
  std::string toString() const {
    char text[INET6_ADDRSTRLEN] = "";
    ::inet_ntop(family, bytes.data(), text, sizeof(text));
    return text;
  }
  // The first `prefixLength` bits are equal.
  bool inPrefix(const IpAddress& network, uint32_t prefixLength) const {
    if (family != network.family) return false;
    const uint32_t whole = prefixLength / 8;
    if (std::memcmp(bytes.data(), network.bytes.data(), whole) != 0) return false;
    const uint32_t rest = prefixLength % 8;
    return rest == 0 || ((bytes[whole] ^ network.bytes[whole]) & static_cast<uint8_t>(0xFF00U >> rest)) == 0;
  }
};

}  // namespace outrigger::net
