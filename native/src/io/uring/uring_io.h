// SPDX-License-Identifier: Apache-2.0
// Backend `uring`: UDP sockets through io_uring. Each endpoint has one recvmsg that goes on and on, into buffers that the kernel picks
// from a ring, so an idle poll is a look at memory. What the sender has goes out with one call for many messages, trains with UDP_SEGMENT.
#pragma once

#include <memory>
#include <string>

#include "io/backend.h"

namespace outrigger::io {

// Fails with the reason that io_uring can't be had.
Result<std::unique_ptr<DatagramIo>> makeUringIo(const BackendOptions& options);

// Row of the table of backends.
Result<IoPair> openUring(const BackendOptions& options);
BackendReport probeUring(const BackendOptions& options);

}  // namespace outrigger::io
