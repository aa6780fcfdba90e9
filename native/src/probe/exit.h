// SPDX-License-Identifier: Apache-2.0
// Exit statuses, the same as those of `outrigger`.
#pragma once

#include <cstdio>

#include "base/result.h"

namespace outrigger::probe {

constexpr int kExitOk = 0;
constexpr int kExitFailed = 1;  // it ran, and the outcome is bad
constexpr int kExitUsage = 64;
constexpr int kExitUnavailable = 69;

inline int fail(int status, const Error& error) {
  std::fprintf(stderr, "%s\n", error.message.c_str());
  return status;
}

}  // namespace outrigger::probe
