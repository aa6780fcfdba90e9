// SPDX-License-Identifier: Apache-2.0
// AgentRunner: steps the agents of one thread and idles between (contract with media_driver). IdleDecider is the decision alone, a pure
// function of what happened and the time, so that it can be tested without threads.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "base/adaptive_spin.h"
#include "base/clock.h"
#include "cnc/counters.h"
#include "cnc/doorbells.h"
#include "driver/driver_config.h"
#include "io/datagram_io.h"

namespace outrigger::driver {

// A step function as the runner sees it.
class Agent {
 public:
  virtual ~Agent() = default;
  virtual int32_t doWork(int64_t nowNs) = 0;
  virtual int64_t nextDeadlineNs(int64_t nowNs) const = 0;
  // Something of another agent waits in its rings.
  virtual bool pending() const = 0;
  // The next step looks at everything that may wait, also at what it looks at more rarely while it finds nothing. Before a sleep.
  virtual void lookAtAll() {}
  // What it owns, to be armed and slept on; null for none. May become another between two steps.
  virtual io::DatagramIo* io() const { return nullptr; }
};

struct IdleAction {
  enum class Kind : uint8_t {
    kNone,   // go on at once
    kSpin,   // a pause instruction
    kYield,  // give the core away
    kPark,   // sleep `untilNs - now`, on nothing but time
    kSleep,  // sleep until `untilNs`, a datagram, or the doorbell
  };
  Kind kind = Kind::kNone;
  int64_t untilNs = 0;
};

class IdleDecider {
 public:
  static constexpr int64_t kMinBlindSleepNs = 1'000;
  static constexpr int64_t kMaxBlindSleepNs = 1'000'000;

  explicit IdleDecider(const IdleStrategy& strategy) : strategy_(strategy) {}

  // `blind`: somebody may have work for the agents who rings no doorbell, so sleeps start at 1 us and double up to 1 ms.
  IdleAction decide(int32_t workCount, int64_t nowNs, int64_t deadlineNs, bool blind);
  // Work was found between the decision to sleep and the sleep.
  void workFound(int64_t nowNs) {
    spin_.workFound(nowNs);
    blindSleepNs_ = kMinBlindSleepNs;
  }

 private:
  IdleAction adaptive(int64_t nowNs, int64_t deadlineNs, bool blind);
  IdleAction backoff(int64_t nowNs);

  IdleStrategy strategy_;
  AdaptiveSpin spin_;
  int64_t blindSleepNs_ = kMinBlindSleepNs;
  int64_t idleCycles_ = 0;
  int64_t parkNs_ = 0;
};

// Of an agent's steps, in shared threads with the steps of idle agents before it: the clock is read behind agents that had work, and at the end of a
// cycle. Reading it behind each was two fifths of an idle cycle.
struct CycleTimes {
  cnc::Counter max;
  cnc::Counter exceeded;
  int64_t thresholdNs = 0;
};

struct RunnerOptions {
  std::string threadName;  // at most 15 characters count
  IdleStrategy idle;
  int32_t cpu = kNoCpu;
  int32_t fifo = 0;                    // the doorbell it sleeps on
  int64_t maxSleepNs = 1'000'000'000;  // also when every deadline is later
};

class AgentRunner {
 public:
  AgentRunner(RunnerOptions options, Clock& clock, const cnc::Doorbells& doorbells, const std::atomic<bool>& silentClients);
  ~AgentRunner();
  AgentRunner(const AgentRunner&) = delete;
  AgentRunner& operator=(const AgentRunner&) = delete;

  // Before start; agents are stepped in this order.
  void add(Agent& agent, const CycleTimes& times);
  void start();
  // Ends the thread after its cycle and joins it. Idempotent.
  void stop();

  // One cycle of every agent. The runner's thread, or the embedder's when there is none.
  int32_t cycle();
  int64_t cycleEndNs() const { return cycleEndNs_; }
  int64_t nextDeadlineNs(int64_t nowNs) const;
  // The runner's thread, after a cycle.
  void idle(int32_t workCount);

 private:
  struct Entry {
    Agent* agent;
    CycleTimes times;
    io::DatagramIo* io = nullptr;  // as it was at the last look
  };
  // Asks the agents for their instances; their thread.
  void lookAtIos();
  void run();
  bool pending() const;
  void sleep(int64_t untilNs);

  RunnerOptions options_;
  Clock& clock_;
  const cnc::Doorbells& doorbells_;
  const std::atomic<bool>& silentClients_;
  IdleDecider decider_;
  std::vector<Entry> agents_;
  bool unwakeableIo_ = false;  // some instance has nothing to sleep on
  int64_t cycleEndNs_ = 0;
  std::atomic<bool> running_{false};
  std::thread thread_;
};

}  // namespace outrigger::driver
