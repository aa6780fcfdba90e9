// SPDX-License-Identifier: Apache-2.0
// Recognises UDP datagrams whose checksum was left for a device to fill (CHECKSUM_PARTIAL).
//
// A sender on the same machine (over veth, a bridge, a tap) hands its packet to us in memory, and the kernel never computes a checksum that
// no wire needs. An XDP program sees no mark of that: the kernel's own lies in the sk_buff, which is gone. But the field is not random: it
// holds the folded sum of the pseudo-header, not complemented, for the device to go on from (Documentation/networking/checksum-offloads.rst).
// So a frame that holds exactly that is taken as partial. A damaged frame passes for one with a probability of 2^-16, as it passes for a good
// one: the check is half as strong, and only where frames can come from memory.
#pragma once

#include <cstdint>
#include <cstring>

namespace outrigger::io::xdp {

// `frame` is an Ethernet frame of `length` bytes, at least its first buffer. False for anything but UDP over plain IPv4 or IPv6 with at
// most one VLAN tag.
inline bool hasPartialChecksum(const uint8_t* frame, uint32_t length) {
  const auto word = [frame](uint32_t at) { return static_cast<uint32_t>(frame[at] << 8 | frame[at + 1]); };
  if (length < 18) return false;
  uint32_t ip = 14;
  uint32_t type = word(12);
  if (type == 0x8100) {
    type = word(16);
    ip = 18;
  }
  uint32_t udp = 0;
  uint32_t addresses = 0;
  if (type == 0x0800) {
    udp = ip + 20;
    addresses = ip + 12;
    if (length < udp + 8 || frame[ip] != 0x45 || frame[ip + 9] != 17) return false;
  } else if (type == 0x86DD) {
    udp = ip + 40;
    addresses = ip + 8;
    if (length < udp + 8 || frame[ip + 6] != 17) return false;
  } else {
    return false;
  }
  uint32_t sum = 17 + word(udp + 4);
  for (uint32_t at = addresses; at < udp; at += 2) sum += word(at);
  sum = (sum & 0xFFFF) + (sum >> 16);
  sum = (sum & 0xFFFF) + (sum >> 16);
  return sum == word(udp + 6);
}

}  // namespace outrigger::io::xdp
