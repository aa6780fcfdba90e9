// SPDX-License-Identifier: Apache-2.0
// Ethernet, 802.1Q, IPv4 (RFC 791), IPv6 (RFC 8200), UDP (RFC 768), in that order, each length checked before it is believed.
#include "io/stack/frame_parser.h"

#include "io/stack/checksum.h"
#include "io/stack/packet.h"

namespace outrigger::io {

using namespace packet;
using net::IpAddress;

namespace {

void drop(ParsedFrame& out, StackCounter reason) {
  out.kind = FrameKind::kDropped;
  out.reason = reason;
}

bool isExtensionHeader(uint8_t next) {
  return next == kHopByHop || next == kRouting || next == kAuthentication || next == kDestinationOptions || next == kMobility;
}

void parseUdp(const RxFrame& frame, const uint8_t* udp, uint32_t length, ParsedFrame& out) {
  if (length < kUdpLength) return drop(out, StackCounter::kTruncatedFrames);
  const uint32_t udpLength = load16(udp + 4);
  if (udpLength < kUdpLength) return drop(out, StackCounter::kBadUdpLengths);
  if (udpLength > length) return drop(out, StackCounter::kTruncatedFrames);
  uint16_t checksum = 0;
  std::memcpy(&checksum, udp + 6, sizeof(checksum));
  if (checksum == 0) {
    // IPv4: the sender made none. IPv6: not allowed, and nothing else protects the addresses (RFC 8200, section 8.1).
    if (out.source.isV6() && frame.checksum == RxChecksum::kUnknown) return drop(out, StackCounter::kZeroUdpChecksums);
  } else if (frame.checksum == RxChecksum::kUnknown) {
    const uint64_t sum = pseudoHeaderSum(out.source, out.destination, kProtocolUdp, udpLength) + sumBytes(udp, udpLength);
    if (foldSum(sum) != 0xFFFF) return drop(out, StackCounter::kBadUdpChecksums);
  }
  out.kind = FrameKind::kDatagram;
  out.sourcePort = load16(udp);
  out.destinationPort = load16(udp + 2);
  out.body = udp + kUdpLength;
  out.length = udpLength - kUdpLength;
}

void parseTransport(const RxFrame& frame, uint8_t protocol, const uint8_t* body, uint32_t length, ParsedFrame& out) {
  if (protocol == kProtocolUdp) return parseUdp(frame, body, length, out);
  if (protocol == (out.source.isV6() ? kProtocolIcmpV6 : kProtocolIcmp)) {
    out.kind = FrameKind::kIcmp;
    out.body = body;
    out.length = length;
    return;
  }
  drop(out, StackCounter::kOtherProtocolPackets);
}

void parseIpv4(const RxFrame& frame, const uint8_t* ip, uint32_t length, ParsedFrame& out) {
  if (length < kIpv4Length) return drop(out, StackCounter::kTruncatedFrames);
  const uint32_t headerLength = (ip[0] & 0x0FU) * 4;
  if (ip[0] >> 4 != 4 || headerLength < kIpv4Length) return drop(out, StackCounter::kBadIpHeaders);
  const uint32_t totalLength = load16(ip + 2);
  if (totalLength < headerLength) return drop(out, StackCounter::kBadIpHeaders);
  if (totalLength > length) return drop(out, StackCounter::kTruncatedFrames);
  if (foldSum(sumBytes(ip, headerLength)) != 0xFFFF) return drop(out, StackCounter::kBadIpChecksums);
  out.ip = ip;
  out.hopLimit = ip[8];
  out.source = IpAddress::fromBytes(AF_INET, ip + 12);
  out.destination = IpAddress::fromBytes(AF_INET, ip + 16);
  if ((load16(ip + 6) & kFragmentBits) != 0) return drop(out, StackCounter::kFragments);
  if (headerLength != kIpv4Length) return drop(out, StackCounter::kIpOptionPackets);
  parseTransport(frame, ip[9], ip + headerLength, totalLength - headerLength, out);
}

void parseIpv6(const RxFrame& frame, const uint8_t* ip, uint32_t length, ParsedFrame& out) {
  if (length < kIpv6Length) return drop(out, StackCounter::kTruncatedFrames);
  if (ip[0] >> 4 != 6) return drop(out, StackCounter::kBadIpHeaders);
  const uint32_t payloadLength = load16(ip + 4);
  if (payloadLength > length - kIpv6Length) return drop(out, StackCounter::kTruncatedFrames);
  out.ip = ip;
  out.hopLimit = ip[7];
  out.source = IpAddress::fromBytes(AF_INET6, ip + 8);
  out.destination = IpAddress::fromBytes(AF_INET6, ip + 24);
  if (ip[6] == kFragment) return drop(out, StackCounter::kFragments);
  if (isExtensionHeader(ip[6])) return drop(out, StackCounter::kExtensionHeaderPackets);
  parseTransport(frame, ip[6], ip + kIpv6Length, payloadLength, out);
}

}  // namespace

uint64_t pseudoHeaderSum(const IpAddress& source, const IpAddress& destination, uint8_t protocol, uint32_t length) {
  // Length and protocol as two 32-bit words in network order: the same sum for IPv4, whose fields are 16 and 8 bits.
  return sumBytes(source.bytes.data(), source.length()) + sumBytes(destination.bytes.data(), destination.length()) + htonl(length) +
         htonl(protocol);
}

void parseFrame(const RxFrame& frame, const FrameRules& rules, ParsedFrame& out) {
  const uint8_t* data = frame.data;
  uint32_t length = frame.length;
  if (length < kEthernetLength) return drop(out, StackCounter::kShortFrames);
  std::memcpy(out.sourceMac.data(), data + 6, out.sourceMac.size());
  out.broadcast = (data[0] & 1) != 0;
  if (out.sourceMac == rules.ownMac) return drop(out, StackCounter::kOwnMacFrames);
  if (!out.broadcast && std::memcmp(data, rules.ownMac.data(), rules.ownMac.size()) != 0) return drop(out, StackCounter::kOtherMacFrames);
  uint16_t type = load16(data + 12);
  const uint8_t* body = data + kEthernetLength;
  length -= kEthernetLength;
  uint16_t tag = frame.vlanPresent ? frame.vlanTci : uint16_t{0};
  if (type == kTypeVlan || type == kTypeQinQ) {
    if (frame.vlanPresent || type == kTypeQinQ) return drop(out, StackCounter::kDoubleTaggedFrames);
    if (length < kVlanTagLength) return drop(out, StackCounter::kShortFrames);
    tag = load16(body);
    type = load16(body + 2);
    body += kVlanTagLength;
    length -= kVlanTagLength;
    if (type == kTypeVlan || type == kTypeQinQ) return drop(out, StackCounter::kDoubleTaggedFrames);
  }
  if ((tag & 0x0FFF) != rules.vlan) return drop(out, StackCounter::kOtherVlanFrames);
  switch (type) {
    case kTypeIpv4:
      return parseIpv4(frame, body, length, out);
    case kTypeIpv6:
      return parseIpv6(frame, body, length, out);
    case kTypeArp:
      out.kind = FrameKind::kArp;
      out.body = body;
      out.length = length;
      return;
    default:
      return drop(out, StackCounter::kOtherProtocolPackets);
  }
}

}  // namespace outrigger::io
