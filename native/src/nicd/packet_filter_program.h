// SPDX-License-Identifier: Apache-2.0
// The filter of a packet session: eBPF, since a locked filter (SO_LOCK_FILTER) can't be exchanged but the map that it asks can be changed by
// who holds it, and only nicd does.
#pragma once

#include <linux/bpf.h>

#include <cstdint>
#include <vector>

namespace outrigger::nicd {

// Takes frames that came in by this interface for this host and are unfragmented UDP, without IP options or extension headers, to an
// address and port (or any address and port) in the map of SteerKeys; no other, also when its holder binds the socket elsewhere.
std::vector<bpf_insn> packetFilterProgram(int map, uint32_t interfaceIndex);

}  // namespace outrigger::nicd
