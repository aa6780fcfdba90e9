// SPDX-License-Identifier: Apache-2.0
// Row `packet` of the table of backends: AF_PACKET under the network stack.
#pragma once

#include "io/backend.h"
#include "io/packet/packet_io.h"

namespace outrigger::io {

// Sender and receiver each have sockets of their own, so they may be two threads. Errors as PacketIo::open.
Result<IoPair> openPacket(const BackendOptions& options);
BackendReport probePacket(const BackendOptions& options);

// The rings of one of the two instances; `interface` is not filled in.
enum class PacketUse { kSender, kReceiver };
PacketOptions packetOptionsFor(const BackendOptions& options, PacketUse use);

}  // namespace outrigger::io
