// SPDX-License-Identifier: Apache-2.0
// Destinations of multi-destination publications: manual ones by command, dynamic ones as their receivers report.
#include <algorithm>

#include "driver/conductor/socket_opening.h"
#include "driver/conductor/state.h"

namespace outrigger::driver {

Result<SendEndpointEntry*> ConductorState::destinationEndpoint(const ClientCommand& command, const ClientSession& session) {
  const auto found = std::find_if(session.publications.begin(), session.publications.end(), [&](const PublicationLink& link) {
    return link.registrationId == command.registrationId ||
           (link.network != nullptr && link.network->publication->params().registrationId == command.registrationId);
  });
  if (found == session.publications.end()) {
    return makeError(ErrorCode::kUnknownPublication, "unknown publication: registrationId=" + std::to_string(command.registrationId));
  }
  if (found->network == nullptr || found->network->endpoint->endpoint.channel.controlMode != net::ControlMode::kManual) {
    return makeError(ErrorCode::kInvalidChannel, "publication " + std::to_string(command.registrationId) +
                                                     " does not allow manual control of its destinations: add it with control-mode=manual");
  }
  return found->network->endpoint;
}

ConductorState::LaneStep ConductorState::addDestination(const std::shared_ptr<PendingAdd>& add, ClientSession& session) {
  const ClientCommand& command = add->command;
  auto target = destinationEndpoint(command, session);
  if (!target) {
    refuse(command.correlationId, target.error());
    return LaneStep::kFinished;
  }
  SendEndpointEntry* entry = *target;
  struct Job {
    io::SockAddr address;
    std::optional<Result<std::unique_ptr<io::NextHop>>> nextHop;
  };
  auto job = std::make_shared<Job>();
  job->address = *add->udp->endpoint;
  ++entry->pendingTasks;
  ResourceTask task;
  task.run = [job, io = senderIo_, socket = entry->endpoint.socket.get()] { job->nextHop.emplace(io->resolve(*socket, job->address)); };
  task.complete = [this, add, job, entry] {
    laneBusy_ = false;
    --entry->pendingTasks;
    const ClientCommand& asked = add->command;
    if (!*job->nextHop) {
      refuse(asked.correlationId, job->nextHop->error());
    } else if (entry->removing) {
      if (findSession(asked.clientId) != nullptr) {
        refuse(asked.correlationId,
               makeError(ErrorCode::kUnknownPublication, "publication " + std::to_string(asked.registrationId) + " was closed meanwhile"));
      }
    } else {
      auto destination = std::make_unique<MdcDestination>();
      destination->registrationId = asked.correlationId;
      destination->nextHop = job->nextHop->take();
      destination->address = job->address;
      destination->manual = true;
      countDestination(*destination, asked.channel);
      SenderCommand command2;
      command2.type = SenderCommand::Type::kAddDestination;
      command2.endpoint = &entry->endpoint;
      command2.destination = destination.get();
      entry->manualDestinations.push_back({asked.correlationId, asked.channel, destination.get(), isNamed(add->udp->uri)});
      entry->endpoint.ownedDestinations.push_back(std::move(destination));
      sendToSender(command2);
      responses_.operationSucceeded(asked.correlationId);
    }
    destroySendEndpoint(*entry);
    finishAdd(add);
  };
  parts_.resources.submit(std::move(task));
  return LaneStep::kTaskRunning;
}

// Many topics of many members must not use up what streams need: an eighth of all counters is for destinations.
void ConductorState::countDestination(MdcDestination& destination, const std::string& channel) {
  CounterFactory& factory = parts_.counterFactory;
  if (destinationCounters_ >= factory.manager().capacity() / 8) return;
  destination.heard = factory.destination(channel, destination.registrationId, nowMs_);
  if (destination.heard.valid()) ++destinationCounters_;
}

void ConductorState::releaseDestination(MdcDestination& destination) {
  if (!destination.heard.valid()) return;
  parts_.counterFactory.release(destination.heard, nowMs_);
  --destinationCounters_;
}

void ConductorState::onRemoveDestination(const ClientCommand& command, ClientSession& session) {
  auto target = destinationEndpoint(command, session);
  if (!target) return refuse(command.correlationId, target.error());
  auto& known = (*target)->manualDestinations;
  auto found = known.end();
  if (command.type == cnc::Command::kRemoveDestinationById) {
    found = std::find_if(known.begin(), known.end(), [&](const auto& each) { return each.registrationId == command.destinationId; });
    if (found == known.end()) {
      return refuse(command.correlationId,
                    makeError(ErrorCode::kGeneric, "unknown destination: registrationId=" + std::to_string(command.destinationId)));
    }
  } else {
    auto uri = net::ChannelUri::parse(command.channel);
    if (!uri) return refuse(command.correlationId, uri.error());
    // By what the client wrote: a name may stand for another address by now.
    found = std::find_if(known.begin(), known.end(), [&](const auto& each) {
      if (each.channel == command.channel) return true;
      auto other = net::ChannelUri::parse(each.channel);
      return other.ok() && other->get("endpoint") == uri->get("endpoint");
    });
  }
  if (found != known.end()) {
    MdcDestination* destination = found->destination;
    known.erase(found);
    removeDestination(**target, destination);
  }
  responses_.operationSucceeded(command.correlationId);
}

void ConductorState::removeDestination(SendEndpointEntry& entry, MdcDestination* destination) {
  if (entry.removing || !entry.removingDestinations.insert(destination).second) return;
  SenderCommand command;
  command.type = SenderCommand::Type::kRemoveDestination;
  command.endpoint = &entry.endpoint;
  command.destination = destination;
  sendToSender(command);
}

void ConductorState::onResolveDestination(const AgentEvent& event) {
  SendEndpointEntry* entry = entryOf(event.sendEndpoint);
  // While the backend changes there is none to resolve with: the receiver's next status message asks again.
  if (entry == nullptr || entry->removing || closing_ || moving()) return;
  struct Job {
    std::optional<Result<std::unique_ptr<io::NextHop>>> nextHop;
  };
  auto job = std::make_shared<Job>();
  ++entry->pendingTasks;
  ++resolves_;
  ResourceTask task;
  task.run = [job, io = senderIo_, socket = entry->endpoint.socket.get(), address = event.address] {
    job->nextHop.emplace(io->resolve(*socket, address));
  };
  task.complete = [this, job, entry, address = event.address, receiverId = event.receiverId] {
    --entry->pendingTasks;
    --resolves_;
    if (!*job->nextHop) {
      recordError(job->nextHop->error().message);
    } else if (!entry->removing) {
      auto destination = std::make_unique<MdcDestination>();
      destination->nextHop = job->nextHop->take();
      destination->address = address;
      destination->receiverId = receiverId;
      destination->receiverIdKnown = true;
      destination->lastActivityNs = nowNs_;
      SenderCommand command;
      command.type = SenderCommand::Type::kAddDestination;
      command.endpoint = &entry->endpoint;
      command.destination = destination.get();
      entry->endpoint.ownedDestinations.push_back(std::move(destination));
      sendToSender(command);
    }
    destroySendEndpoint(*entry);
  };
  parts_.resources.submit(std::move(task));
}

void ConductorState::onDestinationExpired(const AgentEvent& event) {
  if (SendEndpointEntry* entry = entryOf(event.sendEndpoint)) removeDestination(*entry, event.destination);
}

void ConductorState::onDestinationReleased(const AgentEvent& event) {
  SendEndpointEntry* entry = entryOf(event.sendEndpoint);
  if (entry == nullptr) return;
  entry->removingDestinations.erase(event.destination);
  releaseDestination(*event.destination);
  std::erase_if(entry->endpoint.ownedDestinations, [&](const auto& each) { return each.get() == event.destination; });
}

}  // namespace outrigger::driver
