// SPDX-License-Identifier: Apache-2.0
// See the header.
#include "io/xdp/xdp_backend.h"

#include "io/nicd_client/nicd_xdp.h"
#include "io/stack/raw_backend.h"
#include "io/xdp/xdp_frame_io.h"
#include "io/xdp/xdp_open.h"
#include "net/netlink_tables.h"

namespace outrigger::io {

Result<IoPair> openXdpPair(const BackendOptions& options) {
  if (!options.nicdSocket.empty()) return nicd::openNicdXdpPair(options);
  xdp::XdpAttempt attempt;
  auto parts = xdp::openXdp(options, attempt);
  if (!parts) return parts.error();
  auto device = xdp::XdpFrameIo::create(parts.take());
  if (!device) return device.error();
  auto tables = net::NetlinkTables::create();
  if (!tables) return tables.error();
  return makeRawPair(device.take(), nullptr, tables.take(), options);
}

}  // namespace outrigger::io
