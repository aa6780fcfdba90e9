// SPDX-License-Identifier: Apache-2.0
// Segmentation and checksums of captured frames.
#include "io/capture/frame_expander.h"

#include <algorithm>

#include "io/stack/checksum.h"

namespace outrigger::io {
namespace {

constexpr uint32_t kEthernetLength = 14;
constexpr uint32_t kVlanLength = 4;
constexpr uint16_t kTypeVlan = 0x8100;
constexpr uint16_t kTypeIpv4 = 0x0800;
constexpr uint16_t kTypeIpv6 = 0x86DD;
constexpr uint8_t kProtocolUdp = 17;
constexpr uint32_t kIpv6Length = 40;
constexpr uint32_t kUdpLength = 8;

uint16_t read16(const uint8_t* at) { return static_cast<uint16_t>(at[0] << 8 | at[1]); }
void write16(uint8_t* at, uint32_t value) {
  at[0] = static_cast<uint8_t>(value >> 8);
  at[1] = static_cast<uint8_t>(value);
}
// Sums are of words in memory order, so they are stored as they are.
void writeChecksum(uint8_t* at, uint64_t sum) {
  const auto checksum = static_cast<uint16_t>(~foldSum(sum));
  std::memcpy(at, &checksum, sizeof(checksum));
}

// Where the headers of a UDP datagram stand in a frame.
struct Headers {
  bool udp = false;
  bool v6 = false;
  uint32_t ip = 0;
  uint32_t transport = 0;
};

Headers headersOf(std::span<const uint8_t> frame) {
  Headers found;
  uint32_t at = kEthernetLength - 2;
  if (frame.size() < at + 2) return found;
  uint16_t type = read16(frame.data() + at);
  if (type == kTypeVlan) {
    at += kVlanLength;
    if (frame.size() < at + 2) return found;
    type = read16(frame.data() + at);
  }
  found.ip = at + 2;
  const uint8_t* ip = frame.data() + found.ip;
  if (type == kTypeIpv4 && frame.size() >= found.ip + 20) {
    const uint32_t length = (ip[0] & 0x0FU) * 4U;
    const bool fragment = (read16(ip + 6) & 0x3FFF) != 0;
    if (length < 20 || ip[9] != kProtocolUdp || fragment) return found;
    found.transport = found.ip + length;
  } else if (type == kTypeIpv6 && frame.size() >= found.ip + kIpv6Length) {
    if (ip[6] != kProtocolUdp) return found;
    found.v6 = true;
    found.transport = found.ip + kIpv6Length;
  } else {
    return found;
  }
  found.udp = frame.size() >= found.transport + kUdpLength;
  return found;
}

// RFC 768; RFC 8200 section 8.1. `udp` is the header with its payload behind it.
void fillUdpChecksum(const Headers& headers, uint8_t* frame, uint32_t udpLength) {
  uint8_t* udp = frame + headers.transport;
  write16(udp + 6, 0);
  const uint8_t* ip = frame + headers.ip;
  uint8_t pseudo[4] = {0, kProtocolUdp, 0, 0};
  write16(pseudo + 2, udpLength);
  const uint64_t addresses = headers.v6 ? sumBytes(ip + 8, 32) : sumBytes(ip + 12, 8);
  const uint64_t sum = addresses + sumBytes(pseudo, sizeof(pseudo)) + sumBytes(udp, udpLength);
  writeChecksum(udp + 6, sum);
  if (read16(udp + 6) == 0) write16(udp + 6, 0xFFFF);
}

void fillLengths(const Headers& headers, uint8_t* frame, uint32_t udpLength, uint32_t index) {
  uint8_t* ip = frame + headers.ip;
  if (headers.v6) {
    write16(ip + 4, udpLength);
  } else {
    write16(ip + 2, headers.transport - headers.ip + udpLength);
    write16(ip + 4, read16(ip + 4) + index);  // as the kernel's segmentation numbers them
    write16(ip + 10, 0);
    writeChecksum(ip + 10, sumBytes(ip, headers.transport - headers.ip));
  }
  write16(frame + headers.transport + 4, udpLength);
}

}  // namespace

void FrameExpander::expand(const CapturedFrame& frame, const WireFrame& emit) {
  std::span<const uint8_t> data(frame.data, frame.length);
  uint32_t originalLength = frame.originalLength;
  std::vector<uint8_t> tagged;
  if (frame.vlanPresent && data.size() >= kEthernetLength) {
    tagged.assign(data.begin(), data.begin() + 12);
    tagged.resize(12 + kVlanLength);
    write16(tagged.data() + 12, kTypeVlan);
    write16(tagged.data() + 14, frame.vlanTci);
    tagged.insert(tagged.end(), data.begin() + 12, data.end());
    data = tagged;
    originalLength += kVlanLength;
  }
  const Headers headers = headersOf(data);
  const bool whole = data.size() == originalLength;
  if (!headers.udp || !whole || (!frame.checksumMissing && frame.segmentLength == 0)) return emit(data, originalLength);
  const uint32_t headerLength = headers.transport + kUdpLength;
  // The IP length where that is less: short frames are padded. A train's may be of its first datagram only, or of none.
  uint32_t payload = static_cast<uint32_t>(data.size()) - headerLength;
  if (frame.segmentLength == 0) {
    const uint32_t udpLength = read16(data.data() + headers.transport + 4);
    if (udpLength < kUdpLength || udpLength - kUdpLength > payload) return emit(data, originalLength);
    payload = udpLength - kUdpLength;
  }
  const uint32_t segment = frame.segmentLength == 0 ? payload : frame.segmentLength;
  uint32_t index = 0;
  for (uint32_t offset = 0; offset < payload || index == 0; offset += segment, ++index) {
    const uint32_t length = std::min(segment, payload - offset);
    buffer_.assign(data.begin(), data.begin() + headerLength);
    const auto from = data.begin() + headerLength + offset;
    buffer_.insert(buffer_.end(), from, from + length);
    fillLengths(headers, buffer_.data(), kUdpLength + length, index);
    fillUdpChecksum(headers, buffer_.data(), kUdpLength + length);
    // What padding a frame had stays with it.
    if (frame.segmentLength == 0) buffer_.insert(buffer_.end(), from + length, data.end());
    emit(buffer_, static_cast<uint32_t>(buffer_.size()));
    if (segment == 0) break;
  }
}

}  // namespace outrigger::io
