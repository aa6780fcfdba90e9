// SPDX-License-Identifier: Apache-2.0
// Giving capabilities up, for good: in a child process only.
#pragma once

#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <initializer_list>

namespace outrigger::io::testing {

// Only `kept` remain, of those that there are.
inline void keepCapabilities(std::initializer_list<int> kept) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  std::array<__user_cap_data_struct, 2> sets{};
  for (const int one : kept) {
    sets[static_cast<size_t>(one / 32)].permitted |= 1U << (one % 32);
    sets[static_cast<size_t>(one / 32)].effective |= 1U << (one % 32);
  }
  ASSERT_EQ(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
  ASSERT_EQ(::syscall(SYS_capset, &header, sets.data()), 0) << std::strerror(errno);
}

}  // namespace outrigger::io::testing
