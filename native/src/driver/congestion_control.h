// SPDX-License-Identifier: Apache-2.0
// How large a window an image offers its sender: static (all of it) or cubic. Receiver thread only.
#pragma once

#include <cstdint>
#include <memory>

#include "driver/driver_config.h"

namespace outrigger::driver {

class CongestionControl {
 public:
  struct Outcome {
    int32_t windowLength = 0;  // bytes
    bool forceStatusMessage = false;
  };

  virtual ~CongestionControl() = default;
  // Once a duty cycle. lossOccurred: a hole was found since the last call.
  virtual Outcome onCycle(int64_t nowNs, bool lossOccurred) = 0;
  virtual void onRttSample(int64_t rttNs) = 0;
  // The round trip must be measured all the time, not only where datagrams get lost.
  virtual bool wantsRtt() const = 0;
  virtual int32_t maxWindowLength() const = 0;
};

// maxWindowLength: receiver window, already limited to half a term.
std::unique_ptr<CongestionControl> makeCongestionControl(CongestionControlKind kind, int32_t maxWindowLength, int32_t mtu, int64_t nowNs);

}  // namespace outrigger::driver
