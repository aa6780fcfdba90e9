// SPDX-License-Identifier: Apache-2.0
// Preferred busy polling over two queues of a veth: granted, with a call into the kernel at each poll, and refused with what is said then. A veth
// gives its sockets no NAPI to poll, so its own timer brings what comes; that our polls do a device's work shows on a NIC alone.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>

#include <array>
#include <cstring>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "frames.h"
#include "io/xdp/xdp_program.h"
#include "open_io.h"
#include "veth_world.h"

namespace outrigger::io::xdp {
namespace {

using io::testing::FrameBuilder;
using io::testing::optionsFor;
using io::testing::payloadOf;
using io::testing::VethWorld;
using io::testing::waitUntil;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr uint16_t kPort = 40001;
constexpr size_t kFlows = 32;  // the veth spreads them over its queues by their ports
constexpr const char* kOffload = "preferred busy polling";

class BusyPollTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!VethWorld::possible()) GTEST_SKIP() << "needs root for network namespaces";
    if (!programsAreBuilt()) GTEST_SKIP() << "built without clang or libbpf";
  }

  // In a world of two queues, whose interfaces /sys shows: it has those of the namespace that it was mounted in.
  static void run(const std::function<void(VethWorld&)>& body) {
    VethWorld::run({.mtu = 1500, .queues = 2}, [&](VethWorld& world) {
      ASSERT_EQ(::unshare(CLONE_NEWNS), 0) << std::strerror(errno);
      ASSERT_EQ(::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0) << std::strerror(errno);
      ASSERT_EQ(::mount("sysfs", "/sys", "sysfs", 0, nullptr), 0) << std::strerror(errno);
      body(world);
    });
  }
  static bool set(const VethWorld& world, const std::string& name, const std::string& value) {
    return world.near("sh -c 'echo " + value + " > /sys/class/net/va/" + name + "'");
  }
};

// An XdpFrameIo, those on the far host who send to it, and one there who sees what it sends.
class Traffic {
 public:
  Traffic(VethWorld& world, std::unique_ptr<XdpFrameIo> io) : io_(std::move(io)) {
    EXPECT_TRUE(world.far("ethtool -K vb tx off >/dev/null"));  // whole checksums, as from a wire
    EXPECT_TRUE(io_->steer({to_}));
    world.inFar([&] {
      for (size_t i = 0; i < kFlows; ++i) senders_.emplace_back(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
      listener_ = UniqueFd(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0));
      sockaddr_ll at{};
      at.sll_family = AF_PACKET;
      at.sll_protocol = htons(0x0800);
      at.sll_ifindex = static_cast<int>(::if_nametoindex("vb"));
      EXPECT_EQ(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&at), sizeof(at)), 0) << std::strerror(errno);
      const int on = 1;
      EXPECT_EQ(::setsockopt(listener_.get(), SOL_PACKET, kIgnoreOutgoing, &on, sizeof(on)), 0) << std::strerror(errno);
    });
  }

  void sendOneOfEachFlow(const std::string& round) {
    for (size_t i = 0; i < kFlows; ++i) {
      const std::string text = round + "/" + std::to_string(i);
      ASSERT_EQ(::sendto(senders_[i].get(), text.data(), text.size(), 0, to_.get(), to_.length), static_cast<ssize_t>(text.size()));
    }
  }
  // One of each flow, by polling alone: nobody sleeps on the device.
  void receiveOneOfEachFlow(const std::string& round) {
    std::set<std::string> missing;
    for (size_t i = 0; i < kFlows; ++i) missing.insert(round + "/" + std::to_string(i));
    waitUntil([&] {
      std::array<RxFrame, 16> frames;
      const uint32_t got = io_->receive(frames);
      for (uint32_t i = 0; i < got; ++i) {
        EXPECT_EQ(missing.erase(payloadOf({frames[i].data, frames[i].data + frames[i].length})), 1U);
        queues_.insert(frames[i].cookie >> 48);
      }
      io_->giveBack({frames.data(), got});
      return missing.empty();
    });
    EXPECT_TRUE(missing.empty()) << missing.size() << " of round " << round << " did not come, " << *missing.begin() << " for one";
  }
  // That frames came from.
  size_t queuesSeen() const { return queues_.size(); }
  void expectToSend(const std::string& text) {
    const auto frame = FrameBuilder().to("10.77.0.2", kPort).payload(text).build();
    TxFrame slot;
    ASSERT_EQ(io_->reserve({&slot, 1}), 1U);
    std::memcpy(slot.data, frame.data(), frame.size());
    slot.length = static_cast<uint32_t>(frame.size());
    io_->commit({&slot, 1});
    EXPECT_TRUE(io_->flush());
    std::vector<uint8_t> seen(2048);
    pollfd handle{listener_.get(), POLLIN, 0};
    ASSERT_EQ(::poll(&handle, 1, 10'000), 1) << "nothing was sent";
    const ssize_t length = ::recv(listener_.get(), seen.data(), seen.size(), 0);
    seen.resize(length > 0 ? static_cast<size_t>(length) : 0);
    EXPECT_EQ(seen, frame);
  }

 private:
  static constexpr int kIgnoreOutgoing = 23;  // PACKET_IGNORE_OUTGOING, Linux 4.20

  std::unique_ptr<XdpFrameIo> io_;
  SockAddr to_ = SockAddr::parseNumeric("10.77.0.1", kPort).take();
  std::vector<UniqueFd> senders_;
  UniqueFd listener_;
  std::set<uint64_t> queues_;
};

BackendOptions busyPolling() {
  BackendOptions options = optionsFor("native");
  options.busyPollUs = 20;
  return options;
}

TEST_F(BusyPollTest, IsGrantedForEveryQueueWhichThenCarryFramesBothWays) {
  run([](VethWorld& world) {
    ASSERT_TRUE(set(world, "napi_defer_hard_irqs", "2"));
    ASSERT_TRUE(set(world, "gro_flush_timeout", "200000"));
    XdpAttempt attempt;
    auto parts = openXdp(busyPolling(), attempt, Offload::kAuto, Offload::kOn);
    ASSERT_TRUE(parts) << parts.error().message;
    EXPECT_TRUE(parts->busyPoll);
    EXPECT_THAT(parts->caps.offloads, Contains(kOffload));
    EXPECT_THAT(parts->caps.reason, Not(HasSubstr("busy polling")));
    ASSERT_EQ(parts->sockets.size(), 2U);
    for (const UniqueFd& socket : parts->sockets) {
      int microseconds = 0;
      socklen_t length = sizeof(microseconds);
      ASSERT_EQ(::getsockopt(socket.get(), SOL_SOCKET, SO_BUSY_POLL, &microseconds, &length), 0) << std::strerror(errno);
      EXPECT_EQ(microseconds, 20);
    }
    auto io = XdpFrameIo::create(parts.take());
    ASSERT_TRUE(io) << io.error().message;
    Traffic traffic(world, io.take());
    for (int i = 0; i < 50; ++i) {
      const std::string round = std::to_string(i);
      ASSERT_NO_FATAL_FAILURE(traffic.sendOneOfEachFlow(round));
      traffic.receiveOneOfEachFlow(round);
      ASSERT_NO_FATAL_FAILURE(traffic.expectToSend(round));
    }
    EXPECT_EQ(traffic.queuesSeen(), 2U);
  });
}

TEST_F(BusyPollTest, IsLeftOffWhereTheKernelWouldNotLookAgainAndTheCauseIsNamedWithTheFix) {
  run([](VethWorld& world) {
    for (const auto& [hard, timeout, missing] :
         {std::tuple{"0", "0", "napi_defer_hard_irqs"}, {"0", "200000", "napi_defer_hard_irqs"}, {"2", "0", "gro_flush_timeout"}}) {
      ASSERT_TRUE(set(world, "napi_defer_hard_irqs", hard));
      ASSERT_TRUE(set(world, "gro_flush_timeout", timeout));
      XdpAttempt attempt;
      auto parts = openXdp(busyPolling(), attempt, Offload::kAuto, Offload::kOn);
      ASSERT_TRUE(parts) << parts.error().message;
      EXPECT_FALSE(parts->busyPoll);
      EXPECT_THAT(parts->caps.offloads, Not(Contains(kOffload)));
      const std::string cause = std::string(missing) + " of interface va is 0: frames would wait while no thread of ours polls";
      EXPECT_THAT(parts->caps.reason, HasSubstr("busy polling: " + cause));
      ASSERT_EQ(attempt.refused.size(), 1U);
      EXPECT_EQ(attempt.refused[0].what, "busy polling");
      EXPECT_EQ(attempt.refused[0].cause, cause);
      EXPECT_THAT(attempt.refused[0].fix, AllOf(HasSubstr("echo 2 > /sys/class/net/va/napi_defer_hard_irqs"),
                                                HasSubstr("echo 200000 > /sys/class/net/va/gro_flush_timeout")));
      auto io = XdpFrameIo::create(parts.take());
      ASSERT_TRUE(io) << io.error().message;
      Traffic traffic(world, io.take());
      ASSERT_NO_FATAL_FAILURE(traffic.sendOneOfEachFlow("without"));
      traffic.receiveOneOfEachFlow("without");
      ASSERT_NO_FATAL_FAILURE(traffic.expectToSend("without"));
    }
  });
}

// There is no interrupt to be spared: frames would only wait for the timer.
TEST_F(BusyPollTest, IsNotTriedOnADeviceThatIsNoHardware) {
  run([](VethWorld& world) {
    ASSERT_TRUE(set(world, "napi_defer_hard_irqs", "2"));
    ASSERT_TRUE(set(world, "gro_flush_timeout", "200000"));
    XdpAttempt attempt;
    const auto parts = openXdp(busyPolling(), attempt);
    ASSERT_TRUE(parts) << parts.error().message;
    EXPECT_FALSE(parts->busyPoll);
    EXPECT_TRUE(attempt.refused.empty());
  });
}

}  // namespace
}  // namespace outrigger::io::xdp
