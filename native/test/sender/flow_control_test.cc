// SPDX-License-Identifier: Apache-2.0
// The three flow control strategies, each on its own: what status messages, silence and newcomers do to the sender's limit.
#include "driver/flow_control.h"

#include <gtest/gtest.h>

#include "net/udp_channel.h"

namespace outrigger::driver {
namespace {

constexpr int32_t kTerm = 1024 * 1024;
constexpr int32_t kWindow = 10'000;

struct Strategy {
  DriverConfig config;
  net::UdpChannel channel;
  std::unique_ptr<FlowControl> flow;
  int64_t limit = 0;
  int64_t sender = 0;
  int64_t nowNs = kSecondNs;

  Strategy& group() {
    channel.controlMode = net::ControlMode::kManual;
    return *this;
  }
  Strategy& min() {
    channel.flowControl.kind = net::FlowControlKind::kMin;
    return group();
  }
  Strategy& tagged(int64_t tag) {
    channel.flowControl.kind = net::FlowControlKind::kTagged;
    channel.flowControl.hasGroupTag = true;
    channel.flowControl.groupTag = tag;
    return group();
  }
  Strategy& minSize(int32_t size) {
    channel.flowControl.groupMinSize = size;
    return *this;
  }
  Strategy& timeout(int64_t ns) {
    channel.flowControl.receiverTimeoutNs = ns;
    return *this;
  }
  Strategy& make() {
    flow = makeFlowControl(channel, config, kTerm);
    return *this;
  }
  int64_t hear(int64_t receiver, int64_t position, uint8_t flags = 0) {
    return limit = flow->onStatusMessage({position, kWindow, receiver, false, 0, flags}, limit, sender, nowNs);
  }
  int64_t hearTagged(int64_t receiver, int64_t position, int64_t tag) {
    return limit = flow->onStatusMessage({position, kWindow, receiver, true, tag, 0}, limit, sender, nowNs);
  }
  int64_t idle(int64_t afterNs) {
    nowNs += afterNs;
    return limit = flow->onIdle(nowNs, limit, sender, false);
  }
};

TEST(MaxFlowControl, TheFastestReceiverLeadsAndTheLimitNeverFalls) {
  Strategy max;
  max.group().make();
  EXPECT_TRUE(max.flow->hasRequiredReceivers());
  EXPECT_EQ(max.hear(1, 5'000), 15'000);
  EXPECT_EQ(max.hear(2, 1'000), 15'000);
  EXPECT_EQ(max.hear(2, 20'000), 30'000);
  EXPECT_EQ(max.idle(60 * kSecondNs), 30'000);
}

TEST(MaxFlowControl, AUnicastStreamHasItWhateverTheDriversDefaultForGroupsIs) {
  Strategy unicast;
  unicast.config.multicastFlowControl = FlowControlStrategy::kMin;
  unicast.make();
  unicast.hear(1, 5'000);
  EXPECT_EQ(unicast.hear(2, 1'000), 15'000);
}

TEST(MinFlowControl, TheSlowestReceiverHoldsTheGroup) {
  Strategy min;
  min.min().make();
  EXPECT_EQ(min.hear(1, 5'000), 15'000);
  EXPECT_EQ(min.hear(2, 5'500), 15'000);
  EXPECT_EQ(min.flow->receiverCount(), 2);
  EXPECT_EQ(min.hear(1, 9'000), 15'500);
  EXPECT_EQ(min.hear(2, 9'500), 19'000);
}

TEST(MinFlowControl, AStatusMessageThatComesLateDoesNotTakeAPositionBack) {
  Strategy min;
  min.min().make();
  min.hear(1, 9'000);
  EXPECT_EQ(min.hear(1, 5'000), 19'000);
}

TEST(MinFlowControl, ASilentReceiverIsForgottenAfterItsTimeout) {
  Strategy min;
  min.min().timeout(2 * kSecondNs).make();
  min.hear(1, 5'000);
  min.hear(2, 1'000);
  EXPECT_EQ(min.limit, 11'000);
  min.idle(kSecondNs);
  EXPECT_EQ(min.hear(1, 8'000), 11'000);
  EXPECT_EQ(min.idle(kSecondNs), 11'000) << "not before the timeout has passed";
  EXPECT_EQ(min.idle(1), 18'000);
  EXPECT_EQ(min.flow->receiverCount(), 1);
}

TEST(MinFlowControl, TheDriversTimeoutCountsWhenTheChannelNamesNone) {
  Strategy min;
  min.config.flowControlReceiverTimeoutNs = 3 * kSecondNs;
  min.min().make();
  min.hear(1, 5'000);
  min.idle(3 * kSecondNs);
  EXPECT_EQ(min.flow->receiverCount(), 1);
  min.idle(1);
  EXPECT_EQ(min.flow->receiverCount(), 0);
}

TEST(MinFlowControl, AReceiverThatEndsOrRejectsHoldsNobody) {
  Strategy min;
  min.min().make();
  min.hear(1, 5'000);
  min.hear(2, 1'000);
  min.hear(3, 2'000);
  EXPECT_EQ(min.hear(2, 1'000, wire::kSmFlagEos), 12'000);
  min.flow->onReceiverGone(3, min.nowNs);
  EXPECT_EQ(min.idle(0), 15'000);
  EXPECT_EQ(min.flow->receiverCount(), 1);
  min.hear(4, 0, wire::kSmFlagEos);
  EXPECT_EQ(min.flow->receiverCount(), 1) << "one that ends does not join";
}

TEST(MinFlowControl, NothingMovesBeforeTheGroupIsLargeEnough) {
  Strategy min;
  min.min().minSize(3).make();
  min.hear(1, 0);
  EXPECT_EQ(min.hear(2, 0), 0);
  EXPECT_FALSE(min.flow->hasRequiredReceivers());
  EXPECT_EQ(min.hear(3, 0), kWindow);
  EXPECT_TRUE(min.flow->hasRequiredReceivers());
  min.sender = 4'000;
  min.hear(3, 4'000, wire::kSmFlagEos);
  EXPECT_FALSE(min.flow->hasRequiredReceivers());
  EXPECT_EQ(min.limit, 4'000) << "what was sent was sent, no more goes out";
}

TEST(MinFlowControl, AJoinerFarBehindIsNotLetInUntilItHasCaughtUp) {
  Strategy min;
  min.min().make();
  EXPECT_EQ(min.hear(1, 100'000), 110'000);
  EXPECT_EQ(min.hear(2, 50'000), 110'000);
  EXPECT_EQ(min.flow->receiverCount(), 1);
  EXPECT_EQ(min.hear(2, 95'000), 105'000);
  EXPECT_EQ(min.flow->receiverCount(), 2);
}

TEST(MinFlowControl, ASetupHoldsTheLimitForTheJoinerItAnnouncesAndNoLonger) {
  Strategy min;
  min.min().make();
  min.hear(1, 0);
  min.sender = 5'000;
  min.flow->onSetup(min.limit, min.sender, min.nowNs);
  EXPECT_EQ(min.hear(1, 8'000), 10'000) << "the limit stands still";
  EXPECT_EQ(min.hear(2, 5'000), 15'000) << "the joiner has come";
  min.flow->onSetup(min.limit, min.sender, min.nowNs);
  min.hear(1, 12'000);
  min.hear(2, 12'000);
  EXPECT_EQ(min.limit, 15'000);
  EXPECT_EQ(min.idle(kSecondNs), 22'000) << "nobody came";
}

TEST(MinFlowControl, MoreReceiversThanItsTableHoldsNeitherOverflowNorStop) {
  Strategy min;
  min.min().make();
  for (int64_t id = 0; id < 1000; ++id) min.hear(id, 1'000);
  EXPECT_EQ(min.limit, 11'000);
  EXPECT_LE(min.flow->receiverCount(), 1000);
}

TEST(TaggedFlowControl, OnlyReceiversWithTheTagCount) {
  Strategy tagged;
  tagged.tagged(42).make();
  EXPECT_FALSE(tagged.flow->hasRequiredReceivers());
  EXPECT_EQ(tagged.hear(1, 0), 0) << "no tag";
  EXPECT_EQ(tagged.hearTagged(2, 0, 41), 0) << "another tag";
  EXPECT_FALSE(tagged.flow->hasRequiredReceivers());
  EXPECT_EQ(tagged.hearTagged(3, 5'000, 42), 15'000);
  EXPECT_TRUE(tagged.flow->hasRequiredReceivers());
  EXPECT_EQ(tagged.hear(1, 1'000), 15'000);
  EXPECT_EQ(tagged.hearTagged(4, 4'000, 42), 14'000);
  EXPECT_EQ(tagged.flow->receiverCount(), 2);
}

TEST(TaggedFlowControl, TheGroupNeedsItsSizeInReceiversWithTheTag) {
  Strategy tagged;
  tagged.tagged(42).minSize(2).make();
  tagged.hearTagged(1, 0, 42);
  tagged.hear(2, 0);
  tagged.hear(3, 0);
  EXPECT_FALSE(tagged.flow->hasRequiredReceivers());
  EXPECT_EQ(tagged.hearTagged(4, 0, 42), kWindow);
  EXPECT_TRUE(tagged.flow->hasRequiredReceivers());
}

TEST(FlowControl, TheDriversDefaultForGroupsHoldsWhereTheChannelSaysNothing) {
  Strategy group;
  group.config.multicastFlowControl = FlowControlStrategy::kTagged;
  group.config.flowControlGroupTag = 7;
  group.config.flowControlGroupMinSize = 1;
  group.group().make();
  EXPECT_EQ(group.hear(1, 0), 0);
  EXPECT_EQ(group.hearTagged(1, 0, 7), kWindow);
}

TEST(FlowControl, ARepairIsBoundedByTheGapTheTermAndAMultipleOfTheWindow) {
  Strategy unicast;
  unicast.make();
  EXPECT_EQ(unicast.flow->maxRetransmissionLength(500, 10'000, 1'000), 500);
  EXPECT_EQ(unicast.flow->maxRetransmissionLength(500, 100, 1'000), 100);
  EXPECT_EQ(unicast.flow->maxRetransmissionLength(1'000'000, 2'000'000, 1'000), 16'000);
  Strategy group;
  group.min().make();
  EXPECT_EQ(group.flow->maxRetransmissionLength(1'000'000, 2'000'000, 1'000), 4'000);
  Strategy configured;
  configured.channel.flowControl.retransmitReceiverWindowMultiple = 7;
  configured.min().make();
  EXPECT_EQ(configured.flow->maxRetransmissionLength(1'000'000, 2'000'000, 1'000), 7'000);
}

}  // namespace
}  // namespace outrigger::driver
