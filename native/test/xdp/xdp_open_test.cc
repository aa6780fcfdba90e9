// SPDX-License-Identifier: Apache-2.0
// Opening and probing: the ladder, and what is said when a rung or the whole can't be had.
#include "io/xdp/xdp_open.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <net/if.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <functional>
#include <memory>

#include "capabilities.h"
#include "frames.h"
#include "io/xdp/xdp_program.h"
#include "open_io.h"
#include "veth_world.h"

namespace outrigger::io::xdp {
namespace {

using io::testing::FrameBuilder;
using io::testing::FrameSender;
using io::testing::keepCapabilities;
using io::testing::openIo;
using io::testing::optionsFor;
using io::testing::VethWorld;
using io::testing::waitUntil;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class XdpLadderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!VethWorld::possible()) GTEST_SKIP() << "needs root for network namespaces";
    if (!programsAreBuilt()) GTEST_SKIP() << "built without clang or libbpf";
  }
};

TEST_F(XdpLadderTest, AutoOnAVethIsANativeCopyAndSaysWhyNotZeroCopyNorHugepages) {
  VethWorld::run([](VethWorld&) {
    auto options = optionsFor("auto");
    options.hugepages = true;
    options.umemBytes = 1u << 20;
    auto io = openIo(options);
    ASSERT_NE(io, nullptr);
    EXPECT_EQ(io->caps().mode, "native copy");
    EXPECT_THAT(io->caps().reason, AllOf(HasSubstr("zero-copy: AF_XDP: cannot bind interface va queue 0"), HasSubstr("not support")));
    const auto& offloads = io->caps().offloads;
    const bool huge = std::find(offloads.begin(), offloads.end(), "hugepages") != offloads.end();
    EXPECT_EQ(huge, io->caps().reason.find("hugepages") == std::string::npos);
  });
}

TEST_F(XdpLadderTest, ADeviceWithoutNativeProgramsGetsTheGenericMode) {
  VethWorld::run([](VethWorld&) {
    auto options = optionsFor("auto");
    options.interface = "lo";
    auto io = openIo(options);
    ASSERT_NE(io, nullptr);
    EXPECT_EQ(io->caps().mode, "generic");
    EXPECT_THAT(io->caps().reason, AllOf(HasSubstr("zero-copy: "), HasSubstr("native copy: "), HasSubstr("interface lo natively")));
  });
}

TEST_F(XdpLadderTest, AForcedModeDoesNotFallBack) {
  VethWorld::run([](VethWorld&) {
    XdpAttempt attempt;
    auto refused = openXdp(optionsFor("zero-copy"), attempt);
    ASSERT_FALSE(refused);
    EXPECT_THAT(refused.error().message, AllOf(HasSubstr("xdp on interface va (driver veth): zero-copy: "), Not(HasSubstr("native"))));
    ASSERT_EQ(attempt.refused.size(), 1U);
    EXPECT_THAT(attempt.refused[0].fix, HasSubstr("zero-copy"));
  });
}

TEST_F(XdpLadderTest, WhatIsWrongIsNamedWithItsValueAndTheFix) {
  VethWorld::run([](VethWorld&) {
    const auto messageOf = [](const std::function<void(BackendOptions&)>& change) {
      auto options = optionsFor("auto");
      change(options);
      XdpAttempt attempt;
      auto refused = openXdp(options, attempt);
      EXPECT_FALSE(refused);
      return refused ? std::string() : refused.error().message;
    };
    EXPECT_THAT(messageOf([](auto& o) { o.interface = "nope"; }), HasSubstr("interface 'nope' does not exist"));
    EXPECT_THAT(messageOf([](auto& o) { o.queues = {0, 7}; }), HasSubstr("has no queue 7: it has 1"));
    EXPECT_THAT(messageOf([](auto& o) { o.xdpMode = "fast"; }), HasSubstr("mode 'fast' is unknown, allowed are auto, zero-copy"));
    EXPECT_THAT(messageOf([](auto& o) { o.umemBytes = 4096; }),
                HasSubstr("4096 bytes is too small for 1 queues of interface va: give it 131072"));
    auto other = EchoProgram::attach(::if_nametoindex("va"), AttachMode::kGeneric, false, 0);
    ASSERT_TRUE(other);
    const std::string taken = messageOf([](auto&) {});
    EXPECT_THAT(taken, AllOf(HasSubstr("'pass' (tag "), HasSubstr("is there and stays")));
    EXPECT_THAT(taken, Not(HasSubstr("native copy"))) << "no other rung changes that";
  });
}

std::string causesOf(const BackendReport& report) {
  std::string text;
  for (const BackendCause& cause : report.causes) text += cause.what + ": " + cause.cause + " -> " + cause.fix + "\n";
  return text;
}
std::string factOf(const BackendReport& report, const std::string& name) {
  for (const auto& [key, value] : report.facts) {
    if (key == name) return value;
  }
  return "";
}

TEST_F(XdpLadderTest, AnInterfaceThatIsDownOpensAndSaysSoAndCarriesFramesOnceItIsUp) {
  VethWorld::run([](VethWorld& world) {
    ASSERT_TRUE(world.near("ip link set va down"));
    auto io = openIo(optionsFor("auto"));
    ASSERT_NE(io, nullptr);
    EXPECT_FALSE(io->link().up);
    EXPECT_THAT(io->link().reason, HasSubstr("interface va is down"));
    ASSERT_TRUE(io->steer({SockAddr::parseNumeric("10.77.0.1", 40001).take()}));
    ASSERT_TRUE(world.near("ip link set va up"));
    ASSERT_TRUE(waitUntil([&] { return io->link().up; }));
    ASSERT_TRUE(waitUntil([&] { return world.carries(); }));
    FrameSender wire;
    world.inFar([&] { wire.open("vb"); });
    wire.send(FrameBuilder().to("10.77.0.1", 40001).build());
    std::array<RxFrame, 4> frames;
    uint32_t got = 0;
    ASSERT_TRUE(waitUntil([&] { return (got = io->receive(frames)) == 1; }));
    io->giveBack({frames.data(), got});
  });
}

TEST_F(XdpLadderTest, ProbingSaysWhatOpeningWouldGiveAndLeavesTheInterfaceAlone) {
  VethWorld::run([](VethWorld&) {
    auto options = optionsFor("auto");
    const BackendReport report = probeXdp(options);
    EXPECT_EQ(report.name, "xdp");
    EXPECT_EQ(report.availability, Availability::kDegraded) << causesOf(report);
    EXPECT_EQ(factOf(report, "mode"), openIo(options)->caps().mode);
    EXPECT_EQ(factOf(report, "interface"), "va");
    EXPECT_EQ(factOf(report, "driver"), "veth");
    EXPECT_EQ(factOf(report, "mtu"), "1500");
    EXPECT_THAT(causesOf(report), HasSubstr("zero-copy: driver veth has no AF_XDP zero-copy"));
    options.xdpMode = "zero-copy";
    EXPECT_EQ(probeXdp(options).availability, Availability::kImpossible);
    options.interface = "lo";
    options.xdpMode = "auto";
    const BackendReport loopback = probeXdp(options);
    EXPECT_EQ(factOf(loopback, "mode"), "generic");
    EXPECT_THAT(causesOf(loopback), HasSubstr("native copy: its driver runs no XDP program natively"));
  });
}

TEST_F(XdpLadderTest, ProbingNamesEachObstacleWithItsFix) {
  VethWorld::run([](VethWorld& world) {
    const auto check = [](const std::function<void(BackendOptions&)>& change, const std::string& cause, const std::string& fix) {
      auto options = optionsFor("auto");
      change(options);
      const BackendReport report = probeXdp(options);
      EXPECT_EQ(report.availability, Availability::kImpossible);
      EXPECT_THAT(causesOf(report), AllOf(HasSubstr(cause), HasSubstr(fix)));
    };
    check([](auto& o) { o.interface = "nope"; }, "interface 'nope' does not exist", "name an interface");
    check([](auto& o) { o.queues = {3}; }, "no queue 3", "queues");
    check([](auto& o) { o.xdpMode = "fast"; }, "mode 'fast' is unknown", "name one of these");
    ASSERT_TRUE(world.near("ip link set va mtu 9000"));
    EXPECT_EQ(factOf(probeXdp(optionsFor("auto")), "frames"), "of several buffers");
    ASSERT_TRUE(world.near("ip link set va mtu 1500"));
    {
      auto other = EchoProgram::attach(::if_nametoindex("va"), AttachMode::kNative, false, 0);
      ASSERT_TRUE(other);
      check([](auto&) {}, "taken by program", "'ip link set va xdp off'");
    }
    const rlimit limit{65536, 65536};
    ASSERT_EQ(::setrlimit(RLIMIT_MEMLOCK, &limit), 0);
    keepCapabilities({CAP_NET_RAW, CAP_NET_ADMIN, CAP_BPF});
    check([](auto&) {}, "RLIMIT_MEMLOCK, 65536 bytes", "CAP_IPC_LOCK");
    keepCapabilities({CAP_NET_RAW});
    check([](auto&) {}, "CAP_BPF and CAP_NET_ADMIN", "outrigger-nicd");
    keepCapabilities({});
    check([](auto&) {}, "AF_XDP: cannot create a socket: give the process CAP_NET_RAW", "outrigger-nicd");
  });
}

TEST_F(XdpLadderTest, ThreeCapabilitiesAreEnoughToOpenAndEachMissingOneIsNamed) {
  VethWorld::run([](VethWorld&) {
    auto options = optionsFor("auto");
    options.umemBytes = 2u << 20;  // within the 8 MiB that any user may lock
    keepCapabilities({CAP_NET_RAW, CAP_NET_ADMIN, CAP_BPF});
    ASSERT_NE(openIo(options), nullptr);
    keepCapabilities({CAP_NET_ADMIN, CAP_BPF});
    XdpAttempt attempt;
    auto refused = openXdp(options, attempt);
    ASSERT_FALSE(refused);
    EXPECT_THAT(refused.error().message, HasSubstr("CAP_NET_RAW"));
    keepCapabilities({});
    refused = openXdp(options, attempt);
    ASSERT_FALSE(refused);
    EXPECT_THAT(refused.error().message, HasSubstr("CAP_BPF and CAP_NET_ADMIN"));
    EXPECT_THAT(attempt.refused.back().fix, HasSubstr("outrigger-nicd"));
  });
}

}  // namespace
}  // namespace outrigger::io::xdp
