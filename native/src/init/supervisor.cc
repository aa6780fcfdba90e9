// SPDX-License-Identifier: Apache-2.0
#include "init/supervisor.h"

#include <poll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#include <algorithm>
#include <csignal>
#include <ctime>

#include "base/cpus.h"
#include "base/json_log.h"
#include "init/cores.h"

namespace outrigger::init {
namespace {

int64_t monotonicMs() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000 + now.tv_nsec / 1'000'000;
}

std::string signalName(int number) { return "SIG" + std::string(::sigabbrev_np(number)); }

}  // namespace

Supervisor::Supervisor(const Options& options)
    : options_(options), children_{Supervised{Child("driver", options.driver)}, Supervised{Child("sidecar", options.sidecar)}} {}

Result<int> Supervisor::run() {
  if (auto done = openSignals(); !done) return done.error();
  // Orphans of the children come to us even when we are not PID 1.
  if (::prctl(PR_SET_CHILD_SUBREAPER, 1) != 0) return makeError(ErrorCode::kGeneric, "cannot become the reaper of orphans", errno);
  shareCores();
  // Both at once: the sidecar says itself that it waits for the driver, and its health shows it.
  const int64_t startMs = monotonicMs();
  for (Supervised& each : children_) {
    if (phase_ == Phase::kRunning) start(each, startMs);
  }
  for (;;) {
    advanceDrain(monotonicMs());
    if (phase_ != Phase::kRunning && !driver_.child.running() && !sidecar_.child.running()) break;
    const int64_t deadlineMs = nextDeadlineMs();
    const int64_t waitMs = deadlineMs < 0 ? -1 : std::max<int64_t>(0, deadlineMs - monotonicMs());
    pollfd ready{signals_.get(), POLLIN, 0};
    ::poll(&ready, 1, static_cast<int>(waitMs));
    const int64_t nowMs = monotonicMs();
    onSignals(nowMs);
    // SIGCHLD may stand for many; those of a moment ago are gathered whatever woke us.
    reap(nowMs);
    startDue(nowMs);
  }
  LogLine(LogLevel::kInfo).add("exitStatus", exitStatus_).write("all ended");
  return exitStatus_;
}

void Supervisor::shareCores() {
  if (options_.driverCores == 0) return;
  CorePlan plan = planCores(allowedCpus(), options_.driverCores, options_.cpus);
  if (plan.driver.empty()) {
    LogLine(LogLevel::kWarn).add("cores", options_.driverCores).add("reason", plan.reason).write("the driver has no cores of its own");
    return;
  }
  LogLine(LogLevel::kInfo)
      .add("cores", options_.driverCores)
      .add("driverCpus", cpuListText(plan.driver))
      .add("sidecarCpus", cpuListText(plan.sidecar))
      .write("the driver has cores of its own");
  driver_.child.bindTo(std::move(plan.driver));
  sidecar_.child.bindTo(std::move(plan.sidecar));
}

Result<void> Supervisor::openSignals() {
  ::signal(SIGPIPE, SIG_IGN);
  sigset_t set;
  ::sigemptyset(&set);
  for (const int number : {SIGCHLD, SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2}) ::sigaddset(&set, number);
  if (::sigprocmask(SIG_BLOCK, &set, nullptr) != 0) return makeError(ErrorCode::kGeneric, "cannot block signals", errno);
  signals_ = UniqueFd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals_.valid()) return makeError(ErrorCode::kGeneric, "cannot open a descriptor for signals", errno);
  return {};
}

void Supervisor::start(Supervised& each, int64_t nowMs) {
  each.restartAtMs = 0;
  each.startedMs = nowMs;
  if (auto started = each.child.start(); !started) {
    // The program is missing or no program: as final as a bad configuration, and as worth a second look.
    onNotConfigurable(each, started.error().message, nowMs);
    return;
  }
  LogLine(LogLevel::kInfo)
      .add("child", each.child.name())
      .add("childPid", static_cast<int64_t>(each.child.pid()))
      .add("program", each.child.program())
      .add("restarts", each.restarts)
      .write("started " + each.child.name());
}

void Supervisor::startDue(int64_t nowMs) {
  for (Supervised& each : children_) {
    if (each.restartAtMs != 0 && each.restartAtMs <= nowMs && phase_ == Phase::kRunning) {
      ++each.restarts;
      start(each, nowMs);
    }
  }
}

void Supervisor::onSignals(int64_t nowMs) {
  signalfd_siginfo info{};
  while (::read(signals_.get(), &info, sizeof(info)) == static_cast<ssize_t>(sizeof(info))) {
    onSignal(static_cast<int>(info.ssi_signo), nowMs);
  }
}

void Supervisor::onSignal(int number, int64_t nowMs) {
  switch (number) {
    case SIGCHLD:
      return;
    case SIGHUP:
    case SIGUSR1:
    case SIGUSR2:
      return forward(number);
    default:
      break;
  }
  if (phase_ == Phase::kRunning) {
    drain(signalName(number), nowMs);
  } else if (number == SIGINT) {
    killAll("a second SIGINT");
  }
}

void Supervisor::forward(int number) {
  for (Supervised& each : children_) {
    if (!each.child.running()) continue;
    const bool handled = each.child.handles(number);
    if (handled) each.child.signal(number);
    LogLine(LogLevel::kInfo)
        .add("child", each.child.name())
        .add("signal", signalName(number))
        .write(handled ? "forwarded a signal" : "kept a signal from a child that does not handle it: it would have ended");
  }
}

void Supervisor::reap(int64_t nowMs) {
  for (;;) {
    siginfo_t info{};
    // Looks first and takes the zombie later: until then its pid, and so its group's, can't be used again.
    if (::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid == 0) return;
    const auto found =
        std::find_if(children_.begin(), children_.end(), [&](const Supervised& each) { return each.child.pid() == info.si_pid; });
    // What it started must not meet its successor.
    if (found != children_.end()) found->child.killGroup();
    int status = 0;
    if (::waitpid(info.si_pid, &status, 0) != info.si_pid || found == children_.end()) continue;
    found->child.ended();
    onEnded(*found, Ending::fromWaitStatus(status), nowMs);
  }
}

void Supervisor::onEnded(Supervised& each, const Ending& ending, int64_t nowMs) {
  if (phase_ != Phase::kRunning) {
    LogLine(LogLevel::kInfo).add("child", each.child.name()).add("how", ending.text()).write(each.child.name() + " ended");
    return;
  }
  if (ending.exitStatus == kExitConfig) return onNotConfigurable(each, ending.text(), nowMs);
  each.configFailures = 0;
  // Only the sidecar's clean end is a wish: it was told to drain over gRPC. A driver that was told to end is wanted again.
  if (&each == &sidecar_ && ending.exitStatus == 0) return drain("the sidecar drained and ended", nowMs);
  restartLater(each, ending.text(), nowMs);
}

void Supervisor::onNotConfigurable(Supervised& each, const std::string& how, int64_t nowMs) {
  if (phase_ != Phase::kRunning) return;
  if (++each.configFailures < options_.configAttempts) return restartLater(each, how, nowMs);
  LogLine(LogLevel::kError)
      .add("child", each.child.name())
      .add("how", how)
      .add("attempts", each.configFailures)
      .write("the " + each.child.name() + " can't run as it is configured, and starting it again would not change that");
  exitStatus_ = kExitConfig;
  drain("the " + each.child.name() + " can't be configured", nowMs);
}

void Supervisor::restartLater(Supervised& each, const std::string& how, int64_t nowMs) {
  const int64_t ranMs = nowMs - each.startedMs;
  if (ranMs >= options_.stableAfterMs) each.backoffMs = 0;
  each.backoffMs = each.backoffMs == 0 ? options_.backoffMinMs : std::min(each.backoffMs * 2, options_.backoffMaxMs);
  each.restartAtMs = nowMs + each.backoffMs;
  LogLine(LogLevel::kWarn)
      .add("child", each.child.name())
      .add("how", how)
      .add("ranMs", ranMs)
      .add("restartInMs", each.backoffMs)
      .write("the " + each.child.name() + " ended unasked: " + how);
}

void Supervisor::drain(const std::string& why, int64_t nowMs) {
  if (phase_ != Phase::kRunning) return;
  phase_ = Phase::kDrainingSidecar;
  drainStartMs_ = nowMs;
  LogLine(LogLevel::kInfo).add("why", why).add("timeoutMs", options_.drainTimeoutMs).write("draining");
  sidecar_.child.signal(SIGTERM);
}

void Supervisor::advanceDrain(int64_t nowMs) {
  const int64_t spentMs = nowMs - drainStartMs_;
  if (phase_ == Phase::kDrainingSidecar) {
    if (sidecar_.child.running() && spentMs >= options_.drainTimeoutMs - options_.driverDrainMs) {
      LogLine(LogLevel::kWarn)
          .add("child", "sidecar")
          .add("afterMs", spentMs)
          .write("the sidecar did not drain in time: killed, what it had not sent is lost");
      exitStatus_ = exitStatus_ == kExitOk ? kExitKilled : exitStatus_;
      sidecar_.child.killGroup();
    } else if (sidecar_.child.running()) {
      return;
    }
    phase_ = Phase::kDrainingDriver;
    driver_.child.signal(SIGTERM);
  }
  if (phase_ == Phase::kDrainingDriver && driver_.child.running() && spentMs >= options_.drainTimeoutMs) {
    killAll("the drain took too long");
  }
}

void Supervisor::killAll(const std::string& why) {
  phase_ = Phase::kKilling;
  for (Supervised& each : children_) {
    if (!each.child.running()) continue;
    exitStatus_ = exitStatus_ == kExitOk ? kExitKilled : exitStatus_;
    LogLine(LogLevel::kWarn).add("child", each.child.name()).add("why", why).write("killed the " + each.child.name());
    each.child.killGroup();
  }
}

int64_t Supervisor::nextDeadlineMs() const {
  if (phase_ == Phase::kDrainingSidecar) return drainStartMs_ + options_.drainTimeoutMs - options_.driverDrainMs;
  if (phase_ == Phase::kDrainingDriver) return drainStartMs_ + options_.drainTimeoutMs;
  int64_t deadlineMs = -1;
  for (const Supervised& each : children_) {
    if (each.restartAtMs != 0 && (deadlineMs < 0 || each.restartAtMs < deadlineMs)) deadlineMs = each.restartAtMs;
  }
  return phase_ == Phase::kRunning ? deadlineMs : -1;
}

}  // namespace outrigger::init
