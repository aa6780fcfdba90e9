// SPDX-License-Identifier: Apache-2.0
// Datagrams between two hosts on the simulated wire: addresses, trains, sizes, faces, the kernel's way.
#include "stack_world.h"

namespace outrigger::io::testing {
namespace {

class StackDatagrams : public StackWorld {};

TEST_F(StackDatagrams, travelWithTheirAddressesAndAreValidUdp) {
  makeHosts();
  auto from = hostA->open(kHostA);
  auto to = hostB->open(kHostB);
  auto next = hostA->hop(*from, to->localAddress());
  const Bytes bytes = pattern(1408, 1);
  EXPECT_EQ(hostA->send(*from, *next, bytes).status, TxStatus::kSent);
  const auto arrivals = pollAll(*hostB);
  ASSERT_EQ(arrivals.size(), 1U);
  EXPECT_EQ(arrivals[0].bytes, bytes);
  EXPECT_EQ(arrivals[0].source, from->localAddress());
  EXPECT_EQ(arrivals[0].destination, to->localAddress());
  EXPECT_EQ(arrivals[0].endpoint, to.get());
  EXPECT_EQ(hostA->count(StackCounter::kFramesSent), 1);
  EXPECT_EQ(hostA->count(StackCounter::kKernelSends), 0);
}

TEST_F(StackDatagrams, ofAnyLengthSurviveVerificationOfTheirChecksum) {
  makeHosts();
  auto from = hostA->open(kHostA);
  auto to = hostB->open(kHostB);
  auto next = hostA->hop(*from, to->localAddress());
  for (size_t length = 1; length <= 1472; length += length < 70 ? 1 : 97) {
    const Bytes bytes = pattern(length, static_cast<uint32_t>(length));
    ASSERT_EQ(hostA->send(*from, *next, bytes).status, TxStatus::kSent);
    const auto arrivals = pollAll(*hostB);
    ASSERT_EQ(arrivals.size(), 1U) << length;
    ASSERT_EQ(arrivals[0].bytes, bytes);
  }
}

TEST_F(StackDatagrams, ofASliceAreCutAndArriveInOrder) {
  makeHosts();
  auto from = hostA->open(kHostA);
  auto to = hostB->open(kHostB);
  auto next = hostA->hop(*from, to->localAddress());
  const Bytes bytes = pattern(100 * 1408 + 123, 3);
  const TxItem item = hostA->send(*from, *next, bytes, 1408);
  EXPECT_EQ(item.status, TxStatus::kSent);
  EXPECT_EQ(item.sentBytes, bytes.size());
  Bytes joined;
  for (const Arrival& arrival : pollAll(*hostB)) joined.insert(joined.end(), arrival.bytes.begin(), arrival.bytes.end());
  EXPECT_EQ(joined, bytes);
  EXPECT_EQ(hostA->count(StackCounter::kFramesSent), 101);
}

TEST_F(StackDatagrams, ofASliceGoAsTrainsWhereTheDeviceSegments) {
  HostOptions a;
  a.station.transmitSegmentation = true;
  a.station.transmitBufferLength = 65536;
  makeHosts(a);
  auto from = hostA->open(kHostA);
  auto to = hostB->open(kHostB);
  auto next = hostA->hop(*from, to->localAddress());
  const Bytes bytes = pattern(100 * 1408 + 123, 3);
  EXPECT_EQ(hostA->send(*from, *next, bytes, 1408).status, TxStatus::kSent);
  const auto arrivals = pollAll(*hostB);
  ASSERT_EQ(arrivals.size(), 101U);
  Bytes joined;
  for (const Arrival& arrival : arrivals) joined.insert(joined.end(), arrival.bytes.begin(), arrival.bytes.end());
  EXPECT_EQ(joined, bytes);
  EXPECT_TRUE(arrivals[0].train);
  EXPECT_EQ(hostA->count(StackCounter::kFramesSent), 3);
  EXPECT_EQ(hostB->count(StackCounter::kTrainsReceived), 3);
}

TEST_F(StackDatagrams, ofAnEndpointWithoutRoomBlockAndGoOnWhereTheyStopped) {
  HostOptions a;
  a.station.transmitRing = 5;
  makeHosts(a);
  auto from = hostA->open(kHostA);
  auto to = hostB->open(kHostB);
  auto next = hostA->hop(*from, to->localAddress());
  const Bytes bytes = pattern(12 * 100, 3);
  // Somebody else holds the device's buffers, all but two.
  std::array<TxFrame, 3> held;
  ASSERT_EQ(hostA->station->reserve(held), 3U);
  TxItem item;
  item.nextHop = next.get();
  item.data = bytes.data();
  item.length = 1200;
  item.segmentLength = 100;
  uint32_t done = 0;
  while (done < 1200) {
    item.data = bytes.data() + done;
    item.length = 1200 - done;
    hostA->io().transmit(*from, {&item, 1});
    done += item.sentBytes;
    if (done < 1200) {
      ASSERT_EQ(item.status, TxStatus::kWouldBlock);
    }
    ASSERT_GT(item.sentBytes, 0U);
  }
  Bytes joined;
  for (const Arrival& arrival : pollAll(*hostB)) joined.insert(joined.end(), arrival.bytes.begin(), arrival.bytes.end());
  EXPECT_EQ(joined, bytes);
  hostA->station->abort(held);
  EXPECT_EQ(wire.outstanding(0), 0U);
}

TEST_F(StackDatagrams, overJumboFramesGoInSeveralBuffersAndArePutTogether) {
  HostOptions a;
  a.station.mtu = 9000;
  a.station.transmitBufferLength = 2048;
  a.station.maxTransmitPieces = 5;
  HostOptions b = a;
  b.station.receiveBufferLength = 2048;
  makeHosts(a, b);
  auto from = hostA->open(kHostA);
  auto to = hostB->open(kHostB);
  auto next = hostA->hop(*from, to->localAddress());
  for (const size_t length : {2006, 2007, 4054, 8972}) {
    const Bytes bytes = pattern(length, 7);
    ASSERT_EQ(hostA->send(*from, *next, bytes).status, TxStatus::kSent);
    const auto arrivals = pollAll(*hostB);
    ASSERT_EQ(arrivals.size(), 1U) << length;
    EXPECT_EQ(arrivals[0].bytes, bytes);
  }
  EXPECT_EQ(hostB->count(StackCounter::kLinearisedFrames), 3);
  EXPECT_EQ(wire.outstanding(1), 0U);
}

TEST_F(StackDatagrams, ofControlAreBuiltInTheDevicesBuffer) {
  makeHosts();
  auto from = hostA->open(kHostA);
  auto to = hostB->open(kHostB);
  const Bytes bytes = pattern(36, 4);
  EXPECT_EQ(hostA->sendControl(*from, to->localAddress(), bytes), TxStatus::kSent);
  const auto arrivals = pollAll(*hostB);
  ASSERT_EQ(arrivals.size(), 1U);
  EXPECT_EQ(arrivals[0].bytes, bytes);
  EXPECT_EQ(arrivals[0].source, from->localAddress());
  EXPECT_EQ(hostA->count(StackCounter::kFramesSent), 1);
  EXPECT_EQ(hostA->count(StackCounter::kKernelSends), 0);
}

TEST_F(StackDatagrams, forTheOtherFaceWaitForItsPoll) {
  HostOptions b;
  b.faces = 2;
  makeHosts({}, b);
  auto from = hostA->open(kHostA);
  auto first = hostB->open(kHostB, 0, 0);
  auto second = hostB->open(kHostB, 0, 1);
  auto toFirst = hostA->hop(*from, first->localAddress());
  auto toSecond = hostA->hop(*from, second->localAddress());
  for (uint32_t i = 0; i < 10; ++i) {
    hostA->send(*from, *toFirst, pattern(100, i));
    hostA->send(*from, *toSecond, pattern(200, i));
  }
  const auto forFirst = pollAll(*hostB, 0);
  EXPECT_FALSE(hostB->io(1).arm()) << "what waits must not sleep";
  const auto forSecond = pollAll(*hostB, 1);
  ASSERT_EQ(forFirst.size(), 10U);
  ASSERT_EQ(forSecond.size(), 10U);
  for (uint32_t i = 0; i < 10; ++i) {
    EXPECT_EQ(forFirst[i].bytes, pattern(100, i));
    EXPECT_EQ(forSecond[i].bytes, pattern(200, i));
  }
  EXPECT_EQ(hostB->count(StackCounter::kStashedDatagrams), 10);
  EXPECT_EQ(wire.outstanding(1), 0U);
}

TEST_F(StackDatagrams, tellWhenTheyArrivedHoweverLongTheyWaitAndHoweverManyBuffersTheyCameIn) {
  for (const uint32_t bufferLength : {0U, 512U}) {
    HostOptions b;
    b.faces = 2;
    b.station.arrivalTimes = true;
    b.station.receiveBufferLength = bufferLength;
    makeHosts({}, b);
    auto from = hostA->open(kHostA);
    auto first = hostB->open(kHostB, 0, 0);
    auto second = hostB->open(kHostB, 0, 1);
    auto toFirst = hostA->hop(*from, first->localAddress());
    auto toSecond = hostA->hop(*from, second->localAddress());
    hostA->send(*from, *toFirst, pattern(1200, 1));
    hostA->send(*from, *toSecond, pattern(1200, 2));
    const auto forFirst = pollAll(*hostB, 0);
    const int64_t arrivedNs = wire.nowNs();
    ASSERT_EQ(forFirst.size(), 1U);
    EXPECT_EQ(forFirst[0].arrivedNs, arrivedNs);
    EXPECT_GT(arrivedNs, 0);
    wire.setNow(arrivedNs + 1'000'000);
    const auto forSecond = pollAll(*hostB, 1);
    ASSERT_EQ(forSecond.size(), 1U);
    EXPECT_EQ(forSecond[0].bytes, pattern(1200, 2));
    EXPECT_EQ(forSecond[0].arrivedNs, arrivedNs);
  }
}

TEST_F(StackDatagrams, forAFaceThatIsNotPolledAreBoundedAndTheLossIsCounted) {
  HostOptions b;
  b.faces = 2;
  makeHosts({}, b);
  auto from = hostA->open(kHostA);
  auto first = hostB->open(kHostB, 0, 0);
  auto second = hostB->open(kHostB, 0, 1);
  auto toFirst = hostA->hop(*from, first->localAddress());
  auto toSecond = hostA->hop(*from, second->localAddress());
  int64_t received = 0;
  for (uint32_t i = 0; i < 500; ++i) {
    hostA->send(*from, *toSecond, pattern(200, i));
    hostA->send(*from, *toFirst, pattern(100, i));
    received += static_cast<int64_t>(pollAll(*hostB, 0).size());
  }
  EXPECT_EQ(received, 500) << "the face that polls loses nothing to the other";
  const auto late = pollAll(*hostB, 1);
  EXPECT_EQ(static_cast<int64_t>(late.size()) + second->stats.receiveQueueDrops.load(), 500);
  EXPECT_EQ(late.size(), StackEndpoint::kMaxWaiting);
  EXPECT_EQ(wire.outstanding(1), 0U);
}

// Tables whose addresses can't be read for the moment: somebody is changing them.
class BusyTables final : public net::KernelTables {
 public:
  explicit BusyTables(std::shared_ptr<net::FixedTables> tables) : tables_(std::move(tables)) {}
  net::RouteAnswer lookup(const net::RouteQuestion& question) override { return tables_->lookup(question); }
  void watch(net::RouteCell& cell) override { tables_->watch(cell); }
  void forget(net::RouteCell& cell) override { tables_->forget(cell); }
  void refresh(net::RouteCell& cell) override { tables_->refresh(cell); }
  uint64_t addressVersion() const override { return tables_->addressVersion() + (busy ? 1 : 0); }
  bool copyAddresses(std::vector<net::LocalAddress>& out) const override { return !busy && tables_->copyAddresses(out); }

  bool busy = false;

 private:
  std::shared_ptr<net::FixedTables> tables_;
};

TEST_F(StackDatagrams, toAWildcardPortArriveAlsoWhileTheAddressesAreBeingChanged) {
  auto fixed = std::make_shared<net::FixedTables>(kInterface, 1500);
  ASSERT_TRUE(fixed->addAddress(std::string(kHostA) + "/24").ok());
  auto tables = std::make_shared<BusyTables>(fixed);
  SimStationOptions station;
  station.mac = kMacA;
  station.interfaceIndex = kInterface;
  auto stack = NetStack::create(wire.createStation(station), tables, {});
  ASSERT_TRUE(stack.ok()) << stack.error().message;
  tables->busy = true;
  StackFace face(*stack, 0);
  EndpointConfig config;
  config.bindAddress = at("0.0.0.0");
  auto endpoint = face.openEndpoint(config);
  ASSERT_TRUE(endpoint.ok()) << endpoint.error().message;
  face.attach(**endpoint);
  wire.deliver(0, udpFrame(kMacA, at("127.66.0.9", 4000), at(kHostA, (*endpoint)->localAddress().port()), pattern(100, 1)));
  settle();
  RxBurst burst;
  ASSERT_EQ(face.poll(burst, wire.nowNs()), 1U) << "the list from before the change still holds";
  EXPECT_EQ(*burst.packets[0].destination, at(kHostA, (*endpoint)->localAddress().port()));
  face.detach(**endpoint);
}

TEST_F(StackDatagrams, toOurOwnAddressGoThroughTheKernel) {
  makeHosts();
  auto from = hostA->open(kHostA);
  auto to = hostA->open(kHostA);
  auto next = hostA->hop(*from, to->localAddress());
  const Bytes bytes = pattern(100, 1);
  EXPECT_EQ(hostA->send(*from, *next, bytes).status, TxStatus::kSent);
  const auto arrivals = pollAll(*hostA);
  ASSERT_EQ(arrivals.size(), 1U);
  EXPECT_EQ(arrivals[0].bytes, bytes);
  EXPECT_EQ(arrivals[0].endpoint, to.get());
  EXPECT_EQ(hostA->count(StackCounter::kKernelSends), 1);
  EXPECT_EQ(hostA->count(StackCounter::kKernelDatagrams), 1);
}

}  // namespace
}  // namespace outrigger::io::testing
