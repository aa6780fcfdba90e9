// SPDX-License-Identifier: Apache-2.0
#include "nicd/packet_session.h"

#include <linux/filter.h>
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

Result<void> lockFilter(int socket, const io::Netdev& netdev) {
  const int on = 1;
  if (::setsockopt(socket, SOL_SOCKET, SO_LOCK_FILTER, &on, sizeof(on)) != 0) return failed(netdev, "cannot lock its filter");
  return {};
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
  if (auto r = lockFilter(socket, netdev); !r) return r.error();
  return rules;
}

io::SlotLayout layoutOf(const OpenPacket& request) {
  io::SlotLayout layout;
  layout.slotLength = request.slotLength;
  layout.blockLength = request.blockLength;
  layout.slotsPerBlock = request.blockLength / request.slotLength;
  layout.blocks = request.blocks;
  return layout;
}

Result<PacketSocket> openReceiver(const io::Netdev& netdev, const OpenPacket& request, uint32_t maxPorts) {
  const bool blocks = request.role == static_cast<uint32_t>(PacketRole::kReceiveBlocks);
  auto socket = io::openReceiveSocket(netdev, blocks, (request.flags & kPacketVnetHeader) != 0, layoutOf(request));
  if (!socket) return socket.error();
  PacketSocket result;
  result.socket = socket.take();
  auto rules = lockBehindFilter(result.socket.get(), netdev, maxPorts);
  if (!rules) return rules.error();
  result.rules = rules.take();
  if (auto r = io::bindPacketSocket(result.socket.get(), netdev, ETH_P_ALL); !r) return r.error();
  return result;
}

Result<PacketSocket> openSender(const io::Netdev& netdev, const OpenPacket& request) {
  auto socket = io::openTransmitSocket(netdev, (request.flags & kPacketVnetHeader) != 0, layoutOf(request));
  if (!socket) return socket.error();
  // Whoever holds a packet socket may bind it anew, to all protocols and any interface, which needs no right: it stays deaf by its filter.
  const sock_filter nothing{BPF_RET | BPF_K, 0, 0, 0};
  if (auto r = io::attachFilter(socket->get(), {nothing}, netdev); !r) return r.error();
  if (auto r = lockFilter(socket->get(), netdev); !r) return r.error();
  PacketSocket result;
  result.socket = socket.take();
  return result;
}

}  // namespace

Result<PacketSocket> openPacketSession(const io::Netdev& netdev, const OpenPacket& request, uint32_t maxPorts) {
  return request.role == static_cast<uint32_t>(PacketRole::kTransmit) ? openSender(netdev, request)
                                                                      : openReceiver(netdev, request, maxPorts);
}

}  // namespace outrigger::nicd
