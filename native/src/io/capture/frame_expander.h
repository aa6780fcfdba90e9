// SPDX-License-Identifier: Apache-2.0
// From a captured frame to the frames that are on the wire: trains taken apart, checksums that the device would make filled in, a VLAN tag that it
// took out put back. A frame that is complete is left as it is, also when its checksum is wrong. Reads nothing outside the frame.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "io/capture/capture_tap.h"

namespace outrigger::io {

// `data` is valid during the call; `originalLength` is that on the wire.
using WireFrame = std::function<void(std::span<const uint8_t> data, uint32_t originalLength)>;

class FrameExpander {
 public:
  void expand(const CapturedFrame& frame, const WireFrame& emit);

 private:
  std::vector<uint8_t> buffer_;
};

}  // namespace outrigger::io
