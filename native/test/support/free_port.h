// SPDX-License-Identifier: Apache-2.0
// Ports for tests that name one before they open it. Test programs run beside each other, so each process has a block of its own, below the range
// that the kernel gives out itself (net.ipv4.ip_local_port_range begins at 32768): nobody else comes by one of these while it is free.
#pragma once

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>

#include "base/fd.h"

namespace outrigger::testing {

inline bool canBindUdp(int family, uint16_t port) {
  const UniqueFd fd(::socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return errno == EAFNOSUPPORT;
  sockaddr_in v4{};
  v4.sin_family = AF_INET;
  v4.sin_port = htons(port);
  sockaddr_in6 v6{};
  v6.sin6_family = AF_INET6;
  v6.sin6_port = htons(port);
  return family == AF_INET ? ::bind(fd.get(), reinterpret_cast<sockaddr*>(&v4), sizeof(v4)) == 0
                           : ::bind(fd.get(), reinterpret_cast<sockaddr*>(&v6), sizeof(v6)) == 0;
}

// A UDP port that is free on every address of both families, another one each time.
inline uint16_t freePort() {
  constexpr uint32_t kFirst = 10'000;
  constexpr uint32_t kBlocks = 200;
  constexpr uint32_t kBlockLength = 100;
  static std::atomic<uint32_t> next{0};
  const uint32_t block = kFirst + static_cast<uint32_t>(::getpid()) % kBlocks * kBlockLength;
  for (uint32_t tries = 0; tries < kBlockLength; ++tries) {
    const auto port = static_cast<uint16_t>(block + next.fetch_add(1) % kBlockLength);
    if (canBindUdp(AF_INET, port) && canBindUdp(AF_INET6, port)) return port;
  }
  ADD_FAILURE() << "no port from " << block << " to " << block + kBlockLength - 1 << " is free";
  return 0;
}

}  // namespace outrigger::testing
