// SPDX-License-Identifier: Apache-2.0
// Keeps the kernel's copy of what a device delivered away from the socket that reserves the port, where the kernel sees each frame too (AF_PACKET).
#pragma once

#include <cstdint>

#include "base/result.h"

namespace outrigger::io {

// Attaches a classic BPF program that drops what came in by `interfaceIndex` and certainly reached the stack as a frame. Fails naming the call.
//
// What the kernel put together from fragments must stay: the stack leaves fragments to it. IPv4: a datagram with DF set was never in fragments,
// and every Linux sender that does path MTU discovery sets it. IPv6: nothing in the header tells, but who fragments does so because the datagram
// is longer than a path may be narrow, 1280 bytes. What is neither (IPv4 without DF, longer IPv6) passes, and the stack tells by
// IP_RECVFRAGSIZE whether it is a second copy. IPv4 options and IPv6 extension headers pass: those frames the stack leaves to the kernel.
Result<void> dropDeviceCopies(int fd, bool v6, uint32_t interfaceIndex);

}  // namespace outrigger::io
