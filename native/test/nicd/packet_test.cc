// SPDX-License-Identifier: Apache-2.0
// AF_PACKET from nicd: a driver in a pod, without any right, sends and receives frames of its ports through rings, and its filter is not its own.
#include <gmock/gmock.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/udp.h>

#include "io/network_counters.h"
#include "io/nicd_client/nicd_packet.h"
#include "io/packet/receive_ring.h"
#include "io/packet/transmit_ring.h"
#include "pod_echo.h"

namespace outrigger::nicd::testing {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Pair;

class NicdPacket : public NicdTest {};

int64_t deviceCount(PodEcho& echo, io::DeviceCounter counter) { return echo.io().totals().network[io::networkIndex(counter)]; }

struct RawSession {
  Opened opened;
  UniqueFd socket;
};

RawSession openRaw(RawClient& client, PacketRole role, const io::SlotLayout& layout) {
  OpenPacket open = packetRequest("va", role);
  open.flags = kPacketVnetHeader;
  open.slotLength = layout.slotLength;
  open.blockLength = layout.blockLength;
  open.blocks = layout.blocks;
  RawSession session;
  const auto answer = client.ask(MessageType::kOpenPacket, open);
  const auto* opened = bodyOf<OpenedText>(answer);
  if (opened == nullptr || client.descriptors.size() != 1) return session;
  session.opened = opened->opened;
  session.socket = std::move(client.descriptors[0]);
  return session;
}

void sendTo(const UniqueFd& socket, const std::string& host, uint16_t port, const std::string& text) {
  const auto to = io::SockAddr::parseNumeric(host, port);
  ASSERT_EQ(::sendto(socket.get(), text.data(), text.size(), 0, to->get(), to->length), static_cast<ssize_t>(text.size()));
}

// What each try to get another filter answers: 0 or errno.
std::vector<int> tryOtherFilters(int socket) {
  const int off = 0;
  sock_filter all{BPF_RET | BPF_K, 0, 0, 0x40000};
  const sock_fprog program{1, &all};
  const auto with = [&](int option, const void* value, socklen_t length) {
    return ::setsockopt(socket, SOL_SOCKET, option, value, length) == 0 ? 0 : errno;
  };
  return {with(SO_ATTACH_FILTER, &program, sizeof(program)), with(SO_DETACH_FILTER, &off, sizeof(off)),
          with(SO_LOCK_FILTER, &off, sizeof(off))};
}

TEST_F(NicdPacket, ADriverInAnotherNamespaceWithoutAnyRightMovesDatagramsThroughItsRings) {
  NicdWorld::run([](NicdWorld& world) {
    world.start({"--allow-packet"});
    for (const bool lowLatency : {true, false}) {
      PodProcess pod([&](PodProcess& self) {
        EXPECT_EQ(::if_nametoindex("va"), 0U) << "the pod does not have the interface";
        io::BackendOptions options = podOptions(world);
        options.lowLatency = lowLatency;
        PodEcho echo(nicd::openNicdPacketPair(options));
        ASSERT_TRUE(echo.valid());
        ASSERT_NO_FATAL_FAILURE(echo.open("10.77.0.1", 40123));
        ASSERT_NO_FATAL_FAILURE(echo.open("fd77::1", 40123));
        self.say('o');
        echo.serve(self);
        EXPECT_EQ(echo.received, 2000);
        EXPECT_EQ(deviceCount(echo, io::DeviceCounter::kFramesReceived), 2000) << "by the ring, not by the kernel's sockets";
        // The kernel sends the first ones, until it knows the neighbour.
        const int64_t byKernel = echo.io().totals().network[io::networkIndex(io::StackCounter::kKernelSends)];
        const int64_t byRing = deviceCount(echo, io::DeviceCounter::kFramesSent);
        EXPECT_GT(byRing, 0);
        EXPECT_EQ(byRing + byKernel, 2000);
        const auto facts = echo.io().facts();
        const auto by = std::find_if(facts.begin(), facts.end(), [](const auto& each) { return each.first == "by"; });
        ASSERT_NE(by, facts.end());
        EXPECT_EQ(by->second, "outrigger-nicd at " + world.socket());
      });
      ASSERT_TRUE(pod.await('o'));
      FarCounter v4(world.farSocket(5000), "10.77.0.1", 40123);
      v4.run(1000);
      FarCounter v6(world.farSocket(5000, "fd77::2"), "fd77::1", 40123);
      v6.run(1000);
      EXPECT_THAT(world.status(), HasSubstr("\"10.77.0.1:40123\",\"[fd77::1]:40123\""));
      pod.say('e');
      pod.join();
      for (int session = 0; session < 4; ++session) EXPECT_TRUE(world.nicd.await("closed a session"));
    }
    EXPECT_THAT(world.status(), HasSubstr("\"sessions\":[]"));
  });
}

TEST_F(NicdPacket, ATrainOfALocalSenderArrivesWhole) {
  NicdWorld::run([](NicdWorld& world) {
    world.start({"--allow-packet"});
    PodProcess pod([&](PodProcess& self) {
      PodEcho echo(nicd::openNicdPacketPair(podOptions(world)));
      ASSERT_TRUE(echo.valid());
      ASSERT_NO_FATAL_FAILURE(echo.open("10.77.0.1", 40123));
      self.say('o');
      echo.serve(self);
      EXPECT_EQ(echo.received, 40);
    });
    ASSERT_TRUE(pod.await('o'));
    const UniqueFd far = world.farSocket(5000);
    const int segment = 1000;
    constexpr int kUdpSegment = 103;  // UDP_SEGMENT
    ASSERT_EQ(::setsockopt(far.get(), SOL_UDP, kUdpSegment, &segment, sizeof(segment)), 0);
    sendTo(far, "10.77.0.1", 40123, std::string(40'000, 'x'));
    for (int i = 0; i < 40; ++i) {
      char text[2048];
      pollfd polled{far.get(), POLLIN, 0};
      ASSERT_EQ(::poll(&polled, 1, kGuardMs), 1) << i << " came back";
      ASSERT_EQ(::recv(far.get(), text, sizeof(text), 0), 1000);
    }
    pod.say('e');
    pod.join();
  });
}

TEST_F(NicdPacket, WhoHoldsTheSocketsReceivesItsPortsAndNothingElseWhateverItDoesToThem) {
  NicdWorld::run([](NicdWorld& world) {
    world.start({"--allow-packet"});
    PodProcess pod([&](PodProcess& self) {
      EXPECT_EQ(::socket(AF_PACKET, SOCK_RAW, 0), -1);
      EXPECT_EQ(errno, EPERM) << "what the pod could not have made itself";
      RawClient client(world.socket());
      ASSERT_NE(bodyOf<Welcome>(client.hello()), nullptr);
      io::ReceiveRingOptions receiveOptions;
      receiveOptions.bytes = 1 << 20;
      io::TransmitRingOptions transmitOptions;
      transmitOptions.bytes = 1 << 20;
      RawSession receiver = openRaw(client, PacketRole::kReceiveSlots, io::receiveLayout(receiveOptions));
      RawSession sender = openRaw(client, PacketRole::kTransmit, io::transmitLayout(transmitOptions));
      ASSERT_TRUE(receiver.socket.valid() && sender.socket.valid());
      const std::vector<int> denied{EPERM, EPERM, EPERM};
      EXPECT_EQ(tryOtherFilters(receiver.socket.get()), denied);
      EXPECT_EQ(tryOtherFilters(sender.socket.get()), denied);
      OpenPort port;
      port.session = sender.opened.session;
      port.address = addressOf(*io::SockAddr::parseNumeric("10.77.0.1", 40123));
      EXPECT_THAT(refusalText(client.ask(MessageType::kOpenPort, port)), HasSubstr("a packet socket that sends has no ports"));
      port.session = receiver.opened.session;
      ASSERT_NE(bodyOf<PortOpened>(client.ask(MessageType::kOpenPort, port)), nullptr);
      // Binding again, to everything, is nothing that the kernel asks a right for.
      sockaddr_ll everything{};
      everything.sll_family = AF_PACKET;
      everything.sll_protocol = htons(ETH_P_ALL);
      for (const RawSession* session : {&receiver, &sender}) {
        ASSERT_EQ(::bind(session->socket.get(), reinterpret_cast<const sockaddr*>(&everything), sizeof(everything)), 0)
            << std::strerror(errno);
      }
      auto ring = io::mapReceiveRing(UniqueFd(::fcntl(receiver.socket.get(), F_DUPFD_CLOEXEC, 0)), receiveOptions);
      ASSERT_TRUE(ring) << ring.error().message;
      self.say('o');
      ASSERT_TRUE(self.await('s'));
      pollfd polled{receiver.socket.get(), POLLIN, 0};
      ASSERT_EQ(::poll(&polled, 1, kGuardMs), 1);
      io::RxFrame frames[8];
      io::FrameStats stats;
      ASSERT_EQ((*ring)->receive(frames, 0, stats), 1U) << "the one datagram to the granted port, sent last";
      EXPECT_EQ(std::string(reinterpret_cast<const char*>(frames[0].data) + frames[0].length - 7, 7), "granted");
      (*ring)->giveBack(frames[0]);
      char any[64];
      EXPECT_EQ(::recv(sender.socket.get(), any, sizeof(any), MSG_DONTWAIT), -1) << "a socket to send with is deaf";
      EXPECT_EQ(errno, EAGAIN);
    });
    ASSERT_TRUE(pod.await('o'));
    const UniqueFd far = world.farSocket(5000);
    sendTo(far, "10.77.0.1", 40124, "another port");
    sendTo(far, "10.77.0.1", 22, "the node's own");
    sendTo(far, "10.77.0.1", 40123, "granted");
    pod.say('s');
    pod.join();
  });
}

TEST_F(NicdPacket, SeveralReceiveSocketsAreNotHandedOutAndItSaysSo) {
  NicdWorld::run([](NicdWorld& world) {
    world.start({"--allow-packet"});
    PodProcess pod([&](PodProcess&) {
      io::BackendOptions options = podOptions(world);
      options.lowLatency = false;
      EXPECT_EQ(nicd::probeNicdPacket(options).availability, io::Availability::kAvailable);
      options.packetSockets = 4;
      const io::BackendReport report = nicd::probeNicdPacket(options);
      EXPECT_EQ(report.availability, io::Availability::kDegraded);
      ASSERT_EQ(report.causes.size(), 1U);
      EXPECT_THAT(report.causes[0].cause, HasSubstr("OUTRIGGER_PACKET_SOCKETS=4"));
      EXPECT_THAT(report.facts, AllOf(Contains(Pair("mode", "V3 ring + V2 ring")), Contains(Pair("sockets", "1"))));
    });
    pod.join();
  });
}

TEST_F(NicdPacket, ItIsRefusedWithTheFlagAndTheClaimThatWouldAllowIt) {
  NicdWorld::run([](NicdWorld& world) {
    world.start();
    PodProcess pod([&](PodProcess&) {
      auto pair = nicd::openNicdPacketPair(podOptions(world));
      ASSERT_FALSE(pair);
      EXPECT_THAT(pair.error().message, AllOf(HasSubstr("outrigger-nicd refuses"), HasSubstr("--allow-packet"), HasSubstr("packet = yes")));
      const io::BackendReport report = nicd::probeNicdPacket(podOptions(world));
      EXPECT_EQ(report.availability, io::Availability::kImpossible);
      RawClient client(world.socket());
      ASSERT_NE(bodyOf<Welcome>(client.hello()), nullptr);
      EXPECT_THAT(refusalText(client.ask(MessageType::kOpenPacket, packetRequest("va", PacketRole::kTransmit))),
                  HasSubstr("--allow-packet"))
          << "also when it does not ask first";
    });
    pod.join();
  });
}

TEST_F(NicdPacket, KilledUnderLoadAndStartedAgainNicdLosesNoDatagramAndAddsPortsToTheSameFilter) {
  NicdWorld::run([](NicdWorld& world) {
    const std::vector<std::string> flags{"--bpf-dir", world.path("bpf"), "--allow-packet"};
    world.start(flags);
    PodProcess pod([&](PodProcess& self) {
      PodEcho echo(nicd::openNicdPacketPair(podOptions(world)));
      ASSERT_TRUE(echo.valid());
      ASSERT_NO_FATAL_FAILURE(echo.open("10.77.0.1", 40123));
      self.say('o');
      echo.serve(self);
      ASSERT_TRUE(self.await('m'));
      EXPECT_EQ(echo.received, 20'000);
      ASSERT_NO_FATAL_FAILURE(echo.open("10.77.0.1", 40124));
      self.say('p');
      echo.serve(self);
      EXPECT_EQ(echo.received, 21'000);
      EXPECT_EQ(deviceCount(echo, io::DeviceCounter::kFramesReceived), 21'000);
    });
    ASSERT_TRUE(pod.await('o'));
    FarCounter counter(world.farSocket(5000), "10.77.0.1", 40123);
    counter.run(20'000, [&](uint32_t back) {
      if (back == 5'000) world.nicd.kill(SIGKILL);
      if (back == 10'000) {
        ASSERT_NO_FATAL_FAILURE(world.start(flags));
      }
    });
    EXPECT_EQ(counter.back, 20'000U);
    for (int session = 0; session < 4; ++session) EXPECT_TRUE(world.nicd.await("a client came back for its session"));
    pod.say('m');
    ASSERT_TRUE(pod.await('p'));
    FarCounter more(world.farSocket(5001), "10.77.0.1", 40124);
    more.run(1000);
    EXPECT_THAT(world.status(), HasSubstr("\"resumed\":4"));
    pod.say('e');
    pod.join();
    for (int session = 0; session < 4; ++session) EXPECT_TRUE(world.nicd.await("closed a session"));
    EXPECT_EQ(world.countFiles("bpf", "packet-") + world.countFiles("state", "session-"), 0U);
  });
}

TEST_F(NicdPacket, WithoutPinsItGoesOnAndTheNextPortIsRefusedWithTheFlagThatIsMissing) {
  NicdWorld::run([](NicdWorld& world) {
    world.start({"--allow-packet"});
    PodProcess pod([&](PodProcess& self) {
      PodEcho echo(nicd::openNicdPacketPair(podOptions(world)));
      ASSERT_NO_FATAL_FAILURE(echo.open("10.77.0.1", 40123));
      self.say('o');
      echo.serve(self);
      ASSERT_TRUE(self.await('m'));
      const auto endpoint = echo.tryOpen("10.77.0.1", 40124);
      ASSERT_FALSE(endpoint);
      EXPECT_THAT(endpoint.error().message, HasSubstr("--bpf-dir"));
    });
    ASSERT_TRUE(pod.await('o'));
    FarCounter counter(world.farSocket(5000), "10.77.0.1", 40123);
    counter.run(3000, [&](uint32_t back) {
      if (back == 1000) world.nicd.kill(SIGKILL);
      if (back == 2000) {
        ASSERT_NO_FATAL_FAILURE(world.start({"--allow-packet"}));
      }
    });
    EXPECT_EQ(counter.back, 3000U);
    for (int session = 0; session < 4; ++session) EXPECT_TRUE(world.nicd.await("a client came back for its session"));
    pod.say('m');
    pod.join();
  });
}

TEST_F(NicdPacket, ADriverThatDiesWhileNicdIsAwayIsCollectedAtTheNextStart) {
  NicdWorld::run([](NicdWorld& world) {
    const std::vector<std::string> flags{"--bpf-dir", world.path("bpf"), "--allow-packet"};
    world.start(flags);
    PodProcess pod([&](PodProcess& self) {
      PodEcho echo(nicd::openNicdPacketPair(podOptions(world)));
      ASSERT_NO_FATAL_FAILURE(echo.open("10.77.0.1", 40123));
      self.say('o');
      self.await('x');
    });
    ASSERT_TRUE(pod.await('o'));
    EXPECT_EQ(world.countFiles("bpf", "packet-"), 2U) << "of the sockets that receive";
    EXPECT_EQ(world.countFiles("state", "session-"), 4U);
    world.nicd.kill(SIGKILL);
    pod.kill(SIGKILL);
    world.start(flags);
    EXPECT_EQ(world.countFiles("bpf", "packet-") + world.countFiles("state", "session-"), 0U);
    EXPECT_THAT(world.status(), HasSubstr("\"sessions\":[]"));
  });
}

}  // namespace
}  // namespace outrigger::nicd::testing
