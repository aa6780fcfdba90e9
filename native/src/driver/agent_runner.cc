// SPDX-License-Identifier: Apache-2.0
// Stepping and idling of agents.
#include "driver/agent_runner.h"

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/prctl.h>
#include <time.h>

#include <algorithm>
#include <array>

#include "base/shared_memory.h"

namespace outrigger::driver {
namespace {

constexpr size_t kMaxPolled = 4;
// Deadlines of loss recovery are some tens of microseconds ahead; the default slack of 50 us would double them.
constexpr unsigned long kTimerSlackNs = 1'000;

timespec toTimespec(int64_t ns) { return {static_cast<time_t>(ns / kSecondNs), static_cast<long>(ns % kSecondNs)}; }

}  // namespace

IdleAction IdleDecider::decide(int32_t workCount, int64_t nowNs, int64_t deadlineNs, bool blind) {
  if (workCount > 0) {
    workFound(nowNs);
    idleCycles_ = 0;
    parkNs_ = 0;
    return {};
  }
  switch (strategy_.kind) {
    case IdleKind::kAdaptive:
      return adaptive(nowNs, deadlineNs, blind);
    case IdleKind::kBusySpin:
      return {IdleAction::Kind::kSpin, 0};
    case IdleKind::kYield:
      return {IdleAction::Kind::kYield, 0};
    case IdleKind::kSleep:
      return {IdleAction::Kind::kPark, nowNs + strategy_.minParkNs};
    case IdleKind::kBackoff:
      return backoff(nowNs);
  }
  return {};
}

IdleAction IdleDecider::adaptive(int64_t nowNs, int64_t deadlineNs, bool blind) {
  // Yielding costs nothing on a core of one's own, and on a shared one lets the peer answer: spinning would wait for its own slice to end.
  if (spin_.shouldSpin(nowNs)) return {IdleAction::Kind::kYield, 0};
  if (deadlineNs <= nowNs) return {};
  if (!blind) return {IdleAction::Kind::kSleep, deadlineNs};
  const int64_t untilNs = std::min(deadlineNs, nowNs + blindSleepNs_);
  blindSleepNs_ = std::min(blindSleepNs_ * 2, kMaxBlindSleepNs);
  return {IdleAction::Kind::kSleep, untilNs};
}

IdleAction IdleDecider::backoff(int64_t nowNs) {
  ++idleCycles_;
  if (idleCycles_ <= strategy_.spins) return {IdleAction::Kind::kSpin, 0};
  if (idleCycles_ <= strategy_.spins + strategy_.yields) return {IdleAction::Kind::kYield, 0};
  parkNs_ = parkNs_ == 0 ? strategy_.minParkNs : std::min(parkNs_ * 2, strategy_.maxParkNs);
  return {IdleAction::Kind::kPark, nowNs + parkNs_};
}

AgentRunner::AgentRunner(RunnerOptions options, Clock& clock, const cnc::Doorbells& doorbells, const std::atomic<bool>& silentClients)
    : options_(std::move(options)), clock_(clock), doorbells_(doorbells), silentClients_(silentClients), decider_(options_.idle) {}

AgentRunner::~AgentRunner() { stop(); }

void AgentRunner::add(Agent& agent, const CycleTimes& times) { agents_.push_back({&agent, times}); }

void AgentRunner::lookAtIos() {
  bool changed = false;
  for (Entry& entry : agents_) {
    io::DatagramIo* const io = entry.agent->io();
    changed |= io != entry.io;
    entry.io = io;
  }
  if (!changed) return;
  unwakeableIo_ =
      std::any_of(agents_.begin(), agents_.end(), [](const Entry& entry) { return entry.io != nullptr && entry.io->waitHandle() < 0; });
}

void AgentRunner::start() {
  running_.store(true, std::memory_order_release);
  thread_ = std::thread([this] { run(); });
}

void AgentRunner::stop() {
  running_.store(false, std::memory_order_release);
  if (!thread_.joinable()) return;
  doorbells_.ringAgent(static_cast<cnc::AgentId>(options_.fifo));
  thread_.join();
}

int32_t AgentRunner::cycle() {
  int32_t work = 0;
  int64_t nowNs = clock_.nanoTime();
  for (const Entry& entry : agents_) {
    const int32_t done = entry.agent->doWork(nowNs);
    work += done;
    if (done == 0 && &entry != &agents_.back()) continue;
    const int64_t endNs = clock_.nanoTime();
    const int64_t tookNs = endNs - nowNs;
    // The time in agents alone: a sleep between cycles is no stall.
    entry.times.max.proposeMax(tookNs);
    if (tookNs > entry.times.thresholdNs) entry.times.exceeded.add(1);
    nowNs = endNs;
  }
  cycleEndNs_ = nowNs;
  return work;
}

int64_t AgentRunner::nextDeadlineNs(int64_t nowNs) const {
  int64_t deadlineNs = nowNs + options_.maxSleepNs;
  for (const Entry& entry : agents_) deadlineNs = std::min(deadlineNs, entry.agent->nextDeadlineNs(nowNs));
  return deadlineNs;
}

bool AgentRunner::pending() const {
  return std::any_of(agents_.begin(), agents_.end(), [](const Entry& entry) { return entry.agent->pending(); });
}

void AgentRunner::idle(int32_t workCount) {
  const int64_t nowNs = cycleEndNs_;
  lookAtIos();
  const bool blind = unwakeableIo_ || silentClients_.load(std::memory_order_relaxed);
  const IdleAction action = decider_.decide(workCount, nowNs, workCount > 0 ? 0 : nextDeadlineNs(nowNs), blind);
  switch (action.kind) {
    case IdleAction::Kind::kNone:
      break;
    case IdleAction::Kind::kSpin:
      cpuRelax();
      break;
    case IdleAction::Kind::kYield:
      ::sched_yield();
      break;
    case IdleAction::Kind::kPark: {
      const timespec duration = toTimespec(std::max<int64_t>(action.untilNs - nowNs, 0));
      ::nanosleep(&duration, nullptr);
      break;
    }
    case IdleAction::Kind::kSleep:
      sleep(action.untilNs);
      break;
  }
}

void AgentRunner::sleep(int64_t untilNs) {
  doorbells_.prepareSleep(options_.fifo);
  // From here on whoever publishes work rings; what was published before is seen by one more look.
  for (const Entry& entry : agents_) entry.agent->lookAtAll();
  const int32_t work = cycle();
  lookAtIos();
  const int64_t nowNs = clock_.nanoTime();
  bool ready = work > 0 || pending() || !running_.load(std::memory_order_acquire);
  std::array<pollfd, kMaxPolled> polled{};
  nfds_t count = 0;
  polled[count++] = {doorbells_.fifoFd(options_.fifo), POLLIN, 0};
  for (const Entry& entry : agents_) {
    if (entry.io == nullptr || entry.io->waitHandle() < 0 || count == kMaxPolled) continue;
    ready = ready || !entry.io->arm();
    polled[count++] = {entry.io->waitHandle(), POLLIN, 0};
  }
  if (work > 0) decider_.workFound(nowNs);
  // The look may have brought a deadline forward.
  const int64_t sleepNs = std::min(untilNs, nextDeadlineNs(nowNs)) - nowNs;
  if (!ready && sleepNs > 0) {
    const timespec timeout = toTimespec(sleepNs);
    ::ppoll(polled.data(), count, &timeout, nullptr);
  }
  doorbells_.awake(options_.fifo);
}

void AgentRunner::run() {
  ::pthread_setname_np(::pthread_self(), options_.threadName.substr(0, 15).c_str());
  ::prctl(PR_SET_TIMERSLACK, kTimerSlackNs);
  if (options_.cpu != kNoCpu) {
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET(static_cast<size_t>(options_.cpu), &cpus);
    // A CPU that is not there leaves the thread where it was: slower, not wrong; the start-up check has said so.
    ::pthread_setaffinity_np(::pthread_self(), sizeof(cpus), &cpus);
  }
  while (running_.load(std::memory_order_acquire)) idle(cycle());
}

}  // namespace outrigger::driver
