// SPDX-License-Identifier: Apache-2.0
// The stack's own ARP, neighbour discovery and ICMP, where the kernel does not own the device.
#include "io/stack/neighbour_messages.h"
#include "io/stack/packet.h"
#include "stack_world.h"

namespace outrigger::io::testing {
namespace {

constexpr int64_t kSecondNs = 1'000'000'000;

// Two hosts that nobody has told each other's MAC address.
class OwnNeighbours : public StackWorld, public ::testing::WithParamInterface<std::pair<std::string, std::string>> {
 protected:
  void SetUp() override {
    HostOptions a;
    a.address = GetParam().first;
    a.peer = GetParam().second;
    a.kernelOwnsDevice = false;
    HostOptions b = a;
    std::swap(b.address, b.peer);
    b.mac = kMacB;
    b.peerMac = kMacA;
    hostA = std::make_unique<Host>(wire, a);
    hostB = std::make_unique<Host>(wire, b);
    from_ = hostA->open(a.address);
    to_ = hostB->open(b.address);
    next_ = hostA->hop(*from_, to_->localAddress());
    // Both announce themselves, and neither knows the other by that.
    run(1);
  }
  // Both hosts poll for a while, in steps of ten milliseconds.
  std::vector<Arrival> run(int64_t milliseconds, bool bothHosts = true) {
    std::vector<Arrival> atB;
    for (int64_t until = wire.nowNs() + milliseconds * kMs; wire.nowNs() < until;) {
      wire.setNow(wire.nowNs() + 10 * kMs);
      hostA->poll(wire.nowNs());
      if (bothHosts) {
        auto some = hostB->poll(wire.nowNs());
        atB.insert(atB.end(), some.begin(), some.end());
      }
    }
    return atB;
  }
  NeighbourFrame announcementOf(const std::string& address, const MacAddress& mac) {
    NeighbourFrame frame;
    frame.ownMac = mac;
    frame.own = net::IpAddress::of(at(address));
    return frame;
  }
  Bytes announcement(const std::string& address, const MacAddress& mac) {
    Bytes bytes(kMaxNeighbourFrameLength);
    bytes.resize(writeNeighbourAnswer(announcementOf(address, mac), false, bytes.data()));
    return bytes;
  }

  std::unique_ptr<Endpoint> from_;
  std::unique_ptr<Endpoint> to_;
  std::unique_ptr<NextHop> next_;
};

TEST_P(OwnNeighbours, areAskedForAndAnswerWithinOneExchange) {
  EXPECT_EQ(hostA->send(*from_, *next_, pattern(100, 1)).status, TxStatus::kNeighbour);
  run(50);
  EXPECT_EQ(hostA->send(*from_, *next_, pattern(100, 1)).status, TxStatus::kSent);
  const auto arrivals = pollAll(*hostB);
  ASSERT_EQ(arrivals.size(), 1U);
  EXPECT_EQ(arrivals[0].source, from_->localAddress());
  EXPECT_EQ(hostA->count(StackCounter::kNeighbourRequestsSent), 1);
  // Who was asked knows the asker too: no second exchange for the way back.
  EXPECT_EQ(hostB->sendControl(*to_, from_->localAddress(), pattern(36, 2)), TxStatus::kSent);
  EXPECT_EQ(pollAll(*hostA).size(), 1U);
  EXPECT_EQ(hostB->count(StackCounter::kNeighbourRequestsSent), 0);
}

TEST_P(OwnNeighbours, thatNeverAnswerAreAskedOnceASecondAndNothingIsSent) {
  const SockAddr nobody = at(GetParam().first.find(':') == std::string::npos ? "10.77.0.99" : "fd77::99", 4000);
  auto next = hostA->hop(*from_, nobody);
  int64_t refused = 0;
  for (int i = 0; i < 1000; ++i) {
    if (hostA->send(*from_, *next, pattern(100, 1)).status == TxStatus::kNeighbour) ++refused;
    run(10);
  }
  EXPECT_EQ(refused, 1000);
  EXPECT_GE(hostA->count(StackCounter::kNeighbourRequestsSent), 9);
  EXPECT_LE(hostA->count(StackCounter::kNeighbourRequestsSent), 12);
  EXPECT_EQ(hostA->count(StackCounter::kNeighbourWaits), 1000);
  // And no more once nobody wants to send there.
  run(10'000);
  const int64_t before = hostA->count(StackCounter::kNeighbourRequestsSent);
  run(10'000);
  EXPECT_EQ(hostA->count(StackCounter::kNeighbourRequestsSent), before);
}

TEST_P(OwnNeighbours, thatMoveAreFollowedAtTheirAnnouncement) {
  hostA->send(*from_, *next_, pattern(1, 1));
  run(50);
  const MacAddress moved{0x02, 0, 0, 0, 0, 0x77};
  wire.deliver(0, announcement(GetParam().second, moved));
  hostA->poll(wire.nowNs());
  MacAddress seen{};
  wire.onFrame([&](uint32_t station, const Bytes& frame) {
    if (station == 0) std::copy_n(frame.begin(), 6, seen.begin());
  });
  EXPECT_EQ(hostA->send(*from_, *next_, pattern(100, 2)).status, TxStatus::kSent);
  EXPECT_EQ(seen, moved);
}

TEST_P(OwnNeighbours, thatFlapCostNothingButTheHeader) {
  hostA->send(*from_, *next_, pattern(1, 1));
  run(50);
  for (uint32_t i = 0; i < 50; ++i) {
    const MacAddress mac{0x02, 0, 0, 0, 0, static_cast<uint8_t>(0x70 + i % 2)};
    MacAddress seen{};
    wire.onFrame([&](uint32_t, const Bytes& frame) { std::copy_n(frame.begin(), 6, seen.begin()); });
    wire.deliver(0, announcement(GetParam().second, mac));
    hostA->poll(wire.nowNs());
    EXPECT_EQ(hostA->send(*from_, *next_, pattern(100, i)).status, TxStatus::kSent);
    EXPECT_EQ(seen, mac);
  }
  wire.onFrame(nullptr);
}

TEST_P(OwnNeighbours, thatFallSilentAreProbedAndThenGivenUp) {
  hostA->send(*from_, *next_, pattern(1, 1));
  run(50);
  // B hears nothing any more, and A goes on sending.
  bool gaveUp = false;
  for (int i = 0; i < 4000 && !gaveUp; ++i) {
    gaveUp = hostA->send(*from_, *next_, pattern(100, 2)).status == TxStatus::kNeighbour;
    run(10, false);
  }
  EXPECT_TRUE(gaveUp);
  EXPECT_GE(wire.nowNs(), 33 * kSecondNs) << "reachable for thirty seconds, then three probes of a second";
  // It comes back as it was asked to.
  while (!hostB->poll(wire.nowNs()).empty()) {
  }
  hostA->send(*from_, *next_, pattern(1, 1));
  run(2000);
  EXPECT_EQ(hostA->send(*from_, *next_, pattern(100, 2)).status, TxStatus::kSent);
}

TEST_P(OwnNeighbours, thatAnswerProbesStayReachable) {
  hostA->send(*from_, *next_, pattern(1, 1));
  run(50);
  for (int i = 0; i < 10'000; ++i) {
    ASSERT_EQ(hostA->send(*from_, *next_, pattern(20, 2)).status, TxStatus::kSent) << i;
    run(10);
  }
}

TEST_P(OwnNeighbours, inAStormAreLimitedAndDisplaceNobody) {
  hostA->send(*from_, *next_, pattern(1, 1));
  run(50);
  const bool v6 = GetParam().first.find(':') != std::string::npos;
  for (uint32_t i = 0; i < 5000; ++i) {
    // Requests for our address, each from a host that wants to be known.
    NeighbourFrame ask;
    ask.ownMac = {0x02, 1, 0, 0, static_cast<uint8_t>(i >> 8), static_cast<uint8_t>(i)};
    ask.own = net::IpAddress::of(
        at(v6 ? "fd77::1:" + std::to_string(1000 + i) : "10.77." + std::to_string(1 + i / 250) + "." + std::to_string(1 + i % 250)));
    ask.target = net::IpAddress::of(at(GetParam().first));
    Bytes frame(kMaxNeighbourFrameLength);
    frame.resize(writeNeighbourRequest(ask, frame.data()));
    wire.deliver(0, frame);
    if (i % 50 == 0) hostA->poll(wire.nowNs());
  }
  while (!hostA->station->arm()) EXPECT_TRUE(hostA->poll(wire.nowNs()).empty());
  EXPECT_EQ(hostA->count(StackCounter::kNeighbourPackets), 5000 + 2);
  EXPECT_EQ(hostA->count(StackCounter::kNeighbourPackets), hostA->count(StackCounter::kNeighbourPacketsLimited) + 128 + 1 + 1)
      << "the limit's burst, B's announcement and B's answer";
  EXPECT_EQ(hostA->send(*from_, *next_, pattern(100, 2)).status, TxStatus::kSent);
  EXPECT_EQ(wire.outstanding(0), 0U);
}

TEST_P(OwnNeighbours, thatClaimOurAddressAreCountedAndNotBelieved) {
  wire.deliver(0, announcement(GetParam().first, {0x02, 9, 9, 9, 9, 9}));
  hostA->poll(wire.nowNs());
  EXPECT_EQ(hostA->count(StackCounter::kAddressConflicts), 1);
}

TEST_P(OwnNeighbours, areReachedThroughAGateway) {
  const bool v6 = GetParam().first.find(':') != std::string::npos;
  ASSERT_TRUE(hostA->tables->addRoute(v6 ? "2001:db8::/32" : "192.0.2.0/24", GetParam().second).ok());
  auto next = hostA->hop(*from_, at(v6 ? "2001:db8::7" : "192.0.2.7", 4000));
  hostA->send(*from_, *next, pattern(1, 1));
  run(50);
  MacAddress seen{};
  wire.onFrame([&](uint32_t, const Bytes& frame) { std::copy_n(frame.begin(), 6, seen.begin()); });
  EXPECT_EQ(hostA->send(*from_, *next, pattern(100, 1)).status, TxStatus::kSent);
  EXPECT_EQ(seen, kMacB);
}

TEST_P(OwnNeighbours, withoutARouteAreUnreachable) {
  auto next = hostA->hop(*from_, at(GetParam().first.find(':') != std::string::npos ? "2001:db8::7" : "192.0.2.7", 4000));
  EXPECT_EQ(hostA->send(*from_, *next, pattern(300, 1), 100).status, TxStatus::kUnreachable);
  EXPECT_EQ(from_->stats.sendErrors.load(), 3);
  EXPECT_EQ(hostA->count(StackCounter::kUnreachableSends), 3);
}

TEST_P(OwnNeighbours, getAnEchoOfWhatTheySendAndNoMoreThanTheLimit) {
  const bool v6 = GetParam().first.find(':') != std::string::npos;
  // An echo request is an IP packet with another protocol: take a UDP frame and write over it.
  const SockAddr source = at(GetParam().second, 8);
  Bytes frame = udpFrame(kMacA, source, at(GetParam().first, 8), pattern(56, 1));
  const size_t ipLength = v6 ? 40 : 20;
  uint8_t* ip = &frame[14];
  uint8_t* icmp = ip + ipLength;
  const size_t length = frame.size() - 14 - ipLength;
  if (v6) {
    ip[6] = packet::kProtocolIcmpV6;
    icmp[0] = 128;
  } else {
    ip[9] = packet::kProtocolIcmp;
    packet::store16(ip + 10, 0);
    packet::storeSum(ip + 10, static_cast<uint16_t>(~foldSum(sumBytes(ip, 20))));
    icmp[0] = 8;
  }
  icmp[1] = 0;
  packet::store16(icmp + 2, 0);
  const uint64_t pseudo = v6 ? pseudoHeaderSum(net::IpAddress::of(source), net::IpAddress::of(at(GetParam().first)),
                                               packet::kProtocolIcmpV6, static_cast<uint32_t>(length))
                             : 0;
  packet::storeSum(icmp + 2, static_cast<uint16_t>(~foldSum(pseudo + sumBytes(icmp, length))));
  std::vector<Bytes> replies;
  wire.onFrame([&](uint32_t, const Bytes& reply) { replies.push_back(reply); });
  for (int i = 0; i < 500; ++i) wire.deliver(0, frame);
  while (!hostA->station->arm()) EXPECT_TRUE(hostA->poll(wire.nowNs()).empty());
  ASSERT_EQ(replies.size(), 64U);
  EXPECT_EQ(hostA->count(StackCounter::kEchoRequestsLimited), 500 - 64);
  const Bytes& reply = replies[0];
  ASSERT_EQ(reply.size(), frame.size());
  EXPECT_EQ(reply[14 + ipLength], v6 ? 129 : 0);
  EXPECT_TRUE(std::equal(reply.begin() + static_cast<ptrdiff_t>(14 + ipLength + 4), reply.end(),
                         frame.begin() + static_cast<ptrdiff_t>(14 + ipLength + 4)));
  // Damaged ones get none.
  frame.back() ^= 1;
  wire.deliver(0, frame);
  hostA->poll(wire.nowNs());
  EXPECT_EQ(hostA->count(StackCounter::kBadControlPackets), 1);
}

TEST_P(OwnNeighbours, onANarrowerPathGetShorterDatagramsOnceARouterSaysSo) {
  const bool v6 = GetParam().first.find(':') != std::string::npos;
  hostA->send(*from_, *next_, pattern(1, 1));
  run(50);
  Bytes sent;
  wire.onFrame([&](uint32_t station, const Bytes& frame) {
    if (station == 0) sent = frame;
  });
  ASSERT_EQ(hostA->send(*from_, *next_, pattern(1400, 1)).status, TxStatus::kSent);
  // A router returns the beginning of it.
  const uint32_t mtu = 1300;
  const size_t ipLength = v6 ? 40 : 20;
  const size_t quoted = 64;
  Bytes frame = udpFrame(kMacA, at(v6 ? "fd77::fe" : "10.77.0.254", 0), at(GetParam().first, 0), Bytes(quoted, 0));
  uint8_t* ip = &frame[14];
  uint8_t* icmp = ip + ipLength;
  icmp[0] = v6 ? 2 : 3;
  icmp[1] = v6 ? 0 : 4;
  packet::store32(icmp + 4, mtu);
  std::copy_n(sent.begin() + 14, quoted, icmp + 8);
  packet::store16(icmp + 2, 0);
  ip[v6 ? 6 : 9] = v6 ? packet::kProtocolIcmpV6 : packet::kProtocolIcmp;
  if (!v6) {
    packet::store16(ip + 10, 0);
    packet::storeSum(ip + 10, static_cast<uint16_t>(~foldSum(sumBytes(ip, 20))));
  }
  const uint64_t pseudo = v6 ? pseudoHeaderSum(net::IpAddress::of(at("fd77::fe")), net::IpAddress::of(at(GetParam().first)),
                                               packet::kProtocolIcmpV6, static_cast<uint32_t>(quoted + 8))
                             : 0;
  packet::storeSum(icmp + 2, static_cast<uint16_t>(~foldSum(pseudo + sumBytes(icmp, quoted + 8))));
  wire.deliver(0, frame);
  hostA->poll(wire.nowNs());
  EXPECT_EQ(hostA->count(StackCounter::kIcmpErrors), 1);
  EXPECT_EQ(from_->stats.sendErrors.load(), 1);
  EXPECT_EQ(hostA->send(*from_, *next_, pattern(1400, 2)).status, TxStatus::kTooLong);
  EXPECT_EQ(hostA->count(StackCounter::kTooLongSends), 1);
  EXPECT_EQ(hostA->send(*from_, *next_, pattern(mtu - ipLength - 8, 2)).status, TxStatus::kSent);
  // A message about a datagram that nobody sent changes nothing.
  Bytes forged = frame;
  packet::store16(&forged[14 + ipLength + 8 + ipLength], 9);
  packet::store16(&forged[14 + ipLength + 2], 0);
  packet::storeSum(&forged[14 + ipLength + 2], static_cast<uint16_t>(~foldSum(pseudo + sumBytes(&forged[14 + ipLength], quoted + 8))));
  wire.deliver(0, forged);
  hostA->poll(wire.nowNs());
  EXPECT_EQ(hostA->count(StackCounter::kIcmpErrorsIgnored), 1);
  // After ten minutes the path is tried again.
  wire.setNow(wire.nowNs() + 601 * kSecondNs);
  run(10);
  hostA->send(*from_, *next_, pattern(1, 1));
  run(1100);
  EXPECT_EQ(hostA->send(*from_, *next_, pattern(1400, 2)).status, TxStatus::kSent);
}

INSTANTIATE_TEST_SUITE_P(Families, OwnNeighbours,
                         ::testing::Values(std::pair<std::string, std::string>("10.77.0.1", "10.77.0.2"),
                                           std::pair<std::string, std::string>("fd77::1", "fd77::2")),
                         [](const auto& one) { return one.param.first.find(':') == std::string::npos ? "v4" : "v6"; });

}  // namespace
}  // namespace outrigger::io::testing
