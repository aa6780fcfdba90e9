// SPDX-License-Identifier: Apache-2.0
// A sender on its own: a network that records and refuses as told, a log with a publisher that appends, a clock that only tests move.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "driver/endpoints.h"
#include "driver/network_publication.h"
#include "driver/sender.h"
#include "logbuffer/term_ops.h"

namespace outrigger::driver::testing {

inline io::SockAddr address(uint16_t port) { return *io::SockAddr::parseNumeric("127.0.0.1", port); }

struct Datagram {
  uint16_t port = 0;  // of the destination
  std::vector<uint8_t> bytes;

  wire::FrameType type() const { return wire::frameType(bytes.data()); }
  uint8_t flags() const { return wire::frameFlags(bytes.data()); }
  bool isHeartbeat() const { return wire::isHeartbeat(bytes.data(), bytes.size()) && type() == wire::FrameType::kData; }
  bool isPayload() const { return (type() == wire::FrameType::kData || type() == wire::FrameType::kPad) && !isHeartbeat(); }
  template <typename Frame>
  Frame as() const {
    return wire::load<Frame>(bytes.data());
  }
};

class FakeEndpoint final : public io::Endpoint {
 public:
  const io::SockAddr& localAddress() const override { return local_; }
  int32_t receiveBufferBytes() const override { return 0; }
  int32_t sendBufferBytes() const override { return 0; }

 private:
  io::SockAddr local_ = address(1);
};

class FakeNextHop final : public io::NextHop {
 public:
  explicit FakeNextHop(const io::SockAddr& to) : NextHop(to) {}
};

class FakeIo final : public io::DatagramIo {
 public:
  io::Caps capabilities{"fake", true, true, 65507, 64, ""};
  std::vector<Datagram> sent;
  std::vector<uint32_t> itemLengths;  // of the TxItems offered in the order they came
  int32_t calls = 0;
  int64_t room = INT64_MAX;                 // datagrams until the socket is full
  std::map<uint16_t, io::TxStatus> broken;  // ports whose datagrams are lost with an error
  int32_t attached = 0;
  bool reading = false;   // the network still reads what was sent
  int64_t arrivedNs = 0;  // of what is polled

  struct Incoming {
    FakeEndpoint* endpoint;
    io::SockAddr source;
    std::vector<uint8_t> bytes;
    uint32_t segment = 0;  // a train cut that often; 0: one datagram
  };
  std::deque<Incoming> inbox;

  const io::Caps& caps() const override { return capabilities; }
  Result<std::unique_ptr<io::Endpoint>> openEndpoint(const io::EndpointConfig&) override {
    return std::unique_ptr<io::Endpoint>(std::make_unique<FakeEndpoint>());
  }
  Result<std::unique_ptr<io::NextHop>> resolve(io::Endpoint&, const io::SockAddr& to) override {
    return std::unique_ptr<io::NextHop>(std::make_unique<FakeNextHop>(to));
  }
  bool stillReads(const uint8_t*, size_t) override { return reading; }
  void attach(io::Endpoint&) override { ++attached; }
  void detach(io::Endpoint&) override { --attached; }

  uint32_t poll(io::RxBurst& burst, int64_t) override {
    held_.clear();
    burst.count = 0;
    while (!inbox.empty() && burst.count < io::RxBurst::kMaxPackets) {
      held_.push_back(std::move(inbox.front()));
      inbox.pop_front();
      const Incoming& packet = held_.back();
      const auto length = static_cast<uint32_t>(packet.bytes.size());
      burst.packets[burst.count++] = {
          packet.bytes.data(), length, packet.segment == 0 ? length : packet.segment, packet.endpoint, &packet.source, nullptr, arrivedNs};
    }
    return static_cast<uint32_t>(burst.count);
  }

  uint32_t transmit(io::Endpoint&, std::span<io::TxItem> items) override {
    ++calls;
    uint32_t finished = 0;
    for (io::TxItem& item : items) {
      itemLengths.push_back(item.length);
      item.sentBytes = 0;
      const uint16_t port = item.nextHop->address().port();
      const uint32_t step = item.segmentLength == 0 ? item.length : std::min(item.segmentLength, item.length);
      EXPECT_LE(item.length, capabilities.maxTrainLengthBytes);
      EXPECT_LE((item.length + step - 1) / step, capabilities.maxTrainSegments);
      const auto failure = broken.find(port);
      if (failure != broken.end()) {
        item.status = failure->second;
        ++finished;
        continue;
      }
      while (item.sentBytes < item.length) {
        if (room <= 0) {
          item.status = io::TxStatus::kWouldBlock;
          return finished;
        }
        --room;
        const uint32_t length = std::min(step, item.length - item.sentBytes);
        sent.push_back({port, {item.data + item.sentBytes, item.data + item.sentBytes + length}});
        item.sentBytes += length;
      }
      item.status = io::TxStatus::kSent;
      ++finished;
    }
    return finished;
  }

  io::TxStatus reserve(io::Endpoint&, const io::SockAddr&, uint32_t length, io::TxSlot& slot) override {
    if (room <= 0) return io::TxStatus::kWouldBlock;
    control_.resize(length);
    slot = {control_.data(), length, 0};
    return io::TxStatus::kPending;
  }
  io::TxStatus commit(io::Endpoint&, const io::SockAddr& to, io::TxSlot& slot, uint32_t length) override {
    --room;
    sent.push_back({to.port(), {slot.data, slot.data + length}});
    return io::TxStatus::kSent;
  }
  void abort(io::Endpoint&, io::TxSlot&) override {}
  int waitHandle() const override { return -1; }
  bool arm() override { return true; }

 private:
  std::vector<uint8_t> control_;
  std::deque<Incoming> held_;
};

// Counter values in plain memory.
class CounterMemory {
 public:
  cnc::Counter make() {
    values_.push_back(0);
    return {static_cast<int32_t>(values_.size()) - 1, &values_.back()};
  }
  DriverCounters makeDriverCounters() {
    DriverCounters counters;
    for (auto& counter : counters.system) counter = make();
    for (auto& counter : counters.own) counter = make();
    return counters;
  }

 private:
  std::deque<int64_t> values_;
};

constexpr int32_t kTermLength = 64 * 1024;
constexpr int32_t kSession = 77;
constexpr int32_t kStream = 1001;
constexpr int32_t kInitialTermId = -5;  // crosses zero and exercises the wrapping arithmetic
constexpr uint16_t kReceiverPort = 40123;

struct PublicationOptions {
  int32_t sessionId = kSession;
  int32_t streamId = kStream;
  int32_t termLength = kTermLength;
  int32_t mtu = 1408;
  int32_t initialTermId = kInitialTermId;
  int32_t startTermId = kInitialTermId;
  int32_t startTermOffset = 0;
  int32_t windowLength = 0;
  int64_t backedPosition = INT64_MAX;
  int32_t pageSize = 4096;
  bool groupSemantics = false;
  bool signalEos = true;
  bool spiesSimulateConnection = false;
};

// A publication with its log, and the client that writes to it.
class Stream {
 public:
  std::unique_ptr<NetworkPublication> publication;
  int64_t producer = 0;

  const logbuffer::LogBuffer& log() const { return publication->log(); }
  int32_t termLength() const { return publication->params().termLength; }

  // Appends one message of `payload` bytes, with a PAD and a rotation when the term is full. Returns the position of its frame.
  int64_t append(int32_t payload) {
    const int32_t length = wire::kDataHeaderLength + payload;
    const int32_t aligned = wire::alignedFrameLength(length);
    const int32_t left = termLength() - logbuffer::termOffsetFromPosition(producer, termLength());
    if (aligned > left) pad(left);
    const int64_t at = producer;
    put(at, length, wire::FrameType::kData);
    advance(aligned);
    return at;
  }
  void append(int32_t payload, int32_t count) {
    for (int32_t i = 0; i < count; ++i) append(payload);
  }
  void pad(int32_t length) {
    put(producer, length, wire::FrameType::kPad);
    advance(length);
  }
  // A frame as written by a client that may be hostile: any length.
  void put(int64_t position, int32_t length, wire::FrameType type) {
    wire::DataHeader header{};
    header.header = {0, 0, wire::kFlagUnfragmented, static_cast<uint16_t>(type)};
    header.termOffset = logbuffer::termOffsetFromPosition(position, termLength());
    header.sessionId = publication->params().sessionId;
    header.streamId = publication->params().streamId;
    header.termId = logbuffer::termIdFromPosition(position, log().bits(), publication->params().initialTermId);
    uint8_t* frame = log().atPosition(position);
    std::memcpy(frame + 4, reinterpret_cast<const uint8_t*>(&header) + 4, sizeof(header) - 4);  // the length comes last
    if (type == wire::FrameType::kData && length > wire::kDataHeaderLength && length <= termLength() - header.termOffset) {
      std::memset(frame + wire::kDataHeaderLength, static_cast<int>(1 + position / 32 % 255),
                  static_cast<size_t>(length - wire::kDataHeaderLength));
    }
    logbuffer::frameLengthRelease(frame, length);
  }

 private:
  void advance(int32_t aligned) {
    const int32_t termId = logbuffer::termIdFromPosition(producer, log().bits(), publication->params().initialTermId);
    const int32_t offset = logbuffer::termOffsetFromPosition(producer, termLength()) + aligned;
    const int32_t index = logbuffer::indexByPosition(producer, log().bits());
    storeRelease<int64_t>(log().tailAddress(index), logbuffer::packTail(termId, offset));
    producer += aligned;
    if (offset == termLength()) log().rotate(logbuffer::termDelta(termId, publication->params().initialTermId), termId);
  }
};

class World {
 public:
  World() : counters(memory.makeDriverCounters()), commands(256), events(1024) {
    sender = std::make_unique<Sender>(io, config, counters, commands, events, doorbells, clock);
  }

  SendChannelEndpoint& unicast(uint16_t port = kReceiverPort) {
    auto& endpoint = add(net::ControlMode::kNone);
    endpoint.channel.endpoint = address(port);
    endpoint.nextHop = std::make_unique<FakeNextHop>(address(port));
    return endpoint;
  }
  SendChannelEndpoint& multiDestination(net::ControlMode mode) {
    auto& endpoint = add(mode);
    endpoint.destinationCount = memory.make();
    return endpoint;
  }
  MdcDestination* addDestination(SendChannelEndpoint& endpoint, uint16_t port) {
    auto destination = std::make_unique<MdcDestination>();
    destination->address = address(port);
    destination->nextHop = std::make_unique<FakeNextHop>(address(port));
    destination->manual = endpoint.channel.controlMode == net::ControlMode::kManual;
    MdcDestination* raw = destination.get();
    endpoint.ownedDestinations.push_back(std::move(destination));
    SenderCommand command;
    command.type = SenderCommand::Type::kAddDestination;
    command.endpoint = &endpoint;
    command.destination = raw;
    EXPECT_TRUE(commands.offer(command));
    return raw;
  }

  Stream& publish(SendChannelEndpoint& endpoint, const PublicationOptions& options = {}) {
    NetworkPublicationParams params;
    params.sessionId = options.sessionId;
    params.streamId = options.streamId;
    params.initialTermId = options.initialTermId;
    params.startTermId = options.startTermId;
    params.startTermOffset = options.startTermOffset;
    params.termLength = options.termLength;
    params.mtu = options.mtu;
    params.windowLength = options.windowLength == 0 ? options.termLength / 2 : options.windowLength;
    params.backedPosition = options.backedPosition;
    params.groupSemantics = options.groupSemantics;
    params.signalEos = options.signalEos;
    params.spiesSimulateConnection = options.spiesSimulateConnection;
    PublicationCounters own;
    for (cnc::Counter* counter : {&own.publisherLimit, &own.publisherPosition, &own.senderPosition, &own.senderLimit,
                                  &own.senderBackPressure, &own.naksReceived, &own.flowControlReceivers}) {
      *counter = memory.make();
    }
    const std::string path = "/tmp/outrigger-sender-test-" + std::to_string(::getpid()) + ".log";
    auto file = MappedFile::create(path, logbuffer::logFileLength(options.termLength, options.pageSize), 0600);
    EXPECT_TRUE(file.ok());
    ::unlink(path.c_str());
    const logbuffer::LogBuffer log(file->data(), options.termLength, file->length());
    log.initialiseTails(options.initialTermId, options.startTermId, options.startTermOffset);
    log.put<int64_t>(logbuffer::meta::kEndOfStreamPosition, INT64_MAX);
    auto& stream = streams_.emplace_back();
    stream.publication = std::make_unique<NetworkPublication>(
        params, &endpoint, file.take(), path, own, makeFlowControl(endpoint.channel, config, options.termLength), config, counters);
    stream.producer = stream.publication->producerPosition();
    SenderCommand command;
    command.type = SenderCommand::Type::kAddPublication;
    command.publication = stream.publication.get();
    EXPECT_TRUE(commands.offer(command));
    return stream;
  }

  // One duty cycle `deltaNs` later.
  int32_t step(int64_t deltaNs = 0) {
    clock.advance(deltaNs);
    return sender->doWork(clock.nanoTime());
  }
  int32_t steps(int32_t count) {
    int32_t work = 0;
    for (int32_t i = 0; i < count; ++i) work += step();
    return work;
  }

  template <typename Frame>
  void receive(SendChannelEndpoint& endpoint, const Frame& frame, uint16_t port = kReceiverPort) {
    const auto* bytes = reinterpret_cast<const uint8_t*>(&frame);
    receiveBytes(endpoint, {bytes, bytes + sizeof(Frame)}, port);
  }
  void receiveBytes(SendChannelEndpoint& endpoint, std::vector<uint8_t> bytes, uint16_t port = kReceiverPort) {
    io.inbox.push_back({static_cast<FakeEndpoint*>(endpoint.socket.get()), address(port), std::move(bytes)});
  }
  // Queues a status message; the next cycles handle it.
  void statusMessage(const Stream& stream, int64_t position, int32_t window, int64_t receiverId = 1, uint8_t flags = 0,
                     uint16_t port = kReceiverPort) {
    receive(*stream.publication->endpoint(), makeStatusMessage(stream, position, window, receiverId, flags), port);
  }
  static wire::StatusMessageFrame makeStatusMessage(const Stream& stream, int64_t position, int32_t window, int64_t receiverId,
                                                    uint8_t flags) {
    const NetworkPublicationParams& params = stream.publication->params();
    wire::StatusMessageFrame sm{};
    sm.header = {static_cast<int32_t>(sizeof(sm)), 0, flags, static_cast<uint16_t>(wire::FrameType::kStatusMessage)};
    sm.sessionId = params.sessionId;
    sm.streamId = params.streamId;
    sm.consumptionTermId = logbuffer::termIdFromPosition(position, stream.log().bits(), params.initialTermId);
    sm.consumptionTermOffset = logbuffer::termOffsetFromPosition(position, params.termLength);
    sm.receiverWindow = window;
    sm.receiverId = receiverId;
    return sm;
  }
  void nak(const Stream& stream, int64_t position, int32_t length, uint16_t port = kReceiverPort) {
    const NetworkPublicationParams& params = stream.publication->params();
    wire::NakFrame frame{};
    frame.header = {static_cast<int32_t>(sizeof(frame)), 0, 0, static_cast<uint16_t>(wire::FrameType::kNak)};
    frame.sessionId = params.sessionId;
    frame.streamId = params.streamId;
    frame.termId = logbuffer::termIdFromPosition(position, stream.log().bits(), params.initialTermId);
    frame.termOffset = logbuffer::termOffsetFromPosition(position, params.termLength);
    frame.length = length;
    receive(*stream.publication->endpoint(), frame, port);
  }
  // A receiver that joins at the sender's position with this window; what it cost on the wire is forgotten.
  void connect(Stream& stream, int32_t window = kTermLength / 2, int64_t receiverId = 1, uint16_t port = kReceiverPort) {
    step();
    statusMessage(stream, stream.publication->senderPosition(), window, receiverId, 0, port);
    step();
    step();
    EXPECT_TRUE(stream.publication->isConnected());
    io.sent.clear();
    io.itemLengths.clear();
    io.calls = 0;
  }

  void addSpy(Stream& stream, const cnc::Counter& position) { spy(SenderCommand::Type::kAddSpy, stream, position); }
  void removeSpy(Stream& stream, const cnc::Counter& position) { spy(SenderCommand::Type::kRemoveSpy, stream, position); }
  void backTerm(Stream& stream, int64_t position) {
    SenderCommand command;
    command.type = SenderCommand::Type::kTermBacked;
    command.publication = stream.publication.get();
    command.value = position;
    EXPECT_TRUE(commands.offer(command));
  }

  // Takes what was sent since the last call, only the kinds asked for.
  std::vector<Datagram> take(bool (*wanted)(const Datagram&)) {
    std::vector<Datagram> result;
    for (Datagram& datagram : io.sent) {
      if (wanted(datagram)) result.push_back(std::move(datagram));
    }
    io.sent.clear();
    return result;
  }
  std::vector<Datagram> takePayload() {
    return take([](const Datagram& d) { return d.isPayload(); });
  }
  std::vector<Datagram> takeHeartbeats() {
    return take([](const Datagram& d) { return d.isHeartbeat(); });
  }
  std::vector<Datagram> takeSetups() {
    return take([](const Datagram& d) { return d.type() == wire::FrameType::kSetup; });
  }
  std::vector<AgentEvent> takeEvents(AgentEvent::Type type) {
    std::vector<AgentEvent> result;
    AgentEvent event;
    while (events.poll(event)) {
      if (event.type == type) result.push_back(event);
    }
    return result;
  }
  int64_t count(cnc::SystemCounter id) const { return counters[id].get(); }
  int64_t count(cnc::OutriggerCounter id) const { return counters[id].get(); }

  DriverConfig config;
  CounterMemory memory;
  DriverCounters counters;
  FakeIo io;
  SpscRing<SenderCommand> commands;
  SpscRing<AgentEvent> events;
  cnc::Doorbells doorbells;
  ManualClock clock;
  std::unique_ptr<Sender> sender;

 private:
  SendChannelEndpoint& add(net::ControlMode mode) {
    auto& endpoint = *endpoints_.emplace_back(std::make_unique<SendChannelEndpoint>());
    endpoint.channel.controlMode = mode;
    endpoint.socket = std::make_unique<FakeEndpoint>();
    SenderCommand command;
    command.type = SenderCommand::Type::kAddEndpoint;
    command.endpoint = &endpoint;
    EXPECT_TRUE(commands.offer(command));
    return endpoint;
  }
  void spy(SenderCommand::Type type, Stream& stream, const cnc::Counter& position) {
    SenderCommand command;
    command.type = type;
    command.publication = stream.publication.get();
    command.counter = position;
    EXPECT_TRUE(commands.offer(command));
  }

  std::vector<std::unique_ptr<SendChannelEndpoint>> endpoints_;
  std::deque<Stream> streams_;
};

inline int64_t positionOf(const Stream& stream, const Datagram& datagram) {
  const auto header = datagram.as<wire::DataHeader>();
  return logbuffer::computePosition(header.termId, header.termOffset, stream.log().bits(), stream.publication->params().initialTermId);
}

// Checks that `datagrams` are the log from `from` on, without a hole or a repetition; returns the position behind the last.
inline int64_t expectContiguous(const Stream& stream, const std::vector<Datagram>& datagrams, int64_t from) {
  int64_t at = from;
  for (const Datagram& datagram : datagrams) {
    EXPECT_EQ(wire::classify(datagram.bytes.data(), datagram.bytes.size()), wire::PacketKind::kData);
    EXPECT_EQ(positionOf(stream, datagram), at);
    EXPECT_LE(datagram.bytes.size(), static_cast<size_t>(stream.publication->params().mtu));
    EXPECT_EQ(std::memcmp(datagram.bytes.data(), stream.log().atPosition(at), datagram.bytes.size()), 0);
    size_t offset = 0;
    while (offset < datagram.bytes.size()) {
      const uint8_t* frame = datagram.bytes.data() + offset;
      const int32_t aligned = wire::alignedFrameLength(wire::frameLength(frame));
      at += aligned;
      const bool pad = wire::frameType(frame) == wire::FrameType::kPad;
      offset += static_cast<size_t>(pad ? wire::kDataHeaderLength : aligned);
    }
  }
  return at;
}

}  // namespace outrigger::driver::testing
