// SPDX-License-Identifier: Apache-2.0
// Makes a DatagramIo by its configured name. Choosing among several backends, and explaining the choice, is done above.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "io/datagram_io.h"

namespace outrigger::io {

struct BackendOptions {
  bool segmentation = true;    // mmsg: UDP_SEGMENT where the kernel has it
  bool coalescing = true;      // mmsg: UDP_GRO where the kernel has it
  int32_t busyPollUs = 0;      // SO_BUSY_POLL of each socket, 0 = leave alone
  uint32_t receiveSlots = 16;  // 64 KiB each, address space until used: trains or datagrams taken in one poll, 1 to 64
  std::string impair;          // specification of io/impair/impair_config.h, empty or "none" = no impairment
};

// Names that makeBackend takes.
const std::vector<std::string>& backendNames();

// Overrides options from OUTRIGGER_UDP_SEGMENT=on|off, OUTRIGGER_UDP_GRO=on|off, OUTRIGGER_BUSY_POLL_US=<n> and
// OUTRIGGER_IMPAIR=<specification>. A malformed value is an error naming variable, value and what is allowed.
Result<void> applyEnvironment(BackendOptions& options);

// Fails naming the unknown backend and the known ones, a malformed impairment, or the system call that failed.
Result<std::unique_ptr<DatagramIo>> makeBackend(const std::string& name, const BackendOptions& options);

}  // namespace outrigger::io
