// SPDX-License-Identifier: Apache-2.0
// What outlives what: nicd killed and started again under load, drivers that die or stay away, interfaces that go.
#include <gmock/gmock.h>
#include <net/if.h>

#include "io/xdp/xdp_program.h"
#include "pod_echo.h"

namespace outrigger::nicd::testing {
namespace {

using ::testing::HasSubstr;

class NicdLease : public NicdTest {
 protected:
  void SetUp() override {
    NicdTest::SetUp();
    if (!io::xdp::programsAreBuilt()) GTEST_SKIP() << "built without clang or libbpf";
  }
};

bool programIsAttached() {
  auto attached = io::xdp::describeAttachedProgram(::if_nametoindex("va"));
  EXPECT_TRUE(attached) << attached.error().message;
  return attached && attached->has_value();
}

TEST_F(NicdLease, KilledUnderLoadAndStartedAgainItLosesNoDatagramAndServesOn) {
  NicdWorld::run([](NicdWorld& world) {
    const std::vector<std::string> pinned{"--bpf-dir", world.path("bpf")};
    world.start(pinned);
    PodProcess pod([&](PodProcess& self) {
      PodEcho echo(nicd::openNicdXdpPair(podOptions(world)));
      ASSERT_TRUE(echo.valid());
      ASSERT_NO_FATAL_FAILURE(echo.open("10.77.0.1", 40123));
      self.say('o');
      echo.serve(self);
      ASSERT_TRUE(self.await('m'));
      EXPECT_EQ(echo.received, 20'000);
      // The connection is back by itself: another port, and what it receives.
      ASSERT_NO_FATAL_FAILURE(echo.open("10.77.0.1", 40124));
      self.say('p');
      echo.serve(self);
      EXPECT_EQ(echo.received, 21'000);
    });
    ASSERT_TRUE(pod.await('o'));
    FarCounter counter(world.farSocket(5000), "10.77.0.1", 40123);
    counter.run(20'000, [&](uint32_t back) {
      if (back == 5'000) world.nicd.kill(SIGKILL);
      if (back == 10'000) {
        ASSERT_NO_FATAL_FAILURE(world.start(pinned));
      }
    });
    EXPECT_EQ(counter.back, 20'000U);
    EXPECT_TRUE(world.nicd.await("a client came back for its session"));
    pod.say('m');
    ASSERT_TRUE(pod.await('p'));
    FarCounter more(world.farSocket(5001), "10.77.0.1", 40124);
    more.run(1000);
    const std::string status = world.status();
    EXPECT_THAT(status, HasSubstr("\"resumed\":1"));
    EXPECT_THAT(status, HasSubstr("\"10.77.0.1:40123\",\"10.77.0.1:40124\""));
    pod.say('e');
    pod.join();
  });
}

TEST_F(NicdLease, EndedInOrderItLeavesThePinnedProgramForItsSuccessor) {
  NicdWorld::run([](NicdWorld& world) {
    const std::vector<std::string> pinned{"--bpf-dir", world.path("bpf")};
    world.start(pinned);
    PodProcess pod([&](PodProcess& self) {
      PodEcho echo(nicd::openNicdXdpPair(podOptions(world)));
      ASSERT_NO_FATAL_FAILURE(echo.open("10.77.0.1", 40123));
      self.say('o');
      echo.serve(self);
    });
    ASSERT_TRUE(pod.await('o'));
    world.nicd.kill(SIGTERM);
    EXPECT_EQ(world.nicd.status, 0);
    EXPECT_TRUE(programIsAttached());
    FarCounter counter(world.farSocket(5000), "10.77.0.1", 40123);
    counter.run(1000);
    world.start(pinned);
    EXPECT_TRUE(world.nicd.await("a client came back for its session"));
    pod.say('e');
    pod.join();
    EXPECT_TRUE(world.nicd.await("detached the steering program"));
    EXPECT_EQ(world.countFiles("bpf", "if"), 0U);
    EXPECT_EQ(world.countFiles("state", "session-"), 0U);
  });
}

TEST_F(NicdLease, WithoutPinsTheDriverBringsItsSocketBackAndANewProgramGetsIt) {
  NicdWorld::run([](NicdWorld& world) {
    world.start();
    PodProcess pod([&](PodProcess& self) {
      PodEcho echo(nicd::openNicdXdpPair(podOptions(world)));
      ASSERT_NO_FATAL_FAILURE(echo.open("10.77.0.1", 40123));
      self.say('o');
      echo.serve(self);
    });
    ASSERT_TRUE(pod.await('o'));
    FarCounter counter(world.farSocket(5000), "10.77.0.1", 40123);
    // In between the datagrams come through the kernel's socket that reserves the port.
    counter.run(3000, [&](uint32_t back) {
      if (back == 1000) world.nicd.kill(SIGKILL);
      if (back == 2000) {
        EXPECT_FALSE(programIsAttached());
        ASSERT_NO_FATAL_FAILURE(world.start());
        EXPECT_TRUE(world.nicd.await("a client came back for its session"));
        EXPECT_TRUE(programIsAttached());
      }
    });
    EXPECT_EQ(counter.back, 3000U);
    pod.say('e');
    pod.join();
  });
}

TEST_F(NicdLease, ADriverThatDiesWhileNicdIsAwayIsCollectedAtTheNextStart) {
  NicdWorld::run([](NicdWorld& world) {
    const std::vector<std::string> pinned{"--bpf-dir", world.path("bpf")};
    world.start(pinned);
    PodProcess pod([&](PodProcess& self) {
      PodEcho echo(nicd::openNicdXdpPair(podOptions(world)));
      ASSERT_NO_FATAL_FAILURE(echo.open("10.77.0.1", 40123));
      self.say('o');
      self.await('x');
    });
    ASSERT_TRUE(pod.await('o'));
    world.nicd.kill(SIGKILL);
    pod.kill(SIGKILL);
    EXPECT_TRUE(programIsAttached()) << "nobody is there to take it off";
    EXPECT_EQ(world.countFiles("bpf", "if"), 1U);
    world.start(pinned);
    EXPECT_FALSE(programIsAttached());
    EXPECT_EQ(world.countFiles("bpf", "if"), 0U);
    EXPECT_EQ(world.countFiles("state", "session-"), 0U);
  });
}

TEST_F(NicdLease, ASessionWhoseConnectionStaysAwayLosesItsPortsWhenTheLeaseIsOver) {
  NicdWorld::run([](NicdWorld& world) {
    world.start({"--lease", "300ms"});
    PodProcess pod([&](PodProcess& self) {
      auto client = std::make_unique<RawClient>(world.socket());
      ASSERT_NE(bodyOf<Welcome>(client->hello()), nullptr);
      OpenXdp open;
      ASSERT_TRUE(setName(open.interface, "va"));
      std::string reason;
      auto memory = io::xdp::UmemMemory::allocate(1 << 20, false, reason);
      ASSERT_TRUE(memory);
      open.umemLength = 1 << 20;
      open.chunkLength = 2048;
      open.fillEntries = open.completionEntries = open.receiveEntries = open.transmitEntries = 64;
      const auto opened = client->ask(MessageType::kOpenXdp, open, {memory->fd()});
      ASSERT_NE(bodyOf<OpenedText>(opened), nullptr);
      const Opened session = bodyOf<OpenedText>(opened)->opened;
      const UniqueFd socket = std::move(client->descriptors.at(0));
      client.reset();
      self.say('c');
      ASSERT_TRUE(self.await('l'));
      RawClient late(world.socket());
      ASSERT_NE(bodyOf<Welcome>(late.hello()), nullptr);
      Resume resume;
      resume.session = session.session;
      std::copy(std::begin(session.token), std::end(session.token), resume.token);
      EXPECT_THAT(refusalText(late.ask(MessageType::kResume, resume, {socket.get()})), HasSubstr("its lease is over"));
      self.say('d');
      self.await('x');
    });
    ASSERT_TRUE(pod.await('c'));
    EXPECT_TRUE(world.nicd.await("a session's lease is over"));
    EXPECT_TRUE(world.nicd.await("detached the steering program"));
    pod.say('l');
    ASSERT_TRUE(pod.await('d'));
    // The process still has the socket, and with it pinned memory: that goes on counting until it ends.
    EXPECT_THAT(world.status(), HasSubstr("\"state\":\"expired\""));
    pod.say('x');
    pod.join();
    EXPECT_TRUE(world.nicd.await("closed a session"));
    EXPECT_THAT(world.status(), HasSubstr("\"sessions\":[]"));
  });
}

TEST_F(NicdLease, ASessionIsPickedUpOnlyWithItsTokenAndItsSocket) {
  NicdWorld::run([](NicdWorld& world) {
    world.start();
    PodProcess pod([&](PodProcess&) {
      auto client = std::make_unique<RawClient>(world.socket());
      ASSERT_NE(bodyOf<Welcome>(client->hello()), nullptr);
      OpenXdp open;
      ASSERT_TRUE(setName(open.interface, "va"));
      std::string reason;
      auto memory = io::xdp::UmemMemory::allocate(1 << 20, false, reason);
      ASSERT_TRUE(memory);
      open.umemLength = 1 << 20;
      open.chunkLength = 2048;
      open.fillEntries = open.completionEntries = open.receiveEntries = open.transmitEntries = 64;
      const auto opened = client->ask(MessageType::kOpenXdp, open, {memory->fd()});
      ASSERT_NE(bodyOf<OpenedText>(opened), nullptr);
      const Opened session = bodyOf<OpenedText>(opened)->opened;
      const UniqueFd socket = std::move(client->descriptors.at(0));
      client.reset();
      RawClient again(world.socket());
      ASSERT_NE(bodyOf<Welcome>(again.hello()), nullptr);
      Resume resume;
      resume.session = session.session;
      EXPECT_THAT(refusalText(again.ask(MessageType::kResume, resume, {socket.get()})), HasSubstr("unknown"));
      std::copy(std::begin(session.token), std::end(session.token), resume.token);
      EXPECT_THAT(refusalText(again.ask(MessageType::kResume, resume, {again.fd()})), HasSubstr("not that of the session"));
      EXPECT_NE(bodyOf<Done>(again.ask(MessageType::kResume, resume, {socket.get()})), nullptr);
      CloseSession close;
      close.session = session.session;
      EXPECT_NE(bodyOf<Done>(again.ask(MessageType::kCloseSession, static_cast<SessionRequest&>(close))), nullptr);
    });
    pod.join();
  });
}

TEST_F(NicdLease, AnInterfaceThatGoesEndsItsSessionsAndTheDriverIsTold) {
  NicdWorld::run([](NicdWorld& world) {
    world.start({"--bpf-dir", world.path("bpf")});
    PodProcess pod([&](PodProcess& self) {
      auto opened = nicd::openNicdXdp(podOptions(world));
      ASSERT_TRUE(opened) << opened.error().message;
      self.say('o');
      io::LinkState link = opened->device->link();
      while (!link.gone) {
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
        link = opened->device->link();
      }
      EXPECT_THAT(link.reason, HasSubstr("interface 'va' is gone"));
    });
    ASSERT_TRUE(pod.await('o'));
    ASSERT_TRUE(world.veth().near("ip link del va"));
    pod.join();
    EXPECT_THAT(world.status(), HasSubstr("\"sessions\":[]"));
    EXPECT_EQ(world.countFiles("bpf", "if"), 0U);
  });
}

TEST_F(NicdLease, ADriverWhoseNicdIsGoneSaysSoAndGoesOnWithWhatItHas) {
  NicdWorld::run([](NicdWorld& world) {
    world.start({"--bpf-dir", world.path("bpf")});
    PodProcess pod([&](PodProcess& self) {
      auto opened = nicd::openNicdXdp(podOptions(world));
      ASSERT_TRUE(opened) << opened.error().message;
      self.say('o');
      io::LinkState link = opened->device->link();
      while (link.reason.empty()) {
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
        link = opened->device->link();
      }
      EXPECT_THAT(link.reason, HasSubstr("outrigger-nicd is away"));
      EXPECT_TRUE(link.up);
      EXPECT_FALSE(link.gone);
      const auto port = opened->device->openPort(*io::SockAddr::parseNumeric("10.77.0.1", 40125), 0);
      ASSERT_FALSE(port);
      EXPECT_THAT(port.error().message, HasSubstr("outrigger-nicd is away"));
    });
    ASSERT_TRUE(pod.await('o'));
    world.nicd.kill(SIGKILL);
    pod.join();
  });
}

}  // namespace
}  // namespace outrigger::nicd::testing
