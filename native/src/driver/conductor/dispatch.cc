// SPDX-License-Identifier: Apache-2.0
// From a record in the command ring to the handler of its command. Commands that refer to an add still under way wait for it.
#include <algorithm>

#include "driver/conductor/state.h"

namespace outrigger::driver {

using cnc::Command;
using cnc::OutriggerCounter;

void ConductorState::onMessage(int32_t type, const uint8_t* message, int32_t length) {
  // Clients can write while we read: everything is decided on this copy.
  scratch_.assign(message, message + length);
  DecodedCommand decoded = decodeCommand(type, scratch_.data(), length);
  if (decoded.status == DecodeStatus::kDecoded) return execute(std::move(decoded.command));
  parts_.counters.add(OutriggerCounter::kCommandsRejected, 1);
  const ErrorCode code = decoded.status == DecodeStatus::kUnknownType ? ErrorCode::kUnknownCommandTypeId : ErrorCode::kMalformedCommand;
  if (decoded.correlationKnown) responses_.error(decoded.command.correlationId, code, decoded.problem);
  recordError(decoded.problem);
}

bool ConductorState::deferToPending(ClientCommand& command) {
  const auto defer = [&](PendingAdd& add) {
    if (add.command.clientId != command.clientId) return false;
    add.deferred.push_back(std::move(command));
    return true;
  };
  switch (command.type) {
    case Command::kRemovePublication:
    case Command::kRemoveSubscription:
    case Command::kAddDestination:
    case Command::kRemoveDestination:
    case Command::kRemoveDestinationById: {
      // By id of the object itself, or of the destination that is being added.
      for (const int64_t id : {command.registrationId, command.destinationId}) {
        const auto found = pending_.find(id);
        if (found != pending_.end() && defer(*found->second)) return true;
      }
      if (command.type == Command::kAddDestination) return false;
      // A destination under way belongs to what is removed or changed here.
      for (const auto& [id, add] : pending_) {
        if (add->command.type == Command::kAddDestination && add->command.registrationId == command.registrationId && defer(*add)) {
          return true;
        }
      }
      return false;
    }
    default:
      return false;
  }
}

bool ConductorState::isRegistrationInUse(int64_t registrationId) const {
  return pending_.contains(registrationId) || subscriptions_.contains(registrationId) ||
         std::any_of(networks_.begin(), networks_.end(),
                     [&](const auto& entry) { return entry->publication->params().registrationId == registrationId; }) ||
         std::any_of(ipcs_.begin(), ipcs_.end(),
                     [&](const auto& entry) { return entry->publication->params().registrationId == registrationId; });
}

void ConductorState::execute(ClientCommand command) {
  if (deferToPending(command)) return;
  switch (command.type) {
    case Command::kClientClose:
      if (ClientSession* session = findSession(command.clientId)) endSession(*session, false);
      return;
    case Command::kTerminateDriver:
      return onTerminate(command);
    default:
      break;
  }
  ClientSession* session = sessionOf(command);
  if (session == nullptr) return;
  switch (command.type) {
    case Command::kAddPublication:
    case Command::kAddExclusivePublication:
    case Command::kAddSubscription:
      return startAdd(std::move(command));
    case Command::kAddDestination:
      return startDestination(std::move(command));
    case Command::kRemovePublication:
      return onRemovePublication(command, *session);
    case Command::kRemoveSubscription:
      return onRemoveSubscription(command);
    case Command::kClientKeepalive:
      session->heartbeat.set(nowMs_);
      return;
    case Command::kRemoveDestination:
    case Command::kRemoveDestinationById:
      return onRemoveDestination(command, *session);
    case Command::kAddCounter:
      return onAddCounter(command, *session);
    case Command::kAddStaticCounter:
      return onAddStaticCounter(command, *session);
    case Command::kRemoveCounter:
      return onRemoveCounter(command, *session);
    case Command::kAddRcvDestination:
    case Command::kRemoveRcvDestination:
      // When there are: a receive destination opens a socket and may address a publisher, so it needs a rule (policy.h) as a subscription does.
      return refuse(command.correlationId, makeError(ErrorCode::kNotSupported,
                                                     "multi-destination subscriptions are not supported by this driver yet: subscribe "
                                                     "to each channel on its own"));
    case Command::kRejectImage:
      return onRejectImage(command);
    case Command::kGetNextAvailableSessionId:
      return onNextSessionId(command);
    case Command::kClientClose:
    case Command::kTerminateDriver:
      return;
  }
}

void ConductorState::onTerminate(const ClientCommand&) {
  if (config_.terminationAllowed) {
    terminationRequested_ = true;
  } else {
    recordError("a client asked the driver to terminate, which is not allowed: set AERON_DRIVER_TERMINATION_VALIDATOR=allow to permit it");
  }
}

void ConductorState::onNextSessionId(const ClientCommand& command) {
  int32_t sessionId = nextSessionId();
  const auto taken = [&](int32_t id) {
    const auto uses = [&](const auto& entry) {
      return entry->publication->params().streamId == command.streamId && entry->publication->params().sessionId == id;
    };
    return std::any_of(networks_.begin(), networks_.end(), uses) || std::any_of(ipcs_.begin(), ipcs_.end(), uses);
  };
  while (taken(sessionId)) sessionId = nextSessionId();
  responses_.nextAvailableSessionId(command.correlationId, sessionId);
}

}  // namespace outrigger::driver
