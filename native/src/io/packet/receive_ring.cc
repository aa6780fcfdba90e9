// SPDX-License-Identifier: Apache-2.0
// What slots and blocks share: the socket's options, and the reading of a frame's status.
#include "io/packet/receive_ring.h"

#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <sys/socket.h>

#include "io/frame/vnet_header.h"
#include "io/packet/block_ring.h"
#include "io/packet/packet_filter.h"
#include "io/packet/slot_ring.h"

#ifndef PACKET_IGNORE_OUTGOING
#define PACKET_IGNORE_OUTGOING 23
#endif

namespace outrigger::io {

ReceiveRing::ReceiveRing(UniqueFd fd, const ReceiveRingOptions& options)
    : fd_(std::move(fd)), vnetHeader_(options.vnetHeader), maxPlainLength_(options.mtu + ETH_HLEN + 4) {}

bool ReceiveRing::describe(const RawFrame& raw, RxFrame& frame, FrameStats& stats) const {
  frame.data = raw.data;
  frame.length = raw.length;
  frame.more = false;
  frame.segmentLength = 0;
  frame.arrivedNs = raw.arrivedNs;
  frame.vlanPresent = (raw.status & TP_STATUS_VLAN_VALID) != 0;
  frame.vlanTci = frame.vlanPresent ? raw.vlanTci : uint16_t{0};
  if (!vnetHeader_) {
    if (raw.length > maxPlainLength_) {
      // A train, in one piece and without the length of its datagrams.
      stats.oversizedFrames.fetch_add(1, std::memory_order_relaxed);
      return false;
    }
    if ((raw.status & TP_STATUS_CSUMNOTREADY) != 0) {
      frame.checksum = RxChecksum::kPartial;
    } else {
      frame.checksum = (raw.status & TP_STATUS_CSUM_VALID) != 0 ? RxChecksum::kGood : RxChecksum::kUnknown;
    }
    return true;
  }
  if (readVnetHeader(raw.data - sizeof(VnetHeader), frame)) return true;
  stats.invalidDescriptors.fetch_add(1, std::memory_order_relaxed);
  return false;
}

SlotLayout receiveLayout(const ReceiveRingOptions& options) {
  return options.blocks ? BlockRing::layoutOf(options) : SlotRing::layoutOf(options);
}

Result<UniqueFd> openReceiveSocket(const Netdev& netdev, bool blocks, bool vnetHeader, const SlotLayout& layout) {
  auto fd = openPacketSocket(netdev);
  if (!fd) return fd.error();
  const int version = blocks ? TPACKET_V3 : TPACKET_V2;
  if (auto r = setPacketOption(fd->get(), PACKET_VERSION, version, "PACKET_VERSION", netdev); !r) return r.error();
  if (vnetHeader) {
    if (auto r = setPacketOption(fd->get(), PACKET_VNET_HDR, 1, "PACKET_VNET_HDR", netdev); !r) return r.error();
  }
  // Kernels before 4.20 don't know it: the filter leaves out the same frames, only later.
  const int on = 1;
  ::setsockopt(fd->get(), SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof(on));
  const auto nothing = buildPacketFilter({}, FilterView::kPacketSocket);
  if (auto r = attachFilter(fd->get(), *nothing, netdev); !r) return r.error();
  if (auto r = blocks ? BlockRing::request(fd->get(), netdev, layout) : SlotRing::request(fd->get(), netdev, layout); !r) return r.error();
  return fd;
}

Result<std::unique_ptr<ReceiveRing>> mapReceiveRing(UniqueFd fd, const ReceiveRingOptions& options) {
  return options.blocks ? BlockRing::map(std::move(fd), options) : SlotRing::map(std::move(fd), options);
}

Result<std::unique_ptr<ReceiveRing>> openReceiveRing(const Netdev& netdev, const ReceiveRingOptions& options) {
  auto fd = openReceiveSocket(netdev, options.blocks, options.vnetHeader, receiveLayout(options));
  if (!fd) return fd.error();
  return mapReceiveRing(fd.take(), options);
}

}  // namespace outrigger::io
