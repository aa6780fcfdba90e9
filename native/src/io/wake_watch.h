// SPDX-License-Identifier: Apache-2.0
// A descriptor to sleep on instead of several, which costs nothing while nobody sleeps. A socket that an epoll descriptor watches calls it for
// every datagram that it queues or has sent: 100 to 250 ns of the sender's time, a tenth of what AF_XDP takes for a datagram over veth. So
// they are watched from the first arm() on, and no more once the owner has polled many times and not slept.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "base/fd.h"

namespace outrigger::io {

// Of one thread, which polls and sleeps.
class WakeWatch {
 public:
  WakeWatch();

  // 0, or the errno of the epoll descriptor that can't be had.
  int error() const { return errno_; }
  int fd() const { return epoll_.get(); }
  bool watching() const { return watching_; }

  // `data` is what epoll_wait() over fd() answers for this handle.
  void add(int handle, void* data = nullptr);
  void remove(int handle);

  // Watches all from here on; what is ready already counts. False, with errno: the kernel refuses one, so nobody may sleep.
  bool watch();
  // Once a poll of the owner's.
  void polled() {
    if (watching_ && ++polls_ >= kPollsAwake) unwatch();
  }

 private:
  // Longer than a thread spins before it sleeps, so that one that sleeps between messages does not pay for this every time.
  static constexpr uint32_t kPollsAwake = 4096;

  bool enter(int handle, void* data) const;
  void unwatch();

  UniqueFd epoll_;
  int errno_ = 0;
  std::vector<std::pair<int, void*>> handles_;
  uint32_t polls_ = 0;
  bool watching_ = false;
};

}  // namespace outrigger::io
