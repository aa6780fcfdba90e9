// SPDX-License-Identifier: Apache-2.0
// A real sender and a real receiver on two hosts of a simulated network, with just enough of a conductor between them: publishers that
// append, subscribers that read and check, and taps on both networks that watch the promises made on the wire.
#pragma once

#include <algorithm>
#include <array>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "driver/endpoints.h"
#include "driver/log_buffer_factory.h"
#include "driver/publication_image.h"
#include "driver/receiver.h"
#include "driver/sender.h"
#include "forwarding_io.h"
#include "io/sim/sim_network.h"
#include "sender/sender_world.h"

namespace outrigger::driver::testing {

// Shows a test every datagram that an agent sends.
class TapIo final : public outrigger::testing::ForwardingIo {
 public:
  using OnSend = std::function<void(const uint8_t* datagram, uint32_t length)>;
  TapIo(std::unique_ptr<io::DatagramIo> inner, OnSend onSend) : ForwardingIo(std::move(inner)), onSend_(std::move(onSend)) {}

  uint32_t transmit(io::Endpoint& endpoint, std::span<io::TxItem> items) override {
    const uint32_t finished = inner().transmit(endpoint, items);
    for (const io::TxItem& item : items) {
      const uint32_t step = item.segmentLength == 0 ? item.length : item.segmentLength;
      for (uint32_t at = 0; at < item.sentBytes; at += step) onSend_(item.data + at, std::min(step, item.length - at));
    }
    return finished;
  }
  io::TxStatus commit(io::Endpoint& endpoint, const io::SockAddr& to, io::TxSlot& slot, uint32_t length) override {
    onSend_(slot.data, length);
    return inner().commit(endpoint, to, slot, length);
  }

 private:
  OnSend onSend_;
};

// Reads an image as a client does, and checks each frame against what was published.
class Reader {
 public:
  struct Frame {
    int64_t position;
    int32_t length;
    wire::FrameType type;
  };

  cnc::Counter position;
  int64_t framesRead = 0;

  int64_t at() const { return position.get(); }
  // At most `limit` frames; `published` in the order they were appended.
  void read(const PublicationImage& image, const std::vector<Frame>& published, int32_t limit) {
    const logbuffer::LogBuffer& log = image.log();
    for (int32_t i = 0; i < limit; ++i) {
      const int64_t here = at();
      const uint8_t* frame = log.atPosition(here);
      const int32_t length = logbuffer::frameLengthAcquire(frame);
      if (length <= 0) return;
      const auto expected = std::partition_point(published.begin(), published.end(), [&](const Frame& f) { return f.position < here; });
      ASSERT_NE(expected, published.end()) << "a frame that nobody published at " << here;
      ASSERT_EQ(expected->position, here);
      ASSERT_EQ(expected->length, length) << "at " << here;
      const auto header = wire::load<wire::DataHeader>(frame);
      ASSERT_EQ(static_cast<wire::FrameType>(header.header.type), expected->type) << "at " << here;
      ASSERT_EQ(header.termOffset, logbuffer::termOffsetFromPosition(here, log.termLength())) << "at " << here;
      ASSERT_EQ(header.sessionId, image.params().sessionId);
      ASSERT_EQ(header.streamId, image.params().streamId);
      ASSERT_EQ(header.termId, logbuffer::termIdFromPosition(here, log.bits(), image.params().initialTermId));
      if (expected->type == wire::FrameType::kData) {
        const auto fill = static_cast<uint8_t>(1 + here / 32 % 255);
        for (int32_t byte = wire::kDataHeaderLength; byte < length; ++byte) {
          if (frame[byte] != fill) FAIL() << "payload of the frame at " << here << " differs at byte " << byte;
        }
      }
      position.set(here + wire::alignedFrameLength(length));
      ++framesRead;
    }
  }
  // Without a look at what it is: on a network that corrupts, nothing above UDP's checksum could tell.
  void skim(const PublicationImage& image, int32_t limit) {
    const logbuffer::LogBuffer& log = image.log();
    for (int32_t i = 0; i < limit; ++i) {
      const int32_t offset = logbuffer::termOffsetFromPosition(at(), log.termLength());
      const int32_t length = logbuffer::frameLengthAcquire(log.atPosition(at()));
      if (length < wire::kDataHeaderLength || length > log.termLength() - offset) return;
      position.set(at() + wire::alignedFrameLength(length));
      ++framesRead;
    }
  }
};

struct StreamOptions {
  uint64_t seed = 1;
  io::SimLink link;
  int32_t termLength = kTermLength;
  int32_t mtu = 1408;
  int32_t window = 32 * 1024;
  int32_t startTermOffset = 0;
  int32_t receivers = 1;  // hosts that subscribe
  int32_t readers = 1;    // subscriptions on each
  bool coalescing = true;
  bool reliable = true;
  bool mdc = false;            // dynamic multi-destination-cast
  bool checked = true;         // readers compare with what was published; off where the network corrupts
  int64_t backingDelayNs = 0;  // how long the resource agent takes to back a term; -1: the volume is full
  int64_t livenessNs = 10 * kSecondNs;
  CongestionControlKind congestionControl = CongestionControlKind::kStatic;
};

inline MappedFile makeLog(const std::string& kind, const LogSpec& base, int64_t& backedPosition) {
  static int64_t number = 0;
  LogSpec spec = base;
  spec.path = "/tmp/outrigger-stream-test-" + std::to_string(::getpid()) + "-" + kind + std::to_string(++number) + ".log";
  auto log = createLog(spec, [](int, uint64_t, uint64_t) { return 0; });
  EXPECT_TRUE(log.ok());
  ::unlink(spec.path.c_str());
  backedPosition = log->backedPosition;
  return std::move(log->file);
}

// The publisher's host.
class StreamWorld;

// A host that subscribes.
class ReceiverHost {
 public:
  ReceiverHost(StreamWorld& world, int32_t number);

  // What the subscribers were told, in order.
  struct Notice {
    bool available = false;  // else gone
    int64_t position = 0;    // where it begins, or how far the first reader came
  };

  void subscribe();
  void unsubscribe();
  int32_t step(int64_t nowNs);
  void read(int32_t limit);
  int64_t nextDeadlineNs(int64_t nowNs) const { return receiver->nextDeadlineNs(nowNs); }
  int64_t position() const {
    int64_t lowest = INT64_MAX;
    for (const Reader& reader : readers) lowest = std::min(lowest, reader.at());
    return readers.empty() ? 0 : lowest;
  }
  int64_t count(cnc::SystemCounter id) const { return counters[id].get(); }
  int64_t count(cnc::OutriggerCounter id) const { return counters[id].get(); }

  std::string name;
  CounterMemory memory;
  DriverCounters counters;
  SpscRing<ReceiverCommand> commands;
  SpscRing<AgentEvent> events;
  cnc::Doorbells doorbells;
  std::unique_ptr<TapIo> io;
  std::unique_ptr<Receiver> receiver;
  ReceiveChannelEndpoint endpoint;
  std::unique_ptr<PublicationImage> image;
  std::vector<Reader> readers;
  std::vector<Notice> notices;
  int64_t lostBytes = 0;             // kLossObserved
  std::vector<std::string> errors;   // kError
  int64_t acknowledged = INT64_MIN;  // highest position of a status message
  int64_t windowEnd = INT64_MIN;     // highest position that one allowed
  bool paused = false;               // readers stand still

 private:
  void onSent(const uint8_t* datagram, uint32_t length);
  void onEvent(const AgentEvent& event, int64_t nowNs);
  void send(const ReceiverCommand& command) { EXPECT_TRUE(commands.offer(command)); }

  StreamWorld& world_;
  bool subscribed_ = false;
  std::vector<std::pair<int64_t, ReceiverCommand>> later_;
  std::vector<std::unique_ptr<PublicationImage>> graves_;
};

class StreamWorld {
 public:
  explicit StreamWorld(const StreamOptions& streamOptions)
      : options(streamOptions),
        network({.seed = streamOptions.seed, .link = streamOptions.link, .coalescing = streamOptions.coalescing}),
        random(streamOptions.seed * 31 + 7),
        counters(memory.makeDriverCounters()),
        commands(1024),
        events(1024) {
    config.randomSeed = options.seed;
    config.imageLivenessTimeoutNs = options.livenessNs;
    io = std::make_unique<TapIo>(network.createIo(kSenderHost).take(), [this](const uint8_t* d, uint32_t n) { onSent(d, n); });
    sender = std::make_unique<Sender>(*io, config, counters, commands, events, doorbells, clock);
    for (int32_t i = 0; i < options.receivers; ++i) hosts.push_back(std::make_unique<ReceiverHost>(*this, i));
    publish();
  }

  static constexpr const char* kSenderHost = "10.0.0.1";
  static constexpr uint16_t kPort = 40123;
  static constexpr int64_t kTickNs = 5 * kMicroNs;

  int64_t nowNs() const { return now_; }
  ReceiverHost& host(size_t index = 0) { return *hosts[index]; }
  const logbuffer::LogBuffer& log() const { return stream.log(); }

  // One duty cycle of everybody; then the clock goes on, by a tick or to the next thing that happens.
  void step() {
    int32_t work = sender->doWork(now_);
    AgentEvent event;
    while (events.poll(event)) onEvent(event);
    for (auto& each : hosts) work += each->step(now_);
    int64_t next = now_ + kTickNs;
    if (work == 0) {
      next = std::min(network.nextEventNs(), sender->nextDeadlineNs(now_));
      for (auto& each : hosts) next = std::min(next, each->nextDeadlineNs(now_));
      next = std::clamp(next, now_ + kTickNs, now_ + kMilliNs);
    }
    now_ = next;
  }
  void run(int64_t durationNs) {
    for (const int64_t end = now_ + durationNs; now_ < end && !::testing::Test::HasFatalFailure();) step();
  }
  // Steps until `done` or the time is over; true when done.
  template <typename Done>
  bool runUntil(Done&& done, int64_t limitNs) {
    for (const int64_t end = now_ + limitNs; now_ < end && !::testing::Test::HasFatalFailure(); step()) {
      if (done()) return true;
    }
    return done();
  }

  // Appends a message of `payload` bytes unless the publisher limit forbids it.
  bool offer(int32_t payload) {
    if (stream.producer >= stream.publication->counters().publisherLimit.get()) return false;
    const int64_t before = stream.producer;
    const int64_t at = stream.append(payload);
    if (at > before) published.push_back({before, static_cast<int32_t>(at - before), wire::FrameType::kPad});
    published.push_back({at, wire::kDataHeaderLength + payload, wire::FrameType::kData});
    return true;
  }
  // Publishes messages of random sizes until `amount` bytes are in the log and everybody has read them. False when it takes too long.
  bool transfer(int64_t amount, int64_t limitNs = 60 * kSecondNs) {
    const int64_t target = stream.producer + amount;
    return runUntil(
        [&] {
          for (int32_t i = 0; i < 32 && stream.producer < target; ++i) {
            if (!offer(static_cast<int32_t>(random.below(5) == 0 ? random.below(64) : random.below(1300)))) break;
          }
          return stream.producer >= target && std::all_of(hosts.begin(), hosts.end(), [&](const auto& each) {
                   return each->image && each->position() == stream.producer;
                 });
        },
        limitNs);
  }
  void close() { stream.publication->signalEndOfStream(false); }
  void revoke() { stream.publication->signalEndOfStream(true); }
  bool connected() const {
    return std::all_of(hosts.begin(), hosts.end(), [](const auto& each) { return each->image != nullptr; }) &&
           stream.publication->isConnected();
  }
  bool connect() {
    return runUntil([&] { return connected(); }, 5 * kSecondNs);
  }
  int64_t count(cnc::SystemCounter id) const { return counters[id].get(); }

  StreamOptions options;
  io::SimNetwork network;
  Random random;
  DriverConfig config;
  CounterMemory memory;
  ManualClock clock;
  DriverCounters counters;
  SpscRing<SenderCommand> commands;
  SpscRing<AgentEvent> events;
  cnc::Doorbells doorbells;
  std::unique_ptr<TapIo> io;
  std::unique_ptr<Sender> sender;
  SendChannelEndpoint endpoint;
  Stream stream;
  std::vector<Reader::Frame> published;
  std::vector<std::unique_ptr<ReceiverHost>> hosts;
  std::vector<AgentEvent> publicationErrors;

 private:
  void publish() {
    io::EndpointConfig bind;
    bind.bindAddress = io::SockAddr::parseNumeric(kSenderHost, options.mdc ? kPort : 0).take();
    endpoint.socket = io->openEndpoint(bind).take();
    if (options.mdc) {
      endpoint.channel.controlMode = net::ControlMode::kDynamic;
      endpoint.channel.control = bind.bindAddress;
      endpoint.destinationCount = memory.make();
    } else {
      endpoint.channel.endpoint = io::SockAddr::parseNumeric(hosts[0]->name, kPort).take();
      endpoint.nextHop = io->resolve(*endpoint.socket, *endpoint.channel.endpoint).take();
    }
    SenderCommand command;
    command.type = SenderCommand::Type::kAddEndpoint;
    command.endpoint = &endpoint;
    EXPECT_TRUE(commands.offer(command));

    NetworkPublicationParams params;
    params.sessionId = kSession;
    params.streamId = kStream;
    params.initialTermId = kInitialTermId;
    params.startTermId = kInitialTermId;
    params.startTermOffset = options.startTermOffset;
    params.termLength = options.termLength;
    params.mtu = options.mtu;
    params.windowLength = options.termLength / 2;
    params.groupSemantics = options.mdc;
    LogSpec spec;
    spec.initialTermId = kInitialTermId;
    spec.startTermId = kInitialTermId;
    spec.startTermOffset = options.startTermOffset;
    spec.termLength = options.termLength;
    spec.mtu = options.mtu;
    int64_t backed = 0;
    MappedFile file = makeLog("pub", spec, backed);
    params.backedPosition = INT64_MAX;
    logbuffer::LogBuffer(file.data(), options.termLength, file.length()).put<int64_t>(logbuffer::meta::kEndOfStreamPosition, INT64_MAX);
    PublicationCounters own;
    for (cnc::Counter* counter : {&own.publisherLimit, &own.publisherPosition, &own.senderPosition, &own.senderLimit,
                                  &own.senderBackPressure, &own.naksReceived, &own.flowControlReceivers}) {
      *counter = memory.make();
    }
    if (options.mdc) endpoint.channel.flowControl.kind = net::FlowControlKind::kMin;
    stream.publication = std::make_unique<NetworkPublication>(
        params, &endpoint, std::move(file), "pub", own, makeFlowControl(endpoint.channel, config, options.termLength), config, counters);
    stream.producer = stream.publication->producerPosition();
    command = {};
    command.type = SenderCommand::Type::kAddPublication;
    command.publication = stream.publication.get();
    EXPECT_TRUE(commands.offer(command));
  }

  void onEvent(const AgentEvent& event) {
    SenderCommand command;
    switch (event.type) {
      case AgentEvent::Type::kResolveDestination: {
        auto destination = std::make_unique<MdcDestination>();
        destination->address = event.address;
        destination->receiverId = event.receiverId;
        destination->nextHop = io->resolve(*endpoint.socket, event.address).take();
        command.type = SenderCommand::Type::kAddDestination;
        command.endpoint = &endpoint;
        command.destination = destination.get();
        endpoint.ownedDestinations.push_back(std::move(destination));
        EXPECT_TRUE(commands.offer(command));
        break;
      }
      case AgentEvent::Type::kDestinationExpired:
        command.type = SenderCommand::Type::kRemoveDestination;
        command.endpoint = &endpoint;
        command.destination = event.destination;
        EXPECT_TRUE(commands.offer(command));
        break;
      case AgentEvent::Type::kPublicationError:
        publicationErrors.push_back(event);
        break;
      default:
        break;
    }
  }

  // The window is a promise to the slowest receiver: no data beyond it, but for the rest of a PAD whose header is inside.
  void onSent(const uint8_t* datagram, uint32_t length) {
    const wire::FrameType type = wire::frameType(datagram);
    if ((type != wire::FrameType::kData && type != wire::FrameType::kPad) || wire::isHeartbeat(datagram, length)) return;
    const auto header = wire::load<wire::DataHeader>(datagram);
    const int64_t position = logbuffer::computePosition(header.termId, header.termOffset, log().bits(), kInitialTermId);
    int64_t allowed = INT64_MAX;
    for (const auto& each : hosts) {
      if (each->windowEnd != INT64_MIN) allowed = std::min(allowed, each->windowEnd);
    }
    if (!options.mdc && options.checked) {  // a flipped bit in a status message promises what nobody meant
      EXPECT_LE(position + length, allowed) << "the window was exceeded";
    }
  }

  int64_t now_ = kSecondNs;
};

inline ReceiverHost::ReceiverHost(StreamWorld& world, int32_t number)
    : name("10.0.0." + std::to_string(number + 2)), counters(memory.makeDriverCounters()), commands(1024), events(1024), world_(world) {
  io = std::make_unique<TapIo>(world.network.createIo(name).take(), [this](const uint8_t* d, uint32_t n) { onSent(d, n); });
  receiver = std::make_unique<Receiver>(*io, world.config, counters, commands, events, doorbells, world.clock);
  io::EndpointConfig bind;
  bind.bindAddress = io::SockAddr::parseNumeric(name, StreamWorld::kPort).take();
  endpoint.socket = io->openEndpoint(bind).take();
  endpoint.receiverId = 1000 + number;
  if (world.options.mdc) endpoint.channel.control = io::SockAddr::parseNumeric(StreamWorld::kSenderHost, StreamWorld::kPort).take();
  ReceiverCommand command;
  command.type = ReceiverCommand::Type::kAddEndpoint;
  command.endpoint = &endpoint;
  send(command);
  subscribe();
}

inline void ReceiverHost::subscribe() {
  ReceiverCommand command;
  command.type = ReceiverCommand::Type::kAddStreamInterest;
  command.endpoint = &endpoint;
  command.streamId = kStream;
  send(command);
  subscribed_ = true;
}

inline void ReceiverHost::unsubscribe() {
  ReceiverCommand command;
  command.endpoint = &endpoint;
  command.streamId = kStream;
  command.image = image.get();
  if (image) {
    command.type = ReceiverCommand::Type::kRemoveSubscriber;
    for (const Reader& reader : readers) {
      command.counter = reader.position;
      send(command);
    }
  }
  command.type = ReceiverCommand::Type::kRemoveStreamInterest;
  send(command);
  subscribed_ = false;
}

inline void ReceiverHost::onSent(const uint8_t* datagram, uint32_t length) {
  if (wire::classify(datagram, length) != wire::PacketKind::kStatusMessage) return;
  const auto sm = wire::load<wire::StatusMessageFrame>(datagram);
  if ((sm.header.flags & wire::kSmFlagSendSetup) != 0) return;
  const int64_t position = logbuffer::computePosition(sm.consumptionTermId, sm.consumptionTermOffset, world_.log().bits(), kInitialTermId);
  EXPECT_GE(position, acknowledged) << "a status message goes back";
  acknowledged = position;
  windowEnd = std::max(windowEnd, position + sm.receiverWindow);
}

inline void ReceiverHost::onEvent(const AgentEvent& event, int64_t nowNs) {
  ReceiverCommand command;
  switch (event.type) {
    case AgentEvent::Type::kCreateImage: {
      const wire::SetupFrame& setup = event.setup;
      command.endpoint = &endpoint;
      command.streamId = setup.streamId;
      command.sessionId = setup.sessionId;
      if (image || !subscribed_ || setup.streamId != kStream || setup.sessionId != kSession) {
        command.type = ReceiverCommand::Type::kSetupRefused;
        send(command);
        return;
      }
      ImageParams params;
      params.sessionId = setup.sessionId;
      params.streamId = setup.streamId;
      params.initialTermId = setup.initialTermId;
      params.activeTermId = setup.activeTermId;
      params.termOffset = setup.termOffset;
      params.termLength = setup.termLength;
      params.mtu = setup.mtu;
      params.windowLength = std::min(world_.options.window, setup.termLength / 2);
      params.reliable = world_.options.reliable;
      params.groupSemantics = (setup.header.flags & wire::kSetupFlagGroup) != 0;
      params.congestionControl = world_.options.congestionControl;
      params.randomSeed = world_.options.seed;
      LogSpec spec;
      spec.initialTermId = setup.initialTermId;
      spec.startTermId = setup.activeTermId;
      spec.startTermOffset = setup.termOffset;
      spec.termLength = setup.termLength;
      spec.mtu = setup.mtu;
      spec.type = logbuffer::LogType::kImage;
      MappedFile file = makeLog("image", spec, params.backedPosition);
      logbuffer::LogBuffer(file.data(), setup.termLength, file.length()).put<int64_t>(logbuffer::meta::kEndOfStreamPosition, INT64_MAX);
      const int64_t start = logbuffer::computePosition(setup.activeTermId, setup.termOffset,
                                                       logbuffer::positionBitsToShift(setup.termLength), setup.initialTermId);
      readers.clear();
      std::vector<PublicationImage::Subscriber> subscribers;
      for (int32_t i = 0; i < world_.options.readers; ++i) {
        readers.emplace_back().position = memory.make();
        readers.back().position.set(start);
        subscribers.push_back({readers.back().position, true});
      }
      const ImageCounters own{memory.make(), memory.make(), memory.make()};
      acknowledged = INT64_MIN;
      windowEnd = INT64_MIN;
      image = std::make_unique<PublicationImage>(params, &endpoint, event.address, std::move(file), "image", own, std::move(subscribers),
                                                 world_.config, counters, nowNs);
      notices.push_back({true, start});
      command.type = ReceiverCommand::Type::kAddImage;
      command.image = image.get();
      send(command);
      break;
    }
    case AgentEvent::Type::kBackTerm:
      if (world_.options.backingDelayNs < 0) break;
      command.type = ReceiverCommand::Type::kTermBacked;
      command.image = event.image;
      command.value = event.value;
      later_.emplace_back(nowNs + world_.options.backingDelayNs, command);
      break;
    case AgentEvent::Type::kImageStateChanged:
      if (event.image->state() != ImageState::kLinger || event.image != image.get()) break;
      read(INT32_MAX);
      notices.push_back({false, position()});
      command.type = ReceiverCommand::Type::kRemoveImage;
      command.image = image.get();
      command.value = image->isEndOfStream() || !subscribed_ ? 0 : 1;
      std::erase_if(later_, [&](const auto& each) { return each.second.image == image.get(); });
      graves_.push_back(std::move(image));
      send(command);
      break;
    case AgentEvent::Type::kLossObserved:
      lostBytes += event.value;
      break;
    case AgentEvent::Type::kError:
      errors.emplace_back(event.text);
      break;
    default:
      break;
  }
}

inline void ReceiverHost::read(int32_t limit) {
  if (!image) return;
  for (Reader& reader : readers) {
    const int64_t before = reader.at();
    if (world_.options.checked) {
      reader.read(*image, world_.published, limit);
    } else {
      reader.skim(*image, limit);
    }
    EXPECT_GE(reader.at(), before);
  }
}

inline int32_t ReceiverHost::step(int64_t nowNs) {
  const int32_t work = receiver->doWork(nowNs);
  AgentEvent event;
  while (events.poll(event)) onEvent(event, nowNs);
  for (size_t i = 0; i < later_.size();) {
    if (later_[i].first > nowNs) {
      ++i;
      continue;
    }
    send(later_[i].second);
    later_.erase(later_.begin() + static_cast<std::ptrdiff_t>(i));
  }
  if (!paused) read(INT32_MAX);
  return work;
}

}  // namespace outrigger::driver::testing
