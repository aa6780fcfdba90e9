// SPDX-License-Identifier: Apache-2.0
// NetStack beside a real kernel that sees the same frames: one delivery of each datagram, fragments, the reserved port, local traffic, neighbours.
#include <netinet/udp.h>

#include "beside_kernel.h"

namespace outrigger::io::testing {
namespace {

TEST_P(StackBesideKernel, exchangesDatagramsWithKernelSocketsOnceEach) {
  for (const auto& [nearHost, farHost] : {std::pair{kNear, kFar}, {kNearV6, kFarV6}}) {
    auto endpoint = open(nearHost);
    FarSocket peer(*far_, at(farHost));
    auto next = hop(*endpoint, peer.address);
    connect(*endpoint, peer.address);
    while (peer.receive() != pattern(20, 99)) {
    }
    const Bytes out = pattern(1408, 1);
    // What connect() sent may still arrive.
    EXPECT_EQ(send(*endpoint, *next, out).status, TxStatus::kSent);
    Bytes received;
    while (received != out) {
      received = peer.receive();
      ASSERT_FALSE(received.empty());
    }
    for (uint32_t i = 0; i < 50; ++i) peer.send(endpoint->localAddress(), pattern(i % 2 == 0 ? 1400 : 100, i));
    const auto arrivals = collect(50);
    ASSERT_EQ(arrivals.size(), 50U);
    for (uint32_t i = 0; i < 50; ++i) {
      EXPECT_EQ(arrivals[i].bytes, pattern(i % 2 == 0 ? 1400 : 100, i));
      EXPECT_EQ(arrivals[i].source, peer.address);
    }
    EXPECT_TRUE(poll().empty()) << "the kernel's copies stay away";
    EXPECT_TRUE(poll().empty());
    io_->detach(*endpoint);
  }
  EXPECT_EQ(count(StackCounter::kKernelDatagrams), isGenericXdp() ? 100 : 0);
}

// An epoll descriptor that watches the device's socket is called for each frame, on the sender's account.
TEST_P(StackBesideKernel, isWokenForNothingOnceItsThreadHasNotSleptForLong) {
  if (isDpdk()) GTEST_SKIP() << "these ports have no interrupts: their thread polls and is woken by nobody";
  auto endpoint = open(kNear);
  FarSocket peer(*far_, at(kFar));
  EXPECT_TRUE(await([&] { return io_->arm(); }));
  for (int i = 0; i < 10'000; ++i) EXPECT_TRUE(poll().empty());
  peer.send(endpoint->localAddress(), pattern(100, 1));
  pollfd handle{io_->waitHandle(), POLLIN, 0};
  EXPECT_EQ(::poll(&handle, 1, 0), 0);
  EXPECT_FALSE(io_->arm()) << "it is there, though nobody was woken";
  EXPECT_EQ(::poll(&handle, 1, 0), 1) << "and would wake whoever sleeps now";
  EXPECT_EQ(collect(1).size(), 1U);
  io_->detach(*endpoint);
}

TEST_P(StackBesideKernel, deliversOnceWhatItsSocketFilterCannotTell) {
  if (!sharesFrames()) GTEST_SKIP() << "the kernel gets no copy";
  auto endpoint = open(kNear);
  FarSocket peer(*far_, at(kFar));
  peer.set(IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT);  // no DF bit: might have been in fragments
  for (uint32_t i = 0; i < 20; ++i) peer.send(endpoint->localAddress(), pattern(500, i));
  EXPECT_EQ(collect(20).size(), 20U);
  EXPECT_TRUE(await([&] { return count(StackCounter::kDuplicateKernelCopies) == 20; }));
  EXPECT_EQ(count(StackCounter::kDatagramsReceived), 20);
}

// Over lo, for which the kernel names the interface that has the address.
TEST_P(StackBesideKernel, takesWhatItsOwnHostSendsToTheAddressOfItsInterface) {
  for (const char* host : {kNear, kNearV6}) {
    // The kernel has a new IPv6 address among its own a moment after it was told of it.
    net::RouteQuestion toUs;
    toUs.number = 1;
    toUs.destination = net::IpAddress::of(at(host));
    ASSERT_TRUE(await([&] { return tables_->lookup(toUs).route == net::RouteState::kLocal; }));
    auto endpoint = open(host);
    FarSocket neighbour(*near_, at(host));
    neighbour.send(endpoint->localAddress(), pattern(1400, 1));
    auto arrivals = collect(1);
    ASSERT_EQ(arrivals.size(), 1U);
    EXPECT_EQ(arrivals[0].bytes, pattern(1400, 1));
    EXPECT_EQ(arrivals[0].source, neighbour.address);
    auto other = open(host);
    auto next = hop(*other, endpoint->localAddress());
    ASSERT_EQ(send(*other, *next, pattern(1300, 2)).status, TxStatus::kSent);
    arrivals = collect(1);
    ASSERT_EQ(arrivals.size(), 1U);
    EXPECT_EQ(arrivals[0].bytes, pattern(1300, 2));
    EXPECT_EQ(arrivals[0].source, other->localAddress());
    EXPECT_EQ(arrivals[0].endpoint, endpoint.get());
    EXPECT_TRUE(poll().empty());
    io_->detach(*other);
    io_->detach(*endpoint);
  }
  EXPECT_EQ(count(StackCounter::kDuplicateKernelCopies), 0);
}

TEST_P(StackBesideKernel, takesFragmentsFromTheKernelWholeAndOnce) {
  for (const auto& [nearHost, farHost] : {std::pair{kNear, kFar}, {kNearV6, kFarV6}}) {
    auto endpoint = open(nearHost);
    FarSocket peer(*far_, at(farHost));
    const Bytes large = pattern(9000, 5);
    peer.send(endpoint->localAddress(), large);
    const auto arrivals = collect(1);
    ASSERT_EQ(arrivals.size(), 1U);
    EXPECT_EQ(arrivals[0].bytes, large);
    EXPECT_EQ(arrivals[0].source, peer.address);
    EXPECT_TRUE(poll().empty());
    io_->detach(*endpoint);
  }
  EXPECT_EQ(count(StackCounter::kKernelDatagrams), 2);
}

TEST_P(StackBesideKernel, takesFragmentsOfADatagramThatWouldFitTheLink) {
  // The sender's path is narrower than our link: the datagram is in fragments though it is short.
  for (const auto& [nearHost, farHost, mtu, length] : {std::tuple{kNear, kFar, "600", 1000}, {kNearV6, kFarV6, "1280", 1400}}) {
    far(std::string("ip route replace ") + nearHost + " dev far0 mtu lock " + mtu);
    auto endpoint = open(nearHost);
    FarSocket peer(*far_, at(farHost));
    const Bytes bytes = pattern(static_cast<size_t>(length), 5);
    peer.send(endpoint->localAddress(), bytes);
    const auto arrivals = collect(1);
    ASSERT_EQ(arrivals.size(), 1U);
    EXPECT_EQ(arrivals[0].bytes, bytes);
    EXPECT_TRUE(poll().empty());
    io_->detach(*endpoint);
  }
}

TEST_P(StackBesideKernel, reservesThePortSoThatASecondBinderIsRefused) {
  auto endpoint = open(kNear);
  const Inside inside(*near_);
  EXPECT_NE(endpoint->localAddress().port(), 0) << "an ephemeral port is a real one";
  UniqueFd other(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  EXPECT_NE(::bind(other.get(), endpoint->localAddress().get(), endpoint->localAddress().length), 0);
  EXPECT_EQ(errno, EADDRINUSE);
}

TEST_P(StackBesideKernel, servesAWildcardPortOnEveryAddressAndInterface) {
  auto endpoint = open("0.0.0.0");
  const uint16_t port = endpoint->localAddress().port();
  FarSocket peer(*far_, at(kFar));
  FarSocket local(*near_, at("127.0.0.1"));
  peer.send(at(kNear, port), pattern(100, 1));
  local.send(at("127.0.0.1", port), pattern(100, 2));
  std::vector<Arrival> arrivals = collect(2);
  ASSERT_EQ(arrivals.size(), 2U);
  if (arrivals[0].bytes != pattern(100, 1)) std::swap(arrivals[0], arrivals[1]);
  EXPECT_EQ(arrivals[0].destination, at(kNear, port));
  EXPECT_EQ(arrivals[0].source, peer.address);
  EXPECT_EQ(arrivals[1].bytes, pattern(100, 2));
  EXPECT_EQ(arrivals[1].destination, at("127.0.0.1", port));
  // And answers go back by the same ways.
  connect(*endpoint, peer.address);
  EXPECT_EQ(sendControl(*endpoint, local.address, pattern(30, 3)), TxStatus::kSent);
  EXPECT_EQ(local.receive(), pattern(30, 3));
}

TEST_P(StackBesideKernel, hasTheKernelAskForANeighbourAndSendsByItsAnswer) {
  auto endpoint = open(kNear);
  FarSocket peer(*far_, at(kFar));
  // The first control frame goes the kernel's way, which asks; nothing is lost by it.
  EXPECT_EQ(sendControl(*endpoint, peer.address, pattern(40, 1)), TxStatus::kSent);
  EXPECT_EQ(receiveAt(peer), pattern(40, 1));
  EXPECT_EQ(count(StackCounter::kKernelSends), 1);
  connect(*endpoint, peer.address);
}

TEST_P(StackBesideKernel, refusesToSendToANeighbourThatNeverAnswersAndCountsIt) {
  auto endpoint = open(kNear);
  auto next = hop(*endpoint, at("10.92.0.77", 4000));
  sendControl(*endpoint, next->address(), pattern(40, 1));
  EXPECT_TRUE(await([&] { return sendControl(*endpoint, next->address(), pattern(40, 1)) == TxStatus::kNeighbour; }));
  const Bytes bytes = pattern(10 * 100, 1);
  TxItem item = send(*endpoint, *next, bytes, 100);
  while (item.status != TxStatus::kNeighbour) item = send(*endpoint, *next, bytes, 100);
  EXPECT_LT(item.sentBytes, 1000U);
  EXPECT_GT(count(StackCounter::kNeighbourWaits), 0);
  EXPECT_EQ(count(StackCounter::kFramesSent), 0);
  // The kernel says in the end that the host does not answer.
  EXPECT_TRUE(await([&] {
    sendControl(*endpoint, next->address(), pattern(40, 1));
    return endpoint->stats.sendErrors.load() > 0;
  }));
}

TEST_P(StackBesideKernel, sendsInFragmentsWhatTheShrunkenPathNoLongerTakes) {
  auto endpoint = open(kNear);
  FarSocket peer(*far_, at(kFar));
  auto next = hop(*endpoint, peer.address);
  connect(*endpoint, peer.address);
  near("ip route replace 10.92.0.0/24 dev " + interface() + " src 10.92.0.1 mtu 600");
  ASSERT_TRUE(await([&] {
    const Bytes bytes = pattern(1400, 3);
    send(*endpoint, *next, bytes);
    return count(StackCounter::kFragmentedSends) > 0;
  }));
  Bytes received;
  while (received != pattern(1400, 3)) {
    received = receiveAt(peer);
    ASSERT_FALSE(received.empty());
  }
}

TEST_P(StackBesideKernel, learnsThatAPortIsClosedFromIcmp) {
  auto endpoint = open(kNear);
  auto peer = std::make_unique<FarSocket>(*far_, at(kFar));
  const SockAddr address = peer->address;
  auto next = hop(*endpoint, address);
  connect(*endpoint, address);
  peer.reset();
  EXPECT_TRUE(await([&] {
    send(*endpoint, *next, pattern(100, 1));
    return count(StackCounter::kIcmpErrors) > 0;
  }));
  EXPECT_GT(endpoint->stats.sendErrors.load(), 0);
}

TEST_P(StackBesideKernel, takesTrainsOfAKernelSenderWhole) {
  if (isDpdk() && sharesFrames()) GTEST_SKIP() << "net_af_packet cuts trains: they are refused and counted (the conformance suite)";
  auto endpoint = open(kNear);
  FarSocket peer(*far_, at(kFar));
  peer.set(SOL_UDP, UDP_SEGMENT, 1000);
  const Bytes bytes = pattern(20 * 1000 + 300, 6);
  peer.send(endpoint->localAddress(), bytes);
  const auto arrivals = collect(21);
  ASSERT_EQ(arrivals.size(), 21U);
  Bytes joined;
  for (const Arrival& arrival : arrivals) joined.insert(joined.end(), arrival.bytes.begin(), arrival.bytes.end());
  EXPECT_EQ(joined, bytes);
}

TEST_P(StackBesideKernel, carriesDatagramsOfJumboFramesBothWays) {
  if (hasExceptions()) GTEST_SKIP() << "net_af_xdp takes no frame beyond a page, and opens a queue once in a process";
  jumbo_ = true;
  io_.reset();
  stack_.reset();
  near("ip link set near0 mtu 9000");
  far("ip link set far0 mtu 9000");
  ASSERT_NO_FATAL_FAILURE(openStack());
  for (const auto& [nearHost, farHost] : {std::pair{kNear, kFar}, {kNearV6, kFarV6}}) {
    auto endpoint = open(nearHost);
    FarSocket peer(*far_, at(farHost));
    auto next = hop(*endpoint, peer.address);
    connect(*endpoint, peer.address);
    const int64_t kernelSends = count(StackCounter::kKernelSends);
    for (uint32_t i = 0; i < 20; ++i) {
      ASSERT_NO_FATAL_FAILURE(exchange(*endpoint, *next, peer, pattern(8900 - i, i)));
    }
    EXPECT_EQ(count(StackCounter::kKernelSends), kernelSends);
    io_->detach(*endpoint);
  }
  EXPECT_EQ(count(StackCounter::kKernelDatagrams), isGenericXdp() ? 40 : 0);
  EXPECT_EQ(count(StackCounter::kFragmentedSends), 0);
}

INSTANTIATE_TEST_SUITE_P(Devices, StackBesideKernel, ::testing::Values("packet", "native", "generic", "dpdk", "dpdkExceptions"),
                         [](const auto& device) { return std::string(device.param); });

}  // namespace
}  // namespace outrigger::io::testing

// net_af_xdp keeps the handle of each umem that it made with libxdp, which nothing else here uses.
extern "C" const char* __lsan_default_suppressions();
extern "C" const char* __lsan_default_suppressions() { return "leak:xsk_umem__create\n"; }
