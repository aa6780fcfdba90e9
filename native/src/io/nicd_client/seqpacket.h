// SPDX-License-Identifier: Apache-2.0
// UNIX SOCK_SEQPACKET with descriptors beside messages: the two calls that both ends of nicd's socket use, and connecting.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "io/nicd_client/protocol.h"

namespace outrigger::nicd {

enum class Transfer : uint8_t {
  kDone,
  kWouldBlock,
  kClosed,   // by the other end, or an error that means the same
  kTooMuch,  // received: a message longer than allowed, or with more descriptors; what came is closed, the connection is out of step
};

// Sends one message whole, never blocks. The descriptors stay the caller's.
Transfer sendMessage(int socket, std::span<const uint8_t> message, std::span<const int> descriptors);

struct Received {
  Message bytes;
  std::vector<UniqueFd> descriptors;
};

// Receives one message, never blocks. Descriptors are close-on-exec.
Transfer receiveMessage(int socket, Received& received);

// Non-blocking. The error names the path and the fix.
Result<UniqueFd> connectTo(const std::string& path);

}  // namespace outrigger::nicd
