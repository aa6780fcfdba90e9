// SPDX-License-Identifier: Apache-2.0
// What nicd tells a driver of the node's tables while its session lasts: neighbours that it looks for on request, and every change of a route, a neighbour
// and the link.
#include <gmock/gmock.h>
#include <net/if.h>
#include <poll.h>
#include <sys/eventfd.h>

#include <chrono>
#include <thread>

#include "io/nicd_client/nicd_open.h"
#include "io/nicd_client/nicd_tables.h"
#include "nicd/feed.h"
#include "nicd_world.h"

namespace outrigger::nicd::testing {
namespace {

using ::testing::HasSubstr;

class NicdTablesOfANode : public NicdTest {};

// Polls: the feed has no handle to wait on.
bool becomes(const std::function<bool()>& condition) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(kGuardMs);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > until) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

// A driver's view, in a pod, of the node's tables.
struct View {
  explicit View(const std::string& socket) {
    Connection::Options options;
    options.socket = socket;
    auto opened = Connection::open(options);
    EXPECT_TRUE(opened) << opened.error().message;
    if (!opened) return;
    connection = opened.take();
    auto made = openSession(*connection, MessageType::kOpenPacket, packetRequest("va", PacketRole::kTransmit), {});
    EXPECT_TRUE(made) << made.error().message;
    if (!made) return;
    session = made.take();
    tables = NicdTables::create(connection, session->answer.opened, "va");
  }

  std::shared_ptr<Connection> connection;
  std::optional<OpenSession> session;
  std::shared_ptr<NicdTables> tables;
};

net::IpAddress ipOf(const char* text) { return net::IpAddress::of(*io::SockAddr::parseNumeric(text, 0)); }

void ask(net::KernelTables& tables, net::RouteCell& cell, const char* destination) {
  net::RouteQuestion question;
  question.number = 1;
  question.destination = ipOf(destination);
  cell.question.store(question);
  tables.watch(cell);
}

TEST_F(NicdTablesOfANode, ANeighbourIsLookedForBeforeAnythingIsSentToIt) {
  NicdWorld::run([](NicdWorld& world) {
    world.start({"--allow-packet"});
    ASSERT_TRUE(world.veth().near("ip neigh flush dev va"));
    PodProcess pod([&](PodProcess&) {
      View view(world.socket());
      ASSERT_NE(view.tables, nullptr);
      net::RouteCell cell;
      ask(*view.tables, cell, "10.77.0.2");
      EXPECT_TRUE(becomes([&] { return cell.answer.load().neighbour != net::NeighbourState::kMissing; }))
          << "nothing was sent, and nobody asked";
      EXPECT_EQ(cell.answer.load().route, net::RouteState::kForward);
      view.tables->forget(cell);
      // A request of one's own, and one for where nothing leads.
      RawClient client(world.socket());
      ASSERT_NE(bodyOf<Welcome>(client.hello()), nullptr);
      const auto opened = client.ask(MessageType::kOpenPacket, packetRequest("va", PacketRole::kTransmit));
      ASSERT_NE(bodyOf<OpenedText>(opened), nullptr);
      Resolve resolve;
      resolve.session = bodyOf<OpenedText>(opened)->opened.session;
      resolve.address = addressOf(*io::SockAddr::parseNumeric("10.77.0.3", 0));
      EXPECT_EQ(refusalText(client.ask(MessageType::kResolve, resolve)), "") << "nobody has it, and that shows later";
      resolve.address = addressOf(*io::SockAddr::parseNumeric("255.255.255.255", 0));
      EXPECT_THAT(refusalText(client.ask(MessageType::kResolve, resolve)), HasSubstr("cannot ask for the neighbour 255.255.255.255"));
      resolve.session += 1000;
      EXPECT_NE(refusalText(client.ask(MessageType::kResolve, resolve)), "");
    });
    pod.join();
  });
}

TEST_F(NicdTablesOfANode, WhatChangesOnTheNodeIsToldWhileTheSessionLasts) {
  NicdWorld::run([](NicdWorld& world) {
    world.start({"--allow-packet"});
    PodProcess pod([&](PodProcess& self) {
      View view(world.socket());
      ASSERT_NE(view.tables, nullptr);
      net::RouteCell onLink;
      ask(*view.tables, onLink, "10.77.0.2");
      net::RouteCell beyond;
      ask(*view.tables, beyond, "10.88.0.1");
      EXPECT_EQ(beyond.answer.load().route, net::RouteState::kUnreachable);
      self.say('r');
      // A route appears.
      EXPECT_TRUE(becomes([&] { return beyond.answer.load().route == net::RouteState::kForward; }));
      EXPECT_EQ(beyond.answer.load().nextHop, ipOf("10.77.0.2"));
      self.say('n');
      // A neighbour gets another address, and so does what goes by it.
      const std::array<uint8_t, 6> other{0x02, 0, 0, 0, 0, 0x99};
      EXPECT_TRUE(becomes([&] { return onLink.answer.load().mac == other && beyond.answer.load().mac == other; }));
      self.say('m');
      // The link shrinks, and the paths over it.
      EXPECT_TRUE(becomes([&] { return view.tables->link().mtu == 1300; }));
      EXPECT_TRUE(becomes([&] { return onLink.answer.load().mtu == 1300; }));
      self.say('g');
      EXPECT_TRUE(becomes([&] { return beyond.answer.load().route == net::RouteState::kUnreachable; })) << "its route went";
      view.tables->forget(beyond);
      view.tables->forget(onLink);
    });
    ASSERT_TRUE(pod.await('r'));
    ASSERT_TRUE(world.veth().near("ip route add 10.88.0.0/16 via 10.77.0.2 dev va"));
    ASSERT_TRUE(pod.await('n'));
    ASSERT_TRUE(world.veth().near("ip neigh replace 10.77.0.2 lladdr 02:00:00:00:00:99 dev va nud permanent"));
    ASSERT_TRUE(pod.await('m'));
    ASSERT_TRUE(world.veth().near("ip link set va mtu 1300"));
    ASSERT_TRUE(pod.await('g'));
    ASSERT_TRUE(world.veth().near("ip route del 10.88.0.0/16"));
    pod.join();
  });
}

// Of which the kernel tells nobody: in nicd's feed, of which the driver's part is shown above.
TEST_F(NicdTablesOfANode, APathMtuThatTheKernelLearnsIsToldLongAfterTheLastChange) {
  VethWorld::run([](VethWorld& veth) {
    ASSERT_TRUE(veth.far("ip link add narrow0 mtu 1300 type veth peer name narrow1"));
    ASSERT_TRUE(veth.far("ip addr add 192.0.2.1/24 dev narrow0") && veth.far("ip link set narrow0 up") &&
                veth.far("ip link set narrow1 up"));
    ASSERT_TRUE(veth.far("sysctl -qw net.ipv4.ip_forward=1"));
    ASSERT_TRUE(veth.near("ip route add default via 10.77.0.2"));
    auto made = net::NetlinkTables::create();
    ASSERT_TRUE(made) << made.error().message;
    const std::shared_ptr<net::NetlinkTables> tables = made.take();
    SessionFeed feed(tables, {"va", ::if_nametoindex("va")});
    Watch watch;
    watch.cell = 7;
    watch.number = 1;
    watch.destination = addressOf(*io::SockAddr::parseNumeric("192.0.2.9", 0));
    feed.watch(watch);
    uint32_t told = 0;
    // As nicd does whenever the tables say that something may have changed.
    const auto collect = [&] {
      pollfd changed{tables->changeHandle(), POLLIN, 0};
      if (::poll(&changed, 1, kGuardMs) <= 0) return false;
      eventfd_t ignored = 0;
      ::eventfd_read(tables->changeHandle(), &ignored);
      std::vector<FeedEntry> entries;
      feed.collect(entries);
      for (const FeedEntry& entry : entries) {
        if (entry.kind == static_cast<uint8_t>(FeedKind::kRoute)) told = entry.mtu;
      }
      return true;
    };
    while (told == 0 || tables->upkeeps() < 3) ASSERT_TRUE(collect()) << "nobody looks after the destination any more";
    EXPECT_EQ(told, 1500U);
    const auto to = io::SockAddr::parseNumeric("192.0.2.9", 9);
    const UniqueFd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    const std::vector<uint8_t> bytes(1400);
    while (!veth.near("ip route get 192.0.2.9 | grep -q 'mtu 1300'")) {
      ::sendto(socket.get(), bytes.data(), bytes.size(), 0, to->get(), to->length);
    }
    while (told != 1300) ASSERT_TRUE(collect()) << "told last: " << told;
  });
}

}  // namespace
}  // namespace outrigger::nicd::testing
