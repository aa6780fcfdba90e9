// SPDX-License-Identifier: Apache-2.0
// Echo and errors; see the header.
#include "io/stack/icmp_messages.h"

#include "io/stack/checksum.h"
#include "io/stack/packet.h"

namespace outrigger::io {

using namespace packet;
using net::IpAddress;

namespace {

constexpr uint32_t kIcmpLength = 8;
constexpr uint8_t kEchoV4 = 8;
constexpr uint8_t kUnreachableV4 = 3;
constexpr uint8_t kFragmentationNeeded = 4;
constexpr uint8_t kTimeExceededV4 = 11;
constexpr uint8_t kUnreachableV6 = 1;
constexpr uint8_t kTooBigV6 = 2;
constexpr uint8_t kTimeExceededV6 = 3;
constexpr uint8_t kEchoV6 = 128;
constexpr uint8_t kEchoReplyV6 = 129;
constexpr uint8_t kHopLimit = 64;

// The beginning of the datagram that an error quotes: its IP header and at least the ports.
bool parseQuoted(const uint8_t* ip, uint32_t length, bool v6, IcmpError& error) {
  uint32_t headerLength = kIpv6Length;
  if (v6) {
    if (length < kIpv6Length + 4 || ip[0] >> 4 != 6 || ip[6] != kProtocolUdp) return false;
    error.source = IpAddress::fromBytes(AF_INET6, ip + 8);
    error.destination = IpAddress::fromBytes(AF_INET6, ip + 24);
  } else {
    if (length < kIpv4Length || ip[0] >> 4 != 4) return false;
    headerLength = (ip[0] & 0x0FU) * 4;
    if (headerLength < kIpv4Length || length < headerLength + 4 || ip[9] != kProtocolUdp) return false;
    error.source = IpAddress::fromBytes(AF_INET, ip + 12);
    error.destination = IpAddress::fromBytes(AF_INET, ip + 16);
  }
  error.sourcePort = load16(ip + headerLength);
  error.destinationPort = load16(ip + headerLength + 2);
  return true;
}

}  // namespace

IcmpKind parseIcmp(const ParsedFrame& frame, RxChecksum checksum, IcmpError& error) {
  const uint8_t* icmp = frame.body;
  if (frame.length < kIcmpLength) return IcmpKind::kMalformed;
  const bool v6 = frame.source.isV6();
  if (checksum == RxChecksum::kUnknown) {
    const uint64_t pseudo = v6 ? pseudoHeaderSum(frame.source, frame.destination, kProtocolIcmpV6, frame.length) : 0;
    if (foldSum(pseudo + sumBytes(icmp, frame.length)) != 0xFFFF) return IcmpKind::kMalformed;
  }
  const uint8_t type = icmp[0];
  if (type == (v6 ? kEchoV6 : kEchoV4)) return icmp[1] == 0 ? IcmpKind::kEchoRequest : IcmpKind::kOther;
  if (v6 && type >= 133 && type <= 137) return IcmpKind::kNeighbourDiscovery;
  const bool unreachable = type == (v6 ? kUnreachableV6 : kUnreachableV4);
  const bool expired = type == (v6 ? kTimeExceededV6 : kTimeExceededV4);
  error.tooBig = v6 ? type == kTooBigV6 : unreachable && icmp[1] == kFragmentationNeeded;
  if (!unreachable && !expired && !error.tooBig) return IcmpKind::kOther;
  if (error.tooBig) error.mtu = v6 ? load32(icmp + 4) : load16(icmp + 6);
  return parseQuoted(icmp + kIcmpLength, frame.length - kIcmpLength, v6, error) ? IcmpKind::kError : IcmpKind::kOther;
}

uint32_t echoReplyLength(const ParsedFrame& request, uint16_t vlan) {
  return kEthernetLength + (vlan != 0 ? kVlanTagLength : 0) + (request.source.isV6() ? kIpv6Length : kIpv4Length) + request.length;
}

void writeEchoReply(const ParsedFrame& request, const MacAddress& ownMac, uint16_t vlan, uint8_t* to) {
  const bool v6 = request.source.isV6();
  std::memcpy(to, request.sourceMac.data(), 6);
  std::memcpy(to + 6, ownMac.data(), 6);
  uint8_t* at = to + 12;
  if (vlan != 0) {
    store16(at, kTypeVlan);
    store16(at + 2, vlan);
    at += kVlanTagLength;
  }
  store16(at, v6 ? kTypeIpv6 : kTypeIpv4);
  uint8_t* ip = at + 2;
  uint8_t* icmp = ip + (v6 ? kIpv6Length : kIpv4Length);
  if (v6) {
    std::memset(ip, 0, kIpv6Length);
    ip[0] = 0x60;
    store16(ip + 4, request.length);
    ip[6] = kProtocolIcmpV6;
    ip[7] = kHopLimit;
    std::memcpy(ip + 8, request.destination.bytes.data(), 16);
    std::memcpy(ip + 24, request.source.bytes.data(), 16);
  } else {
    std::memset(ip, 0, kIpv4Length);
    ip[0] = 0x45;
    store16(ip + 2, kIpv4Length + request.length);
    store16(ip + 6, kDontFragment);
    ip[8] = kHopLimit;
    ip[9] = kProtocolIcmp;
    std::memcpy(ip + 12, request.destination.bytes.data(), 4);
    std::memcpy(ip + 16, request.source.bytes.data(), 4);
    storeSum(ip + 10, static_cast<uint16_t>(~foldSum(sumBytes(ip, kIpv4Length))));
  }
  std::memcpy(icmp, request.body, request.length);
  icmp[0] = v6 ? kEchoReplyV6 : uint8_t{0};
  storeSum(icmp + 2, 0);
  const uint64_t pseudo = v6 ? pseudoHeaderSum(request.destination, request.source, kProtocolIcmpV6, request.length) : 0;
  storeSum(icmp + 2, static_cast<uint16_t>(~foldSum(pseudo + sumBytes(icmp, request.length))));
}

}  // namespace outrigger::io
