// SPDX-License-Identifier: Apache-2.0
// The life of driver and sidecar: start, restart with back-off, drain, end. One thread, woken by signals and by its own deadlines.
#pragma once

#include <array>
#include <cstdint>

#include "base/fd.h"
#include "base/result.h"
#include "init/child.h"
#include "init/options.h"

namespace outrigger::init {

// sysexits.h, which Debian ships with libc's development files only.
constexpr int kExitOk = 0;
constexpr int kExitKilled = 1;
constexpr int kExitUsage = 64;
constexpr int kExitSystem = 71;
constexpr int kExitConfig = 78;

class Supervisor {
 public:
  explicit Supervisor(const Options& options);

  // Until all has ended; the exit status. Fails when the kernel refuses what a supervisor needs.
  Result<int> run();

 private:
  // Where in its life the whole is. Each phase implies those before.
  enum class Phase { kRunning, kDrainingSidecar, kDrainingDriver, kKilling };

  struct Supervised {
    Child child;
    int64_t startedMs = 0;
    int64_t restartAtMs = 0;  // 0: no restart is due
    int64_t backoffMs = 0;    // the last pause
    int64_t restarts = 0;
    int64_t configFailures = 0;  // in a row
  };

  Result<void> openSignals();
  void shareCores();
  void start(Supervised& each, int64_t nowMs);
  void startDue(int64_t nowMs);
  void onSignals(int64_t nowMs);
  void onSignal(int number, int64_t nowMs);
  void forward(int number);
  void reap(int64_t nowMs);
  void onEnded(Supervised& each, const Ending& ending, int64_t nowMs);
  void onNotConfigurable(Supervised& each, const std::string& how, int64_t nowMs);
  void restartLater(Supervised& each, const std::string& how, int64_t nowMs);
  void drain(const std::string& why, int64_t nowMs);
  void advanceDrain(int64_t nowMs);
  void killAll(const std::string& why);
  int64_t nextDeadlineMs() const;  // -1: none

  const Options options_;
  UniqueFd signals_;
  std::array<Supervised, 2> children_;
  Supervised& driver_ = children_[0];
  Supervised& sidecar_ = children_[1];
  Phase phase_ = Phase::kRunning;
  int64_t drainStartMs_ = 0;
  int exitStatus_ = kExitOk;
};

}  // namespace outrigger::init
