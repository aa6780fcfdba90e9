// SPDX-License-Identifier: Apache-2.0
// What is AF_PACKET's alone: permission, the choice of the interface, fanout, frames that the kernel refuses, and a link that changes
// what it can do under the open instance.
#include <linux/capability.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "frame_traffic.h"
#include "io/packet/packet_backend.h"
#include "io/packet/packet_io.h"
#include "io/tap/tap_io.h"

namespace outrigger::io::testing {
namespace {

class Packet : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const std::string refusal = namespaceRefusal(); !refusal.empty()) GTEST_SKIP() << refusal;
    near_ = std::make_unique<Namespace>();
    farSpace_ = std::make_unique<Namespace>();
    ASSERT_TRUE(near("ip link add near0 type veth peer name far0 netns " + farSpace_->path()));
    ASSERT_TRUE(near("ip link set near0 up"));
    ASSERT_TRUE(command(*farSpace_, "ip link set far0 up"));
    far_ = std::make_unique<FarEnd>(*farSpace_, "far0");
  }

  bool near(const std::string& line) { return command(*near_, line); }

  void open(PacketOptions options = {}) {
    const Inside inside(*near_);
    options.interface = "near0";
    auto opened = PacketIo::open(options);
    ASSERT_TRUE(opened.ok()) << opened.error().message;
    io_ = opened.take();
    ASSERT_TRUE(io_->steer({SockAddr::parseNumeric("10.77.0.1", kPort).take()}).ok());
  }

  Flow inbound() {
    Flow flow;
    flow.sourceMac = far_->mac();
    flow.destinationMac = io_->link().mac;
    return flow;
  }
  Flow outbound() {
    Flow flow = inbound();
    std::swap(flow.sourceMac, flow.destinationMac);
    std::swap(flow.source, flow.destination);
    return flow;
  }
  void expectSeen(const Bytes& payload) {
    const auto frame = far_->receive();
    ASSERT_TRUE(frame.has_value());
    EXPECT_EQ(frame->datagram.payload, payload);
  }
  void awaitFreeTransmitRing() {
    for (int i = 0; i < 1'000'000 && io_->transmitSlotsInUse() != 0; ++i) {
      io_->flush();
      ::sched_yield();
    }
    EXPECT_EQ(io_->transmitSlotsInUse(), 0U);
  }

  std::unique_ptr<Namespace> near_;
  std::unique_ptr<Namespace> farSpace_;
  std::unique_ptr<FarEnd> far_;
  std::unique_ptr<PacketIo> io_;
};

// In a child process, whose failed expectations become the caller's.
void inChild(const std::function<void()>& body) {
  std::fflush(nullptr);
  const pid_t child = ::fork();
  if (child == 0) {
    body();
    std::fflush(nullptr);
    ::_exit(::testing::Test::HasFailure() ? 1 : 0);
  }
  int status = -1;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0) << "see the child's output above";
}

void giveUpCapabilities() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct none[2]{};
  ASSERT_EQ(::syscall(SYS_capset, &header, none), 0) << std::strerror(errno);
}

TEST_F(Packet, saysThatACapabilityIsMissing) {
  inChild([this] {
    const Inside inside(*near_);
    giveUpCapabilities();
    PacketOptions options;
    options.interface = "near0";
    const auto opened = PacketIo::open(options);
    ASSERT_FALSE(opened.ok());
    EXPECT_EQ(opened.error().sysErrno, EPERM);
    EXPECT_NE(opened.error().message.find("CAP_NET_RAW"), std::string::npos) << opened.error().message;
    BackendOptions backend;
    backend.interface = "near0";
    const BackendReport report = probePacket(backend);
    EXPECT_EQ(report.availability, Availability::kImpossible);
    ASSERT_EQ(report.causes.size(), 1U);
    EXPECT_NE(report.causes[0].fix.find("NET_RAW"), std::string::npos) << report.causes[0].fix;
    // No way back to the namespace without capabilities: the child ends here.
    std::fflush(nullptr);
    ::_exit(HasFailure() ? 1 : 0);
  });
}

TEST_F(Packet, probesWhatItWouldRunWith) {
  const Inside inside(*near_);
  const BackendReport report = probePacket(BackendOptions{});
  EXPECT_EQ(report.name, "packet");
  EXPECT_EQ(report.availability, Availability::kAvailable) << (report.causes.empty() ? "" : report.causes[0].cause);
  const std::vector<std::pair<std::string, std::string>> expected{
      {"mode", "V2 ring + V2 ring"}, {"interface", "near0"}, {"sockets", "1"}, {"mtu", "1500"}, {"timestamps", "the kernel's, on arrival"}};
  for (const auto& fact : expected) EXPECT_NE(std::find(report.facts.begin(), report.facts.end(), fact), report.facts.end()) << fact.first;
}

TEST_F(Packet, runsWithTheRingAndTheSocketsOfItsConfigurationAndSaysSo) {
  const Inside inside(*near_);
  const auto has = [](const auto& facts, const std::string& name, const std::string& value) {
    return std::find(facts.begin(), facts.end(), std::pair(name, value)) != facts.end();
  };
  for (const auto& [lowLatency, ring] : {std::pair(true, "V2 ring"), std::pair(false, "V3 ring")}) {
    BackendOptions options;
    options.lowLatency = lowLatency;
    options.packetSockets = 3;
    options.queues = {0};  // is for other backends
    const BackendReport report = probePacket(options);
    EXPECT_TRUE(has(report.facts, "mode", std::string(ring) + " + V2 ring"));
    EXPECT_TRUE(has(report.facts, "sockets", "3"));
    const auto pair = openPacket(options);
    ASSERT_TRUE(pair.ok()) << pair.error().message;
    EXPECT_TRUE(has(pair->receiver->facts(), "mode", std::string(ring) + " x 3 + V2 ring"));
    EXPECT_TRUE(has(pair->receiver->facts(), "queues", "3"));
    EXPECT_TRUE(has(pair->sender->facts(), "mode", "V2 ring + V2 ring")) << "a status message must not wait for a block to be over";
  }
}

// As a pod has it: the right to packet sockets, none to lock more memory than the limit. In a child process, for good.
void allowLockingOf(rlim_t bytes) {
  const rlimit limit{bytes, bytes};
  ASSERT_EQ(::setrlimit(RLIMIT_MEMLOCK, &limit), 0) << std::strerror(errno);
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct sets[2]{};
  ASSERT_EQ(::syscall(SYS_capget, &header, sets), 0) << std::strerror(errno);
  for (__u32* set : {&sets[0].effective, &sets[0].permitted, &sets[0].inheritable}) *set &= ~(1U << CAP_IPC_LOCK);
  ASSERT_EQ(::syscall(SYS_capset, &header, sets), 0) << std::strerror(errno);
}

TEST_F(Packet, saysWhyItsRingsAreNotLockedInMemoryAndRunsWithoutThat) {
  for (const rlim_t limit : {rlim_t{0}, rlim_t{64 << 10}}) {
    inChild([this, limit] {
      allowLockingOf(limit);
      open();
      ASSERT_NE(io_, nullptr);
      const std::string& memory = io_->caps().memory;
      for (const char* word : {"not locked", "RLIMIT_MEMLOCK", "CAP_IPC_LOCK"}) {
        EXPECT_NE(memory.find(word), std::string::npos) << memory;
      }
      EXPECT_NE(memory.find("(" + std::to_string(limit) + ")"), std::string::npos) << memory;
      ASSERT_TRUE(sendFrame(*io_, outbound(), pattern(300, 1)));
      EXPECT_TRUE(io_->flush());
      expectSeen(pattern(300, 1));
      ASSERT_TRUE(far_->send(frameOf(inbound(), pattern(400, 2))));
      const auto payloads = collectPayloads(*io_, 1);
      ASSERT_EQ(payloads.size(), 1U);
      EXPECT_EQ(payloads[0], pattern(400, 2));
      // What explains, before and after it is chosen.
      const Inside inside(*near_);
      const BackendReport report = probePacket(BackendOptions{});
      EXPECT_EQ(report.availability, Availability::kAvailable) << "nothing is worse for it";
      const auto pair = openPacket(BackendOptions{});
      ASSERT_TRUE(pair.ok()) << pair.error().message;
      for (const auto& facts : {report.facts, pair->sender->facts(), pair->receiver->facts()}) {
        const auto found = std::find_if(facts.begin(), facts.end(), [](const auto& fact) { return fact.first == "memory"; });
        ASSERT_NE(found, facts.end());
        EXPECT_NE(found->second.find("RLIMIT_MEMLOCK"), std::string::npos) << found->second;
      }
    });
  }
}

TEST_F(Packet, locksItsRingsInMemoryWhereThatIsAllowed) {
  constexpr size_t kMuch = 64 << 20;
  void* much = ::mmap(nullptr, kMuch, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED, -1, 0);
  if (much == MAP_FAILED) GTEST_SKIP() << "RLIMIT_MEMLOCK is too low here, and there is no CAP_IPC_LOCK";
  ::munmap(much, kMuch);
  open();
  EXPECT_EQ(io_->caps().memory, "locked");
}

// A queueing discipline that drops all: what goes through it never arrives.
TEST_F(Packet, sendsPastTheQueueingDisciplineOfTheInterface) {
  for (const bool segmentation : {true, false}) {
    PacketOptions options;
    options.segmentation = segmentation;
    open(options);
    FarEnd ordinary(*near_, "near0");
    ASSERT_TRUE(ordinary.send(frameOf(outbound(), pattern(100, 1))));
    expectSeen(pattern(100, 1));
    ASSERT_TRUE(near("tc qdisc replace dev near0 root blackhole"));
    // Sent before ours, and would be seen before.
    ASSERT_TRUE(ordinary.send(frameOf(outbound(), pattern(200, 2))));
    for (uint32_t i = 0; i < 100; ++i) {
      while (!sendFrame(*io_, outbound(), pattern(300, i))) io_->flush();
      io_->flush();
      expectSeen(pattern(300, i));
    }
    if (segmentation) {
      ASSERT_TRUE(io_->caps().transmitSegmentation) << io_->caps().reason;
      ASSERT_TRUE(sendFrame(*io_, outbound(), pattern(10 * 1000, 7), 1000));
      EXPECT_TRUE(io_->flush());
      const auto train = far_->receive();
      ASSERT_TRUE(train.has_value());
      EXPECT_EQ(train->datagram.payload, pattern(10 * 1000, 7));
    }
    EXPECT_EQ(io_->stats.transmitErrors.load(), 0);
    ASSERT_TRUE(near("tc qdisc del dev near0 root"));
  }
}

TEST_F(Packet, choosesTheInterfaceByNameAddressDefaultRouteOrBecauseItIsTheOnlyOne) {
  const auto chosen = [this](const std::string& interface, const std::string& address) {
    const Inside inside(*near_);
    const auto netdev = chooseNetdev(interface, address);
    return netdev.ok() ? netdev->name : netdev.error().message;
  };
  EXPECT_EQ(chosen("", ""), "near0") << "the only one";
  ASSERT_TRUE(near("ip link add other0 type veth peer name other1"));
  ASSERT_TRUE(near("ip link set other0 up"));
  ASSERT_TRUE(near("ip link set other1 up"));
  EXPECT_NE(chosen("", "").find("which interface to open is unclear"), std::string::npos) << chosen("", "");
  ASSERT_TRUE(near("ip address add 10.77.5.1/24 dev other0"));
  ASSERT_TRUE(near("ip address add fd77:5::1/64 dev near0 nodad"));
  EXPECT_EQ(chosen("", "10.77.5.1"), "other0");
  EXPECT_EQ(chosen("", "fd77:5::1"), "near0");
  EXPECT_NE(chosen("", "10.77.5.2").find("no interface has the address 10.77.5.2"), std::string::npos) << chosen("", "10.77.5.2");
  ASSERT_TRUE(near("ip -6 route add default via fd77:5::2 dev near0"));
  EXPECT_EQ(chosen("", ""), "near0") << "IPv6 default route";
  ASSERT_TRUE(near("ip route add default via 10.77.5.2"));
  EXPECT_EQ(chosen("", ""), "other0") << "IPv4 default route";
  EXPECT_EQ(chosen("other1", "10.77.5.1"), "other1") << "a name comes before all";
  EXPECT_NE(chosen("eth9", "").find("'eth9' does not exist here, there are: "), std::string::npos) << chosen("eth9", "");
  EXPECT_NE(chosen("abcdefghijklmnop", "").find("longer than 15 characters"), std::string::npos);
}

TEST_F(Packet, spreadsFlowsOverTheSocketsOfAFanoutGroupAndKeepsEachInOrder) {
  PacketOptions options;
  options.receiveSockets = 4;
  open(options);
  EXPECT_EQ(io_->caps().queues, 4U);
  constexpr uint32_t kFlows = 32;
  constexpr uint32_t kEach = 20;
  for (uint32_t i = 0; i < kEach; ++i) {
    for (uint32_t flow = 0; flow < kFlows; ++flow) {
      Flow one = inbound();
      one.sourcePort = static_cast<uint16_t>(50000 + flow);
      ASSERT_TRUE(far_->send(frameOf(one, pattern(100 + i, flow))));
    }
  }
  std::vector<uint32_t> next(kFlows, 0);
  std::array<uint32_t, 4> perSocket{};
  std::array<RxFrame, 32> frames;
  for (uint32_t have = 0; have < kFlows * kEach;) {
    const uint32_t count = io_->receive(frames);
    if (count == 0) {
      ASSERT_TRUE(await(*io_));
      continue;
    }
    const std::span<const RxFrame> received(frames.data(), count);
    for (const RxFrame& frame : received) ++perSocket[frame.cookie >> 32];
    for (const Arrival& arrival : read(received)) {
      const uint32_t flow = arrival.datagram.sourcePort - 50000U;
      ASSERT_LT(flow, kFlows);
      ASSERT_EQ(arrival.datagram.payload, pattern(100 + next[flow]++, flow));
    }
    io_->giveBack(received);
    have += count;
  }
  for (const uint32_t count : perSocket) EXPECT_GT(count, 0U) << "32 flows leave none of 4 sockets out but once in a thousand runs";
  EXPECT_EQ(io_->framesHeld(), 0U);
}

TEST_F(Packet, sendsWhatStandsBehindAFrameThatTheKernelRefuses) {
  PacketOptions options;
  options.vnetHeader = false;  // then the kernel holds each frame against the MTU
  open(options);
  ASSERT_TRUE(near("ip link set near0 mtu 1000"));
  for (uint32_t round = 0; round < 5; ++round) {
    ASSERT_TRUE(sendFrame(*io_, outbound(), pattern(200, round)));
    ASSERT_TRUE(sendFrame(*io_, outbound(), pattern(1300, round)));
    ASSERT_TRUE(sendFrame(*io_, outbound(), pattern(1400, round)));
    ASSERT_TRUE(sendFrame(*io_, outbound(), pattern(300, round)));
    ASSERT_TRUE(sendFrame(*io_, outbound(), pattern(400, round)));
    EXPECT_TRUE(io_->flush());
    for (const size_t length : {200, 300, 400}) expectSeen(pattern(length, round));
    EXPECT_EQ(io_->stats.transmitErrors.load(), 2 * (round + 1));
  }
  awaitFreeTransmitRing();
}

TEST_F(Packet, sendsWhatStandsBehindAFrameThatTheLinkHasBecomeTooNarrowFor) {
  open();
  ASSERT_TRUE(near("ip link set near0 mtu 1000"));
  ASSERT_TRUE(command(*farSpace_, "ip link set far0 mtu 1000"));
  for (uint32_t round = 0; round < 5; ++round) {
    for (const size_t length : {200, 1300, 1400, 300, 1200}) ASSERT_TRUE(sendFrame(*io_, outbound(), pattern(length, round)));
    EXPECT_TRUE(io_->flush());
    for (const size_t length : {200, 300}) expectSeen(pattern(length, round));
    EXPECT_EQ(io_->stats.transmitErrors.load(), 3 * (round + 1));
  }
  awaitFreeTransmitRing();
}

// Whose MTU is the other host's business: this side only sees that the frame does not get through.
TEST_F(Packet, givesUpWhatTheFarEndIsTooNarrowForUntilItIsWideAgain) {
  open();
  ASSERT_TRUE(command(*farSpace_, "ip link set far0 mtu 1000"));
  for (const size_t length : {200, 1300, 1400, 300, 1200}) ASSERT_TRUE(sendFrame(*io_, outbound(), pattern(length, 1)));
  EXPECT_FALSE(io_->flush()) << "a device that is full for a moment says the same";
  EXPECT_FALSE(io_->arm()) << "asleep, nobody would try again";
  awaitFreeTransmitRing();
  for (const size_t length : {200, 300}) expectSeen(pattern(length, 1));
  EXPECT_EQ(io_->stats.transmitErrors.load(), 3);
  EXPECT_TRUE(io_->arm());

  for (const size_t length : {1400, 400}) ASSERT_TRUE(sendFrame(*io_, outbound(), pattern(length, 2)));
  EXPECT_TRUE(io_->flush()) << "known by now";
  expectSeen(pattern(400, 2));
  EXPECT_EQ(io_->stats.transmitErrors.load(), 4);

  ASSERT_TRUE(command(*farSpace_, "ip link set far0 mtu 1500"));
  for (const size_t length : {1400, 500}) ASSERT_TRUE(sendFrame(*io_, outbound(), pattern(length, 3)));
  EXPECT_TRUE(io_->flush());
  for (const size_t length : {1400, 500}) expectSeen(pattern(length, 3));
  EXPECT_EQ(io_->stats.transmitErrors.load(), 4);
  awaitFreeTransmitRing();

  // And forgotten: a full device is waited for again.
  ASSERT_TRUE(command(*farSpace_, "ip link set far0 mtu 1000"));
  ASSERT_TRUE(sendFrame(*io_, outbound(), pattern(1400, 4)));
  EXPECT_FALSE(io_->flush());
  awaitFreeTransmitRing();
  EXPECT_EQ(io_->stats.transmitErrors.load(), 5);
}

TEST_F(Packet, givesUpWhatCanNotLeaveWithoutCarrier) {
  open();
  ASSERT_TRUE(command(*farSpace_, "ip link set far0 down"));
  const LinkState link = io_->link();
  EXPECT_FALSE(link.up);
  EXPECT_NE(link.reason.find("no carrier"), std::string::npos) << link.reason;
  const uint32_t count = 3 * io_->transmitSlots();
  for (uint32_t i = 0; i < count; ++i) {
    EXPECT_TRUE(sendFrame(*io_, outbound(), pattern(100, i))) << "a ring full of what never leaves";
    io_->flush();
  }
  EXPECT_EQ(io_->stats.transmitErrors.load() + io_->stats.transmittedFrames.load(), count);
  EXPECT_GT(io_->stats.transmitErrors.load(), 0);
  awaitFreeTransmitRing();
}

// A wire that nobody reads: its queue fills up, and what finds no room waits in the ring.
TEST_F(Packet, sendsWhatAFullDeviceLeftBehindAsSoonAsThereIsRoom) {
  std::unique_ptr<TapIo> wire;
  {
    const Inside inside(*near_);
    TapOptions options;
    options.name = "tap0";
    options.filtered = false;
    wire = TapIo::open(options).take();
    ASSERT_TRUE(near("ip link set tap0 txqueuelen 16 up"));
    PacketOptions packet;
    packet.interface = "tap0";
    packet.segmentation = false;
    io_ = PacketIo::open(packet).take();
  }
  Flow flow;
  flow.sourceMac = io_->link().mac;
  flow.destinationMac = wire->link().mac;
  uint32_t sent = 0;
  while (sent < 1000) {
    if (sendFrame(*io_, flow, pattern(200, sent))) ++sent;
    if (!io_->flush()) break;
  }
  ASSERT_LT(sent, 1000U) << "the queue holds 16";
  EXPECT_FALSE(io_->arm()) << "asleep, nobody would send the rest";
  uint32_t seen = 0;
  for (int rounds = 0; seen < sent && rounds < 10'000; ++rounds) {
    for (const Arrival& arrival : receiveOnce(*wire)) {
      if (arrival.datagram.destinationPort != kPort) continue;  // the kernel's own
      ASSERT_EQ(arrival.datagram.payload, pattern(200, seen++));
    }
    receiveOnce(*io_);  // as the stack does all the time
  }
  EXPECT_EQ(seen, sent);
  EXPECT_TRUE(io_->arm());
  EXPECT_EQ(io_->stats.transmitErrors.load(), 0);
}

TEST_F(Packet, goesOnSendingTrainsWhenTheDeviceNoLongerCutsThem) {
  open();
  ASSERT_TRUE(io_->caps().transmitSegmentation) << io_->caps().reason;
  const auto sendTrain = [this](uint32_t seed) {
    const Bytes payload = pattern(20 * 1000, seed);
    ASSERT_TRUE(sendFrame(*io_, outbound(), payload, 1000));
    while (!io_->flush()) ::sched_yield();
    Bytes joined;
    while (joined.size() < payload.size()) {
      const auto frame = far_->receive();
      ASSERT_TRUE(frame.has_value());
      joined.insert(joined.end(), frame->datagram.payload.begin(), frame->datagram.payload.end());
    }
    EXPECT_EQ(joined, payload);
  };
  sendTrain(1);
  EXPECT_EQ(io_->link().reason, "");
  {
    // Its feature is looked up in the namespace of the thread, as the driver's is that of its interface.
    const Inside inside(*near_);
    ASSERT_TRUE(near("ethtool -K near0 tx-udp-segmentation off"));
    sendTrain(2);
  }
  EXPECT_NE(io_->link().reason.find("tx-udp-segmentation"), std::string::npos) << io_->link().reason;
  EXPECT_TRUE(io_->link().up);
  sendTrain(3);
  EXPECT_EQ(io_->stats.transmitErrors.load(), 0);
  // An instance opened now does not offer trains, and says why.
  open();
  EXPECT_FALSE(io_->caps().transmitSegmentation);
  EXPECT_NE(io_->caps().reason.find("tx-udp-segmentation"), std::string::npos) << io_->caps().reason;
}

TEST_F(Packet, receivesFramesThatGrewBeyondItsSlots) {
  open();
  ASSERT_TRUE(near("ip link set near0 mtu 9000"));
  ASSERT_TRUE(command(*farSpace_, "ip link set far0 mtu 9000"));
  for (uint32_t i = 0; i < 200; ++i) {
    const Bytes payload = pattern(i % 2 == 0 ? 8000 : 800, i);
    ASSERT_TRUE(far_->send(frameOf(inbound(), payload)));
    const auto payloads = collectPayloads(*io_, 1);
    ASSERT_EQ(payloads.size(), 1U);
    ASSERT_EQ(payloads[0], payload);
  }
  EXPECT_EQ(io_->framesHeld(), 0U);
}

TEST_F(Packet, keepsLongFramesForLaterWhileAllTheirBuffersAreHeld) {
  open();
  const Flow flow = inbound();
  constexpr uint32_t kTrains = 70;  // over the 64 that can be held
  std::vector<RxFrame> held;
  uint32_t sent = 0;
  const auto sendTrain = [&] {
    ASSERT_TRUE(far_->sendPartial(frameOf(flow, pattern(4000, sent), Sum::kPseudo), flow, 1000));
    ++sent;
  };
  std::array<RxFrame, 4> frames;
  while (sent < kTrains) {
    ASSERT_NO_FATAL_FAILURE(sendTrain());
    const uint32_t count = io_->receive(frames);
    held.insert(held.end(), frames.begin(), frames.begin() + count);
  }
  while (held.size() < 64) {
    const uint32_t count = io_->receive(frames);
    held.insert(held.end(), frames.begin(), frames.begin() + count);
    if (count == 0) {
      ASSERT_TRUE(await(*io_));
    }
  }
  EXPECT_EQ(io_->receive(frames), 0U);
  uint32_t seen = 0;
  for (const Arrival& arrival : read(held)) ASSERT_EQ(arrival.datagram.payload, pattern(4000, seen++));
  io_->giveBack(held);
  for (const Arrival& arrival : collect(*io_, (kTrains - 64) * 4)) ASSERT_EQ(arrival.datagram.payload, pattern(4000, seen++));
  EXPECT_EQ(seen, kTrains);
  io_->refreshStats();
  EXPECT_EQ(io_->stats.ringFullDrops.load(), 0);
}

}  // namespace
}  // namespace outrigger::io::testing
