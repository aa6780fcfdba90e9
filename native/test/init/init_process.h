// SPDX-License-Identifier: Apache-2.0
// outrigger-init as a process under test: its log and what its children print arrive on one pipe, in order.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

#include "base/fd.h"

namespace outrigger::init {

// Only for a test that would otherwise hang: nothing asserts on it.
constexpr int kGuardMs = 60'000;

// Shell scripts that stand for driver and sidecar (see stand_in.cc): one that ends on SIGTERM, with what else it handles, and one that
// ignores it. A shell's own traps would not do: they lose a signal that comes just before the shell waits.
inline std::string standIn(const std::string& name, const std::string& handles) {
  char self[4096];
  const ssize_t length = ::readlink("/proc/self/exe", self, sizeof(self));
  return "exec env OUTRIGGER_TEST_STAND_IN=" + name + ":" + handles + " " + std::string(self, static_cast<size_t>(length));
}
inline std::string untilTerm(const std::string& name) { return standIn(name, "term"); }
inline std::string untilTermWithHup(const std::string& name) { return standIn(name, "term+hup"); }
inline std::string deafToTerm(const std::string& name) { return standIn(name, ""); }

class InitProcess {
 public:
  struct Commands {
    std::vector<std::string> settings = {};
    std::string driver = untilTerm("driver");
    std::string sidecar = untilTerm("sidecar");
    bool ownPidNamespace = false;
  };

  explicit InitProcess(const Commands& commands) {
    std::vector<std::string> command{program()};
    command.insert(command.end(), commands.settings.begin(), commands.settings.end());
    for (const auto& [flag, script] : {std::pair{"--driver", commands.driver}, std::pair{"--sidecar", commands.sidecar}}) {
      command.insert(command.end(), {flag, "/bin/sh", "-c", script});
    }
    start(command, commands.ownPidNamespace);
  }
  explicit InitProcess(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), program());
    start(arguments, false);
  }
  InitProcess(const InitProcess&) = delete;
  InitProcess& operator=(const InitProcess&) = delete;
  ~InitProcess() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGTERM);
    ::kill(pid_, SIGINT);
    ::kill(pid_, SIGINT);
    ::waitpid(pid_, nullptr, 0);
  }

  static std::string program() {
    const char* path = std::getenv("OUTRIGGER_INIT");
    return path == nullptr ? "" : path;
  }

  void signal(int number) const { ASSERT_EQ(::kill(pid_, number), 0); }

  // The next line that holds all the given texts; lines before it are passed over. A test failure when the output ends without one.
  std::string await(const std::vector<std::string>& texts) {
    while (const auto line = nextLine()) {
      bool all = true;
      for (const std::string& text : texts) all = all && line->find(text) != std::string::npos;
      if (all) return *line;
    }
    std::string wanted;
    for (const std::string& text : texts) wanted += " '" + text + "'";
    ADD_FAILURE() << "no line with" << wanted << " in:\n" << all_;
    return "";
  }

  // Awaits both scripts to be ready for signals, in any order, also among the lines of before.
  void awaitBothReady() {
    while (count("driver-ready\n") == 0 || count("sidecar-ready\n") == 0) {
      ASSERT_TRUE(nextLine()) << all_;
    }
  }

  // Until it and all that holds its output ended; the exit status, or 128 + the signal.
  int exitStatus() {
    while (nextLine()) {
    }
    int status = 0;
    if (::waitpid(pid_, &status, 0) != pid_) return -1;
    pid_ = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

  // All that was printed so far.
  const std::string& all() const { return all_; }
  size_t count(const std::string& text) const {
    size_t times = 0;
    for (size_t at = all_.find(text); at != std::string::npos; at = all_.find(text, at + 1)) ++times;
    return times;
  }
  static int64_t number(const std::string& line, const std::string& key) {
    const size_t at = line.find("\"" + key + "\":");
    return at == std::string::npos ? -1 : std::strtoll(line.c_str() + at + key.size() + 3, nullptr, 10);
  }

 private:
  void start(const std::vector<std::string>& command, bool ownPidNamespace) {
    int ends[2];
    ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    output_ = UniqueFd(ends[0]);
    UniqueFd writing(ends[1]);
    std::vector<char*> argv;
    for (const std::string& argument : command) argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    const unsigned long flags = SIGCHLD | (ownPidNamespace ? CLONE_NEWPID | CLONE_NEWNS : 0UL);
    pid_ = static_cast<pid_t>(::syscall(SYS_clone, flags, nullptr, nullptr, nullptr, nullptr));
    ASSERT_GE(pid_, 0) << std::strerror(errno);
    if (pid_ != 0) return;
    if (ownPidNamespace &&
        (::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 || ::mount("proc", "/proc", "proc", 0, nullptr) != 0)) {
      ::_exit(126);
    }
    ::dup2(writing.get(), STDOUT_FILENO);
    ::dup2(writing.get(), STDERR_FILENO);
    ::execv(argv[0], argv.data());
    ::_exit(127);
  }

  std::optional<std::string> nextLine() {
    for (;;) {
      if (const size_t end = pending_.find('\n'); end != std::string::npos) {
        std::string line = pending_.substr(0, end);
        pending_.erase(0, end + 1);
        return line;
      }
      pollfd ready{output_.get(), POLLIN, 0};
      if (::poll(&ready, 1, kGuardMs) == 0) {
        ADD_FAILURE() << "no output within " << kGuardMs << " ms after:\n" << all_;
        return std::nullopt;
      }
      char bytes[4096];
      const ssize_t length = ::read(output_.get(), bytes, sizeof(bytes));
      if (length <= 0) return std::nullopt;
      pending_.append(bytes, static_cast<size_t>(length));
      all_.append(bytes, static_cast<size_t>(length));
    }
  }

  pid_t pid_ = 0;
  UniqueFd output_;
  std::string pending_;
  std::string all_;
};

// Awaits the end of a process that is not ours to wait for.
inline bool awaitGone(pid_t pid) {
  for (int i = 0; i < kGuardMs; ++i) {
    if (::kill(pid, 0) != 0 && errno == ESRCH) return true;
    ::usleep(1000);
  }
  return false;
}

}  // namespace outrigger::init
