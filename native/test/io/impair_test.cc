// SPDX-License-Identifier: Apache-2.0
// Impairment: its text form, and that what it does to traffic is counted, seeded and exact on both directions. Runs around the
// simulated backend: a perfect network on which nothing else can lose a datagram.
#include <algorithm>
#include <map>

#include "conformance_world.h"

namespace outrigger::io::testing {
namespace {

TEST(ImpairConfig, readsBothDirectionsAndOne) {
  auto config = ImpairConfig::parse("loss=0.1,tx-loss=0,rx-dup=0.5,corrupt=1e-3,tx-reorder=1,mask=0x42,seed=99");
  ASSERT_TRUE(config.ok()) << config.error().message;
  EXPECT_DOUBLE_EQ(config->receive.loss, 0.1);
  EXPECT_DOUBLE_EQ(config->transmit.loss, 0);
  EXPECT_DOUBLE_EQ(config->receive.duplicate, 0.5);
  EXPECT_DOUBLE_EQ(config->transmit.duplicate, 0);
  EXPECT_DOUBLE_EQ(config->receive.corrupt, 0.001);
  EXPECT_DOUBLE_EQ(config->transmit.corrupt, 0.001);
  EXPECT_DOUBLE_EQ(config->receive.reorder, 0);
  EXPECT_DOUBLE_EQ(config->transmit.reorder, 1);
  EXPECT_EQ(config->frameMask, 0x42U);
  EXPECT_EQ(config->seed, 99U);
}

TEST(ImpairConfig, printsWhatItReads) {
  const std::string text = "rx-loss=0.1,rx-dup=0.5,tx-loss=0.25,mask=0x2,seed=7";
  EXPECT_EQ(ImpairConfig::parse(text)->toString(), text);
  EXPECT_EQ(ImpairConfig::parse("loss=0")->toString(), "none");
  EXPECT_EQ(ImpairConfig::parse("none")->toString(), "none");
}

TEST(ImpairConfig, namesTheBadParameterAndWhatIsAllowed) {
  for (const auto& [text, part] : {std::pair<std::string, std::string>{"", "'' has no '='"},
                                   {"loss", "'loss' has no '='"},
                                   {"loss=0.1,", "'' has no '='"},
                                   {"loss=1.1", "loss=1.1 is not a probability"},
                                   {"loss=-0.1", "loss=-0.1 is not a probability"},
                                   {"loss=nan", "loss=nan is not a probability"},
                                   {"loss=10%", "loss=10% is not a probability"},
                                   {"rx-los=0.1", "rx-los=0.1 is unknown, allowed are loss, dup"},
                                   {"rx-seed=1", "rx-seed=1 is unknown"},
                                   {"seed=x", "seed=x is not a whole number"},
                                   {"mask=0x1ffffffff", "mask=0x1ffffffff is not a 32-bit mask"},
                                   {"delay=1ms", "delay=1ms"}}) {
    const auto config = ImpairConfig::parse(text);
    ASSERT_FALSE(config.ok()) << text;
    EXPECT_NE(config.error().message.find(part), std::string::npos) << config.error().message;
  }
}

TEST(ImpairConfig, readsAeronLossArguments) {
  auto config = ImpairConfig::parseAeronLoss("rate=0.01|seed=5|recv-msg-mask=0xA");
  ASSERT_TRUE(config.ok()) << config.error().message;
  EXPECT_DOUBLE_EQ(config->receive.loss, 0.01);
  EXPECT_EQ(config->seed, 5U);
  EXPECT_EQ(config->frameMask, 0xAU);
  EXPECT_FALSE(config->transmit.active());
  EXPECT_EQ(ImpairConfig::parseAeronLoss("rate=0.5|recv-msg-mask=A")->frameMask, 0xAU) << "always hexadecimal";
  EXPECT_EQ(ImpairConfig::parseAeronLoss("rate=0.5")->frameMask, 0U) << "without a mask nothing is lost";
  EXPECT_FALSE(ImpairConfig::parseAeronLoss("rate=2").ok());
  EXPECT_FALSE(ImpairConfig::parseAeronLoss("rate=0.5|size=1").ok());
}

// A sender and a receiver on a perfect network, each impaired as told.
class Impaired {
 public:
  Impaired(const std::string& sending, const std::string& receiving) {
    sender_ = wrap(sending);
    receiver_ = wrap(receiving);
    to_ = openAt(*receiver_, address("127.0.0.1"), 1 << 30);
    from_ = openAt(*sender_, address("127.0.0.1"), 0, 1 << 30);
    next_ = hop(*sender_, *from_, to_->localAddress());
  }

  // Sends `count` datagrams of `length` bytes, numbered in their first four bytes behind a data frame's type, as trains.
  std::vector<Arrival> exchange(uint32_t count, uint32_t length = 64, uint32_t trainSegments = 40) {
    std::vector<Bytes> trains;
    for (uint32_t sent = 0; sent < count;) {
      const uint32_t segments = std::min(trainSegments, count - sent);
      Bytes train;
      for (uint32_t i = 0; i < segments; ++i, ++sent) {
        Bytes datagram(length, 0);
        datagram[6] = 1;  // frame type DATA
        std::memcpy(datagram.data() + 8, &sent, sizeof(sent));
        train.insert(train.end(), datagram.begin(), datagram.end());
      }
      trains.push_back(std::move(train));
    }
    std::vector<TxItem> items;
    for (const Bytes& train : trains) items.push_back(item(*next_, train, length));
    std::vector<Arrival> arrivals;
    sendAll(world_, *sender_, *from_, items, *receiver_, arrivals);
    const auto rest = collect(world_, *receiver_, SIZE_MAX);
    arrivals.insert(arrivals.end(), rest.begin(), rest.end());
    return arrivals;
  }

  ImpairIo& sender() { return static_cast<ImpairIo&>(*sender_); }
  ImpairIo& receiver() { return static_cast<ImpairIo&>(*receiver_); }
  Endpoint& from() { return *from_; }
  Endpoint& to() { return *to_; }
  SimWorld& world() { return world_; }

 private:
  std::unique_ptr<DatagramIo> wrap(const std::string& text) {
    auto config = ImpairConfig::parse(text);
    EXPECT_TRUE(config.ok()) << config.error().message;
    return ImpairIo::wrap(world_.makeIo(Side::kSender), *config).take();
  }

  SimWorld world_;
  std::unique_ptr<DatagramIo> sender_;
  std::unique_ptr<DatagramIo> receiver_;
  std::unique_ptr<Endpoint> to_;
  std::unique_ptr<Endpoint> from_;
  std::unique_ptr<NextHop> next_;
};

uint32_t numberOf(const Arrival& arrival) {
  uint32_t number = 0;
  std::memcpy(&number, arrival.bytes.data() + 8, sizeof(number));
  return number;
}

struct Direction {
  std::string name;
  bool receive;
};
std::ostream& operator<<(std::ostream& out, const Direction& direction) { return out << direction.name; }

class ImpairedDirection : public ::testing::TestWithParam<Direction> {
 protected:
  static constexpr uint32_t kCount = 20'000;

  Impaired make(const std::string& text) const { return GetParam().receive ? Impaired("loss=0", text) : Impaired(text, "loss=0"); }
  const ImpairStats& stats(Impaired& impaired) const {
    return GetParam().receive ? impaired.receiver().receiveStats() : impaired.sender().transmitStats();
  }
};

TEST_P(ImpairedDirection, losesTheShareItIsToldAndCountsEach) {
  Impaired impaired = make("loss=0.1,seed=11");
  const auto arrivals = impaired.exchange(kCount);
  const int64_t lost = stats(impaired).lost.load();
  EXPECT_EQ(stats(impaired).seen.load(), kCount);
  EXPECT_EQ(arrivals.size(), kCount - static_cast<size_t>(lost));
  // Binomial with a deviation of 42: five of them either side.
  EXPECT_NEAR(static_cast<double>(lost), 0.1 * kCount, 212);
  EXPECT_TRUE(
      std::is_sorted(arrivals.begin(), arrivals.end(), [](const Arrival& a, const Arrival& b) { return numberOf(a) < numberOf(b); }));
}

TEST_P(ImpairedDirection, losesEverythingAtOne) {
  Impaired impaired = make("loss=1");
  EXPECT_TRUE(impaired.exchange(500).empty());
  EXPECT_EQ(stats(impaired).lost.load(), 500);
}

TEST_P(ImpairedDirection, repeatsARunWithTheSameSeedAndNoOtherWithAnother) {
  const std::string text = "loss=0.05,dup=0.05,corrupt=0.05,reorder=0.05,seed=";
  const auto run = [&](const std::string& seed) {
    std::vector<Bytes> bytes;
    for (const Arrival& arrival : make(text + seed).exchange(2000)) bytes.push_back(arrival.bytes);
    return bytes;
  };
  const auto first = run("3");
  EXPECT_EQ(first, run("3"));
  EXPECT_NE(first, run("4"));
}

TEST_P(ImpairedDirection, duplicatesWholeDatagramsRightBehindThemselves) {
  Impaired impaired = make("dup=0.2");
  const auto arrivals = impaired.exchange(kCount);
  const int64_t duplicated = stats(impaired).duplicated.load();
  EXPECT_NEAR(static_cast<double>(duplicated), 0.2 * kCount, 283);
  ASSERT_EQ(arrivals.size(), kCount + static_cast<size_t>(duplicated));
  int64_t repeats = 0;
  uint32_t expected = 0;
  for (const Arrival& arrival : arrivals) {
    if (numberOf(arrival) + 1 == expected) {
      ++repeats;
    } else {
      ASSERT_EQ(numberOf(arrival), expected);
      ++expected;
    }
  }
  EXPECT_EQ(repeats, duplicated);
}

TEST_P(ImpairedDirection, corruptsOneBitAndKeepsTheRest) {
  Impaired impaired = make("corrupt=0.3");
  const auto arrivals = impaired.exchange(2000);
  ASSERT_EQ(arrivals.size(), 2000U);
  int64_t damaged = 0;
  for (uint32_t i = 0; i < arrivals.size(); ++i) {
    Bytes expected(64, 0);
    expected[6] = 1;
    std::memcpy(expected.data() + 8, &i, sizeof(i));
    ASSERT_EQ(arrivals[i].bytes.size(), expected.size());
    int bits = 0;
    for (size_t b = 0; b < expected.size(); ++b) bits += std::popcount(static_cast<unsigned>(arrivals[i].bytes[b] ^ expected[b]));
    ASSERT_LE(bits, 1);
    damaged += bits;
  }
  EXPECT_EQ(damaged, stats(impaired).corrupted.load());
  EXPECT_NEAR(static_cast<double>(damaged), 600, 103);
}

TEST_P(ImpairedDirection, swapsNeighboursAndLosesNone) {
  Impaired impaired = make("reorder=0.1");
  const auto arrivals = impaired.exchange(kCount);
  ASSERT_EQ(arrivals.size(), kCount);
  std::vector<bool> seen(kCount);
  int64_t swaps = 0;
  for (size_t i = 0; i < arrivals.size(); ++i) {
    ASSERT_FALSE(seen[numberOf(arrivals[i])]);
    seen[numberOf(arrivals[i])] = true;
    ASSERT_LE(std::abs(static_cast<int64_t>(numberOf(arrivals[i])) - static_cast<int64_t>(i)), 1);
    if (numberOf(arrivals[i]) > i) ++swaps;
  }
  // The last of a transmit call has no neighbour to change places with.
  EXPECT_NEAR(static_cast<double>(swaps), static_cast<double>(stats(impaired).reordered.load()), 300);
  EXPECT_GT(swaps, kCount / 20);
}

TEST_P(ImpairedDirection, touchesOnlyTheFrameTypesOfItsMask) {
  Impaired other = make("loss=1,mask=0x4");
  EXPECT_EQ(other.exchange(200).size(), 200U) << "these are DATA, the mask says NAK";
  EXPECT_EQ(stats(other).seen.load(), 0);
  EXPECT_TRUE(make("loss=1,mask=0x2").exchange(200).empty());
  EXPECT_EQ(make("loss=1,mask=0x2").exchange(200, 12, 1).size(), 0U);
}

TEST_P(ImpairedDirection, survivesEverythingAtOnce) {
  Impaired impaired = make("loss=0.2,dup=0.3,corrupt=0.2,reorder=0.3,seed=5");
  const auto arrivals = impaired.exchange(kCount, 100, 64);
  const ImpairStats& counted = stats(impaired);
  EXPECT_EQ(static_cast<int64_t>(arrivals.size()), kCount - counted.lost.load() + counted.duplicated.load());
}

INSTANTIATE_TEST_SUITE_P(Directions, ImpairedDirection, ::testing::Values(Direction{"receive", true}, Direction{"transmit", false}),
                         [](const auto& direction) { return direction.param.name; });

TEST(ImpairIo, impairsControlFramesOnTransmit) {
  Impaired impaired("loss=0.3,dup=0.2,corrupt=0.1,seed=2", "loss=0");
  ImpairIo& io = impaired.sender();
  constexpr int kFrames = 1000;
  for (int i = 0; i < kFrames; ++i) {
    TxSlot slot;
    ASSERT_EQ(io.reserve(impaired.from(), impaired.to().localAddress(), 36, slot), TxStatus::kPending) << "slots leak";
    std::memset(slot.data, 0, 36);
    EXPECT_EQ(io.commit(impaired.from(), impaired.to().localAddress(), slot, 36), TxStatus::kSent);
  }
  const ImpairStats& stats = io.transmitStats();
  EXPECT_GT(stats.lost.load(), 200);
  EXPECT_GT(stats.duplicated.load(), 60);
  EXPECT_GT(stats.corrupted.load(), 20);
  EXPECT_EQ(static_cast<int64_t>(collect(impaired.world(), impaired.receiver(), SIZE_MAX).size()),
            kFrames - stats.lost.load() + stats.duplicated.load());
}

TEST(ImpairIo, handsOnAHeldDatagramWhenNothingComesToOvertakeIt) {
  Impaired impaired("loss=0", "reorder=1");
  const auto arrivals = impaired.exchange(1);
  ASSERT_EQ(arrivals.size(), 1U);
  EXPECT_TRUE(impaired.receiver().arm()) << "nothing is held any more";
}

TEST(ImpairIo, keepsASleeperAwakeWhileItHoldsSomething) {
  Impaired impaired("loss=0", "reorder=1");
  TxSlot slot;
  ASSERT_EQ(impaired.sender().reserve(impaired.from(), impaired.to().localAddress(), 36, slot), TxStatus::kPending);
  impaired.sender().commit(impaired.from(), impaired.to().localAddress(), slot, 36);
  ASSERT_TRUE(impaired.world().await(impaired.receiver()));
  EXPECT_TRUE(pollOnce(impaired.receiver(), impaired.world().nowNs()).empty()) << "held back";
  EXPECT_FALSE(impaired.receiver().arm());
  EXPECT_EQ(pollOnce(impaired.receiver(), impaired.world().nowNs()).size(), 1U);
  EXPECT_TRUE(impaired.receiver().arm());
}

TEST(ImpairIo, forgetsWhatItHoldsOfADetachedEndpoint) {
  Impaired impaired("loss=0", "reorder=1");
  TxSlot slot;
  ASSERT_EQ(impaired.sender().reserve(impaired.from(), impaired.to().localAddress(), 36, slot), TxStatus::kPending);
  impaired.sender().commit(impaired.from(), impaired.to().localAddress(), slot, 36);
  ASSERT_TRUE(impaired.world().await(impaired.receiver()));
  EXPECT_TRUE(pollOnce(impaired.receiver(), impaired.world().nowNs()).empty());
  impaired.receiver().detach(impaired.to());
  EXPECT_TRUE(pollOnce(impaired.receiver(), impaired.world().nowNs()).empty());
}

// A backend that takes only so many bytes a call: what is blocked part way must go on without loss or repetition.
TEST(ImpairIo, keepsItsAccountsWhenTheBackendBlocksPartWay) {
  SimNetwork network(SimOptions{});
  SimLink slow;
  slow.bytesPerSecond = 1'000'000;
  ASSERT_TRUE(network.setLinkBoth("10.0.0.1", "10.0.0.2", slow).ok());
  auto config = ImpairConfig::parse("loss=0.2,seed=8");
  auto io = ImpairIo::wrap(network.createIo("10.0.0.1").take(), *config).take();
  auto receiver = network.createIo("10.0.0.2").take();
  auto from = openAt(*io, address("10.0.0.1"), 0, 3000);
  auto to = openAt(*receiver, address("10.0.0.2"), 1 << 30);
  auto next = hop(*io, *from, to->localAddress());
  constexpr uint32_t kSegments = 500;
  Bytes train;
  for (uint32_t i = 0; i < kSegments; ++i) {
    Bytes one(100, 0);
    std::memcpy(one.data() + 8, &i, sizeof(i));
    train.insert(train.end(), one.begin(), one.end());
  }
  std::vector<TxItem> items{item(*next, train, 100)};
  std::vector<Arrival> arrivals;
  int blocked = 0;
  while (io->transmit(*from, items) == 0) {
    ASSERT_EQ(items[0].status, TxStatus::kWouldBlock);
    ASSERT_EQ(items[0].sentBytes % 100, 0U);
    items[0].data += items[0].sentBytes;
    items[0].length -= items[0].sentBytes;
    ++blocked;
    network.setNow(network.nowNs() + 1'000'000);
    auto some = pollOnce(*receiver, network.nowNs());
    arrivals.insert(arrivals.end(), some.begin(), some.end());
  }
  EXPECT_GT(blocked, 5);
  network.setNow(network.nowNs() + 1'000'000'000);
  for (auto some = pollOnce(*receiver, network.nowNs()); !some.empty(); some = pollOnce(*receiver, network.nowNs())) {
    arrivals.insert(arrivals.end(), some.begin(), some.end());
  }
  ASSERT_GT(arrivals.size(), kSegments / 2);
  for (size_t i = 1; i < arrivals.size(); ++i) ASSERT_LT(numberOf(arrivals[i - 1]), numberOf(arrivals[i]));
  EXPECT_NEAR(static_cast<double>(arrivals.size()), 0.8 * kSegments, 45);
}

}  // namespace
}  // namespace outrigger::io::testing
