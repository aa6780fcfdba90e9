// SPDX-License-Identifier: Apache-2.0
// Subscriptions: network, IPC and spies; their links to local publications, and the untethered ones that fall behind. Links to images
// are in images.cc.
#include <algorithm>

#include "driver/conductor/socket_opening.h"
#include "driver/conductor/state.h"

namespace outrigger::driver {

namespace counter_type = cnc::counter_type;

namespace {

constexpr const char* kIpcSource = "aeron:ipc";  // source identity of images that are read from a local log
constexpr int32_t kNoChannelStatus = -1;

template <typename Positions>
bool isLinked(const Positions& positions, const Subscription& subscription) {
  return std::any_of(positions.begin(), positions.end(),
                     [&](const SubscriberPosition& position) { return position.subscription == &subscription; });
}

}  // namespace

// ---- receive endpoints ----

ReceiveEndpointEntry* ConductorState::findReceiveEndpoint(const net::UdpChannel& channel) {
  for (const auto& entry : receiveEndpoints_) {
    const net::UdpChannel& known = entry->endpoint.channel;
    const bool sameTag = channel.tag && known.tag && *channel.tag == *known.tag;
    if (sameTag || known.canonicalForm == channel.canonicalForm) return entry.get();
  }
  return nullptr;
}

void ConductorState::releaseReceiveEndpoint(ReceiveEndpointEntry& entry) {
  if (--entry.endpoint.references > 0 || entry.removing) return;
  entry.removing = true;
  if (entry.endpoint.status.valid()) entry.endpoint.status.set(cnc::kChannelStatusClosing);
  ReceiverCommand command;
  command.type = ReceiverCommand::Type::kRemoveEndpoint;
  command.endpoint = &entry.endpoint;
  sendToReceiver(command);
}

void ConductorState::changeInterest(const Subscription& subscription, int32_t delta) {
  auto& interests = subscription.endpoint->interests;
  auto found = std::find_if(interests.begin(), interests.end(), [&](const ReceiveEndpointEntry::Interest& interest) {
    return interest.streamId == subscription.streamId && interest.sessionId == subscription.params.sessionId;
  });
  if (found == interests.end()) found = interests.insert(found, {subscription.streamId, subscription.params.sessionId, 0});
  found->count += delta;
  const bool added = delta > 0 && found->count == 1;
  const bool removed = found->count <= 0;
  if (removed) interests.erase(found);
  // Before the interest: nobody gets in meanwhile.
  if (hasPolicy() && delta > 0) updateSources(*subscription.endpoint, subscription.streamId);
  if (!added && !removed) return;
  ReceiverCommand command;
  command.type = added ? ReceiverCommand::Type::kAddStreamInterest : ReceiverCommand::Type::kRemoveStreamInterest;
  command.endpoint = &subscription.endpoint->endpoint;
  command.streamId = subscription.streamId;
  command.sessionSpecific = subscription.params.sessionId.has_value();
  command.sessionId = subscription.params.sessionId.value_or(0);
  sendToReceiver(command);
}

// ---- adding ----

ConductorState::LaneStep ConductorState::addSubscription(const std::shared_ptr<PendingAdd>& add, ClientSession&) {
  const ClientCommand& command = add->command;
  const net::UdpChannel& udp = *add->udp;
  const auto fail = [&](const Error& error) {
    refuse(command.correlationId, error);
    return LaneStep::kFinished;
  };
  auto parsed = parseSubscriptionParams(udp.uri, command.streamId, config_);
  if (!parsed) return fail(parsed.error());
  const SubscriptionStreamParams params = parsed.take();
  if (udp.uri.isSpy()) {
    auto subscription = std::make_unique<Subscription>();
    subscription->registrationId = command.correlationId;
    subscription->clientId = command.clientId;
    subscription->streamId = command.streamId;
    subscription->kind = SubscriptionKind::kSpy;
    subscription->channel = command.channel;
    subscription->udp = udp;
    subscription->params = params;
    addLocalSubscription(std::move(subscription));
    return LaneStep::kFinished;
  }
  ReceiveEndpointEntry* existing = findReceiveEndpoint(udp);
  if (existing != nullptr && existing->removing) return LaneStep::kWait;
  if (existing != nullptr) {
    // All of a socket's messages get their times in the same places.
    const net::TimestampOffsets& offsets = existing->endpoint.channel.timestamps;
    const char* moved = offsets.mediaReceive != udp.timestamps.mediaReceive       ? "media-rcv-ts-offset"
                        : offsets.channelReceive != udp.timestamps.channelReceive ? "channel-rcv-ts-offset"
                                                                                  : nullptr;
    if (moved != nullptr) return fail(timestampClash("subscription", moved, udp, existing->endpoint.channel));
    for (const auto& [id, other] : subscriptions_) {
      if (other->endpoint != existing || other->streamId != command.streamId) continue;
      const char* clash = other->params.reliable != params.reliable ? "reliable"
                          : other->params.rejoin != params.rejoin   ? "rejoin"
                                                                    : nullptr;
      if (clash != nullptr) {
        return fail(makeError(ErrorCode::kInvalidChannel, std::string("option conflicts with existing subscription: ") + clash +
                                                              " of channel '" + command.channel.substr(0, 160) + "', existing channel '" +
                                                              other->channel.substr(0, 160) + "'"));
      }
    }
    installSubscription(add, *existing, params);
    return LaneStep::kFinished;
  }
  if (!udp.endpoint && !udp.control) {
    return fail(makeError(ErrorCode::kInvalidChannel, "channel '" + command.channel.substr(0, 160) +
                                                          "' names no endpoint to receive on, and its tag no channel of this driver"));
  }
  struct Job {
    io::EndpointConfig config;
    std::optional<Result<std::unique_ptr<io::Endpoint>>> socket;
  };
  auto job = std::make_shared<Job>();
  job->config.bindAddress = udp.endpoint ? *udp.endpoint : udp.localBind;
  job->config.receiveBufferBytes = udp.socketReceiveBufferBytes > 0 ? udp.socketReceiveBufferBytes : config_.socketReceiveBufferLength;
  job->config.sendBufferBytes = udp.socketSendBufferBytes > 0 ? udp.socketSendBufferBytes : config_.socketSendBufferLength;
  job->config.ttl = udp.ttl;
  job->config.arrivalTimes = udp.timestamps.mediaReceive != net::TimestampOffsets::kNone;
  ResourceTask task;
  task.run = [job, io = receiverIo_, ports = config_.receiverPorts] { job->socket.emplace(openSocket(*io, job->config, ports)); };
  task.complete = [this, add, job, params] {
    laneBusy_ = false;
    const ClientCommand& asked = add->command;
    if (findSession(asked.clientId) == nullptr) return finishAdd(add);  // the socket closes with the job
    if (!*job->socket) {
      refuse(asked.correlationId, job->socket->error());
      return finishAdd(add);
    }
    auto entry = std::make_unique<ReceiveEndpointEntry>();
    ReceiveChannelEndpoint& endpoint = entry->endpoint;
    endpoint.channel = *add->udp;
    endpoint.socket = job->socket->take();
    entry->socketConfig = job->config;
    entry->socketConfig.bindAddress = endpoint.socket->localAddress();
    entry->receiveBufferBytes = endpoint.socket->receiveBufferBytes();
    entry->sendBufferBytes = endpoint.socket->sendBufferBytes();
    endpoint.receiverId = static_cast<int64_t>(random_.next());
    endpoint.hasGroupTag = add->udp->groupTag.has_value() || config_.hasReceiverGroupTag;
    endpoint.groupTag = add->udp->groupTag.value_or(config_.receiverGroupTag);
    CounterFactory& factory = parts_.counterFactory;
    endpoint.status = factory.channelStatus(counter_type::kReceiveChannelStatus, "rcv-channel", asked.channel, asked.correlationId, nowMs_);
    const int32_t statusId = endpoint.status.id;
    endpoint.localAddress =
        factory.localAddress("rcv-local-sockaddr", statusId, endpoint.socket->localAddress().toString(), asked.correlationId, nowMs_);
    if (endpoint.status.valid()) endpoint.status.set(cnc::kChannelStatusActive);
    if (endpoint.localAddress.valid()) endpoint.localAddress.set(cnc::kChannelStatusActive);
    ReceiveEndpointEntry& installed = *entry;
    receiveEndpoints_.push_back(std::move(entry));
    ReceiverCommand command2;
    command2.type = ReceiverCommand::Type::kAddEndpoint;
    command2.endpoint = &installed.endpoint;
    sendToReceiver(command2);
    installSubscription(add, installed, params);
    finishAdd(add);
  };
  parts_.resources.submit(std::move(task));
  return LaneStep::kTaskRunning;
}

void ConductorState::installSubscription(const std::shared_ptr<PendingAdd>& add, ReceiveEndpointEntry& entry,
                                         SubscriptionStreamParams params) {
  const ClientCommand& command = add->command;
  auto owned = std::make_unique<Subscription>();
  Subscription& subscription = *owned;
  subscription.registrationId = command.correlationId;
  subscription.clientId = command.clientId;
  subscription.streamId = command.streamId;
  subscription.kind = SubscriptionKind::kNetwork;
  subscription.channel = command.channel;
  subscription.udp = *add->udp;
  subscription.endpoint = &entry;
  subscription.params = std::move(params);
  subscriptions_.emplace(subscription.registrationId, std::move(owned));
  ++entry.endpoint.references;
  changeInterest(subscription, 1);
  responses_.subscriptionReady(subscription.registrationId, entry.endpoint.status.id);
  for (const auto& image : images_) {
    const ImageParams& of = image->image->params();
    if (image->endpoint != &entry || of.streamId != subscription.streamId || !subscription.matchesSession(of.sessionId)) continue;
    if (!image->told && image->image->state() == ImageState::kActive) {
      linkImage(*image, subscription);
    } else if (image->subscribers.empty()) {
      image->removeAtNs = nowNs_;  // left and wanted again: make room for its successor
    }
  }
}

void ConductorState::addLocalSubscription(std::unique_ptr<Subscription> owned) {
  Subscription& subscription = *owned;
  subscriptions_.emplace(subscription.registrationId, std::move(owned));
  responses_.subscriptionReady(subscription.registrationId, kNoChannelStatus);
  if (subscription.kind == SubscriptionKind::kIpc) {
    for (const auto& entry : ipcs_) linkIpc(*entry, subscription);
  } else {
    for (const auto& entry : networks_) {
      if (spies(subscription, *entry)) linkSpy(*entry, subscription);
    }
  }
}

// ---- links to local publications ----

std::optional<SubscriberPosition> ConductorState::makePosition(Subscription& subscription, int32_t sessionId, int64_t joinPosition,
                                                               const UntetheredTimeouts& fallback) {
  const StreamIdentity identity{subscription.registrationId, sessionId, subscription.streamId, subscription.channel};
  SubscriberPosition position;
  position.subscription = &subscription;
  position.counter =
      parts_.counterFactory.stream(counter_type::kSubscriberPosition, "sub-pos", identity, subscription.clientId, nowMs_, joinPosition);
  if (!position.counter.valid()) {
    recordError("no counter is left for a subscriber's position, subscription " + std::to_string(subscription.registrationId) +
                " misses a stream: enlarge the counters buffer of the driver");
    return std::nullopt;
  }
  position.counter.set(joinPosition);
  position.timeouts = subscription.params.untethered(fallback);
  position.lastUpdateNs = nowNs_;
  return position;
}

bool ConductorState::spies(const Subscription& subscription, const NetworkEntry& entry) const {
  if (subscription.kind != SubscriptionKind::kSpy || entry.state != StreamState::kActive) return false;
  const NetworkPublicationParams& params = entry.publication->params();
  if (subscription.streamId != params.streamId || !subscription.matchesSession(params.sessionId)) return false;
  const net::UdpChannel& channel = entry.endpoint->endpoint.channel;
  const bool sameTag = subscription.udp.tag && channel.tag && *subscription.udp.tag == *channel.tag;
  return sameTag || subscription.udp.canonicalForm == channel.canonicalForm;
}

void ConductorState::linkSpy(NetworkEntry& entry, Subscription& subscription) {
  if (isLinked(entry.spies, subscription)) return;
  NetworkPublication& publication = *entry.publication;
  auto position = makePosition(subscription, publication.params().sessionId, publication.senderPosition(), entry.stream.untethered);
  if (!position) return;
  entry.spies.push_back(*position);
  SenderCommand command;
  command.type = SenderCommand::Type::kAddSpy;
  command.publication = &publication;
  command.counter = position->counter;
  sendToSender(command);
  responses_.availableImage({publication.params().registrationId, publication.params().sessionId, publication.params().streamId,
                             subscription.registrationId, position->counter.id},
                            publication.logFileName(), kIpcSource);
}

void ConductorState::linkIpc(IpcEntry& entry, Subscription& subscription) {
  IpcPublication& publication = *entry.publication;
  const bool accepting = entry.state == StreamState::kActive || (entry.state == StreamState::kDraining && !entry.revoked &&
                                                                 publication.hasSubscribers() && !publication.isDrained());
  if (!accepting || entry.cooldownEndNs != 0 || subscription.streamId != publication.params().streamId ||
      !subscription.matchesSession(publication.params().sessionId) || isLinked(entry.subscribers, subscription)) {
    return;
  }
  auto position = makePosition(subscription, publication.params().sessionId, publication.joinPosition(), entry.stream.untethered);
  if (!position) return;
  entry.subscribers.push_back(*position);
  publication.addSubscriber(position->counter);
  responses_.availableImage({publication.params().registrationId, publication.params().sessionId, publication.params().streamId,
                             subscription.registrationId, position->counter.id},
                            publication.logFileName(), kIpcSource);
}

void ConductorState::tellUnavailable(int64_t imageId, const SubscriberPosition& position) {
  if (position.state != PositionState::kActive) return;  // it knows already
  const Subscription& subscription = *position.subscription;
  responses_.unavailableImage(imageId, subscription.registrationId, subscription.streamId, subscription.channel);
}

void ConductorState::unlinkSpies(NetworkEntry& entry) {
  for (SubscriberPosition& spy : entry.spies) {
    tellUnavailable(entry.publication->params().registrationId, spy);
    SenderCommand command;
    command.type = SenderCommand::Type::kRemoveSpy;
    command.publication = entry.publication.get();
    command.counter = spy.counter;
    sendToSender(command);
    parts_.counterFactory.release(spy.counter, nowMs_);
  }
  entry.spies.clear();
}

void ConductorState::unlinkIpc(IpcEntry& entry) {
  for (SubscriberPosition& position : entry.subscribers) {
    tellUnavailable(entry.publication->params().registrationId, position);
    entry.publication->removeSubscriber(position.counter);
    parts_.counterFactory.release(position.counter, nowMs_);
  }
  entry.subscribers.clear();
}

// ---- removing ----

void ConductorState::onRemoveSubscription(const ClientCommand& command) {
  const auto found = subscriptions_.find(command.registrationId);
  if (found == subscriptions_.end() || found->second->clientId != command.clientId) {
    return refuse(command.correlationId, makeError(ErrorCode::kUnknownSubscription,
                                                   "unknown subscription: registrationId=" + std::to_string(command.registrationId)));
  }
  removeSubscription(*found->second);
  responses_.operationSucceeded(command.correlationId);
}

void ConductorState::removeSubscription(Subscription& subscription) {
  switch (subscription.kind) {
    case SubscriptionKind::kNetwork:
      // The interest first, or the next datagram would ask for the image again.
      changeInterest(subscription, -1);
      for (const auto& image : images_) dropImageSubscriber(*image, subscription);
      releaseReceiveEndpoint(*subscription.endpoint);
      break;
    case SubscriptionKind::kIpc:
      for (const auto& entry : ipcs_) {
        std::erase_if(entry->subscribers, [&](SubscriberPosition& position) {
          if (position.subscription != &subscription) return false;
          entry->publication->removeSubscriber(position.counter);
          parts_.counterFactory.release(position.counter, nowMs_);
          return true;
        });
      }
      break;
    case SubscriptionKind::kSpy:
      for (const auto& entry : networks_) {
        std::erase_if(entry->spies, [&](SubscriberPosition& spy) {
          if (spy.subscription != &subscription) return false;
          SenderCommand command;
          command.type = SenderCommand::Type::kRemoveSpy;
          command.publication = entry->publication.get();
          command.counter = spy.counter;
          sendToSender(command);
          parts_.counterFactory.release(spy.counter, nowMs_);
          return true;
        });
      }
      break;
  }
  const int32_t streamId = subscription.streamId;
  ReceiveEndpointEntry* endpoint = subscription.endpoint;
  subscriptions_.erase(subscription.registrationId);
  if (hasPolicy() && endpoint != nullptr) updateSources(*endpoint, streamId);
}

// ---- untethered ----

namespace {

// What became of one untethered position: the caller tells clients and agents.
enum class UntetheredChange : uint8_t { kNone, kUnavailable, kDetached, kRejoin };

UntetheredChange advance(SubscriberPosition& position, int64_t limit, int64_t nowNs) {
  if (position.subscription->params.tether) return UntetheredChange::kNone;
  switch (position.state) {
    case PositionState::kActive:
      if (position.counter.get() > limit) {
        position.lastUpdateNs = nowNs;
      } else if (nowNs - position.lastUpdateNs >= position.timeouts.windowLimitNs) {
        return UntetheredChange::kUnavailable;
      }
      return UntetheredChange::kNone;
    case PositionState::kLinger:
      return nowNs - position.lastUpdateNs >= position.timeouts.lingerNs ? UntetheredChange::kDetached : UntetheredChange::kNone;
    case PositionState::kResting:
      return nowNs - position.lastUpdateNs >= position.timeouts.restingNs ? UntetheredChange::kRejoin : UntetheredChange::kNone;
    case PositionState::kClosed:
      break;
  }
  return UntetheredChange::kNone;
}

}  // namespace

void ConductorState::checkUntethered() {
  // How far behind counts as "at the limit": the last quarter of the window.
  const auto limitOf = [](int64_t lead, int64_t window) { return lead - window + window / 4; };
  const auto step = [&](SubscriberPosition& position, int64_t limit, int64_t imageId, auto detach, auto rejoin) {
    switch (advance(position, limit, nowNs_)) {
      case UntetheredChange::kNone:
        return;
      case UntetheredChange::kUnavailable:
        tellUnavailable(imageId, position);
        position.state = PositionState::kLinger;
        break;
      case UntetheredChange::kDetached:
        detach(position);
        position.state = position.subscription->params.rejoin ? PositionState::kResting : PositionState::kClosed;
        break;
      case UntetheredChange::kRejoin:
        rejoin(position);
        position.state = PositionState::kActive;
        break;
    }
    position.lastUpdateNs = nowNs_;
  };
  for (const auto& entry : ipcs_) {
    if (entry->state != StreamState::kActive) continue;
    IpcPublication& publication = *entry->publication;
    const auto& params = publication.params();
    for (SubscriberPosition& each : entry->subscribers) {
      step(
          each, limitOf(publication.consumerPosition(), params.windowLength), params.registrationId,
          [&](SubscriberPosition& position) { publication.removeSubscriber(position.counter); },
          [&](SubscriberPosition& position) {
            position.counter.set(publication.joinPosition());
            publication.addSubscriber(position.counter);
            responses_.availableImage(
                {params.registrationId, params.sessionId, params.streamId, position.subscription->registrationId, position.counter.id},
                publication.logFileName(), kIpcSource);
          });
    }
  }
  for (const auto& entry : networks_) {
    if (entry->state != StreamState::kActive) continue;
    NetworkPublication& publication = *entry->publication;
    const auto& params = publication.params();
    const auto command = [&](SenderCommand::Type type, const SubscriberPosition& position) {
      SenderCommand out;
      out.type = type;
      out.publication = &publication;
      out.counter = position.counter;
      sendToSender(out);
    };
    for (SubscriberPosition& each : entry->spies) {
      step(
          each, limitOf(publication.senderPosition(), params.windowLength), params.registrationId,
          [&](SubscriberPosition& position) { command(SenderCommand::Type::kRemoveSpy, position); },
          [&](SubscriberPosition& position) {
            position.counter.set(publication.senderPosition());
            command(SenderCommand::Type::kAddSpy, position);
            responses_.availableImage(
                {params.registrationId, params.sessionId, params.streamId, position.subscription->registrationId, position.counter.id},
                publication.logFileName(), kIpcSource);
          });
    }
  }
  for (const auto& entry : images_) {
    if (entry->told || entry->image->state() != ImageState::kActive) continue;
    PublicationImage& image = *entry->image;
    const ImageParams& params = image.params();
    // The fastest of the subscribers leads; a client can't claim to have read what has not arrived.
    int64_t lead = 0;
    for (const SubscriberPosition& each : entry->subscribers) {
      if (each.state == PositionState::kActive) lead = std::max(lead, std::min(each.counter.get(), image.rebuildPosition()));
    }
    const auto command = [&](ReceiverCommand::Type type, const SubscriberPosition& position) {
      ReceiverCommand out;
      out.type = type;
      out.image = &image;
      out.counter = position.counter;
      sendToReceiver(out);
    };
    for (SubscriberPosition& each : entry->subscribers) {
      step(
          each, limitOf(lead, params.windowLength), params.correlationId,
          [&](SubscriberPosition& position) { command(ReceiverCommand::Type::kRemoveSubscriber, position); },
          [&](SubscriberPosition& position) {
            position.counter.set(image.joinPosition());
            command(ReceiverCommand::Type::kAddSubscriber, position);
            responses_.availableImage(
                {params.correlationId, params.sessionId, params.streamId, position.subscription->registrationId, position.counter.id},
                image.logFileName(), entry->source);
          });
    }
  }
}

}  // namespace outrigger::driver
