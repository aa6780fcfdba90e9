// SPDX-License-Identifier: Apache-2.0
// The sender's duty cycle: commands, publications round-robin, control frames, destinations that went silent.
#include "driver/sender.h"

#include <algorithm>
#include <utility>

#include "driver/backend_switch.h"
#include "driver/endpoints.h"
#include "driver/intervals.h"
#include "driver/network_publication.h"
#include "wire/frames.h"

namespace outrigger::driver {

using cnc::OutriggerCounter;
using cnc::SystemCounter;

namespace {

constexpr size_t kScratchItems = 512;
// Control is polled when nothing was sent, and at the latest after this many sending cycles (Aeron's send_to_status_poll_ratio).
constexpr int32_t kSendToPollRatio = 6;
constexpr int64_t kDestinationTimeoutNs = 5 * kSecondNs;
constexpr int64_t kDestinationCheckIntervalNs = 500 * kMilliNs;
// Dynamic destinations appear on a stranger's word and each gets every byte of the stream.
constexpr size_t kMaxDynamicDestinations = 256;
constexpr size_t kMaxUnresolved = 64;
// How long a backend is kept that still reads what it sent. Longer than the kernel keeps datagrams for a neighbour that does not answer; adds wait.
constexpr int64_t kMaxLeavingNs = 5 * kSecondNs;
constexpr int64_t kLeavingCheckNs = kMilliNs;

}  // namespace

struct Sender::State {
  class Sink final : public TrainSink {
   public:
    Sink(State& state, SenderContext& context, SendChannelEndpoint& endpoint) : state_(state), context_(context), endpoint_(endpoint) {}
    void onTrain(const io::RxPacket& train, int64_t nowNs) override {
      const uint32_t segment = train.segmentLength == 0 ? train.length : train.segmentLength;
      for (uint32_t offset = 0; offset < train.length; offset += segment) {
        state_.onPacket(context_, endpoint_, train.data + offset, std::min(segment, train.length - offset), *train.source, nowNs);
      }
    }
    SendChannelEndpoint& endpoint() const { return endpoint_; }

   private:
    State& state_;
    SenderContext& context_;
    SendChannelEndpoint& endpoint_;
  };

  std::vector<std::unique_ptr<Sink>> endpoints;
  std::vector<NetworkPublication*> publications;
  size_t roundRobin = 0;
  int32_t cyclesSincePoll = 0;
  int64_t lastPollNs = 0;
  int64_t lastDestinationCheckNs = 0;
  int64_t lastShortSends = 0;
  io::RxBurst burst;
  std::vector<io::SockAddr> unresolved;    // dynamic destinations asked for, not yet added
  std::optional<io::IoTotals> lastTotals;  // of the instance before a switch
  std::optional<io::IoTotals> lateTotals;  // of the same when it was let go of
  int64_t leavingSinceNs = 0;
  std::vector<AgentEvent> unanswered;  // releases that found the ring to the conductor full

  State() { unresolved.reserve(kMaxUnresolved); }

  void onCommand(SenderContext& context, const SenderCommand& command, int64_t nowNs);
  void onSwitch(SenderContext& context, SenderSwitch& change, int64_t nowNs);
  void endSwitch(SenderContext& context, int64_t nowNs);
  void onPacket(SenderContext& context, SendChannelEndpoint& endpoint, const uint8_t* packet, size_t length, const io::SockAddr& source,
                int64_t nowNs);
  void onStatusMessage(SenderContext& context, SendChannelEndpoint& endpoint, const uint8_t* packet, size_t length,
                       const io::SockAddr& source, int64_t nowNs);
  int32_t poll(SenderContext& context, int64_t nowNs);
  void checkDestinations(SenderContext& context, int64_t nowNs);
};

namespace {

// A release must arrive, or the conductor keeps the object for ever: one that finds the ring full waits.
void answer(SenderContext& context, std::vector<AgentEvent>& unanswered, const AgentEvent& event) {
  if (unanswered.empty() && context.events.offer(event)) return;
  context.counters.add(SystemCounter::kConductorProxyFails, 1);
  unanswered.push_back(event);
}

void destinationsChanged(SendChannelEndpoint& endpoint) {
  if (endpoint.destinationCount.valid()) endpoint.destinationCount.set(static_cast<int64_t>(endpoint.destinations.size()));
  for (NetworkPublication* publication : endpoint.publications) publication->onDestinationsChanged();
}

NetworkPublication* find(SendChannelEndpoint& endpoint, int32_t sessionId, int32_t streamId) {
  for (NetworkPublication* publication : endpoint.publications) {
    if (publication->params().sessionId == sessionId && publication->params().streamId == streamId) return publication;
  }
  return nullptr;
}

}  // namespace

Sender::Sender(io::DatagramIo& io, const DriverConfig& config, const DriverCounters& counters, SpscRing<SenderCommand>& commands,
               SpscRing<AgentEvent>& events, const cnc::Doorbells& doorbells, Clock& clock)
    : context_{&io,
               nullptr,
               config,
               counters,
               events,
               doorbells,
               clock,
               Random(config.randomSeed ^ 0x5E4DE2),
               std::vector<io::TxItem>(kScratchItems)},
      commands_(commands),
      state_(std::make_unique<State>()) {}

Sender::~Sender() = default;

bool Sender::hasLastTotals() const { return state_->lastTotals.has_value(); }

std::optional<io::IoTotals> Sender::takeLastTotals() { return std::exchange(state_->lastTotals, std::nullopt); }

bool Sender::hasLateTotals() const { return state_->lateTotals.has_value(); }

std::optional<io::IoTotals> Sender::takeLateTotals() { return std::exchange(state_->lateTotals, std::nullopt); }

void Sender::State::onCommand(SenderContext& context, const SenderCommand& command, int64_t nowNs) {
  AgentEvent event;
  switch (command.type) {
    case SenderCommand::Type::kAddEndpoint:
      endpoints.push_back(std::make_unique<Sink>(*this, context, *command.endpoint));
      command.endpoint->socket->user = static_cast<TrainSink*>(endpoints.back().get());
      context.io->attach(*command.endpoint->socket);
      break;
    case SenderCommand::Type::kRemoveEndpoint:
      context.io->detach(*command.endpoint->socket);
      command.endpoint->socket->user = nullptr;
      std::erase_if(endpoints, [&](const auto& each) { return &each->endpoint() == command.endpoint; });
      event.type = AgentEvent::Type::kEndpointReleased;
      event.sendEndpoint = command.endpoint;
      answer(context, unanswered, event);
      break;
    case SenderCommand::Type::kAddPublication:
      publications.push_back(command.publication);
      command.publication->endpoint()->publications.push_back(command.publication);
      break;
    case SenderCommand::Type::kRemovePublication:
      std::erase(publications, command.publication);
      std::erase(command.publication->endpoint()->publications, command.publication);
      event.type = AgentEvent::Type::kPublicationReleased;
      event.publication = command.publication;
      answer(context, unanswered, event);
      break;
    case SenderCommand::Type::kAddDestination: {
      auto& destinations = command.endpoint->destinations;
      std::erase(unresolved, command.destination->address);
      const bool known = std::any_of(destinations.begin(), destinations.end(), [&](const MdcDestination* d) {
        return d->address == command.destination->address && !d->manual && !command.destination->manual;
      });
      if (known) {
        // Asked for twice: the conductor takes the second one back.
        event.type = AgentEvent::Type::kDestinationExpired;
        event.sendEndpoint = command.endpoint;
        event.destination = command.destination;
        answer(context, unanswered, event);
        break;
      }
      destinations.push_back(command.destination);
      destinationsChanged(*command.endpoint);
      for (NetworkPublication* publication : command.endpoint->publications) publication->elicitSetup();
      break;
    }
    case SenderCommand::Type::kRemoveDestination:
      std::erase(command.endpoint->destinations, command.destination);
      destinationsChanged(*command.endpoint);
      event.type = AgentEvent::Type::kDestinationReleased;
      event.sendEndpoint = command.endpoint;
      event.destination = command.destination;
      answer(context, unanswered, event);
      break;
    case SenderCommand::Type::kReplaceNextHop:
      // The name of the receiver stands for another address now.
      std::swap(command.endpoint->nextHop, command.destination->nextHop);
      for (NetworkPublication* publication : command.endpoint->publications) {
        publication->onDestinationsChanged();
        publication->elicitSetup();
      }
      event.type = AgentEvent::Type::kDestinationReleased;
      event.sendEndpoint = command.endpoint;
      event.destination = command.destination;
      answer(context, unanswered, event);
      break;
    case SenderCommand::Type::kAddSpy:
      command.publication->addSpy(command.counter);
      break;
    case SenderCommand::Type::kRemoveSpy:
      command.publication->removeSpy(command.counter);
      break;
    case SenderCommand::Type::kTermBacked:
      command.publication->onTermBacked(command.value);
      break;
    case SenderCommand::Type::kSwitchBackend:
      onSwitch(context, *command.change, nowNs);
      endSwitch(context, nowNs);
      break;
    case SenderCommand::Type::kEndSwitch:
      if (context.leaving == nullptr) break;  // answered already
      leavingSinceNs = nowNs - kMaxLeavingNs;
      endSwitch(context, nowNs);
      break;
  }
}

void Sender::State::onSwitch(SenderContext& context, SenderSwitch& change, int64_t nowNs) {
  for (int32_t i = 0; i < kDrainPolls && poll(context, nowNs) > 0; ++i) continue;
  for (SendEndpointMove& move : change.moves) {
    SendChannelEndpoint& endpoint = *move.endpoint;
    exchangeSockets(*context.io, *change.to, endpoint.socket, move.socket);
    if (move.nextHop != nullptr) std::swap(endpoint.nextHop, move.nextHop);
    for (auto& [destination, nextHop] : move.destinations) std::swap(destination->nextHop, nextHop);
    // A train that was partly sent goes on where the old path stood; the new one starts it anew, and receivers drop what they have.
    for (NetworkPublication* publication : endpoint.publications) publication->onDestinationsChanged();
  }
  if (change.to == context.io) return;
  lastTotals = context.io->totals();
  context.leaving = std::exchange(context.io, change.to);
  leavingSinceNs = nowNs;
}

// The conductor closes the old instance when it is told: not before the network has read what that one sent.
void Sender::State::endSwitch(SenderContext& context, int64_t nowNs) {
  if (context.leaving != nullptr && nowNs - leavingSinceNs < kMaxLeavingNs && context.leaving->stillReads(nullptr, SIZE_MAX)) return;
  if (context.leaving != nullptr) lateTotals = context.leaving->totals();
  context.leaving = nullptr;
  AgentEvent event;
  event.type = AgentEvent::Type::kBackendSwitched;
  answer(context, unanswered, event);
}

void Sender::State::onStatusMessage(SenderContext& context, SendChannelEndpoint& endpoint, const uint8_t* packet, size_t length,
                                    const io::SockAddr& source, int64_t nowNs) {
  const auto sm = wire::load<wire::StatusMessageFrame>(packet);
  if (endpoint.isMdc()) {
    MdcDestination* known = nullptr;
    for (MdcDestination* destination : endpoint.destinations) {
      if (destination->address == source) {
        known = destination;
        break;
      }
    }
    if (known != nullptr) {
      known->receiverId = sm.receiverId;
      known->receiverIdKnown = true;
      known->lastActivityNs = nowNs;
      if (known->heard.valid()) known->heard.set(nowNs);
    } else if (endpoint.channel.controlMode != net::ControlMode::kManual &&
               std::find(unresolved.begin(), unresolved.end(), source) == unresolved.end()) {
      if (unresolved.size() >= kMaxUnresolved || endpoint.destinations.size() >= kMaxDynamicDestinations) {
        context.counters.add(OutriggerCounter::kUnknownStreamDrops, 1);
        return;
      }
      AgentEvent event;
      event.type = AgentEvent::Type::kResolveDestination;
      event.sendEndpoint = &endpoint;
      event.address = source;
      event.receiverId = sm.receiverId;
      if (context.events.offer(event)) unresolved.push_back(source);
    }
  }
  if (NetworkPublication* publication = find(endpoint, sm.sessionId, sm.streamId)) {
    publication->onStatusMessage(context, packet, length, source, nowNs);
  } else if ((sm.header.flags & wire::kSmFlagSendSetup) != 0 && sm.sessionId == 0 && sm.streamId == 0) {
    // A multi-destination receiver introduces itself without knowing any session.
    for (NetworkPublication* each : endpoint.publications) each->elicitSetup();
  } else {
    context.counters.add(OutriggerCounter::kUnknownStreamDrops, 1);
  }
}

void Sender::State::onPacket(SenderContext& context, SendChannelEndpoint& endpoint, const uint8_t* packet, size_t length,
                             const io::SockAddr& source, int64_t nowNs) {
  switch (wire::classify(packet, length)) {
    case wire::PacketKind::kStatusMessage:
      onStatusMessage(context, endpoint, packet, length, source, nowNs);
      break;
    case wire::PacketKind::kNak: {
      const auto nak = wire::load<wire::NakFrame>(packet);
      if (NetworkPublication* publication = find(endpoint, nak.sessionId, nak.streamId)) {
        publication->onNak(context, nak, nowNs);
      } else {
        context.counters.add(OutriggerCounter::kUnknownStreamDrops, 1);
      }
      break;
    }
    case wire::PacketKind::kRttMeasurement: {
      const auto rttm = wire::load<wire::RttMeasurementFrame>(packet);
      if (NetworkPublication* publication = find(endpoint, rttm.sessionId, rttm.streamId)) {
        publication->onRttMeasurement(context, rttm, source, nowNs);
      } else {
        context.counters.add(OutriggerCounter::kUnknownStreamDrops, 1);
      }
      break;
    }
    case wire::PacketKind::kError: {
      const auto error = wire::load<wire::ErrorFrame>(packet);
      if (NetworkPublication* publication = find(endpoint, error.sessionId, error.streamId)) {
        publication->onError(context, packet, length, source, nowNs);
      } else {
        context.counters.add(OutriggerCounter::kUnknownStreamDrops, 1);
      }
      break;
    }
    case wire::PacketKind::kInvalid:
      context.counters.add(SystemCounter::kInvalidPackets, 1);
      break;
    case wire::PacketKind::kData:
    case wire::PacketKind::kSetup:
    case wire::PacketKind::kResolution:
    case wire::PacketKind::kResponseSetup:
    case wire::PacketKind::kUnsupported:
      context.counters.add(OutriggerCounter::kUnknownStreamDrops, 1);
      break;
  }
}

int32_t Sender::State::poll(SenderContext& context, int64_t nowNs) {
  const auto received = static_cast<int32_t>(context.io->poll(burst, nowNs));
  deliverBurst(burst, nowNs);
  if (received > 0) context.counters.add(OutriggerCounter::kDatagramsReceived, received);
  context.io->release(burst);
  lastPollNs = nowNs;
  cyclesSincePoll = 0;
  return received;
}

void Sender::State::checkDestinations(SenderContext& context, int64_t nowNs) {
  lastDestinationCheckNs = nowNs;
  unresolved.clear();  // an answer that never came is asked for again by the next status message
  for (const auto& sink : endpoints) {
    SendChannelEndpoint* endpoint = &sink->endpoint();
    for (MdcDestination* destination : endpoint->destinations) {
      if (destination->manual) continue;
      if (destination->lastActivityNs == 0) destination->lastActivityNs = nowNs;
      if (nowNs - destination->lastActivityNs <= kDestinationTimeoutNs) continue;
      AgentEvent event;
      event.type = AgentEvent::Type::kDestinationExpired;
      event.sendEndpoint = endpoint;
      event.destination = destination;
      if (context.events.offer(event)) destination->lastActivityNs = nowNs;
    }
  }
}

int32_t Sender::doWork(int64_t nowNs) {
  State& s = *state_;
  int32_t work = 0;
  while (!s.unanswered.empty() && context_.events.offer(s.unanswered.front())) s.unanswered.erase(s.unanswered.begin());
  if (context_.leaving != nullptr) s.endSwitch(context_, nowNs);
  if (!commands_.empty()) {
    SenderCommand command;
    while (work < kCommandsPerCycle && commands_.poll(command)) {
      s.onCommand(context_, command, nowNs);
      ++work;
    }
  }
  int32_t bytes = 0;
  const size_t count = s.publications.size();
  if (count > 0) {
    s.roundRobin = (s.roundRobin + 1) % count;
    for (size_t i = 0; i < count; ++i) bytes += s.publications[(s.roundRobin + i) % count]->send(context_, nowNs);
  }
  const int64_t shortSends = context_.counters[SystemCounter::kShortSends].getRelaxed();
  if (bytes == 0 || ++s.cyclesSincePoll >= kSendToPollRatio || shortSends != s.lastShortSends ||
      nowNs - s.lastPollNs > context_.config.statusMessageTimeoutNs / 2) {
    s.lastShortSends = shortSends;
    if (!s.endpoints.empty()) work += s.poll(context_, nowNs);
  }
  if (nowNs - s.lastDestinationCheckNs > kDestinationCheckIntervalNs) s.checkDestinations(context_, nowNs);
  bool limitMoved = false;
  for (NetworkPublication* publication : s.publications) limitMoved |= publication->takeLimitMoved();
  if (limitMoved) {
    const int32_t rung = context_.doorbells.ringClients();
    if (rung > 0) context_.counters.add(OutriggerCounter::kDoorbellsRung, rung);
  }
  return work + bytes;
}

int64_t Sender::nextDeadlineNs(int64_t nowNs) const {
  int64_t deadline = nowNs + kSecondNs;
  if (!state_->unanswered.empty()) deadline = nowNs + kMilliNs;
  if (context_.leaving != nullptr) deadline = std::min(deadline, nowNs + kLeavingCheckNs);
  for (const NetworkPublication* publication : state_->publications) deadline = std::min(deadline, publication->nextDeadlineNs(nowNs));
  return deadline;
}

}  // namespace outrigger::driver
