// SPDX-License-Identifier: Apache-2.0
// Two network namespaces and a veth pair, for tests of what only a kernel does: the body runs in a child process in the first ("va",
// 10.91.0.1/24, fd91::1/64), the second ("vb", 10.91.0.2/24, fd91::2/64) is kept by a grandchild. Both go with their processes, whatever happens.
#pragma once

#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>

namespace outrigger::testing {

class TwoNamespaces {
 public:
  static constexpr const char* kNear = "10.91.0.1";
  static constexpr const char* kFar = "10.91.0.2";
  static constexpr const char* kNearV6 = "fd91::1";
  static constexpr const char* kFarV6 = "fd91::2";

  // The child's failed expectations become the caller's.
  static void run(const std::function<void(TwoNamespaces&)>& body) {
    std::fflush(nullptr);
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      runInChild(body);
      std::fflush(nullptr);
      ::_exit(::testing::Test::HasFailure() ? 1 : 0);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0) << "see the child's output above";
  }

  // A command in the near namespace; it must succeed.
  void near(const std::string& command) { EXPECT_EQ(std::system(command.c_str()), 0) << command; }
  void far(const std::string& command) { near("nsenter --net=/proc/" + std::to_string(far_) + "/ns/net " + command); }
  pid_t farProcess() const { return far_; }

 private:
  static void runInChild(const std::function<void(TwoNamespaces&)>& body) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ASSERT_EQ(::unshare(CLONE_NEWNET), 0) << "no network namespace: run as root";
    TwoNamespaces both;
    int ready[2];
    ASSERT_EQ(::pipe(ready), 0);
    both.far_ = ::fork();
    if (both.far_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      const char answer = ::unshare(CLONE_NEWNET) == 0 ? 'y' : 'n';
      if (::write(ready[1], &answer, 1) != 1) ::_exit(1);
      while (true) ::pause();
    }
    char answer = 0;
    ASSERT_EQ(::read(ready[0], &answer, 1), 1);
    ASSERT_EQ(answer, 'y');
    ::close(ready[0]);
    ::close(ready[1]);
    both.near("ip link set lo up");
    both.near("ip link add va type veth peer name vb netns /proc/" + std::to_string(both.far_) + "/ns/net");
    // nodad: the address is usable at once.
    both.near("ip addr add 10.91.0.1/24 dev va && ip addr add fd91::1/64 dev va nodad && ip link set va up");
    both.far("ip addr add 10.91.0.2/24 dev vb");
    both.far("ip addr add fd91::2/64 dev vb nodad");
    both.far("ip link set vb up");
    both.far("ip link set lo up");
    if (!::testing::Test::HasFailure()) body(both);
    ::kill(both.far_, SIGKILL);
    ::waitpid(both.far_, nullptr, 0);
  }

  pid_t far_ = -1;
};

}  // namespace outrigger::testing
