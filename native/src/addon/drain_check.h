// SPDX-License-Identifier: Apache-2.0
// Whether what was offered has left: compares a position with the driver's counters. Poll it; it wakes nobody.
#pragma once

#include <cstdint>
#include <string>

#include "client/driver_memory.h"
#include "client/publication.h"

namespace outrigger::addon {

class DrainCheck {
 public:
  // Everything up to `position` of the publication.
  DrainCheck(const client::PublicationBase& publication, int64_t position)
      : registrationId_(publication.originalRegistrationId()),
        sessionId_(publication.sessionId()),
        streamId_(publication.streamId()),
        ipc_(publication.isIpc()),
        position_(position) {}

  // Network: the sender's position has passed it. IPC: that of each subscriber has, or there is none.
  bool isDrained(const client::DriverMemory& memory) const;

 private:
  int64_t registrationId_;
  int32_t sessionId_;
  int32_t streamId_;
  bool ipc_;
  int64_t position_;
};

}  // namespace outrigger::addon
