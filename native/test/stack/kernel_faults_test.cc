// SPDX-License-Identifier: Apache-2.0
// What goes wrong on a wire, under a NetStack beside a real kernel: a flooded stream, ARP storms, neighbours that move, forged senders, a link
// that becomes narrower.
#include <gmock/gmock.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sched.h>

#include "beside_kernel.h"
#include "io/network_counters.h"
#include "io/stack/neighbour_messages.h"

namespace outrigger::io::testing {
namespace {

// The ring of each device holds a few hundred frames.
class FloodBesideKernel : public StackBesideKernel {
 protected:
  FloodBesideKernel() { packetReceiveBytes_ = 512 << 10; }
};

TEST_P(FloodBesideKernel, starvesNoOtherStreamOfTheDevice) {
  far("ethtool -K far0 tx off");  // open checksums would be the kernel's with generic XDP
  auto flooded = open(kNear);
  auto quiet = open(kNear);
  FarSocket peer(*far_, at(kFar));
  const Bytes flood = pattern(200, 1);
  const Bytes drop = pattern(100, 2);
  constexpr int kSteps = 1000;
  int64_t quietCame = 0;
  int64_t floodCame = 0;
  for (int step = 0; step < kSteps; ++step) {
    // More than a poll hands out, so that the ring fills, and the quiet one's datagram comes last.
    for (int i = 0; i < 150; ++i) peer.send(flooded->localAddress(), flood);
    peer.send(quiet->localAddress(), drop);
    for (const Arrival& arrival : poll()) (arrival.endpoint == quiet.get() ? quietCame : floodCame) += 1;
  }
  // Some are lost until the first overflow is noticed, and when the kernel brings those of several steps at once: without isolation all but a few.
  EXPECT_GE(quietCame, kSteps * 3 / 4);
  EXPECT_GE(floodCame, kSteps * 16) << "the flooded one still gets its share";
  EXPECT_GT(flooded->stats.receiveQueueDrops.load(), 0);
  EXPECT_EQ(quiet->stats.receiveQueueDrops.load(), 0);
  EXPECT_GT(count(StackCounter::kIsolationPolls), 0);
}

class WireFaults : public StackBesideKernel {
 protected:
  void SetUp() override {
    StackBesideKernel::SetUp();
    if (IsSkipped()) return;
    const Inside inside(*far_);
    wire_ = UniqueFd(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0));
    ASSERT_TRUE(wire_.valid()) << std::strerror(errno);
    farIndex_ = ::if_nametoindex("far0");
  }
  // As any station of the wire could.
  void sendFrame(const Bytes& frame) {
    sockaddr_ll to{};
    to.sll_family = AF_PACKET;
    to.sll_ifindex = static_cast<int>(farIndex_);
    while (::sendto(wire_.get(), frame.data(), frame.size(), 0, reinterpret_cast<const sockaddr*>(&to), sizeof(to)) < 0) {
      ASSERT_TRUE(errno == ENOBUFS || errno == EAGAIN) << std::strerror(errno);
      ::sched_yield();
    }
  }
  // Another machine takes the far address over and says so.
  void moveFarTo(const MacAddress& mac) {
    char text[18];
    std::snprintf(text, sizeof(text), "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
    far(std::string("ip link set far0 address ") + text);
    NeighbourFrame what;
    what.ownMac = mac;
    what.own = net::IpAddress::of(at(kFar));
    Bytes frame(kMaxNeighbourFrameLength);
    frame.resize(writeNeighbourAnswer(what, false, frame.data()));
    sendFrame(frame);
  }
  bool kernelKnows(const MacAddress& mac) {
    net::RouteQuestion question;
    question.number = 1;
    question.destination = net::IpAddress::of(at(kFar));
    return tables_->lookup(question).mac == mac;
  }
  bool arrives(FarSocket& peer, const Bytes& bytes) {
    for (;;) {
      const Bytes received = receiveAt(peer);
      if (received == bytes) return true;
      if (received.empty()) return false;
    }
  }

  UniqueFd wire_;
  uint32_t farIndex_ = 0;
};

TEST_P(WireFaults, aNeighbourThatMovesIsFollowedByItsAnnouncementAlone) {
  auto endpoint = open(kNear);
  FarSocket peer(*far_, at(kFar));
  auto next = hop(*endpoint, peer.address);
  connect(*endpoint, peer.address);
  uint32_t sent = 0;
  // And one that flaps costs nothing but the header.
  for (uint32_t i = 0; i < 10; ++i) {
    const MacAddress mac{0x02, 0, 0, 0, 0x77, static_cast<uint8_t>(i % 2)};
    moveFarTo(mac);
    ASSERT_TRUE(await([&] { return kernelKnows(mac); })) << "the kernel does not believe the announcement";
    Bytes bytes;
    // A frame of ours: one now and then goes through the kernel, which confirms what it has only heard.
    ASSERT_TRUE(await([&] {
      const int64_t before = count(StackCounter::kFramesSent);
      bytes = pattern(300, ++sent);
      send(*endpoint, *next, bytes);
      return count(StackCounter::kFramesSent) > before;
    }));
    ASSERT_TRUE(arrives(peer, bytes)) << "the frame went to the old MAC address";
  }
}

TEST_P(WireFaults, anArpStormIsTheKernelsAndHoldsUpNoStream) {
  far("ethtool -K far0 tx off");
  auto endpoint = open(kNear);
  FarSocket peer(*far_, at(kFar));
  auto next = hop(*endpoint, peer.address);
  connect(*endpoint, peer.address);
  for (uint32_t i = 0; i < 100; ++i) {
    for (uint32_t k = 0; k < 50; ++k) {
      // Requests for our address, each from a host that wants to be known; as many hosts as the kernel remembers without collecting.
      NeighbourFrame ask;
      ask.ownMac = {0x02, 1, 0, 0, 0, static_cast<uint8_t>(k)};
      ask.own = net::IpAddress::of(at("10.92.0." + std::to_string(100 + k)));
      ask.target = net::IpAddress::of(at(kNear));
      Bytes frame(kMaxNeighbourFrameLength);
      frame.resize(writeNeighbourRequest(ask, frame.data()));
      sendFrame(frame);
    }
    const Bytes bytes = pattern(500, i);
    ASSERT_EQ(send(*endpoint, *next, bytes).status, TxStatus::kSent);
    ASSERT_TRUE(arrives(peer, bytes));
    peer.send(endpoint->localAddress(), bytes);
    const auto arrivals = collect(1);
    ASSERT_EQ(arrivals.size(), 1U);
    ASSERT_EQ(arrivals[0].bytes, bytes);
  }
  EXPECT_EQ(count(StackCounter::kNeighbourPackets), 0) << "none was ours to look at";
  EXPECT_EQ(count(StackCounter::kQueueFullDrops), 0);
}

TEST_P(WireFaults, aSenderWithOurMacAddressIsNotBelievedAndCounted) {
  auto endpoint = open(kNear);
  FarSocket peer(*far_, at(kFar));
  FlowAddresses flow;
  flow.sourceMac = stack_->device().link().mac;
  flow.destinationMac = flow.sourceMac;
  flow.source = net::IpAddress::of(at(kFar));
  flow.destination = net::IpAddress::of(at(kNear));
  flow.sourcePort = peer.address.port();
  flow.destinationPort = endpoint->localAddress().port();
  HeaderTemplate header;
  header.build(flow);
  const Bytes payload = pattern(100, 1);
  Bytes frame(header.length() + payload.size());
  std::copy(payload.begin(), payload.end(), frame.begin() + header.length());
  header.write(frame.data(), static_cast<uint32_t>(payload.size()), sumBytes(payload.data(), payload.size()));
  sendFrame(frame);
  EXPECT_TRUE(await([&] { return count(StackCounter::kOwnMacFrames) == 1; }));
  EXPECT_EQ(count(StackCounter::kDatagramsReceived), 0);
  // The same from somebody else is a datagram.
  frame[11] ^= 0x40;
  sendFrame(frame);
  const auto arrivals = collect(1);
  ASSERT_EQ(arrivals.size(), 1U);
  EXPECT_EQ(arrivals[0].bytes, payload);
}

TEST_P(WireFaults, aLinkThatBecomesNarrowerUnderALiveStreamLosesNothingThatIsSentAfterwards) {
  for (const auto& [nearHost, farHost] : {std::pair{kNear, kFar}, {kNearV6, kFarV6}}) {
    near("ip link set near0 mtu 1500");
    far("ip link set far0 mtu 1500");
    auto endpoint = open(nearHost);
    FarSocket peer(*far_, at(farHost));
    auto next = hop(*endpoint, peer.address);
    connect(*endpoint, peer.address);
    // The other end first: until ours is told, frames leave that do not get through, and hold up none behind them.
    far("ip link set far0 mtu 1300");
    for (uint32_t i = 0; i < 3; ++i) send(*endpoint, *next, pattern(1400, i));
    near("ip link set near0 mtu 1300");
    // What is under way while the news comes may be lost, as on any link; from the first fragmented one on all arrive.
    const int64_t before = count(StackCounter::kFragmentedSends);
    ASSERT_TRUE(await([&] {
      io_->health();  // as the conductor asks all the time
      send(*endpoint, *next, pattern(1400, 4));
      return count(StackCounter::kFragmentedSends) > before;
    }));
    for (uint32_t i = 5; i < 25; ++i) {
      const Bytes bytes = pattern(1400, i);
      ASSERT_EQ(send(*endpoint, *next, bytes).status, TxStatus::kSent) << i;
      ASSERT_TRUE(arrives(peer, bytes)) << i;
    }
    const int64_t frames = count(StackCounter::kFramesSent);
    const Bytes shorter = pattern(1000, 25);
    ASSERT_EQ(send(*endpoint, *next, shorter).status, TxStatus::kSent);
    ASSERT_GT(count(StackCounter::kFramesSent), frames) << "short enough for a frame";
    ASSERT_TRUE(arrives(peer, shorter));
    EXPECT_EQ(io_->health().state, Health::State::kOk);
    EXPECT_THAT(io_->facts(), ::testing::Contains(std::pair<std::string, std::string>("mtu", "1300")));
    EXPECT_LE(next->longestDatagram(), 1272U) << "a new publication is made for the link as it is";
    io_->detach(*endpoint);
  }
}

const auto kName = [](const auto& device) { return std::string(device.param); };
// DPDK's ports on the kernel do not tell that a ring overflows (FrameCaps::untoldRing).
INSTANTIATE_TEST_SUITE_P(Devices, FloodBesideKernel, ::testing::Values("packet", "native", "generic", "dpdk", "dpdkExceptions"), kName);
INSTANTIATE_TEST_SUITE_P(Devices, WireFaults, ::testing::Values("packet", "native", "generic", "dpdk", "dpdkExceptions"), kName);

}  // namespace
}  // namespace outrigger::io::testing
