// SPDX-License-Identifier: Apache-2.0
// The driver-wide counters, by id, and the error sink of the agents. Each counter has one writing agent unless said otherwise.
#pragma once

#include <array>
#include <cstdint>

#include "cnc/counters.h"
#include "io/network_counters.h"

namespace outrigger::driver {

struct DriverCounters {
  std::array<cnc::Counter, static_cast<size_t>(cnc::SystemCounter::kCount)> system;
  std::array<cnc::Counter, static_cast<size_t>(cnc::OutriggerCounter::kCount)> own;
  std::array<cnc::Counter, io::kNetworkCounters> network;  // invalid where no raw backend is configured

  const cnc::Counter& operator[](cnc::SystemCounter id) const { return system[static_cast<size_t>(id)]; }
  const cnc::Counter& operator[](cnc::OutriggerCounter id) const { return own[static_cast<size_t>(id)]; }

  // Sender and receiver may both write some of them: always the atomic add, never on a per-frame path (once a datagram train).
  void add(cnc::SystemCounter id, int64_t delta) const { system[static_cast<size_t>(id)].addAtomic(delta); }
  void add(cnc::OutriggerCounter id, int64_t delta) const { own[static_cast<size_t>(id)].addAtomic(delta); }
  void addNetwork(size_t index, int64_t delta) const {
    if (network[index].valid()) network[index].addAtomic(delta);
  }
};

}  // namespace outrigger::driver
