// SPDX-License-Identifier: Apache-2.0
// ICMP (RFC 792) and ICMPv6 (RFC 4443) as far as a UDP host needs them: echo requests to answer, errors about what it sent. Keeps no state.
#pragma once

#include <cstdint>

#include "io/stack/frame_parser.h"

namespace outrigger::io {

struct IcmpError {
  net::IpAddress source;       // of the datagram that the error is about: ours
  net::IpAddress destination;  // whom it was for
  uint16_t sourcePort = 0;
  uint16_t destinationPort = 0;
  uint32_t mtu = 0;  // packet too big: what fits, as the router says; 0: it did not say, or another error
  bool tooBig = false;
};

enum class IcmpKind : uint8_t { kEchoRequest, kError, kNeighbourDiscovery, kOther, kMalformed };

// What a message is. kError fills `error`; a checksum that is wrong, or an error about something else than UDP, is kMalformed or kOther.
IcmpKind parseIcmp(const ParsedFrame& frame, RxChecksum checksum, IcmpError& error);

// Length of the frame that answers an echo request.
uint32_t echoReplyLength(const ParsedFrame& request, uint16_t vlan);
// Writes it; `to` has that much room.
void writeEchoReply(const ParsedFrame& request, const MacAddress& ownMac, uint16_t vlan, uint8_t* to);

}  // namespace outrigger::io
