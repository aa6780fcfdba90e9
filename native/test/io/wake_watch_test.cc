// SPDX-License-Identifier: Apache-2.0
#include "io/wake_watch.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <cerrno>

#include "base/fd.h"

namespace outrigger::io {
namespace {

bool readable(int fd) {
  pollfd polled{fd, POLLIN, 0};
  return ::poll(&polled, 1, 0) == 1;
}

struct Bell {
  UniqueFd fd{::eventfd(0, EFD_CLOEXEC)};
  void ring() const { EXPECT_EQ(::eventfd_write(fd.get(), 1), 0); }
};

// More than a thread polls before it counts as one that never sleeps.
void pollLong(WakeWatch& watch) {
  for (int i = 0; i < 100'000; ++i) watch.polled();
}

TEST(WakeWatch, WatchesNothingBeforeItIsAskedTo) {
  const Bell bell;
  WakeWatch watch;
  ASSERT_EQ(watch.error(), 0);
  watch.add(bell.fd.get());
  bell.ring();
  EXPECT_FALSE(readable(watch.fd()));
  ASSERT_TRUE(watch.watch());
  EXPECT_TRUE(readable(watch.fd())) << "what is ready already counts";
}

TEST(WakeWatch, WatchesWhatIsAddedMeanwhileUntilItIsRemoved) {
  const Bell bell;
  WakeWatch watch;
  ASSERT_TRUE(watch.watch());
  int mark = 0;
  watch.add(bell.fd.get(), &mark);
  bell.ring();
  epoll_event event{};
  ASSERT_EQ(::epoll_wait(watch.fd(), &event, 1, 0), 1);
  EXPECT_EQ(event.data.ptr, &mark);
  watch.remove(bell.fd.get());
  EXPECT_FALSE(readable(watch.fd()));
}

TEST(WakeWatch, AThreadThatPollsOnAndOnPaysForNoWatchAndIsWokenAllTheSameOnceItSleeps) {
  const Bell bell;
  WakeWatch watch;
  watch.add(bell.fd.get());
  ASSERT_TRUE(watch.watch());
  pollLong(watch);
  EXPECT_FALSE(watch.watching());
  bell.ring();
  EXPECT_FALSE(readable(watch.fd()));
  ASSERT_TRUE(watch.watch());
  EXPECT_TRUE(readable(watch.fd()));
}

TEST(WakeWatch, AThreadThatSleepsBetweenItsPollsGoesOnWatching) {
  const Bell bell;
  WakeWatch watch;
  watch.add(bell.fd.get());
  for (int i = 0; i < 100'000; ++i) {
    if (i % 100 == 0) {
      ASSERT_TRUE(watch.watch());
    }
    watch.polled();
    ASSERT_TRUE(watch.watching());
  }
}

TEST(WakeWatch, WhatWasRemovedWhileNothingIsWatchedStaysAway) {
  const Bell gone;
  const Bell bell;
  WakeWatch watch;
  watch.add(gone.fd.get());
  watch.add(bell.fd.get());
  watch.remove(gone.fd.get());
  ASSERT_TRUE(watch.watch());
  gone.ring();
  EXPECT_FALSE(readable(watch.fd()));
  bell.ring();
  EXPECT_TRUE(readable(watch.fd()));
}

TEST(WakeWatch, ADescriptorThatTheKernelRefusesLetsNobodySleep) {
  WakeWatch watch;
  watch.add(1 << 30);
  watch.add(1 << 29);
  errno = 0;
  EXPECT_FALSE(watch.watch());
  EXPECT_EQ(errno, EBADF);
  EXPECT_FALSE(watch.watching());
}

}  // namespace
}  // namespace outrigger::io
