// SPDX-License-Identifier: Apache-2.0
// A driver that its owner ends, stepped by that owner: it ends in order whatever its clock does meanwhile.
#include "driver_world.h"
#include "forwarding_io.h"

namespace outrigger::driver::testing {
namespace {

// Endpoints that agents have, of all instances.
class CountingIo final : public outrigger::testing::ForwardingIo {
 public:
  CountingIo(std::unique_ptr<io::DatagramIo> inner, int& attached) : ForwardingIo(std::move(inner)), attached_(attached) {}
  void attach(io::Endpoint& endpoint) override {
    ++attached_;
    inner().attach(endpoint);
  }
  void detach(io::Endpoint& endpoint) override {
    --attached_;
    inner().detach(endpoint);
  }

 private:
  int& attached_;
};

// The conductor rests after a step that found nothing, and all the cycles that an invoker closes with may take less time than that, or none. (A
// publication would linger, for which an invoker does not wait.)
TEST(ClosingOfAnInvoker, TakesASubscriptionsEndpointFromTheReceiverThoughItsClockStandsStill) {
  io::SimNetwork network(DriverWorld::simOptions());
  ManualClock clock;
  network.setNow(clock.nanoTime());
  int attached = 0;
  const auto makeIo = [&]() -> Result<std::unique_ptr<io::DatagramIo>> {
    auto inner = network.createIo("10.0.0.1");
    if (!inner) return inner.error();
    return std::unique_ptr<io::DatagramIo>(std::make_unique<CountingIo>(inner.take(), attached));
  };
  DriverHost host(makeIo, clock, "10.0.0.1", DriverWorld::smallConfig());
  client::MediaClientOptions options;
  options.directory = host.directory();
  options.useDoorbells = false;
  auto client = client::MediaClient::connect(options, clock.nanoTime(), clock.epochMillis());
  ASSERT_TRUE(client.ok()) << client.error().message;
  const int64_t subscription = (*client)->addSubscription("aeron:udp?endpoint=10.0.0.1:4000", 10);
  const auto isOpen = [&] { return (*client)->status(subscription).done(); };
  for (int i = 0; i < 1000 && !isOpen(); ++i) {
    host.driver().doWork();
    (*client)->doWork(clock.nanoTime(), clock.epochMillis());
    clock.advance(100'000);
    network.setNow(clock.nanoTime());
  }
  ASSERT_TRUE(isOpen());
  ASSERT_EQ(attached, 1);
  for (int i = 0; i < 10 && host.driver().doWork() > 0; ++i) continue;
  host.stop();
  EXPECT_EQ(attached, 0);
}

}  // namespace
}  // namespace outrigger::driver::testing
