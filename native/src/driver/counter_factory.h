// SPDX-License-Identifier: Apache-2.0
// Labels and keys of the driver's counters, in Aeron's layouts, so that its tools find streams and channels. Conductor only.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "cnc/counters.h"
#include "driver/driver_counters.h"

namespace outrigger::driver {

struct StreamIdentity {
  int64_t registrationId = 0;
  int32_t sessionId = 0;
  int32_t streamId = 0;
  std::string_view channel;
};

class CounterFactory {
 public:
  explicit CounterFactory(cnc::CountersManager& manager) : manager_(manager) {}

  cnc::CountersManager& manager() { return manager_; }
  // Allocates ids 0 to 45 and our own ones. False when the buffer is too small.
  bool createDriverCounters(DriverCounters& counters, int64_t nowMs);
  // Those of raw backends, for a driver that may run one. False as above.
  bool createNetworkCounters(DriverCounters& counters, int64_t nowMs);

  // `<name>: <registrationId> <sessionId> <streamId> <channel>[ @joinPosition]`
  cnc::Counter stream(int32_t typeId, std::string_view name, const StreamIdentity& identity, int64_t ownerId, int64_t nowMs,
                      int64_t joinPosition = -1);
  cnc::Counter channelStatus(int32_t typeId, std::string_view name, std::string_view channel, int64_t registrationId, int64_t nowMs);
  cnc::Counter localAddress(std::string_view name, int32_t statusCounterId, std::string_view address, int64_t registrationId,
                            int64_t nowMs);
  cnc::Counter destination(std::string_view channel, int64_t registrationId, int64_t nowMs);
  cnc::Counter clientHeartbeat(int64_t clientId, int64_t nowMs);
  cnc::Counter text(int32_t typeId, std::string_view label, int64_t registrationId, int64_t nowMs);
  void release(cnc::Counter& counter, int64_t nowMs) {
    if (counter.valid()) manager_.release(counter.id, nowMs);
    counter = {};
  }

 private:
  cnc::CountersManager& manager_;
};

}  // namespace outrigger::driver
