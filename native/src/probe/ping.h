// SPDX-License-Identifier: Apache-2.0
// `outrigger-probe ping`: round trips to an XDP reflector, open loop, from an ordinary UDP socket or from an AF_XDP socket.
#pragma once

#include "probe/options.h"

namespace outrigger::probe {

// Prints one JSON object. Exit status 1 when a probe found no answer.
int ping(const Options& options);

}  // namespace outrigger::probe
