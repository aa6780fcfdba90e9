// SPDX-License-Identifier: Apache-2.0
// What is io_uring's alone: why it can't be had, and datagrams beyond its buffers.
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <array>
#include <cstddef>
#include <cstring>
#include <thread>

#include "conformance_world.h"
#include "io/uring/uring.h"
#include "two_namespaces.h"

#ifndef __NR_io_uring_setup
#define __NR_io_uring_setup 425
#endif

namespace outrigger::io::testing {
namespace {

const Backend& row() {
  for (const Backend& backend : backends()) {
    if (backend.name == "uring") return backend;
  }
  std::abort();
}

// What the backend says in a child process whose filter answers `err` to one of io_uring's three calls.
std::string reportUnderFilter(uint32_t call, int err) {
  int pipe[2];
  EXPECT_EQ(::pipe(pipe), 0);
  std::fflush(nullptr);
  const pid_t child = ::fork();
  if (child == 0) {
    std::array<sock_filter, 4> program{sock_filter{BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(seccomp_data, nr)},
                                       sock_filter{BPF_JMP | BPF_JEQ | BPF_K, 0, 1, call},
                                       sock_filter{BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | static_cast<uint32_t>(err)},
                                       sock_filter{BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW}};
    const sock_fprog description{static_cast<unsigned short>(program.size()), program.data()};
    std::string text;
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &description) != 0) {
      text = "no filter";
    } else {
      const BackendReport report = row().probe(BackendOptions{});
      text = report.availability == Availability::kImpossible ? "impossible: " : "possible: ";
      for (const BackendCause& cause : report.causes) text += cause.cause + " | " + cause.fix;
      text += "\n" + openPair("uring", BackendOptions{}).error().message;
    }
    const ssize_t written = ::write(pipe[1], text.data(), text.size());
    ::_exit(written < 0 ? 1 : 0);
  }
  ::close(pipe[1]);
  std::string text;
  char buffer[4096];
  for (ssize_t length = 0; (length = ::read(pipe[0], buffer, sizeof(buffer))) > 0;) text.append(buffer, static_cast<size_t>(length));
  ::close(pipe[0]);
  int status = -1;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  return text;
}

TEST(Uring, namesTheSeccompFilterThatForbidsAnyOfItsCalls) {
  for (const uint32_t call : {425U, 426U, 427U}) {  // io_uring_setup, _enter, _register
    const std::string text = reportUnderFilter(call, EPERM);
    EXPECT_EQ(text.find("impossible: a seccomp filter forbids io_uring"), 0U) << call << ": " << text;
    EXPECT_NE(text.find("seccomp profile that allows io_uring_setup"), std::string::npos) << text;
    EXPECT_NE(text.find("\nbackend uring: "), std::string::npos) << "opening says the same: " << text;
  }
}

TEST(Uring, tellsAFilterThatHidesItFromAKernelWithoutIt) {
  const UringLimits limits = readUringLimits();
  const std::string text = reportUnderFilter(__NR_io_uring_setup, ENOSYS);
  if (limits.disabledSysctl >= 0) {
    EXPECT_EQ(text.find("impossible: a seccomp filter hides io_uring"), 0U) << text;
  } else {
    EXPECT_NE(text.find("or the process' seccomp filter hides it"), std::string::npos) << text;
  }
}

TEST(Uring, explainsEachRefusalByWhatCausesIt) {
  const auto cause = [](int err, UringLimits limits) { return explainUringRefusal(err, limits).cause; };
  EXPECT_NE(cause(EPERM, {2, true}).find("io_uring_disabled is 2"), std::string::npos) << "the sysctl comes before any filter";
  EXPECT_NE(cause(EPERM, {1, false}).find("io_uring_group"), std::string::npos);
  EXPECT_NE(cause(EPERM, {1, true}).find("io_uring_group"), std::string::npos) << "the filter may be one that allows io_uring";
  EXPECT_NE(cause(EPERM, {1, true, true}).find("seccomp filter forbids"), std::string::npos) << "the sysctl does not hold for this process";
  EXPECT_NE(cause(EPERM, {1, false, true}).find("security module"), std::string::npos);
  EXPECT_NE(cause(EPERM, {0, true}).find("seccomp filter forbids"), std::string::npos);
  EXPECT_NE(cause(EPERM, {0, false}).find("security module"), std::string::npos);
  EXPECT_NE(cause(ENOSYS, {0, true}).find("hides"), std::string::npos);
  EXPECT_NE(cause(ENOSYS, {-1, false}).find("built without io_uring"), std::string::npos);
  EXPECT_NE(cause(EINVAL, {0, false}).find("6.1"), std::string::npos);
  EXPECT_NE(cause(ENOMEM, {0, false}).find("RLIMIT_MEMLOCK"), std::string::npos);
  for (const int err : {EPERM, ENOSYS, EINVAL, ENOMEM, EMFILE, EIO}) EXPECT_FALSE(explainUringRefusal(err, {}).fix.empty());
  for (const int disabled : {1, 2}) {
    EXPECT_NE(explainUringRefusal(EPERM, {disabled, true}).fix.find("seccomp profile"), std::string::npos) << "it may come next";
    EXPECT_EQ(explainUringRefusal(EPERM, {disabled, false}).fix.find("seccomp"), std::string::npos);
  }
}

TEST(Uring, isMadeByOneThreadAndOwnedByAnother) {
  auto io = makeBackend("uring", BackendOptions{}).take();
  EndpointConfig config;
  config.bindAddress = address("127.0.0.1");
  auto endpoint = io->openEndpoint(config).take();
  std::thread owner([&] {
    io->attach(*endpoint);
    RealWorld world("uring", {});
    auto next = hop(*io, *endpoint, endpoint->localAddress());
    const Bytes bytes = pattern(10 * 500, 1);
    std::vector<TxItem> items{item(*next, bytes, 500), item(*next, bytes, 500)};
    EXPECT_EQ(io->transmit(*endpoint, items), 2U);
    EXPECT_EQ(collect(world, *io, 20).size(), 20U);
    io->detach(*endpoint);
  });
  owner.join();
}

TEST(Uring, goesOnWhenMoreArrivesThanItHasBuffers) {
  auto io = makeBackend("uring", BackendOptions{}).take();
  auto to = openAt(*io, address("127.0.0.1"), 8 << 20);
  auto from = openAt(*io, address("127.0.0.1"));
  auto next = hop(*io, *from, to->localAddress());
  RealWorld world("uring", {});
  const Bytes bytes = pattern(700, 1);
  // Over twice the 64 buffers, and within a socket buffer of net.core.rmem_max's default, where each takes 2304 bytes.
  constexpr uint32_t kBurst = 150;
  for (int round = 0; round < 5; ++round) {
    std::vector<TxItem> items(kBurst, item(*next, bytes));
    ASSERT_EQ(io->transmit(*from, items), kBurst);
    EXPECT_EQ(collect(world, *io, kBurst).size(), kBurst);
  }
  EXPECT_EQ(to->stats.receiveQueueDrops.load(), 0);
  EXPECT_EQ(to->stats.sendErrors.load(), 0) << "running out of buffers is no error";
}

// A batch that finds room for a part only: the rest goes with the next call, in order.
TEST(Uring, losesNothingOfBatchesThatASlowInterfaceHoldsUp) {
  outrigger::testing::TwoNamespaces::run([](outrigger::testing::TwoNamespaces& both) {
    both.near("tc qdisc add dev lo root tbf rate 20mbit burst 4000 latency 10s");
    auto io = makeBackend("uring", BackendOptions{}).take();
    auto to = openAt(*io, address("127.0.0.1"), 8 << 20);
    auto from = openAt(*io, address("127.0.0.1"), 0, 32 << 10);
    auto next = hop(*io, *from, to->localAddress());
    RealWorld world("uring", {});
    constexpr uint32_t kBatch = 32;
    constexpr int kBatches = 40;
    constexpr uint32_t kLength = 1000;
    std::vector<int> times(static_cast<size_t>(kBatches) * kBatch, 0);
    uint32_t heldUp = 0;
    size_t received = 0;
    uint32_t highest = 0;
    const auto take = [&](bool wait) {
      std::vector<Arrival> some = pollOnce(*io, world.nowNs());
      if (some.empty() && wait && world.await(*io)) some = pollOnce(*io, world.nowNs());
      for (const Arrival& arrival : some) {
        uint32_t number = 0;
        std::memcpy(&number, arrival.bytes.data(), sizeof(number));
        if (times.at(number)++ == 0) ++received;
        EXPECT_GE(number, highest);
        highest = number;
      }
      return !some.empty();
    };
    for (int batch = 0; batch < kBatches; ++batch) {
      std::vector<Bytes> bytes;
      std::vector<TxItem> items;
      for (uint32_t i = 0; i < kBatch; ++i) {
        bytes.push_back(pattern(kLength, 1));
        const uint32_t number = static_cast<uint32_t>(batch) * kBatch + i;
        std::memcpy(bytes.back().data(), &number, sizeof(number));
      }
      for (const Bytes& each : bytes) items.push_back(item(*next, each));
      size_t done = 0;
      for (int call = 0; done < kBatch && call < 100'000; ++call) {
        const uint32_t finished = io->transmit(*from, std::span<TxItem>(items).subspan(done));
        for (size_t i = done; i < done + finished; ++i) ASSERT_EQ(items[i].status, TxStatus::kSent);
        done += finished;
        if (done < kBatch) ++heldUp;
        take(done < kBatch);
      }
      ASSERT_EQ(done, kBatch);
    }
    while (received < times.size() && take(true)) continue;
    EXPECT_EQ(received, times.size());
    EXPECT_GT(heldUp, 0U) << "the test shows something";
  });
}

// A standing receive holds its socket: closed under it, the port would stay taken.
TEST(Uring, freesThePortOfADetachedEndpointAtOnce) {
  auto io = makeBackend("uring", BackendOptions{}).take();
  for (int round = 0; round < 50; ++round) {
    auto first = openAt(*io, address("127.0.0.1"));
    const SockAddr port = first->localAddress();
    io->detach(*first);
    first.reset();
    auto second = openAt(*io, port);
    ASSERT_NE(second, nullptr);
    io->detach(*second);
  }
}

}  // namespace
}  // namespace outrigger::io::testing
