// SPDX-License-Identifier: Apache-2.0
// Repairs: which NAKs are answered, how often, and how much; the round trip that the linger follows.
#include "driver/retransmit_handler.h"
#include "sender_world.h"

namespace outrigger::driver::testing {
namespace {

using cnc::OutriggerCounter;
using cnc::SystemCounter;

constexpr int32_t kMessage = 1024;  // bytes of a frame of 992 bytes payload: one a datagram

struct Lossy {
  World world;
  Stream* stream = nullptr;
  explicit Lossy(int32_t messages = 16) {
    stream = &world.publish(world.unicast());
    world.connect(*stream);
    stream->append(kMessage - 32, messages);
    world.steps(3);
    world.io.sent.clear();
  }
  std::vector<int64_t> repairs() {
    world.steps(3);
    std::vector<int64_t> positions;
    for (const Datagram& datagram : world.takePayload()) positions.push_back(positionOf(*stream, datagram));
    return positions;
  }
  void answerRoundTrip(int64_t rttNs) {
    wire::RttMeasurementFrame question{};
    for (const Datagram& datagram : world.io.sent) {
      if (datagram.type() == wire::FrameType::kRttMeasurement) question = datagram.as<wire::RttMeasurementFrame>();
    }
    ASSERT_EQ(question.header.flags, wire::kRttmFlagReply);
    world.clock.advance(rttNs);
    question.header.flags = 0;
    world.receive(*stream->publication->endpoint(), question);
    world.steps(2);
  }
};

using Positions = std::vector<int64_t>;

TEST(SenderRepair, AGapIsSentAgainAndNothingElse) {
  Lossy lossy;
  lossy.world.nak(*lossy.stream, 3 * kMessage, 2 * kMessage);
  EXPECT_EQ(lossy.repairs(), (Positions{3 * kMessage, 4 * kMessage}));
  EXPECT_EQ(lossy.world.count(SystemCounter::kNaksReceived), 1);
  EXPECT_EQ(lossy.world.count(SystemCounter::kRetransmitsSent), 1) << "one train";
  EXPECT_EQ(lossy.world.count(SystemCounter::kRetransmittedBytes), 2 * kMessage);
  EXPECT_EQ(lossy.stream->publication->counters().naksReceived.get(), 1);
}

TEST(SenderRepair, SeveralGapsAreRepairedAtOnceAndNoneReplacesAnother) {
  Lossy lossy;
  for (const int64_t gap : {9, 1, 5, 14}) lossy.world.nak(*lossy.stream, gap * kMessage, kMessage);
  EXPECT_EQ(lossy.repairs(), (Positions{9 * kMessage, 1 * kMessage, 5 * kMessage, 14 * kMessage}));
}

TEST(SenderRepair, ARepeatedNakIsSwallowedWhileItsRepairLingersAndAnsweredAfterwards) {
  Lossy lossy;
  lossy.world.nak(*lossy.stream, 3 * kMessage, kMessage);
  EXPECT_EQ(lossy.repairs().size(), 1u);
  lossy.world.clock.advance(lossy.world.config.retransmitUnicastLingerNs - kMilliNs);
  lossy.world.nak(*lossy.stream, 3 * kMessage, kMessage);
  EXPECT_EQ(lossy.repairs().size(), 0u);
  EXPECT_EQ(lossy.world.count(OutriggerCounter::kRetransmitsSuppressed), 1);
  lossy.world.clock.advance(kMilliNs);
  lossy.world.nak(*lossy.stream, 3 * kMessage, kMessage);
  EXPECT_EQ(lossy.repairs(), Positions{3 * kMessage});
}

TEST(SenderRepair, OfAnOverlappingNakOnlyWhatIsNotUnderWayGoesOut) {
  Lossy lossy;
  lossy.world.nak(*lossy.stream, 4 * kMessage, 2 * kMessage);
  lossy.world.nak(*lossy.stream, 8 * kMessage, kMessage);
  EXPECT_EQ(lossy.repairs().size(), 3u);
  lossy.world.nak(*lossy.stream, 3 * kMessage, 7 * kMessage);
  EXPECT_EQ(lossy.repairs(), (Positions{3 * kMessage, 6 * kMessage, 7 * kMessage, 9 * kMessage}));
}

TEST(SenderRepair, TheLingerFollowsTheMeasuredRoundTrip) {
  Lossy lossy;
  lossy.world.clock.advance(kSecondNs);
  lossy.world.nak(*lossy.stream, 3 * kMessage, kMessage);
  lossy.world.steps(2);
  lossy.answerRoundTrip(400 * kMicroNs);
  lossy.world.takePayload();
  lossy.world.clock.advance(10 * kMilliNs);
  lossy.world.nak(*lossy.stream, 3 * kMessage, kMessage);
  EXPECT_EQ(lossy.repairs().size(), 1u);
  lossy.world.clock.advance(200 * kMicroNs);
  lossy.world.nak(*lossy.stream, 3 * kMessage, kMessage);
  EXPECT_EQ(lossy.repairs().size(), 0u);
  lossy.world.clock.advance(200 * kMicroNs);
  lossy.world.nak(*lossy.stream, 3 * kMessage, kMessage);
  EXPECT_EQ(lossy.repairs().size(), 1u) << "a round trip has passed";
}

TEST(SenderRepair, ARoundTripLongerThanTheRepeatIntervalOfTheQuestionIsMeasuredAllTheSame) {
  Lossy lossy;
  lossy.world.clock.advance(kSecondNs);
  lossy.world.nak(*lossy.stream, kMessage, kMessage);
  lossy.world.steps(2);
  const auto questions = lossy.world.take([](const Datagram& d) { return d.type() == wire::FrameType::kRttMeasurement; });
  ASSERT_EQ(questions.size(), 1u);
  for (int64_t i = 2; i < 8; ++i) {
    lossy.world.clock.advance(3 * kMilliNs);
    lossy.world.nak(*lossy.stream, i * kMessage, kMessage);
    lossy.world.steps(2);
  }
  auto answer = questions[0].as<wire::RttMeasurementFrame>();
  answer.header.flags = 0;
  answer.receptionDeltaNs = 14 * kMilliNs;  // the receiver kept it for a while
  lossy.world.receive(*lossy.stream->publication->endpoint(), answer);
  lossy.world.steps(2);
  EXPECT_EQ(lossy.world.count(SystemCounter::kInvalidPackets), 0);
  lossy.world.clock.advance(20 * kMilliNs);
  lossy.world.takePayload();
  lossy.world.nak(*lossy.stream, kMessage, kMessage);
  EXPECT_EQ(lossy.repairs().size(), 1u);
  lossy.world.clock.advance(3 * kMilliNs);  // three quarters of 18 - 14 ms
  lossy.world.nak(*lossy.stream, kMessage, kMessage);
  EXPECT_EQ(lossy.repairs().size(), 1u);
}

TEST(SenderRepair, HostileNaksAreCountedAndReadNothingOutsideTheStream) {
  Lossy lossy;
  const auto send = [&](int32_t termId, int32_t termOffset, int32_t length) {
    wire::NakFrame nak{};
    nak.header = {static_cast<int32_t>(sizeof(nak)), 0, 0, static_cast<uint16_t>(wire::FrameType::kNak)};
    nak.sessionId = kSession;
    nak.streamId = kStream;
    nak.termId = termId;
    nak.termOffset = termOffset;
    nak.length = length;
    lossy.world.receive(*lossy.stream->publication->endpoint(), nak);
    lossy.world.clock.advance(kSecondNs / 10);
    const int64_t before = lossy.world.count(SystemCounter::kInvalidPackets) + lossy.world.count(OutriggerCounter::kRetransmitsSuppressed);
    const size_t repairs = lossy.repairs().size();
    const int64_t counted =
        lossy.world.count(SystemCounter::kInvalidPackets) + lossy.world.count(OutriggerCounter::kRetransmitsSuppressed) - before;
    return std::pair<size_t, int64_t>(repairs, counted);
  };
  const std::pair<size_t, int64_t> dropped{0, 1};
  const std::pair<size_t, int64_t> ignored{0, 0};
  EXPECT_EQ(send(kInitialTermId, 0, 0), ignored) << "older stock receivers send them";
  EXPECT_EQ(send(kInitialTermId, 0, -1), dropped);
  EXPECT_EQ(send(kInitialTermId, 0, INT32_MIN), dropped);
  EXPECT_EQ(send(kInitialTermId, -32, 1024), dropped);
  EXPECT_EQ(send(kInitialTermId, kTermLength, 1024), dropped);
  EXPECT_EQ(send(kInitialTermId, INT32_MAX, 1024), dropped);
  EXPECT_EQ(send(kInitialTermId, 16 * kMessage, 1024), dropped) << "not sent yet";
  EXPECT_EQ(send(kInitialTermId + 1, 0, 1024), dropped) << "not sent yet";
  EXPECT_EQ(send(kInitialTermId - 1, kTermLength - 1024, 1024), dropped) << "before the stream began";
  EXPECT_EQ(send(INT32_MIN, 0, 1024), dropped);
  EXPECT_EQ(send(INT32_MAX, 0, 1024), dropped);
  EXPECT_EQ(send(kInitialTermId, 33, 1024), dropped) << "no frame can begin there";
  EXPECT_EQ(send(kInitialTermId, 64, 1024), dropped) << "no frame begins there";
  EXPECT_EQ(send(kInitialTermId, 15 * kMessage, INT32_MAX), (std::pair<size_t, int64_t>{1, 0})) << "cut to what was sent";
}

TEST(SenderRepair, AStreamThatStartedLateAnswersForNothingBeforeItsStart) {
  World world;
  PublicationOptions options;
  options.startTermId = kInitialTermId + 1;
  options.startTermOffset = 8192;
  Stream& stream = world.publish(world.unicast(), options);
  world.connect(stream);
  stream.append(992, 4);
  world.step();
  world.io.sent.clear();
  world.nak(stream, kTermLength + 4096, 1024);
  world.steps(3);
  EXPECT_EQ(world.takePayload().size(), 0u);
  EXPECT_EQ(world.count(OutriggerCounter::kRetransmitsSuppressed), 1);
  world.nak(stream, kTermLength + 8192, 1024);
  world.steps(3);
  EXPECT_EQ(world.takePayload().size(), 1u);
}

TEST(SenderRepair, WhatLiesTooFarBackIsNotRepaired) {
  World world;
  Stream& stream = world.publish(world.unicast());
  world.connect(stream);
  while (stream.producer < 4 * int64_t{kTermLength}) {
    stream.append(992, 4);
    world.steps(2);
    world.statusMessage(stream, stream.producer, kTermLength / 2);
    world.steps(2);
  }
  world.io.sent.clear();
  const int64_t reach = kTermLength / 2 + logbuffer::maxMessageLength(kTermLength);
  world.nak(stream, stream.producer - reach - kMessage, kMessage);
  world.steps(2);
  EXPECT_EQ(world.takePayload().size(), 0u);
  world.nak(stream, stream.producer - reach, kMessage);
  world.steps(2);
  EXPECT_EQ(world.takePayload().size(), 1u);
}

TEST(SenderRepair, APadIsRepairedByItsHeaderAndARangeDoesNotRunIntoTheNextTerm) {
  World world;
  Stream& stream = world.publish(world.unicast());
  world.connect(stream);
  while (stream.producer < kTermLength + 4096) {
    stream.append(1300, 4);
    world.steps(2);
    world.statusMessage(stream, stream.producer, kTermLength / 2);
    world.steps(2);
  }
  world.io.sent.clear();
  const int64_t pad = kTermLength - kTermLength % 1344;
  world.nak(stream, pad, 3 * 1344);
  world.steps(2);
  const auto sent = world.takePayload();
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(sent[0].type(), wire::FrameType::kPad);
  EXPECT_EQ(sent[0].bytes.size(), 32u);
  EXPECT_EQ(positionOf(stream, sent[0]), pad);
}

TEST(SenderRepair, ALyingPeerCannotMakeTheSenderAnAmplifier) {
  World world;
  PublicationOptions options;
  options.termLength = 1024 * 1024;
  Stream& stream = world.publish(world.unicast(), options);
  world.connect(stream, 16 * 1024);
  while (stream.producer < 256 * 1024) {
    stream.append(992, 8);
    world.steps(2);
    world.statusMessage(stream, stream.producer, 16 * 1024);
    world.steps(2);
  }
  world.io.sent.clear();
  const int64_t before = world.count(SystemCounter::kRetransmittedBytes);
  for (int64_t at = 0; at < stream.producer; at += 4096) world.nak(stream, at, 4096);
  world.steps(10);
  EXPECT_LE(world.count(SystemCounter::kRetransmittedBytes) - before, 2 * 16 * 1024);
  EXPECT_GT(world.count(OutriggerCounter::kRetransmitsSuppressed), 0);
  world.clock.advance(world.config.retransmitUnicastLingerNs);
  world.nak(stream, 128 * 1024, 4096);
  world.steps(2);
  EXPECT_LE(world.count(SystemCounter::kRetransmittedBytes) - before, 2 * 16 * 1024 + 4096);
  EXPECT_GT(world.count(SystemCounter::kRetransmittedBytes) - before, 16 * 1024);
}

TEST(SenderRepair, ARepairThatFoundTheSocketFullIsSentOnTheNextNakWithoutWaiting) {
  Lossy lossy;
  lossy.world.io.room = 0;
  lossy.world.nak(*lossy.stream, 2 * kMessage, kMessage);
  EXPECT_EQ(lossy.repairs().size(), 0u);
  lossy.world.io.room = INT64_MAX;
  lossy.world.nak(*lossy.stream, 2 * kMessage, kMessage);
  EXPECT_EQ(lossy.repairs(), Positions{2 * kMessage});
}

TEST(SenderRepair, ARangeThatEndsInsideAFrameLeavesThatFrameToTheNextNak) {
  Lossy lossy;
  lossy.world.nak(*lossy.stream, 2 * kMessage, kMessage + 32);
  EXPECT_EQ(lossy.repairs(), Positions{2 * kMessage});
  lossy.world.nak(*lossy.stream, 3 * kMessage, kMessage);
  EXPECT_EQ(lossy.repairs(), Positions{3 * kMessage}) << "was not booked as under way";
  EXPECT_EQ(lossy.world.count(SystemCounter::kInvalidPackets), 0);
}

TEST(SenderRepair, WhereDatagramsGetLostAnEarlyHeartbeatShowsTheLossOfALastOne) {
  Lossy lossy;
  World& world = lossy.world;
  world.nak(*lossy.stream, 3 * kMessage, kMessage);
  world.steps(2);
  lossy.stream->append(100);
  world.step();
  world.takePayload();
  EXPECT_LE(world.sender->nextDeadlineNs(world.clock.nanoTime()), world.clock.nanoTime() + 10 * kMilliNs);
  std::vector<Datagram> beats;
  for (int32_t i = 0; i < 80; ++i) {
    world.step(kMilliNs);
    for (Datagram& beat : world.takeHeartbeats()) beats.push_back(std::move(beat));
  }
  ASSERT_EQ(beats.size(), 3u) << "early ones are few";
  for (const Datagram& beat : beats) EXPECT_EQ(positionOf(*lossy.stream, beat), lossy.stream->producer);
  world.step(2 * kSecondNs);
  lossy.stream->append(100);
  world.step();
  world.takePayload();
  for (int32_t i = 0; i < 99; ++i) world.step(kMilliNs);
  EXPECT_EQ(world.takeHeartbeats().size(), 0u) << "the loss is long ago";
}

TEST(RetransmitHandler, KeepsManyRangesAndSaysWhenThereAreTooMany) {
  RetransmitHandler handler(10 * kMilliNs);
  std::array<RetransmitHandler::Range, 16> out;
  int64_t suppressed = 0;
  bool overflow = false;
  for (int32_t i = 0; i < RetransmitHandler::kCapacity; ++i) {
    ASSERT_EQ(handler.onNak(i * 100, i * 100 + 50, 0, out, suppressed, overflow), 1);
    ASSERT_FALSE(overflow);
    handler.onSent(out[0].begin, out[0].end, 0);
  }
  EXPECT_EQ(handler.onNak(1'000'000, 1'000'100, 0, out, suppressed, overflow), 0);
  EXPECT_TRUE(overflow);
  EXPECT_EQ(handler.onNak(1'000'000, 1'000'100, 10 * kMilliNs, out, suppressed, overflow), 1);
  EXPECT_FALSE(overflow);
  EXPECT_EQ(handler.pending(), 0);
}

TEST(RetransmitHandler, TheLingerStaysBetweenItsFloorAndTheConfiguredMaximum) {
  RetransmitHandler handler(10 * kMilliNs);
  EXPECT_EQ(handler.lingerNs(), 10 * kMilliNs) << "unknown round trip: what stock senders wait";
  handler.onRttSample(-5);
  handler.onRttSample(INT64_MAX);
  EXPECT_EQ(handler.lingerNs(), 10 * kMilliNs);
  handler.onRttSample(1);
  EXPECT_GE(handler.lingerNs(), 50 * kMicroNs);
  RetransmitHandler far(10 * kMilliNs);
  far.onRttSample(kSecondNs);
  EXPECT_EQ(far.lingerNs(), 10 * kMilliNs);
}

}  // namespace
}  // namespace outrigger::driver::testing
