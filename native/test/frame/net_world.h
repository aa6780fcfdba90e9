// SPDX-License-Identifier: Apache-2.0
// Private network namespaces without names: they vanish with the last descriptor, however the test ends. The test's one thread moves
// between them; a socket stays where it was made.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "base/fd.h"

namespace outrigger::io::testing {

inline void writeFile(const char* path, const std::string& text) {
  std::ofstream file(path);
  file << text;
}

// Empty when this process can make network namespaces; else why not. Without root a user namespace of our own gives the right to.
inline std::string namespaceRefusal() {
  static const std::string refusal = []() -> std::string {
    const UniqueFd home(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
    if (::unshare(CLONE_NEWNET) == 0) {
      if (::setns(home.get(), CLONE_NEWNET) == 0) return "";
      return std::string("cannot go back to the network namespace: ") + std::strerror(errno);
    }
    const uid_t uid = ::getuid();
    const gid_t gid = ::getgid();
    if (::unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0) {
      return std::string("neither root nor allowed to make a user namespace (unshare: ") + std::strerror(errno) + ")";
    }
    writeFile("/proc/self/setgroups", "deny");
    writeFile("/proc/self/uid_map", "0 " + std::to_string(uid) + " 1\n");
    writeFile("/proc/self/gid_map", "0 " + std::to_string(gid) + " 1\n");
    return "";
  }();
  return refusal;
}

class Namespace {
 public:
  Namespace() {
    const UniqueFd home(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
    EXPECT_EQ(::unshare(CLONE_NEWNET), 0) << std::strerror(errno);
    fd_ = UniqueFd(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
    EXPECT_EQ(::setns(home.get(), CLONE_NEWNET), 0) << std::strerror(errno);
  }
  int fd() const { return fd_.get(); }
  // As `ip link add ... netns` takes it.
  std::string path() const { return "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(fd_.get()); }

 private:
  UniqueFd fd_;
};

// The thread is in `where` for as long as the object lives.
class Inside {
 public:
  explicit Inside(const Namespace& where) : home_(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)) {
    EXPECT_EQ(::setns(where.fd(), CLONE_NEWNET), 0) << std::strerror(errno);
  }
  ~Inside() { EXPECT_EQ(::setns(home_.get(), CLONE_NEWNET), 0) << std::strerror(errno); }
  Inside(const Inside&) = delete;
  Inside& operator=(const Inside&) = delete;

 private:
  UniqueFd home_;
};

// Runs a command, words separated by spaces, in a namespace. False and a failure when it does not end with 0.
inline bool command(const Namespace& where, const std::string& line) {
  const Inside inside(where);
  std::fflush(nullptr);
  const pid_t child = ::fork();
  if (child == 0) {
    std::vector<std::string> words;
    for (size_t at = 0; at < line.size();) {
      const size_t end = std::min(line.find(' ', at), line.size());
      words.push_back(line.substr(at, end - at));
      at = end + 1;
    }
    std::vector<char*> arguments;
    for (std::string& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    ::execvp(arguments[0], arguments.data());
    ::_exit(127);
  }
  int status = -1;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0) << "'" << line << "' ended with " << WEXITSTATUS(status);
  return status == 0;
}

// Until an end of a veth pair sends, for twenty seconds at most. When its other end comes up, the kernel gives it its carrier at once, but what
// sends there a moment later, and till then drops frames without a word; `ip` is told that it is up when that is done.
inline bool awaitSending(const Namespace& where, const std::string& interface) {
  const Inside inside(where);
  const std::string look = "ip -o link show " + interface + " | grep -q 'state UP'";
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (std::system(look.c_str()) != 0) {
    if (std::chrono::steady_clock::now() > end) return false;
    ::poll(nullptr, 0, 1);
  }
  return true;
}

}  // namespace outrigger::io::testing
