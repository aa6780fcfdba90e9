// SPDX-License-Identifier: Apache-2.0
// The receiver's duty cycle: commands, datagrams to the image they belong to, sessions that are not known yet, images' timers.
#include "driver/receiver.h"

#include <algorithm>
#include <array>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "driver/backend_switch.h"
#include "driver/endpoints.h"
#include "driver/intervals.h"
#include "driver/publication_image.h"
#include "driver/receiver_endpoint.h"
#include "logbuffer/frame_stamps.h"

namespace outrigger::driver {

using cnc::OutriggerCounter;
using cnc::SystemCounter;

namespace {

// Up to this many images all have a turn in each cycle; of more only those that got packets and a slice of the others.
constexpr size_t kImagesPerCycle = 32;
constexpr size_t kMaxTouched = 1024;
constexpr int64_t kHousekeepingIntervalNs = 100 * kMilliNs;
// A multi-destination receiver says that it is there until data comes: as Aeron's once a second, but for the first few, since each may be lost
// and so may the SETUP that answers it.
constexpr int64_t kElicitIntervalNs = kSecondNs;
constexpr int64_t kFirstElicitIntervalNs = 100 * kMilliNs;
constexpr int32_t kFirstElicits = 5;
// Refused SETUPs are counted each; the error log hears of one an endpoint this often.
constexpr int64_t kRefusalEventIntervalNs = 100 * kMilliNs;

static_assert(net::TimestampOffsets::kNone == logbuffer::kNoStamp &&
              net::TimestampOffsets::kReservedValue == logbuffer::kReservedValueStamp &&
              net::TimestampOffsets::kMax == logbuffer::kMaxStampOffset);

// The times of a train that its channel wants in the messages. Where the network does not know when the train arrived, that is when it was read.
class ArrivalStamps {
 public:
  std::span<const logbuffer::FrameStamp> of(const net::TimestampOffsets& offsets, const io::RxPacket& train, Clock& clock) {
    const int64_t readNs = clock.epochNanos();
    size_t count = 0;
    if (offsets.mediaReceive != logbuffer::kNoStamp) {
      stamps_[count++] = {offsets.mediaReceive, train.arrivedNs != 0 ? train.arrivedNs : readNs};
    }
    if (offsets.channelReceive != logbuffer::kNoStamp) stamps_[count++] = {offsets.channelReceive, readNs};
    return {stamps_.data(), count};
  }

 private:
  std::array<logbuffer::FrameStamp, 2> stamps_{};
};

}  // namespace

struct Receiver::State {
  class Sink final : public TrainSink {
   public:
    Sink(State& state, ReceiverContext& context, ReceiveChannelEndpoint* channel) : endpoint(channel), state_(state), context_(context) {}
    void onTrain(const io::RxPacket& train, int64_t nowNs) override { state_.onTrain(context_, endpoint, train, nowNs); }
    ReceiverEndpoint endpoint;

   private:
    State& state_;
    ReceiverContext& context_;
  };

  std::vector<std::unique_ptr<Sink>> endpoints;
  std::vector<PublicationImage*> images;
  std::vector<PublicationImage*> touched;  // got packets in this cycle
  std::optional<io::IoTotals> lastTotals;  // of the instance before a switch
  std::vector<AgentEvent> unanswered;      // releases that found the ring to the conductor full
  size_t nextImage = 0;
  int64_t lastHousekeepingNs = 0;
  io::RxBurst burst;

  State() { touched.reserve(kMaxTouched); }

  ReceiverEndpoint* find(const ReceiveChannelEndpoint* endpoint) {
    for (auto& each : endpoints) {
      if (&each->endpoint.channel() == endpoint) return &each->endpoint;
    }
    return nullptr;
  }
  void answer(ReceiverContext& context, const AgentEvent& event);
  void onCommand(ReceiverContext& context, const ReceiverCommand& command, int64_t nowNs);
  void onSwitch(ReceiverContext& context, ReceiverSwitch& change, int64_t nowNs);
  int32_t poll(ReceiverContext& context, int64_t nowNs);
  void onTrain(ReceiverContext& context, ReceiverEndpoint& endpoint, const io::RxPacket& train, int64_t nowNs);
  void onRun(ReceiverContext& context, ReceiverEndpoint& endpoint, const uint8_t* run, uint32_t length, uint32_t segment,
             const io::SockAddr& source, std::span<const logbuffer::FrameStamp> stamps, int64_t nowNs);
  void onControl(ReceiverContext& context, ReceiverEndpoint& endpoint, wire::PacketKind kind, const uint8_t* packet,
                 const io::SockAddr& source, int64_t nowNs);
  void onSetup(ReceiverContext& context, ReceiverEndpoint& endpoint, const wire::SetupFrame& setup, const io::SockAddr& source,
               int64_t nowNs);
  static void refuseSource(ReceiverContext& context, ReceiverEndpoint& endpoint, int32_t streamId, const io::SockAddr& source,
                           int64_t datagrams, int64_t nowNs);
  bool elicit(ReceiverContext& context, ReceiverEndpoint& endpoint, int32_t streamId, int32_t sessionId, const io::SockAddr& destination);
  static int64_t introductionDueNs(const ReceiverEndpoint& endpoint);
  int32_t introduce(ReceiverContext& context, ReceiverEndpoint& endpoint, int64_t nowNs);
  void housekeeping(int64_t nowNs);
};

Receiver::Receiver(io::DatagramIo& io, const DriverConfig& config, const DriverCounters& counters, SpscRing<ReceiverCommand>& commands,
                   SpscRing<AgentEvent>& events, const cnc::Doorbells& doorbells, Clock& clock)
    : context_{&io, config, counters, events, doorbells, clock, Random(config.randomSeed ^ 0x4ECE17E4)},
      commands_(commands),
      state_(std::make_unique<State>()) {}

Receiver::~Receiver() = default;

bool Receiver::hasLastTotals() const { return state_->lastTotals.has_value(); }

std::optional<io::IoTotals> Receiver::takeLastTotals() { return std::exchange(state_->lastTotals, std::nullopt); }

// A release must arrive, or the conductor keeps the object for ever: one that finds the ring full waits.
void Receiver::State::answer(ReceiverContext& context, const AgentEvent& event) {
  if (unanswered.empty() && context.events.offer(event)) return;
  context.counters.add(SystemCounter::kConductorProxyFails, 1);
  unanswered.push_back(event);
}

void Receiver::State::onCommand(ReceiverContext& context, const ReceiverCommand& command, int64_t nowNs) {
  AgentEvent event;
  switch (command.type) {
    case ReceiverCommand::Type::kAddEndpoint:
      endpoints.push_back(std::make_unique<Sink>(*this, context, command.endpoint));
      command.endpoint->socket->user = static_cast<TrainSink*>(endpoints.back().get());
      context.io->attach(*command.endpoint->socket);
      break;
    case ReceiverCommand::Type::kRemoveEndpoint:
      context.io->detach(*command.endpoint->socket);
      command.endpoint->socket->user = nullptr;
      std::erase_if(endpoints, [&](const auto& each) { return &each->endpoint.channel() == command.endpoint; });
      event.type = AgentEvent::Type::kEndpointReleased;
      event.receiveEndpoint = command.endpoint;
      answer(context, event);
      break;
    case ReceiverCommand::Type::kAddStreamInterest:
      if (ReceiverEndpoint* endpoint = find(command.endpoint)) {
        endpoint->addInterest(command.streamId, command.sessionId, command.sessionSpecific);
      }
      break;
    case ReceiverCommand::Type::kRemoveStreamInterest:
      if (ReceiverEndpoint* endpoint = find(command.endpoint)) {
        endpoint->removeInterest(command.streamId, command.sessionId, command.sessionSpecific);
      }
      break;
    case ReceiverCommand::Type::kAddImage:
      images.push_back(command.image);
      if (ReceiverEndpoint* endpoint = find(command.image->endpoint())) endpoint->addImage(command.image);
      break;
    case ReceiverCommand::Type::kRemoveImage:
      std::erase(images, command.image);
      std::erase(touched, command.image);  // a sender that shares the thread may have delivered to it just now
      if (ReceiverEndpoint* endpoint = find(command.image->endpoint())) {
        endpoint->removeImage(command.image, command.value == 1 ? nowNs + context.config.cooldownNs : 0);
      }
      event.type = AgentEvent::Type::kImageReleased;
      event.image = command.image;
      answer(context, event);
      break;
    case ReceiverCommand::Type::kAddSubscriber:
      command.image->addSubscriber(command.counter, command.value == 1);
      break;
    case ReceiverCommand::Type::kRemoveSubscriber:
      command.image->removeSubscriber(command.counter);
      break;
    case ReceiverCommand::Type::kSetupRefused:
      if (ReceiverEndpoint* endpoint = find(command.endpoint)) {
        Session* session = endpoint->sessions().find(command.streamId, command.sessionId);
        if (session != nullptr && session->state == SessionState::kInitInProgress) {
          // The sender goes on with its SETUPs; the next try may wait.
          session->state = SessionState::kCoolDown;
          session->refused = true;
          session->deadlineNs = nowNs + context.config.cooldownNs;
        }
      }
      break;
    case ReceiverCommand::Type::kRejectImage:
      command.image->reject(context, nowNs);
      break;
    case ReceiverCommand::Type::kTermBacked:
      command.image->onTermBacked(command.value);
      break;
    case ReceiverCommand::Type::kSwitchBackend:
      onSwitch(context, *command.change, nowNs);
      event.type = AgentEvent::Type::kBackendSwitched;
      answer(context, event);
      break;
    case ReceiverCommand::Type::kSetSources:
      if (ReceiverEndpoint* endpoint = find(command.endpoint)) {
        event.sources = endpoint->setSources(command.streamId, command.sources);
        if (event.sources == nullptr) break;
        event.type = AgentEvent::Type::kSourcesReleased;
        answer(context, event);
      }
      break;
  }
}

void Receiver::State::onSwitch(ReceiverContext& context, ReceiverSwitch& change, int64_t nowNs) {
  for (int32_t i = 0; i < kDrainPolls && poll(context, nowNs) > 0; ++i) continue;
  for (ReceiveEndpointMove& move : change.moves) exchangeSockets(*context.io, *change.to, move.endpoint->socket, move.socket);
  if (change.to == context.io) return;
  lastTotals = context.io->totals();
  context.io = change.to;
}

bool Receiver::State::elicit(ReceiverContext& context, ReceiverEndpoint& endpoint, int32_t streamId, int32_t sessionId,
                             const io::SockAddr& destination) {
  wire::StatusMessageFrame sm{};
  sm.header = {int32_t{sizeof(sm)}, 0, wire::kSmFlagSendSetup, static_cast<uint16_t>(wire::FrameType::kStatusMessage)};
  sm.sessionId = sessionId;
  sm.streamId = streamId;
  sm.receiverId = endpoint.channel().receiverId;
  io::Endpoint& socket = *endpoint.channel().socket;
  io::TxSlot slot;
  bool sent = context.io->reserve(socket, destination, sizeof(sm), slot) == io::TxStatus::kPending;
  if (sent) {
    wire::store(slot.data, sm);
    sent = context.io->commit(socket, destination, slot, sizeof(sm)) == io::TxStatus::kSent;
  }
  if (!sent) {
    context.counters.add(SystemCounter::kShortSends, 1);
    return false;
  }
  context.counters.add(SystemCounter::kStatusMessagesSent, 1);
  context.counters.add(SystemCounter::kBytesSent, sizeof(sm));
  context.counters.add(OutriggerCounter::kDatagramsSent, 1);
  return true;
}

int64_t Receiver::State::introductionDueNs(const ReceiverEndpoint& endpoint) {
  if (!endpoint.channel().isMdcReceiver() || endpoint.hasImages() || !endpoint.wantsAnything()) return INT64_MAX;
  if (endpoint.elicits == 0) return 0;
  return endpoint.lastElicitNs + (endpoint.elicits < kFirstElicits ? kFirstElicitIntervalNs : kElicitIntervalNs);
}

int32_t Receiver::State::introduce(ReceiverContext& context, ReceiverEndpoint& endpoint, int64_t nowNs) {
  if (endpoint.hasImages()) endpoint.elicits = 0;
  if (nowNs < introductionDueNs(endpoint)) return 0;
  endpoint.lastElicitNs = nowNs;
  if (endpoint.elicits < kFirstElicits) ++endpoint.elicits;
  return elicit(context, endpoint, 0, 0, *endpoint.channel().channel.control) ? 1 : 0;
}

// A sender repeats its SETUP, so a publisher that becomes one later needs no more than that.
void Receiver::State::refuseSource(ReceiverContext& context, ReceiverEndpoint& endpoint, int32_t streamId, const io::SockAddr& source,
                                   int64_t datagrams, int64_t nowNs) {
  context.counters.add(OutriggerCounter::kSourcesRefused, datagrams);
  const bool persists = endpoint.strangerPersists(streamId, source, nowNs);
  if (!persists && endpoint.lastStrangerNs != 0 && nowNs - endpoint.lastStrangerNs < kRefusalEventIntervalNs) return;
  endpoint.lastStrangerNs = nowNs;
  AgentEvent event;
  event.type = AgentEvent::Type::kSourceRefused;
  event.receiveEndpoint = &endpoint.channel();
  event.address = source;
  event.setup.streamId = streamId;
  event.value = persists ? 1 : 0;
  if (!context.events.offer(event)) context.counters.add(SystemCounter::kConductorProxyFails, 1);
}

void Receiver::State::onSetup(ReceiverContext& context, ReceiverEndpoint& endpoint, const wire::SetupFrame& setup,
                              const io::SockAddr& source, int64_t nowNs) {
  if (PublicationImage* image = endpoint.image(setup.streamId, setup.sessionId)) {
    image->onSetup(setup, source, nowNs);
    return;
  }
  if (!endpoint.wants(setup.streamId, setup.sessionId)) {
    context.counters.add(OutriggerCounter::kUnknownStreamDrops, 1);
    return;
  }
  if (!context.config.policyFile.empty() && !endpoint.admits(setup.streamId, source)) {
    return refuseSource(context, endpoint, setup.streamId, source, 1, nowNs);
  }
  Session* session = endpoint.sessions().find(setup.streamId, setup.sessionId);
  if (session == nullptr || session->state != SessionState::kPendingSetup) {
    const bool inProgress = session != nullptr && session->state == SessionState::kInitInProgress;
    if (inProgress) return;
    session = endpoint.unknownSession(setup.streamId, setup.sessionId, nowNs);
    if (session == nullptr) {
      context.counters.add(OutriggerCounter::kUnknownStreamDrops, 1);
      return;
    }
  }
  AgentEvent event;
  const io::Endpoint& socket = *endpoint.channel().socket;
  if (refuseSetup(setup, socket.receiveBufferBytes(), socket.longestReceivable(), event.text, sizeof(event.text))[0] != '\0') {
    context.counters.add(OutriggerCounter::kSetupRefused, 1);
    session->state = SessionState::kCoolDown;
    session->refused = true;
    session->deadlineNs = nowNs + context.config.cooldownNs;
    if (endpoint.lastRefusalNs != 0 && nowNs - endpoint.lastRefusalNs < kRefusalEventIntervalNs) return;
    endpoint.lastRefusalNs = nowNs;
    event.type = AgentEvent::Type::kError;
    event.errorCode = static_cast<int32_t>(ErrorCode::kInvalidChannel);
    event.receiveEndpoint = &endpoint.channel();
    event.address = source;
    if (!context.events.offer(event)) context.counters.add(SystemCounter::kConductorProxyFails, 1);
    return;
  }
  event.type = AgentEvent::Type::kCreateImage;
  event.receiveEndpoint = &endpoint.channel();
  event.setup = setup;
  event.address = source;
  if (!context.events.offer(event)) {
    context.counters.add(SystemCounter::kConductorProxyFails, 1);
    return;  // the sender repeats its SETUP
  }
  session->state = SessionState::kInitInProgress;
}

void Receiver::State::onControl(ReceiverContext& context, ReceiverEndpoint& endpoint, wire::PacketKind kind, const uint8_t* packet,
                                const io::SockAddr& source, int64_t nowNs) {
  switch (kind) {
    case wire::PacketKind::kSetup:
      onSetup(context, endpoint, wire::load<wire::SetupFrame>(packet), source, nowNs);
      break;
    case wire::PacketKind::kRttMeasurement: {
      const auto rttm = wire::load<wire::RttMeasurementFrame>(packet);
      if (PublicationImage* image = endpoint.image(rttm.streamId, rttm.sessionId)) {
        image->onRttMeasurement(context, rttm, source, nowNs);
      } else {
        context.counters.add(OutriggerCounter::kUnknownStreamDrops, 1);
      }
      break;
    }
    case wire::PacketKind::kInvalid:
      context.counters.add(SystemCounter::kInvalidPackets, 1);
      break;
    case wire::PacketKind::kData:
    case wire::PacketKind::kNak:
    case wire::PacketKind::kStatusMessage:
    case wire::PacketKind::kError:
    case wire::PacketKind::kResolution:
    case wire::PacketKind::kResponseSetup:
    case wire::PacketKind::kUnsupported:
      context.counters.add(OutriggerCounter::kUnknownStreamDrops, 1);
      break;
  }
}

// Datagrams of one stream that follow each other in the term, or a heartbeat.
void Receiver::State::onRun(ReceiverContext& context, ReceiverEndpoint& endpoint, const uint8_t* run, uint32_t length, uint32_t segment,
                            const io::SockAddr& source, std::span<const logbuffer::FrameStamp> stamps, int64_t nowNs) {
  const auto header = wire::load<wire::DataHeader>(run);
  if (PublicationImage* image = endpoint.image(header.streamId, header.sessionId)) {
    image->onData(context, run, length, segment, source, stamps, nowNs);
    if ((touched.empty() || touched.back() != image) && touched.size() < kMaxTouched) touched.push_back(image);
    return;
  }
  const uint32_t datagrams = (length + segment - 1) / segment;
  if (!context.config.policyFile.empty() && endpoint.wants(header.streamId, header.sessionId) &&
      !endpoint.admits(header.streamId, source)) {
    return refuseSource(context, endpoint, header.streamId, source, datagrams, nowNs);
  }
  context.counters.add(OutriggerCounter::kUnknownStreamDrops, datagrams);
  const bool ends = wire::isHeartbeat(run, length) && (header.header.flags & wire::kFlagEos) != 0;
  if (ends || !endpoint.wants(header.streamId, header.sessionId)) return;
  Session* session = endpoint.unknownSession(header.streamId, header.sessionId, nowNs);
  if (session == nullptr) return;
  session->state = SessionState::kPendingSetup;
  session->deadlineNs = nowNs + context.config.pendingSetupTimeoutNs;
  const bool mdc = endpoint.channel().isMdcReceiver();
  if (!elicit(context, endpoint, header.streamId, header.sessionId, mdc ? *endpoint.channel().channel.control : source)) {
    session->deadlineNs = nowNs;  // the next datagram asks again
  }
}

void Receiver::State::onTrain(ReceiverContext& context, ReceiverEndpoint& endpoint, const io::RxPacket& train, int64_t nowNs) {
  const uint32_t segment = train.segmentLength == 0 ? train.length : train.segmentLength;
  uint32_t runBegin = 0;
  uint32_t runLength = 0;
  wire::DataHeader first{};
  ArrivalStamps times;
  const auto stamps = endpoint.channel().channel.timestamps.receives()
                          ? times.of(endpoint.channel().channel.timestamps, train, context.clock)
                          : std::span<const logbuffer::FrameStamp>();
  const auto flush = [&] {
    if (runLength > 0) onRun(context, endpoint, train.data + runBegin, runLength, segment, *train.source, stamps, nowNs);
    runLength = 0;
  };
  for (uint32_t offset = 0; offset < train.length; offset += segment) {
    const uint8_t* packet = train.data + offset;
    const uint32_t length = std::min(segment, train.length - offset);
    const wire::PacketKind kind = wire::classify(packet, length);
    if (kind != wire::PacketKind::kData) {
      flush();
      onControl(context, endpoint, kind, packet, *train.source, nowNs);
      continue;
    }
    const auto header = wire::load<wire::DataHeader>(packet);
    const bool continues = runLength > 0 && !wire::isHeartbeat(packet, length) && header.streamId == first.streamId &&
                           header.sessionId == first.sessionId && header.termId == first.termId &&
                           header.termOffset == first.termOffset + static_cast<int32_t>(runLength);
    if (!continues) {
      flush();
      runBegin = offset;
      first = header;
    }
    runLength += length;
    if (wire::isHeartbeat(packet, length)) flush();
  }
  flush();
}

int32_t Receiver::State::poll(ReceiverContext& context, int64_t nowNs) {
  const auto received = static_cast<int32_t>(context.io->poll(burst, nowNs));
  const int64_t bytes = deliverBurst(burst, nowNs);
  if (received > 0) {
    context.counters.add(OutriggerCounter::kDatagramsReceived, received);
    context.counters.add(SystemCounter::kBytesReceived, bytes);
  }
  context.io->release(burst);
  return received;
}

void Receiver::State::housekeeping(int64_t nowNs) {
  lastHousekeepingNs = nowNs;
  for (const auto& each : endpoints) each->endpoint.expire(nowNs);
}

int32_t Receiver::doWork(int64_t nowNs) {
  State& s = *state_;
  int32_t work = 0;
  while (!s.unanswered.empty() && context_.events.offer(s.unanswered.front())) s.unanswered.erase(s.unanswered.begin());
  if (!commands_.empty()) {
    ReceiverCommand command;
    while (work < kCommandsPerCycle && commands_.poll(command)) {
      s.onCommand(context_, command, nowNs);
      ++work;
    }
  }
  if (!s.endpoints.empty() || context_.io->caps().alwaysPolled) work += s.poll(context_, nowNs);
  bool advanced = false;
  const auto ring = [&] {
    if (!std::exchange(advanced, false)) return;
    const int32_t rung = context_.doorbells.ringClients();
    if (rung > 0) context_.counters.add(OutriggerCounter::kDoorbellsRung, rung);
  };
  // Readers first: what arrived can be read while this thread sends status messages.
  for (PublicationImage* image : s.touched) advanced |= image->takeAdvanced();
  ring();
  const size_t count = s.images.size();
  if (count > kImagesPerCycle) {
    for (PublicationImage* image : s.touched) work += image->doWork(context_, nowNs);
  }
  for (size_t i = 0; i < std::min(count, kImagesPerCycle); ++i) {
    if (s.nextImage >= count) s.nextImage = 0;
    PublicationImage* image = s.images[s.nextImage++];
    work += image->doWork(context_, nowNs);
    advanced |= image->takeAdvanced();
  }
  ring();
  s.touched.clear();
  for (const auto& each : s.endpoints) work += s.introduce(context_, each->endpoint, nowNs);
  if (nowNs - s.lastHousekeepingNs >= kHousekeepingIntervalNs) s.housekeeping(nowNs);
  return work;
}

int64_t Receiver::nextDeadlineNs(int64_t nowNs) const {
  int64_t deadline = nowNs + kSecondNs;
  if (!state_->unanswered.empty()) deadline = nowNs + kMilliNs;
  for (const PublicationImage* image : state_->images) deadline = std::min(deadline, image->nextDeadlineNs(nowNs));
  for (const auto& each : state_->endpoints) deadline = std::min(deadline, State::introductionDueNs(each->endpoint));
  return std::max(deadline, nowNs);
}

}  // namespace outrigger::driver
