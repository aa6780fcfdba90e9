// SPDX-License-Identifier: Apache-2.0
// AF_XDP by outrigger-nicd: memory is ours, sockets come bound, the program stays nicd's. Needs no capability, and no interface in this network
// namespace.
#pragma once

#include <memory>
#include <vector>

#include "io/backend.h"
#include "io/nicd_client/nicd_tables.h"
#include "io/xdp/xdp_frame_io.h"

namespace outrigger::nicd {

struct NicdXdp {
  std::unique_ptr<io::FrameIo> device;
  std::shared_ptr<NicdTables> tables;
  std::vector<io::BackendCause> refused;  // what could be better, and why it is not
};

// What `options` asks for, from the nicd at options.nicdSocket. The error is nicd's, or says why it can't be asked.
Result<NicdXdp> openNicdXdp(const io::BackendOptions& options);

// What that would give, without opening anything but a connection.
io::BackendReport probeNicdXdp(const io::BackendOptions& options);

// The two instances of a driver over it.
Result<io::IoPair> openNicdXdpPair(const io::BackendOptions& options);

}  // namespace outrigger::nicd
