// SPDX-License-Identifier: Apache-2.0
// ARP (RFC 826) and neighbour discovery (RFC 4861) as bytes: read with every length checked, written into a frame. Keeps no state.
#pragma once

#include <cstdint>

#include "io/stack/frame_parser.h"

namespace outrigger::io {

// What a neighbour said.
struct NeighbourMessage {
  net::IpAddress sender;  // whose MAC address is told; unspecified: nobody's (an ARP probe, duplicate address detection)
  MacAddress senderMac{};
  bool hasMac = false;
  net::IpAddress target;   // asked for, or announced
  bool request = false;    // wants an answer from `target`
  bool solicited = false;  // an answer to somebody's request
};

// False: malformed, of another kind, or not to be believed (NDP from beyond the link: hop limit below 255).
bool parseArp(const ParsedFrame& frame, NeighbourMessage& out);
bool parseNeighbourDiscovery(const ParsedFrame& frame, NeighbourMessage& out);

struct NeighbourFrame {
  MacAddress ownMac{};
  net::IpAddress own;  // of the same family as `target`
  MacAddress toMac{};  // with `unicast`
  bool unicast = false;
  net::IpAddress target;  // request: who is looked for; answer: to whom
  uint16_t vlan = 0;
};

constexpr uint32_t kMaxNeighbourFrameLength = 14 + 4 + 40 + 32;  // IPv6 solicitation or advertisement with one option, behind a tag

// Each writes a whole frame of at most kMaxNeighbourFrameLength bytes and returns its length.
uint32_t writeNeighbourRequest(const NeighbourFrame& what, uint8_t* to);
// `solicited`: the answer to a request; else an announcement of `own` to all (gratuitous ARP, unsolicited advertisement), target unused.
uint32_t writeNeighbourAnswer(const NeighbourFrame& what, bool solicited, uint8_t* to);

}  // namespace outrigger::io
