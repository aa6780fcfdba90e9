// SPDX-License-Identifier: Apache-2.0
// ARP and neighbour discovery; see the header.
#include "io/stack/neighbour_messages.h"

#include "io/stack/checksum.h"
#include "io/stack/packet.h"

namespace outrigger::io {

using namespace packet;
using net::IpAddress;

namespace {

constexpr uint32_t kArpLength = 28;
constexpr uint16_t kArpRequest = 1;
constexpr uint16_t kArpReply = 2;
constexpr uint8_t kSolicitation = 135;
constexpr uint8_t kAdvertisement = 136;
constexpr uint32_t kDiscoveryLength = 24;  // type, code, checksum, flags, target
constexpr uint8_t kSourceOption = 1;
constexpr uint8_t kTargetOption = 2;
constexpr uint32_t kOptionLength = 8;
constexpr uint32_t kSolicitedFlag = 0x40000000;
constexpr uint32_t kOverrideFlag = 0x20000000;
constexpr MacAddress kBroadcast{0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF};

bool isUnicastMac(const MacAddress& mac) { return (mac[0] & 1) == 0 && mac != MacAddress{}; }

uint8_t* writeEthernet(uint8_t* at, const MacAddress& to, const MacAddress& from, uint16_t vlan, uint16_t type) {
  std::memcpy(at, to.data(), 6);
  std::memcpy(at + 6, from.data(), 6);
  at += 12;
  if (vlan != 0) {
    store16(at, kTypeVlan);
    store16(at + 2, vlan);
    at += kVlanTagLength;
  }
  store16(at, type);
  return at + 2;
}

uint32_t writeArp(const NeighbourFrame& what, uint16_t operation, const MacAddress& to, const IpAddress& target,
                  const MacAddress& targetMac, uint8_t* frame) {
  uint8_t* arp = writeEthernet(frame, to, what.ownMac, what.vlan, kTypeArp);
  store16(arp, 1);  // Ethernet
  store16(arp + 2, kTypeIpv4);
  arp[4] = 6;
  arp[5] = 4;
  store16(arp + 6, operation);
  std::memcpy(arp + 8, what.ownMac.data(), 6);
  std::memcpy(arp + 14, what.own.bytes.data(), 4);
  std::memcpy(arp + 18, targetMac.data(), 6);
  std::memcpy(arp + 24, target.bytes.data(), 4);
  return static_cast<uint32_t>(arp - frame) + kArpLength;
}

// Multicast MAC addresses are the last 32 bits of the group's (RFC 2464, section 7).
MacAddress groupMac(const IpAddress& group) { return {0x33, 0x33, group.bytes[12], group.bytes[13], group.bytes[14], group.bytes[15]}; }

IpAddress allNodes() {
  IpAddress group;
  group.family = AF_INET6;
  group.bytes = {0xFF, 0x02};
  group.bytes[15] = 1;
  return group;
}

// RFC 4291, section 2.7.1.
IpAddress solicitedNode(const IpAddress& target) {
  IpAddress group = allNodes();
  group.bytes[11] = 1;
  group.bytes[12] = 0xFF;
  std::memcpy(&group.bytes[13], &target.bytes[13], 3);
  return group;
}

uint32_t writeDiscovery(const NeighbourFrame& what, uint8_t type, uint32_t flags, const IpAddress& to, const MacAddress& toMac,
                        const IpAddress& target, uint8_t* frame) {
  uint8_t* ip = writeEthernet(frame, toMac, what.ownMac, what.vlan, kTypeIpv6);
  const uint32_t length = kDiscoveryLength + kOptionLength;
  std::memset(ip, 0, kIpv6Length + length);
  ip[0] = 0x60;
  store16(ip + 4, length);
  ip[6] = kProtocolIcmpV6;
  ip[7] = 255;
  std::memcpy(ip + 8, what.own.bytes.data(), 16);
  std::memcpy(ip + 24, to.bytes.data(), 16);
  uint8_t* icmp = ip + kIpv6Length;
  icmp[0] = type;
  store32(icmp + 4, flags);
  std::memcpy(icmp + 8, target.bytes.data(), 16);
  icmp[24] = type == kSolicitation ? kSourceOption : kTargetOption;
  icmp[25] = 1;  // in units of eight bytes
  std::memcpy(icmp + 26, what.ownMac.data(), 6);
  storeSum(icmp + 2, static_cast<uint16_t>(~foldSum(pseudoHeaderSum(what.own, to, kProtocolIcmpV6, length) + sumBytes(icmp, length))));
  return static_cast<uint32_t>(icmp - frame) + length;
}

}  // namespace

bool parseArp(const ParsedFrame& frame, NeighbourMessage& out) {
  const uint8_t* arp = frame.body;
  if (frame.length < kArpLength || load16(arp) != 1 || load16(arp + 2) != kTypeIpv4 || arp[4] != 6 || arp[5] != 4) return false;
  const uint16_t operation = load16(arp + 6);
  if (operation != kArpRequest && operation != kArpReply) return false;
  std::memcpy(out.senderMac.data(), arp + 8, 6);
  out.sender = IpAddress::fromBytes(AF_INET, arp + 14);
  out.target = IpAddress::fromBytes(AF_INET, arp + 24);
  if (!isUnicastMac(out.senderMac) || out.sender.isMulticast()) return false;
  out.hasMac = !out.sender.unspecified();
  out.request = operation == kArpRequest && !(out.sender == out.target);
  out.solicited = operation == kArpReply && !(out.sender == out.target);
  return true;
}

bool parseNeighbourDiscovery(const ParsedFrame& frame, NeighbourMessage& out) {
  const uint8_t* icmp = frame.body;
  // A hop limit of 255 shows that no router passed it on (RFC 4861, section 7.1).
  if (frame.length < kDiscoveryLength || frame.hopLimit != 255 || icmp[1] != 0) return false;
  const uint8_t type = icmp[0];
  if (type != kSolicitation && type != kAdvertisement) return false;
  if (foldSum(pseudoHeaderSum(frame.source, frame.destination, kProtocolIcmpV6, frame.length) + sumBytes(icmp, frame.length)) != 0xFFFF) {
    return false;
  }
  out.target = IpAddress::fromBytes(AF_INET6, icmp + 8);
  if (out.target.isMulticast()) return false;
  const uint8_t wanted = type == kSolicitation ? kSourceOption : kTargetOption;
  for (uint32_t at = kDiscoveryLength; at + kOptionLength <= frame.length;) {
    const uint32_t length = icmp[at + 1] * 8U;
    if (length == 0 || at + length > frame.length) return false;
    if (icmp[at] == wanted) {
      std::memcpy(out.senderMac.data(), icmp + at + 2, 6);
      out.hasMac = isUnicastMac(out.senderMac);
    }
    at += length;
  }
  if (type == kSolicitation) {
    out.request = true;
    out.sender = frame.source;
    if (out.sender.unspecified()) out.hasMac = false;  // somebody looks whether the address is free
  } else {
    out.sender = out.target;
    out.solicited = (load32(icmp + 4) & kSolicitedFlag) != 0;
    // One to a single host may leave the option out: the frame's own address counts.
    if (!out.hasMac && out.solicited && isUnicastMac(frame.sourceMac)) {
      out.senderMac = frame.sourceMac;
      out.hasMac = true;
    }
  }
  return true;
}

uint32_t writeNeighbourRequest(const NeighbourFrame& what, uint8_t* to) {
  if (what.target.isV6()) {
    const IpAddress group = solicitedNode(what.target);
    return writeDiscovery(what, kSolicitation, 0, what.unicast ? what.target : group, what.unicast ? what.toMac : groupMac(group),
                          what.target, to);
  }
  return writeArp(what, kArpRequest, what.unicast ? what.toMac : kBroadcast, what.target, {}, to);
}

uint32_t writeNeighbourAnswer(const NeighbourFrame& what, bool solicited, uint8_t* to) {
  if (what.own.isV6()) {
    const bool toAll = !solicited || what.target.unspecified();
    const IpAddress destination = toAll ? allNodes() : what.target;
    const uint32_t flags = kOverrideFlag | (toAll ? 0 : kSolicitedFlag);
    return writeDiscovery(what, kAdvertisement, flags, destination, toAll ? groupMac(destination) : what.toMac, what.own, to);
  }
  // A gratuitous request, as hosts send it when an address has moved: all that know the address take the new MAC (RFC 5944, section 4.6).
  if (!solicited) return writeArp(what, kArpRequest, kBroadcast, what.own, {}, to);
  return writeArp(what, kArpReply, what.toMac, what.target, what.toMac, to);
}

}  // namespace outrigger::io
