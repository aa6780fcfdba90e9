// SPDX-License-Identifier: Apache-2.0
// One child process: starting it, telling how it ended, ending it. When and how often is the supervisor's.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"

namespace outrigger::init {

// How a process ended, from the status that waitpid answers.
struct Ending {
  int exitStatus = -1;  // -1 when a signal ended it
  int signal = 0;

  static Ending fromWaitStatus(int status);
  std::string text() const;  // "exited with status 3", "killed by SIGSEGV"
};

class Child {
 public:
  Child(std::string name, std::vector<std::string> command) : name_(std::move(name)), command_(std::move(command)) {}

  const std::string& name() const { return name_; }
  const std::string& program() const { return command_.front(); }
  pid_t pid() const { return pid_; }
  bool running() const { return pid_ > 0; }
  // CPUs that it may run on, from its next start on; none: those of this process.
  void bindTo(std::vector<int> cpus) { cpus_ = std::move(cpus); }

  // Starts it in a process group of its own, with no signal blocked or ignored. It gets SIGTERM if this process dies. Fails when the
  // program can't be executed.
  Result<void> start();

  // To the process alone, not to what it started.
  void signal(int number) const;
  // To it and all that it started and that stayed in its group.
  void killGroup() const;
  // Whether the process has a handler for the signal; without one most signals would end it.
  bool handles(int number) const;

  // waitpid answered for it.
  void ended() { pid_ = 0; }

 private:
  std::string name_;
  std::vector<std::string> command_;
  std::vector<int> cpus_;
  pid_t pid_ = 0;
};

}  // namespace outrigger::init
