// SPDX-License-Identifier: Apache-2.0
// See the header.
#include "io/packet/packet_backend.h"

#include <algorithm>

#include "io/nicd_client/nicd_packet.h"
#include "io/stack/raw_backend.h"
#include "net/netlink_tables.h"

namespace outrigger::io {
namespace {

// The sender receives status messages and repairs' requests alone, the receiver sends nothing else: small rings on those ways.
constexpr uint32_t kDataRingBytes = 8u << 20;  // of blocks more: block_ring.h
constexpr uint32_t kControlRingBytes = 1u << 20;

Result<std::unique_ptr<PacketIo>> openDevice(const BackendOptions& options, PacketUse use) {
  auto netdev = chooseNetdev(options.interface, options.address);
  if (!netdev) return netdev.error();
  PacketOptions packet = packetOptionsFor(options, use);
  packet.interface = netdev->name;
  if (use == PacketUse::kReceiver) packet.receiveSockets = options.packetSockets;
  return PacketIo::open(packet);
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

}  // namespace

PacketOptions packetOptionsFor(const BackendOptions& options, PacketUse use) {
  const bool sends = use == PacketUse::kSender;
  PacketOptions packet;
  packet.lowLatency = options.lowLatency || sends;  // a status message must not wait for a block to be over
  packet.segmentation = options.segmentation && sends;
  packet.receiveBytes = sends ? kControlRingBytes : kDataRingBytes;
  packet.transmitBytes = sends ? kDataRingBytes : kControlRingBytes;
  return packet;
}

Result<IoPair> openPacket(const BackendOptions& options) {
  if (!options.nicdSocket.empty()) return nicd::openNicdPacketPair(options);
  auto sender = openDevice(options, PacketUse::kSender);
  if (!sender) return sender.error();
  auto receiver = openDevice(options, PacketUse::kReceiver);
  if (!receiver) return receiver.error();
  auto tables = net::NetlinkTables::create();
  if (!tables) return tables.error();
  return makeRawPair(sender.take(), receiver.take(), tables.take(), options);
}

BackendReport probePacket(const BackendOptions& options) {
  if (!options.nicdSocket.empty()) return nicd::probeNicdPacket(options);
  BackendReport report;
  report.name = "packet";
  auto sender = openDevice(options, PacketUse::kSender);
  if (!sender) {
    report.availability = Availability::kImpossible;
    const bool unprivileged = sender.error().sysErrno == EPERM;
    report.causes.push_back({"open AF_PACKET socket", sender.error().message,
                             unprivileged ? "grant CAP_NET_RAW (securityContext.capabilities.add: [NET_RAW]), or use mmsg"
                                          : "name an interface that is there (OUTRIGGER_INTERFACE), or use mmsg"});
    return report;
  }
  const FrameCaps& caps = (*sender)->caps();
  if (!caps.reason.empty()) {
    report.availability = Availability::kDegraded;
    report.causes.push_back({"offload", caps.reason, "switch the offload on ('ethtool -K " + caps.interface + " tx-udp-segmentation on')"});
  }
  const LinkState link = (*sender)->link();
  if (!link.up) {
    report.availability = Availability::kDegraded;
    report.causes.push_back({"link", link.reason, "start the interface and its far end"});
  }
  report.facts = {{"mode", options.lowLatency ? "V2 ring + V2 ring" : "V3 ring + V2 ring"},
                  {"interface", caps.interface},
                  {"sockets", std::to_string(options.packetSockets)},
                  {"mtu", std::to_string(link.mtu)},
                  {"offloads", joined(caps.offloads)},
                  {"timestamps", kTimestampsOnArrival},
                  {"memory", caps.memory}};
  return report;
}

}  // namespace outrigger::io
