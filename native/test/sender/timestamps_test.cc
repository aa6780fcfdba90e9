// SPDX-License-Identifier: Apache-2.0
// Times that the sender writes into messages (channel-snd-ts-offset=): at each send, into what goes out.
#include "sender_world.h"

namespace outrigger::driver::testing {
namespace {

constexpr int32_t kReserved = net::TimestampOffsets::kReservedValue;
constexpr uint16_t kFirst = 2001;
constexpr uint16_t kSecond = 2002;

int64_t timeIn(const Datagram& datagram, int32_t offset) {
  return readAt<int64_t>(datagram.bytes.data(), static_cast<size_t>(wire::kDataHeaderLength + offset));
}

struct Timed {
  World world;
  Stream& stream;
  explicit Timed(int32_t offset) : stream(publish(world, offset)) { world.connect(stream); }
  static Stream& publish(World& world, int32_t offset) {
    SendChannelEndpoint& endpoint = world.unicast();
    endpoint.channel.timestamps.channelSend = offset;
    return world.publish(endpoint);
  }
};

TEST(SenderTimestamps, EachMessageTellsWhenItWasSent) {
  for (const int32_t offset : {kReserved, 0, 984}) {
    Timed timed(offset);
    timed.stream.append(992, 3);
    timed.world.clock.advance(12345);
    const int64_t sentNs = timed.world.clock.epochNanos();
    timed.world.step();
    const auto sent = timed.world.takePayload();
    ASSERT_EQ(sent.size(), 3U);
    for (const Datagram& datagram : sent) EXPECT_EQ(timeIn(datagram, offset), sentNs);
    EXPECT_EQ(expectContiguous(timed.stream, sent, 0), timed.stream.producer) << "what is sent is what stands in the log";
  }
}

TEST(SenderTimestamps, SoDoesEachMessageOfADatagram) {
  Timed timed(0);
  timed.stream.append(64, 4);
  timed.world.step();
  const auto sent = timed.world.takePayload();
  ASSERT_EQ(sent.size(), 1U);
  for (size_t at = 0; at < sent[0].bytes.size(); at += 96) {
    EXPECT_EQ(readAt<int64_t>(sent[0].bytes.data(), at + wire::kDataHeaderLength), timed.world.clock.epochNanos());
  }
}

TEST(SenderTimestamps, WhatIsSentAgainSaysWhen) {
  Timed timed(kReserved);
  timed.stream.append(992, 4);
  timed.world.step();
  const int64_t firstNs = timed.world.clock.epochNanos();
  timed.world.io.sent.clear();
  timed.world.clock.advance(kMilliNs);
  timed.world.nak(timed.stream, 1024, 1024);
  timed.world.steps(3);
  const auto repairs = timed.world.takePayload();
  ASSERT_EQ(repairs.size(), 1U);
  EXPECT_EQ(timeIn(repairs[0], kReserved), firstNs + kMilliNs);
  EXPECT_EQ(readAt<int64_t>(timed.stream.log().atPosition(0), 24), firstNs) << "nobody asked for that one";
}

TEST(SenderTimestamps, WhatTheNetworkStillReadsKeepsItsTime) {
  Timed timed(kReserved);
  timed.stream.append(992, 2);
  timed.world.step();
  const int64_t firstNs = timed.world.clock.epochNanos();
  timed.world.io.sent.clear();
  timed.world.io.reading = true;
  timed.world.clock.advance(kMilliNs);
  timed.world.nak(timed.stream, 0, 1024);
  timed.world.steps(3);
  const auto repairs = timed.world.takePayload();
  ASSERT_EQ(repairs.size(), 1U);
  EXPECT_EQ(timeIn(repairs[0], kReserved), firstNs);
}

TEST(SenderTimestamps, AMessageThatFoundTheSocketFullHasTheTimeAtWhichItWent) {
  Timed timed(kReserved);
  timed.stream.append(992, 4);
  timed.world.io.room = 2;
  timed.world.step();
  const int64_t firstNs = timed.world.clock.epochNanos();
  timed.world.clock.advance(kMilliNs);
  timed.world.io.room = INT64_MAX;
  timed.world.steps(2);
  const auto sent = timed.world.takePayload();
  ASSERT_EQ(sent.size(), 4U);
  for (size_t i = 0; i < sent.size(); ++i) EXPECT_EQ(timeIn(sent[i], kReserved), i < 2 ? firstNs : firstNs + kMilliNs) << i;
}

TEST(SenderTimestamps, EveryDestinationGetsTheSameTime) {
  World world;
  SendChannelEndpoint& endpoint = world.multiDestination(net::ControlMode::kManual);
  endpoint.channel.timestamps.channelSend = kReserved;
  PublicationOptions options;
  options.groupSemantics = true;
  Stream& stream = world.publish(endpoint, options);
  for (const uint16_t port : {kFirst, kSecond}) world.addDestination(endpoint, port);
  world.connect(stream, kTermLength / 2, 1, kFirst);
  stream.append(992, 1);
  world.io.room = 1;  // for the first of them
  world.step();
  const int64_t firstNs = world.clock.epochNanos();
  world.clock.advance(kMilliNs);
  world.io.room = INT64_MAX;
  world.steps(2);
  const auto sent = world.takePayload();
  ASSERT_EQ(sent.size(), 2U);
  for (const Datagram& datagram : sent) EXPECT_EQ(timeIn(datagram, kReserved), firstNs) << datagram.port;
}

TEST(SenderTimestamps, NeitherHeartbeatsNorWhatIsNotSentHaveOne) {
  Timed timed(kReserved);
  timed.world.step(timed.world.config.heartbeatTimeoutNs);
  const auto heartbeats = timed.world.takeHeartbeats();
  ASSERT_FALSE(heartbeats.empty());
  EXPECT_EQ(timeIn(heartbeats[0], kReserved), 0);
  World silent;
  Stream& stream = Timed::publish(silent, kReserved);
  stream.append(992);
  silent.steps(3);
  EXPECT_EQ(readAt<int64_t>(stream.log().atPosition(0), 24), 0) << "nobody listens";
}

}  // namespace
}  // namespace outrigger::driver::testing
