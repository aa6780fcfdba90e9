// SPDX-License-Identifier: Apache-2.0
// A path that becomes narrower under a live stream, as its router says by ICMP, beside a real kernel: on a node whose neighbours never rest, more than
// once, and wider again; and what ICMP that lies does to a stream.
#include <linux/if_packet.h>
#include <net/if.h>

#include <atomic>
#include <condition_variable>
#include <set>
#include <thread>

#include "behind_gateway.h"
#include "io/stack/packet.h"

namespace outrigger::io::testing {
namespace {

constexpr uint32_t kDatagram = 1300;
constexpr uint32_t kWindow = 32;
constexpr int kRepairMs = 5;  // what has not come by then is sent again

// A node on which something always happens: neighbours that come and go, each with a notification of the kernel's.
class Chatter {
 public:
  explicit Chatter(const Namespace& where) : thread_([this, &where] { run(where); }) {}
  ~Chatter() {
    {
      const std::lock_guard lock(mutex_);
      over_ = true;
    }
    wake_.notify_all();
    thread_.join();
  }

 private:
  void run(const Namespace& where) {
    std::unique_lock lock(mutex_);
    while (!over_) {
      lock.unlock();
      command(where, "ip neigh replace 10.92.0.103 lladdr 02:00:00:00:00:03 dev near0");
      command(where, "ip neigh del 10.92.0.103 dev near0");
      lock.lock();
      wake_.wait_for(lock, std::chrono::milliseconds(50), [&] { return over_; });
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  bool over_ = false;
  std::thread thread_;
};

class NarrowingPath : public BehindGateway, public ::testing::WithParamInterface<std::tuple<const char*, int>> {
 protected:
  NarrowingPath() : BehindGateway(std::get<0>(GetParam())) {}
  bool v6() const { return std::get<1>(GetParam()) == 6; }
  uint32_t ipHeader() const { return v6() ? packet::kIpv6Length : packet::kIpv4Length; }

  void SetUp() override {
    BehindGateway::SetUp();
    if (IsSkipped()) return;
    near("ip route add default via 10.92.0.2");
    near("ip -6 route add default via fd92::2");
    endpoint_ = open(v6() ? kNearV6 : kNear);
    peer_ = std::make_unique<FarSocket>(*beyond_, at(v6() ? kBeyondV6 : kBeyond));
    next_ = hop(*endpoint_, peer_->address);
    connect(*endpoint_, peer_->address);
    const Inside inside(*far_);
    wire_ = UniqueFd(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0));
    ASSERT_TRUE(wire_.valid()) << std::strerror(errno);
    farIndex_ = ::if_nametoindex("far0");
  }
  void TearDown() override {
    if (endpoint_ != nullptr) io_->detach(*endpoint_);
    BehindGateway::TearDown();
  }

  void narrow(uint32_t mtu) {
    far("ip link set far1 mtu " + std::to_string(mtu));
    beyond("ip link set beyond0 mtu " + std::to_string(mtu));
  }

  // As a driver does: a window of numbered datagrams in one train, and what does not come again until it does. `meanwhile` each time.
  ::testing::AssertionResult carry(uint32_t datagrams, uint32_t length = kDatagram, const std::function<void()>& meanwhile = {}) {
    const uint32_t end = sequence_ + datagrams;
    for (; sequence_ < end; sequence_ += kWindow) {
      Bytes train;
      std::set<uint32_t> missing;
      for (uint32_t i = sequence_; i < sequence_ + kWindow; ++i) {
        const Bytes one = pattern(length, i);
        train.insert(train.end(), one.begin(), one.end());
        missing.insert(i);
      }
      given(send(*endpoint_, *next_, train, length), length);
      const int64_t deadline = monotonicNs() + kPatienceMs * kMs;
      while (true) {
        if (meanwhile) meanwhile();
        poll();
        takeArrived(missing, length);
        if (missing.empty()) break;
        if (monotonicNs() > deadline) {
          return ::testing::AssertionFailure() << missing.size() << " datagrams never came from number " << *missing.begin() << " on; "
                                               << given_ << " were given, " << count(StackCounter::kFramesSent) << " frames sent, "
                                               << count(StackCounter::kFragmentedSends) << " fragmented, "
                                               << count(StackCounter::kIcmpErrors) << " ICMP errors";
        }
        pollfd handle{peer_->fd(), POLLIN, 0};
        if (::poll(&handle, 1, kRepairMs) != 0) continue;
        for (const uint32_t number : missing) given(send(*endpoint_, *next_, pattern(length, number)), length);
      }
    }
    return ::testing::AssertionSuccess();
  }

  void sendFrame(const Bytes& frame) {
    sockaddr_ll to{};
    to.sll_family = AF_PACKET;
    to.sll_ifindex = static_cast<int>(farIndex_);
    ASSERT_EQ(::sendto(wire_.get(), frame.data(), frame.size(), 0, reinterpret_cast<const sockaddr*>(&to), sizeof(to)),
              static_cast<ssize_t>(frame.size()))
        << std::strerror(errno);
  }
  // "Too big for `mtu`", about a datagram from our endpoint to `destination`, as anybody on the way can say who has seen one.
  Bytes tooBig(const SockAddr& destination, uint32_t mtu) {
    using namespace packet;
    const uint32_t quoted = ipHeader() + kUdpLength;
    const uint32_t icmpLength = 8 + quoted;
    Bytes frame(kEthernetLength + ipHeader() + icmpLength);
    const MacAddress own = stack_->device().link().mac;
    std::copy(own.begin(), own.end(), frame.begin());
    frame[6] = 0x02;
    frame[11] = 0x66;
    store16(&frame[12], v6() ? kTypeIpv6 : kTypeIpv4);
    const net::IpAddress us = net::IpAddress::of(endpoint_->localAddress());
    const net::IpAddress router = net::IpAddress::of(at(v6() ? kFarV6 : kFar));
    writeIp(&frame[kEthernetLength], router, us, v6() ? kProtocolIcmpV6 : kProtocolIcmp, icmpLength);
    uint8_t* icmp = &frame[kEthernetLength + ipHeader()];
    icmp[0] = v6() ? 2 : 3;
    icmp[1] = v6() ? 0 : 4;
    if (v6()) {
      store32(icmp + 4, mtu);
    } else {
      store16(icmp + 6, mtu);
    }
    writeIp(icmp + 8, us, net::IpAddress::of(destination), kProtocolUdp, kUdpLength + 1400);
    uint8_t* udp = icmp + 8 + ipHeader();
    store16(udp, endpoint_->localAddress().port());
    store16(udp + 2, destination.port());
    store16(udp + 4, kUdpLength + 1400);
    const uint64_t pseudo = v6() ? pseudoHeaderSum(router, us, kProtocolIcmpV6, icmpLength) : 0;
    storeSum(icmp + 2, static_cast<uint16_t>(~foldSum(pseudo + sumBytes(icmp, icmpLength))));
    return frame;
  }

  std::unique_ptr<Endpoint> endpoint_;
  std::unique_ptr<FarSocket> peer_;
  std::unique_ptr<NextHop> next_;
  int64_t given_ = 0;  // datagrams that the stack took

 private:
  void given(const TxItem& item, uint32_t length) { given_ += item.sentBytes / length; }
  void takeArrived(std::set<uint32_t>& missing, uint32_t length) {
    Bytes bytes(2048);
    ssize_t got = 0;
    while ((got = ::recv(peer_->fd(), bytes.data(), bytes.size(), MSG_DONTWAIT)) >= 0) {
      // A copy of an earlier window's, or one of connect()'s, is nobody's.
      const auto found = std::find_if(missing.begin(), missing.end(), [&](uint32_t number) {
        const Bytes wanted = pattern(length, number);
        return got == static_cast<ssize_t>(length) && std::equal(wanted.begin(), wanted.end(), bytes.begin());
      });
      if (found != missing.end()) missing.erase(found);
    }
  }
  void writeIp(uint8_t* ip, const net::IpAddress& from, const net::IpAddress& to, uint8_t protocol, uint32_t length) const {
    using namespace packet;
    if (v6()) {
      ip[0] = 0x60;
      store16(ip + 4, length);
      ip[6] = protocol;
      ip[7] = 64;
      std::memcpy(ip + 8, from.bytes.data(), 16);
      std::memcpy(ip + 24, to.bytes.data(), 16);
      return;
    }
    ip[0] = 0x45;
    store16(ip + 2, kIpv4Length + length);
    store16(ip + 6, kDontFragment);
    ip[8] = 64;
    ip[9] = protocol;
    std::memcpy(ip + 12, from.bytes.data(), 4);
    std::memcpy(ip + 16, to.bytes.data(), 4);
    storeSum(ip + 10, static_cast<uint16_t>(~foldSum(sumBytes(ip, kIpv4Length))));
  }

  UniqueFd wire_;
  uint32_t farIndex_ = 0;
  uint32_t sequence_ = 0;
};

TEST_P(NarrowingPath, losesWhatIsUnderWayAndNoMoreOnANodeThatIsNeverQuiet) {
  ASSERT_TRUE(carry(320));
  EXPECT_EQ(count(StackCounter::kFragmentedSends), 0);
  const Chatter chatter(*near_);
  const int64_t sent = given_;
  const int64_t frames = count(StackCounter::kFramesSent);
  const int64_t kernelSends = count(StackCounter::kKernelSends);
  const int64_t errors = endpoint_->stats.sendErrors.load();
  narrow(1280);
  ASSERT_TRUE(carry(960));
  // What was lost was sent by the device: each has one way, and is counted there. A train that the device cuts itself counts as one.
  const int64_t byDevice = count(StackCounter::kFramesSent) - frames;
  const int64_t byKernel = count(StackCounter::kKernelSends) - kernelSends;
  EXPECT_GT(byDevice, 0);
  if (count(StackCounter::kTrainsSent) == 0) {
    EXPECT_EQ(byDevice + byKernel, given_ - sent);
  }
  EXPECT_GE(count(StackCounter::kFragmentedSends), 960) << "each has come that way in the end";
  EXPECT_GT(count(StackCounter::kIcmpErrors), 0);
  EXPECT_GT(endpoint_->stats.sendErrors.load(), errors);
  // Once more, with what was learned in place.
  if (v6()) return;
  narrow(1000);
  ASSERT_TRUE(carry(960));
}

TEST_P(NarrowingPath, isSentOnByTheDeviceWhenItIsWideAgain) {
  narrow(1280);
  ASSERT_TRUE(carry(64));
  EXPECT_GT(count(StackCounter::kFragmentedSends), 0);
  narrow(1500);
  near(v6() ? "ip -6 route flush cache" : "ip route flush cache");
  // A minute later by the stack's clock; the kernel's answer takes until the tables ask for it again.
  RxBurst burst;
  io_->poll(burst, monotonicNs() + PathMtus::kBesideKernel.lifeNs + kMs);
  EXPECT_TRUE(await([&] {
    const int64_t before = count(StackCounter::kFramesSent);
    send(*endpoint_, *next_, pattern(kDatagram, 0));
    return count(StackCounter::kFramesSent) > before;
  }));
  const int64_t fragmented = count(StackCounter::kFragmentedSends);
  ASSERT_TRUE(carry(320));
  EXPECT_EQ(count(StackCounter::kFragmentedSends), fragmented);
}

TEST_P(NarrowingPath, carriesAStreamByWaysNarrowerThanTheKernelBelieves) {
  if (v6()) GTEST_SKIP() << "a link that takes less than 1280 bytes has no IPv6";
  narrow(400);
  // 552 is the least that Linux believes (ip_rt_min_pmtu): it sends what is shorter in one piece, and lets routers cut it.
  ASSERT_TRUE(carry(320, 500));
}

TEST_P(NarrowingPath, isNotStalledByAForgedOne) {
  ASSERT_TRUE(carry(64));
  for (const uint32_t mtu : {0U, 1U, 68U, 500U, 1279U}) {
    const int64_t before = count(StackCounter::kIcmpErrors);
    sendFrame(tooBig(peer_->address, mtu));
    ASSERT_TRUE(await([&] { return count(StackCounter::kIcmpErrors) > before; })) << "the kernel did not hand it on";
    ASSERT_TRUE(carry(64)) << mtu;
    EXPECT_EQ(sendControl(*endpoint_, peer_->address, pattern(100, 1)), TxStatus::kSent);
  }
  EXPECT_GT(count(StackCounter::kFragmentedSends), 0) << "it was believed as far as the kernel believes it";
}

TEST_P(NarrowingPath, isNotTouchedByForgedOnesAboutOthersHoweverMany) {
  ASSERT_TRUE(carry(64));
  const int64_t changes = count(StackCounter::kPathChanges);
  const std::string network = v6() ? "2001:db8:92::1:" : "192.0.2.";
  uint32_t forged = 0;
  const auto flood = [&] {
    for (uint32_t i = 0; i < 20; ++i, ++forged) {
      const SockAddr other = at(network + std::to_string(100 + forged % 100), peer_->address.port());
      sendFrame(tooBig(other, 600));
    }
  };
  ASSERT_TRUE(carry(960, kDatagram, flood));
  EXPECT_TRUE(await([&] { return count(StackCounter::kIcmpErrorsIgnored) > 0; }));
  EXPECT_EQ(count(StackCounter::kFragmentedSends), 0);
  EXPECT_LE(count(StackCounter::kPathChanges), changes + 2) << "a neighbour that was confirmed, perhaps";
}

INSTANTIATE_TEST_SUITE_P(Devices, NarrowingPath,
                         ::testing::Combine(::testing::Values("packet", "native", "generic", "dpdk", "dpdkExceptions"),
                                            ::testing::Values(4, 6)),
                         [](const auto& row) {
                           return std::string(std::get<0>(row.param)) + "Ipv" + std::to_string(std::get<1>(row.param));
                         });

}  // namespace
}  // namespace outrigger::io::testing
