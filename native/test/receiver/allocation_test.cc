// SPDX-License-Identifier: Apache-2.0
// The data path takes no memory once an image stands: runs, holes, repairs, status messages, NAKs, heartbeats. Counts every operator new of
// this program.
#include <array>

#include "counted_allocation.h"
#include "receiver_world.h"

namespace outrigger::driver::testing {
namespace {

// A network that keeps nothing; `train` is what the next poll delivers.
class QuietIo final : public io::DatagramIo {
 public:
  io::Caps capabilities{"quiet", true, true, 65507, 64, ""};
  io::Endpoint* endpoint = nullptr;
  io::SockAddr source = address(kSenderPort);
  int64_t sent = 0;

  void deliver(const Bytes& bytes, uint32_t segment) {
    data_ = bytes.data();
    length_ = static_cast<uint32_t>(bytes.size());
    segment_ = segment;
  }

  const io::Caps& caps() const override { return capabilities; }
  Result<std::unique_ptr<io::Endpoint>> openEndpoint(const io::EndpointConfig&) override {
    return std::unique_ptr<io::Endpoint>(std::make_unique<FakeEndpoint>());
  }
  Result<std::unique_ptr<io::NextHop>> resolve(io::Endpoint&, const io::SockAddr& to) override {
    return std::unique_ptr<io::NextHop>(std::make_unique<FakeNextHop>(to));
  }
  void attach(io::Endpoint&) override {}
  void detach(io::Endpoint&) override {}
  uint32_t poll(io::RxBurst& burst, int64_t) override {
    burst.count = 0;
    if (length_ == 0) return 0;
    burst.packets[burst.count++] = {data_, length_, segment_, endpoint, &source, nullptr};
    length_ = 0;
    return 1;
  }
  uint32_t transmit(io::Endpoint&, std::span<io::TxItem> items) override { return static_cast<uint32_t>(items.size()); }
  io::TxStatus reserve(io::Endpoint&, const io::SockAddr&, uint32_t length, io::TxSlot& slot) override {
    slot = {slot_.data(), length, 0};
    return io::TxStatus::kPending;
  }
  io::TxStatus commit(io::Endpoint&, const io::SockAddr&, io::TxSlot&, uint32_t) override {
    ++sent;
    return io::TxStatus::kSent;
  }
  void abort(io::Endpoint&, io::TxSlot&) override {}
  int waitHandle() const override { return -1; }
  bool arm() override { return true; }

 private:
  const uint8_t* data_ = nullptr;
  uint32_t length_ = 0;
  uint32_t segment_ = 0;
  std::array<uint8_t, 2048> slot_{};
};

TEST(ReceiverAllocation, AnImageThatStandsCostsNone) {
  ReceiverWorld world;
  QuietIo quiet;
  world.receiver =
      std::make_unique<Receiver>(quiet, world.config, world.counters, world.commands, world.events, world.doorbells, world.clock);
  world.endpoint.channel.timestamps.mediaReceive = net::TimestampOffsets::kReservedValue;
  world.open();
  quiet.endpoint = world.endpoint.socket.get();
  // Everything that will arrive, made beforehand.
  std::vector<Bytes> trains;
  for (int64_t at = 0; at < 6 * int64_t{kTermLength}; at += 4096) {
    trains.push_back(ReceiverWorld::frames(at, 480, 1));
    trains.push_back(ReceiverWorld::frames(at + 1024, 480, 6));
    trains.push_back(ReceiverWorld::heartbeat(at + 4096));
    trains.push_back(ReceiverWorld::frames(at + 512, 480, 1));
  }
  const int64_t before = outrigger::testing::allocations.load();
  for (const Bytes& train : trains) {
    quiet.deliver(train, std::min<uint32_t>(512, static_cast<uint32_t>(train.size())));
    world.step(10 * kMicroNs);
    world.step(10 * kMicroNs);
    world.read();
    AgentEvent event;
    while (world.events.poll(event)) {
    }
  }
  world.step(200 * kMilliNs);
  EXPECT_EQ(outrigger::testing::allocations.load() - before, 0);
  EXPECT_EQ(world.position.get(), 6 * int64_t{kTermLength});
  EXPECT_GT(world.count(cnc::SystemCounter::kNaksSent), 0);
  EXPECT_GT(quiet.sent, 0);
}

TEST(ReceiverAllocation, StrangersThatThePolicyDoesNotAdmitCostNone) {
  ReceiverWorld world;
  world.config.policyFile = "/run/own/policy";
  QuietIo quiet;
  world.receiver =
      std::make_unique<Receiver>(quiet, world.config, world.counters, world.commands, world.events, world.doorbells, world.clock);
  world.open();
  quiet.endpoint = world.endpoint.socket.get();
  const auto setup = ReceiverWorld::setup(kSession + 1);
  const auto* bytes = reinterpret_cast<const uint8_t*>(&setup);
  const Bytes asked(bytes, bytes + sizeof(setup));
  const Bytes data = ReceiverWorld::frame(0, 480, kSession + 2);
  const int64_t before = outrigger::testing::allocations.load();
  for (uint16_t port = 1; port <= 200; ++port) {
    quiet.source.setPort(port);
    quiet.deliver(asked, 0);
    world.step(kMilliNs);
    quiet.deliver(data, 0);
    world.step(kMilliNs);
  }
  EXPECT_EQ(outrigger::testing::allocations.load() - before, 0);
  EXPECT_EQ(world.count(cnc::OutriggerCounter::kSourcesRefused), 400);
}

}  // namespace
}  // namespace outrigger::driver::testing
