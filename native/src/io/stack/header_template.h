// SPDX-License-Identifier: Apache-2.0
// The headers of datagrams from one port to one destination, built once a path: Ethernet, perhaps an 802.1Q tag, IPv4 or IPv6, UDP. A frame
// gets a copy in which only lengths and checksums are new.
#pragma once

#include <cstdint>

#include "io/frame/frame_io.h"
#include "net/ip_address.h"

namespace outrigger::io {

struct FlowAddresses {
  MacAddress sourceMac{};
  MacAddress destinationMac{};
  uint16_t vlan = 0;  // 0: no tag
  net::IpAddress source;
  net::IpAddress destination;
  uint16_t sourcePort = 0;
  uint16_t destinationPort = 0;
  uint8_t hopLimit = 64;
};

class HeaderTemplate {
 public:
  void build(const FlowAddresses& flow);

  uint32_t length() const { return length_; }
  bool isV6() const { return v6_; }
  // Bytes of the IP packet beside the payload: what an MTU loses.
  uint32_t ipOverhead() const { return length_ - ipOffset_; }

  // Writes the headers of a datagram of `payloadLength` bytes, whose sum is `payloadSum`, to `to`.
  void write(uint8_t* to, uint32_t payloadLength, uint64_t payloadSum) const;
  // The same with the checksum left to the device: the field holds the folded pseudo-header sum, and `frame` says where.
  void writeForOffload(TxFrame& frame, uint32_t payloadLength) const;

 private:
  void writeLengths(uint8_t* to, uint32_t payloadLength) const;

  std::array<uint8_t, kMaxFrameHeaderLength> bytes_{};
  uint32_t length_ = 0;
  uint32_t ipOffset_ = 0;
  uint32_t udpOffset_ = 0;
  bool v6_ = false;
  uint64_t pseudoSum_ = 0;  // without the length
  uint64_t portSum_ = 0;
  uint64_t ipSum_ = 0;  // of the IPv4 header without its total length
};

}  // namespace outrigger::io
