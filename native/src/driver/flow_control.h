// SPDX-License-Identifier: Apache-2.0
// Flow control strategies of a publication: status messages in, sender limit out. Sender thread only.
#pragma once

#include <cstdint>
#include <memory>

#include "cnc/counters.h"
#include "driver/driver_config.h"
#include "net/udp_channel.h"
#include "wire/frames.h"

namespace outrigger::driver {

// One validated status message, unpacked.
struct StatusMessage {
  int64_t position = 0;  // consumption position
  int32_t windowLength = 0;
  int64_t receiverId = 0;
  bool hasGroupTag = false;
  int64_t groupTag = 0;
  uint8_t flags = 0;
};

class FlowControl {
 public:
  virtual ~FlowControl() = default;
  // New sender limit after an SM; never below `senderLimit` for the max strategy.
  virtual int64_t onStatusMessage(const StatusMessage& message, int64_t senderLimit, int64_t senderPosition, int64_t nowNs) = 0;
  // An elicited SETUP went out: protects a late joiner's window (min, tagged).
  virtual void onSetup(int64_t senderLimit, int64_t senderPosition, int64_t nowNs) = 0;
  // An ERR frame from this receiver, or its SM with EOS: it counts no more.
  virtual void onReceiverGone(int64_t receiverId, int64_t nowNs) = 0;
  // Once a duty cycle at most: expires silent receivers, returns the limit.
  virtual int64_t onIdle(int64_t nowNs, int64_t senderLimit, int64_t senderPosition, bool endOfStream) = 0;
  virtual bool hasRequiredReceivers() const = 0;
  virtual int32_t receiverCount() const = 0;
  virtual int64_t maxRetransmissionLength(int64_t resendLength, int64_t termBytesLeft, int32_t receiverWindow) const = 0;
};

// Picks the strategy from fc= of the channel, else from the driver's default for unicast or multicast/MDC.
std::unique_ptr<FlowControl> makeFlowControl(const net::UdpChannel& channel, const DriverConfig& config, int32_t termLength);

}  // namespace outrigger::driver
