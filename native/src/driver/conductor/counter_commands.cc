// SPDX-License-Identifier: Apache-2.0
// Counters that clients make: owned ones end with the client, static ones live as long as the driver.
#include <algorithm>

#include "driver/conductor/state.h"

namespace outrigger::driver {
namespace {

constexpr int64_t kNoOwner = -1;

Error noCounterLeft() {
  return makeError(ErrorCode::kResourceTemporarilyUnavailable, "no counter is left: enlarge the counters buffer of the driver");
}

}  // namespace

void ConductorState::onAddCounter(const ClientCommand& command, ClientSession& session) {
  cnc::CountersManager& manager = parts_.counterFactory.manager();
  const cnc::Counter counter = manager.allocate(command.typeId, command.key, command.text, nowMs_, command.correlationId, command.clientId);
  if (!counter.valid()) return refuse(command.correlationId, noCounterLeft());
  session.counters.push_back({command.correlationId, counter.id, command.typeId});
  responses_.counterReady(command.correlationId, counter.id);
}

void ConductorState::onAddStaticCounter(const ClientCommand& command, const ClientSession&) {
  for (const StaticCounter& known : staticCounters_) {
    if (known.typeId == command.typeId && known.registrationId == command.registrationId) {
      return responses_.staticCounter(command.correlationId, known.counterId);
    }
  }
  for (const auto& [id, session] : sessions_) {
    for (const CounterLink& link : session->counters) {
      if (link.typeId == command.typeId && link.registrationId == command.registrationId) {
        return refuse(command.correlationId,
                      makeError(ErrorCode::kGeneric, "cannot add static counter, because a non-static counter exists: counterId=" +
                                                         std::to_string(link.counterId) + " typeId=" + std::to_string(command.typeId) +
                                                         " registrationId=" + std::to_string(command.registrationId)));
      }
    }
  }
  cnc::CountersManager& manager = parts_.counterFactory.manager();
  const cnc::Counter counter = manager.allocate(command.typeId, command.key, command.text, nowMs_, command.registrationId, kNoOwner);
  if (!counter.valid()) return refuse(command.correlationId, noCounterLeft());
  staticCounters_.push_back({command.typeId, command.registrationId, counter.id});
  responses_.staticCounter(command.correlationId, counter.id);
}

void ConductorState::onRemoveCounter(const ClientCommand& command, ClientSession& session) {
  const auto found = std::find_if(session.counters.begin(), session.counters.end(),
                                  [&](const CounterLink& link) { return link.registrationId == command.registrationId; });
  if (found == session.counters.end()) {
    return refuse(command.correlationId,
                  makeError(ErrorCode::kUnknownCounter, "unknown counter: registrationId=" + std::to_string(command.registrationId)));
  }
  responses_.operationSucceeded(command.correlationId);
  responses_.unavailableCounter(found->registrationId, found->counterId);
  parts_.counterFactory.manager().release(found->counterId, nowMs_);
  session.counters.erase(found);
}

}  // namespace outrigger::driver
