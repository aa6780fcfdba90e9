// SPDX-License-Identifier: Apache-2.0
// How memory is divided, and which device gets zero-copy on it. Nothing is opened.
#include "io/xdp/xdp_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "io/xdp/xdp_frame_io.h"

namespace outrigger::io::xdp {
namespace {

using ::testing::HasSubstr;

constexpr uint32_t kChunkBytes = 4096;

InterfaceFacts igb(uint32_t descriptors) {
  InterfaceFacts facts;
  facts.driver = "igb";
  facts.receiveDescriptors = descriptors;
  return facts;
}

TEST(XdpPlanTest, WithZeroCopyTheReceiveRingRunsFullBeforeTheFillRingRunsDry) {
  const RingSizes copying = ringSizesFor(16u << 20, kChunkBytes, 2);
  EXPECT_EQ(copying.receive, copying.fill);
  const RingSizes zeroCopy = ringSizesFor(16u << 20, kChunkBytes, 2, XskMode::kZeroCopy);
  EXPECT_EQ(zeroCopy.fill, copying.fill) << "as many chunks as before";
  EXPECT_EQ(zeroCopy.receive, copying.fill / 2);
}

TEST(XdpPlanTest, IgbIsRefusedZeroCopyWhereAFillRingCouldRunDryAndTheRefusalSaysHowMuchWouldDo) {
  const RingSizes small = ringSizesFor(1u << 20, kChunkBytes, 2, XskMode::kZeroCopy);
  const auto refused = checkZeroCopyRings(igb(256), "eth7", small, 2, kChunkBytes);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kNotSupported);
  EXPECT_THAT(refused.error().message, HasSubstr("eth7"));
  EXPECT_THAT(refused.error().message, HasSubstr("16777216 bytes"));

  const RingSizes named = ringSizesFor(16777216, kChunkBytes, 2, XskMode::kZeroCopy);
  EXPECT_TRUE(checkZeroCopyRings(igb(256), "eth7", named, 2, kChunkBytes)) << "what the refusal names is enough";
  EXPECT_TRUE(checkZeroCopyRings(igb(0), "eth7", named, 2, kChunkBytes)) << "a device that does not say has as many as usual";
  EXPECT_FALSE(checkZeroCopyRings(igb(1024), "eth7", named, 2, kChunkBytes)) << "more descriptors hold more chunks";
}

TEST(XdpPlanTest, OtherDriversHaveZeroCopyOnAnyMemory) {
  InterfaceFacts facts = igb(4096);
  facts.driver = "ice";
  EXPECT_TRUE(checkZeroCopyRings(facts, "eth7", ringSizesFor(256u << 10, kChunkBytes, 2, XskMode::kZeroCopy), 2, kChunkBytes));
}

}  // namespace
}  // namespace outrigger::io::xdp
