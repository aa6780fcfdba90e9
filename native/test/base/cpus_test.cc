// SPDX-License-Identifier: Apache-2.0
#include "base/cpus.h"

#include <gtest/gtest.h>
#include <sched.h>

namespace outrigger {
namespace {

TEST(CpusTest, writesRangesAsTheKernelDoes) {
  EXPECT_EQ(cpuListText({}), "");
  EXPECT_EQ(cpuListText({3}), "3");
  EXPECT_EQ(cpuListText({0, 1}), "0-1");
  EXPECT_EQ(cpuListText({0, 2, 3, 4, 7, 9, 10}), "0,2-4,7,9-10");
}

TEST(CpusTest, knowsThoseThatTheThreadMayRunOn) {
  cpu_set_t before;
  ASSERT_EQ(::sched_getaffinity(0, sizeof(before), &before), 0);
  const std::vector<int> all = allowedCpus();
  ASSERT_FALSE(all.empty());
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(static_cast<size_t>(all.back()), &one);
  ASSERT_EQ(::sched_setaffinity(0, sizeof(one), &one), 0);
  EXPECT_EQ(allowedCpus(), std::vector<int>{all.back()});
  ASSERT_EQ(::sched_setaffinity(0, sizeof(before), &before), 0);
}

}  // namespace
}  // namespace outrigger
