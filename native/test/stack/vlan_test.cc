// SPDX-License-Identifier: Apache-2.0
// NetStack on the kernel's interface of a VLAN: the kernel adds and removes the tags, which this sees on the interface beneath. Needs a kernel
// with 802.1Q; the lab VM has one.
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>

#include <cstdlib>
#include <map>
#include <set>

#include "beside_kernel.h"
#include "io/stack/packet.h"

namespace outrigger::io::testing {
namespace {

// Every UDP frame that arrives at an interface, with the tag it had on the wire.
class WireWatch {
 public:
  static constexpr int kUntagged = -1;

  WireWatch(const Namespace& where, const char* interface) {
    const Inside inside(where);
    fd_ = UniqueFd(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const int on = 1;
    EXPECT_EQ(::setsockopt(fd_.get(), SOL_PACKET, PACKET_AUXDATA, &on, sizeof(on)), 0) << std::strerror(errno);
    EXPECT_EQ(::setsockopt(fd_.get(), SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof(on)), 0) << std::strerror(errno);
    sockaddr_ll address{};
    address.sll_family = AF_PACKET;
    address.sll_protocol = htons(ETH_P_ALL);
    address.sll_ifindex = static_cast<int>(::if_nametoindex(interface));
    EXPECT_EQ(::bind(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0) << std::strerror(errno);
  }

  // What is there by now: how many frames of each tag.
  std::map<int, int> seen() {
    for (Bytes frame(65536);;) {
      iovec piece{frame.data(), frame.size()};
      alignas(cmsghdr) uint8_t control[256];
      msghdr message{};
      message.msg_iov = &piece;
      message.msg_iovlen = 1;
      message.msg_control = control;
      message.msg_controllen = sizeof(control);
      const ssize_t length = ::recvmsg(fd_.get(), &message, 0);
      if (length < 42) {
        if (length < 0) return seen_;
        continue;
      }
      int tag = kUntagged;
      uint32_t at = 12;
      for (cmsghdr* one = CMSG_FIRSTHDR(&message); one != nullptr; one = CMSG_NXTHDR(&message, one)) {
        tpacket_auxdata aux{};
        std::memcpy(&aux, CMSG_DATA(one), sizeof(aux));
        if ((aux.tp_status & TP_STATUS_VLAN_VALID) != 0) tag = aux.tp_vlan_tci & 0x0FFF;
      }
      if (packet::load16(&frame[at]) == packet::kTypeVlan) {
        tag = packet::load16(&frame[at + 2]) & 0x0FFF;
        at += packet::kVlanTagLength;
      }
      const bool v6 = packet::load16(&frame[at]) == packet::kTypeIpv6;
      const bool udp = v6 ? frame[at + 8] == IPPROTO_UDP : packet::load16(&frame[at]) == packet::kTypeIpv4 && frame[at + 11] == IPPROTO_UDP;
      if (udp) ++seen_[tag];
    }
  }

 private:
  UniqueFd fd_;
  std::map<int, int> seen_;
};

class StackOnVlan : public StackBesideKernel {
 protected:
  void prepareLinks() override {
    {
      const Inside inside(*near_);
      if (std::system("ip link add link near0 name near0.42 type vlan id 42 2>/dev/null") != 0) {
        GTEST_SKIP() << "this kernel has no 802.1Q";
      }
    }
    near("ip link set near0.42 up");
    far("ip link add link far0 name far0.42 type vlan id 42");
    far("ip link set far0.42 up");
    nearDevice_ = "near0.42";
    farDevice_ = "far0.42";
  }
};

TEST_P(StackOnVlan, exchangesDatagramsThatHaveTheTagOnTheWire) {
  WireWatch nearWire(*near_, "near0");
  WireWatch farWire(*far_, "far0");
  constexpr int kEach = 50;
  for (const auto& [nearHost, farHost] : {std::pair{kNear, kFar}, {kNearV6, kFarV6}}) {
    auto endpoint = open(nearHost);
    FarSocket peer(*far_, at(farHost));
    auto next = hop(*endpoint, peer.address);
    connect(*endpoint, peer.address);
    const int64_t sentBefore = count(StackCounter::kFramesSent);
    for (uint32_t i = 0; i < kEach; ++i) {
      // The longest that an untagged frame of this MTU would hold, too.
      const uint32_t length = i % 2 == 0 ? (nearHost == kNear ? 1472 : 1452) : 100;
      ASSERT_NO_FATAL_FAILURE(exchange(*endpoint, *next, peer, pattern(length, i)));
    }
    EXPECT_EQ(count(StackCounter::kFramesSent) - sentBefore, kEach) << "by the device, not by the kernel's socket";
    EXPECT_TRUE(poll().empty()) << "the kernel's copies stay away";
    io_->detach(*endpoint);
  }
  EXPECT_EQ(count(StackCounter::kKernelDatagrams), isGenericXdp() ? 2 * kEach : 0);
  EXPECT_EQ(count(StackCounter::kOtherVlanFrames), 0);
  const auto there = farWire.seen();
  const auto back = nearWire.seen();
  ASSERT_EQ(there.size(), 1U);
  EXPECT_GE(there.at(42), 2 * kEach);
  ASSERT_EQ(back.size(), 1U);
  EXPECT_EQ(back.at(42), 2 * kEach);
}

TEST_P(StackOnVlan, hearsNothingOfOtherVlansAndLeavesUntaggedFramesToTheKernel) {
  const LinkState link = stack_->device().link();
  char mac[18];
  std::snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", link.mac[0], link.mac[1], link.mac[2], link.mac[3], link.mac[4],
                link.mac[5]);
  far("ip link add link far0 name far0.43 type vlan id 43");
  far("ip link set far0.43 up");
  WireWatch nearWire(*near_, "near0");
  auto endpoint = open(kNear);
  FarSocket peer(*far_, at(kFar));
  const auto sendBy = [&](const std::string& way, uint32_t seed) {
    far("ip route replace 10.92.0.1/32 dev " + way + " src 10.92.0.2");
    far("ip neighbour replace 10.92.0.1 lladdr " + std::string(mac) + " dev " + way + " nud permanent");
    for (uint32_t i = 0; i < 10; ++i) peer.send(endpoint->localAddress(), pattern(200, seed + i));
  };
  sendBy("far0.43", 0);
  sendBy("far0", 100);
  far("ip route del 10.92.0.1/32");
  peer.send(endpoint->localAddress(), pattern(300, 1));
  // The kernel serves an address on all interfaces of its host, so its socket has what came untagged.
  const auto arrivals = collect(11);
  ASSERT_EQ(arrivals.size(), 11U);
  std::set<Bytes> expected{pattern(300, 1)};
  for (uint32_t i = 0; i < 10; ++i) expected.insert(pattern(200, 100 + i));
  std::set<Bytes> arrived;
  for (const Arrival& arrival : arrivals) arrived.insert(arrival.bytes);
  EXPECT_EQ(arrived, expected);
  EXPECT_TRUE(poll().empty());
  EXPECT_EQ(count(StackCounter::kKernelDatagrams), isGenericXdp() ? 11 : 10);
  EXPECT_EQ(nearWire.seen(), (std::map<int, int>{{WireWatch::kUntagged, 10}, {42, 1}, {43, 10}}));
}

// A driver for VLAN interfaces takes no program, so that only the mode behind the driver is left.
TEST(XdpOnVlan, takesTheGenericModeAndSaysWhy) {
  if (const std::string refusal = namespaceRefusal(); !refusal.empty()) GTEST_SKIP() << refusal;
  if (!xdp::programsAreBuilt()) GTEST_SKIP() << "built without clang or libbpf";
  const Namespace here;
  const Inside inside(here);
  command(here, "ip link add near0 type veth peer name far0");
  if (std::system("ip link add link near0 name near0.42 type vlan id 42 2>/dev/null") != 0) GTEST_SKIP() << "this kernel has no 802.1Q";
  for (const char* device : {"near0", "far0", "near0.42"}) command(here, std::string("ip link set ") + device + " up");
  BackendOptions options;
  options.interface = "near0.42";
  options.umemBytes = 1 << 20;
  options.hugepages = false;
  xdp::XdpAttempt attempt;
  auto parts = xdp::openXdp(options, attempt);
  ASSERT_TRUE(parts.ok()) << parts.error().message;
  auto device = xdp::XdpFrameIo::create(parts.take());
  ASSERT_TRUE(device.ok()) << device.error().message;
  EXPECT_NE((*device)->caps().mode.find("generic"), std::string::npos) << (*device)->caps().mode;
  EXPECT_NE((*device)->caps().reason.find("native"), std::string::npos) << (*device)->caps().reason;
}

INSTANTIATE_TEST_SUITE_P(Devices, StackOnVlan, ::testing::Values("packet", "generic"),
                         [](const auto& device) { return std::string(device.param); });

}  // namespace
}  // namespace outrigger::io::testing
