// SPDX-License-Identifier: Apache-2.0
// One endpoint's flood and the others: turns, the device's ring, bounded queues, and delivery between endpoints of one device.
#include "stack_world.h"

namespace outrigger::io::testing {
namespace {

class StackFairness : public StackWorld {};
// Whether the device tells that its ring overflows.
class StackUnderFlood : public StackWorld, public ::testing::WithParamInterface<bool> {};

TEST_P(StackUnderFlood, letsNoFloodedEndpointStarveAnotherOnTheSameRing) {
  HostOptions b;
  b.station.receiveRing = 256;
  b.station.tellsOverflow = GetParam();
  makeHosts({}, b);
  auto flooded = hostB->open(kHostB);
  auto quiet = hostB->open(kHostB);
  const Bytes flood = udpFrame(kMacB, at("127.66.0.9", 1), flooded->localAddress(), pattern(200, 1));
  const Bytes drop = udpFrame(kMacB, at("127.66.0.9", 1), quiet->localAddress(), pattern(100, 2));
  constexpr int kSteps = 2000;
  int64_t quietCame = 0;
  int64_t floodCame = 0;
  for (int step = 0; step < kSteps; ++step) {
    wire.setNow(wire.nowNs() + kMs);
    // More than a poll hands out, so that the ring fills, and the quiet one's frame comes last.
    for (int i = 0; i < 150; ++i) wire.deliver(1, flood);
    wire.deliver(1, drop);
    for (const Arrival& arrival : hostB->poll(wire.nowNs())) {
      quietCame += arrival.endpoint == quiet.get() ? 1 : 0;
      floodCame += arrival.endpoint == flooded.get() ? 1 : 0;
    }
  }
  for (const Arrival& arrival : pollAll(*hostB)) quietCame += arrival.endpoint == quiet.get() ? 1 : 0;
  // Some are lost until the first overflow is noticed, and one whenever isolation ends and has to be noticed again.
  EXPECT_GE(quietCame, kSteps * 95 / 100);
  EXPECT_GE(floodCame, kSteps * 60) << "the flooded one still gets what a poll has room for";
  EXPECT_GT(flooded->stats.receiveQueueDrops.load(), 0);
  EXPECT_EQ(quiet->stats.receiveQueueDrops.load(), 0);
  EXPECT_GT(hostB->count(StackCounter::kIsolationPolls), 0);
  EXPECT_EQ(wire.outstanding(1), 0U);
}

TEST_P(StackUnderFlood, leavesTheRingAloneWhileItHasRoom) {
  HostOptions b;
  b.station.tellsOverflow = GetParam();
  makeHosts({}, b);
  auto first = hostB->open(kHostB);
  auto second = hostB->open(kHostB);
  const Bytes frame = udpFrame(kMacB, at("127.66.0.9", 1), first->localAddress(), pattern(200, 1));
  for (int i = 0; i < 1000; ++i) wire.deliver(1, frame);
  EXPECT_EQ(pollAll(*hostB).size(), 1000U) << "a burst that the ring holds loses nothing";
  EXPECT_EQ(hostB->count(StackCounter::kStashedDatagrams), 0) << "and is not copied";
  EXPECT_EQ(hostB->count(StackCounter::kIsolationPolls), 0);
}

INSTANTIATE_TEST_SUITE_P(Devices, StackUnderFlood, ::testing::Bool(),
                         [](const auto& tells) { return tells.param ? "ThatTell" : "ThatDoNot"; });

class StackWithAnEmptyFillRing : public StackWorld, public ::testing::WithParamInterface<bool> {};

// A ring that was empty for a moment: the device tries again (zero-copy), or the frame is lost.
TEST_P(StackWithAnEmptyFillRing, isolatesOnlyWhereThatLosesFrames) {
  HostOptions b;
  b.station.emptyFillRingLoses = GetParam();
  makeHosts({}, b);
  auto first = hostB->open(kHostB);
  auto second = hostB->open(kHostB);
  const Bytes frame = udpFrame(kMacB, at("127.66.0.9", 1), first->localAddress(), pattern(200, 1));
  for (int round = 0; round < 4; ++round) {
    wire.setNow(wire.nowNs() + 2 * kMs);
    hostB->station->stats.fillRingEmpty += 100;
    for (int i = 0; i < 150; ++i) wire.deliver(1, frame);
    hostB->poll(wire.nowNs());
  }
  EXPECT_EQ(hostB->count(StackCounter::kIsolationPolls) > 0, GetParam());
  pollAll(*hostB);
}

INSTANTIATE_TEST_SUITE_P(Devices, StackWithAnEmptyFillRing, ::testing::Bool(),
                         [](const auto& loses) { return loses.param ? "WithCopies" : "WithZeroCopy"; });

TEST_F(StackFairness, countsEveryFrameOfAnOverflow) {
  HostOptions b;
  b.station.receiveRing = 100;
  makeHosts({}, b);
  auto endpoint = hostB->open(kHostB);
  const Bytes frame = udpFrame(kMacB, at("127.66.0.9", 1), endpoint->localAddress(), pattern(200, 1));
  for (int i = 0; i < 250; ++i) wire.deliver(1, frame);
  EXPECT_EQ(pollAll(*hostB).size(), 100U);
  EXPECT_EQ(hostB->io().totals().network[networkIndex(DeviceCounter::kRingFullDrops)], 150);
}

TEST_F(StackFairness, tellsEveryLossThatTheDeviceCounts) {
  makeHosts();
  FrameStats& device = hostB->station->stats;
  const std::vector<std::pair<DeviceCounter, std::atomic<int64_t>*>> counters = {
      {DeviceCounter::kRingFullDrops, &device.ringFullDrops},     {DeviceCounter::kNoBuffer, &device.noBuffer},
      {DeviceCounter::kFillRingEmpty, &device.fillRingEmpty},     {DeviceCounter::kInvalidDescriptors, &device.invalidDescriptors},
      {DeviceCounter::kTransmitErrors, &device.transmitErrors},   {DeviceCounter::kOversizedFrames, &device.oversizedFrames},
      {DeviceCounter::kOtherVlanFrames, &device.otherVlanFrames}, {DeviceCounter::kLeftToKernel, &device.leftToKernel},
      {DeviceCounter::kReceiveErrors, &device.receiveErrors},     {DeviceCounter::kExceptionFrames, &device.exceptionFrames},
      {DeviceCounter::kExceptionDrops, &device.exceptionDrops}};
  EXPECT_EQ(counters.size(), static_cast<size_t>(DeviceCounter::kZeroCopySends) - 2)
      << "all but frames received and sent, and what is of uring";
  for (size_t i = 0; i < counters.size(); ++i) counters[i].second->store(static_cast<int64_t>(100 + i));
  const auto totals = hostB->io().totals();
  for (size_t i = 0; i < counters.size(); ++i) {
    const size_t index = networkIndex(counters[i].first);
    EXPECT_EQ(totals.network[index], static_cast<int64_t>(100 + i)) << networkCounterName(index);
  }
}

TEST_F(StackFairness, boundsWhatWaitsByTheReceiveBuffer) {
  HostOptions b;
  b.faces = 2;
  makeHosts({}, b);
  auto polled = hostB->open(kHostB, 0, 0);
  auto waiting = hostB->open(kHostB, 0, 1, 4096);
  const Bytes frame = udpFrame(kMacB, at("127.66.0.9", 1), waiting->localAddress(), pattern(1000, 1));
  for (int i = 0; i < 100; ++i) wire.deliver(1, frame);
  EXPECT_TRUE(pollAll(*hostB, 0).empty());
  while (!hostB->station->arm()) hostB->poll(wire.nowNs(), 0);
  const auto arrivals = pollAll(*hostB, 1);
  EXPECT_EQ(static_cast<int64_t>(arrivals.size()) + waiting->stats.receiveQueueDrops.load(), 100);
  EXPECT_LE(static_cast<int64_t>(arrivals.size()) * 1000, std::max(waiting->receiveBufferBytes(), 1000));
  EXPECT_GT(arrivals.size(), 0U);
}

TEST_F(StackFairness, closesAnEndpointWithDatagramsWaitingAndGivesTheirBuffersBack) {
  HostOptions b;
  b.faces = 2;
  makeHosts({}, b);
  auto polled = hostB->open(kHostB, 0, 0);
  auto doomed = hostB->open(kHostB, 0, 1);
  const Bytes frame = udpFrame(kMacB, at("127.66.0.9", 1), doomed->localAddress(), pattern(1000, 1));
  for (int i = 0; i < 100; ++i) wire.deliver(1, frame);
  while (!hostB->station->arm()) hostB->poll(wire.nowNs(), 0);
  EXPECT_GT(wire.outstanding(1), 0U);
  hostB->io(1).detach(*doomed);
  EXPECT_EQ(wire.outstanding(1), 0U);
  EXPECT_TRUE(hostB->io(1).arm());
}

class OwnDevice : public StackWorld {
 protected:
  void SetUp() override {
    HostOptions options;
    options.address = "10.77.0.1";
    options.kernelOwnsDevice = false;
    options.faces = 2;
    hostA = std::make_unique<Host>(wire, options);
  }
};

TEST_F(OwnDevice, deliversBetweenItsOwnEndpointsWithoutAWire) {
  auto from = hostA->open("10.77.0.1", 0, 0);
  auto to = hostA->open("10.77.0.1", 0, 1);
  auto next = hostA->hop(*from, to->localAddress());
  const Bytes bytes = pattern(100 * 1000 + 7, 1);
  EXPECT_EQ(hostA->send(*from, *next, bytes, 1000).status, TxStatus::kSent);
  EXPECT_EQ(hostA->sendControl(*from, to->localAddress(), pattern(36, 2)), TxStatus::kSent);
  const auto arrivals = pollAll(*hostA, 1);
  ASSERT_EQ(arrivals.size(), 102U);
  Bytes joined;
  for (size_t i = 0; i < 101; ++i) joined.insert(joined.end(), arrivals[i].bytes.begin(), arrivals[i].bytes.end());
  EXPECT_EQ(joined, bytes);
  EXPECT_EQ(arrivals[101].bytes, pattern(36, 2));
  EXPECT_EQ(arrivals[0].source, from->localAddress());
  EXPECT_EQ(hostA->count(StackCounter::kFramesSent), 1) << "its announcement, nothing else";
}

TEST_F(OwnDevice, refusesAnAddressThatItDoesNotHaveAndNamesIt) {
  EndpointConfig config;
  config.bindAddress = at("10.77.0.2", 4000);
  auto endpoint = hostA->io().openEndpoint(config);
  ASSERT_FALSE(endpoint.ok());
  EXPECT_EQ(endpoint.error().sysErrno, EADDRNOTAVAIL);
  EXPECT_NE(endpoint.error().message.find("10.77.0.2:4000"), std::string::npos) << endpoint.error().message;
}

TEST_F(OwnDevice, tellsTheLongestDatagramBothWays) {
  auto endpoint = hostA->open("10.77.0.1");
  EXPECT_EQ(endpoint->longestReceivable(), 1472U);
  EXPECT_EQ(hostA->hop(*endpoint, at("10.77.0.2", 9))->longestDatagram(), 1472U);
  hostA->tables->setMtu(1400);
  EXPECT_EQ(hostA->hop(*endpoint, at("10.77.0.2", 9))->longestDatagram(), 1372U);
  wire.setMtu(0, 1300);
  hostA->io().health();
  EXPECT_EQ(endpoint->longestReceivable(), 1272U);
  EXPECT_EQ(hostA->hop(*endpoint, at("10.77.0.2", 9))->longestDatagram(), 1272U);
}

class NoisyWire : public StackWorld, public ::testing::WithParamInterface<uint64_t> {};

// Loss, order, copies and damage as a wire may have them: what arrives is what was sent, and no buffer is lost.
TEST_P(NoisyWire, deliversNothingThatWasNotSent) {
  HostOptions a;
  a.address = "10.77.0.1";
  a.peer = "10.77.0.2";
  a.kernelOwnsDevice = false;
  HostOptions b = a;
  std::swap(b.address, b.peer);
  b.mac = kMacB;
  hostA = std::make_unique<Host>(wire, a);
  hostB = std::make_unique<Host>(wire, b);
  SimWireOptions options;
  options.seed = GetParam();
  options.loss = 0.1;
  options.duplicate = 0.1;
  options.corrupt = 0.2;
  options.reorder = 0.2;
  options.jitterNs = 100'000;
  wire.setOptions(options);
  auto from = hostA->open("10.77.0.1");
  auto to = hostB->open("10.77.0.2");
  auto next = hostA->hop(*from, to->localAddress());
  std::vector<int> came(2000, 0);
  for (uint32_t i = 0; i < came.size(); ++i) {
    wire.setNow(wire.nowNs() + 20 * kMs);
    Bytes bytes = pattern(200 + i % 1000, i);
    std::memcpy(bytes.data(), &i, sizeof(i));
    hostA->send(*from, *next, bytes);
    hostA->poll(wire.nowNs());
    for (const Arrival& arrival : hostB->poll(wire.nowNs())) {
      uint32_t number = 0;
      std::memcpy(&number, arrival.bytes.data(), sizeof(number));
      ASSERT_LT(number, came.size());
      Bytes expected = pattern(200 + number % 1000, number);
      std::memcpy(expected.data(), &number, sizeof(number));
      ASSERT_EQ(arrival.bytes, expected) << "seed " << GetParam() << " datagram " << number;
      ++came[number];
    }
  }
  EXPECT_GT(std::count_if(came.begin(), came.end(), [](int count) { return count > 0; }), 1000) << "seed " << GetParam();
  pollAll(*hostA);
  pollAll(*hostB);
  EXPECT_EQ(wire.outstanding(0) + wire.outstanding(1), 0U);
}

INSTANTIATE_TEST_SUITE_P(Seeds, NoisyWire, ::testing::Range<uint64_t>(1, 9));

}  // namespace
}  // namespace outrigger::io::testing
