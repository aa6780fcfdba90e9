// SPDX-License-Identifier: Apache-2.0
// The receiver agent: datagrams in, images rebuilt, status messages and NAKs out (contract between conductor and receiver).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "base/clock.h"
#include "base/random.h"
#include "base/spsc_ring.h"
#include "cnc/doorbells.h"
#include "driver/agent_messages.h"
#include "driver/driver_config.h"
#include "driver/driver_counters.h"
#include "io/datagram_io.h"

namespace outrigger::driver {

// What an image needs while the receiver works on it.
struct ReceiverContext {
  io::DatagramIo* io;  // another one after a switch of backends
  const DriverConfig& config;
  const DriverCounters& counters;
  SpscRing<AgentEvent>& events;
  const cnc::Doorbells& doorbells;
  Clock& clock;  // for times in messages alone
  Random random;
};

class Receiver {
 public:
  Receiver(io::DatagramIo& io, const DriverConfig& config, const DriverCounters& counters, SpscRing<ReceiverCommand>& commands,
           SpscRing<AgentEvent>& events, const cnc::Doorbells& doorbells, Clock& clock);
  ~Receiver();

  int32_t doWork(int64_t nowNs);
  int64_t nextDeadlineNs(int64_t nowNs) const;   // as Sender's
  io::DatagramIo& io() { return *context_.io; }  // as Sender's
  bool hasLastTotals() const;
  std::optional<io::IoTotals> takeLastTotals();

 private:
  ReceiverContext context_;
  SpscRing<ReceiverCommand>& commands_;
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace outrigger::driver
