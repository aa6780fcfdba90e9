// SPDX-License-Identifier: Apache-2.0
// One suite over every DatagramIo: what the protocol core relies on, whatever the backend. Behaviour of one backend alone
// stands in files of its own.
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <set>
#include <thread>

#include "base/clock.h"
#include "conformance_world.h"
#include "lending_io.h"
#include "verbs_world.h"
#include "veth_world.h"
#include "wire_world.h"

namespace outrigger::io::testing {
namespace {

struct Variant {
  std::string name;
  std::function<std::unique_ptr<World>()> make;
};

std::ostream& operator<<(std::ostream& out, const Variant& variant) { return out << variant.name; }

std::unique_ptr<World> real(const std::string& backend, bool segmentation, bool coalescing, const std::string& impair) {
  BackendOptions options;
  options.segmentation = segmentation;
  options.coalescing = coalescing;
  options.impair = impair;
  return std::make_unique<RealWorld>(backend, options);
}

std::unique_ptr<World> xdpOnVeth(const std::string& mode) {
  BackendOptions options;
  options.xdpMode = mode;
  options.hugepages = false;  // another test's may be taken
  return std::make_unique<VethWorld>("xdp", options);
}

std::vector<Variant> variants() {
  return {
      {"socket", [] { return real("socket", true, true, ""); }},
      {"mmsg", [] { return real("mmsg", true, true, ""); }},
      {"mmsgWithoutSegmentation", [] { return real("mmsg", false, true, ""); }},
      {"mmsgWithoutCoalescing", [] { return real("mmsg", true, false, ""); }},
      {"uring", [] { return real("uring", true, true, ""); }},
      {"uringWithoutSegmentation", [] { return real("uring", false, true, ""); }},
      {"uringWithoutCoalescing", [] { return real("uring", true, false, ""); }},
      {"uringZeroCopy", [] { return std::make_unique<LendingWorld>(real("uring", true, true, "")); }},
      {"packet", [] { return std::make_unique<VethWorld>("packet", BackendOptions{}); }},
      {"packetForBulk",
       [] {
         BackendOptions options;
         options.lowLatency = false;
         return std::make_unique<VethWorld>("packet", options);
       }},
      {"xdpNative", [] { return xdpOnVeth("native"); }},
      {"xdpGeneric", [] { return xdpOnVeth("generic"); }},
      {"dpdk", [] { return std::make_unique<VethWorld>("dpdk", BackendOptions{}); }},
      {"verbsOverAFabric", [] { return std::make_unique<FabricWorld>(); }},
      {"verbs", [] { return std::make_unique<DeviceWorld>(); }},
      {"sim", [] { return std::make_unique<SimWorld>(); }},
      {"stackOverSimulatedWire", [] { return std::make_unique<WireWorld>(); }},
      {"impairWithoutEffect", [] { return real("mmsg", true, true, "loss=0"); }},
      // So improbable that it never strikes, yet every datagram runs through the taking apart of trains.
      {"impairTakingTrainsApart", [] { return real("mmsg", true, true, "loss=1e-300,dup=1e-300,corrupt=1e-300,reorder=1e-300"); }},
  };
}

class DatagramIoConformance : public ::testing::TestWithParam<Variant> {
 protected:
  void SetUp() override {
    world_ = GetParam().make();
    if (const std::string refusal = world_->refusal(); !refusal.empty()) GTEST_SKIP() << refusal;
    sender_ = world_->makeIo(Side::kSender);
    receiver_ = world_->makeIo(Side::kReceiver);
    ASSERT_NE(sender_, nullptr);
    ASSERT_NE(receiver_, nullptr);
  }

  SockAddr here(bool v6 = false, uint16_t port = 0) { return address(world_->host(Side::kSender, v6), port); }
  SockAddr there(bool v6 = false, uint16_t port = 0) { return address(world_->host(Side::kReceiver, v6), port); }

  std::unique_ptr<World> world_;
  std::unique_ptr<DatagramIo> sender_;
  std::unique_ptr<DatagramIo> receiver_;
};

constexpr int32_t kLargeBufferBytes = 4 * 1024 * 1024;

TEST_P(DatagramIoConformance, deliversADatagramWithItsAddressesOverBothFamilies) {
  for (const bool v6 : {false, true}) {
    auto to = openAt(*receiver_, there(v6));
    auto from = openAt(*sender_, here(v6));
    auto next = hop(*sender_, *from, to->localAddress());
    const Bytes bytes = pattern(100, 1);
    std::vector<TxItem> items{item(*next, bytes)};
    ASSERT_EQ(sender_->transmit(*from, items), 1U);
    EXPECT_EQ(items[0].status, TxStatus::kSent);
    EXPECT_EQ(items[0].sentBytes, 100U);
    const auto arrivals = collect(*world_, *receiver_, 1);
    ASSERT_EQ(arrivals.size(), 1U);
    EXPECT_EQ(arrivals[0].bytes, bytes);
    EXPECT_EQ(arrivals[0].source, from->localAddress());
    EXPECT_EQ(arrivals[0].destination, to->localAddress());
    EXPECT_EQ(arrivals[0].endpoint, to.get());
    receiver_->detach(*to);
    sender_->detach(*from);
  }
}

TEST_P(DatagramIoConformance, keepsABurstOfDifferentLengthsInOrder) {
  auto to = openAt(*receiver_, there(), kLargeBufferBytes);
  auto from = openAt(*sender_, here());
  auto next = hop(*sender_, *from, to->localAddress());
  std::vector<Bytes> sent;
  for (uint32_t i = 0; i < 150; ++i) sent.push_back(pattern(1 + (i * 37) % 1400, i));
  std::vector<TxItem> items;
  for (const Bytes& bytes : sent) items.push_back(item(*next, bytes));
  std::vector<Arrival> arrivals;
  sendAll(*world_, *sender_, *from, items, *receiver_, arrivals);
  const auto rest = collect(*world_, *receiver_, sent.size() - arrivals.size());
  arrivals.insert(arrivals.end(), rest.begin(), rest.end());
  ASSERT_EQ(arrivals.size(), sent.size());
  for (size_t i = 0; i < sent.size(); ++i) ASSERT_EQ(arrivals[i].bytes, sent[i]) << "datagram " << i;
}

TEST_P(DatagramIoConformance, deliversTrainsOfEqualDatagramsWithAShorterLast) {
  for (const bool v6 : {false, true}) {
    auto to = openAt(*receiver_, there(v6), kLargeBufferBytes);
    auto from = openAt(*sender_, here(v6));
    auto next = hop(*sender_, *from, to->localAddress());
    const Bytes bytes = pattern(40 * 1408 + 123, 3);
    std::vector<Arrival> arrivals;
    sendAll(*world_, *sender_, *from, {item(*next, bytes, 1408)}, *receiver_, arrivals);
    const auto rest = collect(*world_, *receiver_, 41 - arrivals.size());
    arrivals.insert(arrivals.end(), rest.begin(), rest.end());
    ASSERT_EQ(arrivals.size(), 41U);
    Bytes joined;
    for (size_t i = 0; i < arrivals.size(); ++i) {
      ASSERT_EQ(arrivals[i].bytes.size(), i < 40 ? 1408U : 123U);
      joined.insert(joined.end(), arrivals[i].bytes.begin(), arrivals[i].bytes.end());
    }
    EXPECT_EQ(joined, bytes);
    receiver_->detach(*to);
    sender_->detach(*from);
  }
}

TEST_P(DatagramIoConformance, takesItemsBeyondTheLongestTrain) {
  auto to = openAt(*receiver_, there(), kLargeBufferBytes);
  auto from = openAt(*sender_, here());
  auto next = hop(*sender_, *from, to->localAddress());
  // More bytes than one UDP packet can carry, and more segments than one train may have.
  for (const auto& [count, segment] : {std::pair<uint32_t, uint32_t>{100, 1408}, {200, 64}}) {
    const Bytes bytes = pattern(static_cast<size_t>(count) * segment, count);
    std::vector<Arrival> arrivals;
    sendAll(*world_, *sender_, *from, {item(*next, bytes, segment)}, *receiver_, arrivals);
    const auto rest = collect(*world_, *receiver_, count - arrivals.size());
    arrivals.insert(arrivals.end(), rest.begin(), rest.end());
    ASSERT_EQ(arrivals.size(), count);
    Bytes joined;
    for (const Arrival& arrival : arrivals) joined.insert(joined.end(), arrival.bytes.begin(), arrival.bytes.end());
    EXPECT_EQ(joined, bytes);
  }
}

TEST_P(DatagramIoConformance, reachesSeveralDestinationsInOneTransmit) {
  auto from = openAt(*sender_, here());
  std::vector<std::unique_ptr<Endpoint>> targets;
  std::vector<std::unique_ptr<NextHop>> hops;
  std::vector<Bytes> payloads;
  std::vector<TxItem> items;
  for (uint32_t i = 0; i < 6; ++i) {
    targets.push_back(openAt(*receiver_, there(), kLargeBufferBytes));
    hops.push_back(hop(*sender_, *from, targets.back()->localAddress()));
    payloads.push_back(pattern(i % 2 == 0 ? 10 * (200 + i) : 300 + i, i));
  }
  for (uint32_t i = 0; i < 6; ++i) items.push_back(item(*hops[i], payloads[i], i % 2 == 0 ? 200 + i : 0));
  std::vector<Arrival> arrivals;
  sendAll(*world_, *sender_, *from, items, *receiver_, arrivals);
  const auto rest = collect(*world_, *receiver_, 33 - arrivals.size());
  arrivals.insert(arrivals.end(), rest.begin(), rest.end());
  for (uint32_t i = 0; i < 6; ++i) {
    Bytes joined;
    for (const Arrival& arrival : arrivals) {
      if (arrival.endpoint == targets[i].get()) joined.insert(joined.end(), arrival.bytes.begin(), arrival.bytes.end());
    }
    EXPECT_EQ(joined, payloads[i]) << "destination " << i;
  }
}

TEST_P(DatagramIoConformance, takesTheLongestDatagramAndRefusesALongerOneAlone) {
  if (!world_->takesLongDatagrams()) GTEST_SKIP() << "nobody makes fragments of them here";
  auto to = openAt(*receiver_, there(), kLargeBufferBytes);
  auto from = openAt(*sender_, here(), 0, kLargeBufferBytes);
  auto next = hop(*sender_, *from, to->localAddress());
  const Bytes longest = pattern(65507, 1);
  const Bytes tooLong = pattern(65508, 2);
  const Bytes small = pattern(40, 3);
  std::vector<TxItem> items{item(*next, longest), item(*next, tooLong), item(*next, small)};
  ASSERT_EQ(sender_->transmit(*from, items), 3U);
  EXPECT_EQ(items[0].status, TxStatus::kSent);
  EXPECT_EQ(items[1].status, TxStatus::kTooLong);
  EXPECT_EQ(items[2].status, TxStatus::kSent);
  EXPECT_EQ(from->stats.sendErrors.load(), 1);
  const auto arrivals = collect(*world_, *receiver_, 2);
  ASSERT_EQ(arrivals.size(), 2U);
  // One may come as fragments, through the kernel, and the other through a device: in any order.
  EXPECT_EQ((std::set<Bytes>{arrivals[0].bytes, arrivals[1].bytes}), (std::set<Bytes>{longest, small}));
}

TEST_P(DatagramIoConformance, namesTheAddressThatIsInUse) {
  auto first = openAt(*receiver_, there());
  EXPECT_NE(first->localAddress().port(), 0) << "an ephemeral port is a real one";
  EndpointConfig config;
  config.bindAddress = first->localAddress();
  const auto other = world_->makeAnother(Side::kReceiver);
  auto second = other->openEndpoint(config);
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().code, ErrorCode::kChannelEndpointError);
  EXPECT_EQ(second.error().sysErrno, EADDRINUSE);
  EXPECT_NE(second.error().message.find(first->localAddress().toString()), std::string::npos) << second.error().message;
}

TEST_P(DatagramIoConformance, namesTheAddressThatNoInterfaceHas) {
  EndpointConfig config;
  config.bindAddress = address("203.0.113.1", 4000);  // TEST-NET-3, RFC 5737
  auto endpoint = sender_->openEndpoint(config);
  ASSERT_FALSE(endpoint.ok());
  EXPECT_EQ(endpoint.error().sysErrno, EADDRNOTAVAIL);
  EXPECT_NE(endpoint.error().message.find("203.0.113.1:4000"), std::string::npos) << endpoint.error().message;
}

TEST_P(DatagramIoConformance, refusesDestinationsThatTheEndpointCannotReach) {
  auto from = openAt(*sender_, here());
  auto otherFamily = sender_->resolve(*from, address("::1", 4000));
  ASSERT_FALSE(otherFamily.ok());
  EXPECT_NE(otherFamily.error().message.find("[::1]:4000"), std::string::npos) << otherFamily.error().message;
  auto portZero = sender_->resolve(*from, there());
  ASSERT_FALSE(portZero.ok());
  EXPECT_NE(portZero.error().message.find("port 0"), std::string::npos) << portZero.error().message;
}

TEST_P(DatagramIoConformance, closesAnEndpointWithDatagramsInFlightAndFreesItsPort) {
  auto keep = openAt(*receiver_, there());
  auto doomed = openAt(*receiver_, there());
  auto from = openAt(*sender_, here());
  auto toKeep = hop(*sender_, *from, keep->localAddress());
  auto toDoomed = hop(*sender_, *from, doomed->localAddress());
  const Bytes lost = pattern(5 * 100, 1);
  const Bytes kept = pattern(60, 2);
  std::vector<TxItem> items{item(*toDoomed, lost, 100), item(*toKeep, kept)};
  ASSERT_EQ(sender_->transmit(*from, items), 2U);
  const SockAddr port = doomed->localAddress();
  receiver_->detach(*doomed);
  doomed.reset();
  auto arrivals = collect(*world_, *receiver_, 1);
  ASSERT_EQ(arrivals.size(), 1U);
  EXPECT_EQ(arrivals[0].bytes, kept);

  auto reborn = openAt(*receiver_, port);
  ASSERT_NE(reborn, nullptr);
  items = {item(*toDoomed, kept)};
  ASSERT_EQ(sender_->transmit(*from, items), 1U);
  arrivals = collect(*world_, *receiver_, 1);
  ASSERT_EQ(arrivals.size(), 1U);
  EXPECT_EQ(arrivals[0].bytes, kept) << "nothing of the closed endpoint's reaches the new one";
  EXPECT_EQ(arrivals[0].endpoint, reborn.get());
}

TEST_P(DatagramIoConformance, servesManyEndpointsOnOneInstance) {
  constexpr uint32_t kCount = 100;
  auto from = openAt(*sender_, here());
  std::vector<std::unique_ptr<Endpoint>> targets;
  std::vector<std::unique_ptr<NextHop>> hops;
  std::vector<Bytes> payloads;
  for (uint32_t i = 0; i < kCount; ++i) {
    targets.push_back(openAt(*receiver_, there()));
    hops.push_back(hop(*sender_, *from, targets.back()->localAddress()));
    payloads.push_back(pattern(50 + i, i));
  }
  std::vector<TxItem> items;
  for (uint32_t i = 0; i < kCount; ++i) items.push_back(item(*hops[i], payloads[i]));
  ASSERT_EQ(sender_->transmit(*from, items), kCount);
  const auto arrivals = collect(*world_, *receiver_, kCount);
  ASSERT_EQ(arrivals.size(), kCount);
  std::set<const Endpoint*> seen;
  for (const Arrival& arrival : arrivals) {
    seen.insert(arrival.endpoint);
    const size_t index = arrival.bytes.size() - 50;
    ASSERT_LT(index, kCount);
    EXPECT_EQ(arrival.endpoint, targets[index].get());
    EXPECT_EQ(arrival.bytes, payloads[index]);
  }
  EXPECT_EQ(seen.size(), kCount);
}

TEST_P(DatagramIoConformance, letsNoFloodedEndpointStarveAnother) {
  for (const size_t extra : {size_t{0}, size_t{5}}) {  // few endpoints, and so many that readiness is asked for
    auto flooded = openAt(*receiver_, there(), kLargeBufferBytes);
    auto quiet = openAt(*receiver_, there());
    std::vector<std::unique_ptr<Endpoint>> idle;
    for (size_t i = 0; i < extra; ++i) idle.push_back(openAt(*receiver_, there()));
    auto from = openAt(*sender_, here());
    auto toFlooded = hop(*sender_, *from, flooded->localAddress());
    auto toQuiet = hop(*sender_, *from, quiet->localAddress());
    const Bytes one = pattern(200, 1);
    std::vector<TxItem> items(300, item(*toFlooded, one));
    items.push_back(item(*toQuiet, one));
    ASSERT_EQ(sender_->transmit(*from, items), items.size());
    bool reached = false;
    size_t total = 0;
    // Two endpoints have something: the second poll at the latest looks at the quiet one first. One ring for all is read in the order of
    // arrival: what came first comes first.
    const size_t allowed = world_->hasSocketBuffers() ? 2 : items.size();
    for (size_t polls = 0; polls < allowed && !reached;) {
      const auto arrivals = pollOnce(*receiver_, world_->nowNs());
      if (arrivals.empty()) {
        ASSERT_TRUE(world_->await(*receiver_));
        continue;
      }
      ++polls;
      total += arrivals.size();
      for (const Arrival& arrival : arrivals) reached = reached || arrival.endpoint == quiet.get();
    }
    EXPECT_TRUE(reached) << total << " datagrams came first";
    collect(*world_, *receiver_, items.size() - total);
    receiver_->detach(*flooded);
    receiver_->detach(*quiet);
    for (auto& endpoint : idle) receiver_->detach(*endpoint);
    sender_->detach(*from);
  }
}

TEST_P(DatagramIoConformance, tellsSourcesApart) {
  auto to = openAt(*receiver_, there(), kLargeBufferBytes);
  std::vector<std::unique_ptr<Endpoint>> sources;
  std::vector<Bytes> payloads;
  for (uint32_t i = 0; i < 8; ++i) {
    sources.push_back(openAt(*sender_, here()));
    payloads.push_back(pattern(4 * 300, i));
  }
  for (uint32_t round = 0; round < 3; ++round) {
    for (uint32_t i = 0; i < 8; ++i) {
      auto next = hop(*sender_, *sources[i], to->localAddress());
      std::vector<TxItem> items{item(*next, payloads[i], 300)};
      ASSERT_EQ(sender_->transmit(*sources[i], items), 1U);
    }
  }
  const auto arrivals = collect(*world_, *receiver_, 96);
  ASSERT_EQ(arrivals.size(), 96U);
  for (uint32_t i = 0; i < 8; ++i) {
    // In any order: a kernel keeps that of one processor alone, and a sender may be moved to another one between two trains.
    std::multiset<Bytes> received;
    for (const Arrival& arrival : arrivals) {
      if (arrival.source == sources[i]->localAddress()) received.insert(arrival.bytes);
    }
    std::multiset<Bytes> expected;
    for (auto piece = payloads[i].begin(); piece != payloads[i].end(); piece += 300) {
      for (int round = 0; round < 3; ++round) expected.insert(Bytes(piece, piece + 300));
    }
    EXPECT_EQ(received, expected) << "source " << i;
  }
}

TEST_P(DatagramIoConformance, losesNothingOfOneDestinationToAnothersAbsence) {
  auto alive = openAt(*receiver_, there(), kLargeBufferBytes);
  auto gone = openAt(*receiver_, there());
  auto from = openAt(*sender_, here());
  auto toAlive = hop(*sender_, *from, alive->localAddress());
  auto toGone = hop(*sender_, *from, gone->localAddress());
  receiver_->detach(*gone);
  gone.reset();
  const Bytes bytes = pattern(3 * 100, 9);
  for (int round = 0; round < 10; ++round) {
    std::vector<TxItem> items{item(*toGone, bytes, 100), item(*toAlive, bytes, 100), item(*toGone, bytes), item(*toAlive, bytes)};
    ASSERT_EQ(sender_->transmit(*from, items), 4U);
    EXPECT_EQ(items[1].status, TxStatus::kSent);
    EXPECT_EQ(items[3].status, TxStatus::kSent);
    pollOnce(*sender_, world_->nowNs());
  }
  EXPECT_EQ(collect(*world_, *receiver_, 40).size(), 40U);
}

// By proc(5): the state behind the name in parentheses.
bool isAsleep(pid_t thread) {
  std::ifstream file("/proc/self/task/" + std::to_string(thread) + "/stat");
  std::string text;
  std::getline(file, text);
  const size_t name = text.rfind(')');
  return name != std::string::npos && text.size() > name + 2 && text[name + 2] == 'S';
}

// Armed before it came; true also where there is nothing to sleep on.
bool wakes(const DatagramIo& io) {
  pollfd handle{io.waitHandle(), POLLIN, 0};
  return handle.fd < 0 || ::poll(&handle, 1, kPatienceMs) > 0;
}

TEST_P(DatagramIoConformance, wakesASleeperWhenSomethingArrives) {
  auto to = openAt(*receiver_, there());
  auto from = openAt(*sender_, here());
  auto next = hop(*sender_, *from, to->localAddress());
  const Bytes bytes = pattern(64, 1);
  // The second time after more polls than a thread makes that sleeps between them: a backend may have it woken no more until it asks for that.
  for (const int polls : {0, 10'000}) {
    for (int i = 0; i < polls; ++i) pollOnce(*receiver_, world_->nowNs());
    EXPECT_TRUE(receiver_->arm()) << "nothing is there yet: sleeping is right";
    std::vector<TxItem> items{item(*next, bytes)};
    ASSERT_EQ(sender_->transmit(*from, items), 1U);
    EXPECT_TRUE(wakes(*receiver_)) << "after " << polls << " polls";
    ASSERT_TRUE(world_->await(*receiver_));
    EXPECT_FALSE(receiver_->arm()) << "something is there: sleeping is wrong";
    EXPECT_EQ(collect(*world_, *receiver_, 1).size(), 1U);
    EXPECT_TRUE(receiver_->arm());
  }
  receiver_->detach(*to);
}

// What comes while the thread is in the kernel already wakes it by other means than what came before.
TEST_P(DatagramIoConformance, wakesAThreadThatIsAsleepAlready) {
  if (world_->isSimulated() || receiver_->waitHandle() < 0) GTEST_SKIP() << "nothing to sleep on";
  auto to = openAt(*receiver_, there());
  auto from = openAt(*sender_, here());
  auto next = hop(*sender_, *from, to->localAddress());
  const Bytes bytes = pattern(64, 1);
  for (int round = 0; round < 5; ++round) {
    // A first datagram, so that whatever the first needs (a neighbour, a route) is no reason to wake.
    std::vector<TxItem> items{item(*next, bytes)};
    ASSERT_EQ(sender_->transmit(*from, items), 1U);
    ASSERT_EQ(collect(*world_, *receiver_, 1).size(), 1U);
    std::atomic<bool> woken{false};
    // Frames of others may wake it before: once more then.
    for (bool sent = false; !sent;) {
      while (!receiver_->arm()) pollOnce(*receiver_, world_->nowNs());
      std::atomic<pid_t> sleeper{0};
      std::atomic<bool> over{false};
      std::thread thread([&] {
        sleeper = static_cast<pid_t>(::syscall(SYS_gettid));
        woken = wakes(*receiver_);
        over = true;
      });
      while (!over && (sleeper == 0 || !isAsleep(sleeper))) std::this_thread::yield();
      if (!over) {
        items = {item(*next, bytes)};
        EXPECT_EQ(sender_->transmit(*from, items), 1U);
        sent = true;
      }
      thread.join();
      if (!sent) pollOnce(*receiver_, world_->nowNs());
    }
    EXPECT_TRUE(woken) << "round " << round;
    EXPECT_EQ(collect(*world_, *receiver_, 1).size(), 1U);
  }
  receiver_->detach(*to);
}

TEST_P(DatagramIoConformance, sendsControlFramesInPlace) {
  auto to = openAt(*receiver_, there());
  auto from = openAt(*sender_, here());
  const SockAddr& destination = to->localAddress();
  TxSlot aborted;
  ASSERT_EQ(sender_->reserve(*from, destination, 40, aborted), TxStatus::kPending);
  std::memset(aborted.data, 0xAA, 40);
  TxSlot slot;
  ASSERT_EQ(sender_->reserve(*from, destination, 40, slot), TxStatus::kPending);
  ASSERT_GE(slot.capacity, 40U);
  const Bytes frame = pattern(36, 4);
  std::memcpy(slot.data, frame.data(), frame.size());
  sender_->abort(*from, aborted);
  EXPECT_EQ(sender_->commit(*from, destination, slot, 36), TxStatus::kSent);
  const auto arrivals = collect(*world_, *receiver_, 1);
  ASSERT_EQ(arrivals.size(), 1U);
  EXPECT_EQ(arrivals[0].bytes, frame) << "the aborted frame stays away, the committed one has the length of its commit";
  EXPECT_EQ(arrivals[0].source, from->localAddress());
}

TEST_P(DatagramIoConformance, runsOutOfControlSlotsWithoutHarm) {
  auto from = openAt(*sender_, here());
  const SockAddr destination = from->localAddress();
  TxSlot tooLong;
  EXPECT_EQ(sender_->reserve(*from, destination, 100'000, tooLong), TxStatus::kTooLong);
  std::vector<TxSlot> held;
  TxSlot slot;
  while (sender_->reserve(*from, destination, 40, slot) == TxStatus::kPending) {
    for (const TxSlot& other : held) ASSERT_NE(other.data, slot.data);
    held.push_back(slot);
    ASSERT_LT(held.size(), 10'000U);
  }
  EXPECT_EQ(sender_->reserve(*from, destination, 40, slot), TxStatus::kWouldBlock);
  ASSERT_FALSE(held.empty());
  for (TxSlot& one : held) sender_->abort(*from, one);
  EXPECT_EQ(sender_->reserve(*from, destination, 40, slot), TxStatus::kPending);
  sender_->abort(*from, slot);
}

TEST_P(DatagramIoConformance, tellsTheDestinationAddressBehindAWildcardBind) {
  for (const bool v6 : {false, true}) {
    auto to = openAt(*receiver_, address(v6 ? "::" : "0.0.0.0"));
    auto from = openAt(*sender_, here(v6));
    const SockAddr target = there(v6, to->localAddress().port());
    auto next = hop(*sender_, *from, target);
    const Bytes bytes = pattern(64, 1);
    std::vector<TxItem> items{item(*next, bytes)};
    ASSERT_EQ(sender_->transmit(*from, items), 1U);
    const auto arrivals = collect(*world_, *receiver_, 1);
    ASSERT_EQ(arrivals.size(), 1U);
    EXPECT_EQ(arrivals[0].destination, target);
    receiver_->detach(*to);
    sender_->detach(*from);
  }
}

TEST_P(DatagramIoConformance, countsWhatAFullReceiveBufferDrops) {
  if (!world_->hasSocketBuffers()) GTEST_SKIP() << "the device's ring is the buffer: the suite over FrameIo fills it";
  auto to = openAt(*receiver_, there(), 4096);
  auto from = openAt(*sender_, here());
  auto next = hop(*sender_, *from, to->localAddress());
  const Bytes bytes = pattern(1000, 1);
  constexpr int kSent = 100;
  std::vector<TxItem> items(kSent, item(*next, bytes));
  ASSERT_EQ(sender_->transmit(*from, items), items.size());
  int64_t received = 0;
  // The kernel reports drops with a datagram that arrives after them: keep one coming until all are accounted for.
  int64_t extra = 0;
  while (received + to->stats.receiveQueueDrops.load() < kSent + extra) {
    if (const auto arrivals = pollOnce(*receiver_, world_->nowNs()); !arrivals.empty()) {
      received += static_cast<int64_t>(arrivals.size());
      continue;
    }
    std::vector<TxItem> one{item(*next, bytes)};
    ASSERT_EQ(sender_->transmit(*from, one), 1U);
    ++extra;
    ASSERT_TRUE(world_->await(*receiver_));
    ASSERT_LT(extra, 1000);
  }
  EXPECT_GT(to->stats.receiveQueueDrops.load(), 0);
  EXPECT_EQ(received + to->stats.receiveQueueDrops.load(), kSent + extra);
}

TEST_P(DatagramIoConformance, dropsEmptyDatagramsAndCountsThem) {
  auto to = openAt(*receiver_, there());
  auto from = openAt(*sender_, here());
  auto next = hop(*sender_, *from, to->localAddress());
  const Bytes bytes = pattern(64, 1);
  TxItem empty = item(*next, bytes);
  empty.length = 0;
  std::vector<TxItem> items{empty, item(*next, bytes)};
  ASSERT_EQ(sender_->transmit(*from, items), 2U);
  const auto arrivals = collect(*world_, *receiver_, 1);
  ASSERT_EQ(arrivals.size(), 1U);
  EXPECT_EQ(arrivals[0].bytes, bytes);
  EXPECT_EQ(to->stats.emptyDatagrams.load(), 1);
}

TEST_P(DatagramIoConformance, attachesAndDetachesAnEndpointOnceHoweverOftenAsked) {
  auto to = openAt(*receiver_, there());
  receiver_->attach(*to);
  auto from = openAt(*sender_, here());
  auto next = hop(*sender_, *from, to->localAddress());
  const Bytes first = pattern(64, 1);
  const Bytes second = pattern(64, 2);
  std::vector<TxItem> items{item(*next, first), item(*next, second)};
  ASSERT_EQ(sender_->transmit(*from, items), 2U);
  EXPECT_EQ(collect(*world_, *receiver_, 2).size(), 2U);
  receiver_->detach(*to);
  receiver_->detach(*to);
  EXPECT_TRUE(pollOnce(*receiver_, world_->nowNs()).empty());
}

TEST_P(DatagramIoConformance, anEndpointTakesAddressAndPortOverFromOneOfAnotherInstance) {
  for (const SockAddr& bind : {there(false), there(true), address("0.0.0.0")}) {
    const std::unique_ptr<DatagramIo> other = world_->makeAnother(Side::kReceiver);
    auto before = openAt(*other, bind);
    EndpointConfig config;
    config.bindAddress = before->localAddress();
    EXPECT_EQ(receiver_->openEndpoint(config).error().sysErrno, EADDRINUSE) << "while the other one holds it";
    config.predecessor = before.get();
    auto opened = receiver_->openEndpoint(config);
    ASSERT_TRUE(opened.ok()) << opened.error().message;
    auto after = opened.take();
    EXPECT_EQ(after->localAddress(), before->localAddress());
    other->detach(*before);
    receiver_->attach(*after);
    before.reset();
    config.predecessor = nullptr;
    EXPECT_EQ(other->openEndpoint(config).error().sysErrno, EADDRINUSE) << "it was never free";
    const SockAddr target = there(bind.isV6(), after->localAddress().port());
    auto from = openAt(*sender_, here(bind.isV6()));
    auto next = hop(*sender_, *from, target);
    const Bytes bytes = pattern(100, 1);
    std::vector<TxItem> items{item(*next, bytes)};
    ASSERT_EQ(sender_->transmit(*from, items), 1U);
    const auto arrivals = collect(*world_, *receiver_, 1);
    ASSERT_EQ(arrivals.size(), 1U);
    EXPECT_EQ(arrivals[0].bytes, bytes);
    EXPECT_EQ(arrivals[0].endpoint, after.get());
    EXPECT_EQ(arrivals[0].destination, target);
    receiver_->detach(*after);
    sender_->detach(*from);
  }
}

// After it was sent and before it was read, for each datagram of a train. A backend that does not know says 0, or the kernel's word where that
// brought the datagram.
TEST_P(DatagramIoConformance, tellsWhenADatagramArrivedIfItKnows) {
  const auto facts = receiver_->facts();
  const bool knows =
      std::find(facts.begin(), facts.end(), std::pair<std::string, std::string>("timestamps", kTimestampsOnArrival)) != facts.end();
  SystemClock clock;
  for (const uint32_t count : {1U, 8U}) {
    auto to = openAt(*receiver_, there(), kLargeBufferBytes, 0, true);
    auto from = openAt(*sender_, here());
    auto next = hop(*sender_, *from, to->localAddress());
    const Bytes bytes = pattern(count * 1000, count);
    const int64_t beforeNs = clock.epochNanos();
    std::vector<TxItem> items{item(*next, bytes, 1000)};
    ASSERT_EQ(sender_->transmit(*from, items), 1U);
    const auto arrivals = collect(*world_, *receiver_, count);
    const int64_t afterNs = clock.epochNanos();
    ASSERT_EQ(arrivals.size(), count);
    for (const Arrival& arrival : arrivals) {
      if (!knows && arrival.arrivedNs == 0) continue;
      EXPECT_GE(arrival.arrivedNs, beforeNs);
      EXPECT_LE(arrival.arrivedNs, afterNs);
    }
    receiver_->detach(*to);
    sender_->detach(*from);
  }
}

TEST_P(DatagramIoConformance, isWellAsLongAsNothingHappens) {
  EXPECT_EQ(receiver_->health().state, Health::State::kOk);
  EXPECT_EQ(receiver_->health().reason, "");
}

INSTANTIATE_TEST_SUITE_P(Backends, DatagramIoConformance, ::testing::ValuesIn(variants()),
                         [](const auto& variant) { return variant.param.name; });

}  // namespace
}  // namespace outrigger::io::testing
