// SPDX-License-Identifier: Apache-2.0
// AF_XDP from nicd: a driver in a pod, without any right, has a queue of its own, and no more than that.
#include <gmock/gmock.h>
#include <linux/if_xdp.h>
#include <net/if.h>
#include <sys/mman.h>

#include "io/xdp/umem_memory.h"
#include "io/xdp/xdp_program.h"
#include "pod_echo.h"

namespace outrigger::nicd::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class NicdXdpTest : public NicdTest {
 protected:
  void SetUp() override {
    NicdTest::SetUp();
    if (!io::xdp::programsAreBuilt()) GTEST_SKIP() << "built without clang or libbpf";
  }
};

OpenXdp xdpRequest(uint64_t bytes) {
  OpenXdp open;
  EXPECT_TRUE(setName(open.interface, "va"));
  open.umemLength = bytes;
  open.chunkLength = 2048;
  open.fillEntries = open.completionEntries = open.receiveEntries = open.transmitEntries = 64;
  open.flags = kXdpNeedWakeup;
  return open;
}

UniqueFd makeMemory(uint64_t bytes, int seals, bool allocated) {
  UniqueFd fd(::memfd_create("test-umem", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  EXPECT_EQ(::ftruncate(fd.get(), static_cast<off_t>(bytes)), 0);
  if (allocated) {
    EXPECT_EQ(::fallocate(fd.get(), 0, 0, static_cast<off_t>(bytes)), 0);
  }
  if (seals != 0) {
    EXPECT_EQ(::fcntl(fd.get(), F_ADD_SEALS, seals), 0);
  }
  return fd;
}
constexpr int kGoodSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

bool programIsAttached(const std::string& interface) {
  auto attached = io::xdp::describeAttachedProgram(::if_nametoindex(interface.c_str()));
  EXPECT_TRUE(attached) << attached.error().message;
  return attached && attached->has_value();
}

TEST_F(NicdXdpTest, BusyPollingIsGrantedWhereTheKernelPollsOnWhenTheDriverDoesNot) {
  NicdWorld::run([](NicdWorld& world) {
    // /sys shows the interfaces of the namespace that it was mounted in.
    ASSERT_EQ(::unshare(CLONE_NEWNS), 0) << std::strerror(errno);
    ASSERT_EQ(::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0) << std::strerror(errno);
    ASSERT_EQ(::mount("sysfs", "/sys", "sysfs", 0, nullptr), 0) << std::strerror(errno);
    world.start();
    const auto grants = [&](uint32_t expected) {
      PodProcess pod([&](PodProcess&) {
        RawClient client(world.socket());
        ASSERT_NE(bodyOf<Welcome>(client.hello()), nullptr);
        OpenXdp open = xdpRequest(1 << 20);
        open.flags |= kXdpBusyPoll;
        const UniqueFd memory = makeMemory(1 << 20, kGoodSeals, true);
        const auto opened = client.ask(MessageType::kOpenXdp, open, {memory.get()});
        ASSERT_NE(bodyOf<OpenedText>(opened), nullptr) << refusalText(opened);
        EXPECT_EQ(bodyOf<OpenedText>(opened)->opened.flags, expected);
      });
      pod.join();
    };
    grants(kXdpNeedWakeup);
    EXPECT_TRUE(world.nicd.await("without busy polling"));
    ASSERT_TRUE(
        world.veth().near("sh -c 'echo 2 > /sys/class/net/va/napi_defer_hard_irqs && echo 200000 > /sys/class/net/va/gro_flush_timeout'"));
    grants(kXdpNeedWakeup | kXdpBusyPoll);
  });
}

TEST_F(NicdXdpTest, ADriverInAnotherNamespaceWithoutAnyRightMovesDatagramsThroughAQueueOverSixteenMebibytes) {
  NicdWorld::run([](NicdWorld& world) {
    world.start();
    PodProcess pod([&](PodProcess& self) {
      EXPECT_EQ(::if_nametoindex("va"), 0U) << "the pod does not have the interface";
      PodEcho echo(nicd::openNicdXdpPair(podOptions(world)));
      ASSERT_TRUE(echo.valid());
      ASSERT_NO_FATAL_FAILURE(echo.open("10.77.0.1", 40123));
      ASSERT_NO_FATAL_FAILURE(echo.open("fd77::1", 40123));
      self.say('o');
      echo.serve(self);
      EXPECT_EQ(echo.received, 4000);
    });
    ASSERT_TRUE(pod.await('o'));
    FarCounter v4(world.farSocket(5000), "10.77.0.1", 40123);
    v4.run(2000);
    FarCounter v6(world.farSocket(5000, "fd77::2"), "fd77::1", 40123);
    v6.run(2000);
    // The port is reserved where the NIC is.
    auto address = io::SockAddr::parseNumeric("10.77.0.1", 40123);
    const UniqueFd second(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(::bind(second.get(), address->get(), address->length), -1);
    EXPECT_EQ(errno, EADDRINUSE);
    RawClient client(world.socket());
    ASSERT_NE(bodyOf<Welcome>(client.hello()), nullptr);
    const auto status = client.ask(MessageType::kStatus, StatusRequest());
    const std::string text = bodyOf<StatusText>(status)->text;
    EXPECT_THAT(text, AllOf(HasSubstr("\"mode\":\"native copy\""), HasSubstr("\"10.77.0.1:40123\",\"[fd77::1]:40123\""),
                            HasSubstr("\"memoryBytes\":16777216")));
    EXPECT_THAT(text, ::testing::ContainsRegex("\"steered\":[1-9][0-9]{3}")) << "by the queue, not by the kernel's socket";
    pod.say('e');
    pod.join();
    EXPECT_TRUE(world.nicd.await("closed a session"));
    EXPECT_TRUE(world.nicd.await("detached the steering program"));
    EXPECT_FALSE(programIsAttached("va"));
  });
}

TEST_F(NicdXdpTest, WhatOnlyTheKernelCanTakeApartIsCountedInThePodToo) {
  NicdWorld::run([](NicdWorld& world) {
    world.start();
    PodProcess pod([&](PodProcess& self) {
      io::BackendOptions options = podOptions(world);
      options.xdpMode = "generic";  // there a datagram whose checksum a local sender left open could be a train
      for (int round = 0; round < 2; ++round) {
        PodEcho echo(nicd::openNicdXdpPair(options));
        ASSERT_TRUE(echo.valid());
        ASSERT_NO_FATAL_FAILURE(echo.open("10.77.0.1", 40123));
        const auto left = [&] { return echo.counted(io::DeviceCounter::kLeftToKernel); };
        EXPECT_EQ(left(), 0) << "of this session, whatever the interface counted before";
        self.say('o');
        EXPECT_TRUE(echo.serveUntil([&] { return left() >= 20 && echo.received >= 20; })) << left();
        EXPECT_EQ(left(), 20);
        EXPECT_EQ(echo.received, 20) << "by the port's socket";
        self.say('d');
        ASSERT_TRUE(self.await('n'));
      }
    });
    for (int round = 0; round < 2; ++round) {
      ASSERT_TRUE(pod.await('o'));
      FarCounter far(world.farSocket(5000), "10.77.0.1", 40123);
      far.run(20);
      ASSERT_TRUE(pod.await('d'));
      pod.say('n');
    }
    pod.join();
  });
}

TEST_F(NicdXdpTest, WhoHoldsTheSocketCanNeitherBindItElsewhereNorGiveItOtherMemory) {
  NicdWorld::run([](NicdWorld& world) {
    world.start();
    PodProcess pod([&](PodProcess&) {
      RawClient client(world.socket());
      ASSERT_NE(bodyOf<Welcome>(client.hello()), nullptr);
      const UniqueFd memory = makeMemory(1 << 20, kGoodSeals, true);
      const auto opened = client.ask(MessageType::kOpenXdp, xdpRequest(1 << 20), {memory.get()});
      ASSERT_NE(bodyOf<OpenedText>(opened), nullptr);
      ASSERT_EQ(client.descriptors.size(), 1U);
      const int socket = client.descriptors[0].get();
      sockaddr_xdp elsewhere{};
      elsewhere.sxdp_family = AF_XDP;
      elsewhere.sxdp_ifindex = 1;
      EXPECT_EQ(::bind(socket, reinterpret_cast<const sockaddr*>(&elsewhere), sizeof(elsewhere)), -1);
      elsewhere.sxdp_ifindex = bodyOf<OpenedText>(opened)->opened.interfaceIndex;
      elsewhere.sxdp_queue_id = 1;
      EXPECT_EQ(::bind(socket, reinterpret_cast<const sockaddr*>(&elsewhere), sizeof(elsewhere)), -1);
      std::vector<uint8_t> more((1 << 16) + 4096);
      xdp_umem_reg registration{};
      registration.addr = (reinterpret_cast<uintptr_t>(more.data()) + 4095) & ~uintptr_t{4095};
      registration.len = 1 << 16;
      registration.chunk_size = 2048;
      EXPECT_EQ(::setsockopt(socket, SOL_XDP, XDP_UMEM_REG, &registration, sizeof(registration)), -1);
      const int entries = 64;
      EXPECT_EQ(::setsockopt(socket, SOL_XDP, XDP_RX_RING, &entries, sizeof(entries)), -1);
      // And what the pod could not have made itself.
      EXPECT_EQ(::socket(AF_XDP, SOCK_RAW, 0), -1);
      EXPECT_EQ(errno, EPERM);
    });
    pod.join();
  });
}

TEST_F(NicdXdpTest, MemoryThatIsNotSealedNotAllocatedOrTooLargeIsRefusedWithTheReason) {
  NicdWorld::run([](NicdWorld& world) {
    world.start({"--max-umem", "4m"});
    PodProcess pod([&](PodProcess&) {
      RawClient client(world.socket());
      ASSERT_NE(bodyOf<Welcome>(client.hello()), nullptr);
      const auto refusal = [&](const UniqueFd& memory, uint64_t bytes) {
        return refusalText(client.ask(MessageType::kOpenXdp, xdpRequest(bytes), {memory.get()}));
      };
      EXPECT_THAT(refusal(makeMemory(1 << 20, 0, true), 1 << 20), HasSubstr("not sealed"));
      EXPECT_THAT(refusal(makeMemory(1 << 20, F_SEAL_SHRINK, true), 1 << 20), HasSubstr("not sealed"));
      EXPECT_THAT(refusal(makeMemory(1 << 20, kGoodSeals, false), 1 << 20), HasSubstr("only 0 of 1048576 bytes are allocated"));
      EXPECT_THAT(refusal(makeMemory(1 << 20, kGoodSeals | F_SEAL_WRITE, true), 1 << 20), HasSubstr("mmap"));
      EXPECT_THAT(refusal(makeMemory(8 << 20, kGoodSeals, true), 8 << 20), HasSubstr("--max-umem"));
      UniqueFd pipeEnds[2];
      int ends[2];
      ASSERT_EQ(::pipe(ends), 0);
      pipeEnds[0] = UniqueFd(ends[0]);
      pipeEnds[1] = UniqueFd(ends[1]);
      EXPECT_THAT(refusal(pipeEnds[0], 1 << 20), HasSubstr("UMEM"));
      // Another length than said is a lie about the layout: the connection ends.
      EXPECT_THAT(refusal(makeMemory(2 << 20, kGoodSeals, true), 1 << 20), HasSubstr("is 2097152 bytes long, not 1048576"));
    });
    pod.join();
    EXPECT_FALSE(programIsAttached("va")) << "what was refused leaves nothing";
  });
}

TEST_F(NicdXdpTest, AProgramOfSomeoneElseIsNamedAndStays) {
  NicdWorld::run([](NicdWorld& world) {
    io::xdp::XdpProgram::Options theirs;
    theirs.interfaceIndex = ::if_nametoindex("va");
    auto other = io::xdp::XdpProgram::attach(theirs);
    ASSERT_TRUE(other) << other.error().message;
    world.start();
    PodProcess pod([&](PodProcess&) {
      auto pair = nicd::openNicdXdpPair(podOptions(world));
      ASSERT_FALSE(pair);
      EXPECT_THAT(pair.error().message, AllOf(HasSubstr("outrigger-nicd refuses"), HasSubstr("'steer'"), HasSubstr("is there and stays")));
    });
    pod.join();
    EXPECT_TRUE(other->attached());
  });
}

TEST_F(NicdXdpTest, AQueueIsGivenOnceAndADeadDriversIsFreeAtOnce) {
  NicdWorld::run([](NicdWorld& world) {
    world.start({"--bpf-dir", world.path("bpf")});
    PodProcess first([&](PodProcess& self) {
      PodEcho echo(nicd::openNicdXdpPair(podOptions(world)));
      self.say('o');
      self.await('x');
    });
    ASSERT_TRUE(first.await('o'));
    PodProcess second([&](PodProcess& self) {
      auto pair = nicd::openNicdXdpPair(podOptions(world));
      ASSERT_FALSE(pair);
      EXPECT_THAT(pair.error().message, HasSubstr("queue 0 of va is held by process " + std::to_string(first.pid())));
      self.say('r');
      ASSERT_TRUE(self.await('t'));
      PodEcho echo(nicd::openNicdXdpPair(podOptions(world)));
      EXPECT_TRUE(echo.valid());
    });
    ASSERT_TRUE(second.await('r'));
    first.kill(SIGKILL);
    second.say('t');
    second.join();
  });
}

}  // namespace
}  // namespace outrigger::nicd::testing
