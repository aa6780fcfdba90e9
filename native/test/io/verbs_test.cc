// SPDX-License-Identifier: Apache-2.0
// What is `verbs`' alone: the exchange of queue pairs and whom it believes, peers that are not ours or go away, the choice of a port.
#include <gtest/gtest.h>

#include <future>
#include <thread>

#include "io/verbs/exchange.h"
#include "io/verbs/verbs_backend.h"
#include "verbs_world.h"

namespace outrigger::io::testing {
namespace {

using verbs::ExchangeKind;
using verbs::ExchangeMessage;
using verbs::ExchangeVerdict;
using verbs::PeerState;
using verbs::RefusalReason;

using ExchangeBytes = std::array<uint8_t, verbs::kExchangeLength>;

ExchangeMessage goodAnswer(const std::string& host = "127.88.0.2") {
  ExchangeMessage message;
  message.kind = ExchangeKind::kAnswer;
  message.nonce = 0x0123456789ABCDEF;
  message.gid = verbs::gidOf(net::IpAddress::of(address(host)));
  message.queueNumber = 77;
  message.queueKey = 0x12345678;
  message.mtu = 4096;
  return message;
}

ExchangeBytes bytesOf(const ExchangeMessage& message) {
  ExchangeBytes bytes;
  verbs::writeExchange(message, bytes);
  return bytes;
}

ExchangeVerdict verdictOf(std::span<const uint8_t> bytes) {
  ExchangeMessage message;
  return verbs::readExchange(bytes, message);
}

TEST(VerbsExchange, readsWhatItWrites) {
  const ExchangeMessage answer = goodAnswer();
  ExchangeMessage read;
  ASSERT_EQ(verbs::readExchange(bytesOf(answer), read), ExchangeVerdict::kOk);
  EXPECT_EQ(read.kind, ExchangeKind::kAnswer);
  EXPECT_EQ(read.nonce, answer.nonce);
  EXPECT_EQ(read.gid, answer.gid);
  EXPECT_EQ(read.queueNumber, 77U);
  EXPECT_EQ(read.queueKey, 0x12345678U);
  EXPECT_EQ(read.mtu, 4096U);
  ExchangeMessage refusal;
  refusal.kind = ExchangeKind::kRefusal;
  refusal.reason = RefusalReason::kNoGid;
  ASSERT_EQ(verbs::readExchange(bytesOf(refusal), read), ExchangeVerdict::kOk);
  EXPECT_EQ(read.reason, RefusalReason::kNoGid);
}

TEST(VerbsExchange, looksToAStockDriverLikeAnExtensionFrameOfItsLength) {
  const ExchangeBytes bytes = bytesOf({});
  EXPECT_EQ(bytes[0], 64);
  EXPECT_EQ(bytes[4], 0) << "the version of Aeron's frames";
  EXPECT_EQ(bytes[6], 0xFF);
  EXPECT_EQ(bytes[7], 0xFF);
}

TEST(VerbsExchange, refusesAnswersThatCanNotBe) {
  const auto broken = [](auto change) {
    ExchangeMessage message = goodAnswer();
    change(message);
    return verdictOf(bytesOf(message));
  };
  EXPECT_EQ(broken([](ExchangeMessage& m) { m.queueNumber = 1; }), ExchangeVerdict::kMalformed) << "the port's own queue pair";
  EXPECT_EQ(broken([](ExchangeMessage& m) { m.queueNumber = 1U << 24; }), ExchangeVerdict::kMalformed);
  EXPECT_EQ(broken([](ExchangeMessage& m) { m.queueKey = 0x80000000; }), ExchangeVerdict::kMalformed);
  EXPECT_EQ(broken([](ExchangeMessage& m) { m.mtu = 1000; }), ExchangeVerdict::kMalformed);
  EXPECT_EQ(broken([](ExchangeMessage& m) { m.mtu = 8192; }), ExchangeVerdict::kMalformed);
  EXPECT_EQ(broken([](ExchangeMessage& m) { m.gid = {}; }), ExchangeVerdict::kMalformed);
  EXPECT_EQ(broken([](ExchangeMessage& m) { m.gid[0] = 0xFF; }), ExchangeVerdict::kMalformed) << "multicast";
  EXPECT_EQ(broken([](ExchangeMessage& m) { m.reason = RefusalReason::kNoGid; }), ExchangeVerdict::kMalformed);
  EXPECT_EQ(broken([](ExchangeMessage& m) { m.kind = ExchangeKind::kRefusal; }), ExchangeVerdict::kMalformed) << "no reason";
  EXPECT_EQ(broken([](ExchangeMessage& m) { m.kind = ExchangeKind::kAsk; }), ExchangeVerdict::kMalformed) << "an ask says nothing";
  EXPECT_EQ(broken([](ExchangeMessage& m) { m.version = 2; }), ExchangeVerdict::kOtherVersion);
  EXPECT_EQ(broken([](ExchangeMessage& m) { m.version = 0; }), ExchangeVerdict::kMalformed);
  ExchangeBytes bytes = bytesOf(goodAnswer());
  for (const size_t reserved : {15, 52, 63}) {
    ExchangeBytes other = bytes;
    other[reserved] = 1;
    EXPECT_EQ(verdictOf(other), ExchangeVerdict::kMalformed) << reserved;
  }
  EXPECT_EQ(verdictOf({bytes.data(), 63}), ExchangeVerdict::kMalformed);
  EXPECT_EQ(verdictOf({bytes.data(), 23}), ExchangeVerdict::kNotExchange);
  bytes[8] ^= 1;
  EXPECT_EQ(verdictOf(bytes), ExchangeVerdict::kNotExchange);
}

TEST(VerbsRouteHeader, tellsBothFamiliesAndNothingElse) {
  std::array<uint8_t, verbs::kRouteHeaderLength> header{};
  EXPECT_FALSE(verbs::readRouteHeader(header).has_value());
  header[20] = 0x45;
  header[32] = 10;
  header[36] = 11;
  auto route = verbs::readRouteHeader(header);
  ASSERT_TRUE(route.has_value());
  EXPECT_EQ(route->source.toString(), "10.0.0.0");
  EXPECT_EQ(route->destination.toString(), "11.0.0.0");
  // What stands before an IPv4 header may look like an IPv6 one; then its checksum decides.
  header[0] = 0x60;
  route = verbs::readRouteHeader(header);
  ASSERT_TRUE(route.has_value());
  EXPECT_TRUE(route->source.isV6());
  const uint32_t sum = 0x4500 + 0x0A00 + 0x0B00;
  header[30] = static_cast<uint8_t>((~sum & 0xFFFF) >> 8);
  header[31] = static_cast<uint8_t>(~sum & 0xFF);
  route = verbs::readRouteHeader(header);
  ASSERT_TRUE(route.has_value());
  EXPECT_FALSE(route->source.isV6());
}

// One host of ours on a fabric, and a plain socket that plays whatever peer.
class VerbsPeers : public ::testing::Test {
 protected:
  static constexpr const char* kOurs = "127.88.0.1";
  static constexpr const char* kTheirs = "127.88.0.2";

  void SetUp() override {
    times_.askNs = 5'000'000;
    times_.checkNs = 20'000'000;
    times_.kernelNs = 20'000'000;
    times_.kernelMaxNs = 20'000'000;
    times_.hintNs = 0;
    times_.sweepNs = 20'000'000;
    port_ = std::make_shared<FabricPort>(fabric_, std::vector<std::string>{kOurs});
    directory_ = verbs::PeerDirectory::create(port_, times_).take();
    io_ = verbs::VerbsIo::create(directory_, {}).take();
    queue_ = port_->lastQueue;
    from_ = openAt(*io_, address(kOurs));
    socket_ = UniqueFd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    SockAddr bind = address(kTheirs);
    ASSERT_EQ(::bind(socket_.get(), bind.get(), bind.length), 0);
    bind.length = sizeof(bind.storage);
    ASSERT_EQ(::getsockname(socket_.get(), reinterpret_cast<sockaddr*>(&bind.storage), &bind.length), 0);
    theirs_ = bind;
  }
  // The next datagram at the peer; empty when none comes.
  Bytes receive() {
    pollfd handle{socket_.get(), POLLIN, 0};
    if (::poll(&handle, 1, kPatienceMs) <= 0) return {};
    Bytes bytes(65536);
    const ssize_t length = ::recv(socket_.get(), bytes.data(), bytes.size(), 0);
    bytes.resize(length > 0 ? static_cast<size_t>(length) : 0);
    return bytes;
  }
  ExchangeMessage nextAsk() {
    ExchangeMessage message;
    while (true) {
      const Bytes bytes = receive();
      if (bytes.empty()) {
        ADD_FAILURE() << "nobody asks";
        return {};
      }
      if (verbs::readExchange(bytes, message) == ExchangeVerdict::kOk && message.kind == ExchangeKind::kAsk) return message;
    }
  }
  void tell(const ExchangeMessage& message) {
    const ExchangeBytes bytes = bytesOf(message);
    ASSERT_EQ(::sendto(socket_.get(), bytes.data(), bytes.size(), 0, from_->localAddress().get(), from_->localAddress().length), 64);
  }
  // Polls until `wanted` holds.
  bool await(const std::function<bool()>& wanted) {
    for (int waited = 0; waited < kPatienceMs; ++waited) {
      pollOnce(*io_, SystemClock().nanoTime());
      if (wanted()) return true;
      ::poll(nullptr, 0, 1);
    }
    return false;
  }
  PeerState stateOf(const NextHop& next) { return static_cast<const verbs::VerbsNextHop&>(next).now().state; }
  int64_t count(StackCounter counter) { return io_->totals().network[networkIndex(counter)]; }
  // Answers the asks that have come, also those that wait for none any more.
  void answerAsks(uint32_t queueNumber = 77) {
    Bytes bytes(2048);
    ExchangeMessage message;
    for (ssize_t length; (length = ::recv(socket_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT)) > 0;) {
      const auto verdict = verbs::readExchange({bytes.data(), static_cast<size_t>(length)}, message);
      if (verdict != ExchangeVerdict::kOk || message.kind != ExchangeKind::kAsk) continue;
      ExchangeMessage answer = goodAnswer();
      answer.nonce = message.nonce;
      answer.queueNumber = queueNumber;
      tell(answer);
    }
  }
  bool awaitReady(NextHop& next, uint32_t queueNumber = 77) {
    return await([&] {
      if (stateOf(next) == PeerState::kReady) return true;
      tell({});  // one that was not heard in time is asked again since it asks us
      answerAsks(queueNumber);
      return false;
    });
  }
  TxItem send(NextHop& next, const Bytes& bytes) {
    TxItem one = item(next, bytes);
    io_->transmit(*from_, {&one, 1});
    return one;
  }

  verbs::DirectoryTimes times_;
  Fabric fabric_;
  std::shared_ptr<FabricPort> port_;
  std::shared_ptr<verbs::PeerDirectory> directory_;
  std::unique_ptr<verbs::VerbsIo> io_;
  FabricQueue* queue_ = nullptr;
  std::unique_ptr<Endpoint> from_;
  UniqueFd socket_;
  SockAddr theirs_;
};

TEST_F(VerbsPeers, thatDoNotAnswerAreReachedThroughTheKernelAfterABoundedWait) {
  auto next = hop(*io_, *from_, theirs_);
  const Bytes bytes = pattern(100, 1);
  EXPECT_EQ(next->longestDatagram(), 4096U) << "of our own device, as long as nothing is known";
  EXPECT_EQ(send(*next, bytes).status, TxStatus::kNeighbour);
  EXPECT_GT(io_->totals().network[networkIndex(StackCounter::kNeighbourWaits)], 0);
  ASSERT_TRUE(await([&] { return stateOf(*next) == PeerState::kKernel; }));
  EXPECT_EQ(next->longestDatagram(), 0U);
  EXPECT_EQ(send(*next, bytes).status, TxStatus::kSent);
  Bytes received;
  uint32_t asks = 0;
  while ((received = receive()) != bytes) {
    ASSERT_FALSE(received.empty());
    asks += verdictOf(received) == ExchangeVerdict::kOk ? 1 : 0;
  }
  EXPECT_GE(asks, verbs::PeerDirectory::kFirstAsks);
  EXPECT_GT(io_->totals().network[networkIndex(StackCounter::kKernelSends)], 0);
}

TEST_F(VerbsPeers, mayTurnOutToBeOursLater) {
  auto next = hop(*io_, *from_, theirs_);
  ASSERT_TRUE(await([&] { return stateOf(*next) == PeerState::kKernel; }));
  ASSERT_TRUE(await([&] {
    send(*next, pattern(100, 1));  // only one in use is asked again
    answerAsks();
    return stateOf(*next) == PeerState::kReady;
  }));
  EXPECT_EQ(next->longestDatagram(), 4096U);
}

TEST_F(VerbsPeers, areBelievedOnlyWithTheNonceThatTheyWereSentAndTheirOwnGid) {
  auto next = hop(*io_, *from_, theirs_);
  const ExchangeMessage ask = nextAsk();
  ExchangeMessage answer = goodAnswer();
  answer.nonce = ask.nonce + 1;
  tell(answer);
  ASSERT_TRUE(await([&] { return directory_->stats().rejected.load() == 1; }));
  EXPECT_NE(stateOf(*next), PeerState::kReady);
  answer = goodAnswer("127.88.0.3");  // what we send would hit a third host
  answer.nonce = ask.nonce;
  tell(answer);
  ASSERT_TRUE(await([&] { return directory_->stats().rejected.load() == 2; }));
  EXPECT_NE(stateOf(*next), PeerState::kReady);
}

TEST_F(VerbsPeers, thatRefuseSayWhy) {
  auto next = hop(*io_, *from_, theirs_);
  ExchangeMessage refusal;
  refusal.kind = ExchangeKind::kRefusal;
  refusal.reason = RefusalReason::kNoGid;
  refusal.nonce = nextAsk().nonce;
  tell(refusal);
  ASSERT_TRUE(await([&] { return stateOf(*next) == PeerState::kKernel; }));
  EXPECT_EQ(static_cast<verbs::VerbsNextHop&>(*next).now().refusal, RefusalReason::kNoGid);
  EXPECT_EQ(send(*next, pattern(100, 1)).status, TxStatus::kSent);
}

TEST_F(VerbsPeers, thatFallSilentAreLeftToTheKernelAndCounted) {
  auto next = hop(*io_, *from_, theirs_);
  ExchangeMessage answer = goodAnswer();
  answer.nonce = nextAsk().nonce;
  tell(answer);
  ASSERT_TRUE(await([&] { return stateOf(*next) == PeerState::kReady; }));
  ASSERT_TRUE(await([&] {
    send(*next, pattern(100, 1));
    return stateOf(*next) == PeerState::kKernel;
  }));
  EXPECT_EQ(directory_->stats().lost.load(), 1);
}

TEST_F(VerbsPeers, thatAskAreAnsweredAndAskedBack) {
  auto next = hop(*io_, *from_, theirs_);
  ASSERT_TRUE(await([&] { return stateOf(*next) == PeerState::kKernel; }));
  ExchangeMessage ask;
  ask.nonce = 4711;
  tell(ask);
  ExchangeMessage message;
  bool answered = false;
  bool asked = false;
  ASSERT_TRUE(await([&] {
    Bytes bytes(2048);
    const ssize_t length = ::recv(socket_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (length <= 0 || verbs::readExchange({bytes.data(), static_cast<size_t>(length)}, message) != ExchangeVerdict::kOk) return false;
    if (message.kind == ExchangeKind::kAnswer) {
      answered = true;
      EXPECT_EQ(message.nonce, 4711U);
      EXPECT_EQ(message.queueNumber, queue_->number());
      EXPECT_EQ(message.gid, verbs::gidOf(net::IpAddress::of(address(kOurs))));
    } else {
      asked = asked || answered;
    }
    return answered && asked;
  }));
}

TEST_F(VerbsPeers, ofAnotherVersionAreToldOurs) {
  ExchangeMessage ask;
  ask.version = 9;
  ask.nonce = 5;
  tell(ask);
  ExchangeMessage message;
  ASSERT_TRUE(await([&] {
    Bytes bytes(2048);
    const ssize_t length = ::recv(socket_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    return length > 0 && verbs::readExchange({bytes.data(), static_cast<size_t>(length)}, message) == ExchangeVerdict::kOk;
  }));
  EXPECT_EQ(message.kind, ExchangeKind::kRefusal);
  EXPECT_EQ(message.reason, RefusalReason::kVersion);
  EXPECT_EQ(message.nonce, 5U);
}

TEST_F(VerbsPeers, sendGarbageToTheQueuePairInVain) {
  std::array<uint8_t, verbs::kRouteHeaderLength> header{};
  const uint32_t port = from_->localAddress().port();
  queue_->inject(header, 4000U << 16 | port, pattern(64, 1));  // no addresses
  header[20] = 0x45;
  header[32] = 127;
  const std::array<uint8_t, 4> ours{127, 88, 0, 1};
  std::copy(ours.begin(), ours.end(), header.begin() + 36);
  queue_->inject(header, port, pattern(64, 1));                      // source port 0
  queue_->inject(header, 4000U << 16 | (port ^ 1), pattern(64, 1));  // nobody's port
  queue_->inject(header, 4000U << 16 | port, {});                    // empty
  queue_->inject(header, 4000U << 16 | port, pattern(64, 2));
  const auto arrivals = pollOnce(*io_, 0);
  ASSERT_EQ(arrivals.size(), 1U);
  EXPECT_EQ(arrivals[0].bytes, pattern(64, 2));
  EXPECT_EQ(arrivals[0].source, address("127.0.0.0", 4000));
  const IoTotals totals = io_->totals();
  EXPECT_EQ(totals.network[networkIndex(StackCounter::kBadIpHeaders)], 2);
  EXPECT_EQ(totals.network[networkIndex(StackCounter::kOtherPortDatagrams)], 1);
  EXPECT_EQ(totals.droppedDatagrams, 1);
  RxBurst none;
  io_->release(none);
  EXPECT_EQ(queue_->buffersOut(), 0U) << "every buffer is back";
}

TEST_F(VerbsPeers, areNotAskedFromAnAddressWithoutAGid) {
  auto elsewhere = openAt(*io_, address("127.88.0.9"));
  auto next = hop(*io_, *elsewhere, theirs_);
  EXPECT_EQ(next->longestDatagram(), 0U);
  const Bytes bytes = pattern(100, 1);
  TxItem one = item(*next, bytes);
  ASSERT_EQ(io_->transmit(*elsewhere, {&one, 1}), 1U);
  EXPECT_EQ(one.status, TxStatus::kSent);
  EXPECT_EQ(receive(), bytes) << "it comes first, and by the kernel";
  io_->detach(*elsewhere);
}

TEST_F(VerbsPeers, doNotMatterToAPortThatIsDown) {
  EXPECT_EQ(io_->health().state, Health::State::kOk);
  port_->down = "port 1 of fabric0 is DOWN";
  EXPECT_EQ(io_->health().state, Health::State::kDown);
  EXPECT_EQ(io_->health().reason, port_->down);
  port_->gone = true;
  EXPECT_EQ(io_->health().state, Health::State::kGone);
}

TEST_F(VerbsPeers, areOutOfReachOfABrokenQueuePairWhichHealthSays) {
  auto next = hop(*io_, *from_, theirs_);
  ASSERT_TRUE(awaitReady(*next));
  queue_->breakDown("cannot post receive buffers", EIO);
  const Health health = io_->health();
  EXPECT_EQ(health.state, Health::State::kGone);
  EXPECT_EQ(health.reason, std::string("its queue pair on fabric0 is broken: cannot post receive buffers: ") + std::strerror(EIO));
  send(*next, pattern(100, 1));
  EXPECT_EQ(io_->totals().network[networkIndex(DeviceCounter::kTransmitErrors)], 1);
}

TEST_F(VerbsPeers, areGivenHandlesWithNobodyWaitingForThat) {
  // Outlive this test where it fails: the directory's thread may still be there.
  struct Steps {
    std::promise<void> making;
    std::promise<void> enough;
  };
  const auto steps = std::make_shared<Steps>();
  port_->whileMaking = [steps, first = true]() mutable {
    if (std::exchange(first, false)) {
      steps->making.set_value();
      steps->enough.get_future().wait_for(std::chrono::milliseconds(2 * kPatienceMs));
    }
    return true;
  };
  auto next = hop(*io_, *from_, theirs_);
  auto started = steps->making.get_future();
  ASSERT_TRUE(await([&] {
    answerAsks();
    return started.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
  }));
  // As the conductor does meanwhile; the destination that the handle is for goes away.
  auto control = std::async(std::launch::async, [&] {
    next.reset();
    directory_->dropNotes(directory_->addNotes());
    directory_->dropEndpoint(directory_->addEndpoint(-1, {}));
  });
  EXPECT_EQ(control.wait_for(std::chrono::milliseconds(kPatienceMs)), std::future_status::ready) << "it waits for the device";
  control.wait();
  auto again = hop(*io_, *from_, theirs_);  // perhaps where the other one was
  steps->enough.set_value();
  ASSERT_TRUE(awaitReady(*again, 78));
  EXPECT_EQ(static_cast<verbs::VerbsNextHop&>(*again).now().queueNumber, 78U) << "the first answer was to another question";
}

TEST_F(VerbsPeers, doNotFallSilentSinceSomebodyMakesUsAsk) {
  auto next = hop(*io_, *from_, theirs_);
  ASSERT_TRUE(awaitReady(*next));
  const int64_t before = directory_->stats().asks.load();
  for (uint32_t i = 1; i <= 2 * verbs::PeerDirectory::kChecks; ++i) {
    ExchangeMessage ask;
    ask.nonce = i;
    tell(ask);
    ASSERT_TRUE(await([&] { return directory_->stats().asks.load() >= before + i; }));
  }
  // By the time that two others in turn are found silent this one's check was due, which finds it idle.
  for (const char* silent : {"127.88.0.3", "127.88.0.4"}) {
    auto other = hop(*io_, *from_, address(silent, 4000));
    ASSERT_TRUE(await([&] { return stateOf(*other) == PeerState::kKernel; }));
  }
  EXPECT_EQ(stateOf(*next), PeerState::kReady);
  EXPECT_EQ(directory_->stats().lost.load(), 0);
}

TEST_F(VerbsPeers, thatFloodUsWithAsksAreAnsweredAtARate) {
  constexpr int kAsks = 600;
  constexpr int kBurst = 256;
  auto next = hop(*io_, *from_, theirs_);
  const ExchangeMessage ours = nextAsk();
  ExchangeMessage ask;
  const int64_t nowNs = SystemClock().nanoTime();
  int read = 0;
  for (int i = 1; i <= kAsks; ++i) {
    ask.nonce = static_cast<uint64_t>(i);
    tell(ask);
    // Each is looked at before the next is sent, at one and the same time.
    for (int waited = 0; waited < kPatienceMs && count(StackCounter::kNeighbourPackets) < i; ++waited) {
      pollOnce(*io_, nowNs);
      if (count(StackCounter::kNeighbourPackets) < i) ::poll(nullptr, 0, 1);
    }
    Bytes bytes(2048);
    ExchangeMessage message;
    for (ssize_t length; (length = ::recv(socket_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT)) > 0;) {
      const auto verdict = verbs::readExchange({bytes.data(), static_cast<size_t>(length)}, message);
      read += verdict == ExchangeVerdict::kOk && message.kind == ExchangeKind::kAnswer ? 1 : 0;
    }
  }
  EXPECT_EQ(read, kBurst);
  EXPECT_GE(count(StackCounter::kNeighbourPacketsLimited), kAsks - kBurst);
  // The flood keeps nobody from answering us.
  ExchangeMessage answer = goodAnswer();
  answer.nonce = ours.nonce;
  tell(answer);
  for (int waited = 0; waited < kPatienceMs && stateOf(*next) != PeerState::kReady; ++waited) {
    pollOnce(*io_, nowNs);
    ::poll(nullptr, 0, 1);
  }
  EXPECT_EQ(stateOf(*next), PeerState::kReady);
}

TEST_F(VerbsPeers, leaveNoHandlesBehind) {
  {
    auto next = hop(*io_, *from_, theirs_);
    ASSERT_TRUE(awaitReady(*next));
    EXPECT_EQ(directory_->handles(), 1U);
  }
  EXPECT_TRUE(await([&] { return directory_->handles() == 0; }));
  const auto tried = std::make_shared<std::atomic<bool>>(false);
  port_->whileMaking = [tried] {
    tried->store(true);
    return false;
  };
  auto next = hop(*io_, *from_, theirs_);
  ASSERT_TRUE(await([&] {
    answerAsks();
    return tried->load() && stateOf(*next) == PeerState::kKernel;
  }));
  EXPECT_EQ(directory_->handles(), 0U);
}

TEST_F(VerbsPeers, changePathsOnlyWhenTheirWayIsAnother) {
  times_.handleNs = 0;
  times_.checkNs = 2'000'000LL * kPatienceMs;  // asked when we make it so
  io_->detach(*from_);
  from_.reset();
  io_.reset();
  directory_ = verbs::PeerDirectory::create(port_, times_).take();
  verbs::VerbsOptions options;
  options.countsPort = true;
  io_ = verbs::VerbsIo::create(directory_, options).take();
  from_ = openAt(*io_, address(kOurs));
  auto next = hop(*io_, *from_, theirs_);
  const auto answer = [&] { return static_cast<verbs::VerbsNextHop&>(*next).now(); };
  ASSERT_TRUE(awaitReady(*next));
  const int64_t found = count(StackCounter::kPathChanges);
  // The same again, with a handle that was made again.
  const verbs::AddressHandle* handle = answer().to;
  tell({});
  ASSERT_TRUE(await([&] {
    answerAsks();
    return answer().to != handle;
  }));
  EXPECT_EQ(count(StackCounter::kPathChanges), found);
  tell({});
  ASSERT_TRUE(await([&] {
    answerAsks(78);
    return answer().queueNumber == 78;
  }));
  EXPECT_EQ(count(StackCounter::kPathChanges), found + 1);
}

// What is older may name a handle that is gone.
TEST(VerbsPeer, showsNothingThatIsOlderThanItsCell) {
  verbs::Peer peer;
  std::atomic<uint32_t> written{0};
  std::atomic<bool> running{true};
  std::thread writer([&] {
    verbs::PeerAnswer answer;
    answer.question = 1;
    answer.state = PeerState::kReady;
    while (running.load()) {
      ++answer.queueNumber;
      peer.cell.answer.store(answer);
      written.store(answer.queueNumber);
    }
  });
  uint32_t stale = 0;
  // Until reader and writer had many turns beside each other.
  constexpr uint32_t kTurns = 1'000'000;
  const int64_t limitNs = SystemClock().nanoTime() + kPatienceMs * 1'000'000LL;
  for (uint32_t i = 0; (i < kTurns || written.load() < kTurns) && SystemClock().nanoTime() < limitNs; ++i) {
    const uint32_t least = written.load();
    const verbs::PeerAnswer& answer = peer.answer();
    if (answer.state == PeerState::kReady && answer.queueNumber < least) ++stale;
  }
  running.store(false);
  writer.join();
  EXPECT_GE(written.load(), kTurns);
  EXPECT_EQ(stale, 0U);
  peer.answer();
  EXPECT_EQ(peer.answer().queueNumber, written.load());
}

class VerbsChoice : public ::testing::Test {
 protected:
  static verbs::PortFacts port(const std::string& device, const std::string& host) {
    verbs::PortFacts facts;
    facts.device = device;
    facts.node = "/dev/infiniband/uverbs0";
    facts.interface = "eth0";
    facts.ethernet = true;
    facts.active = true;
    facts.state = "ACTIVE";
    facts.mtu = 4096;
    facts.gids.push_back({verbs::gidOf(net::IpAddress::of(address(host))), 1});
    return facts;
  }
  // Of the one refusal.
  std::string causeOf(const verbs::PortFacts& facts) {
    const auto choice = verbs::choosePort({facts}, host_, options_);
    EXPECT_FALSE(choice.found);
    EXPECT_EQ(choice.causes.size(), 1U);
    return choice.causes.empty() ? "" : choice.causes[0].what + ": " + choice.causes[0].cause;
  }
  std::vector<verbs::HostAddress> host_{{net::IpAddress::of(address("10.1.0.1")), "eth0"},
                                        {net::IpAddress::of(address("10.2.0.1")), "eth1"}};
  BackendOptions options_;
};

TEST_F(VerbsChoice, takesThePortOfTheAddressOrTheInterface) {
  const std::vector<verbs::PortFacts> ports{port("mlx5_0", "10.1.0.1"), port("mlx5_1", "10.2.0.1")};
  EXPECT_EQ(verbs::choosePort(ports, host_, options_).port.device, "mlx5_0");
  options_.interface = "eth1";
  EXPECT_EQ(verbs::choosePort(ports, host_, options_).port.device, "mlx5_1");
  options_ = {};
  options_.address = "10.2.0.1";
  EXPECT_EQ(verbs::choosePort(ports, host_, options_).port.device, "mlx5_1");
}

TEST_F(VerbsChoice, saysWhyAPortCanNotBeUsed) {
  verbs::PortFacts facts = port("mlx5_0", "10.9.0.1");
  EXPECT_EQ(causeOf(facts), "mlx5_0 port 1: it has no RoCE v2 GID of any address of this host; it has those of: 10.9.0.1");
  facts = port("mlx5_0", "10.1.0.1");
  options_.address = "10.2.0.1";
  EXPECT_EQ(causeOf(facts), "mlx5_0 port 1: it has no RoCE v2 GID of address 10.2.0.1; it has those of: 10.1.0.1");
  options_ = {};
  facts.active = false;
  facts.state = "DOWN";
  EXPECT_EQ(causeOf(facts), "mlx5_0 port 1: the port is DOWN");
  facts.ethernet = false;
  EXPECT_NE(causeOf(facts).find("InfiniBand"), std::string::npos);
  facts.trouble = "cannot read its GIDs: Invalid argument";
  EXPECT_EQ(causeOf(facts), "mlx5_0 port 1: cannot read its GIDs: Invalid argument")
      << "its node is there: nothing to hand to the container";
  facts.trouble = "cannot open it: Permission denied";
  facts.unopened = true;
  EXPECT_EQ(causeOf(facts), "mlx5_0 port 1: /dev/infiniband/uverbs0: cannot open it: Permission denied");
}

TEST_F(VerbsChoice, isListedAndExplainedWhateverThisMachineHas) {
  const auto& all = backends();
  const auto row = std::find_if(all.begin(), all.end(), [](const Backend& each) { return each.name == "verbs"; });
  ASSERT_NE(row, all.end());
  const BackendReport report = row->probe({});
  EXPECT_EQ(report.name, "verbs");
  if (report.availability == Availability::kAvailable) {
    EXPECT_FALSE(report.facts.empty());
    return;
  }
  ASSERT_FALSE(report.causes.empty());
  for (const BackendCause& cause : report.causes) {
    EXPECT_FALSE(cause.cause.empty());
    EXPECT_FALSE(cause.fix.empty());
  }
  const auto pair = row->open({});
  ASSERT_FALSE(pair.ok());
  EXPECT_NE(pair.error().message.find(report.causes[0].cause), std::string::npos) << pair.error().message;
}

}  // namespace
}  // namespace outrigger::io::testing
