// SPDX-License-Identifier: Apache-2.0
// AF_PACKET by outrigger-nicd: its sockets come with their rings, bound, and behind filters that stay nicd's. Needs no capability, and no interface
// in this network namespace.
#pragma once

#include "io/backend.h"

namespace outrigger::nicd {

// The two instances of a driver over it: a socket to send and one to receive each. The error is nicd's, or says why it can't be asked.
Result<io::IoPair> openNicdPacketPair(const io::BackendOptions& options);

// What that would give, without opening anything but a connection.
io::BackendReport probeNicdPacket(const io::BackendOptions& options);

}  // namespace outrigger::nicd
