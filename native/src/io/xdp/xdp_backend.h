// SPDX-License-Identifier: Apache-2.0
// Row `xdp` of the table of backends: AF_XDP under the network stack. What `explain` says is probeXdp (xdp_open.h).
#pragma once

#include "io/backend.h"

namespace outrigger::io {

// Sender and receiver are two faces of one device: a queue gives its frames to one thread, and the device's hash, not the port, decides in which
// queue a frame arrives. Errors as openXdp.
Result<IoPair> openXdpPair(const BackendOptions& options);

}  // namespace outrigger::io
