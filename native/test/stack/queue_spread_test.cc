// SPDX-License-Identifier: Apache-2.0
// Source ports by the device's hash: where the answers to an endpoint arrive.
#include <array>

#include "io/stack/queue_spread.h"
#include "stack_world.h"

namespace outrigger::io::testing {
namespace {

constexpr uint32_t kQueues = 4;

class StackQueueSpread : public StackWorld {
 protected:
  void SetUp() override {
    HostOptions a;
    a.station.queues = kQueues;
    makeHosts(a);
  }
  std::unique_ptr<Endpoint> open(const EndpointConfig& config) {
    auto opened = hostA->faces[0]->openEndpoint(config);
    EXPECT_TRUE(opened.ok()) << opened.error().message;
    return opened.ok() ? opened.take() : nullptr;
  }
  static EndpointConfig towards(const SockAddr& peer, const char* from) {
    EndpointConfig config;
    config.bindAddress = at(from);
    config.peer = peer;
    return config;
  }
  static uint32_t queueOf(const Endpoint& endpoint) { return endpoint.localAddress().port() % kQueues; }
};

TEST_F(StackQueueSpread, putsTheAnswersOfEachNextOneOnTheQueueWithTheFewest) {
  std::vector<std::unique_ptr<Endpoint>> endpoints;
  std::array<uint32_t, kQueues> found{};
  for (uint32_t i = 0; i < 3 * kQueues; ++i) {
    // A wildcard's local address is the one that the route has.
    endpoints.push_back(open(towards(at(kHostB, 40123), i % 2 == 0 ? kHostA : "0.0.0.0")));
    ASSERT_NE(endpoints.back(), nullptr);
    ++found[queueOf(*endpoints.back())];
  }
  EXPECT_EQ(found, (std::array<uint32_t, kQueues>{3, 3, 3, 3}));
  // One that goes makes room for the next.
  const uint32_t left = queueOf(*endpoints[5]);
  endpoints[5].reset();
  EXPECT_EQ(queueOf(*open(towards(at(kHostB, 40123), kHostA))), left);
}

TEST_F(StackQueueSpread, leavesAPortThatIsGivenOrHasNoOnePeer) {
  const auto given = open(towards(at(kHostB, 40123), kHostA));
  EndpointConfig again = towards(at(kHostB, 40123), kHostA);
  again.bindAddress.setPort(given->localAddress().port());
  auto refused = hostA->faces[0]->openEndpoint(again);
  ASSERT_FALSE(refused.ok()) << "no other port was taken in its stead";
  EXPECT_EQ(refused.error().sysErrno, EADDRINUSE);
  EndpointConfig anybody;
  anybody.bindAddress = at(kHostA);
  EXPECT_NE(open(anybody), nullptr);
  EXPECT_NE(open(towards(at(kHostB, 0), kHostA)), nullptr);
}

TEST_F(StackQueueSpread, doesWithoutWhereNoRouteLeads) {
  // No source address, so no hash: the port is the kernel's choice.
  EXPECT_NE(open(towards(at("2001:db8:66::9", 40123), "::")), nullptr);
  EXPECT_NE(open(towards(at(kHostB, 40123), kHostA)), nullptr);
}

}  // namespace
}  // namespace outrigger::io::testing
