// SPDX-License-Identifier: Apache-2.0
// See the header.
#include "io/nicd_client/nicd_packet.h"

#include <utility>

#include "io/nicd_client/handed_control.h"
#include "io/nicd_client/nicd_open.h"
#include "io/packet/packet_backend.h"
#include "io/packet/packet_io.h"
#include "io/stack/raw_backend.h"

namespace outrigger::nicd {
namespace {

using io::PacketIo;
using io::PacketOptions;

constexpr const char* kRefusedFix =
    "start outrigger-nicd with --allow-packet and put packet = yes into the claim, or leave packet out of OUTRIGGER_BACKENDS";

OpenPacket requestOf(const Described& interface, PacketRole role, bool vnetHeader, const io::SlotLayout& layout) {
  OpenPacket request;
  std::copy(std::begin(interface.interface), std::end(interface.interface), request.interface);
  request.role = static_cast<uint32_t>(role);
  request.flags = vnetHeader ? kPacketVnetHeader : 0;
  request.slotLength = layout.slotLength;
  request.blockLength = layout.blockLength;
  request.blocks = layout.blocks;
  return request;
}

struct Device {
  std::unique_ptr<PacketIo> io;
  std::shared_ptr<NicdTables> tables;
};

Result<Device> openDevice(const std::shared_ptr<Connection>& connection, const Described& interface, const PacketOptions& packet,
                          const std::string& by) {
  io::HandedPacket handed;
  handed.netdev = {nameOf(interface.interface), interface.interfaceIndex};
  handed.mtu = interface.mtu;
  handed.deviceCutsTrains = (interface.features & kFeatureUdpSegmentation) != 0;
  handed.by = by;
  const io::SlotLayout out = io::transmitLayout(PacketIo::transmitOptions(packet, handed.mtu, handed.deviceCutsTrains));
  const io::SlotLayout in = io::receiveLayout(PacketIo::receiveOptions(packet, handed.mtu));
  auto transmit =
      openSession(*connection, MessageType::kOpenPacket, requestOf(interface, PacketRole::kTransmit, packet.vnetHeader, out), {});
  if (!transmit) return transmit.error();
  const uint64_t sends = transmit->answer.opened.session;
  const PacketRole role = packet.lowLatency ? PacketRole::kReceiveSlots : PacketRole::kReceiveBlocks;
  auto receive = openSession(*connection, MessageType::kOpenPacket, requestOf(interface, role, packet.vnetHeader, in), {});
  if (!receive) {
    connection->drop(sends);
    return receive.error();
  }
  Device device;
  device.tables = NicdTables::create(connection, receive->answer.opened, handed.netdev.name);
  handed.transmit = std::move(transmit->socket);
  handed.receive = std::move(receive->socket);
  const uint64_t receives = receive->answer.opened.session;
  handed.control =
      std::make_unique<HandedControl>(connection, std::vector<uint64_t>{receives}, device.tables, std::vector<uint64_t>{sends});
  auto io = PacketIo::over(std::move(handed), packet);
  if (!io) return io.error();
  device.io = io.take();
  return device;
}

// Whether this client may, before rings are made.
Result<Described> describeForPacket(Connection& connection, const io::BackendOptions& options) {
  auto interface = describeInterface(connection, options.interface);
  if (!interface || (interface->features & kFeaturePacket) != 0) return interface;
  return makeError(ErrorCode::kGeneric,
                   "outrigger-nicd refuses: packet sockets are not handed out to this client: " + std::string(kRefusedFix));
}

}  // namespace

Result<io::IoPair> openNicdPacketPair(const io::BackendOptions& options) {
  auto connection = connectForDriver(options);
  if (!connection) return connection.error();
  auto interface = describeForPacket(**connection, options);
  if (!interface) return interface.error();
  auto sender = openDevice(*connection, *interface, io::packetOptionsFor(options, io::PacketUse::kSender), nicdAt(options));
  if (!sender) return sender.error();
  auto receiver = openDevice(*connection, *interface, io::packetOptionsFor(options, io::PacketUse::kReceiver), nicdAt(options));
  if (!receiver) return receiver.error();
  return io::makeRawPair(std::move(sender->io), std::move(receiver->io), sender->tables, options, receiver->tables);
}

io::BackendReport probeNicdPacket(const io::BackendOptions& options) {
  io::BackendReport report;
  report.name = "packet";
  const auto impossible = [&](const std::string& what, const Error& error, const std::string& fix) {
    report.availability = io::Availability::kImpossible;
    report.causes.push_back({what, error.message, fix});
    return report;
  };
  auto connection = connectForDriver(options);
  if (!connection) {
    return impossible("connect to outrigger-nicd", connection.error(),
                      "run it on this node, mount its socket, and allow this user or give it a claim");
  }
  auto interface = describeInterface(**connection, options.interface);
  if (!interface) return impossible("interface", interface.error(), "name one that outrigger-nicd serves and the claim is for");
  if (auto allowed = describeForPacket(**connection, options); !allowed) return impossible("packet sockets", allowed.error(), kRefusedFix);
  report.facts = {{"mode", options.lowLatency ? "V2 ring + V2 ring" : "V3 ring + V2 ring"},
                  {"by", nicdAt(options)},
                  {"interface", nameOf(interface->interface)},
                  {"sockets", "1"},
                  {"driver", nameOf(interface->driver)},
                  {"mtu", std::to_string(interface->mtu)}};
  if (options.packetSockets > 1) {
    report.availability = io::Availability::kDegraded;
    report.causes.push_back(
        {"receive sockets",
         "outrigger-nicd hands out one, OUTRIGGER_PACKET_SOCKETS=" + std::to_string(options.packetSockets) + " asks for more",
         "set OUTRIGGER_PACKET_SOCKETS=1 (packet.receiveSockets of the profile)"});
  }
  if (interface->up == 0) {
    report.availability = io::Availability::kDegraded;
    report.causes.push_back(
        {"link", "interface " + nameOf(interface->interface) + " is down, or has no carrier", "start it and its far end"});
  }
  return report;
}

}  // namespace outrigger::nicd
