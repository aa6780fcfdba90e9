// SPDX-License-Identifier: Apache-2.0
#include "init/child.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <fstream>

#include "base/fd.h"

namespace outrigger::init {
namespace {

// In the child, between fork and exec: async-signal-safe calls only. Answers errno through the pipe if exec fails.
[[noreturn]] void becomeProgram(char* const* argv, const cpu_set_t* cpus, pid_t parent, int errorPipe) {
  ::setpgid(0, 0);
  // CPUs that went away since init began leave it on all that there are: slower, not wrong.
  if (cpus != nullptr) ::sched_setaffinity(0, sizeof(*cpus), cpus);
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (::getppid() != parent) ::_exit(127);
  for (int number = 1; number < NSIG; ++number) ::signal(number, SIG_DFL);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::execvp(argv[0], argv);
  const int error = errno;
  [[maybe_unused]] const ssize_t written = ::write(errorPipe, &error, sizeof(error));
  ::_exit(127);
}

}  // namespace

Ending Ending::fromWaitStatus(int status) {
  Ending ending;
  if (WIFEXITED(status)) ending.exitStatus = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) ending.signal = WTERMSIG(status);
  return ending;
}

std::string Ending::text() const {
  if (exitStatus >= 0) return "exited with status " + std::to_string(exitStatus);
  const char* name = ::sigabbrev_np(signal);
  return "killed by " + (name == nullptr ? "signal " + std::to_string(signal) : "SIG" + std::string(name));
}

Result<void> Child::start() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return makeError(ErrorCode::kGeneric, "cannot make a pipe for " + name_, errno);
  UniqueFd reading(ends[0]);
  UniqueFd writing(ends[1]);
  std::vector<char*> argv;
  argv.reserve(command_.size() + 1);
  for (std::string& argument : command_) argv.push_back(argument.data());
  argv.push_back(nullptr);
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  for (const int cpu : cpus_) CPU_SET(static_cast<size_t>(cpu), &cpus);

  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) return makeError(ErrorCode::kGeneric, "cannot fork for " + name_, errno);
  if (pid == 0) becomeProgram(argv.data(), cpus_.empty() ? nullptr : &cpus, parent, writing.get());
  // Both sides do it, so that the group exists whoever comes first.
  ::setpgid(pid, pid);
  writing.reset();
  int execError = 0;
  ssize_t length = 0;
  do {
    length = ::read(reading.get(), &execError, sizeof(execError));
  } while (length < 0 && errno == EINTR);
  if (length == static_cast<ssize_t>(sizeof(execError))) {
    ::waitpid(pid, nullptr, 0);
    return makeError(ErrorCode::kGeneric, "cannot execute '" + program() + "'", execError);
  }
  pid_ = pid;
  return {};
}

void Child::signal(int number) const {
  if (running()) ::kill(pid_, number);
}

void Child::killGroup() const {
  if (running()) ::kill(-pid_, SIGKILL);
}

bool Child::handles(int number) const {
  std::ifstream status("/proc/" + std::to_string(pid_) + "/status");
  std::string word;
  while (status >> word) {
    if (word != "SigCgt:") continue;
    uint64_t mask = 0;
    status >> std::hex >> mask;
    return (mask >> (number - 1) & 1) != 0;
  }
  return false;
}

}  // namespace outrigger::init
