// SPDX-License-Identifier: Apache-2.0
// Untethered subscribers: one that does not keep up is cut off, lingers, rests and comes back, over UDP, IPC and as a spy.
#include "driver_world.h"

namespace outrigger::driver::testing {
namespace {

constexpr const char* kTimeouts =
    "|tether=false|untethered-window-limit-timeout=2s|untethered-linger-timeout=1s|untethered-resting-timeout=3s";

size_t drain(client::Subscription& sub) {
  size_t count = 0;
  while (sub.poll([&](const uint8_t*, int32_t, const client::FragmentHeader&) { ++count; }, 64) > 0) {
  }
  return count;
}

struct Case {
  const char* name;
  const char* publication;
  const char* tethered;
  const char* untethered;
};

class Untethered : public DriverWorld, public ::testing::WithParamInterface<Case> {
 public:
  DriverHost& a = host("10.0.0.1");
  std::shared_ptr<client::Publication> pub;
  std::shared_ptr<client::Subscription> fast;
  std::shared_ptr<client::Subscription> slow;
  size_t sent = 0;

  void start(const std::string& extra = "") {
    auto& client = connect(a);
    fast = subscription(client, GetParam().tethered, kStream);
    slow = subscription(client, std::string(GetParam().untethered) + kTimeouts + extra, kStream);
    pub = publication(client, GetParam().publication, kStream);
    ASSERT_TRUE(until([&] { return pub->isConnected() && fast->isConnected() && slow->isConnected(); }));
  }
  // Publishes as fast as it is let, the tethered one reads, until the condition holds.
  bool publishUntil(const std::function<bool()>& condition, int64_t withinNs) {
    const std::string message(1000, 'x');
    return until(
        [&] {
          if (pub->offer(message.data(), 1000) > 0) ++sent;
          drain(*fast);
          return condition();
        },
        withinNs, kMilliNs);
  }
};

TEST_P(Untethered, OneThatFallsBehindIsCutOffRestsAndComesBack) {
  start();
  ASSERT_TRUE(publishUntil([&] { return !slow->isConnected(); }, 10 * kSecondNs));
  const size_t sentWhenCut = sent;
  EXPECT_TRUE(fast->isConnected());
  // Once it has lingered it holds nothing back any more.
  ASSERT_TRUE(publishUntil([&] { return sent > sentWhenCut + 200; }, 5 * kSecondNs));
  ASSERT_TRUE(publishUntil([&] { return slow->isConnected(); }, 10 * kSecondNs));
  EXPECT_GT(slow->images().front()->joinPosition(), static_cast<int64_t>(sentWhenCut) * 1000);
  EXPECT_TRUE(publishUntil([&] { return drain(*slow) > 0; }, kSecondNs));
}

TEST_P(Untethered, OneThatKeepsUpIsLeftAlone) {
  start();
  EXPECT_FALSE(publishUntil(
      [&] {
        drain(*slow);
        return !slow->isConnected();
      },
      10 * kSecondNs));
  EXPECT_GT(sent, 1000U);
}

// Not over UDP beside one that rejoins: rejoin= must be the same for all subscriptions of a received stream.
class UntetheredWithoutRejoin : public Untethered {};

TEST_P(UntetheredWithoutRejoin, StaysAway) {
  start("|rejoin=false");
  ASSERT_TRUE(publishUntil([&] { return !slow->isConnected(); }, 10 * kSecondNs));
  EXPECT_FALSE(publishUntil([&] { return slow->isConnected(); }, 15 * kSecondNs));
}

constexpr const char* kUdp = "aeron:udp?endpoint=10.0.0.1:4000";
constexpr Case kOverUdp{"Udp", kUdp, kUdp, kUdp};
constexpr Case kOverIpc{"Ipc", "aeron:ipc", "aeron:ipc", "aeron:ipc?alias=slow"};
constexpr Case kAsSpy{"Spy", kUdp, kUdp, "aeron-spy:aeron:udp?endpoint=10.0.0.1:4000"};
const auto nameOf = [](const auto& each) { return each.param.name; };

INSTANTIATE_TEST_SUITE_P(Media, Untethered, ::testing::Values(kOverUdp, kOverIpc, kAsSpy), nameOf);
INSTANTIATE_TEST_SUITE_P(Media, UntetheredWithoutRejoin, ::testing::Values(kOverIpc, kAsSpy), nameOf);

}  // namespace
}  // namespace outrigger::driver::testing
