// SPDX-License-Identifier: Apache-2.0
// Encodes client commands into the to-driver ring and rings the conductor. Any thread. No state: who waits for which answer is MediaClient's.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "client/driver_memory.h"
#include "cnc/commands.h"
#include "cnc/mpsc_ring.h"

namespace outrigger::client {

class DriverCommands {
 public:
  explicit DriverCommands(std::shared_ptr<DriverMemory> memory)
      : memory_(std::move(memory)), ring_(memory_->regions().toDriver), clientId_(ring_.nextCorrelationId()) {}

  int64_t clientId() const { return clientId_; }
  int64_t nextCorrelationId() { return ring_.nextCorrelationId(); }
  int64_t consumerHeartbeatMs() const { return ring_.consumerHeartbeatMs(); }

  // Each returns false when the ring is full (the driver does not keep up or is dead).
  bool addPublication(int64_t correlationId, std::string_view channel, int32_t streamId, bool exclusive);
  bool removePublication(int64_t correlationId, int64_t registrationId, bool revoke);
  bool addSubscription(int64_t correlationId, std::string_view channel, int32_t streamId);
  bool removeSubscription(int64_t correlationId, int64_t registrationId);
  bool destination(cnc::Command command, int64_t correlationId, int64_t registrationId, std::string_view channel);
  bool removeDestinationById(int64_t correlationId, int64_t registrationId, int64_t destinationId);
  bool addCounter(int64_t correlationId, int32_t typeId, std::string_view key, std::string_view label);
  bool addStaticCounter(int64_t correlationId, int64_t registrationId, int32_t typeId, std::string_view key, std::string_view label);
  bool removeCounter(int64_t correlationId, int64_t registrationId);
  bool rejectImage(int64_t correlationId, int64_t imageCorrelationId, int64_t position, std::string_view reason);
  bool keepalive();
  bool close();
  bool terminateDriver(std::string_view token);

 private:
  bool send(cnc::Command command, const void* fixed, size_t fixedLength, std::string_view tail = {});

  std::shared_ptr<DriverMemory> memory_;
  cnc::MpscRing ring_;
  int64_t clientId_;
};

}  // namespace outrigger::client
