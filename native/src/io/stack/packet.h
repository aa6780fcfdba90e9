// SPDX-License-Identifier: Apache-2.0
// Offsets and numbers of Ethernet, IPv4, IPv6, UDP and ICMP as NetStack reads and writes them, and byte order. Headers are read and written by
// offset: a frame may start at any address.
#pragma once

#include <cstdint>
#include <cstring>

namespace outrigger::io::packet {

constexpr uint32_t kEthernetLength = 14;
constexpr uint32_t kVlanTagLength = 4;
constexpr uint32_t kIpv4Length = 20;  // without options
constexpr uint32_t kIpv6Length = 40;
constexpr uint32_t kUdpLength = 8;
constexpr uint32_t kMinFrameLength = 60;  // IEEE 802.3, without the frame check sequence

constexpr uint16_t kTypeIpv4 = 0x0800;
constexpr uint16_t kTypeArp = 0x0806;
constexpr uint16_t kTypeVlan = 0x8100;  // 802.1Q
constexpr uint16_t kTypeQinQ = 0x88A8;  // 802.1ad
constexpr uint16_t kTypeIpv6 = 0x86DD;

constexpr uint8_t kProtocolIcmp = 1;
constexpr uint8_t kProtocolUdp = 17;
constexpr uint8_t kProtocolIcmpV6 = 58;
// IPv6 extension headers (RFC 8200, section 4, and RFC 7045).
constexpr uint8_t kHopByHop = 0;
constexpr uint8_t kRouting = 43;
constexpr uint8_t kFragment = 44;
constexpr uint8_t kAuthentication = 51;
constexpr uint8_t kDestinationOptions = 60;
constexpr uint8_t kMobility = 135;

constexpr uint16_t kDontFragment = 0x4000;
constexpr uint16_t kFragmentBits = 0x3FFF;  // more-fragments and offset

inline uint16_t load16(const uint8_t* at) { return static_cast<uint16_t>(at[0] << 8 | at[1]); }
inline uint32_t load32(const uint8_t* at) { return static_cast<uint32_t>(load16(at)) << 16 | load16(at + 2); }
inline void store16(uint8_t* at, uint32_t value) {
  at[0] = static_cast<uint8_t>(value >> 8);
  at[1] = static_cast<uint8_t>(value);
}
inline void store32(uint8_t* at, uint32_t value) {
  store16(at, value >> 16);
  store16(at + 2, value & 0xFFFF);
}
// A checksum is kept in memory order.
inline void storeSum(uint8_t* at, uint16_t sum) { std::memcpy(at, &sum, sizeof(sum)); }

}  // namespace outrigger::io::packet
