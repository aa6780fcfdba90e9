// SPDX-License-Identifier: Apache-2.0
// The control part of an open device, behind the FrameIo that moves its frames: whoever opened it (this process, or outrigger-nicd for it) steers
// ports to it and knows its link. Any thread but the one that polls.
#pragma once

#include <cstdint>

#include "base/fd.h"
#include "base/result.h"
#include "io/frame/frame_io.h"

namespace outrigger::io {

class DeviceControl {
 public:
  virtual ~DeviceControl() = default;
  virtual Result<void> steer(const SteerRule& rule) = 0;
  virtual Result<void> unsteer(const SteerRule& rule) = 0;
  // As FrameIo::openPort.
  virtual Result<UniqueFd> openPort(const SockAddr& address, int32_t receiveBufferBytes) {
    static_cast<void>(address);
    static_cast<void>(receiveBufferBytes);
    return UniqueFd();
  }
  virtual LinkState link() = 0;
  // Frames for a rule that went to the kernel's socket instead, since only the kernel can take them apart; monotonic. The one call for the
  // thread that polls, about once a second.
  virtual int64_t framesLeftToKernel() { return 0; }
};

}  // namespace outrigger::io
