// SPDX-License-Identifier: Apache-2.0
// A receiver on its own, fed by hand: a network that records, datagrams as a sender (or an attacker) makes them, a clock that only tests move,
// and a conductor that does what a test tells it.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "driver/log_buffer_factory.h"
#include "driver/publication_image.h"
#include "driver/receiver.h"
#include "sender/sender_world.h"

namespace outrigger::driver::testing {

constexpr uint16_t kSenderPort = 50999;
constexpr int32_t kMtu = 1408;
constexpr int32_t kWindow = 16 * 1024;
constexpr int64_t kReceiverId = 4242;

using Bytes = std::vector<uint8_t>;

struct ImageOptions {
  int32_t termOffset = 0;
  int32_t window = kWindow;
  bool reliable = true;
  bool group = false;
  int64_t backedPosition = INT64_MAX;
};

class ReceiverWorld {
 public:
  ReceiverWorld() : counters(memory.makeDriverCounters()), commands(256), events(1024) {
    receiver = std::make_unique<Receiver>(io, config, counters, commands, events, doorbells, clock);
    endpoint.socket = std::make_unique<FakeEndpoint>();
    endpoint.receiverId = kReceiverId;
    ReceiverCommand command;
    command.type = ReceiverCommand::Type::kAddEndpoint;
    command.endpoint = &endpoint;
    send(command);
  }

  void send(const ReceiverCommand& command) { ASSERT_TRUE(commands.offer(command)); }
  void interest(bool add, int32_t streamId = kStream, int32_t sessionId = 0, bool specific = false) {
    ReceiverCommand command;
    command.type = add ? ReceiverCommand::Type::kAddStreamInterest : ReceiverCommand::Type::kRemoveStreamInterest;
    command.endpoint = &endpoint;
    command.streamId = streamId;
    command.sessionId = sessionId;
    command.sessionSpecific = specific;
    send(command);
  }

  // An image that stands, with one subscriber at its start; what that cost on the wire is forgotten.
  PublicationImage& open(const ImageOptions& options = {}) {
    interest(true);
    ImageParams params;
    params.sessionId = kSession;
    params.streamId = kStream;
    params.initialTermId = kInitialTermId;
    params.activeTermId = kInitialTermId;
    params.termOffset = options.termOffset;
    params.termLength = kTermLength;
    params.mtu = kMtu;
    params.windowLength = options.window;
    params.reliable = options.reliable;
    params.groupSemantics = options.group;
    params.backedPosition = options.backedPosition;
    params.randomSeed = 3;
    LogSpec spec;
    spec.path = "/tmp/outrigger-receiver-test-" + std::to_string(::getpid()) + ".log";
    spec.initialTermId = kInitialTermId;
    spec.startTermId = kInitialTermId;
    spec.startTermOffset = options.termOffset;
    spec.termLength = kTermLength;
    spec.mtu = kMtu;
    spec.type = logbuffer::LogType::kImage;
    auto log = createLog(spec, allocateFile);
    EXPECT_TRUE(log.ok());
    ::unlink(spec.path.c_str());
    const int64_t start = options.termOffset;
    position = memory.make();
    position.set(start);
    image = std::make_unique<PublicationImage>(
        params, &endpoint, address(kSenderPort), std::move(log->file), "image", ImageCounters{memory.make(), memory.make(), memory.make()},
        std::vector<PublicationImage::Subscriber>{{position, true}}, config, counters, clock.nanoTime());
    image->log().put<int64_t>(logbuffer::meta::kEndOfStreamPosition, INT64_MAX);
    ReceiverCommand command;
    command.type = ReceiverCommand::Type::kAddImage;
    command.image = image.get();
    send(command);
    step();
    io.sent.clear();
    return *image;
  }

  int32_t step(int64_t deltaNs = 0) {
    clock.advance(deltaNs);
    return receiver->doWork(clock.nanoTime());
  }

  // --- what arrives ---
  void arrive(Bytes bytes, uint32_t segment = 0, uint16_t port = kSenderPort) {
    io.inbox.push_back({static_cast<FakeEndpoint*>(endpoint.socket.get()), address(port), std::move(bytes), segment});
    step();
  }
  template <typename Frame>
  void arriveFrame(const Frame& frame, uint16_t port = kSenderPort) {
    const auto* bytes = reinterpret_cast<const uint8_t*>(&frame);
    arrive({bytes, bytes + sizeof(Frame)}, 0, port);
  }
  static wire::DataHeader header(int64_t at, int32_t length, wire::FrameType type = wire::FrameType::kData, int32_t sessionId = kSession) {
    wire::DataHeader h{};
    h.header = {length, 0, wire::kFlagUnfragmented, static_cast<uint16_t>(type)};
    h.termOffset = logbuffer::termOffsetFromPosition(at, kTermLength);
    h.sessionId = sessionId;
    h.streamId = kStream;
    h.termId = logbuffer::termIdFromPosition(at, logbuffer::positionBitsToShift(kTermLength), kInitialTermId);
    return h;
  }
  // One frame of `payload` bytes, each of them telling the position.
  static Bytes frame(int64_t at, int32_t payload, int32_t sessionId = kSession) {
    const int32_t length = wire::kDataHeaderLength + payload;
    Bytes bytes(static_cast<size_t>(wire::alignedFrameLength(length)), 0);
    wire::store(bytes.data(), header(at, length, wire::FrameType::kData, sessionId));
    std::fill(bytes.begin() + wire::kDataHeaderLength, bytes.begin() + length, static_cast<uint8_t>(1 + at / 32 % 255));
    return bytes;
  }
  // `count` frames of `payload` bytes from `at` on, one behind the other.
  static Bytes frames(int64_t at, int32_t payload, int32_t count) {
    Bytes bytes;
    for (int32_t i = 0; i < count; ++i) {
      const Bytes one = frame(at + static_cast<int64_t>(bytes.size()), payload);
      bytes.insert(bytes.end(), one.begin(), one.end());
    }
    return bytes;
  }
  static Bytes pad(int64_t at, int32_t length) {
    Bytes bytes(wire::kDataHeaderLength);
    wire::store(bytes.data(), header(at, length, wire::FrameType::kPad));
    return bytes;
  }
  static Bytes heartbeat(int64_t at, uint8_t flags = wire::kFlagUnfragmented, int32_t sessionId = kSession) {
    Bytes bytes(wire::kDataHeaderLength);
    auto h = header(at, 0, wire::FrameType::kData, sessionId);
    h.header.flags = flags;
    wire::store(bytes.data(), h);
    return bytes;
  }
  static wire::SetupFrame setup(int32_t sessionId = kSession) {
    wire::SetupFrame frame{};
    frame.header = {int32_t{sizeof(frame)}, 0, 0, static_cast<uint16_t>(wire::FrameType::kSetup)};
    frame.sessionId = sessionId;
    frame.streamId = kStream;
    frame.initialTermId = kInitialTermId;
    frame.activeTermId = kInitialTermId;
    frame.termLength = kTermLength;
    frame.mtu = kMtu;
    return frame;
  }

  // --- what was sent, since the last call ---
  std::vector<Datagram> take(wire::FrameType type) {
    std::vector<Datagram> result;
    for (Datagram& datagram : io.sent) {
      if (datagram.type() == type) result.push_back(std::move(datagram));
    }
    io.sent.clear();
    return result;
  }
  std::vector<wire::StatusMessageFrame> takeStatusMessages() {
    std::vector<wire::StatusMessageFrame> result;
    for (const Datagram& datagram : take(wire::FrameType::kStatusMessage)) result.push_back(datagram.as<wire::StatusMessageFrame>());
    return result;
  }
  std::vector<wire::NakFrame> takeNaks() {
    std::vector<wire::NakFrame> result;
    for (const Datagram& datagram : take(wire::FrameType::kNak)) result.push_back(datagram.as<wire::NakFrame>());
    return result;
  }
  std::vector<AgentEvent> takeEvents(AgentEvent::Type type) {
    std::vector<AgentEvent> result;
    AgentEvent event;
    while (events.poll(event)) {
      if (event.type == type) result.push_back(event);
    }
    return result;
  }
  static int64_t positionOf(int32_t termId, int32_t termOffset) {
    return logbuffer::computePosition(termId, termOffset, logbuffer::positionBitsToShift(kTermLength), kInitialTermId);
  }
  // Reads frames from the subscriber's position on; checks their payloads; moves the position unless told not to. Returns the bytes read.
  int64_t read(bool consume = true) {
    int64_t at = position.get();
    const int64_t begin = at;
    while (true) {
      const uint8_t* frameAt = image->log().atPosition(at);
      const int32_t length = logbuffer::frameLengthAcquire(frameAt);
      if (length <= 0) break;
      EXPECT_EQ(wire::load<wire::DataHeader>(frameAt).termId, header(at, 0).termId) << "a frame of another term at " << at;
      if (wire::frameType(frameAt) == wire::FrameType::kData) {
        for (int32_t i = wire::kDataHeaderLength; i < length; ++i) EXPECT_EQ(frameAt[i], static_cast<uint8_t>(1 + at / 32 % 255));
      }
      if (::testing::Test::HasFailure()) break;
      at += wire::alignedFrameLength(length);
    }
    if (consume) position.set(at);
    return at - begin;
  }
  int64_t count(cnc::SystemCounter id) const { return counters[id].get(); }
  int64_t count(cnc::OutriggerCounter id) const { return counters[id].get(); }

  DriverConfig config;
  CounterMemory memory;
  DriverCounters counters;
  FakeIo io;
  SpscRing<ReceiverCommand> commands;
  SpscRing<AgentEvent> events;
  cnc::Doorbells doorbells;
  ManualClock clock;
  std::unique_ptr<Receiver> receiver;
  ReceiveChannelEndpoint endpoint;
  std::unique_ptr<PublicationImage> image;
  cnc::Counter position;  // of the subscriber
};

}  // namespace outrigger::driver::testing
