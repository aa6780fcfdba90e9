// SPDX-License-Identifier: Apache-2.0
// Adds: the channel is parsed, its names are looked up, then one add at a time opens its socket and makes its file on the resource agent.
// One at a time, so that two adds of one channel find each other instead of racing for its port.
#include "driver/conductor/state.h"

namespace outrigger::driver {

using cnc::Command;

void ConductorState::startAdd(ClientCommand command) {
  if (isRegistrationInUse(command.correlationId)) {
    return refuse(command.correlationId,
                  makeError(ErrorCode::kGeneric, std::string(commandName(command.type)) + " with correlation id " +
                                                     std::to_string(command.correlationId) + ", which is in use already"));
  }
  auto uri = net::ChannelUri::parse(command.channel);
  if (!uri) return refuse(command.correlationId, uri.error());
  auto add = std::make_shared<PendingAdd>();
  if (command.type == Command::kAddSubscription) {
    auto params = parseSubscriptionParams(*uri, command.streamId, config_);
    if (!params) return refuse(command.correlationId, params.error());
    if (uri->media() == net::ChannelUri::Media::kIpc && uri->isSpy()) {
      return refuse(command.correlationId, makeError(ErrorCode::kInvalidChannel, "channel '" + command.channel.substr(0, 160) +
                                                                                     "': spies are for UDP channels, subscribe to "
                                                                                     "aeron:ipc itself"));
    }
    if (uri->media() == net::ChannelUri::Media::kIpc) {
      auto subscription = std::make_unique<Subscription>();
      subscription->registrationId = command.correlationId;
      subscription->clientId = command.clientId;
      subscription->streamId = command.streamId;
      subscription->kind = SubscriptionKind::kIpc;
      subscription->channel = command.channel;
      subscription->params = params.take();
      return addLocalSubscription(std::move(subscription));
    }
  } else {
    auto params = parsePublicationParams(*uri, command.streamId, config_);
    if (!params) return refuse(command.correlationId, params.error());
  }
  add->command = std::move(command);
  pending_.emplace(add->command.correlationId, add);
  if (uri->media() == net::ChannelUri::Media::kIpc) return enqueue(std::move(add));
  admit(std::move(add));
}

void ConductorState::startDestination(ClientCommand command) {
  if (isRegistrationInUse(command.correlationId)) {
    return refuse(command.correlationId,
                  makeError(ErrorCode::kGeneric,
                            "ADD_DESTINATION with correlation id " + std::to_string(command.correlationId) + ", which is in use already"));
  }
  const ClientSession* session = findSession(command.clientId);
  auto endpoint = destinationEndpoint(command, *session);
  if (!endpoint) return refuse(command.correlationId, endpoint.error());
  auto uri = net::ChannelUri::parse(command.channel);
  if (!uri) return refuse(command.correlationId, uri.error());
  if (uri->media() != net::ChannelUri::Media::kUdp || uri->isSpy() || !uri->has("endpoint")) {
    return refuse(command.correlationId, makeError(ErrorCode::kInvalidChannel, "destination '" + command.channel.substr(0, 160) +
                                                                                   "': must be aeron:udp with endpoint=host:port"));
  }
  auto add = std::make_shared<PendingAdd>();
  add->command = std::move(command);
  pending_.emplace(add->command.correlationId, add);
  admit(std::move(add));
}

void ConductorState::lookUp(std::shared_ptr<PendingAdd> add) {
  bool hasName = false;
  const auto numericOnly = [&hasName](const std::string& host, uint16_t port, bool) -> Result<io::SockAddr> {
    const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
    auto address = io::SockAddr::parseNumeric(bracketed ? host.substr(1, host.size() - 2) : host, port);
    if (!address) hasName = true;
    return address;
  };
  auto udp = net::UdpChannel::parse(add->command.channel, numericOnly);
  if (udp) {
    add->udp = udp.take();
    return enqueue(std::move(add));
  }
  if (!hasName) return failAdd(add, udp.error());
  auto result = std::make_shared<std::optional<Result<net::UdpChannel>>>();
  ResourceTask task;
  task.run = [result, channel = add->command.channel, resolver = parts_.resolver] {
    result->emplace(net::UdpChannel::parse(channel, resolver));
  };
  task.complete = [this, result, add] {
    if (!**result) return failAdd(add, (**result).error());
    add->udp = (**result).take();
    enqueue(add);
  };
  names_.submit(std::move(task));
}

int32_t ConductorState::stepLane() {
  int32_t work = 0;
  // Nothing is opened on a backend that is being left.
  while (!laneBusy_ && !moving() && !lane_.empty()) {
    const std::shared_ptr<PendingAdd> add = lane_.front();
    const LaneStep step = runAdd(add);
    if (step == LaneStep::kWait) break;
    lane_.pop_front();
    ++work;
    if (step == LaneStep::kTaskRunning) {
      laneBusy_ = true;
    } else {
      finishAdd(add);
    }
  }
  return work;
}

ConductorState::LaneStep ConductorState::runAdd(const std::shared_ptr<PendingAdd>& add) {
  ClientSession* session = findSession(add->command.clientId);
  if (session == nullptr) return LaneStep::kFinished;  // the client has gone meanwhile
  const auto fail = [&](const Error& error) {
    refuse(add->command.correlationId, error);
    return LaneStep::kFinished;
  };
  if (add->udp && add->udp->multicast) {
    return fail(makeError(ErrorCode::kNotSupported, "channel '" + add->command.channel.substr(0, 160) +
                                                        "': multicast is not supported by this driver yet, use control-mode=dynamic"));
  }
  switch (add->command.type) {
    case Command::kAddPublication:
    case Command::kAddExclusivePublication:
      return add->udp ? addNetworkPublication(add, *session) : addIpcPublication(add, *session);
    case Command::kAddSubscription:
      return addSubscription(add, *session);
    case Command::kAddDestination:
      return addDestination(add, *session);
    default:
      return LaneStep::kFinished;
  }
}

void ConductorState::finishAdd(const std::shared_ptr<PendingAdd>& add) {
  pending_.erase(add->command.correlationId);
  std::vector<ClientCommand> deferred = std::move(add->deferred);
  for (ClientCommand& command : deferred) {
    if (!closing_) execute(std::move(command));
  }
}

void ConductorState::failAdd(const std::shared_ptr<PendingAdd>& add, const Error& error) {
  if (findSession(add->command.clientId) != nullptr) refuse(add->command.correlationId, error);
  finishAdd(add);
}

}  // namespace outrigger::driver
