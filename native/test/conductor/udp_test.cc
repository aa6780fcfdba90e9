// SPDX-License-Identifier: Apache-2.0
// Publications, subscriptions and images over UDP, through the whole driver.
#include "driver_world.h"

namespace outrigger::driver::testing {
namespace {

constexpr const char* kChannel = "aeron:udp?endpoint=10.0.0.2:4000";

class Udp : public DriverWorld {};

TEST_F(Udp, AMessageReachesASubscriberOnAnotherHost) {
  DriverHost& a = host("10.0.0.1");
  DriverHost& b = host("10.0.0.2");
  auto& publisher = connect(a);
  auto& subscriber = connect(b);
  const auto sub = subscription(subscriber, kChannel, 10);
  const auto pub = publication(publisher, kChannel, 10);
  ASSERT_TRUE(until([&] { return pub->isConnected() && sub->isConnected(); }));
  ASSERT_GT(offerWithin(*this, *pub, "hello"), 0);
  std::string got;
  ASSERT_TRUE(until([&] {
    return sub->poll([&](const uint8_t* data, int32_t length,
                         const client::FragmentHeader&) { got.assign(reinterpret_cast<const char*>(data), static_cast<size_t>(length)); },
                     10) > 0;
  }));
  EXPECT_EQ(got, "hello");
}

}  // namespace
}  // namespace outrigger::driver::testing
