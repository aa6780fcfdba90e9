// SPDX-License-Identifier: Apache-2.0
// A child process between two network namespaces joined by a veth pair: `va` (10.77.0.1, fd77::1) in the one that the body runs in, `vb`
// (10.77.0.2, fd77::2) in the other. Both have no name and go with the child, and with them interfaces, programs and sockets, also after
// a failure.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>

#include "base/fd.h"

namespace outrigger::io::testing {

class VethWorld {
 public:
  static constexpr const char* kNear = "10.77.0.1";
  static constexpr const char* kFar = "10.77.0.2";

  struct Options {
    int mtu = 1500;
    int queues = 1;
  };

  static bool possible() { return ::geteuid() == 0; }

  static void run(const std::function<void(VethWorld&)>& body) { run(Options{}, body); }
  static void run(const Options& options, const std::function<void(VethWorld&)>& body) {
    std::fflush(nullptr);
    const pid_t child = ::fork();
    ASSERT_GE(child, 0) << std::strerror(errno);
    if (child == 0) {
      ::alarm(60);  // a body that hangs ends, and its namespaces with it
      VethWorld world;
      world.create(options);
      if (!::testing::Test::HasFatalFailure()) body(world);
      std::fflush(nullptr);
      ::_exit(::testing::Test::HasFailure() ? 1 : 0);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0) << "see the child's output above";
  }

  // Runs a command in the near or the far namespace.
  bool near(const std::string& command) const { return shell(command); }
  bool far(const std::string& command) const { return shell("nsenter --net=" + farPath() + " " + command); }

  // Whether both ends can send: later than there is a carrier, see awaitSending() in frame/net_world.h.
  bool carries() const { return near("ip -o link show va | grep -q 'state UP'") && far("ip -o link show vb | grep -q 'state UP'"); }

  // `make` with this thread in the far namespace: sockets stay where they were made.
  void inFar(const std::function<void()>& make) const {
    ASSERT_EQ(::setns(far_.get(), CLONE_NEWNET), 0) << std::strerror(errno);
    make();
    ASSERT_EQ(::setns(near_.get(), CLONE_NEWNET), 0) << std::strerror(errno);
  }

  int farNamespace() const { return far_.get(); }

 private:
  static bool shell(const std::string& command) { return std::system(command.c_str()) == 0; }
  std::string farPath() const { return "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(far_.get()); }

  void create(const Options& options) {
    ASSERT_EQ(::unshare(CLONE_NEWNET), 0) << std::strerror(errno);
    far_ = UniqueFd(::open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
    ASSERT_EQ(::unshare(CLONE_NEWNET), 0) << std::strerror(errno);
    near_ = UniqueFd(::open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
    const std::string queues = " numtxqueues " + std::to_string(options.queues) + " numrxqueues " + std::to_string(options.queues);
    const std::string mtu = " mtu " + std::to_string(options.mtu);
    ASSERT_TRUE(near("ip link add va" + queues + mtu + " type veth peer name vb" + queues + mtu));
    ASSERT_TRUE(near("ip link set vb netns " + farPath()));
    ASSERT_TRUE(near("ip addr add 10.77.0.1/24 dev va"));
    ASSERT_TRUE(near("ip addr add fd77::1/64 dev va nodad"));
    ASSERT_TRUE(near("ip link set lo up"));
    ASSERT_TRUE(near("ip link set va up"));
    ASSERT_TRUE(far("ip addr add 10.77.0.2/24 dev vb"));
    ASSERT_TRUE(far("ip addr add fd77::2/64 dev vb nodad"));
    ASSERT_TRUE(far("ip link set lo up"));
    ASSERT_TRUE(far("ip link set vb up"));
  }

  UniqueFd near_;
  UniqueFd far_;
};

}  // namespace outrigger::io::testing
