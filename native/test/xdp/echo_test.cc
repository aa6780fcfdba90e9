// SPDX-License-Identifier: Apache-2.0
// The reflector, frame by frame: what it sends back, byte for byte, and what it must not.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>

#include <algorithm>
#include <map>
#include <optional>

#include "frames.h"
#include "io/xdp/xdp_program.h"
#include "veth_world.h"

namespace outrigger::io::xdp {
namespace {

using io::testing::FrameBuilder;
using io::testing::FrameSender;
using io::testing::VethWorld;
using io::testing::waitUntil;

constexpr uint16_t kEchoPort = 40399;

std::string probe(const std::string& rest) { return "OGP1" + rest; }

std::map<std::string, int64_t> byName(const EchoProgram& program) {
  std::map<std::string, int64_t> counters;
  for (const SteerCounter& counter : program.counters()) counters[counter.name] = counter.frames;
  return counters;
}

// A probe as it should come back: everything swapped, one hop less, and the checksums that go with it.
std::vector<uint8_t> reflectionOf(const FrameBuilder& sent, bool v6) {
  const std::string near = v6 ? "fd77::1" : "10.77.0.1";
  const std::string far = v6 ? "fd77::2" : "10.77.0.2";
  std::vector<uint8_t> frame = sent.to(far, 5000).from(near).fromPort(kEchoPort).hopLimit(63).build();
  const std::vector<uint8_t> original = sent.build();
  std::copy_n(original.begin() + 6, 6, frame.begin());
  std::copy_n(original.begin(), 6, frame.begin() + 6);
  return frame;
}

class EchoTest : public ::testing::TestWithParam<AttachMode> {
 protected:
  void SetUp() override {
    if (!VethWorld::possible()) GTEST_SKIP() << "needs root for network namespaces";
    if (!programsAreBuilt()) GTEST_SKIP() << "built without clang or libbpf";
  }
};

TEST_P(EchoTest, SendsProbesBackSwappedAndLeavesOrDropsAllElseEachWithItsReason) {
  VethWorld::run([mode = GetParam()](VethWorld& world) {
    auto echo = EchoProgram::attach(::if_nametoindex("va"), mode, true, kEchoPort);
    ASSERT_TRUE(echo) << echo.error().message;
    FrameSender wire;
    UniqueFd listener;
    std::optional<EchoProgram> pass;
    world.inFar([&] {
      auto attached = EchoProgram::attach(::if_nametoindex("vb"), AttachMode::kNative, false, 0);
      ASSERT_TRUE(attached) << attached.error().message;
      pass.emplace(attached.take());
      wire.open("vb");
      listener = UniqueFd(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0));
      sockaddr_ll at{};
      at.sll_family = AF_PACKET;
      at.sll_protocol = htons(0x0003);  // every protocol
      at.sll_ifindex = static_cast<int>(::if_nametoindex("vb"));
      ASSERT_EQ(::bind(listener.get(), reinterpret_cast<sockaddr*>(&at), sizeof(at)), 0);
    });
    // The next frame that came in, among what goes out and what the kernels have to say to each other.
    const auto comesBack = [&](const std::vector<uint8_t>& wanted) {
      for (;;) {
        pollfd handle{listener.get(), POLLIN, 0};
        if (::poll(&handle, 1, 5'000) != 1) return false;
        std::vector<uint8_t> frame(2048);
        sockaddr_ll from{};
        socklen_t length = sizeof(from);
        const ssize_t got = ::recvfrom(listener.get(), frame.data(), frame.size(), 0, reinterpret_cast<sockaddr*>(&from), &length);
        frame.resize(static_cast<size_t>(std::max<ssize_t>(got, 0)));
        if (from.sll_pkttype != PACKET_OUTGOING && frame == wanted) return true;
      }
    };
    for (const bool v6 : {false, true}) {
      for (const size_t length : {12, 13, 700, 1400}) {
        const FrameBuilder sent = FrameBuilder().to(v6 ? "fd77::1" : "10.77.0.1", kEchoPort).payload(probe(std::string(length, 'x')));
        wire.send(sent.build());
        EXPECT_TRUE(comesBack(reflectionOf(sent, v6))) << length;
      }
    }
    EXPECT_EQ(byName(*echo)["reflected"], 8);

    const FrameBuilder good = FrameBuilder().to("10.77.0.1", kEchoPort).payload(probe(std::string(20, 'x')));
    const FrameBuilder good6 = FrameBuilder().to("fd77::1", kEchoPort).payload(probe(std::string(20, 'x')));
    struct Case {
      const char* reason;
      FrameBuilder frame;
    };
    const std::vector<Case> cases{
        {"other", good.to("10.77.0.1", kEchoPort + 1)},
        {"other", good.protocol(6)},
        {"other", good.fragment(0x2000)},
        {"other", good.options(4)},
        {"not a probe", good.payload("something else that is long enough")},
        {"not a probe", good.payload(probe("short"))},
        {"not a probe", good6.payload("something else that is long enough")},
        {"no return", good.fromPort(kEchoPort)},
        {"no return", good6.fromPort(kEchoPort)},
        {"no return", good.from("224.0.0.1")},
        {"no return", good.from("255.255.255.255")},
        {"no return", good.from("0.0.0.0")},
        {"no return", good6.from("ff02::1")},
        {"no return", good6.from("::")},
        {"ttl expired", good.hopLimit(1)},
        {"ttl expired", good.hopLimit(0)},
        {"ttl expired", good6.hopLimit(1)},
    };
    for (const Case& one : cases) {
      const int64_t before = byName(*echo)[one.reason];
      wire.send(one.frame.build());
      EXPECT_TRUE(waitUntil([&] { return byName(*echo)[one.reason] > before; })) << one.reason;
    }
    EXPECT_EQ(byName(*echo)["reflected"], 8);
  });
}

INSTANTIATE_TEST_SUITE_P(Modes, EchoTest, ::testing::Values(AttachMode::kNative, AttachMode::kGeneric),
                         [](const auto& mode) { return mode.param == AttachMode::kNative ? "native" : "generic"; });

}  // namespace
}  // namespace outrigger::io::xdp
