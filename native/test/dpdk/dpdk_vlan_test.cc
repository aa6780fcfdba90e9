// SPDX-License-Identifier: Apache-2.0
// The dpdk backend with OUTRIGGER_VLAN: its stack and its exception interface in one network namespace, a kernel in another, and a software port
// between them whose frames this looks at. The far kernel has a TAP interface; the tags are put on and taken off here, byte by byte.
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <rte_eth_ring.h>
#include <rte_ethdev.h>
#include <rte_ring.h>
#include <sys/ioctl.h>

#include <map>
#include <memory>

#include "io/dpdk_loader/dpdk_loader.h"
#include "io/network_counters.h"
#include "io/stack/packet.h"
#include "io/stack/stack_face.h"
#include "stack/veth_world.h"

namespace outrigger::io::testing {
namespace {

constexpr uint16_t kVlan = 42;
constexpr int kUntagged = -1;
constexpr const char* kNear = "10.94.0.1";
constexpr const char* kFar = "10.94.0.2";
constexpr const char* kNearV6 = "fd94::1";
constexpr const char* kFarV6 = "fd94::2";

Bytes tagged(const Bytes& frame, uint16_t tag, uint16_t type = packet::kTypeVlan) {
  Bytes out(frame.begin(), frame.begin() + 12);
  for (const uint16_t word : {type, tag}) {
    out.push_back(static_cast<uint8_t>(word >> 8));
    out.push_back(static_cast<uint8_t>(word));
  }
  out.insert(out.end(), frame.begin() + 12, frame.end());
  return out;
}

BackendOptions optionsOf(const std::string& device) {
  BackendOptions options;
  options.hugepages = false;
  options.vlan = kVlan;
  // EAL starts once in a process: as in the other tests of it.
  options.dpdkArguments = {"-m", "256"};
  options.dpdkDevice = device;
  options.dpdkInterface = "except0";
  options.dpdkAddresses = std::string(kNear) + "/24," + kNearV6 + "/64";
  return options;
}

class DpdkVlan : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const std::string refusal = namespaceRefusal(); !refusal.empty()) GTEST_SKIP() << refusal;
    startEal();
    // The bus keeps the name of a device that was made of rings: each test takes another.
    static int serial = 0;
    name_ = "vlan" + std::to_string(serial++);
    toPort_ = rte_ring_create("vlan_in", 1024, SOCKET_ID_ANY, RING_F_SP_ENQ | RING_F_SC_DEQ);
    fromPort_ = rte_ring_create("vlan_out", 1024, SOCKET_ID_ANY, RING_F_SP_ENQ | RING_F_SC_DEQ);
    ASSERT_NE(toPort_, nullptr);
    ASSERT_NE(fromPort_, nullptr);
    ASSERT_GE(rte_eth_from_rings(name_.c_str(), &toPort_, 1, &fromPort_, 1, 0), 0);
    pool_ = rte_pktmbuf_pool_create("vlan_far", 1024, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
    ASSERT_NE(pool_, nullptr) << rte_strerror(rte_errno);
    near_ = std::make_unique<Namespace>();
    far_ = std::make_unique<Namespace>();
    openFar();
    const Inside inside(*near_);
    auto pair = openDpdk(optionsOf("net_ring_" + name_));
    ASSERT_TRUE(pair.ok()) << pair.error().message;
    pair_ = pair.take();
  }

  void TearDown() override {
    hops_.clear();
    for (auto& endpoint : endpoints_) pair_.receiver->detach(*endpoint);
    endpoints_.clear();
    pair_ = {};
    uint16_t port = 0;
    if (rte_eth_dev_get_port_by_name(("net_ring_" + name_).c_str(), &port) == 0) rte_eth_dev_close(port);
    for (rte_ring* ring : {toPort_, fromPort_}) {
      void* packet = nullptr;
      while (ring != nullptr && rte_ring_dequeue(ring, &packet) == 0) rte_pktmbuf_free(static_cast<rte_mbuf*>(packet));
      rte_ring_free(ring);
    }
    rte_mempool_free(pool_);
  }

  static void startEal() {
    BackendOptions options;
    options.hugepages = false;
    options.dpdkArguments = {"-m", "256", "--vdev=net_ring0"};
    const auto io = openDpdkFrames(options);
    ASSERT_TRUE(io.ok()) << io.error().message;
  }

  void openFar() {
    const Inside inside(*far_);
    tap_ = UniqueFd(::open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK));
    ASSERT_TRUE(tap_.valid()) << std::strerror(errno);
    ifreq request{};
    std::strncpy(request.ifr_name, "wire0", IFNAMSIZ - 1);
    request.ifr_flags = IFF_TAP | IFF_NO_PI;
    ASSERT_EQ(::ioctl(tap_.get(), TUNSETIFF, &request), 0) << std::strerror(errno);
    command(*far_, "ip link set wire0 up");
    command(*far_, std::string("ip addr add ") + kFar + "/24 dev wire0");
    command(*far_, std::string("ip addr add ") + kFarV6 + "/64 dev wire0 nodad");
  }

  // To the port as the wire brings it; `stripped`: as a device does that takes tags out.
  void inject(const Bytes& frame, int stripped = kUntagged) {
    rte_mbuf* buffer = rte_pktmbuf_alloc(pool_);
    ASSERT_NE(buffer, nullptr);
    std::memcpy(rte_pktmbuf_append(buffer, static_cast<uint16_t>(frame.size())), frame.data(), frame.size());
    if (stripped != kUntagged) {
      buffer->ol_flags |= RTE_MBUF_F_RX_VLAN | RTE_MBUF_F_RX_VLAN_STRIPPED;
      buffer->vlan_tci = static_cast<uint16_t>(stripped);
    }
    ASSERT_EQ(rte_ring_enqueue(toPort_, buffer), 0);
  }

  // One round of everything: the stack, what its port has sent, what the far kernel has sent.
  void turn() {
    RxBurst burst;
    pair_.receiver->poll(burst, monotonicNs());
    for (size_t i = 0; i < burst.count; ++i) {
      const RxPacket& one = burst.packets[i];
      arrived_.emplace_back(one.data, one.data + one.length);
      sources_.push_back(*one.source);
    }
    pair_.receiver->release(burst);
    pair_.sender->poll(burst, monotonicNs());
    pair_.sender->release(burst);
    void* packet = nullptr;
    while (rte_ring_dequeue(fromPort_, &packet) == 0) {
      auto* buffer = static_cast<rte_mbuf*>(packet);
      const auto* bytes = rte_pktmbuf_mtod(buffer, const uint8_t*);
      ASSERT_EQ(buffer->nb_segs, 1);
      Bytes frame(bytes, bytes + buffer->data_len);
      rte_pktmbuf_free(buffer);
      const bool hasTag = packet::load16(&frame[12]) == packet::kTypeVlan;
      ++sent_[hasTag ? packet::load16(&frame[14]) : kUntagged];
      longestSent_ = std::max(longestSent_, frame.size());
      if (!hasTag) continue;
      frame.erase(frame.begin() + 12, frame.begin() + 16);
      ASSERT_EQ(::write(tap_.get(), frame.data(), frame.size()), static_cast<ssize_t>(frame.size())) << std::strerror(errno);
    }
    for (Bytes frame(2048);;) {
      const ssize_t length = ::read(tap_.get(), frame.data(), frame.size());
      if (length <= 0) break;
      const Bytes whole(frame.begin(), frame.begin() + length);
      // Every other frame, as by a device that takes the tag out.
      if (strip_ = !strip_; strip_) {
        inject(whole, kVlan | 0x6000);  // with a priority
      } else {
        inject(tagged(whole, kVlan));
      }
    }
  }
  bool await(const std::function<bool()>& wanted) {
    const int64_t deadline = monotonicNs() + kPatienceMs * kMs;
    while (!wanted()) {
      if (monotonicNs() > deadline || HasFatalFailure()) return false;
      turn();
    }
    return true;
  }

  Endpoint& open(const std::string& address, uint16_t port = 0) {
    const Inside inside(*near_);
    EndpointConfig config;
    config.bindAddress = at(address, port);
    auto endpoint = pair_.receiver->openEndpoint(config);
    EXPECT_TRUE(endpoint.ok()) << endpoint.error().message;
    pair_.receiver->attach(**endpoint);
    endpoints_.push_back(endpoint.take());
    return *endpoints_.back();
  }
  NextHop& hop(Endpoint& from, const SockAddr& to) {
    auto resolved = pair_.receiver->resolve(from, to);
    EXPECT_TRUE(resolved.ok()) << resolved.error().message;
    hops_.push_back(resolved.take());
    return *hops_.back();
  }
  TxStatus send(Endpoint& from, NextHop& to, const Bytes& bytes) {
    TxItem item;
    item.nextHop = &to;
    item.data = bytes.data();
    item.length = static_cast<uint32_t>(bytes.size());
    pair_.receiver->transmit(from, {&item, 1});
    return item.status;
  }
  int64_t count(size_t index) const { return pair_.sender->totals().network[index] + pair_.receiver->totals().network[index]; }
  int64_t count(DeviceCounter counter) const { return count(networkIndex(counter)); }
  int64_t count(StackCounter counter) const { return count(networkIndex(counter)); }

  Bytes receivedBy(FarSocket& peer) {
    Bytes bytes(65536);
    const ssize_t length = ::recv(peer.fd(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    bytes.resize(length > 0 ? static_cast<size_t>(length) : 0);
    return bytes;
  }
  // A frame that the far kernel sends to `to`: as it would leave its interface, without a tag.
  Bytes nextFrameOfFar(FarSocket& peer, const SockAddr& to, const Bytes& payload) {
    peer.send(to, payload);
    const int64_t deadline = monotonicNs() + kPatienceMs * kMs;
    for (Bytes frame(2048); monotonicNs() < deadline;) {
      const ssize_t length = ::read(tap_.get(), frame.data(), frame.size());
      if (length > static_cast<ssize_t>(payload.size()) && packet::load16(&frame[12]) == packet::kTypeIpv4) {
        return {frame.begin(), frame.begin() + length};
      }
    }
    return {};
  }

  std::unique_ptr<Namespace> near_;
  std::unique_ptr<Namespace> far_;
  std::string name_;
  rte_ring* toPort_ = nullptr;
  rte_ring* fromPort_ = nullptr;
  rte_mempool* pool_ = nullptr;
  UniqueFd tap_;  // of the far kernel's interface
  bool strip_ = false;
  IoPair pair_;
  std::vector<std::unique_ptr<Endpoint>> endpoints_;
  std::vector<std::unique_ptr<NextHop>> hops_;
  std::vector<Bytes> arrived_;
  std::vector<SockAddr> sources_;
  std::map<int, int> sent_;  // by tag
  size_t longestSent_ = 0;
};

TEST_F(DpdkVlan, exchangesDatagramsWithAKernelAndEachFrameIsTagged) {
  for (const auto& [nearHost, farHost, longest] : {std::tuple{kNear, kFar, 1472U}, {kNearV6, kFarV6, 1452U}}) {
    Endpoint& endpoint = open(nearHost);
    FarSocket peer(*far_, at(farHost));
    NextHop& next = hop(endpoint, peer.address);
    // The near kernel asks for the neighbour, by its exception interface, and the far one answers.
    ASSERT_TRUE(await([&] { return send(endpoint, next, pattern(10, 1)) == TxStatus::kSent && !receivedBy(peer).empty(); }));
    const int64_t framesBefore = count(StackCounter::kFramesSent);
    for (uint32_t i = 0; i < 20; ++i) {
      const Bytes bytes = pattern(i % 2 == 0 ? longest : 100, i);
      ASSERT_EQ(send(endpoint, next, bytes), TxStatus::kSent);
      Bytes there;
      ASSERT_TRUE(await([&] { return (there = receivedBy(peer)) == bytes; }));
      arrived_.clear();
      peer.send(endpoint.localAddress(), bytes);
      ASSERT_TRUE(await([&] { return !arrived_.empty(); }));
      ASSERT_EQ(arrived_, std::vector<Bytes>{bytes});
      ASSERT_EQ(sources_.back(), peer.address);
    }
    EXPECT_GE(count(StackCounter::kFramesSent) - framesBefore, 20) << "by the stack";
  }
  ASSERT_EQ(sent_.size(), 1U);
  EXPECT_GE(sent_[kVlan], 40);
  EXPECT_EQ(longestSent_, 14U + 4U + 1500U);
  EXPECT_EQ(count(DeviceCounter::kOtherVlanFrames), 0);
  EXPECT_EQ(count(StackCounter::kOtherVlanFrames), 0);
  const auto facts = pair_.receiver->facts();
  EXPECT_NE(std::find(facts.begin(), facts.end(), std::pair<std::string, std::string>("vlan", "42")), facts.end());
  EXPECT_NE(std::find(facts.begin(), facts.end(), std::pair<std::string, std::string>("mtu", "1500")), facts.end());
  uint16_t port = 0;
  uint16_t mtu = 0;
  ASSERT_EQ(rte_eth_dev_get_port_by_name(("net_ring_" + name_).c_str(), &port), 0);
  ASSERT_EQ(rte_eth_dev_get_mtu(port, &mtu), 0);
  EXPECT_EQ(mtu, 1504) << "a port that counts the tag among its MTU";
}

TEST_F(DpdkVlan, hasTheKernelOfItsExceptionInterfaceOnTheVlan) {
  FarSocket peer(*far_, at(kFar));
  FarSocket own(*near_, at(kNear));
  peer.send(own.address, pattern(700, 1));
  Bytes received;
  ASSERT_TRUE(await([&] { return !(received = receivedBy(own)).empty(); }));
  EXPECT_EQ(received, pattern(700, 1));
  for (uint32_t i = 0; i < 4; ++i) {
    own.send(peer.address, pattern(1472, i));
    ASSERT_TRUE(await([&] { return !(received = receivedBy(peer)).empty(); }));
    EXPECT_EQ(received, pattern(1472, i));
    peer.send(own.address, pattern(1472, i));
    ASSERT_TRUE(await([&] { return !(received = receivedBy(own)).empty(); }));
    EXPECT_EQ(received, pattern(1472, i));
  }
  ASSERT_EQ(sent_.size(), 1U);
  EXPECT_GT(sent_[kVlan], 4);
  EXPECT_EQ(count(DeviceCounter::kExceptionDrops), 0);
}

TEST_F(DpdkVlan, countsFramesOfOtherVlansAndDeliversNone) {
  Endpoint& endpoint = open(kNear);
  FarSocket peer(*far_, at(kFar));
  FarSocket own(*near_, at(kNear));
  ASSERT_TRUE(await([&] {
    peer.send(endpoint.localAddress(), pattern(50, 1));
    return !arrived_.empty();
  }));
  // Of the stack's port and of one of the kernel's.
  const Bytes toStack = nextFrameOfFar(peer, endpoint.localAddress(), pattern(200, 2));
  const Bytes toKernel = nextFrameOfFar(peer, own.address, pattern(200, 3));
  ASSERT_FALSE(toStack.empty());
  ASSERT_FALSE(toKernel.empty());
  ASSERT_TRUE(await([&] { return rte_ring_empty(toPort_) != 0; }));
  turn();
  arrived_.clear();
  const int64_t exceptions = count(DeviceCounter::kExceptionFrames);
  int64_t wrong = 0;
  for (const Bytes& frame : {toStack, toKernel}) {
    inject(frame);
    inject(tagged(frame, 43));
    inject(tagged(frame, 0));  // a priority only
    inject(tagged(frame, kVlan, packet::kTypeQinQ));
    inject(tagged(tagged(frame, kVlan), 43));
    inject(frame, 43);
    inject(tagged(frame, kVlan), 43);
    wrong += 7;
  }
  ASSERT_TRUE(await([&] { return count(DeviceCounter::kOtherVlanFrames) == wrong; })) << count(DeviceCounter::kOtherVlanFrames);
  EXPECT_TRUE(arrived_.empty());
  EXPECT_TRUE(receivedBy(own).empty());
  EXPECT_EQ(count(DeviceCounter::kExceptionFrames), exceptions) << "nor the exception interface";
  // With a priority in the tag it is the VLAN's all the same.
  inject(tagged(toStack, kVlan | 0xE000));
  inject(tagged(toKernel, kVlan | 0xE000));
  Bytes received;
  ASSERT_TRUE(await([&] { return !arrived_.empty() && (!received.empty() || !(received = receivedBy(own)).empty()); }));
  EXPECT_EQ(arrived_, std::vector<Bytes>{pattern(200, 2)});
  EXPECT_EQ(received, pattern(200, 3));
}

TEST_F(DpdkVlan, asksForTheInterfaceOfAKernelThatKeepsTheDevice) {
  command(*near_, "ip link add near0 type veth peer name near1");
  command(*near_, "ip link set near0 up");
  const Inside inside(*near_);
  BackendOptions options = optionsOf("net_ring_" + name_);
  options.dpdkArguments = {"-m", "256", "--vdev=net_af_packet0,iface=near0"};
  options.dpdkDevice = "net_af_packet0";
  options.dpdkAddresses.clear();
  const auto pair = openDpdk(options);
  ASSERT_FALSE(pair.ok());
  for (const char* part : {"OUTRIGGER_VLAN=42", "near0", "ip link add link near0 name near0.42 type vlan id 42"}) {
    EXPECT_NE(pair.error().message.find(part), std::string::npos) << pair.error().message;
  }
  const BackendReport report = probeDpdk(options);
  EXPECT_EQ(report.availability, Availability::kImpossible);
  ASSERT_FALSE(report.causes.empty());
  EXPECT_EQ(report.causes[0].what, "VLAN");
}

}  // namespace
}  // namespace outrigger::io::testing
