// SPDX-License-Identifier: Apache-2.0
// Whole drivers over NetStack on a simulated wire: streams, destinations that can't be found, MTUs, under a virtual clock on one thread. The device
// is one that the kernel does not own, so ARP is part of it.
#include "conductor/driver_world.h"
#include "io/sim/sim_wire.h"
#include "io/stack/stack_face.h"
#include "net/fixed_tables.h"

namespace outrigger::driver::testing {
namespace {

constexpr int32_t kStream = 10;

class DriversOverStack : public DriverWorld {
 protected:
  struct Station {
    std::shared_ptr<net::FixedTables> tables;
    std::shared_ptr<io::NetStack> stack;
    DriverHost* host = nullptr;
    int64_t count(io::StackCounter counter) const { return stack->stats()[counter]; }
  };

  DriversOverStack() {
    onClock_ = [this](int64_t nowNs) { wire_.setNow(nowNs); };
  }
  // The wire outlives its stations.
  ~DriversOverStack() override {
    clients_.clear();
    hosts_.clear();
  }

  Station station(uint8_t number, uint32_t mtu = 1500, DriverConfig config = smallConfig()) {
    const std::string address = "10.77.0." + std::to_string(number);
    Station made;
    made.tables = std::make_shared<net::FixedTables>(1, mtu);
    EXPECT_TRUE(made.tables->addAddress(address + "/24").ok());
    io::SimStationOptions options;
    options.mac = {0x02, 0, 0, 0, 0, number};
    options.mtu = mtu;
    options.interfaceIndex = 1;
    options.transmitBufferLength = 9216;
    io::StackOptions stackOptions;
    stackOptions.faces = 2;
    made.stack = io::NetStack::create(wire_.createStation(options), made.tables, stackOptions).take();
    // The first instance is the sender's, the second the receiver's.
    auto faces = std::make_shared<uint32_t>(0);
    const auto makeIo = [stack = made.stack, faces]() -> Result<std::unique_ptr<io::DatagramIo>> {
      return std::unique_ptr<io::DatagramIo>(std::make_unique<io::StackFace>(stack, (*faces)++));
    };
    hosts_.push_back(std::make_unique<DriverHost>(makeIo, clock_, address, std::move(config)));
    made.host = hosts_.back().get();
    return made;
  }
  static std::vector<std::string> texts(client::Subscription& subscription) {
    std::vector<std::string> out;
    while (subscription.poll(
               [&](const uint8_t* data, int32_t length, const client::FragmentHeader&) {
                 out.emplace_back(reinterpret_cast<const char*>(data), static_cast<size_t>(length));
               },
               64) > 0) {
    }
    return out;
  }
  static bool mentions(const std::vector<std::string>& all, std::initializer_list<const char*> words) {
    return std::any_of(all.begin(), all.end(), [&](const std::string& text) {
      return std::all_of(words.begin(), words.end(), [&](const char* word) { return text.find(word) != std::string::npos; });
    });
  }

  io::SimWire wire_{io::SimWireOptions{}};
};

TEST_F(DriversOverStack, carryAStreamThroughLossAndReordering) {
  const Station a = station(1);
  const Station b = station(2);
  auto& publisher = connect(*a.host);
  auto& subscriber = connect(*b.host);
  const auto sub = subscription(subscriber, "aeron:udp?endpoint=10.77.0.2:4777", kStream);
  const auto pub = publication(publisher, "aeron:udp?endpoint=10.77.0.2:4777", kStream);
  ASSERT_TRUE(until([&] { return pub->isConnected() && sub->isConnected(); }));
  io::SimWireOptions options;
  options.loss = 0.02;
  options.reorder = 0.05;
  options.duplicate = 0.02;
  options.corrupt = 0.02;
  wire_.setOptions(options);
  std::vector<std::string> received;
  for (int i = 0; i < 2000; ++i) {
    ASSERT_GE(offerWithin(*this, *pub, "message " + std::to_string(i)), 0);
    if (i % 20 == 0) step();
    for (std::string& text : texts(*sub)) received.push_back(std::move(text));
  }
  ASSERT_TRUE(until([&] {
    for (std::string& text : texts(*sub)) received.push_back(std::move(text));
    return received.size() >= 2000;
  }));
  ASSERT_EQ(received.size(), 2000U);
  for (int i = 0; i < 2000; ++i) ASSERT_EQ(received[static_cast<size_t>(i)], "message " + std::to_string(i));
  EXPECT_GT(a.count(io::StackCounter::kFramesSent), 100);
}

TEST_F(DriversOverStack, sayNotConnectedWhereNobodyAnswersAndCountWhatWaits) {
  const Station a = station(1);
  auto& client = connect(*a.host);
  const auto pub = publication(client, "aeron:udp?endpoint=10.77.0.99:4777", kStream);
  run(20 * kSecondNs, kMilliNs);
  EXPECT_FALSE(pub->isConnected());
  EXPECT_EQ(pub->offer("x", 1), client::kOfferNotConnected);
  EXPECT_GE(a.count(io::StackCounter::kNeighbourRequestsSent), 15);
  EXPECT_LE(a.count(io::StackCounter::kNeighbourRequestsSent), 25) << "once a second, whatever is offered";
  EXPECT_GT(a.count(io::StackCounter::kNeighbourWaits), 50) << "each SETUP that could not go";
  EXPECT_GT(systemCounter(*a.host, cnc::SystemCounter::kShortSends), 50);
}

TEST_F(DriversOverStack, holdUpNoDestinationOfAGroupForOneThatCannotBeFound) {
  const Station a = station(1);
  const Station b = station(2);
  auto& publisher = connect(*a.host);
  auto& subscriber = connect(*b.host);
  const auto sub = subscription(subscriber, "aeron:udp?endpoint=10.77.0.2:4777", kStream);
  const auto pub = publication(publisher, "aeron:udp?control-mode=manual", kStream);
  for (const char* destination :
       {"aeron:udp?endpoint=10.77.0.98:4777", "aeron:udp?endpoint=10.77.0.2:4777", "aeron:udp?endpoint=10.77.0.99:4777"}) {
    const int64_t id = publisher.addDestination(*pub, destination);
    EXPECT_TRUE(decided(publisher, id).done()) << destination;
  }
  ASSERT_TRUE(until([&] { return pub->isConnected() && sub->isConnected(); }));
  std::vector<std::string> received;
  for (int i = 0; i < 300; ++i) {
    ASSERT_GE(offerWithin(*this, *pub, "message " + std::to_string(i)), 0) << i;
    step();
    for (std::string& text : texts(*sub)) received.push_back(std::move(text));
  }
  ASSERT_TRUE(until([&] {
    for (std::string& text : texts(*sub)) received.push_back(std::move(text));
    return received.size() >= 300;
  }));
  EXPECT_EQ(received.size(), 300U);
  EXPECT_GT(ownCounter(*a.host, cnc::OutriggerCounter::kSendErrors), 0) << "what the absent ones did not get is counted";
}

TEST_F(DriversOverStack, fitANewPublicationToThePathUnlessTheChannelSaysOtherwise) {
  DriverConfig config = smallConfig();
  config.mtuLength = 8192;
  const Station a = station(1, 1500, config);
  auto& client = connect(*a.host);
  const auto pub = publication(client, "aeron:udp?endpoint=10.77.0.2:4777", kStream);
  EXPECT_EQ(pub->maxPayloadLength(), 1472 / 32 * 32 - 32);
  const auto refused = decided(client, client.addPublication("aeron:udp?endpoint=10.77.0.2:4778|mtu=4096", kStream));
  EXPECT_EQ(refused.error.code, ErrorCode::kInvalidChannel);
  EXPECT_TRUE(mentions({refused.error.message}, {"mtu=4096", "1472", "mtu=1472"})) << refused.error.message;
  // On the same endpoint the path is looked at again: it may have become another.
  a.tables->setMtu(1400);
  const auto later = publication(client, "aeron:udp?endpoint=10.77.0.2:4777", kStream + 1);
  EXPECT_EQ(later->maxPayloadLength(), 1372 / 32 * 32 - 32);
}

TEST_F(DriversOverStack, refuseASetupThatTheReceivePathCannotHoldWithBothNumbers) {
  DriverConfig jumbo = smallConfig();
  jumbo.mtuLength = 4096;
  const Station a = station(1, 9000, jumbo);
  const Station b = station(2, 1500);
  auto& publisher = connect(*a.host);
  auto& subscriber = connect(*b.host);
  const auto sub = subscription(subscriber, "aeron:udp?endpoint=10.77.0.2:4777", kStream);
  const auto pub = publication(publisher, "aeron:udp?endpoint=10.77.0.2:4777", kStream);
  ASSERT_TRUE(until([&] { return ownCounter(*b.host, cnc::OutriggerCounter::kSetupRefused) > 0; }));
  EXPECT_TRUE(until([&] { return mentions(errors(*b.host), {"4096", "1472"}); }));
  EXPECT_FALSE(pub->isConnected());
  EXPECT_FALSE(sub->isConnected());
}

TEST_F(DriversOverStack, reportAStreamWhosePathHasBecomeTooNarrow) {
  const Station a = station(1);
  const Station b = station(2);
  auto& publisher = connect(*a.host);
  auto& subscriber = connect(*b.host);
  const auto sub = subscription(subscriber, "aeron:udp?endpoint=10.77.0.2:4777", kStream);
  const auto pub = publication(publisher, "aeron:udp?endpoint=10.77.0.2:4777", kStream);
  ASSERT_TRUE(until([&] { return pub->isConnected() && sub->isConnected(); }));
  a.tables->setMtu(1000);
  ASSERT_GE(offerWithin(*this, *pub, std::string(1300, 'x')), 0);
  EXPECT_TRUE(until([&] {
    return mentions(errors(*a.host), {"1344", "972", "10.77.0.2:4777"});
  })) << (errors(*a.host).empty() ? "" : errors(*a.host).back());
  EXPECT_GT(ownCounter(*a.host, cnc::OutriggerCounter::kSendErrors), 0);
  EXPECT_GT(a.count(io::StackCounter::kTooLongSends), 0);
}

}  // namespace
}  // namespace outrigger::driver::testing
