// SPDX-License-Identifier: Apache-2.0
// The simulated network itself: determinism, delay, loss model, partitions, bounded queues, routing between hosts.
#include "conformance_world.h"

namespace outrigger::io::testing {
namespace {

constexpr const char* kA = "10.0.0.1";
constexpr const char* kB = "10.0.0.2";

// Two hosts with one endpoint each.
struct Pair {
  explicit Pair(const SimOptions& options, int32_t receiveBufferBytes = 1 << 30)
      : network(options), a(network.createIo(kA).take()), b(network.createIo(kB).take()) {
    from = openAt(*a, address(kA));
    to = openAt(*b, address(kB), receiveBufferBytes);
    next = hop(*a, *from, to->localAddress());
  }

  void send(const Bytes& bytes, uint32_t segmentLength = 0) {
    std::vector<TxItem> items{item(*next, bytes, segmentLength)};
    ASSERT_EQ(a->transmit(*from, items), 1U);
  }

  // Runs the clock until nothing is under way; returns what came and when.
  std::vector<std::pair<int64_t, Bytes>> drain() {
    std::vector<std::pair<int64_t, Bytes>> all;
    while (network.nextEventNs() != INT64_MAX || !b->arm()) {
      if (network.nextEventNs() != INT64_MAX) network.setNow(network.nextEventNs());
      for (Arrival& arrival : pollOnce(*b, network.nowNs())) all.emplace_back(network.nowNs(), std::move(arrival.bytes));
    }
    return all;
  }

  SimNetwork network;
  std::unique_ptr<DatagramIo> a;
  std::unique_ptr<DatagramIo> b;
  std::unique_ptr<Endpoint> from;
  std::unique_ptr<Endpoint> to;
  std::unique_ptr<NextHop> next;
};

SimOptions rough(uint64_t seed) {
  SimOptions options;
  options.seed = seed;
  options.link = SimLink{.loss = 0.1, .duplicate = 0.1, .corrupt = 0.1, .reorder = 0.1, .jitterNs = 5'000};
  return options;
}

TEST(SimNetwork, replaysARunExactlyFromItsSeed) {
  const auto run = [](uint64_t seed) {
    Pair pair(rough(seed));
    std::vector<std::pair<int64_t, Bytes>> all;
    for (uint32_t i = 0; i < 300; ++i) {
      pair.send(pattern(700, i), 100);
      for (auto& one : pair.drain()) all.push_back(std::move(one));
    }
    return std::pair(pair.network.traceDigest(), all);
  };
  const auto first = run(42);
  const auto again = run(42);
  const auto other = run(43);
  EXPECT_EQ(first.first, again.first);
  EXPECT_EQ(first.second, again.second);
  EXPECT_NE(first.first, other.first);
}

TEST(SimNetwork, accountsForEveryDatagram) {
  Pair pair(rough(7));
  constexpr int64_t kCount = 20'000;
  for (int64_t i = 0; i < kCount / 20; ++i) pair.send(pattern(20 * 64, static_cast<uint32_t>(i)), 64);
  const auto received = static_cast<int64_t>(pair.drain().size());
  const SimStats& stats = pair.network.stats();
  EXPECT_EQ(stats.sent, kCount);
  EXPECT_EQ(stats.delivered, kCount - stats.lost + stats.duplicated);
  EXPECT_EQ(received, stats.delivered);
  EXPECT_NEAR(static_cast<double>(stats.lost), 2000, 212);
  EXPECT_NEAR(static_cast<double>(stats.duplicated), 1800, 202);
  EXPECT_NEAR(static_cast<double>(stats.corrupted), 1980, 212);
  EXPECT_NEAR(static_cast<double>(stats.reordered), 1980, 212);
}

TEST(SimNetwork, deliversAfterTheDelayOfTheLinkAndNotBefore) {
  SimOptions options;
  options.link.delayNs = 250'000;
  Pair pair(options);
  pair.network.setNow(1'000'000);
  pair.send(pattern(64, 1));
  EXPECT_EQ(pair.network.nextEventNs(), 1'250'000);
  EXPECT_TRUE(pollOnce(*pair.b, 1'249'999).empty());
  EXPECT_EQ(pollOnce(*pair.b, 1'250'000).size(), 1U);
  EXPECT_EQ(pair.network.nextEventNs(), INT64_MAX);
}

TEST(SimNetwork, keepsOrderWithoutJitterAndReordersByDelay) {
  SimOptions options;
  Pair ordered(options);
  for (uint32_t i = 0; i < 100; ++i) ordered.send(pattern(64 + i, i));
  uint32_t expected = 64;
  for (const auto& [atNs, bytes] : ordered.drain()) ASSERT_EQ(bytes.size(), expected++);
  options.link.reorder = 0.2;
  Pair mixed(options);
  for (uint32_t i = 0; i < 100; ++i) mixed.send(pattern(64 + i, i));
  const auto arrivals = mixed.drain();
  EXPECT_EQ(arrivals.size(), 100U);
  EXPECT_FALSE(
      std::is_sorted(arrivals.begin(), arrivals.end(), [](const auto& x, const auto& y) { return x.second.size() < y.second.size(); }));
}

TEST(SimNetwork, partitionsOneDirectionAndHeals) {
  Pair pair(SimOptions{});
  auto back = hop(*pair.b, *pair.to, pair.from->localAddress());
  ASSERT_TRUE(pair.network.setLink(kA, kB, SimLink{.partitioned = true}).ok());
  const Bytes bytes = pattern(64, 1);
  pair.send(bytes);
  std::vector<TxItem> items{item(*back, bytes)};
  ASSERT_EQ(pair.b->transmit(*pair.to, items), 1U);
  EXPECT_TRUE(pair.drain().empty());
  EXPECT_EQ(pollOnce(*pair.a, pair.network.nowNs()).size(), 1U) << "the way back is open";
  EXPECT_EQ(pair.network.stats().partitionDrops, 1);
  ASSERT_TRUE(pair.network.setLink(kA, kB, SimLink{}).ok());
  pair.send(bytes);
  EXPECT_EQ(pair.drain().size(), 1U);
}

TEST(SimNetwork, dropsAndCountsWhatAReceiveBufferCannotHold) {
  Pair pair(SimOptions{}, 1000);
  for (uint32_t i = 0; i < 15; ++i) pair.send(pattern(100, i));
  while (pair.network.nextEventNs() != INT64_MAX) pair.network.setNow(pair.network.nextEventNs());
  EXPECT_EQ(pair.to->stats.receiveQueueDrops.load(), 5);
  EXPECT_EQ(pair.network.stats().queueDrops, 5);
  EXPECT_EQ(pair.drain().size(), 10U);
}

TEST(SimNetwork, blocksASenderFasterThanItsLink) {
  SimOptions options;
  options.link.bytesPerSecond = 1'000'000;  // 1000 bytes are a millisecond
  SimNetwork network(options);
  auto a = network.createIo(kA).take();
  auto b = network.createIo(kB).take();
  auto from = openAt(*a, address(kA), 0, 2000);
  auto to = openAt(*b, address(kB));
  auto next = hop(*a, *from, to->localAddress());
  const Bytes bytes = pattern(10 * 1000, 1);
  std::vector<TxItem> items{item(*next, bytes, 1000), item(*next, bytes)};
  EXPECT_EQ(a->transmit(*from, items), 0U);
  EXPECT_EQ(items[0].status, TxStatus::kWouldBlock);
  EXPECT_EQ(items[0].sentBytes, 2000U);
  EXPECT_EQ(items[1].status, TxStatus::kPending);
  network.setNow(1'000'000);
  items[0].data += 2000;
  items[0].length -= 2000;
  EXPECT_EQ(a->transmit(*from, items), 0U);
  EXPECT_EQ(items[0].sentBytes, 1000U) << "one left, one more fits";
}

TEST(SimNetwork, formsTrainsOfEqualDatagramsFromOneSource) {
  Pair pair(SimOptions{});
  pair.send(pattern(5 * 200 + 50, 1), 200);
  pair.send(pattern(200, 2));
  while (pair.network.nextEventNs() != INT64_MAX) pair.network.setNow(pair.network.nextEventNs());
  RxBurst burst;
  EXPECT_EQ(pair.b->poll(burst, pair.network.nowNs()), 7U);
  ASSERT_EQ(burst.count, 2U);
  EXPECT_EQ(burst.packets[0].length, 1050U);
  EXPECT_EQ(burst.packets[0].segmentLength, 200U);
  EXPECT_EQ(burst.packets[1].length, 200U);
}

TEST(SimNetwork, deliversSinglesWhenCoalescingIsOff) {
  SimOptions options;
  options.coalescing = false;
  Pair pair(options);
  pair.send(pattern(1000, 1), 200);
  while (pair.network.nextEventNs() != INT64_MAX) pair.network.setNow(pair.network.nextEventNs());
  RxBurst burst;
  EXPECT_EQ(pair.b->poll(burst, pair.network.nowNs()), 5U);
  EXPECT_EQ(burst.count, 5U);
  EXPECT_FALSE(pair.b->caps().receiveCoalescing);
}

TEST(SimNetwork, keepsLoopbackOnItsHost) {
  SimNetwork network(SimOptions{});
  auto a = network.createIo(kA).take();
  auto b = network.createIo(kB).take();
  auto onA = openAt(*a, address("127.0.0.1", 4000));
  auto onB = openAt(*b, address("127.0.0.1", 4000));
  ASSERT_NE(onB, nullptr) << "another host, another loopback";
  auto from = openAt(*a, address("127.0.0.1"));
  auto next = hop(*a, *from, address("127.0.0.1", 4000));
  const Bytes bytes = pattern(64, 1);
  std::vector<TxItem> items{item(*next, bytes)};
  ASSERT_EQ(a->transmit(*from, items), 1U);
  network.setNow(network.nextEventNs());
  EXPECT_EQ(pollOnce(*a, network.nowNs()).size(), 1U);
  EXPECT_TRUE(pollOnce(*b, network.nowNs()).empty());
}

TEST(SimNetwork, countsWhatNobodyTakes) {
  Pair pair(SimOptions{});
  auto noHost = hop(*pair.a, *pair.from, address("10.0.0.9", 4000));
  auto noPort = hop(*pair.a, *pair.from, address(kB, 1));
  const Bytes bytes = pattern(64, 1);
  std::vector<TxItem> items{item(*noHost, bytes), item(*noPort, bytes)};
  ASSERT_EQ(pair.a->transmit(*pair.from, items), 2U);
  EXPECT_EQ(items[0].status, TxStatus::kUnreachable);
  EXPECT_EQ(items[1].status, TxStatus::kSent);
  EXPECT_TRUE(pair.drain().empty());
  EXPECT_EQ(pair.network.stats().unroutable, 2);
}

TEST(SimNetwork, refusesMalformedAndSharedAddresses) {
  SimNetwork network(SimOptions{});
  ASSERT_TRUE(network.createIo("10.0.0.1,fd00::1").ok());
  EXPECT_TRUE(network.createIo("10.0.0.1,fd00::1").ok()) << "the same host again, for its other agent";
  EXPECT_FALSE(network.createIo("host-a").ok());
  EXPECT_FALSE(network.createIo("").ok());
  const auto shared = network.createIo("10.0.0.3,fd00::1");
  ASSERT_FALSE(shared.ok());
  EXPECT_NE(shared.error().message.find("10.0.0.1,fd00::1"), std::string::npos) << shared.error().message;
}

TEST(SimNetwork, answersFromTheHostsAddressBehindAWildcardBind) {
  SimNetwork network(SimOptions{});
  auto a = network.createIo("10.0.0.1,fd00::1").take();
  auto b = network.createIo("10.0.0.2,fd00::2").take();
  auto from = openAt(*a, address("::"));
  auto to = openAt(*b, address("::", 4000));
  auto next = hop(*a, *from, address("fd00::2", 4000));
  const Bytes bytes = pattern(64, 1);
  std::vector<TxItem> items{item(*next, bytes)};
  ASSERT_EQ(a->transmit(*from, items), 1U);
  network.setNow(network.nextEventNs());
  const auto arrivals = pollOnce(*b, network.nowNs());
  ASSERT_EQ(arrivals.size(), 1U);
  EXPECT_EQ(arrivals[0].source, address("fd00::1", from->localAddress().port()));
  EXPECT_EQ(arrivals[0].destination, address("fd00::2", 4000));
}

}  // namespace
}  // namespace outrigger::io::testing
