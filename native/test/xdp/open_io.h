// SPDX-License-Identifier: Apache-2.0
// An XdpFrameIo on the near end of a VethWorld.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "io/xdp/xdp_open.h"

namespace outrigger::io::testing {

inline BackendOptions optionsFor(const std::string& mode) {
  BackendOptions options;
  options.interface = "va";
  options.xdpMode = mode;
  options.umemBytes = 1u << 20;
  options.hugepages = false;
  return options;
}

inline std::unique_ptr<xdp::XdpFrameIo> openIo(const BackendOptions& options, xdp::Offload checksum = xdp::Offload::kAuto) {
  xdp::XdpAttempt attempt;
  auto parts = xdp::openXdp(options, attempt, checksum);
  EXPECT_TRUE(parts) << parts.error().message;
  if (!parts) return nullptr;
  auto io = xdp::XdpFrameIo::create(parts.take());
  EXPECT_TRUE(io) << io.error().message;
  return io ? io.take() : nullptr;
}

}  // namespace outrigger::io::testing
