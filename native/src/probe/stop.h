// SPDX-License-Identifier: Apache-2.0
// SIGINT and SIGTERM as a descriptor, so that waiting for them and for anything else is one poll.
#pragma once

#include <pthread.h>
#include <sys/signalfd.h>

#include <csignal>

#include "base/fd.h"

namespace outrigger::probe {

inline UniqueFd stopSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  return UniqueFd(::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
}

}  // namespace outrigger::probe
