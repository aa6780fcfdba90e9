// SPDX-License-Identifier: Apache-2.0
// What the socket backends do with a real kernel beyond the common suite: trains on the wire, refusals at run time, full
// socket buffers, late ICMP errors, and the factory.
#include <netinet/udp.h>

#include <cstdlib>

#include "conformance_world.h"
#include "io/posix/udp_endpoint.h"
#include "tap_network.h"

namespace outrigger::io::testing {
namespace {

int fdOf(Endpoint& endpoint) { return static_cast<UdpEndpoint&>(endpoint).fd(); }

void setOption(Endpoint& endpoint, int level, int option, int value) {
  ASSERT_EQ(::setsockopt(fdOf(endpoint), level, option, &value, sizeof(value)), 0) << std::strerror(errno);
}

std::unique_ptr<DatagramIo> make(const std::string& name, bool segmentation = true) {
  BackendOptions options;
  options.segmentation = segmentation;
  auto io = makeBackend(name, options);
  EXPECT_TRUE(io.ok()) << io.error().message;
  return io.take();
}

TEST(Backend, unknownNameIsAnErrorThatListsTheKnownOnes) {
  auto io = makeBackend("mmesg", BackendOptions{});
  ASSERT_FALSE(io.ok());
  EXPECT_EQ(io.error().message.find("backend 'mmesg' is unknown, allowed are "), 0U) << io.error().message;
  for (const std::string& name : backendNames()) EXPECT_NE(io.error().message.find(name), std::string::npos) << io.error().message;
}

TEST(Backend, receiveSlotsOutOfRangeAreAnError) {
  BackendOptions options;
  options.receiveSlots = 65;
  auto io = makeBackend("mmsg", options);
  ASSERT_FALSE(io.ok());
  EXPECT_NE(io.error().message.find("receiveSlots=65"), std::string::npos) << io.error().message;
}

TEST(Backend, malformedImpairmentIsAnError) {
  BackendOptions options;
  options.impair = "loss=2";
  auto io = makeBackend("mmsg", options);
  ASSERT_FALSE(io.ok());
  EXPECT_NE(io.error().message.find("loss=2"), std::string::npos) << io.error().message;
}

TEST(Backend, saysWhatItCanDoAndWhyNotMore) {
  EXPECT_EQ(make("socket")->caps().maxTrainSegments, 1U);
  EXPECT_FALSE(make("socket")->caps().segmentationOffload);
  const auto full = make("mmsg");
  EXPECT_TRUE(full->caps().segmentationOffload) << full->caps().reason;
  EXPECT_TRUE(full->caps().receiveCoalescing) << full->caps().reason;
  EXPECT_EQ(full->caps().reason, "");
  EXPECT_EQ(full->caps().maxTrainSegments, 64U);
  BackendOptions options;
  options.segmentation = false;
  options.coalescing = false;
  options.impair = "rx-loss=0.5,seed=3";
  auto reduced = makeBackend("mmsg", options);
  ASSERT_TRUE(reduced.ok());
  EXPECT_FALSE(reduced.value()->caps().segmentationOffload);
  EXPECT_EQ(reduced.value()->caps().maxTrainSegments, 1U);
  EXPECT_EQ(reduced.value()->caps().reason,
            "UDP_SEGMENT: switched off by configuration; UDP_GRO: switched off by configuration; "
            "traffic is impaired on purpose: rx-loss=0.5,seed=3");
}

class Environment : public ::testing::Test {
 protected:
  void TearDown() override {
    for (const char* name : {"OUTRIGGER_UDP_SEGMENT", "OUTRIGGER_UDP_GRO", "OUTRIGGER_BUSY_POLL_US", "OUTRIGGER_IMPAIR"}) {
      ::unsetenv(name);
    }
  }
};

TEST_F(Environment, overridesOptions) {
  ::setenv("OUTRIGGER_UDP_SEGMENT", "off", 1);
  ::setenv("OUTRIGGER_UDP_GRO", "off", 1);
  ::setenv("OUTRIGGER_BUSY_POLL_US", "50", 1);
  ::setenv("OUTRIGGER_IMPAIR", "loss=0.25", 1);
  BackendOptions options;
  ASSERT_TRUE(applyEnvironment(options).ok());
  EXPECT_FALSE(options.segmentation);
  EXPECT_FALSE(options.coalescing);
  EXPECT_EQ(options.busyPollUs, 50);
  EXPECT_EQ(options.impair, "loss=0.25");
}

TEST_F(Environment, leavesOptionsAloneWhenUnsetOrEmpty) {
  ::setenv("OUTRIGGER_UDP_SEGMENT", "", 1);
  BackendOptions options;
  ASSERT_TRUE(applyEnvironment(options).ok());
  EXPECT_TRUE(options.segmentation);
  EXPECT_EQ(options.busyPollUs, 0);
}

TEST_F(Environment, namesTheBadVariableItsValueAndWhatIsAllowed) {
  for (const auto& [name, value, allowed] : {std::tuple{"OUTRIGGER_UDP_SEGMENT", "yes", "on, off"},
                                             {"OUTRIGGER_UDP_GRO", "1", "on, off"},
                                             {"OUTRIGGER_BUSY_POLL_US", "50us", "0 to 1000000"},
                                             {"OUTRIGGER_IMPAIR", "los=1", "loss, dup"}}) {
    ::setenv(name, value, 1);
    BackendOptions options;
    const auto result = applyEnvironment(options);
    ASSERT_FALSE(result.ok()) << name;
    for (const char* part : {name, value, allowed}) {
      EXPECT_NE(result.error().message.find(part), std::string::npos) << result.error().message;
    }
    ::unsetenv(name);
  }
}

TEST(UdpEndpoint, refusesMulticastGroupsWithAReason) {
  EndpointConfig config;
  config.bindAddress = address("224.0.1.1", 40456);
  auto endpoint = make("mmsg")->openEndpoint(config);
  ASSERT_FALSE(endpoint.ok());
  EXPECT_EQ(endpoint.error().code, ErrorCode::kNotSupported);
}

TEST(UdpEndpoint, namesTheInterfaceThatDoesNotExist) {
  EndpointConfig config;
  config.bindAddress = address("0.0.0.0");
  config.interfaceName = "nosuch0";
  auto endpoint = make("socket")->openEndpoint(config);
  ASSERT_FALSE(endpoint.ok());
  EXPECT_NE(endpoint.error().message.find("nosuch0"), std::string::npos) << endpoint.error().message;
}

TEST(UdpEndpoint, setsBusyPollingOrSaysWhyNot) {
  BackendOptions options;
  options.busyPollUs = 50;
  auto io = makeBackend("mmsg", options).take();
  EndpointConfig config;
  config.bindAddress = address("127.0.0.1");
  auto endpoint = io->openEndpoint(config);
  if (!endpoint.ok()) {
    EXPECT_NE(endpoint.error().message.find("SO_BUSY_POLL=50"), std::string::npos) << endpoint.error().message;
    return;
  }
  int value = 0;
  socklen_t length = sizeof(value);
  ASSERT_EQ(::getsockopt(fdOf(**endpoint), SOL_SOCKET, SO_BUSY_POLL, &value, &length), 0);
  EXPECT_EQ(value, 50);
}

TEST(UdpEndpoint, reportsGrantedBuffersInTheUnitTheyWereAskedIn) {
  auto io = make("socket");
  auto endpoint = openAt(*io, address("127.0.0.1"), 100'000, 50'000);
  EXPECT_EQ(endpoint->receiveBufferBytes(), 100'000);
  EXPECT_EQ(endpoint->sendBufferBytes(), 50'000);
  io->detach(*endpoint);
}

class WokenSockets : public ::testing::TestWithParam<const char*> {};

// An epoll descriptor that watches a socket is called for each datagram, on the sender's account.
TEST_P(WokenSockets, areWatchedByNobodyOnceTheirThreadHasNotSleptForLong) {
  const auto io = make(GetParam());
  const auto to = openAt(*io, address("127.0.0.1"));
  const auto next = hop(*io, *to, to->localAddress());
  const Bytes bytes = pattern(64, 1);
  std::vector<TxItem> items{item(*next, bytes)};
  pollfd handle{io->waitHandle(), POLLIN, 0};
  ASSERT_TRUE(io->arm());
  for (int i = 0; i < 10'000; ++i) pollOnce(*io, 0);
  ASSERT_EQ(io->transmit(*to, items), 1U);
  EXPECT_EQ(::poll(&handle, 1, 0), 0);
  EXPECT_FALSE(io->arm()) << "it is there, though nobody was woken";
  EXPECT_EQ(::poll(&handle, 1, 0), 1) << "and would wake whoever sleeps now";
  io->detach(*to);
}

INSTANTIATE_TEST_SUITE_P(Backends, WokenSockets, ::testing::Values("socket", "mmsg"), [](const auto& one) { return one.param; });

// The kernel takes the time of every packet of the host for as long as one socket asks.
TEST(UdpEndpoint, asksForArrivalTimesWhereItShouldAndForNoneAfterOneThatDid) {
  const auto asks = [](Endpoint& endpoint) {
    int value = -1;
    socklen_t length = sizeof(value);
    EXPECT_EQ(::getsockopt(fdOf(endpoint), SOL_SOCKET, SO_TIMESTAMPNS, &value, &length), 0);
    return value != 0;
  };
  const auto first = make("mmsg");
  const auto second = make("mmsg");
  auto plain = openAt(*first, address("127.0.0.1"));
  EXPECT_FALSE(asks(*plain));
  auto timed = openAt(*first, address("127.0.0.1"), 0, 0, true);
  EXPECT_TRUE(asks(*timed));
  EndpointConfig config;
  config.bindAddress = timed->localAddress();
  config.predecessor = timed.get();
  auto after = second->openEndpoint(config);
  ASSERT_TRUE(after.ok()) << after.error().message;
  EXPECT_FALSE(asks(**after));
  for (Endpoint* each : {plain.get(), timed.get()}) first->detach(*each);
}

TEST(MmsgIo, movesATrainAsOnePacketFromEndToEnd) {
  auto io = make("mmsg");
  auto to = openAt(*io, address("127.0.0.1"), 1 << 20);
  auto from = openAt(*io, address("127.0.0.1"));
  auto next = hop(*io, *from, to->localAddress());
  const Bytes bytes = pattern(46 * 1408, 1);
  std::vector<TxItem> items{item(*next, bytes, 1408)};
  ASSERT_EQ(io->transmit(*from, items), 1U);
  RxBurst burst;
  EXPECT_EQ(io->poll(burst, 0), 46U);
  ASSERT_EQ(burst.count, 1U);
  EXPECT_EQ(burst.packets[0].segmentLength, 1408U);
  EXPECT_EQ(Bytes(burst.packets[0].data, burst.packets[0].data + burst.packets[0].length), bytes);
  EXPECT_EQ(from->stats.segmentationFallbacks.load(), 0);
}

TEST(MmsgIo, splitsATrainThatTheKernelRefusesAndRemembersItForThatDestination) {
  auto io = make("mmsg");
  auto to = openAt(*io, address("127.0.0.1"), 1 << 20);
  auto from = openAt(*io, address("127.0.0.1"));
  // Without UDP checksums the kernel segments nothing: sendmmsg answers EINVAL.
  setOption(*from, SOL_SOCKET, SO_NO_CHECK, 1);
  auto refused = hop(*io, *from, to->localAddress());
  auto other = hop(*io, *from, to->localAddress());
  const Bytes train = pattern(20 * 500 + 77, 1);
  const Bytes single = pattern(300, 2);
  std::vector<TxItem> items{item(*other, single), item(*refused, train, 500), item(*other, single)};
  ASSERT_EQ(io->transmit(*from, items), 3U);
  for (const TxItem& sent : items) {
    EXPECT_EQ(sent.status, TxStatus::kSent);
    EXPECT_EQ(sent.sentBytes, sent.length);
  }
  EXPECT_TRUE(refused->segmentationRefused);
  EXPECT_FALSE(other->segmentationRefused);
  EXPECT_EQ(from->stats.segmentationFallbacks.load(), 1);
  EXPECT_EQ(from->stats.sendErrors.load(), 0);
  ASSERT_EQ(io->transmit(*from, items), 3U);
  EXPECT_EQ(from->stats.segmentationFallbacks.load(), 1) << "a refused path is not tried again";

  RealWorld world("mmsg", {});
  const auto arrivals = collect(world, *io, 46);
  ASSERT_EQ(arrivals.size(), 46U);
  Bytes joined;
  for (size_t i = 1; i < 22; ++i) joined.insert(joined.end(), arrivals[i].bytes.begin(), arrivals[i].bytes.end());
  EXPECT_EQ(joined, train);
}

class LateErrors : public ::testing::TestWithParam<std::string> {};

TEST_P(LateErrors, ofOneDestinationCostNoOtherItsDatagram) {
  auto io = make(GetParam());
  auto receiver = make(GetParam());
  auto alive = openAt(*receiver, address("127.0.0.1"), 1 << 20);
  auto from = openAt(*io, address("127.0.0.1"));
  setOption(*from, IPPROTO_IP, IP_RECVERR, 1);  // makes ICMP errors surface on an unconnected socket
  auto toAlive = hop(*io, *from, alive->localAddress());
  SockAddr closed;
  {
    auto gone = openAt(*receiver, address("127.0.0.1"));
    closed = gone->localAddress();
    receiver->detach(*gone);
  }
  auto toClosed = hop(*io, *from, closed);
  auto backwards = hop(*receiver, *alive, from->localAddress());
  const Bytes bytes = pattern(4 * 200, 5);
  RealWorld world("socket", {});
  size_t heard = 0;
  for (int round = 0; round < 20; ++round) {
    std::vector<TxItem> items{item(*toClosed, bytes), item(*toAlive, bytes, 200), item(*toClosed, bytes), item(*toAlive, bytes)};
    ASSERT_EQ(io->transmit(*from, items), 4U);
    EXPECT_EQ(items[1].status, TxStatus::kSent);
    EXPECT_EQ(items[3].status, TxStatus::kSent);
    std::vector<TxItem> probe{item(*toClosed, bytes)};
    io->transmit(*from, probe);  // leaves an error behind for the receive call to meet
    TxSlot slot;
    ASSERT_EQ(io->reserve(*from, alive->localAddress(), 36, slot), TxStatus::kPending);
    EXPECT_EQ(io->commit(*from, alive->localAddress(), slot, 36), TxStatus::kSent);
    std::vector<TxItem> back{item(*backwards, bytes)};
    ASSERT_EQ(receiver->transmit(*alive, back), 1U);
    EXPECT_EQ(back[0].status, TxStatus::kSent);
    heard += pollOnce(*io, 0).size();
  }
  EXPECT_EQ(collect(world, *receiver, 120).size(), 120U) << "4 + 1 data and 1 control datagram a round";
  EXPECT_EQ(heard, 20U);
  EXPECT_GT(from->stats.sendErrors.load(), 0) << "the lost ones are counted";
}

INSTANTIATE_TEST_SUITE_P(Backends, LateErrors, ::testing::Values("socket", "mmsg", "uring"), [](const auto& name) { return name.param; });

struct FullBufferCase {
  std::string name;
  std::string backend;
  bool segmentation;
  uint32_t itemLength;  // segments of 1000 bytes
  int32_t sendBufferBytes;
};
std::ostream& operator<<(std::ostream& out, const FullBufferCase& one) { return out << one.name; }

class FullSendBuffer : public ::testing::TestWithParam<FullBufferCase> {};

// Nobody answers for the peer, so what is sent waits in the kernel and fills the socket buffer; once the peer answers, the
// rest goes out. Nothing may be lost, sent twice, or out of order.
TEST_P(FullSendBuffer, blocksPartWayAndLosesNothing) {
  TapNetwork::run([&](TapNetwork& network) {
    const FullBufferCase& test = GetParam();
    auto io = make(test.backend, test.segmentation);
    auto from = openAt(*io, address(TapNetwork::kLocal), 0, test.sendBufferBytes);
    auto next = hop(*io, *from, address(TapNetwork::kPeer, 5000));
    std::vector<Bytes> payloads;
    std::vector<TxItem> items;
    for (uint32_t i = 0; i < 8; ++i) payloads.push_back(pattern(test.itemLength, i));
    for (const Bytes& bytes : payloads) items.push_back(item(*next, bytes, 1000));
    uint32_t finished = io->transmit(*from, items);
    ASSERT_LT(finished, items.size()) << "this is many times the socket buffer";
    EXPECT_EQ(items[finished].status, TxStatus::kWouldBlock);
    EXPECT_LT(items[finished].sentBytes, items[finished].length);
    for (size_t i = finished + 1; i < items.size(); ++i) EXPECT_EQ(items[i].status, TxStatus::kPending);

    network.answerNeighbourRequests();
    for (int rounds = 0; finished < items.size(); ++rounds) {
      ASSERT_LT(rounds, 10'000) << "blocked for good at item " << finished << ", " << items[finished].length << " bytes left";
      TxItem& rest = items[finished];
      rest.data += rest.sentBytes;
      rest.length -= rest.sentBytes;
      finished += io->transmit(*from, std::span<TxItem>(items).subspan(finished));
      network.pump();
    }
    const auto& received = network.received();
    EXPECT_EQ(received.fragments, 0U);
    Bytes joined;
    for (const Bytes& payload : received.payloads) joined.insert(joined.end(), payload.begin(), payload.end());
    Bytes expected;
    for (const Bytes& bytes : payloads) expected.insert(expected.end(), bytes.begin(), bytes.end());
    EXPECT_EQ(joined.size(), expected.size());
    EXPECT_TRUE(joined == expected);
    EXPECT_EQ(from->stats.sendErrors.load(), 0);
    io->detach(*from);
  });
}

INSTANTIATE_TEST_SUITE_P(Backends, FullSendBuffer,
                         ::testing::Values(FullBufferCase{"socket", "socket", true, 20'000, 8192},
                                           FullBufferCase{"mmsg", "mmsg", true, 20'000, 8192},
                                           FullBufferCase{"mmsgTrainsOverTheBuffer", "mmsg", true, 60'500, 2304},
                                           FullBufferCase{"mmsgWithoutSegmentation", "mmsg", false, 20'000, 8192},
                                           FullBufferCase{"uring", "uring", true, 20'000, 8192},
                                           FullBufferCase{"uringTrainsOverTheBuffer", "uring", true, 60'500, 2304},
                                           FullBufferCase{"uringWithoutSegmentation", "uring", false, 20'000, 8192}),
                         [](const auto& test) { return test.param.name; });

TEST(MmsgIo, sendsATrainOfSegmentsOverTheLinkMtuAsFragments) {
  TapNetwork::run([](TapNetwork& network) {
    auto io = make("mmsg");
    auto from = openAt(*io, address(TapNetwork::kLocal), 0, 1 << 20);
    auto next = hop(*io, *from, address(TapNetwork::kPeer, 5000));
    network.answerNeighbourRequests();
    const Bytes bytes = pattern(3 * 4000, 1);
    std::vector<TxItem> items{item(*next, bytes, 4000)};
    ASSERT_EQ(io->transmit(*from, items), 1U);
    EXPECT_EQ(items[0].status, TxStatus::kSent);
    EXPECT_TRUE(next->segmentationRefused);
    EXPECT_EQ(from->stats.segmentationFallbacks.load(), 1);
    network.pump();
    EXPECT_EQ(network.received().fragments, 9U) << "4000 bytes are three fragments at MTU 1500";
    io->detach(*from);
  });
}

}  // namespace
}  // namespace outrigger::io::testing
