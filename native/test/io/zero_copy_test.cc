// SPDX-License-Identifier: Apache-2.0
// Sends of `uring` without a copy: where they go on, where they are given up, and for how long their memory is read.
#include "io/uring/zero_copy.h"

#include <linux/capability.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "conformance_world.h"
#include "frame/net_world.h"
#include "lending_io.h"

namespace outrigger::io::testing {
namespace {

constexpr uint32_t kSegment = 1400;
constexpr uint32_t kDatagrams = 40;

std::string refusal() {
  if (auto made = makeBackend("uring", BackendOptions{}); !made) return made.error().message;
  const int err = probeZeroCopy();
  return err == 0 ? "" : explainZeroCopyRefusal(err);
}

std::unique_ptr<DatagramIo> open(ZeroCopyMode mode) {
  BackendOptions options;
  options.zeroCopy = mode;
  return makeBackend("uring", options).take();
}

TxItem lentTrain(NextHop& to, const Bytes& bytes) {
  TxItem one = item(to, bytes, kSegment);
  one.lent = true;
  return one;
}

int64_t counted(const DatagramIo& io, DeviceCounter counter) { return io.totals().network[networkIndex(counter)]; }

// All of it, however often there is no room.
void send(DatagramIo& io, Endpoint& from, TxItem one) {
  std::vector<TxItem> items{one};
  const int64_t limitNs = SystemClock().nanoTime() + kPatienceMs * 1'000'000LL;
  while (io.transmit(from, items) == 0) {
    ASSERT_EQ(items[0].status, TxStatus::kWouldBlock);
    ASSERT_LT(SystemClock().nanoTime(), limitNs) << "there was never room for it";
  }
  ASSERT_EQ(items[0].status, TxStatus::kSent);
}

void expectTrain(const std::vector<Arrival>& arrivals, const Bytes& train) {
  ASSERT_EQ(arrivals.size(), kDatagrams);
  for (size_t i = 0; i < arrivals.size(); ++i) {
    ASSERT_TRUE(std::equal(arrivals[i].bytes.begin(), arrivals[i].bytes.end(), train.begin() + static_cast<ptrdiff_t>(i * kSegment)))
        << "datagram " << i;
  }
}

struct Hop final : NextHop {
  explicit Hop(const std::string& host) : NextHop(testing::address(host, 4000)) {}
};

// ---- what is learned, without a kernel ----

TEST(ZeroCopyRoute, isLeftWhereTheKernelCopiesAllTheSameAndTriedAgainLater) {
  ZeroCopyRoute route;
  for (uint64_t pause = ZeroCopyRoute::kFirstPause; pause <= ZeroCopyRoute::kFirstPause * 4; pause *= 2) {
    for (uint32_t i = 0; i < ZeroCopyRoute::kCopiesInARow; ++i) {
      ASSERT_TRUE(route.wants());
      route.onNotification(true);
    }
    EXPECT_TRUE(route.paused());
    for (uint64_t i = 0; i < pause; ++i) ASSERT_FALSE(route.wants()) << i;
    EXPECT_FALSE(route.paused());
  }
  route.onNotification(false);
  for (uint32_t i = 0; i + 1 < ZeroCopyRoute::kCopiesInARow; ++i) route.onNotification(true);
  EXPECT_TRUE(route.wants()) << "now and then a copy is no reason";
}

TEST(ZeroCopySends, takesOnlyLongMessagesOfMemoryThatIsLent) {
  ZeroCopySends sends(ZeroCopyMode::kAuto);
  Hop hop("10.0.0.1");
  const Bytes bytes(64 * 1024);
  TxItem one = item(hop, bytes);
  EXPECT_FALSE(sends.wants(one, 60'000)) << "it may be written over as soon as the call is over";
  one.lent = true;
  EXPECT_TRUE(sends.wants(one, ZeroCopySends::kMinLength));
  EXPECT_FALSE(sends.wants(one, ZeroCopySends::kMinLength - 1)) << "a copy costs less";
  ZeroCopySends all(ZeroCopyMode::kOn);
  EXPECT_TRUE(all.wants(one, 100));
  for (uint32_t i = 0; i < ZeroCopySends::kMaxPending; ++i) all.add(hop, bytes.data(), 100);
  EXPECT_FALSE(all.wants(one, 100)) << "as many are under way as are kept account of";
}

TEST(ZeroCopySends, readsMemoryFromTheCallUntilItsNotificationWhicheverCompletionIsFirst) {
  ZeroCopySends sends(ZeroCopyMode::kOn);
  Hop hop("10.0.0.1");
  const Bytes memory(3000);
  const uint8_t* at = memory.data() + 1000;
  const uint64_t first = sends.add(hop, at, 1000);
  EXPECT_TRUE(sends.stillReads(nullptr, SIZE_MAX));
  EXPECT_EQ(sends.late(), 0) << "whether there is any is asked by nobody who needs the memory";
  EXPECT_TRUE(sends.stillReads(at, 1000));
  EXPECT_TRUE(sends.stillReads(at + 999, 1));
  EXPECT_TRUE(sends.stillReads(memory.data(), 1001));
  EXPECT_FALSE(sends.stillReads(memory.data(), 1000));
  EXPECT_FALSE(sends.stillReads(at + 1000, 1000));
  EXPECT_EQ(sends.late(), 1) << "once a message, however often it is asked for";
  sends.onEnd(first, 1000, true);
  EXPECT_TRUE(sends.stillReads(at, 1000));
  sends.onNotification(first, false);
  EXPECT_FALSE(sends.stillReads(at, 1000));

  const uint64_t second = sends.add(hop, at, 1000);
  sends.onNotification(second, true);
  EXPECT_TRUE(sends.stillReads(at, 1000)) << "it may yet say that another notification follows";
  sends.onEnd(second, 1000, true);
  EXPECT_FALSE(sends.stillReads(at, 1000));
  EXPECT_EQ(sends.sent(), 2);
  EXPECT_EQ(sends.copied(), 1);
}

TEST(ZeroCopySends, letsGoOfWhatFailedAndIgnoresItsNotification) {
  ZeroCopySends sends(ZeroCopyMode::kOn);
  Hop hop("10.0.0.1");
  const Bytes memory(1000);
  const uint64_t failed = sends.add(hop, memory.data(), memory.size());
  const uint64_t other = sends.add(hop, memory.data(), memory.size());
  sends.onEnd(failed, -ECANCELED, true);
  sends.onNotification(failed, true);
  EXPECT_EQ(sends.pending(), 1U);
  EXPECT_EQ(sends.copied(), 0);
  sends.onEnd(other, 1000, false);
  EXPECT_EQ(sends.pending(), 0U) << "no notification was announced";
}

TEST(ZeroCopySends, givesUpOneDestinationWithoutTheOthers) {
  ZeroCopySends sends(ZeroCopyMode::kAuto);
  Hop near("10.0.0.1");
  Hop far("10.0.0.2");
  const Bytes memory(ZeroCopySends::kMinLength);
  TxItem toNear = item(near, memory);
  TxItem toFar = item(far, memory);
  toNear.lent = toFar.lent = true;
  for (uint32_t i = 0; i < ZeroCopyRoute::kCopiesInARow; ++i) {
    for (const auto& [hop, copied] : {std::pair<const NextHop&, bool>(near, true), std::pair<const NextHop&, bool>(far, false)}) {
      const uint64_t number = sends.add(hop, memory.data(), memory.size());
      sends.onEnd(number, 1, true);
      sends.onNotification(number, copied);
    }
  }
  EXPECT_FALSE(sends.wants(toNear, ZeroCopySends::kMinLength));
  EXPECT_TRUE(sends.wants(toFar, ZeroCopySends::kMinLength));

  // One that keeps the log from being cleaned: plainly for a while, whatever comes of what is under way.
  const uint64_t stuck = sends.add(far, memory.data(), memory.size());
  sends.onEnd(stuck, 1, true);
  EXPECT_TRUE(sends.stillReads(memory.data(), 1));
  sends.onNotification(stuck, false);
  EXPECT_FALSE(sends.wants(toFar, ZeroCopySends::kMinLength));
}

TEST(ZeroCopySends, isOffForGoodOnlyWhereTheKernelCanNotDoIt) {
  const Bytes memory(ZeroCopySends::kMinLength);
  Hop hop("10.0.0.1");
  TxItem one = item(hop, memory);
  one.lent = true;
  for (const int err : {ENOBUFS, ENOMEM, EFAULT, EMSGSIZE, EPERM, EACCES}) {
    ZeroCopySends sends(ZeroCopyMode::kAuto);
    ASSERT_TRUE(ZeroCopySends::isRefusal(err));
    sends.onRefused(hop, err);
    EXPECT_TRUE(sends.on());
    EXPECT_FALSE(sends.wants(one, ZeroCopySends::kMinLength)) << "there may be memory later, or no rule against it";
    EXPECT_EQ(sends.refused(), 1);
  }
  for (const int err : {EINVAL, EOPNOTSUPP, ENOSYS}) {
    ZeroCopySends sends(ZeroCopyMode::kAuto);
    ASSERT_TRUE(ZeroCopySends::isRefusal(err));
    sends.onRefused(hop, err);
    EXPECT_FALSE(sends.on());
    EXPECT_EQ(sends.refused(), 1);
    EXPECT_EQ(sends.describe(), "off: " + explainZeroCopyRefusal(err));
  }
  for (const int err : {EAGAIN, ECONNREFUSED, EHOSTUNREACH, EIO}) EXPECT_FALSE(ZeroCopySends::isRefusal(err)) << "the message's own";
  EXPECT_NE(explainZeroCopyRefusal(EINVAL).find("6.2"), std::string::npos);
}

// ---- what the kernel does ----

TEST(UringZeroCopy, isGivenUpOverLoopbackWhereTheKernelCopiesAllTheSame) {
  if (const std::string why = refusal(); !why.empty()) GTEST_SKIP() << why;
  auto io = open(ZeroCopyMode::kAuto);
  auto to = openAt(*io, address("127.0.0.1"), 8 << 20);
  auto from = openAt(*io, address("127.0.0.1"), 0, 8 << 20);
  auto next = hop(*io, *from, to->localAddress());
  RealWorld world("uring", {});
  constexpr int kRounds = 60;
  Bytes train;
  for (int round = 0; round < kRounds; ++round) {
    ASSERT_TRUE(awaitUnread(*io, train.data(), train.size()));
    train = pattern(kDatagrams * kSegment, static_cast<uint32_t>(round));
    send(*io, *from, lentTrain(*next, train));
    expectTrain(collect(world, *io, kDatagrams), train);
  }
  const int64_t sent = counted(*io, DeviceCounter::kZeroCopySends);
  EXPECT_GE(sent, ZeroCopyRoute::kCopiesInARow);
  EXPECT_LT(sent, kRounds) << "it was not given up";
  EXPECT_EQ(counted(*io, DeviceCounter::kZeroCopyCopied), sent);
  EXPECT_EQ(counted(*io, DeviceCounter::kZeroCopyRefused), 0);
}

TEST(UringZeroCopy, carriesMessagesOfAnyLengthOverBothFamilies) {
  if (const std::string why = refusal(); !why.empty()) GTEST_SKIP() << why;
  LendingIo io(open(ZeroCopyMode::kOn));
  RealWorld world("uring", {});
  int64_t sent = 0;
  for (const char* host : {"127.0.0.1", "::1"}) {
    auto to = openAt(io, address(host), 8 << 20);
    auto next = hop(io, *to, to->localAddress());
    for (uint32_t round = 0; round < 20; ++round) {
      std::vector<Bytes> payloads;
      for (const size_t length : {1UL, 31UL, 1408UL, 4096UL, 9000UL}) payloads.push_back(pattern(length, round));
      std::vector<TxItem> items;
      for (const Bytes& each : payloads) items.push_back(item(*next, each));
      ASSERT_EQ(io.transmit(*to, items), items.size());
      sent += static_cast<int64_t>(items.size());
      const auto arrivals = collect(world, io, items.size());
      ASSERT_EQ(arrivals.size(), items.size());
      for (size_t i = 0; i < arrivals.size(); ++i) ASSERT_EQ(arrivals[i].bytes, payloads[i]);
    }
    io.detach(*to);
  }
  EXPECT_EQ(counted(io, DeviceCounter::kZeroCopySends), sent);
}

TEST(UringZeroCopy, isNotUsedForMemoryThatIsNotLentNorWhereItIsOff) {
  if (const std::string why = refusal(); !why.empty()) GTEST_SKIP() << why;
  for (const bool off : {false, true}) {
    auto io = open(off ? ZeroCopyMode::kOff : ZeroCopyMode::kOn);
    auto to = openAt(*io, address("127.0.0.1"), 8 << 20);
    auto next = hop(*io, *to, to->localAddress());
    RealWorld world("uring", {});
    const Bytes train = pattern(kDatagrams * kSegment, 1);
    TxItem one = item(*next, train, kSegment);
    one.lent = off;
    send(*io, *to, one);
    EXPECT_FALSE(io->stillReads(nullptr, SIZE_MAX));
    expectTrain(collect(world, *io, kDatagrams), train);
    EXPECT_EQ(counted(*io, DeviceCounter::kZeroCopySends), 0);
  }
}

TEST(UringZeroCopy, goesOnWhereTheDeviceReadsTheMemoryItself) {
  if (const std::string why = refusal(); !why.empty()) GTEST_SKIP() << why;
  if (const std::string why = namespaceRefusal(); !why.empty()) GTEST_SKIP() << why;
  // One that takes scattered frames and drops them: nobody behind it needs the bytes.
  const Namespace host;
  // Where these are modules, loading them makes devices of their own on the machine unless told not to.
  const auto add = [&](const char* type) {
    const std::string load = std::string("modprobe -q ") + type + " num" + (type == std::string("dummy") ? "dummies" : "ifbs") + "=0";
    [[maybe_unused]] const int built = std::system((load + " 2>/dev/null").c_str());
    const Inside inside(host);
    return std::system((std::string("ip link add eth0 type ") + type + " 2>/dev/null").c_str()) == 0;
  };
  if (!add("dummy") && !add("ifb")) GTEST_SKIP() << "this kernel has neither dummy nor ifb devices";
  ASSERT_TRUE(command(host, "ip address add 10.89.0.1/24 dev eth0"));
  ASSERT_TRUE(command(host, "ip link set eth0 up"));
  auto io = open(ZeroCopyMode::kAuto);
  std::unique_ptr<Endpoint> from;
  {
    const Inside inside(host);
    from = openAt(*io, address("10.89.0.1"), 0, 8 << 20);
  }
  auto next = hop(*io, *from, address("10.89.0.2", 4000));
  const Bytes train = pattern(kDatagrams * kSegment, 1);
  // Several in one call, and many times what is kept account of at once.
  constexpr int kRounds = 100;
  for (int round = 0; round < kRounds; ++round) {
    std::vector<TxItem> items(4, lentTrain(*next, train));
    const int64_t limitNs = SystemClock().nanoTime() + kPatienceMs * 1'000'000LL;
    for (size_t done = 0; done < items.size();) {
      done += io->transmit(*from, std::span<TxItem>(items).subspan(done));
      ASSERT_LT(SystemClock().nanoTime(), limitNs) << done << " of " << items.size() << " were sent, then no more";
    }
  }
  ASSERT_TRUE(awaitUnread(*io, train.data(), train.size()));
  EXPECT_EQ(counted(*io, DeviceCounter::kZeroCopySends), 4 * kRounds);
  EXPECT_EQ(counted(*io, DeviceCounter::kZeroCopyCopied), 0);
  EXPECT_EQ(counted(*io, DeviceCounter::kZeroCopyRefused), 0);
}

// A veth pair whose far host does not say who it is: what is sent there waits with the kernel until it is told.
class SilentNeighbour : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const std::string why = refusal(); !why.empty()) GTEST_SKIP() << why;
    if (const std::string why = namespaceRefusal(); !why.empty()) GTEST_SKIP() << why;
    near_ = std::make_unique<Namespace>();
    far_ = std::make_unique<Namespace>();
    command(*near_, "ip link add eth0 type veth peer name eth0 address 02:00:00:00:89:02 netns " + far_->path());
    command(*far_, "ip address add 10.89.0.2/24 dev eth0");
    command(*far_, "ip link set eth0 arp off up");
    command(*near_, "ip address add 10.89.0.1/24 dev eth0");
    command(*near_, "ip link set eth0 up");
    {
      // It asks for as long as the test may take.
      const Inside inside(*near_);
      writeFile("/proc/sys/net/ipv4/neigh/eth0/mcast_solicit", "1000");
    }
    sender_ = open(ZeroCopyMode::kAuto);
    receiver_ = open(ZeroCopyMode::kAuto);
    {
      const Inside inside(*near_);
      from_ = openAt(*sender_, address("10.89.0.1"), 0, 8 << 20);
    }
    {
      const Inside inside(*far_);
      to_ = openAt(*receiver_, address("10.89.0.2"), 8 << 20);
    }
    ASSERT_NE(from_, nullptr);
    ASSERT_NE(to_, nullptr);
    next_ = hop(*sender_, *from_, to_->localAddress());
  }
  void introduce() { command(*near_, "ip neighbour replace 10.89.0.2 lladdr 02:00:00:00:89:02 nud permanent dev eth0"); }

  std::unique_ptr<Namespace> near_;
  std::unique_ptr<Namespace> far_;
  std::unique_ptr<DatagramIo> sender_;
  std::unique_ptr<DatagramIo> receiver_;
  std::unique_ptr<Endpoint> from_;
  std::unique_ptr<Endpoint> to_;
  std::unique_ptr<NextHop> next_;
};

TEST_F(SilentNeighbour, keepsTheMemoryReadUntilItIsKnown) {
  const Bytes train = pattern(kDatagrams * kSegment, 7);
  send(*sender_, *from_, lentTrain(*next_, train));
  EXPECT_TRUE(sender_->stillReads(train.data(), train.size()));
  EXPECT_EQ(counted(*sender_, DeviceCounter::kZeroCopyLate), 1);
  const Bytes elsewhere(1000);
  EXPECT_FALSE(sender_->stillReads(elsewhere.data(), elsewhere.size()));
  // It kept somebody waiting: the next one goes plainly.
  const Bytes second = pattern(kDatagrams * kSegment, 8);
  send(*sender_, *from_, lentTrain(*next_, second));
  EXPECT_FALSE(sender_->stillReads(second.data(), second.size()));
  EXPECT_EQ(counted(*sender_, DeviceCounter::kZeroCopySends), 1);

  introduce();
  RealWorld world("uring", {});
  const auto arrivals = collect(world, *receiver_, 2 * kDatagrams);
  ASSERT_EQ(arrivals.size(), 2 * kDatagrams);
  expectTrain({arrivals.begin(), arrivals.begin() + kDatagrams}, train);
  expectTrain({arrivals.begin() + kDatagrams, arrivals.end()}, second);
  EXPECT_TRUE(awaitUnread(*sender_, train.data(), train.size()));
}

// The ring is closed, the port given up and the memory unmapped, all before the kernel has read it: its pages are the kernel's until then.
TEST_F(SilentNeighbour, isNoObstacleToClosingAndWhatIsUnderWayArrives) {
  const Bytes train = pattern(kDatagrams * kSegment, 9);
  void* memory = ::mmap(nullptr, train.size(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  std::memcpy(memory, train.data(), train.size());
  TxItem one = lentTrain(*next_, train);
  one.data = static_cast<const uint8_t*>(memory);
  send(*sender_, *from_, one);
  ASSERT_TRUE(sender_->stillReads(one.data, one.length));
  const SockAddr port = from_->localAddress();
  sender_->detach(*from_);
  from_.reset();
  next_.reset();
  sender_.reset();
  ASSERT_EQ(::munmap(memory, train.size()), 0);
  auto again = open(ZeroCopyMode::kAuto);
  {
    const Inside inside(*near_);
    from_ = openAt(*again, port);
  }
  ASSERT_NE(from_, nullptr) << "the port is free";
  introduce();
  RealWorld world("uring", {});
  expectTrain(collect(world, *receiver_, kDatagrams), train);
  again->detach(*from_);
  from_.reset();
}

// In a child process without the right to lock memory at will. What it finds is its exit code.
TEST(UringZeroCopy, goesPlainlyWhereThereIsNoLockedMemory) {
  if (const std::string why = refusal(); !why.empty()) GTEST_SKIP() << why;
  std::fflush(nullptr);
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    ::alarm(60);
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    std::array<__user_cap_data_struct, 2> none{};
    EXPECT_EQ(::syscall(SYS_capset, &header, none.data()), 0);
    auto io = open(ZeroCopyMode::kAuto);
    auto to = openAt(*io, address("127.0.0.1"), 1 << 20);
    auto next = hop(*io, *to, to->localAddress());
    const rlimit limit{4096, 4096};
    EXPECT_EQ(::setrlimit(RLIMIT_MEMLOCK, &limit), 0);
    RealWorld world("uring", {});
    const Bytes train = pattern(kDatagrams * kSegment, 3);
    for (int round = 0; round < 3; ++round) {
      send(*io, *to, lentTrain(*next, train));
      expectTrain(collect(world, *io, kDatagrams), train);
    }
    EXPECT_EQ(counted(*io, DeviceCounter::kZeroCopyRefused), 1) << "then it is left alone for a while";
    EXPECT_EQ(counted(*io, DeviceCounter::kZeroCopySends), 0);
    EXPECT_FALSE(io->stillReads(nullptr, SIZE_MAX));
    std::fflush(nullptr);
    ::_exit(::testing::Test::HasFailure() ? 1 : 0);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0) << "see the child's output above";
}

}  // namespace
}  // namespace outrigger::io::testing
