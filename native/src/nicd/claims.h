// SPDX-License-Identifier: Apache-2.0
// Claims: what one driver may open, as the node's agent wrote it down. A file a claim, its name the claim's name, lines `key = value`.
// Read anew at each connection: what is removed counts from the next one on.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "io/nicd_client/protocol.h"

namespace outrigger::nicd {

using Token = std::array<uint8_t, kTokenLength>;

struct PortRange {
  uint16_t first = 0;
  uint16_t last = 0;
};

struct Claim {
  std::string name;
  Token token{};
  std::string interface;
  std::vector<uint32_t> queues;         // empty: all
  std::vector<io::SockAddr> addresses;  // empty: all of the interface, and the wildcard
  std::vector<PortRange> ports;         // empty: 1024 and above
  std::vector<uint32_t> uids;           // empty: any
  bool packet = false;                  // AF_PACKET sockets too

  bool allowsQueue(uint32_t queue) const;
  bool allowsAddress(const Address& address) const;  // the port is not looked at
  bool allowsPort(uint16_t port) const;
};

// An error names the line. Keys: token (64 hex digits), interface, queues, addresses, ports (ranges as 40000-40100), uids, packet (yes, no);
// lists are separated by commas; lines that begin with # are comments.
Result<Claim> parseClaim(std::string_view name, std::string_view text);

// `name` has passed decodeRequest. Fails alike for a claim that is not there and for a wrong token.
Result<Claim> loadClaim(const std::string& directory, const std::string& name, const Token& token);

// Takes as long for any two tokens.
bool sameToken(const Token& a, const Token& b);

std::string toHex(const Token& token);
bool fromHex(std::string_view text, Token& token);

}  // namespace outrigger::nicd
