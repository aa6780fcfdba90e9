// SPDX-License-Identifier: Apache-2.0
// Sender and receiver against each other, one mechanism a test.
#include "stream_world.h"

namespace outrigger::driver::testing {
namespace {

TEST(Stream, WhatIsPublishedIsReadInOrderExactlyOnce) {
  StreamWorld world({});
  ASSERT_TRUE(world.connect());
  EXPECT_TRUE(world.transfer(8 * int64_t{kTermLength}));
  EXPECT_EQ(world.count(cnc::SystemCounter::kRetransmitsSent), 0);
  EXPECT_EQ(world.host().count(cnc::SystemCounter::kNaksSent), 0);
  EXPECT_EQ(world.host().count(cnc::SystemCounter::kInvalidPackets), 0);
  EXPECT_EQ(world.host().count(cnc::SystemCounter::kFlowControlOverRuns), 0);
}

TEST(Stream, LossIsRepaired) {
  StreamOptions options;
  options.link.loss = 0.1;
  StreamWorld world(options);
  ASSERT_TRUE(world.connect());
  EXPECT_TRUE(world.transfer(8 * int64_t{kTermLength}));
  EXPECT_GT(world.host().count(cnc::SystemCounter::kNaksSent), 0);
  EXPECT_GT(world.host().lostBytes, 0);
}

}  // namespace
}  // namespace outrigger::driver::testing
