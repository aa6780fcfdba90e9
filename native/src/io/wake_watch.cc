// SPDX-License-Identifier: Apache-2.0
// See the header.
#include "io/wake_watch.h"

#include <sys/epoll.h>

#include <cerrno>

namespace outrigger::io {

WakeWatch::WakeWatch() : epoll_(::epoll_create1(EPOLL_CLOEXEC)), errno_(epoll_.valid() ? 0 : errno) {}

bool WakeWatch::enter(int handle, void* data) const {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.ptr = data;
  return ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, handle, &event) == 0 || errno == EEXIST;
}

void WakeWatch::add(int handle, void* data) {
  handles_.emplace_back(handle, data);
  if (watching_ && !enter(handle, data)) unwatch();
}

void WakeWatch::remove(int handle) {
  std::erase_if(handles_, [handle](const auto& each) { return each.first == handle; });
  if (watching_) ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, handle, nullptr);
}

bool WakeWatch::watch() {
  polls_ = 0;
  if (watching_) return true;
  watching_ = true;
  for (const auto& [handle, data] : handles_) {
    if (enter(handle, data)) continue;
    const int why = errno;
    unwatch();
    errno = why;
    return false;
  }
  return true;
}

void WakeWatch::unwatch() {
  for (const auto& [handle, data] : handles_) ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, handle, nullptr);
  watching_ = false;
}

}  // namespace outrigger::io
