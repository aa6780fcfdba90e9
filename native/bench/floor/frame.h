// SPDX-License-Identifier: Apache-2.0
// Ethernet, IPv4 and UDP headers of the raw floors: written once, the same for every frame. No UDP checksum (RFC 768: zero is none), which a NIC
// would compute for nothing; the engine computes it.
#pragma once

#include <linux/if_ether.h>

#include <array>

#include "base/fd.h"
#include "floor/wire.h"

namespace outrigger::bench {

constexpr uint32_t kIpOffset = 14;
constexpr uint32_t kUdpOffset = 34;
constexpr uint32_t kHeaderBytes = 42;

struct Netdevice {
  unsigned index = 0;
  Mac mac{};
  uint32_t mtu = 0;
};

Netdevice netdeviceOf(const std::string& name);

class FrameHeader {
 public:
  // A frame with `payload` bytes from this end of `plan` to the other.
  FrameHeader(const Plan& plan, const Mac& from, uint32_t payload) {
    std::copy(plan.peerMac.begin(), plan.peerMac.end(), bytes_.begin());
    std::copy(from.begin(), from.end(), bytes_.begin() + 6);
    put16(12, ETH_P_IP);
    bytes_[kIpOffset] = 0x45;
    put16(kIpOffset + 2, static_cast<uint16_t>(20 + 8 + payload));
    put16(kIpOffset + 6, 0x4000);  // don't fragment
    bytes_[kIpOffset + 8] = 64;
    bytes_[kIpOffset + 9] = IPPROTO_UDP;
    std::memcpy(&bytes_[kIpOffset + 12], &plan.local, 4);
    std::memcpy(&bytes_[kIpOffset + 16], &plan.peer, 4);
    put16(kIpOffset + 10, static_cast<uint16_t>(~sum(kIpOffset, 20, 0)));
    put16(kUdpOffset, plan.port);
    put16(kUdpOffset + 2, plan.port);
    put16(kUdpOffset + 4, static_cast<uint16_t>(8 + payload));
  }
  // For a device that fills the checksum in: the sum of the pseudo-header stands where it goes.
  void openChecksum() {
    const uint32_t pseudo = IPPROTO_UDP + (static_cast<uint32_t>(bytes_[kUdpOffset + 4]) << 8 | bytes_[kUdpOffset + 5]);
    put16(kUdpOffset + 6, sum(kIpOffset + 12, 8, pseudo));
  }
  void writeTo(uint8_t* frame) const { std::memcpy(frame, bytes_.data(), bytes_.size()); }

 private:
  void put16(uint32_t offset, uint16_t value) {
    bytes_[offset] = static_cast<uint8_t>(value >> 8);
    bytes_[offset + 1] = static_cast<uint8_t>(value);
  }
  uint16_t sum(uint32_t offset, uint32_t length, uint32_t start) const {
    uint32_t total = start;
    for (uint32_t i = offset; i < offset + length; i += 2) total += static_cast<uint32_t>(bytes_[i]) << 8 | bytes_[i + 1];
    while (total >> 16 != 0) total = (total & 0xFFFF) + (total >> 16);
    return static_cast<uint16_t>(total);
  }

  std::array<uint8_t, kHeaderBytes> bytes_{};
};

// Whether a frame is UDP for `port`; then its payload's length, which begins at kHeaderBytes.
inline bool isOurs(const uint8_t* frame, uint32_t length, uint16_t port, uint32_t& payload) {
  if (length < kHeaderBytes || frame[12] != 0x08 || frame[13] != 0 || frame[kIpOffset] != 0x45 || frame[kIpOffset + 9] != IPPROTO_UDP) {
    return false;
  }
  if ((static_cast<uint32_t>(frame[kUdpOffset + 2]) << 8 | frame[kUdpOffset + 3]) != port) return false;
  payload = (static_cast<uint32_t>(frame[kUdpOffset + 4]) << 8 | frame[kUdpOffset + 5]);
  if (payload < 8) return false;
  payload -= 8;
  return true;
}

// The kernel's own socket of the port, which takes nothing: without it the kernel would answer each datagram with an ICMP error.
UniqueFd reservePort(const Plan& plan);

}  // namespace outrigger::bench
