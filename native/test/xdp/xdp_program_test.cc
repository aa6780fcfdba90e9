// SPDX-License-Identifier: Apache-2.0
// The steering program on a real interface: what it takes, what it leaves, and whose program it respects.
#include "io/xdp/xdp_program.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sys/mount.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <map>
#include <optional>
#include <vector>

#include "frames.h"
#include "io/xdp/umem_memory.h"
#include "io/xdp/xsk.h"
#include "veth_world.h"

namespace outrigger::io::xdp {
namespace {

using io::testing::FrameBuilder;
using io::testing::FrameSender;
using io::testing::payloadOf;
using io::testing::VethWorld;
using io::testing::waitUntil;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr RingSizes kSizes{64, 64, 64, 64};
constexpr uint32_t kChunk = 4096;

// A socket on queue 0 of `va` whose chunks are all in the fill ring.
struct Socket {
  UmemMemory memory;
  UniqueFd fd;
  XskRings rings;

  void open() {
    std::string reason;
    auto allocated = UmemMemory::allocate(64 * kChunk, false, reason);
    ASSERT_TRUE(allocated);
    memory = allocated.take();
    auto socket = openXsk();
    ASSERT_TRUE(socket) << socket.error().message;
    ASSERT_TRUE(registerUmem(socket->get(), memory.data(), memory.lengthBytes(), UmemLayout{kChunk, 0, 0}));
    ASSERT_TRUE(setRings(socket->get(), kSizes));
    XskBinding binding;
    binding.interfaceIndex = ::if_nametoindex("va");
    auto bound = bindXsk(socket->get(), binding);
    ASSERT_TRUE(bound) << bound.error().message;
    auto mapped = XskRings::map(socket->get(), kSizes);
    ASSERT_TRUE(mapped);
    rings = mapped.take();
    fd = socket.take();
    for (uint64_t i = 0; i < kSizes.fill; ++i) rings.fill.push(i * kChunk);
    rings.fill.publish();
  }
  // The next frame, waiting for it.
  std::vector<uint8_t> receive() {
    pollfd handle{fd.get(), POLLIN, 0};
    EXPECT_EQ(::poll(&handle, 1, 5'000), 1) << "no frame came";
    if (rings.receive.available() == 0) return {};
    const xdp_desc descriptor = rings.receive.peek(0);
    std::vector<uint8_t> frame(memory.data() + descriptor.addr, memory.data() + descriptor.addr + descriptor.len);
    rings.receive.pop(1);
    return frame;
  }
};

class XdpProgramTest : public ::testing::TestWithParam<AttachMode> {
 protected:
  void SetUp() override {
    if (!VethWorld::possible()) GTEST_SKIP() << "needs root for network namespaces";
    if (!programsAreBuilt()) GTEST_SKIP() << "built without clang or libbpf";
  }

  static XdpProgram attached(AttachMode mode, uint32_t mtu = 1500) {
    XdpProgram::Options options;
    options.interfaceIndex = ::if_nametoindex("va");
    options.mode = mode;
    options.mtu = mtu;
    auto program = XdpProgram::attach(options);
    EXPECT_TRUE(program) << program.error().message;
    return program ? program.take() : XdpProgram();
  }
};

std::map<std::string, int64_t> byName(const XdpProgram& program) {
  std::map<std::string, int64_t> counters;
  for (const SteerCounter& counter : program.counters()) counters[counter.name] = counter.frames;
  return counters;
}

SockAddr addressOf(const char* host, uint16_t port) { return SockAddr::parseNumeric(host, port).take(); }

TEST_P(XdpProgramTest, DatagramsToARuleReachTheSocketAndAllElseTheKernelEachWithItsReason) {
  VethWorld::run([mode = GetParam()](VethWorld& world) {
    Socket socket;
    ASSERT_NO_FATAL_FAILURE(socket.open());
    XdpProgram program = attached(mode);
    ASSERT_TRUE(program.setSocket(0, socket.fd.get()));
    ASSERT_TRUE(program.addRule(addressOf("10.77.0.1", 40001)));
    ASSERT_TRUE(program.addRule(addressOf("10.77.0.1", 40001))) << "adding is idempotent";
    ASSERT_TRUE(program.addRule(addressOf("::", 40002)));
    FrameSender wire;
    world.inFar([&] { wire.open("vb"); });
    const auto before = byName(program);
    const auto count = [&](const char* name) { return byName(program)[name] - before.at(name); };

    const FrameBuilder ours = FrameBuilder().to("10.77.0.1", 40001);
    wire.send(ours.payload("exact").build());
    EXPECT_EQ(payloadOf(socket.receive()), "exact");
    wire.send(FrameBuilder().to("fd77::1", 40002).payload("any address").build());
    EXPECT_EQ(payloadOf(socket.receive()), "any address");
    wire.send(ours.payload("priority tag").vlan(3 << 13).build());
    EXPECT_EQ(payloadOf(socket.receive()), "priority tag");
    EXPECT_EQ(count("steered"), 3);

    struct Left {
      const char* reason;
      std::vector<uint8_t> frame;
    };
    const std::vector<Left> left{
        {"no rule", FrameBuilder().to("10.77.0.1", 40002).build()},
        {"no rule", FrameBuilder().to("10.77.0.9", 40001).build()},
        {"no rule", FrameBuilder().to("fd77::1", 40001).build()},
        {"fragment", ours.fragment(0x2000).build()},
        {"fragment", ours.fragment(0x0010).build()},
        {"options", ours.options(4).build()},
        {"options", FrameBuilder().to("fd77::1", 40002).nextHeader(0).build()},
        {"fragment", FrameBuilder().to("fd77::1", 40002).nextHeader(44).build()},
        {"icmp", ours.protocol(1).build()},
        {"icmp", FrameBuilder().to("fd77::1", 40002).nextHeader(58).build()},
        {"other ip", ours.protocol(6).build()},
        {"not ip", ours.etherType(0x0806).build()},
        {"other vlan", ours.vlan(5).build()},
        {"not ip", ours.vlan(0).etherType(0x8100).build()},
        {"truncated", FrameBuilder::cut(ours.build(), 14 + 12)},
    };
    std::map<std::string, int64_t> expected;
    for (const Left& one : left) {
      wire.send(one.frame);
      ++expected[one.reason];
      EXPECT_TRUE(waitUntil([&] { return count(one.reason) >= expected[one.reason]; })) << one.reason;
    }
    EXPECT_EQ(count("steered"), 3);
    EXPECT_EQ(socket.rings.receive.refreshed(), 0U);

    ASSERT_TRUE(program.removeRule(addressOf("10.77.0.1", 40001)));
    ASSERT_TRUE(program.removeRule(addressOf("10.77.0.1", 40001))) << "removing is idempotent";
    wire.send(ours.build());
    EXPECT_TRUE(waitUntil([&] { return count("no rule") >= expected["no rule"] + 1; }));
  });
}

TEST_P(XdpProgramTest, WithoutASocketOnTheQueueTheKernelGetsTheDatagram) {
  VethWorld::run([mode = GetParam()](VethWorld& world) {
    XdpProgram program = attached(mode);
    ASSERT_TRUE(program.addRule(addressOf("10.77.0.1", 40001)));
    UniqueFd listener(::socket(AF_INET, SOCK_DGRAM, 0));
    const SockAddr local = addressOf("10.77.0.1", 40001);
    ASSERT_EQ(::bind(listener.get(), local.get(), local.length), 0);
    UniqueFd sender;
    world.inFar([&] { sender = UniqueFd(::socket(AF_INET, SOCK_DGRAM, 0)); });
    ASSERT_EQ(::sendto(sender.get(), "kernel", 6, 0, local.get(), local.length), 6);
    pollfd handle{listener.get(), POLLIN, 0};
    ASSERT_EQ(::poll(&handle, 1, 5'000), 1);
    EXPECT_EQ(byName(program)[mode == AttachMode::kNative ? "no socket" : "partial"], 1);
  });
}

// A train of equal datagrams in one call, as the mmsg backend sends it. Natively the kernel cuts it before the program; generically the
// program sees it whole, passes it, and the kernel cuts it for whoever has the port.
TEST_P(XdpProgramTest, EveryDatagramOfASegmentationTrainArrivesThroughSocketOrKernel) {
  VethWorld::run([mode = GetParam()](VethWorld& world) {
    Socket socket;
    ASSERT_NO_FATAL_FAILURE(socket.open());
    XdpProgram program = attached(mode);
    ASSERT_TRUE(program.setSocket(0, socket.fd.get()));
    const SockAddr local = addressOf("10.77.0.1", 40001);
    ASSERT_TRUE(program.addRule(local));
    UniqueFd listener(::socket(AF_INET, SOCK_DGRAM, 0));
    ASSERT_EQ(::bind(listener.get(), local.get(), local.length), 0);
    UniqueFd sender;
    world.inFar([&] { sender = UniqueFd(::socket(AF_INET, SOCK_DGRAM, 0)); });
    struct Train {
      int datagrams;
      int length;
      const char* generic;  // what the program says of it when it comes in one piece
    };
    // The second is no longer than a frame may be.
    for (const Train& train : {Train{20, 1408, "too long"}, Train{4, 100, "partial"}}) {
      ASSERT_EQ(::setsockopt(sender.get(), SOL_UDP, UDP_SEGMENT, &train.length, sizeof(train.length)), 0) << std::strerror(errno);
      std::vector<uint8_t> bytes(static_cast<size_t>(train.datagrams * train.length));
      for (int i = 0; i < train.datagrams; ++i) bytes[static_cast<size_t>(i * train.length)] = static_cast<uint8_t>(i);
      const int64_t steered = byName(program)["steered"];
      ASSERT_EQ(::sendto(sender.get(), bytes.data(), bytes.size(), 0, local.get(), local.length), static_cast<ssize_t>(bytes.size()));
      for (int i = 0; i < train.datagrams; ++i) {
        if (mode == AttachMode::kNative) {
          const std::string payload = payloadOf(socket.receive());
          ASSERT_EQ(payload.size(), static_cast<size_t>(train.length));
          EXPECT_EQ(payload[0], i);
        } else {
          std::array<uint8_t, 2048> datagram{};
          pollfd handle{listener.get(), POLLIN, 0};
          ASSERT_EQ(::poll(&handle, 1, 5'000), 1);
          ASSERT_EQ(::recv(listener.get(), datagram.data(), datagram.size(), 0), train.length);
          EXPECT_EQ(datagram[0], i);
        }
      }
      EXPECT_EQ(byName(program)["steered"] - steered, mode == AttachMode::kNative ? train.datagrams : 0);
      EXPECT_EQ(byName(program)[train.generic], mode == AttachMode::kNative ? 0 : 1);
    }
  });
}

TEST_P(XdpProgramTest, AnotherProgramOnTheInterfaceIsNamedAndStays) {
  VethWorld::run([mode = GetParam()](VethWorld&) {
    const uint32_t va = ::if_nametoindex("va");
    auto none = describeAttachedProgram(va);
    ASSERT_TRUE(none) << none.error().message;
    EXPECT_FALSE(none->has_value());
    auto other = EchoProgram::attach(va, mode, false, 0);
    ASSERT_TRUE(other) << other.error().message;
    for (const AttachMode wanted : {AttachMode::kNative, AttachMode::kGeneric}) {
      XdpProgram::Options options;
      options.interfaceIndex = va;
      options.mode = wanted;
      auto refused = XdpProgram::attach(options);
      ASSERT_FALSE(refused);
      EXPECT_EQ(refused.error().sysErrno, EBUSY);
      EXPECT_THAT(refused.error().message, AllOf(HasSubstr("interface va"), HasSubstr("program "), HasSubstr("'pass' (tag "),
                                                 HasSubstr(mode == AttachMode::kNative ? ", native)" : ", generic)")));
    }
    EXPECT_TRUE(other->attached());
  });
}

TEST_P(XdpProgramTest, TheProgramGoesWithItsOwnerUnlessPinnedAndIsTakenUpAgainFromThere) {
  VethWorld::run([mode = GetParam()](VethWorld& world) {
    const uint32_t va = ::if_nametoindex("va");
    { const XdpProgram program = attached(mode); }
    EXPECT_TRUE(waitUntil([&] { return !describeAttachedProgram(va)->has_value(); }));

    ASSERT_EQ(::unshare(CLONE_NEWNS), 0);
    ASSERT_EQ(::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
    ASSERT_EQ(::mount("bpf", "/mnt", "bpf", 0, nullptr), 0) << std::strerror(errno);
    {
      XdpProgram program = attached(mode);
      ASSERT_TRUE(program.addRule(addressOf("10.77.0.1", 40001)));
      auto pinned = program.pin("/mnt");
      ASSERT_TRUE(pinned) << pinned.error().message;
    }
    auto adopted = XdpProgram::adopt("/mnt");
    ASSERT_TRUE(adopted) << adopted.error().message;
    EXPECT_TRUE(adopted->attached());
    Socket socket;
    ASSERT_NO_FATAL_FAILURE(socket.open());
    ASSERT_TRUE(adopted->setSocket(0, socket.fd.get()));
    FrameSender wire;
    world.inFar([&] { wire.open("vb"); });
    wire.send(FrameBuilder().to("10.77.0.1", 40001).payload("old rule").build());
    EXPECT_EQ(payloadOf(socket.receive()), "old rule");

    ASSERT_TRUE(world.near("ip link del va"));
    EXPECT_FALSE(adopted->attached());
    XdpProgram::unpin("/mnt");
    EXPECT_NE(::access("/mnt/link", F_OK), 0);
  });
}

INSTANTIATE_TEST_SUITE_P(Modes, XdpProgramTest, ::testing::Values(AttachMode::kNative, AttachMode::kGeneric),
                         [](const auto& mode) { return mode.param == AttachMode::kNative ? "native" : "generic"; });

}  // namespace
}  // namespace outrigger::io::xdp
