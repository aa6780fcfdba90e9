// SPDX-License-Identifier: Apache-2.0
// The virtio-net header that AF_PACKET (PACKET_VNET_HDR) and TUN/TAP (IFF_VNET_HDR) put before a frame: checksum and segmentation
// offload in both directions. Layout and meaning: virtio 1.2, 5.1.6 "Device Operation", in the legacy form of 10 bytes, host order.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>

#include "io/frame/frame_io.h"

namespace outrigger::io {

struct VnetHeader {
  uint8_t flags = 0;
  uint8_t gsoType = 0;
  uint16_t headerLength = 0;
  uint16_t gsoSize = 0;
  uint16_t checksumStart = 0;
  uint16_t checksumOffset = 0;
};
static_assert(sizeof(VnetHeader) == 10);

constexpr uint8_t kVnetNeedsChecksum = 1;
constexpr uint8_t kVnetDataValid = 2;
constexpr uint8_t kVnetGsoNone = 0;
constexpr uint8_t kVnetGsoUdpL4 = 5;  // not in the headers of kernels before 6.2
constexpr uint16_t kUdpHeaderLength = 8;

// A train's headers are what the kernel must have in one piece; the rest of the frame it may take by reference.
inline VnetHeader vnetHeaderOf(const TxFrame& frame) {
  VnetHeader header;
  if (frame.checksumStart == 0) return header;
  header.flags = kVnetNeedsChecksum;
  header.checksumStart = frame.checksumStart;
  header.checksumOffset = frame.checksumOffset;
  header.headerLength = static_cast<uint16_t>(frame.checksumStart + kUdpHeaderLength);
  if (frame.segmentLength != 0) {
    header.gsoType = kVnetGsoUdpL4;
    header.gsoSize = frame.segmentLength;
  }
  return header;
}

// `memory` is where the kernel wrote the header, of any alignment. False: the frame is of a kind that no datagram stack can take
// apart (segments of another protocol).
inline bool readVnetHeader(const uint8_t* memory, RxFrame& frame) {
  VnetHeader header;
  std::memcpy(&header, memory, sizeof(header));
  if ((header.flags & kVnetNeedsChecksum) != 0) {
    frame.checksum = RxChecksum::kPartial;
  } else {
    frame.checksum = (header.flags & kVnetDataValid) != 0 ? RxChecksum::kGood : RxChecksum::kUnknown;
  }
  frame.segmentLength = header.gsoType == kVnetGsoUdpL4 ? header.gsoSize : uint16_t{0};
  return header.gsoType == kVnetGsoNone || (header.gsoType == kVnetGsoUdpL4 && header.gsoSize != 0);
}

// Empty when this kernel carries UDP trains in the header, else why not. Linux has it since 6.2 (commit 860b7f27b8f7, "USO offload in
// vnet header"); before, such a frame is refused on the way out and dropped, counted, on the way in. Asked by version: the only other
// way to find out is to send one.
std::string vnetTrainRefusal();

}  // namespace outrigger::io
