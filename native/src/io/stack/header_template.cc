// SPDX-License-Identifier: Apache-2.0
// Building of headers; see the header.
#include "io/stack/header_template.h"

#include "io/stack/checksum.h"
#include "io/stack/frame_parser.h"
#include "io/stack/packet.h"

namespace outrigger::io {

using namespace packet;

void HeaderTemplate::build(const FlowAddresses& flow) {
  bytes_ = {};
  uint8_t* at = bytes_.data();
  v6_ = flow.destination.isV6();
  std::memcpy(at, flow.destinationMac.data(), 6);
  std::memcpy(at + 6, flow.sourceMac.data(), 6);
  const uint16_t type = v6_ ? kTypeIpv6 : kTypeIpv4;
  if (flow.vlan != 0) {
    store16(at + 12, kTypeVlan);
    store16(at + 14, flow.vlan);
    store16(at + 16, type);
    ipOffset_ = kEthernetLength + kVlanTagLength;
  } else {
    store16(at + 12, type);
    ipOffset_ = kEthernetLength;
  }
  uint8_t* ip = at + ipOffset_;
  if (v6_) {
    ip[0] = 0x60;
    ip[6] = kProtocolUdp;
    ip[7] = flow.hopLimit;
    std::memcpy(ip + 8, flow.source.bytes.data(), 16);
    std::memcpy(ip + 24, flow.destination.bytes.data(), 16);
    udpOffset_ = ipOffset_ + kIpv6Length;
  } else {
    ip[0] = 0x45;
    // Don't fragment, so the identification may stay 0 (RFC 6864, section 4.1) and the path MTU is learned.
    store16(ip + 6, kDontFragment);
    ip[8] = flow.hopLimit;
    ip[9] = kProtocolUdp;
    std::memcpy(ip + 12, flow.source.bytes.data(), 4);
    std::memcpy(ip + 16, flow.destination.bytes.data(), 4);
    udpOffset_ = ipOffset_ + kIpv4Length;
  }
  uint8_t* udp = at + udpOffset_;
  store16(udp, flow.sourcePort);
  store16(udp + 2, flow.destinationPort);
  length_ = udpOffset_ + kUdpLength;
  ipSum_ = v6_ ? 0 : sumBytes(ip, kIpv4Length);
  pseudoSum_ = pseudoHeaderSum(flow.source, flow.destination, kProtocolUdp, 0);
  portSum_ = sumBytes(udp, 4);
}

void HeaderTemplate::writeLengths(uint8_t* to, uint32_t payloadLength) const {
  std::memcpy(to, bytes_.data(), length_);
  uint8_t* ip = to + ipOffset_;
  const uint32_t udpLength = payloadLength + kUdpLength;
  if (v6_) {
    store16(ip + 4, udpLength);
  } else {
    const uint32_t total = udpLength + kIpv4Length;
    store16(ip + 2, total);
    storeSum(ip + 10, static_cast<uint16_t>(~foldSum(ipSum_ + htons(static_cast<uint16_t>(total)))));
  }
  store16(to + udpOffset_ + 4, udpLength);
}

void HeaderTemplate::write(uint8_t* to, uint32_t payloadLength, uint64_t payloadSum) const {
  writeLengths(to, payloadLength);
  // The length counts twice: in the pseudo-header and in the UDP header.
  const uint64_t lengthSum = htons(static_cast<uint16_t>(payloadLength + kUdpLength));
  const auto checksum = static_cast<uint16_t>(~foldSum(pseudoSum_ + portSum_ + 2 * lengthSum + payloadSum));
  storeSum(to + udpOffset_ + 6, checksum == 0 ? uint16_t{0xFFFF} : checksum);  // 0 says that there is none (RFC 768)
}

void HeaderTemplate::writeForOffload(TxFrame& frame, uint32_t payloadLength) const {
  writeLengths(frame.data, payloadLength);
  const uint64_t lengthSum = htons(static_cast<uint16_t>(payloadLength + kUdpLength));
  storeSum(frame.data + udpOffset_ + 6, foldSum(pseudoSum_ + lengthSum));
  frame.checksumStart = static_cast<uint16_t>(udpOffset_);
  frame.checksumOffset = 6;
  frame.isIpv6 = v6_;
}

}  // namespace outrigger::io
