// SPDX-License-Identifier: Apache-2.0
// Takes a received frame apart: a UDP datagram (or train of them) for us, something for another part of the stack, or nothing, with the reason.
// Reads nothing outside the frame, keeps no state.
#pragma once

#include <cstdint>

#include "io/frame/frame_io.h"
#include "io/stack/stack_stats.h"
#include "net/ip_address.h"

namespace outrigger::io {

enum class FrameKind : uint8_t {
  kDatagram,
  kArp,      // body: the ARP packet
  kIcmp,     // body: the ICMP or ICMPv6 message, checksum not yet verified
  kDropped,  // reason says why
};

struct ParsedFrame {
  FrameKind kind = FrameKind::kDropped;
  StackCounter reason = StackCounter::kShortFrames;
  bool broadcast = false;  // the destination MAC address is a group's
  MacAddress sourceMac{};
  net::IpAddress source;
  net::IpAddress destination;
  uint16_t sourcePort = 0;
  uint16_t destinationPort = 0;
  uint8_t hopLimit = 0;
  const uint8_t* body = nullptr;  // UDP payload, ARP packet, ICMP message
  uint32_t length = 0;
  const uint8_t* ip = nullptr;  // the IP header
};

struct FrameRules {
  MacAddress ownMac{};
  uint16_t vlan = 0;  // 0: untagged, or tagged with priority only
};

// `frame` is one linear buffer, `more` is ignored.
void parseFrame(const RxFrame& frame, const FrameRules& rules, ParsedFrame& out);

// Sum of the pseudo-header of RFC 768 and RFC 8200, section 8.1, to which the checksum of UDP or ICMPv6 adds its message.
uint64_t pseudoHeaderSum(const net::IpAddress& source, const net::IpAddress& destination, uint8_t protocol, uint32_t length);

}  // namespace outrigger::io
