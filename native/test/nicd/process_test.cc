// SPDX-License-Identifier: Apache-2.0
// How outrigger-nicd ends, as the other tests see it: a hang is theirs to fail with.
#include <gtest/gtest-spi.h>

#include "nicd_world.h"

namespace outrigger::nicd::testing {
namespace {

TEST(NicdProcessTest, ThatDoesNotEndWhenItIsToldToIsAFailureAndIsKilled) {
  NicdProcess deaf;
  // An ignored signal stays ignored in the program that a shell becomes.
  deaf.start({}, {"/bin/sh", "-c", "trap '' TERM; echo 'nicd is ready' >&2; exec sleep 1000"});
  EXPECT_NONFATAL_FAILURE(deaf.stop(1), "still runs 1 ms after SIGTERM");
  EXPECT_TRUE(WIFSIGNALED(deaf.status) && WTERMSIG(deaf.status) == SIGKILL) << deaf.status;
}

TEST(NicdProcessTest, ThatEndsOtherwiseThanInOrderIsAFailure) {
  NicdProcess broken;
  broken.start({}, {"/bin/sh", "-c", "echo 'nicd is ready' >&2; exec sleep 1000"});
  EXPECT_NONFATAL_FAILURE(broken.stop(), "did not end in order");
}

}  // namespace
}  // namespace outrigger::nicd::testing
