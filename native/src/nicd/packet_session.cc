// SPDX-License-Identifier: Apache-2.0
#include "nicd/packet_session.h"

#include <fcntl.h>
#include <linux/if_ether.h>
#include <sys/socket.h>

#include <cerrno>

#include "io/packet/packet_socket.h"
#include "io/packet/receive_ring.h"
#include "io/packet/transmit_ring.h"
#include "nicd/bpf.h"
#include "nicd/packet_filter_program.h"
#include "nicd/steer_key.h"

namespace outrigger::nicd {
namespace {

Error failed(const io::Netdev& netdev, const std::string& what) {
  return makeError(ErrorCode::kGeneric, "packet socket on " + netdev.name + ": " + what, errno);
}

// From here on what the socket lets through is in the map, and its holder can't put another filter.
Result<UniqueFd> lockBehindFilter(int socket, const io::Netdev& netdev, uint32_t maxPorts) {
  auto rules = createHashMap("nicd_ports", sizeof(SteerKey), sizeof(uint32_t), maxPorts);
  if (!rules) return rules.error();
  const auto instructions = packetFilterProgram(rules->get(), netdev.index);
  auto program = loadSocketFilter("nicd_filter", instructions);
  if (!program) return program.error();
  const int fd = program->get();
  if (::setsockopt(socket, SOL_SOCKET, SO_ATTACH_BPF, &fd, sizeof(fd)) != 0) return failed(netdev, "cannot attach its filter");
  const int on = 1;
  if (::setsockopt(socket, SOL_SOCKET, SO_LOCK_FILTER, &on, sizeof(on)) != 0) return failed(netdev, "cannot lock its filter");
  return rules;
}

Result<PacketSocket> openReceiver(const io::Netdev& netdev, const OpenPacket& request, uint32_t maxPorts) {
  io::ReceiveRingOptions options;
  options.blocks = request.role == static_cast<uint32_t>(PacketRole::kReceiveBlocks);
  options.vnetHeader = (request.flags & kPacketVnetHeader) != 0;
  options.mtu = request.mtu;
  options.bytes = request.ringBytes;
  auto ring = io::openReceiveRing(netdev, options);
  if (!ring) return ring.error();
  PacketSocket result;
  // Our mapping goes with `ring`; the ring stays with the socket.
  result.socket = UniqueFd(::fcntl((*ring)->fd(), F_DUPFD_CLOEXEC, 0));
  if (!result.socket.valid()) return failed(netdev, "cannot duplicate its descriptor");
  auto rules = lockBehindFilter(result.socket.get(), netdev, maxPorts);
  if (!rules) return rules.error();
  result.rules = rules.take();
  if (auto r = io::bindPacketSocket(result.socket.get(), netdev, ETH_P_ALL); !r) return r.error();
  return result;
}

Result<PacketSocket> openSender(const io::Netdev& netdev, const OpenPacket& request) {
  io::TransmitRingOptions options;
  options.vnetHeader = (request.flags & kPacketVnetHeader) != 0;
  options.trains = (request.flags & kPacketTrains) != 0;
  options.mtu = request.mtu;
  options.bytes = request.ringBytes;
  PacketSocket result;
  auto socket = io::openTransmitSocket(netdev, options);
  if (!socket) return socket.error();
  result.socket = socket.take();
  return result;
}

}  // namespace

Result<PacketSocket> openPacketSession(const io::Netdev& netdev, const OpenPacket& request, uint32_t maxPorts) {
  return request.role == static_cast<uint32_t>(PacketRole::kTransmit) ? openSender(netdev, request)
                                                                      : openReceiver(netdev, request, maxPorts);
}

}  // namespace outrigger::nicd
