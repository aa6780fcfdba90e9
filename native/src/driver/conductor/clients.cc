// SPDX-License-Identifier: Apache-2.0
// Client sessions: one begins with the first command, is kept alive through its heartbeat counter, and ends with all that it owns.
#include <algorithm>

#include "driver/conductor/state.h"

namespace outrigger::driver {

ClientSession* ConductorState::findSession(int64_t clientId) {
  const auto found = sessions_.find(clientId);
  return found == sessions_.end() ? nullptr : found->second.get();
}

ClientSession* ConductorState::sessionOf(const ClientCommand& command) {
  if (ClientSession* known = findSession(command.clientId)) return known;
  auto session = std::make_unique<ClientSession>();
  session->id = command.clientId;
  session->heartbeat = parts_.counterFactory.clientHeartbeat(command.clientId, nowMs_);
  if (!session->heartbeat.valid()) {
    refuse(command.correlationId, makeError(ErrorCode::kResourceTemporarilyUnavailable,
                                            "no counter is left for another client: enlarge the counters buffer of the driver"));
    return nullptr;
  }
  responses_.counterReady(session->id, session->heartbeat.id);
  return sessions_.emplace(command.clientId, std::move(session)).first->second.get();
}

void ConductorState::checkSessions() {
  const int64_t timeoutMs = config_.clientLivenessTimeoutNs / kMilliNs;
  std::vector<ClientSession*> dead;
  for (const auto& [id, session] : sessions_) {
    const int64_t heartbeatMs = session->heartbeat.get();
    if (heartbeatMs > nowMs_ + timeoutMs) session->heartbeat.set(nowMs_);  // a heartbeat from the future would last for ever
    if (heartbeatMs < nowMs_ - timeoutMs) dead.push_back(session.get());   // in this form, since the client writes the value
  }
  for (ClientSession* session : dead) endSession(*session, true);
}

void ConductorState::endSession(ClientSession& session, bool timedOut) {
  const int64_t clientId = session.id;
  const std::unique_ptr<ClientSession> owned = std::move(sessions_.extract(clientId).mapped());
  if (timedOut) {
    parts_.counters.add(cnc::SystemCounter::kClientTimeouts, 1);
    responses_.clientTimeout(clientId);
  }
  for (const PublicationLink& link : owned->publications) unlinkPublication(link, false);
  std::vector<Subscription*> left;
  for (const auto& [id, subscription] : subscriptions_) {
    if (subscription->clientId == clientId) left.push_back(subscription.get());
  }
  for (Subscription* subscription : left) removeSubscription(*subscription);
  for (const CounterLink& link : owned->counters) {
    responses_.unavailableCounter(link.registrationId, link.counterId);
    parts_.counterFactory.manager().release(link.counterId, nowMs_);
  }
  responses_.unavailableCounter(clientId, owned->heartbeat.id);
  parts_.counterFactory.release(owned->heartbeat, nowMs_);
  parts_.doorbells.releaseSlotsOf(clientId);
  // Adds under way find no session when they are done, and undo themselves.
  for (const auto& [id, add] : pending_) {
    if (add->command.clientId == clientId) add->deferred.clear();
  }
}

}  // namespace outrigger::driver
