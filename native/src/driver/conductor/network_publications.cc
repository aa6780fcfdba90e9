// SPDX-License-Identifier: Apache-2.0
// Publications over the network and the endpoints they share: made, linked to clients, drained, lingered, removed.
#include <algorithm>

#include "driver/conductor/socket_opening.h"
#include "driver/conductor/state.h"
#include "logbuffer/term_ops.h"
#include "net/ip_address.h"

namespace outrigger::driver {

using cnc::OutriggerCounter;
using cnc::SystemCounter;
namespace counter_type = cnc::counter_type;

// What the resource agent does for a publication: a socket unless there is one, a route, a log.
struct ConductorState::NetworkPublicationJob {
  io::DatagramIo* io = nullptr;
  io::EndpointConfig socketConfig;
  PortRange ports;
  std::optional<io::SockAddr> destination;  // unicast
  std::optional<io::SockAddr> known;        // the same of an endpoint that is there
  SendEndpointEntry* existing = nullptr;
  LogSpec spec;
  PublicationStreamParams stream;
  FileAllocator allocator;

  std::unique_ptr<io::Endpoint> socket;
  std::unique_ptr<io::NextHop> nextHop;
  CreatedLog log;
  Result<void> result;

  void run() {
    const io::Endpoint* used = existing != nullptr ? existing->endpoint.socket.get() : nullptr;
    if (used == nullptr) {
      auto opened = openSocket(*io, socketConfig, ports);
      if (!opened) {
        result = opened.error();
        return;
      }
      socket = opened.take();
      used = socket.get();
      if (destination) {
        auto resolved = io->resolve(*socket, *destination);
        if (!resolved) {
          result = resolved.error();
          return;
        }
        nextHop = resolved.take();
      }
    }
    if (auto fits = fitPath(*used); !fits) {
      result = fits.error();
      return;
    }
    if (used->sendBufferBytes() > 0 && used->sendBufferBytes() < spec.mtu) {
      result = makeError(ErrorCode::kInvalidChannel, "mtu=" + std::to_string(spec.mtu) + " is more than the socket's send buffer of " +
                                                         std::to_string(used->sendBufferBytes()) + " bytes: raise so-sndbuf");
      return;
    }
    spec.socketSendBuffer = used->sendBufferBytes();
    spec.socketReceiveBuffer = used->receiveBufferBytes();
    auto created = createLog(spec, allocator);
    if (!created) {
      result = created.error();
      return;
    }
    log = created.take();
  }

  // The MTU of the moment: it stands in the log from here on. One that the channel asks for is taken or refused, the default gives way.
  Result<void> fitPath(const io::Endpoint& used) {
    uint32_t longest = nextHop ? nextHop->longestDatagram() : 0;
    if (!nextHop && known) {
      // The endpoint's own next hop belongs to the sender.
      auto resolved = io->resolve(*existing->endpoint.socket, *known);
      if (resolved) longest = (*resolved)->longestDatagram();
    }
    if (longest == 0 || stream.mtu <= static_cast<int32_t>(longest)) return {};
    const auto fitting = static_cast<int32_t>(longest) & ~(wire::kFrameAlignment - 1);
    if (stream.mtuGiven || !logbuffer::isValidMtu(fitting)) {
      return makeError(ErrorCode::kInvalidChannel, "mtu=" + std::to_string(stream.mtu) + " is more than the path from " +
                                                       used.localAddress().toString() + " takes, " + std::to_string(longest) +
                                                       " bytes in a datagram: use mtu=" + std::to_string(fitting) +
                                                       " or less, or raise the MTU of the interface and of the route");
    }
    stream.mtu = fitting;
    spec.mtu = fitting;
    return {};
  }
};

// ---- session ids and logs, shared with IPC ----

int32_t ConductorState::nextSessionId() {
  if (nextSessionId_ >= config_.publicationReservedSessionIdLow && nextSessionId_ <= config_.publicationReservedSessionIdHigh) {
    nextSessionId_ = logbuffer::termAdd(config_.publicationReservedSessionIdHigh, 1);
  }
  const int32_t chosen = nextSessionId_;
  nextSessionId_ = logbuffer::termAdd(nextSessionId_, 1);
  return chosen;
}

bool ConductorState::isSessionTaken(int32_t sessionId, int32_t streamId, const SendEndpointEntry* endpoint, bool ipc) const {
  const auto uses = [&](const auto& params) { return params.sessionId == sessionId && params.streamId == streamId; };
  if (ipc) return std::any_of(ipcs_.begin(), ipcs_.end(), [&](const auto& entry) { return uses(entry->publication->params()); });
  return std::any_of(networks_.begin(), networks_.end(),
                     [&](const auto& entry) { return entry->endpoint == endpoint && uses(entry->publication->params()); });
}

Result<int32_t> ConductorState::chooseSessionId(const PublicationStreamParams& stream, int32_t streamId, const SendEndpointEntry* endpoint,
                                                bool ipc) {
  std::optional<int32_t> wanted = stream.sessionId;
  if (stream.sessionIdTag) {
    for (const auto& entry : networks_) {
      if (entry->stream.entityTag == *stream.sessionIdTag) wanted = entry->publication->params().sessionId;
    }
    for (const auto& entry : ipcs_) {
      if (entry->stream.entityTag == *stream.sessionIdTag) wanted = entry->publication->params().sessionId;
    }
    if (!wanted) {
      return makeError(ErrorCode::kInvalidChannel,
                       "session-id=tag:" + std::to_string(*stream.sessionIdTag) + " names no publication of this driver");
    }
  }
  if (wanted) {
    if (isSessionTaken(*wanted, streamId, endpoint, ipc)) {
      return makeError(ErrorCode::kGeneric, "existing publication has clashing session id: sessionId=" + std::to_string(*wanted) +
                                                " streamId=" + std::to_string(streamId));
    }
    return *wanted;
  }
  int32_t chosen = nextSessionId();
  while (isSessionTaken(chosen, streamId, endpoint, ipc)) chosen = nextSessionId();
  return chosen;
}

void ConductorState::fillPosition(PublicationStreamParams& stream) {
  if (stream.hasPosition) return;
  stream.initialTermId = static_cast<int32_t>(random_.next());
  stream.termId = stream.initialTermId;
  stream.termOffset = 0;
}

LogSpec ConductorState::logSpecOf(const PublicationStreamParams& stream, const ClientCommand& command, int32_t sessionId) const {
  LogSpec spec;
  spec.path = config_.directory + "/" + cnc::kPublicationsDirName + "/" + std::to_string(command.correlationId) + ".logbuffer";
  spec.registrationId = command.correlationId;
  spec.sessionId = sessionId;
  spec.streamId = command.streamId;
  spec.initialTermId = stream.initialTermId;
  spec.startTermId = stream.termId;
  spec.startTermOffset = stream.termOffset;
  spec.termLength = stream.termLength;
  spec.mtu = stream.mtu;
  spec.pageSize = config_.filePageSize;
  spec.publicationWindow = stream.windowLength;
  spec.maxResend = stream.maxResend;
  spec.entityTag = stream.entityTag;
  spec.lingerNs = stream.lingerNs;
  spec.untetheredWindowLimitNs = stream.untethered.windowLimitNs;
  spec.untetheredLingerNs = stream.untethered.lingerNs;
  spec.untetheredRestingNs = stream.untethered.restingNs;
  spec.sparse = stream.sparse;
  spec.signalEos = stream.signalEos;
  spec.spiesSimulateConnection = stream.spiesSimulateConnection;
  spec.type = command.type == cnc::Command::kAddExclusivePublication ? logbuffer::LogType::kExclusivePublication
                                                                     : logbuffer::LogType::kConcurrentPublication;
  spec.mode = config_.fileMode;
  return spec;
}

// ---- endpoints ----

SendEndpointEntry* ConductorState::findSendEndpoint(const net::UdpChannel& channel) {
  for (const auto& entry : sendEndpoints_) {
    const net::UdpChannel& known = entry->endpoint.channel;
    const bool sameTag = channel.tag && known.tag && *channel.tag == *known.tag;
    if (sameTag || known.canonicalForm == channel.canonicalForm) return entry.get();
  }
  return nullptr;
}

SendEndpointEntry* ConductorState::entryOf(const SendChannelEndpoint* endpoint) {
  for (const auto& entry : sendEndpoints_) {
    if (&entry->endpoint == endpoint) return entry.get();
  }
  return nullptr;
}

SendEndpointEntry* ConductorState::installSendEndpoint(std::unique_ptr<SendEndpointEntry> entry, std::unique_ptr<io::Endpoint> socket,
                                                       const std::string& channel, int64_t registrationId) {
  SendChannelEndpoint& endpoint = entry->endpoint;
  endpoint.socket = std::move(socket);
  CounterFactory& factory = parts_.counterFactory;
  endpoint.status = factory.channelStatus(counter_type::kSendChannelStatus, "snd-channel", channel, registrationId, nowMs_);
  const int32_t statusId = endpoint.status.id;
  endpoint.localAddress =
      factory.localAddress("snd-local-sockaddr", statusId, endpoint.socket->localAddress().toString(), registrationId, nowMs_);
  if (endpoint.isMdc()) {
    endpoint.destinationCount = factory.channelStatus(counter_type::kMdcDestinations, "mdc-num-dest", channel, registrationId, nowMs_);
  }
  if (endpoint.status.valid()) endpoint.status.set(cnc::kChannelStatusActive);
  if (endpoint.localAddress.valid()) endpoint.localAddress.set(cnc::kChannelStatusActive);
  SendEndpointEntry* raw = entry.get();
  sendEndpoints_.push_back(std::move(entry));
  SenderCommand command;
  command.type = SenderCommand::Type::kAddEndpoint;
  command.endpoint = &raw->endpoint;
  sendToSender(command);
  return raw;
}

void ConductorState::releaseSendEndpoint(SendEndpointEntry& entry) {
  if (--entry.endpoint.references > 0 || entry.removing) return;
  entry.removing = true;
  if (entry.endpoint.status.valid()) entry.endpoint.status.set(cnc::kChannelStatusClosing);
  SenderCommand command;
  command.type = SenderCommand::Type::kRemoveEndpoint;
  command.endpoint = &entry.endpoint;
  sendToSender(command);
}

void ConductorState::destroySendEndpoint(SendEndpointEntry& entry) {
  if (!entry.released || entry.pendingTasks > 0) return;
  CounterFactory& factory = parts_.counterFactory;
  for (const auto& destination : entry.endpoint.ownedDestinations) releaseDestination(*destination);
  factory.release(entry.endpoint.destinationCount, nowMs_);
  factory.release(entry.endpoint.localAddress, nowMs_);
  factory.release(entry.endpoint.status, nowMs_);
  std::erase_if(sendEndpoints_, [&](const auto& each) { return each.get() == &entry; });
}

// ---- adding ----

ConductorState::LaneStep ConductorState::addNetworkPublication(const std::shared_ptr<PendingAdd>& add, ClientSession& session) {
  const ClientCommand& command = add->command;
  const net::UdpChannel& udp = *add->udp;
  const bool exclusive = command.type == cnc::Command::kAddExclusivePublication;
  const auto fail = [&](const Error& error) {
    refuse(command.correlationId, error);
    return LaneStep::kFinished;
  };
  auto parsed = parsePublicationParams(udp.uri, command.streamId, config_);
  if (!parsed) return fail(parsed.error());
  PublicationStreamParams stream = parsed.take();
  if (udp.entityTag) stream.entityTag = *udp.entityTag;
  SendEndpointEntry* existing = findSendEndpoint(udp);
  if (existing != nullptr && existing->removing) return LaneStep::kWait;  // its port is free in a moment
  if (existing == nullptr && udp.tag && !udp.endpoint && !udp.control && udp.controlMode != net::ControlMode::kManual) {
    return fail(makeError(ErrorCode::kInvalidChannel, "channel '" + command.channel.substr(0, 160) + "': tag " + std::to_string(*udp.tag) +
                                                          " names no channel of this driver, and there is no "
                                                          "endpoint or control to make one"));
  }
  if (existing != nullptr && existing->endpoint.channel.timestamps.channelSend != udp.timestamps.channelSend) {
    return fail(timestampClash("publication", "channel-snd-ts-offset", udp, existing->endpoint.channel));
  }
  if (existing != nullptr && !exclusive) {
    for (const auto& entry : networks_) {
      if (entry->endpoint != existing || entry->state != StreamState::kActive || entry->publication->params().exclusive ||
          entry->publication->params().streamId != command.streamId) {
        continue;
      }
      if (auto same = confirmSameStream(udp.uri, stream, entry->stream, entry->publication->params().sessionId); !same) {
        return fail(same.error());
      }
      linkPublication(session, command.correlationId, *entry);
      return LaneStep::kFinished;
    }
  }
  auto sessionId = chooseSessionId(stream, command.streamId, existing, false);
  if (!sessionId) return fail(sessionId.error());
  fillPosition(stream);

  auto job = std::make_shared<NetworkPublicationJob>();
  job->io = senderIo_;
  job->existing = existing;
  job->stream = stream;
  job->allocator = parts_.allocator;
  job->spec = logSpecOf(stream, command, *sessionId);
  job->spec.group = udp.isMdcSender();
  if (existing != nullptr) {
    ++existing->endpoint.references;
    if (!udp.isMdcSender()) job->known = existing->current;
  } else {
    const bool hasControl = udp.control && udp.isMdcSender();
    job->socketConfig.bindAddress = hasControl ? *udp.control : udp.localBind;
    // Nobody needs to know the port of a publication without a control address.
    if (hasControl) job->ports = config_.senderPorts;
    job->socketConfig.receiveBufferBytes =
        udp.socketReceiveBufferBytes > 0 ? udp.socketReceiveBufferBytes : config_.socketReceiveBufferLength;
    job->socketConfig.sendBufferBytes = udp.socketSendBufferBytes > 0 ? udp.socketSendBufferBytes : config_.socketSendBufferLength;
    job->socketConfig.ttl = udp.ttl;
    if (!udp.isMdcSender()) {
      job->destination = udp.endpoint;
      if (udp.endpoint && !net::IpAddress::of(*udp.endpoint).isMulticast()) job->socketConfig.peer = *udp.endpoint;
    }
  }
  ResourceTask task;
  task.run = [job] { job->run(); };
  task.complete = [this, add, job] {
    laneBusy_ = false;
    installNetworkPublication(add, *job);
    finishAdd(add);
  };
  parts_.resources.submit(std::move(task));
  return LaneStep::kTaskRunning;
}

void ConductorState::installNetworkPublication(const std::shared_ptr<PendingAdd>& add, NetworkPublicationJob& job) {
  const ClientCommand& command = add->command;
  ClientSession* session = findSession(command.clientId);
  const bool made = job.result.ok();
  if (!made || session == nullptr) {
    if (job.existing != nullptr) releaseSendEndpoint(*job.existing);
    if (made) {
      const uint64_t length = job.log.file.length();
      parts_.counters.add(SystemCounter::kBytesCurrentlyMapped, static_cast<int64_t>(length));
      retireLog(std::make_shared<MappedFile>(std::move(job.log.file)), job.spec.path, length);
    } else if (session != nullptr) {
      if (job.result.error().code == ErrorCode::kStorageSpace) parts_.counters.add(OutriggerCounter::kStorageWaits, 1);
      refuse(command.correlationId, job.result.error());
    }
    return;
  }
  SendEndpointEntry* endpoint = job.existing;
  if (endpoint == nullptr) {
    auto entry = std::make_unique<SendEndpointEntry>();
    entry->endpoint.channel = *add->udp;
    entry->socketConfig = job.socketConfig;
    entry->socketConfig.bindAddress = job.socket->localAddress();
    entry->endpoint.nextHop = std::move(job.nextHop);
    if (job.destination) {
      entry->current = *job.destination;
      entry->named = isNamed(add->udp->uri);
    }
    endpoint = installSendEndpoint(std::move(entry), std::move(job.socket), command.channel, command.correlationId);
    ++endpoint->endpoint.references;
  }
  const PublicationStreamParams& stream = job.stream;
  NetworkPublicationParams params;
  params.registrationId = command.correlationId;
  params.sessionId = job.spec.sessionId;
  params.streamId = command.streamId;
  params.initialTermId = stream.initialTermId;
  params.startTermId = stream.termId;
  params.startTermOffset = stream.termOffset;
  params.termLength = stream.termLength;
  params.mtu = stream.mtu;
  params.ttl = endpoint->endpoint.channel.ttl;
  params.windowLength = stream.windowLength;
  params.exclusive = command.type == cnc::Command::kAddExclusivePublication;
  params.signalEos = stream.signalEos;
  params.spiesSimulateConnection = stream.spiesSimulateConnection;
  params.groupSemantics = endpoint->endpoint.isMdc();
  params.lingerNs = stream.lingerNs;
  params.maxResend = stream.maxResend;
  params.backedPosition = job.log.backedPosition;

  std::unique_ptr<FlowControl> flowControl = makeFlowControl(endpoint->endpoint.channel, config_, stream.termLength);
  const StreamIdentity identity{params.registrationId, params.sessionId, params.streamId, command.channel};
  CounterFactory& factory = parts_.counterFactory;
  const auto make = [&](int32_t type, const char* name) { return factory.stream(type, name, identity, command.clientId, nowMs_); };
  PublicationCounters counters;
  counters.publisherPosition = make(counter_type::kPublisherPosition, params.exclusive ? "pub-pos (exclusive)" : "pub-pos (concurrent)");
  counters.publisherLimit = make(counter_type::kPublisherLimit, "pub-lmt");
  counters.senderPosition = make(counter_type::kSenderPosition, "snd-pos");
  counters.senderLimit = make(counter_type::kSenderLimit, "snd-lmt");
  counters.senderBackPressure = make(counter_type::kSenderBackPressure, "snd-bpe");
  counters.naksReceived = make(counter_type::kSenderNaksReceived, "snd-naks-received");
  const bool countsReceivers = flowControl->receiverCount() >= 0;
  if (countsReceivers) counters.flowControlReceivers = make(counter_type::kFlowControlReceivers, "fc-receivers");
  const uint64_t logLength = job.log.file.length();
  parts_.counters.add(SystemCounter::kBytesCurrentlyMapped, static_cast<int64_t>(logLength));
  if (!counters.publisherPosition.valid() || !counters.publisherLimit.valid() || !counters.senderPosition.valid() ||
      !counters.senderLimit.valid() || !counters.senderBackPressure.valid() || !counters.naksReceived.valid() ||
      (countsReceivers && !counters.flowControlReceivers.valid())) {
    for (cnc::Counter* counter : {&counters.publisherPosition, &counters.publisherLimit, &counters.senderPosition, &counters.senderLimit,
                                  &counters.senderBackPressure, &counters.naksReceived, &counters.flowControlReceivers}) {
      factory.release(*counter, nowMs_);
    }
    retireLog(std::make_shared<MappedFile>(std::move(job.log.file)), job.spec.path, logLength);
    releaseSendEndpoint(*endpoint);
    return refuse(command.correlationId, makeError(ErrorCode::kResourceTemporarilyUnavailable,
                                                   "no counters are left for publication '" + command.channel.substr(0, 160) +
                                                       "': enlarge the counters buffer of the driver"));
  }

  auto entry = std::make_unique<NetworkEntry>();
  entry->endpoint = endpoint;
  entry->stream = stream;
  entry->channel = command.channel;
  entry->logLength = logLength;
  entry->backing = LogBacking::of(job.log.file.fd(), stream.termLength, job.log.backedPosition);
  entry->publication = std::make_unique<NetworkPublication>(params, &endpoint->endpoint, std::move(job.log.file), job.spec.path, counters,
                                                            std::move(flowControl), config_, parts_.counters);
  NetworkEntry& installed = *entry;
  networks_.push_back(std::move(entry));
  SenderCommand addPublication;
  addPublication.type = SenderCommand::Type::kAddPublication;
  addPublication.publication = installed.publication.get();
  sendToSender(addPublication);
  linkPublication(*session, command.correlationId, installed);
  for (const auto& [id, subscription] : subscriptions_) {
    if (spies(*subscription, installed)) linkSpy(installed, *subscription);
  }
}

void ConductorState::linkPublication(ClientSession& session, int64_t correlationId, NetworkEntry& entry) {
  ++entry.references;
  session.publications.push_back({correlationId, &entry, nullptr});
  const NetworkPublicationParams& params = entry.publication->params();
  PublicationReadyFields ready;
  ready.correlationId = correlationId;
  ready.registrationId = params.registrationId;
  ready.sessionId = params.sessionId;
  ready.streamId = params.streamId;
  ready.positionLimitCounterId = entry.publication->counters().publisherLimit.id;
  ready.channelStatusCounterId = entry.endpoint->endpoint.status.id;
  ready.exclusive = params.exclusive;
  responses_.publicationReady(ready, entry.publication->logFileName());
}

// ---- removing ----

void ConductorState::onRemovePublication(const ClientCommand& command, ClientSession& session) {
  const auto found = std::find_if(session.publications.begin(), session.publications.end(),
                                  [&](const PublicationLink& link) { return link.registrationId == command.registrationId; });
  if (found == session.publications.end()) {
    return refuse(command.correlationId, makeError(ErrorCode::kUnknownPublication,
                                                   "unknown publication: registrationId=" + std::to_string(command.registrationId)));
  }
  const PublicationLink link = *found;
  session.publications.erase(found);
  unlinkPublication(link, command.revoke);
  responses_.operationSucceeded(command.correlationId);
}

void ConductorState::unlinkPublication(const PublicationLink& link, bool revoke) {
  nextTransitionNs_ = nowNs_;
  if (link.ipc != nullptr) {
    IpcEntry& entry = *link.ipc;
    --entry.references;
    if (entry.state != StreamState::kActive || (entry.references > 0 && !revoke)) return;
    entry.state = StreamState::kDraining;
    entry.revoked = revoke;
    entry.publication->signalEndOfStream(revoke);
    if (revoke) parts_.counters.add(SystemCounter::kPublicationsRevoked, 1);
    return;
  }
  NetworkEntry& entry = *link.network;
  --entry.references;
  if (entry.state != StreamState::kActive || (entry.references > 0 && !revoke)) return;
  entry.state = StreamState::kDraining;
  entry.revoked = revoke;
  entry.publication->signalEndOfStream(revoke);
  if (revoke) parts_.counters.add(SystemCounter::kPublicationsRevoked, 1);
}

bool ConductorState::stepNetworkPublication(NetworkEntry& entry) {
  NetworkPublication& publication = *entry.publication;
  switch (entry.state) {
    case StreamState::kActive:
      return false;
    case StreamState::kDraining: {
      const int64_t producer = publication.producerPosition();
      const int64_t sent = publication.senderPosition();
      if (!entry.revoked && producer > sent) {
        if (logbuffer::unblockLog(publication.log(), sent, publication.params().initialTermId)) {
          parts_.counters.add(SystemCounter::kUnblockedPublications, 1);
          publication.signalEndOfStream(false);  // the end may have moved with a rotation
          return false;
        }
        if (publication.isConnected()) return false;
      }
      const auto behind = [&](const SubscriberPosition& spy) {
        return spy.state == PositionState::kActive && spy.counter.get() < producer;
      };
      if (!entry.revoked && std::any_of(entry.spies.begin(), entry.spies.end(), behind)) return false;
      unlinkSpies(entry);
      entry.state = StreamState::kLinger;
      entry.lingerEndNs = nowNs_ + entry.stream.lingerNs;
      return false;
    }
    case StreamState::kLinger: {
      const bool unicastDone = !entry.endpoint->endpoint.isMdc() && publication.receiverSaidEos();
      if (entry.references > 0 || (!unicastDone && nowNs_ < entry.lingerEndNs)) return false;
      entry.state = StreamState::kRemoving;
      SenderCommand command;
      command.type = SenderCommand::Type::kRemovePublication;
      command.publication = &publication;
      sendToSender(command);
      return false;
    }
    case StreamState::kRemoving:
      return false;
    case StreamState::kReleased:
      break;
  }
  if (entry.backing.busy) return false;
  PublicationCounters& counters = publication.counters();
  for (cnc::Counter* counter : {&counters.publisherPosition, &counters.publisherLimit, &counters.senderPosition, &counters.senderLimit,
                                &counters.senderBackPressure, &counters.naksReceived, &counters.flowControlReceivers}) {
    parts_.counterFactory.release(*counter, nowMs_);
  }
  const std::string path = publication.logFileName();
  retireLog(std::shared_ptr<NetworkPublication>(std::move(entry.publication)), path, entry.logLength);
  releaseSendEndpoint(*entry.endpoint);
  return true;
}

NetworkEntry* ConductorState::findNetwork(const NetworkPublication* publication) {
  for (const auto& entry : networks_) {
    if (entry->publication.get() == publication) return entry.get();
  }
  return nullptr;
}

void ConductorState::onPublicationReleased(NetworkPublication* publication) {
  if (NetworkEntry* entry = findNetwork(publication)) {
    entry->state = StreamState::kReleased;
    nextTransitionNs_ = nowNs_;
  }
}

void ConductorState::onPublicationError(const AgentEvent& event) {
  const NetworkEntry* entry = findNetwork(event.publication);
  if (entry == nullptr) return;
  const NetworkPublicationParams& params = entry->publication->params();
  PublicationErrorFields fields;
  fields.registrationId = params.registrationId;
  for (const auto& named : entry->endpoint->manualDestinations) {
    if (named.destination->address == event.address) fields.destinationRegistrationId = named.registrationId;
  }
  fields.sessionId = params.sessionId;
  fields.streamId = params.streamId;
  fields.receiverId = event.receiverId;
  fields.groupTag = event.groupTag;
  fields.source = event.address;
  fields.errorCode = event.errorCode;
  responses_.publicationError(fields, event.text);
}

}  // namespace outrigger::driver
