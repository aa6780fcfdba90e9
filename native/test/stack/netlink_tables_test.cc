// SPDX-License-Identifier: Apache-2.0
// The mirror of the kernel's tables against a real kernel: each case in a network namespace of its own, with a veth pair to another.
#include <gtest/gtest.h>
#include <net/if.h>
#include <poll.h>

#include <atomic>
#include <thread>

#include "net/netlink_tables.h"
#include "support/two_namespaces.h"

namespace outrigger::net {
namespace {

using outrigger::testing::TwoNamespaces;

constexpr int kPatienceMs = 20'000;  // reaching it is a failure, not a measurement

IpAddress ip(const std::string& text) { return IpAddress::of(io::SockAddr::parseNumeric(text, 0).take()); }

// A watched destination, and waiting for its answer to become what it should.
struct Watched {
  Watched(KernelTables& all, const std::string& destination, const std::string& source = "") : tables(all) {
    RouteQuestion question;
    question.number = 1;
    question.destination = ip(destination);
    if (!source.empty()) question.source = ip(source);
    cell.question.store(question);
    tables.watch(cell);
  }
  ~Watched() { tables.forget(cell); }
  RouteAnswer answer() const { return cell.answer.load(); }
  bool await(const std::function<bool(const RouteAnswer&)>& wanted) const {
    for (int waited = 0; waited < kPatienceMs; ++waited) {
      if (wanted(answer())) return true;
      ::poll(nullptr, 0, 1);
    }
    return false;
  }

  KernelTables& tables;
  RouteCell cell;
};

std::shared_ptr<NetlinkTables> open() {
  auto tables = NetlinkTables::create();
  EXPECT_TRUE(tables.ok()) << tables.error().message;
  return tables.take();
}

bool usable(const RouteAnswer& answer) { return answer.neighbour == NeighbourState::kUsable; }

TEST(NetlinkTables, answerAnOnLinkDestinationAndFollowItsNeighbour) {
  TwoNamespaces::run([](TwoNamespaces& net) {
    auto tables = open();
    for (const auto& [far, near] :
         {std::pair{TwoNamespaces::kFar, TwoNamespaces::kNear}, {TwoNamespaces::kFarV6, TwoNamespaces::kNearV6}}) {
      Watched watched(*tables, far);
      EXPECT_EQ(watched.answer().route, RouteState::kForward);
      EXPECT_EQ(watched.answer().interfaceIndex, ::if_nametoindex("va"));
      EXPECT_EQ(watched.answer().source, ip(near));
      EXPECT_EQ(watched.answer().nextHop, ip(far));
      EXPECT_EQ(watched.answer().mtu, 1500U);
      EXPECT_EQ(watched.answer().neighbour, NeighbourState::kMissing);
      net.near(std::string("ip neigh replace ") + far + " lladdr 02:00:00:00:00:07 dev va nud reachable");
      EXPECT_TRUE(watched.await([](const RouteAnswer& a) { return usable(a) && a.mac[5] == 7; }));
      net.near(std::string("ip neigh replace ") + far + " lladdr 02:00:00:00:00:08 dev va nud stale");
      EXPECT_TRUE(watched.await([](const RouteAnswer& a) { return a.neighbour == NeighbourState::kStale && a.mac[5] == 8; }));
      net.near(std::string("ip neigh del ") + far + " dev va");
      EXPECT_TRUE(watched.await([](const RouteAnswer& a) { return a.neighbour == NeighbourState::kMissing; }));
    }
  });
}

TEST(NetlinkTables, answerThroughAGatewayAndWithTheRoutesMtu) {
  TwoNamespaces::run([](TwoNamespaces& net) {
    auto tables = open();
    Watched watched(*tables, "192.0.2.9");
    EXPECT_EQ(watched.answer().route, RouteState::kUnreachable);
    net.near("ip route add 192.0.2.0/24 via 10.91.0.2 mtu 1400");
    ASSERT_TRUE(watched.await([](const RouteAnswer& a) { return a.route == RouteState::kForward; }));
    EXPECT_EQ(watched.answer().nextHop, ip("10.91.0.2"));
    EXPECT_EQ(watched.answer().source, ip("10.91.0.1"));
    EXPECT_EQ(watched.answer().mtu, 1400U);
    // A longer prefix wins, and goes again.
    net.near("ip route add 192.0.2.8/30 via 10.91.0.77");
    EXPECT_TRUE(watched.await([](const RouteAnswer& a) { return a.nextHop == ip("10.91.0.77") && a.mtu == 1500; }));
    net.near("ip route del 192.0.2.8/30");
    EXPECT_TRUE(watched.await([](const RouteAnswer& a) { return a.nextHop == ip("10.91.0.2"); }));
    net.near("ip route replace unreachable 192.0.2.0/24");
    EXPECT_TRUE(watched.await([](const RouteAnswer& a) { return a.route == RouteState::kUnreachable; }));
  });
}

TEST(NetlinkTables, answerAPodRouteWithAnOnlinkGateway) {
  // As pod networks have it: a /32 address, and a gateway that no prefix covers.
  TwoNamespaces::run([](TwoNamespaces& net) {
    auto tables = open();
    net.near("ip addr flush dev va && ip addr add 10.244.1.5/32 dev va");
    net.near("ip route add default via 169.254.1.1 dev va onlink");
    net.near("ip neigh replace 169.254.1.1 lladdr ee:ee:ee:ee:ee:ee dev va nud permanent");
    Watched watched(*tables, "10.244.2.7");
    ASSERT_TRUE(watched.await(usable));
    EXPECT_EQ(watched.answer().nextHop, ip("169.254.1.1"));
    EXPECT_EQ(watched.answer().source, ip("10.244.1.5"));
    EXPECT_EQ(watched.answer().mac[0], 0xEE);
  });
}

TEST(NetlinkTables, tellLocalAddressesFromOthersAndNoticeNewOnes) {
  TwoNamespaces::run([](TwoNamespaces& net) {
    auto tables = open();
    Watched watched(*tables, "10.91.0.200");
    EXPECT_EQ(watched.answer().route, RouteState::kForward);
    const uint64_t before = tables->addressVersion();
    net.near("ip addr add 10.91.0.200/32 dev va");
    ASSERT_TRUE(watched.await([](const RouteAnswer& a) { return a.route == RouteState::kLocal; }));
    EXPECT_NE(tables->addressVersion(), before);
    std::vector<LocalAddress> addresses;
    addresses.reserve(64);
    while (!tables->copyAddresses(addresses)) {
    }
    EXPECT_TRUE(std::any_of(addresses.begin(), addresses.end(), [](const auto& a) { return a.address == ip("10.91.0.200"); }));
  });
}

TEST(NetlinkTables, giveTheirAddressesToWhoNeverWaitsAlsoWhileTheyAskTheKernel) {
  TwoNamespaces::run([](TwoNamespaces&) {
    auto tables = open();
    std::atomic<int> lookups{0};
    std::atomic<bool> done{false};
    // As the tables' own thread does after any notification: lock, ask, answer.
    std::thread asker([&] {
      RouteQuestion question;
      question.number = 1;
      question.destination = ip(TwoNamespaces::kFar);
      while (!done.load()) {
        tables->lookup(question);
        lookups.fetch_add(1);
      }
    });
    std::vector<LocalAddress> addresses;
    addresses.reserve(KernelTables::kMaxLocalAddresses);
    int refused = 0;
    while (lookups.load() < 2000) {
      if (!tables->copyAddresses(addresses)) ++refused;
    }
    done.store(true);
    asker.join();
    EXPECT_EQ(refused, 0) << "no address changed";
    EXPECT_TRUE(std::any_of(addresses.begin(), addresses.end(), [](const auto& a) { return a.address == ip(TwoNamespaces::kNear); }));
  });
}

TEST(NetlinkTables, followTheLinksMtuAndItsRemoval) {
  TwoNamespaces::run([](TwoNamespaces& net) {
    auto tables = open();
    Watched watched(*tables, TwoNamespaces::kFar);
    net.near("ip link set va mtu 1300");
    EXPECT_TRUE(watched.await([](const RouteAnswer& a) { return a.mtu == 1300; }));
    net.near("ip link del va");
    EXPECT_TRUE(watched.await([](const RouteAnswer& a) { return a.route == RouteState::kUnreachable; }));
  });
}

TEST(NetlinkTables, answerAnotherQuestionOfTheSameCell) {
  TwoNamespaces::run([](TwoNamespaces&) {
    auto tables = open();
    Watched watched(*tables, TwoNamespaces::kFar);
    RouteQuestion question;
    question.number = 2;
    question.destination = ip(TwoNamespaces::kNear);
    watched.cell.question.store(question);
    tables->refresh(watched.cell);
    EXPECT_TRUE(watched.await([](const RouteAnswer& a) { return a.question == 2 && a.route == RouteState::kLocal; }));
  });
}

// Behind the far end, a link that takes less: a datagram that is too long for it teaches the kernel the path's MTU, of which it tells nobody.
class NarrowWay {
 public:
  static constexpr const char* kBeyond = "192.0.2.9";
  static constexpr const char* kBeyondV6 = "2001:db8:92::9";

  explicit NarrowWay(TwoNamespaces& net) : net_(net) {
    net.far("ip link add narrow0 type veth peer name narrow1");
    net.far("ip link set narrow0 up");
    net.far("ip link set narrow1 up");
    net.far("ip addr add 192.0.2.1/24 dev narrow0");
    net.far("ip addr add 2001:db8:92::1/64 dev narrow0 nodad");
    net.far("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
    net.near("ip route add default via 10.91.0.2 && ip -6 route add default via fd91::2");
    // The end of duplicate address detection is a change of which the tables are told.
    for (int waited = 0; waited < kPatienceMs && std::system("ip -6 addr show dev va | grep -q tentative") == 0; waited += 10)
      ::poll(nullptr, 0, 10);
  }
  // Until the kernel has learned it.
  bool teach(uint32_t mtu) {
    net_.far("ip link set narrow0 mtu " + std::to_string(mtu));
    const std::vector<uint8_t> bytes(1400);
    for (const char* beyond : {kBeyond, kBeyondV6}) {
      const io::SockAddr to = io::SockAddr::parseNumeric(beyond, 9).take();
      const UniqueFd socket(::socket(to.family(), SOCK_DGRAM | SOCK_CLOEXEC, 0));
      const std::string known = "ip route get " + std::string(beyond) + " | grep -q 'mtu " + std::to_string(mtu) + "'";
      int attempts = 0;
      do {
        if (++attempts > 1000) return false;
        ::sendto(socket.get(), bytes.data(), bytes.size(), 0, to.get(), to.length);
      } while (std::system(known.c_str()) != 0);
    }
    return true;
  }

 private:
  TwoNamespaces& net_;
};

// Sends all the time, as the stack does it: says so, and asks anew after it was idle.
bool becomesWhileInUse(Watched& watched, const std::function<bool(const RouteAnswer&)>& wanted) {
  for (int waited = 0; waited < kPatienceMs; ++waited) {
    if (wanted(watched.answer())) return true;
    if (!watched.cell.used.exchange(true)) watched.tables.refresh(watched.cell);
    ::poll(nullptr, 0, 1);
  }
  return false;
}

TEST(NetlinkTables, noticeALearnedPathMtuOnANodeThatIsNeverQuiet) {
  TwoNamespaces::run([](TwoNamespaces& net) {
    NarrowWay way(net);
    auto tables = open();
    Watched watched(*tables, NarrowWay::kBeyond);
    Watched watchedV6(*tables, NarrowWay::kBeyondV6);
    EXPECT_EQ(watched.answer().mtu, 1500U);
    for (Watched* each : {&watched, &watchedV6}) {
      each->cell.used.store(true);
      tables->refresh(each->cell);
    }
    std::atomic<bool> over{false};
    std::thread chatter([&] {
      while (!over.load()) {
        net.near("ip neigh replace 10.91.0.103 lladdr 02:00:00:00:00:03 dev va && ip neigh del 10.91.0.103 dev va");
        ::poll(nullptr, 0, 50);
      }
    });
    EXPECT_TRUE(way.teach(1300));
    EXPECT_TRUE(becomesWhileInUse(watched, [](const RouteAnswer& a) { return a.mtu == 1300; }));
    EXPECT_TRUE(becomesWhileInUse(watchedV6, [](const RouteAnswer& a) { return a.mtu == 1300; }));
    over.store(true);
    chatter.join();
  });
}

TEST(NetlinkTables, noticeItAlsoForWhoCannotTellWhenADestinationIsUsed) {
  TwoNamespaces::run([](TwoNamespaces& net) {
    NarrowWay way(net);
    auto tables = open();
    RouteCell cell;
    RouteQuestion question;
    question.number = 1;
    question.destination = ip(NarrowWay::kBeyond);
    cell.question.store(question);
    cell.alwaysUsed = true;
    tables->watch(cell);
    // Long after anything happened.
    for (int waited = 0; waited < kPatienceMs && tables->upkeeps() < 3; ++waited) ::poll(nullptr, 0, 1);
    ASSERT_GE(tables->upkeeps(), 3);
    ASSERT_TRUE(way.teach(1300));
    int waited = 0;
    while (cell.answer.load().mtu != 1300 && waited++ < kPatienceMs) ::poll(nullptr, 0, 1);
    EXPECT_EQ(cell.answer.load().mtu, 1300U);
    tables->forget(cell);
  });
}

TEST(NetlinkTables, catchUpAfterMoreNotificationsThanFit) {
  TwoNamespaces::run([](TwoNamespaces& net) {
    auto tables = open();
    Watched watched(*tables, TwoNamespaces::kFar);
    // Forty thousand changes in one go, while the thread is kept from reading by nothing but its own pace; whether or not some got lost, the
    // last word is right.
    net.near(
        "{ for i in $(seq 1 20000); do echo \"neigh replace 10.91.$((i / 250 % 250)).$((i % 250)) lladdr 02:00:00:00:00:01 dev va\"; done;"
        " echo 'neigh replace 10.91.0.2 lladdr 02:00:00:00:00:42 dev va nud permanent'; } | ip -batch - ");
    EXPECT_TRUE(watched.await([](const RouteAnswer& a) { return usable(a) && a.mac[5] == 0x42; })) << tables->resyncs() << " resyncs";
  });
}

}  // namespace
}  // namespace outrigger::net
