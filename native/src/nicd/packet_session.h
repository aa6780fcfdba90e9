// SPDX-License-Identifier: Apache-2.0
// An AF_PACKET socket ready to be handed out: ring made, bound, and, when it receives, behind a locked filter whose rules stay here.
#pragma once

#include "base/fd.h"
#include "base/result.h"
#include "io/frame/netdev.h"
#include "io/nicd_client/protocol.h"

namespace outrigger::nicd {

struct PacketSocket {
  UniqueFd socket;
  UniqueFd rules;  // map of SteerKeys; invalid when it only sends
};

Result<PacketSocket> openPacketSession(const io::Netdev& netdev, const OpenPacket& request, uint32_t maxPorts);

}  // namespace outrigger::nicd
