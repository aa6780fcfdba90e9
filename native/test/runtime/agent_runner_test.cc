// SPDX-License-Identifier: Apache-2.0
// Idling of agents: what is decided when, and that a sleeping thread is woken by doorbell, datagram and deadline, never missed.
#include "driver/agent_runner.h"

#include <gtest/gtest.h>
#include <sys/eventfd.h>

#include <atomic>
#include <functional>
#include <future>
#include <thread>

#include "base/fd.h"
#include "temp_directory.h"

namespace outrigger::driver {
namespace {

using Kind = IdleAction::Kind;
using test::TempDirectory;

constexpr int64_t kStartNs = 1'000'000'000;

TEST(IdleDecider, AdaptiveSpinsAfterWorkThenSleepsUntilTheDeadline) {
  IdleDecider decider{IdleStrategy{}};
  const int64_t deadlineNs = kStartNs + kSecondNs;
  EXPECT_EQ(decider.decide(1, kStartNs, 0, false).kind, Kind::kNone);
  EXPECT_EQ(decider.decide(0, kStartNs + 1, deadlineNs, false).kind, Kind::kYield);
  EXPECT_EQ(decider.decide(0, kStartNs + AdaptiveSpin::kShortNs - 1, deadlineNs, false).kind, Kind::kYield);
  const IdleAction sleep = decider.decide(0, kStartNs + AdaptiveSpin::kShortNs, deadlineNs, false);
  EXPECT_EQ(sleep.kind, Kind::kSleep);
  EXPECT_EQ(sleep.untilNs, deadlineNs);
}

TEST(IdleDecider, ADeadlineThatHasComeIsNotSleptOver) {
  IdleDecider decider{IdleStrategy{}};
  EXPECT_EQ(decider.decide(0, kStartNs, kStartNs, false).kind, Kind::kNone);
  EXPECT_EQ(decider.decide(0, kStartNs, kStartNs - 5, true).kind, Kind::kNone);
}

TEST(IdleDecider, WithSilentClientsSleepsDoubleFromOneMicrosecondToOneMillisecond) {
  IdleDecider decider{IdleStrategy{}};
  int64_t expectedNs = 1'000;
  for (int i = 0; i < 15; ++i) {
    const IdleAction action = decider.decide(0, kStartNs, kStartNs + kSecondNs, true);
    EXPECT_EQ(action.kind, Kind::kSleep);
    EXPECT_EQ(action.untilNs - kStartNs, expectedNs);
    expectedNs = std::min<int64_t>(expectedNs * 2, 1'000'000);
  }
  decider.decide(1, kStartNs, 0, true);
  EXPECT_EQ(decider.decide(0, kStartNs + AdaptiveSpin::kShortNs, kStartNs + kSecondNs, true).untilNs,
            kStartNs + AdaptiveSpin::kShortNs + 1'000)
      << "work makes them short again";
}

TEST(IdleDecider, ASilentClientsSleepEndsAtTheDeadline) {
  IdleDecider decider{IdleStrategy{}};
  for (int i = 0; i < 12; ++i) decider.decide(0, kStartNs, kStartNs + kSecondNs, true);
  EXPECT_EQ(decider.decide(0, kStartNs, kStartNs + 10, true).untilNs, kStartNs + 10);
}

TEST(IdleDecider, BackoffSpinsYieldsThenParksLongerAndLonger) {
  IdleStrategy strategy;
  strategy.kind = IdleKind::kBackoff;
  strategy.spins = 2;
  strategy.yields = 1;
  strategy.minParkNs = 1'000;
  strategy.maxParkNs = 3'000;
  IdleDecider decider{strategy};
  for (int round = 0; round < 2; ++round) {
    EXPECT_EQ(decider.decide(0, kStartNs, 0, false).kind, Kind::kSpin);
    EXPECT_EQ(decider.decide(0, kStartNs, 0, false).kind, Kind::kSpin);
    EXPECT_EQ(decider.decide(0, kStartNs, 0, false).kind, Kind::kYield);
    for (const int64_t parkNs : {1'000, 2'000, 3'000, 3'000}) {
      const IdleAction park = decider.decide(0, kStartNs, 0, false);
      EXPECT_EQ(park.kind, Kind::kPark);
      EXPECT_EQ(park.untilNs - kStartNs, parkNs);
    }
    EXPECT_EQ(decider.decide(3, kStartNs, 0, false).kind, Kind::kNone);
  }
}

TEST(IdleDecider, TheOthersDoOneThing) {
  EXPECT_EQ(IdleDecider({.kind = IdleKind::kBusySpin}).decide(0, kStartNs, 0, false).kind, Kind::kSpin);
  EXPECT_EQ(IdleDecider({.kind = IdleKind::kYield}).decide(0, kStartNs, 0, false).kind, Kind::kYield);
  const IdleAction sleep = IdleDecider({.kind = IdleKind::kSleep, .minParkNs = 7'000}).decide(0, kStartNs, 0, false);
  EXPECT_EQ(sleep.kind, Kind::kPark);
  EXPECT_EQ(sleep.untilNs, kStartNs + 7'000);
}

// Counts steps; work and deadlines as the test says.
class FakeAgent final : public Agent {
 public:
  int32_t doWork(int64_t nowNs) override {
    steps.fetch_add(1);
    return onStep ? onStep(nowNs) : 0;
  }
  int64_t nextDeadlineNs(int64_t nowNs) const override { return nowNs + deadlineNs.load(); }
  bool pending() const override { return hasPending.load(); }
  void lookAtAll() override { mustLook.store(true); }
  io::DatagramIo* io() const override { return owned.load(); }

  std::function<int32_t(int64_t)> onStep;
  std::atomic<io::DatagramIo*> owned{nullptr};
  std::atomic<int64_t> steps{0};
  std::atomic<int64_t> deadlineNs{3600 * kSecondNs};
  std::atomic<bool> hasPending{false};
  std::atomic<bool> mustLook{false};
};

// A DatagramIo of which only the descriptor matters.
class HandleIo final : public io::DatagramIo {
 public:
  explicit HandleIo(int fd) : fd_(fd) {}
  const io::Caps& caps() const override { return caps_; }
  Result<std::unique_ptr<io::Endpoint>> openEndpoint(const io::EndpointConfig&) override { return makeError(ErrorCode::kGeneric, "none"); }
  Result<std::unique_ptr<io::NextHop>> resolve(io::Endpoint&, const io::SockAddr&) override {
    return makeError(ErrorCode::kGeneric, "none");
  }
  void attach(io::Endpoint&) override {}
  void detach(io::Endpoint&) override {}
  uint32_t poll(io::RxBurst&, int64_t) override { return 0; }
  uint32_t transmit(io::Endpoint&, std::span<io::TxItem>) override { return 0; }
  io::TxStatus reserve(io::Endpoint&, const io::SockAddr&, uint32_t, io::TxSlot&) override { return io::TxStatus::kError; }
  io::TxStatus commit(io::Endpoint&, const io::SockAddr&, io::TxSlot&, uint32_t) override { return io::TxStatus::kError; }
  void abort(io::Endpoint&, io::TxSlot&) override {}
  int waitHandle() const override { return fd_; }
  bool arm() override { return armed.load(); }
  std::atomic<bool> armed{true};

 private:
  io::Caps caps_;
  int fd_;
};

// What a test asks an agent for, by numbers that grow.
struct Asked {
  std::atomic<int64_t> wanted{0};
  std::atomic<int64_t> answered{0};

  // The agent's look at it; returns its work.
  int32_t look() {
    const int64_t want = wanted.load(std::memory_order_acquire);
    const bool fresh = want != answered.load(std::memory_order_relaxed);
    answered.store(want, std::memory_order_release);
    return fresh ? 1 : 0;
  }
  void await(int64_t number) const {
    while (answered.load(std::memory_order_acquire) != number) std::this_thread::yield();
  }
};

class AgentRunnerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const int32_t fifoOf[cnc::Doorbells::kAgentCount] = {0, 1, 2};
    auto made = cnc::Doorbells::create(directory_.path(), fifoOf, 0600);
    ASSERT_TRUE(made.ok()) << made.error().message;
    bells_ = made.take();
  }
  std::unique_ptr<AgentRunner> runner(IdleStrategy idle = {}) {
    RunnerOptions options;
    options.threadName = "test-runner";
    options.idle = idle;
    options.fifo = 1;
    options.maxSleepNs = 3600 * kSecondNs;
    return std::make_unique<AgentRunner>(options, clock_, bells_, silent_);
  }
  // Waits for the agent to be stepped again; that nothing but what the test does wakes it is in the deadlines.
  static void awaitStepBeyond(const FakeAgent& agent, int64_t steps) {
    while (agent.steps.load() <= steps) std::this_thread::yield();
  }

  TempDirectory directory_;
  cnc::Doorbells bells_;
  SystemClock clock_;
  std::atomic<bool> silent_{false};
  cnc::Counter none_;
  int64_t maxNs_ = 0;
  int64_t exceeded_ = 0;
  CycleTimes times_{{0, &maxNs_}, {1, &exceeded_}, kSecondNs};
};

TEST_F(AgentRunnerTest, NoRingIsLostHoweverItFallsBetweenLookingAndSleeping) {
  Asked asked;
  FakeAgent agent;
  agent.onStep = [&](int64_t) { return asked.look(); };
  auto runner = this->runner();
  runner->add(agent, times_);
  runner->start();
  // Every deadline is an hour off: one lost ring hangs the test. Pauses of all lengths, so that rings hit spinning, looking and sleeping.
  for (int64_t i = 1; i <= 20'000; ++i) {
    asked.wanted.store(i, std::memory_order_release);
    bells_.ringAgent(cnc::AgentId::kSender);
    asked.await(i);
    for (int64_t spin = 0; spin < (i * 37) % 4'000; ++spin) cpuRelax();
  }
  runner->stop();
}

TEST_F(AgentRunnerTest, ADatagramEndsTheSleep) {
  const UniqueFd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  HandleIo io(event.get());
  std::atomic<int> received{0};
  FakeAgent agent;
  agent.onStep = [&](int64_t) {
    uint64_t value = 0;
    if (::read(event.get(), &value, sizeof(value)) != static_cast<ssize_t>(sizeof(value))) return 0;
    received.fetch_add(1);
    return 1;
  };
  auto runner = this->runner();
  agent.owned = &io;
  runner->add(agent, times_);
  runner->start();
  for (int i = 1; i <= 200; ++i) {
    const uint64_t one = 1;
    ASSERT_EQ(::write(event.get(), &one, sizeof(one)), static_cast<ssize_t>(sizeof(one)));
    while (received.load() < i) std::this_thread::yield();
    for (int64_t spin = 0; spin < i * 500; ++spin) cpuRelax();
  }
  runner->stop();
}

TEST_F(AgentRunnerTest, ADeadlineEndsTheSleep) {
  FakeAgent agent;
  agent.deadlineNs = 200'000;
  auto runner = this->runner();
  runner->add(agent, times_);
  runner->start();
  awaitStepBeyond(agent, 50);
  runner->stop();
}

TEST_F(AgentRunnerTest, WhatTheLookBeforeSleepingLeavesInARingKeepsTheThreadAwake) {
  // An agent that always has something pending and never counts it as work is stepped over and over.
  FakeAgent agent;
  agent.hasPending = true;
  auto runner = this->runner();
  runner->add(agent, times_);
  runner->start();
  awaitStepBeyond(agent, 20'000);
  runner->stop();
}

TEST_F(AgentRunnerTest, AnIoThatRefusesToArmKeepsTheThreadAwake) {
  const UniqueFd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  HandleIo io(event.get());
  io.armed = false;
  FakeAgent agent;
  auto runner = this->runner();
  agent.owned = &io;
  runner->add(agent, times_);
  runner->start();
  awaitStepBeyond(agent, 20'000);
  runner->stop();
}

TEST_F(AgentRunnerTest, SilentClientsAreLookedAfterWithoutARing) {
  silent_ = true;
  FakeAgent agent;
  auto runner = this->runner();
  runner->add(agent, times_);
  runner->start();
  awaitStepBeyond(agent, 2'000);
  runner->stop();
}

TEST_F(AgentRunnerTest, AnIoWithNothingToSleepOnIsPolled) {
  HandleIo io(-1);
  FakeAgent agent;
  auto runner = this->runner();
  agent.owned = &io;
  runner->add(agent, times_);
  runner->start();
  awaitStepBeyond(agent, 2'000);
  runner->stop();
}

TEST_F(AgentRunnerTest, StoppingWakesASleepingThread) {
  for (const IdleKind kind : {IdleKind::kAdaptive, IdleKind::kBusySpin, IdleKind::kYield, IdleKind::kSleep, IdleKind::kBackoff}) {
    FakeAgent agent;
    auto runner = this->runner({.kind = kind});
    runner->add(agent, times_);
    runner->start();
    awaitStepBeyond(agent, 1);
    runner->stop();
    const int64_t steps = agent.steps.load();
    std::this_thread::yield();
    EXPECT_EQ(agent.steps.load(), steps);
  }
}

TEST(AgentRunnerCycle, TimesInsideAnAgentAreCountedAndThoseBetweenCyclesAreNot) {
  ManualClock clock;
  const cnc::Doorbells bells;
  const std::atomic<bool> silent{false};
  AgentRunner runner({}, clock, bells, silent);
  int64_t maxNs[2] = {0, 0};
  int64_t exceeded[2] = {0, 0};
  FakeAgent slow;
  FakeAgent quick;
  int64_t tookNs = 100;
  std::vector<int64_t> seen;
  slow.onStep = [&](int64_t nowNs) {
    seen.push_back(nowNs);
    clock.advance(tookNs);
    return 2;
  };
  quick.onStep = [&](int64_t nowNs) {
    seen.push_back(nowNs);
    return 1;
  };
  runner.add(slow, {{0, &maxNs[0]}, {1, &exceeded[0]}, 500});
  runner.add(quick, {{2, &maxNs[1]}, {3, &exceeded[1]}, 500});
  EXPECT_EQ(runner.cycle(), 3);
  EXPECT_EQ(seen[1] - seen[0], 100) << "each agent gets the time of its own start";
  clock.advance(kSecondNs);
  tookNs = 700;
  runner.cycle();
  tookNs = 200;
  runner.cycle();
  EXPECT_EQ(maxNs[0], 700);
  EXPECT_EQ(exceeded[0], 1);
  EXPECT_EQ(maxNs[1], 0);
  EXPECT_EQ(exceeded[1], 0);
  EXPECT_EQ(runner.cycleEndNs(), clock.nanoTime());
}

TEST(AgentRunner, TheTimeOfIdleAgentsCountsWithTheNextThatHadWorkOrWithTheLast) {
  ManualClock clock;
  const cnc::Doorbells bells;
  const std::atomic<bool> silent{false};
  AgentRunner runner({}, clock, bells, silent);
  FakeAgent agents[3];
  int64_t maxNs[3] = {0, 0, 0};
  int64_t exceeded[3] = {0, 0, 0};
  int32_t work[3] = {0, 1, 0};
  for (int i = 0; i < 3; ++i) {
    agents[i].onStep = [&clock, &work, i](int64_t) {
      clock.advance(100);
      return work[i];
    };
    runner.add(agents[i], {{2 * i, &maxNs[i]}, {2 * i + 1, &exceeded[i]}, 250});
  }
  EXPECT_EQ(runner.cycle(), 1);
  EXPECT_EQ(maxNs[0], 0);
  EXPECT_EQ(maxNs[1], 200);
  EXPECT_EQ(maxNs[2], 100);
  work[1] = 0;
  EXPECT_EQ(runner.cycle(), 0);
  EXPECT_EQ(maxNs[2], 300) << "a stall in a cycle without work is one all the same";
  EXPECT_EQ(exceeded[2], 1);
}

// The conductor rests between steps that find nothing; what came meanwhile must not be slept on.
TEST_F(AgentRunnerTest, AnAgentThatRestsLooksOnceMoreBeforeItsThreadSleeps) {
  Asked asked;
  FakeAgent agent;
  agent.onStep = [&](int64_t) { return agent.mustLook.exchange(false) ? asked.look() : 0; };
  auto runner = this->runner();
  runner->add(agent, times_);
  runner->start();
  // Every deadline is an hour off, and this agent looks at nothing unless it must.
  for (int64_t i = 1; i <= 2'000; ++i) {
    asked.wanted.store(i, std::memory_order_release);
    bells_.ringAgent(cnc::AgentId::kSender);
    asked.await(i);
  }
  runner->stop();
}

}  // namespace
}  // namespace outrigger::driver
