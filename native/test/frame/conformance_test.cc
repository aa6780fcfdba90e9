// SPDX-License-Identifier: Apache-2.0
// One suite over every FrameIo: what the network stack relies on, whatever the device. Behaviour of one backend alone stands in files
// of its own.
#include <functional>
#include <set>

#include "frame_traffic.h"

namespace outrigger::io::testing {
namespace {

class FrameIoConformance : public ::testing::TestWithParam<FrameVariant> {
 protected:
  void SetUp() override { make(WorldOptions{}); }

  void make(const WorldOptions& options) {
    if (const std::string refusal = namespaceRefusal(); !refusal.empty()) GTEST_SKIP() << "no network namespaces: " << refusal;
    world_.reset();
    std::string why;
    world_ = GetParam().make(options, why);
    if (world_ == nullptr) GTEST_SKIP() << why;
    ASSERT_TRUE(world_->isOpen());
  }

  FrameIo& io() { return world_->io(); }
  FarEnd& far() { return world_->far(); }

  // Towards the FrameIo.
  Flow inbound(bool v6 = false) {
    Flow flow;
    flow.sourceMac = far().mac();
    flow.destinationMac = io().link().mac;
    flow.destinationPort = kPort;
    flow.v6 = v6;
    if (v6) {
      flow.source = "fd77::2";
      flow.destination = "fd77::1";
    }
    return flow;
  }
  Flow outbound(bool v6 = false) {
    Flow flow = inbound(v6);
    std::swap(flow.sourceMac, flow.destinationMac);
    std::swap(flow.source, flow.destination);
    return flow;
  }

  static SteerRule rule(const std::string& host, uint16_t port) { return SteerRule{SockAddr::parseNumeric(host, port).take()}; }
  void steer(const std::string& host = "10.77.0.1", uint16_t port = kPort) {
    const auto result = io().steer(rule(host, port));
    ASSERT_TRUE(result.ok()) << result.error().message;
  }

  // Sends one datagram each way and awaits it.
  void expectAlive(uint32_t seed) {
    const Bytes payload = pattern(200 + seed, seed);
    ASSERT_TRUE(far().send(frameOf(inbound(), payload)));
    const auto arrivals = collectPayloads(io(), 1);
    ASSERT_EQ(arrivals.size(), 1U);
    EXPECT_EQ(arrivals[0], payload);
    ASSERT_TRUE(sendFrame(io(), outbound(), payload));
    ASSERT_TRUE(io().flush());
    const auto seen = far().receive();
    ASSERT_TRUE(seen.has_value());
    EXPECT_EQ(seen->datagram.payload, payload);
  }

  // All transmit buffers that can be had, given up again. Waits for the device to return what is under way.
  uint32_t transmitBuffers() {
    std::vector<TxFrame> slots(100'000);
    const uint32_t count = io().reserve(slots);
    io().abort(std::span<const TxFrame>(slots.data(), count));
    return count;
  }
  void awaitTransmitBuffers(uint32_t count) {
    for (int i = 0; i < 1'000'000; ++i) {
      if (transmitBuffers() == count) return;
      io().flush();
      ::sched_yield();
    }
    FAIL() << transmitBuffers() << " of " << count << " transmit buffers came back";
  }

  std::unique_ptr<FrameWorld> world_;
};

TEST_P(FrameIoConformance, saysWhatItIs) {
  const FrameCaps& caps = io().caps();
  EXPECT_FALSE(caps.name.empty());
  EXPECT_FALSE(caps.mode.empty());
  EXPECT_GE(caps.maxTransmitPieces, 1U);
  EXPECT_GE(caps.transmitBufferLength * caps.maxTransmitPieces, 1500U + 14 + 4);
  const LinkState link = io().link();
  EXPECT_TRUE(link.up) << link.reason;
  EXPECT_FALSE(link.gone);
  EXPECT_EQ(link.mtu, 1500U);
  EXPECT_NE(link.mac, far().mac());
  EXPECT_EQ(io().link().generation, link.generation) << "nothing changed";
}

TEST_P(FrameIoConformance, receivesWhatItSteersAndNothingElse) {
  steer();
  const Bytes wanted = pattern(100, 1);
  const Bytes other = pattern(100, 2);
  Flow flow = inbound();
  flow.destinationPort = kPort + 1;
  ASSERT_TRUE(far().send(frameOf(flow, other)));
  flow = inbound();
  flow.destination = "10.77.0.9";
  ASSERT_TRUE(far().send(frameOf(flow, other)));
  flow = inbound();
  flow.fragmentBits = 0x2000;  // more fragments follow
  ASSERT_TRUE(far().send(frameOf(flow, other)));
  flow.fragmentBits = 0x0010;  // a later fragment
  ASSERT_TRUE(far().send(frameOf(flow, other)));
  flow = inbound();
  flow.optionWords = 1;
  ASSERT_TRUE(far().send(frameOf(flow, other)));
  flow = inbound();
  flow.protocol = IPPROTO_TCP;
  ASSERT_TRUE(far().send(frameOf(flow, other)));
  ASSERT_TRUE(far().send(frameOf(inbound(true), other)));
  const Bytes whole = frameOf(inbound(), other);
  for (const std::ptrdiff_t length : {14, 20, 33, 34, 37}) {  // ends within each header
    ASSERT_TRUE(far().send(Bytes(whole.begin(), whole.begin() + length)));
  }
  flow = inbound();
  flow.vlan = 0x0064;
  Bytes twice = frameOf(flow, other);
  const Bytes tag{0x81, 0x00, 0x00, 0x65};
  twice.insert(twice.begin() + 12, tag.begin(), tag.end());
  ASSERT_TRUE(far().send(twice)) << "two VLAN tags";
  flow = inbound();
  ASSERT_TRUE(far().send(frameOf(flow, wanted)));
  // The wire keeps the order: when the last is here, the others are not to come.
  const auto arrivals = collectPayloads(io(), 1);
  ASSERT_EQ(arrivals.size(), 1U);
  EXPECT_EQ(arrivals[0], wanted);
}

TEST_P(FrameIoConformance, steersBothFamiliesByAddressOrByPortAlone) {
  steer("0.0.0.0", kPort);
  steer("fd77::1", kPort);
  steer("::", kPort + 7);
  const auto expectArrival = [&](const Flow& flow, uint32_t seed) {
    const Bytes payload = pattern(64 + seed, seed);
    ASSERT_TRUE(far().send(frameOf(flow, payload)));
    const auto arrivals = collectPayloads(io(), 1);
    ASSERT_EQ(arrivals.size(), 1U);
    EXPECT_EQ(arrivals[0], payload);
  };
  Flow flow = inbound();
  expectArrival(flow, 1);
  flow.destination = "10.77.0.55";
  expectArrival(flow, 2);
  flow = inbound(true);
  expectArrival(flow, 3);
  flow.destination = "fd77::55";
  ASSERT_TRUE(far().send(frameOf(flow, pattern(64, 4)))) << "another address of a port that is steered for one only";
  flow.destinationPort = kPort + 7;
  expectArrival(flow, 5);
}

TEST_P(FrameIoConformance, steersTwiceAsOnceAndStopsWhenAskedTo) {
  steer();
  steer();
  steer("10.77.0.1", kPort + 1);
  expectAlive(1);
  ASSERT_TRUE(io().unsteer(rule("10.77.0.1", kPort)).ok());
  ASSERT_TRUE(io().unsteer(rule("10.77.0.1", kPort)).ok());
  ASSERT_TRUE(far().send(frameOf(inbound(), pattern(80, 2))));
  Flow flow = inbound();
  flow.destinationPort = kPort + 1;
  const Bytes payload = pattern(80, 3);
  ASSERT_TRUE(far().send(frameOf(flow, payload)));
  const auto arrivals = collectPayloads(io(), 1);
  ASSERT_EQ(arrivals.size(), 1U);
  EXPECT_EQ(arrivals[0], payload);
}

TEST_P(FrameIoConformance, steersManyPorts) {
  std::set<uint16_t> ports;
  for (uint16_t i = 0; i < 300; ++i) {
    const auto port = static_cast<uint16_t>(2000 + i * 7);
    steer("10.77.0.1", port);
    ports.insert(port);
  }
  for (const uint16_t port : {uint16_t{2000}, uint16_t{2001}, uint16_t{2000 + 254 * 7}, uint16_t{2000 + 299 * 7}}) {
    Flow flow = inbound();
    flow.destinationPort = port;
    const Bytes payload = pattern(50, port);
    ASSERT_TRUE(far().send(frameOf(flow, payload)));
    if (!ports.contains(port)) continue;
    const auto arrivals = collectPayloads(io(), 1);
    ASSERT_EQ(arrivals.size(), 1U);
    EXPECT_EQ(arrivals[0], payload) << "port " << port;
  }
}

TEST_P(FrameIoConformance, keepsTheOrderAndEveryByteOfABurst) {
  steer();
  constexpr uint32_t kCount = 200;
  for (uint32_t i = 0; i < kCount; ++i) ASSERT_TRUE(far().send(frameOf(inbound(), pattern(1 + (i * 37) % 1400, i))));
  const auto in = collectPayloads(io(), kCount);
  ASSERT_EQ(in.size(), kCount);
  for (uint32_t i = 0; i < kCount; ++i) ASSERT_EQ(in[i], pattern(1 + (i * 37) % 1400, i)) << "frame " << i;
  uint32_t seen = 0;
  for (uint32_t i = 0; i < kCount;) {
    if (sendFrame(io(), outbound(), pattern(1 + (i * 41) % 1400, i))) {
      ++i;
      if (i % 16 != 0 && i != kCount) continue;
    }
    io().flush();
    while (seen < i) {
      const auto frame = far().receive();
      ASSERT_TRUE(frame.has_value());
      ASSERT_EQ(frame->datagram.payload, pattern(1 + (seen * 41) % 1400, seen)) << "frame " << seen;
      EXPECT_TRUE(frame->checksumLeftOpen || frame->datagram.checksumRight);
      ++seen;
    }
  }
  EXPECT_EQ(io().stats.receivedFrames.load(), kCount);
  EXPECT_EQ(io().stats.transmittedFrames.load(), kCount);
}

// So many that a device with two queues has some on each: that none is on the other happens once in billions of runs.
TEST_P(FrameIoConformance, receivesEveryFlowWhateverQueueItIsOn) {
  steer();
  constexpr uint32_t kFlows = 32;
  constexpr uint32_t kEach = 4;
  for (uint32_t i = 0; i < kEach; ++i) {
    for (uint32_t flow = 0; flow < kFlows; ++flow) {
      Flow one = inbound();
      one.sourcePort = static_cast<uint16_t>(50000 + flow);
      ASSERT_TRUE(far().send(frameOf(one, pattern(100 + i, flow))));
    }
  }
  std::vector<uint32_t> next(kFlows, 0);
  for (const Arrival& arrival : collect(io(), kFlows * kEach)) {
    const uint32_t flow = arrival.datagram.sourcePort - 50000U;
    ASSERT_LT(flow, kFlows);
    ASSERT_EQ(arrival.datagram.payload, pattern(100 + next[flow]++, flow)) << "flow " << flow;
  }
  for (const uint32_t count : next) EXPECT_EQ(count, kEach);
}

TEST_P(FrameIoConformance, comesAroundItsRingsManyTimesWithoutLeaking) {
  steer();
  const uint32_t buffers = transmitBuffers();
  ASSERT_GT(buffers, 0U);
  constexpr uint32_t kRounds = 150;
  constexpr uint32_t kBurst = 32;
  for (uint32_t round = 0; round < kRounds; ++round) {
    for (uint32_t i = 0; i < kBurst; ++i) ASSERT_TRUE(far().send(frameOf(inbound(), pattern(1000, round * kBurst + i))));
    const auto in = collectPayloads(io(), kBurst);
    ASSERT_EQ(in.size(), kBurst);
    for (uint32_t i = 0; i < kBurst; ++i) ASSERT_EQ(in[i], pattern(1000, round * kBurst + i));
    for (uint32_t i = 0; i < kBurst; ++i) {
      while (!sendFrame(io(), outbound(), pattern(900, i))) io().flush();
    }
    while (!io().flush()) ::sched_yield();
    for (uint32_t i = 0; i < kBurst; ++i) {
      const auto frame = far().receive();
      ASSERT_TRUE(frame.has_value());
      ASSERT_EQ(frame->datagram.payload, pattern(900, i));
    }
  }
  io().refreshStats();
  EXPECT_EQ(io().stats.ringFullDrops.load(), 0);
  EXPECT_EQ(io().stats.transmitErrors.load(), 0);
  awaitTransmitBuffers(buffers);
}

TEST_P(FrameIoConformance, takesReceivedBuffersBackInAnyOrder) {
  steer();
  uint32_t sent = 0;
  for (int round = 0; round < 40; ++round) {
    for (int i = 0; i < 16; ++i) ASSERT_TRUE(far().send(frameOf(inbound(), pattern(600, sent++))));
    std::vector<RxFrame> held(32);
    size_t have = 0;
    while (have < 16) {
      const uint32_t count = io().receive(std::span<RxFrame>(held).subspan(have, 16));
      have += count;
      if (count == 0) {
        ASSERT_TRUE(await(io()));
      }
    }
    held.resize(have);
    const auto arrivals = read(held);
    ASSERT_EQ(arrivals.size(), 16U);
    for (uint32_t i = 0; i < 16; ++i) ASSERT_EQ(arrivals[i].datagram.payload, pattern(600, sent - 16 + i));
    // Every second one first, then the rest from behind.
    for (size_t i = 0; i < have; i += 2) io().giveBack(std::span<const RxFrame>(&held[i], 1));
    for (size_t i = have; i-- > 0;) {
      if (i % 2 == 1) io().giveBack(std::span<const RxFrame>(&held[i], 1));
    }
  }
}

TEST_P(FrameIoConformance, countsWhatFindsNoRoomOnTheWayIn) {
  steer();
  constexpr int64_t kSent = 9000;
  for (uint32_t i = 0; i < kSent; ++i) ASSERT_TRUE(far().send(frameOf(inbound(), pattern(1400, i))));
  int64_t received = 0;
  uint32_t last = 0;
  // Nothing comes after the last that had room: what is missing is known to the device by then.
  for (;;) {
    const auto arrivals = receiveOnce(io());
    if (arrivals.empty() && (!await(io(), 50) || io().waitHandle() < 0)) break;
    received += static_cast<int64_t>(arrivals.size());
    ++last;
  }
  io().refreshStats();
  EXPECT_GT(received, 0);
  EXPECT_LT(received, kSent) << "the rings of this test were meant to be smaller";
  if (world_->countsOverflow()) {
    EXPECT_EQ(received + io().stats.ringFullDrops.load() + io().stats.fillRingEmpty.load(), kSent);
  }
  expectAlive(5);
}

TEST_P(FrameIoConformance, givesOutEveryTransmitBufferOnceAndThenNone) {
  steer();
  std::vector<TxFrame> slots(100'000);
  const uint32_t count = io().reserve(slots);
  ASSERT_GT(count, 0U);
  ASSERT_LT(count, slots.size());
  std::set<const uint8_t*> seen;
  for (uint32_t i = 0; i < count; ++i) {
    EXPECT_GE(slots[i].capacity, 1U);
    EXPECT_EQ(slots[i].capacity % 2, 0U);
    EXPECT_TRUE(seen.insert(slots[i].data).second);
  }
  TxFrame more;
  const int64_t before = io().stats.noBuffer.load();
  EXPECT_EQ(io().reserve(std::span<TxFrame>(&more, 1)), 0U);
  EXPECT_EQ(io().stats.noBuffer.load(), before + 1);
  io().abort(std::span<const TxFrame>(slots.data(), count));
  EXPECT_EQ(transmitBuffers(), count);
  expectAlive(1);
  awaitTransmitBuffers(count);
}

TEST_P(FrameIoConformance, leavesOutAnAbortedFrameAmongCommittedOnes) {
  const uint32_t buffers = transmitBuffers();
  for (uint32_t round = 0; round < 20; ++round) {
    std::array<TxFrame, 5> slots;
    ASSERT_EQ(io().reserve(slots), slots.size());
    for (uint32_t i = 0; i < slots.size(); ++i) fill(slots[i], io().caps(), outbound(), pattern(300 + i * 100, round + i));
    io().abort(std::span<const TxFrame>(&slots[1], 2));
    io().commit(std::span<const TxFrame>(&slots[0], 1));
    io().commit(std::span<const TxFrame>(&slots[3], 2));
    while (!io().flush()) ::sched_yield();
    for (const uint32_t i : {0U, 3U, 4U}) {
      const auto frame = far().receive();
      ASSERT_TRUE(frame.has_value());
      EXPECT_EQ(frame->datagram.payload, pattern(300 + i * 100, round + i));
    }
  }
  awaitTransmitBuffers(buffers);
}

TEST_P(FrameIoConformance, sendsEveryFrameWhoseReservationsOverlap) {
  const uint32_t buffers = transmitBuffers();
  TxFrame early;
  TxFrame late;
  ASSERT_EQ(io().reserve(std::span<TxFrame>(&early, 1)), 1U);
  ASSERT_EQ(io().reserve(std::span<TxFrame>(&late, 1)), 1U);
  fill(late, io().caps(), outbound(), pattern(100, 2));
  io().commit(std::span<const TxFrame>(&late, 1));
  io().flush();
  fill(early, io().caps(), outbound(), pattern(100, 1));
  io().commit(std::span<const TxFrame>(&early, 1));
  while (!io().flush()) ::sched_yield();
  std::set<Bytes> seen;
  for (int i = 0; i < 2; ++i) {
    const auto frame = far().receive();
    ASSERT_TRUE(frame.has_value());
    seen.insert(frame->datagram.payload);
  }
  EXPECT_EQ(seen, (std::set<Bytes>{pattern(100, 1), pattern(100, 2)}));
  awaitTransmitBuffers(buffers);
}

TEST_P(FrameIoConformance, carriesThePacketOfExactlyTheMtu) {
  steer();
  steer("fd77::1");
  for (const bool v6 : {false, true}) {
    const size_t longest = 1500 - (v6 ? 48 : 28);
    for (const size_t length : {longest, size_t{1}}) {
      const Bytes payload = pattern(length, 1);
      ASSERT_TRUE(far().send(frameOf(inbound(v6), payload)));
      const auto arrivals = collectPayloads(io(), 1);
      ASSERT_EQ(arrivals.size(), 1U);
      EXPECT_EQ(arrivals[0], payload);
      ASSERT_TRUE(sendFrame(io(), outbound(v6), payload));
      ASSERT_TRUE(io().flush());
      const auto frame = far().receive();
      ASSERT_TRUE(frame.has_value());
      EXPECT_EQ(frame->datagram.payload, payload);
    }
  }
}

TEST_P(FrameIoConformance, carriesJumboFrames) {
  make(WorldOptions{9000});
  if (IsSkipped()) return;
  steer();
  EXPECT_EQ(io().link().mtu, 9000U);
  for (uint32_t i = 0; i < 100; ++i) {
    const Bytes payload = pattern(9000 - 28 - i, i);
    ASSERT_TRUE(far().send(frameOf(inbound(), payload)));
    const auto arrivals = collectPayloads(io(), 1);
    ASSERT_EQ(arrivals.size(), 1U);
    ASSERT_EQ(arrivals[0], payload);
    while (!sendFrame(io(), outbound(), payload)) io().flush();
    while (!io().flush()) ::sched_yield();
    const auto frame = far().receive();
    ASSERT_TRUE(frame.has_value());
    ASSERT_EQ(frame->datagram.payload, payload);
  }
}

TEST_P(FrameIoConformance, showsTheVlanTagOfAFrame) {
  steer();
  Flow flow = inbound();
  const Bytes payload = pattern(1472, 1);
  flow.vlan = 0x6064;  // priority 3, VLAN 100
  ASSERT_TRUE(far().send(frameOf(flow, payload)));
  if (!world_->takesEveryVlan()) {
    flow.vlan = 0x6000;  // priority 3, no VLAN
    ASSERT_TRUE(far().send(frameOf(flow, payload)));
  }
  const auto arrivals = collect(io(), 1);
  ASSERT_EQ(arrivals.size(), 1U);
  EXPECT_EQ(arrivals[0].vlan, flow.vlan);
  EXPECT_EQ(arrivals[0].datagram.payload, payload);
  flow = outbound();
  flow.vlan = 0x0065;
  ASSERT_TRUE(sendFrame(io(), flow, payload));
  ASSERT_TRUE(io().flush());
  const auto frame = far().receive();
  ASSERT_TRUE(frame.has_value());
  EXPECT_EQ(frame->vlan, 0x0065);
  EXPECT_EQ(frame->datagram.payload, payload);
}

TEST_P(FrameIoConformance, tellsWhichChecksumsMayBeVerified) {
  steer();
  Flow flow = inbound();
  const Bytes payload = pattern(333, 1);
  ASSERT_TRUE(far().send(frameOf(flow, payload)));
  ASSERT_TRUE(far().send(frameOf(flow, payload, Sum::kWrong)));
  const bool open = world_->takesOpenChecksums();
  ASSERT_TRUE(!open || far().sendPartial(frameOf(flow, payload, Sum::kPseudo), flow));
  const size_t count = open ? 3 : 2;
  const auto arrivals = collect(io(), count);
  ASSERT_EQ(arrivals.size(), count);
  EXPECT_NE(arrivals[0].checksum, RxChecksum::kPartial);
  EXPECT_TRUE(arrivals[0].datagram.checksumRight);
  EXPECT_EQ(arrivals[1].checksum, RxChecksum::kUnknown) << "nobody has verified this one";
  EXPECT_FALSE(arrivals[1].datagram.checksumRight);
  EXPECT_TRUE(!open || arrivals[2].checksum == RxChecksum::kPartial || arrivals[2].datagram.checksumRight);
  for (const Arrival& arrival : arrivals) EXPECT_EQ(arrival.datagram.payload, payload);
}

TEST_P(FrameIoConformance, handsAnArpStormToTheExceptionInterfaceAndGoesOnDelivering) {
  if (!io().caps().exceptionPath) GTEST_SKIP() << "the kernel has what is not ours in another way";
  steer();
  constexpr uint32_t kStorm = 2000;
  const Flow flow = inbound();
  for (uint32_t i = 0; i < kStorm; ++i) {
    // A request for our address (RFC 826), each from another host.
    const MacAddress asker{0x02, 1, 0, 0, static_cast<uint8_t>(i >> 8), static_cast<uint8_t>(i)};
    const std::array<uint8_t, 4> askersIp{10, 77, 0, static_cast<uint8_t>(100 + i % 100)};
    const std::array<uint8_t, 4> ours{10, 77, 0, 1};
    Bytes ask(60);
    std::fill_n(ask.begin(), 6, uint8_t{0xFF});
    std::copy(asker.begin(), asker.end(), ask.begin() + 6);
    put16(&ask[12], 0x0806);
    put16(&ask[14], 1);       // Ethernet
    put16(&ask[16], 0x0800);  // IPv4
    put16(&ask[18], 0x0604);  // lengths of both addresses
    put16(&ask[20], 1);       // request
    std::copy(asker.begin(), asker.end(), ask.begin() + 22);
    std::copy(askersIp.begin(), askersIp.end(), ask.begin() + 28);
    std::copy(ours.begin(), ours.end(), ask.begin() + 38);
    ASSERT_TRUE(far().send(ask));
    if (i % 100 != 0) continue;
    const Bytes payload = pattern(500, i);
    ASSERT_TRUE(far().send(frameOf(flow, payload)));
    const auto payloads = collectPayloads(io(), 1);
    ASSERT_EQ(payloads.size(), 1U);
    EXPECT_EQ(payloads[0], payload);
  }
  // The kernel has all of them, and more that it sent itself, or they are counted as lost.
  const auto handed = [this] { return io().stats.exceptionFrames.load() + io().stats.exceptionDrops.load(); };
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(kPatienceMs);
  while (handed() < kStorm && await(io()) && std::chrono::steady_clock::now() < deadline)
    EXPECT_TRUE(receiveOnce(io()).empty()) << "nothing more was for us";
  EXPECT_GE(handed(), kStorm);
  EXPECT_GT(io().stats.exceptionFrames.load(), 0);
}

TEST_P(FrameIoConformance, countsWhatItsExceptionInterfaceDoesNotTake) {
  if (!io().caps().exceptionPath) GTEST_SKIP() << "the kernel has what is not ours in another way";
  steer();
  constexpr int64_t kFrames = 50;
  Flow others = inbound();
  others.destinationPort = kPort + 1;
  const auto sendToOthers = [&] {
    for (int64_t i = 0; i < kFrames; ++i) ASSERT_TRUE(far().send(frameOf(others, pattern(100, static_cast<uint32_t>(i)))));
  };
  const auto taken = [this] { return io().stats.exceptionFrames.load(); };
  const auto refused = [this] { return io().stats.exceptionDrops.load(); };
  const auto receiveUntil = [this](const std::function<bool()>& enough) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(kPatienceMs);
    while (!enough() && std::chrono::steady_clock::now() < deadline && await(io())) {
      EXPECT_TRUE(receiveOnce(io()).empty()) << "nothing was for us";
    }
    EXPECT_TRUE(enough());
  };
  ASSERT_TRUE(world_->setExceptionLink(false));
  const int64_t takenBefore = taken();
  const int64_t refusedBefore = refused();
  ASSERT_NO_FATAL_FAILURE(sendToOthers());
  receiveUntil([&] { return refused() >= refusedBefore + kFrames; });
  EXPECT_EQ(taken(), takenBefore) << "an interface that is down takes none";
  expectAlive(1);

  ASSERT_TRUE(world_->setExceptionLink(true));
  const int64_t refusedInAll = refused();
  ASSERT_NO_FATAL_FAILURE(sendToOthers());
  receiveUntil([&] { return taken() >= takenBefore + kFrames; });
  EXPECT_EQ(refused(), refusedInAll);
}

TEST_P(FrameIoConformance, deliversTrainsOrRefusesThemCounted) {
  const auto refused = [this] {
    io().refreshStats();
    return io().stats.oversizedFrames.load() + io().stats.leftToKernel.load();
  };
  steer();
  steer("fd77::1");
  for (const bool v6 : {false, true}) {
    for (const auto& [segment, count] : {std::pair<uint16_t, uint32_t>{500, 4}, {1400, 44}, {100, 60}}) {
      const Flow flow = inbound(v6);
      const Bytes payload = pattern(segment * (count - 1) + segment / 2, count);
      const int64_t refusedBefore = refused();
      ASSERT_TRUE(far().sendPartial(frameOf(flow, payload, Sum::kPseudo), flow, segment)) << std::strerror(errno);
      const Bytes last = pattern(40, 9);
      ASSERT_TRUE(far().send(frameOf(flow, last)));
      std::vector<Bytes> payloads;
      while (payloads.empty() || payloads.back() != last) {
        auto some = collectPayloads(io(), 1);
        ASSERT_FALSE(some.empty());
        payloads.insert(payloads.end(), some.begin(), some.end());
      }
      payloads.pop_back();
      if (payloads.empty()) {
        EXPECT_FALSE(io().caps().receiveTrains);
        EXPECT_FALSE(io().caps().reason.empty());
        EXPECT_EQ(refused(), refusedBefore + 1);
        continue;
      }
      ASSERT_EQ(payloads.size(), count);
      Bytes joined;
      for (uint32_t i = 0; i < count; ++i) {
        EXPECT_EQ(payloads[i].size(), i + 1 < count ? segment : segment / 2U);
        joined.insert(joined.end(), payloads[i].begin(), payloads[i].end());
      }
      EXPECT_EQ(joined, payload);
    }
  }
}

TEST_P(FrameIoConformance, holdsManyTrainsAtATime) {
  if (!io().caps().receiveTrains) GTEST_SKIP() << "no trains here: " << io().caps().reason;
  steer();
  constexpr uint32_t kTrains = 6;
  const Flow flow = inbound();
  for (uint32_t round = 0; round < 30; ++round) {
    for (uint32_t i = 0; i < kTrains; ++i) {
      ASSERT_TRUE(far().sendPartial(frameOf(flow, pattern(20 * 1000, i + round), Sum::kPseudo), flow, 1000));
      ASSERT_TRUE(far().send(frameOf(flow, pattern(40, i))));
    }
    const auto payloads = collectPayloads(io(), kTrains * 21);
    ASSERT_EQ(payloads.size(), kTrains * 21);
    for (uint32_t i = 0; i < kTrains; ++i) {
      const Bytes train = pattern(20 * 1000, i + round);
      for (uint32_t k = 0; k < 20; ++k) {
        ASSERT_TRUE(std::equal(payloads[i * 21 + k].begin(), payloads[i * 21 + k].end(), train.begin() + k * 1000));
      }
      ASSERT_EQ(payloads[i * 21 + 20], pattern(40, i));
    }
  }
}

TEST_P(FrameIoConformance, sendsTrains) {
  if (!io().caps().transmitSegmentation) GTEST_SKIP() << "no trains out: " << io().caps().reason;
  const uint32_t buffers = transmitBuffers();
  for (const bool v6 : {false, true}) {
    for (const int vlan : {-1, 0x0064}) {
      for (const auto& [segment, count] : {std::pair<uint16_t, uint32_t>{500, 4}, {1400, 44}, {1400, 2}, {100, 60}}) {
        Flow flow = outbound(v6);
        flow.vlan = vlan;
        const Bytes payload = pattern(segment * (count - 1) + segment / 2, count);
        while (!sendFrame(io(), flow, payload, segment)) io().flush();
        while (!io().flush()) ::sched_yield();
        Bytes joined;
        while (joined.size() < payload.size()) {
          const auto frame = far().receive();
          ASSERT_TRUE(frame.has_value());
          EXPECT_TRUE(frame->checksumLeftOpen || frame->datagram.checksumRight);
          EXPECT_EQ(frame->vlan, vlan);
          if (frame->segmentLength != 0) {
            EXPECT_EQ(frame->segmentLength, segment);
          } else {
            EXPECT_EQ(frame->datagram.payload.size(), std::min<size_t>(segment, payload.size() - joined.size()));
          }
          joined.insert(joined.end(), frame->datagram.payload.begin(), frame->datagram.payload.end());
        }
        EXPECT_EQ(joined, payload);
      }
    }
  }
  EXPECT_EQ(io().stats.transmitErrors.load(), 0);
  awaitTransmitBuffers(buffers);
}

TEST_P(FrameIoConformance, isNotKeptAwakeByFramesOfOthers) {
  steer();
  Flow flow = inbound();
  flow.destinationPort = kPort + 1;
  const Bytes payload = pattern(100, 1);
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(far().send(frameOf(flow, payload)));
  EXPECT_TRUE(io().arm());
  ASSERT_TRUE(far().send(frameOf(inbound(), payload)));
  const auto arrivals = collectPayloads(io(), 1);
  ASSERT_EQ(arrivals.size(), 1U);
  EXPECT_EQ(arrivals[0], payload) << "what came behind them is taken all the same";
}

TEST_P(FrameIoConformance, wakesASleeperWhenAFrameArrives) {
  steer();
  if (io().waitHandle() < 0) GTEST_SKIP() << "this backend has to be spun";
  // The second time after more looks than a thread makes that sleeps between them: a device may wake nobody any more until it is armed.
  for (const int looks : {0, 10'000}) {
    for (int i = 0; i < looks; ++i) EXPECT_TRUE(receiveOnce(io()).empty());
    EXPECT_TRUE(io().arm()) << "nothing is there: sleeping is right";
    ASSERT_TRUE(far().send(frameOf(inbound(), pattern(100, 1))));
    pollfd handle{io().waitHandle(), POLLIN, 0};
    EXPECT_GT(::poll(&handle, 1, kPatienceMs), 0) << "after " << looks << " looks";
    EXPECT_FALSE(io().arm()) << "something is there: sleeping is wrong";
    EXPECT_EQ(collectPayloads(io(), 1).size(), 1U);
    EXPECT_TRUE(io().arm());
  }
}

TEST_P(FrameIoConformance, closesWithFramesInFlightAndOpensAgain) {
  if (const std::string why = world_->opensOnce(); !why.empty()) GTEST_SKIP() << why;
  for (int round = 0; round < 3; ++round) {
    steer();
    for (uint32_t i = 0; i < 20; ++i) ASSERT_TRUE(far().send(frameOf(inbound(), pattern(700, i))));
    std::array<RxFrame, 8> held;
    while (io().receive(held) == 0) ASSERT_TRUE(await(io()));
    std::array<TxFrame, 6> slots;
    ASSERT_EQ(io().reserve(slots), slots.size());
    for (TxFrame& slot : slots) fill(slot, io().caps(), outbound(), pattern(500, 1));
    io().commit(std::span<const TxFrame>(slots.data(), 2));
    io().flush();
    io().commit(std::span<const TxFrame>(slots.data() + 2, 2));
    ASSERT_NO_FATAL_FAILURE(world_->reopen());
    while (far().receiveNow().has_value()) {
    }
  }
  steer();
  expectAlive(1);
}

TEST_P(FrameIoConformance, survivesTheLinkGoingDownAndUp) {
  steer();
  expectAlive(1);
  const uint32_t buffers = transmitBuffers();
  const LinkState before = io().link();
  ASSERT_TRUE(world_->setLink(false));
  const LinkState down = io().link();
  EXPECT_FALSE(down.up);
  EXPECT_FALSE(down.gone);
  EXPECT_NE(down.reason.find("down"), std::string::npos) << down.reason;
  EXPECT_GT(down.generation, before.generation);
  // More than there are buffers: a link that is down must not eat them for good.
  for (uint32_t i = 0; i < buffers + 10; ++i) {
    sendFrame(io(), outbound(), pattern(100, i));
    io().flush();
    receiveOnce(io());
  }
  ASSERT_TRUE(world_->setLink(true));
  // Carrier comes a moment after the flag.
  for (int i = 0; i < 1'000'000 && !io().link().up; ++i) ::sched_yield();
  EXPECT_TRUE(io().link().up) << io().link().reason;
  if (!world_->sendsAtOnceAfterLinkUp()) {
    for (uint32_t i = 0; i < 20; ++i) {
      sendFrame(io(), outbound(), pattern(100, i));
      io().flush();
    }
  }
  while (far().receiveNow().has_value()) {
  }
  awaitTransmitBuffers(buffers);
  while (far().receiveNow().has_value()) {
  }
  expectAlive(2);
}

TEST_P(FrameIoConformance, seesTheMtuChange) {
  const LinkState before = io().link();
  ASSERT_TRUE(world_->setMtu(1300));
  const LinkState after = io().link();
  EXPECT_EQ(after.mtu, 1300U);
  EXPECT_GT(after.generation, before.generation);
  steer();
  expectAlive(1);
}

TEST_P(FrameIoConformance, saysThatTheInterfaceIsGone) {
  steer();
  expectAlive(1);
  ASSERT_TRUE(world_->removeInterface());
  const LinkState link = io().link();
  EXPECT_TRUE(link.gone);
  EXPECT_FALSE(link.up);
  EXPECT_FALSE(link.reason.empty());
  for (uint32_t i = 0; i < 200; ++i) {
    sendFrame(io(), outbound(), pattern(100, i));
    io().flush();
    receiveOnce(io());
    io().arm();
  }
  io().refreshStats();
  world_->close();
}

INSTANTIATE_TEST_SUITE_P(Backends, FrameIoConformance, ::testing::ValuesIn(frameVariants()),
                         [](const auto& variant) { return variant.param.name; });

}  // namespace
}  // namespace outrigger::io::testing
