// SPDX-License-Identifier: Apache-2.0
// The policy file at work: clients' adds are held against it, and the receiver learns who may publish to which stream.
//
// All clients are held against it, the sidecar's own too: a client's id is what it writes into shared memory itself, so it proves nothing.
// What is not allowed is refused only after the file was looked at once more: who writes a rule and then sends a command finds it in force.
#include <algorithm>

#include "driver/conductor/state.h"

namespace outrigger::driver {

using cnc::Command;

namespace {

// A stranger's SETUP may be that of a new member whose rule stands in the file already. How often that is a reason to look.
constexpr int64_t kStrangerLookNs = 100 * kMilliNs;
constexpr size_t kQuotedLength = 160;

const char* purposeOf(Command command) {
  switch (command) {
    case Command::kAddSubscription:
      return "a subscription of";
    case Command::kAddDestination:
      return "the destination";
    default:
      return "a publication to";
  }
}

PolicyAction actionOf(Command command) {
  switch (command) {
    case Command::kAddSubscription:
      return PolicyAction::kSubscribe;
    case Command::kAddDestination:
      return PolicyAction::kDestination;
    default:
      return PolicyAction::kPublish;
  }
}

}  // namespace

bool ConductorState::isAllowed(const ClientCommand& command, std::string& reason) const {
  auto uri = net::ChannelUri::parse(command.channel);
  if (!uri) {
    reason = uri.error().message;
    return false;
  }
  std::vector<int32_t> streams{command.streamId};
  if (command.type == Command::kAddDestination) {
    // It gets every publication that shares the endpoint.
    streams.clear();
    const auto session = sessions_.find(command.clientId);
    for (const auto& entry : networks_) {
      const bool shares = session != sessions_.end() &&
                          std::any_of(session->second->publications.begin(), session->second->publications.end(), [&](const auto& link) {
                            return link.network != nullptr && link.network->endpoint == entry->endpoint &&
                                   (link.registrationId == command.registrationId ||
                                    link.network->publication->params().registrationId == command.registrationId);
                          });
      if (shares) streams.push_back(entry->publication->params().streamId);
    }
  }
  for (const int32_t stream : streams) {
    if (policy_->allows(actionOf(command.type), stream, *uri)) continue;
    reason = std::string(purposeOf(command.type)) + " channel '" + command.channel.substr(0, kQuotedLength) + "' with stream " +
             std::to_string(stream) + " is not allowed: ";
    if (policyKnown_) {
      reason +=
          "no topic that the sidecar has open in this role has this channel; open the topic over gRPC and use its channel, or use "
          "aeron:ipc";
    } else {
      reason += "there is no policy yet: " + policyProblem_;
    }
    return false;
  }
  return true;
}

void ConductorState::admit(std::shared_ptr<PendingAdd> add) {
  std::string reason;
  if (!hasPolicy() || isAllowed(add->command, reason)) return lookUp(std::move(add));
  // A look under way may have begun before the rule was written.
  (policyLooking_ ? policyWaitingNext_ : policyWaiting_).push_back(std::move(add));
  lookAtPolicy();
}

void ConductorState::forbid(const PendingAdd& add, const std::string& reason) {
  const auto pending = pending_.find(add.command.correlationId);
  if (pending == pending_.end()) return;  // its client went away while it waited for the file
  parts_.counters.add(cnc::OutriggerCounter::kCommandsForbidden, 1);
  failAdd(std::shared_ptr(pending->second), makeError(ErrorCode::kGeneric, reason));
}

void ConductorState::lookAtPolicy() {
  if (!hasPolicy() || policyLooking_ || closing_) return;
  policyLooking_ = true;
  nextPolicyLookNs_ = nowNs_ + kStrangerLookNs;
  auto reading = std::make_shared<PolicyReading>();
  ResourceTask task;
  task.run = [reading, path = config_.policyFile, owner = config_.policyOwner, before = policyText_] {
    *reading = readPolicyFile(path, owner, *before);
  };
  task.complete = [this, reading] {
    policyLooking_ = false;
    if (closing_) return;
    onPolicyRead(std::move(*reading));
    decideWaiting();
  };
  parts_.resources.submit(std::move(task));
}

void ConductorState::onPolicyRead(PolicyReading reading) {
  // What was taken stays in force while there is nothing better. None at all is how each pod begins, and only what asks is told.
  const std::string problem = reading.error ? reading.error->message : std::string();
  if (problem != policyProblem_ && !problem.empty() && (policyKnown_ || !reading.absent)) {
    recordError(problem + (policyKnown_ ? "; the policy before it stays in force" : "; nothing is allowed"));
  }
  policyProblem_ = problem;
  if (reading.policy == nullptr) return;
  policy_ = std::move(reading.policy);
  policyText_ = std::make_shared<const std::string>(std::move(reading.text));
  policyKnown_ = true;
  for (const auto& entry : receiveEndpoints_) {
    std::vector<int32_t> streams;
    for (const auto& interest : entry->interests) streams.push_back(interest.streamId);
    for (const int32_t stream : streams) updateSources(*entry, stream);
  }
}

void ConductorState::decideWaiting() {
  for (const auto& add : std::exchange(policyWaiting_, std::exchange(policyWaitingNext_, {}))) {
    std::string reason;
    if (isAllowed(add->command, reason)) {
      lookUp(add);
    } else {
      forbid(*add, reason);
    }
  }
  if (!policyWaiting_.empty()) lookAtPolicy();
}

// ---- who may publish ----

void ConductorState::updateSources(ReceiveEndpointEntry& entry, int32_t streamId) {
  if (entry.removing) return;
  // What each subscription's channel was allowed with; images that exist go on whatever the list says.
  auto sources = std::make_unique<SourceList>();
  bool wanted = false;
  for (const auto& [id, subscription] : subscriptions_) {
    if (subscription->endpoint != &entry || subscription->streamId != streamId) continue;
    wanted = true;
    sources->addAll(policy_->sourcesOf(streamId, subscription->udp.uri));
  }
  sources->seal();
  if (!wanted) sources.reset();
  const auto known = entry.sources.find(streamId);
  const bool has = known != entry.sources.end();
  if (has ? sources != nullptr && *known->second == *sources : sources == nullptr) return;
  ReceiverCommand command;
  command.type = ReceiverCommand::Type::kSetSources;
  command.endpoint = &entry.endpoint;
  command.streamId = streamId;
  command.sources = sources.get();
  if (has) {
    oldSources_.push_back(std::move(known->second));
    entry.sources.erase(known);
  }
  if (sources != nullptr) entry.sources.emplace(streamId, std::move(sources));
  sendToReceiver(command);
}

void ConductorState::onSourcesReleased(const SourceList* sources) {
  std::erase_if(oldSources_, [&](const auto& each) { return each.get() == sources; });
}

void ConductorState::onSourceRefused(const AgentEvent& event) {
  if (event.value == 1) {
    io::SockAddr host = event.address;
    host.setPort(0);
    const std::string from = host.toString();
    recordError(
        "stream " + std::to_string(event.setup.streamId) + " from " + from.substr(0, from.rfind(':')) + " to " +
        event.receiveEndpoint->socket->localAddress().toString() +
        " refused: the policy does not list this address among the stream's publishers; let its sidecar open the topic as a publisher");
  }
  if (nowNs_ >= nextPolicyLookNs_) lookAtPolicy();
}

}  // namespace outrigger::driver
