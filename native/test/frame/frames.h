// SPDX-License-Identifier: Apache-2.0
// Frames of the tests, made and read here byte by byte, with nothing of the code under test.
#pragma once

#include <arpa/inet.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "io/frame/frame_io.h"

namespace outrigger::io::testing {

using Bytes = std::vector<uint8_t>;

// Bytes that differ by position and by seed, so that a swapped or torn frame shows.
inline Bytes pattern(size_t length, uint32_t seed) {
  Bytes bytes(length);
  for (size_t i = 0; i < length; ++i) bytes[i] = static_cast<uint8_t>((i * 31 + (i >> 8) * 7 + seed * 101 + 13) & 0xFF);
  return bytes;
}

// Ones' complement sum (RFC 1071), not inverted.
inline uint16_t sum16(const uint8_t* data, size_t length, uint32_t start = 0) {
  uint64_t sum = start;
  for (size_t i = 0; i + 1 < length; i += 2) sum += static_cast<uint64_t>(data[i] << 8 | data[i + 1]);
  if (length % 2 != 0) sum += static_cast<uint64_t>(data[length - 1] << 8);
  while (sum >> 16 != 0) sum = (sum & 0xFFFF) + (sum >> 16);
  return static_cast<uint16_t>(sum);
}

inline void put16(uint8_t* at, uint16_t value) {
  at[0] = static_cast<uint8_t>(value >> 8);
  at[1] = static_cast<uint8_t>(value);
}
inline uint16_t get16(const uint8_t* at) { return static_cast<uint16_t>(at[0] << 8 | at[1]); }

enum class Sum {
  kComplete,  // the right checksum
  kPseudo,    // of the pseudo-header only: someone below finishes it
  kWrong,
};

struct Flow {
  MacAddress sourceMac{};
  MacAddress destinationMac{};
  bool v6 = false;
  std::string source = "10.77.0.2";
  std::string destination = "10.77.0.1";
  uint16_t sourcePort = 40000;
  uint16_t destinationPort = 41000;
  int vlan = -1;              // tag control information
  uint16_t fragmentBits = 0;  // IPv4 flags and offset
  uint32_t optionWords = 0;   // IPv4
  uint8_t protocol = IPPROTO_UDP;
};

struct Offsets {
  uint32_t ip = 14;
  uint32_t udp = 0;
  uint32_t payload = 0;
};

inline Offsets offsetsOf(const Flow& flow) {
  Offsets offsets;
  offsets.ip = flow.vlan >= 0 ? 18 : 14;
  offsets.udp = offsets.ip + (flow.v6 ? 40 : 20 + flow.optionWords * 4);
  offsets.payload = offsets.udp + 8;
  return offsets;
}

inline uint16_t pseudoSum(const uint8_t* addresses, bool v6, size_t udpLength) {
  return sum16(addresses, v6 ? 32 : 8, static_cast<uint32_t>(IPPROTO_UDP + udpLength));
}

inline Bytes frameOf(const Flow& flow, const Bytes& payload, Sum sum = Sum::kComplete) {
  const Offsets at = offsetsOf(flow);
  Bytes frame(at.payload + payload.size(), 0);
  std::copy(flow.destinationMac.begin(), flow.destinationMac.end(), frame.begin());
  std::copy(flow.sourceMac.begin(), flow.sourceMac.end(), frame.begin() + 6);
  if (flow.vlan >= 0) {
    put16(&frame[12], 0x8100);
    put16(&frame[14], static_cast<uint16_t>(flow.vlan));
  }
  put16(&frame[at.ip - 2], flow.v6 ? 0x86DD : 0x0800);
  uint8_t* ip = &frame[at.ip];
  const auto udpLength = static_cast<uint16_t>(8 + payload.size());
  uint8_t* addresses = nullptr;
  if (flow.v6) {
    ip[0] = 0x60;
    put16(ip + 4, udpLength);
    ip[6] = flow.protocol;
    ip[7] = 64;
    addresses = ip + 8;
    ::inet_pton(AF_INET6, flow.source.c_str(), addresses);
    ::inet_pton(AF_INET6, flow.destination.c_str(), addresses + 16);
  } else {
    const uint32_t headerLength = 20 + flow.optionWords * 4;
    ip[0] = static_cast<uint8_t>(0x40 | headerLength / 4);
    put16(ip + 2, static_cast<uint16_t>(headerLength + udpLength));
    put16(ip + 6, flow.fragmentBits);
    ip[8] = 64;
    ip[9] = flow.protocol;
    for (uint32_t i = 20; i < headerLength; ++i) ip[i] = 1;  // no-operation
    addresses = ip + 12;
    ::inet_pton(AF_INET, flow.source.c_str(), addresses);
    ::inet_pton(AF_INET, flow.destination.c_str(), addresses + 4);
    put16(ip + 10, static_cast<uint16_t>(~sum16(ip, headerLength)));
  }
  uint8_t* udp = &frame[at.udp];
  put16(udp, flow.sourcePort);
  put16(udp + 2, flow.destinationPort);
  put16(udp + 4, udpLength);
  std::copy(payload.begin(), payload.end(), frame.begin() + at.payload);
  const uint16_t pseudo = pseudoSum(addresses, flow.v6, udpLength);
  if (sum == Sum::kPseudo) {
    put16(udp + 6, pseudo);
    return frame;
  }
  auto checksum = static_cast<uint16_t>(~sum16(udp, udpLength, pseudo));
  if (sum == Sum::kWrong) checksum ^= 0x5555;
  put16(udp + 6, checksum == 0 ? 0xFFFF : checksum);
  return frame;
}

// A UDP datagram read out of a frame; `valid` is false when it is not one.
struct Datagram {
  bool valid = false;
  bool checksumRight = false;
  int vlan = -1;  // inline tag
  bool v6 = false;
  uint16_t sourcePort = 0;
  uint16_t destinationPort = 0;
  Bytes payload;
};

inline Datagram datagramOf(const Bytes& frame) {
  Datagram result;
  if (frame.size() < 14 + 20 + 8) return result;
  size_t ip = 14;
  if (get16(&frame[12]) == 0x8100) {
    result.vlan = get16(&frame[14]);
    ip = 18;
  }
  const uint16_t type = get16(&frame[ip - 2]);
  size_t udp = 0;
  const uint8_t* addresses = nullptr;
  if (type == 0x0800 && frame[ip + 9] == IPPROTO_UDP && (get16(&frame[ip + 6]) & 0x3FFF) == 0) {
    udp = ip + static_cast<size_t>(frame[ip] & 0x0F) * 4;
    addresses = &frame[ip + 12];
  } else if (type == 0x86DD && frame[ip + 6] == IPPROTO_UDP) {
    result.v6 = true;
    udp = ip + 40;
    addresses = &frame[ip + 8];
  } else {
    return result;
  }
  const size_t udpLength = get16(&frame[udp + 4]);
  if (udpLength < 8 || udp + udpLength > frame.size()) return result;
  result.valid = true;
  result.sourcePort = get16(&frame[udp]);
  result.destinationPort = get16(&frame[udp + 2]);
  result.payload.assign(frame.begin() + static_cast<std::ptrdiff_t>(udp + 8), frame.begin() + static_cast<std::ptrdiff_t>(udp + udpLength));
  result.checksumRight = sum16(&frame[udp], udpLength, pseudoSum(addresses, result.v6, udpLength)) == 0xFFFF;
  return result;
}

}  // namespace outrigger::io::testing
