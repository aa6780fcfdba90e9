// SPDX-License-Identifier: Apache-2.0
// Steering in a bifurcated device: one flow rule for each address and UDP port that the stack serves; all else stays with the kernel.
// Control thread.
#pragma once

#include <mutex>
#include <utility>
#include <vector>

#include "base/result.h"
#include "io/dpdk/dpdk_headers.h"
#include "io/frame/frame_io.h"

namespace outrigger::io::dpdk {

class FlowRules {
 public:
  // Rules for frames with this tag; 0: for those without.
  explicit FlowRules(uint16_t vlan) : vlan_(vlan) {}
  // Idempotent. A wildcard address of IPv6 takes both families, as a socket does.
  Result<void> add(uint16_t port, const SockAddr& address);
  Result<void> remove(uint16_t port, const SockAddr& address);
  void clear(uint16_t port);

 private:
  const uint16_t vlan_;
  std::mutex mutex_;
  std::vector<std::pair<SockAddr, rte_flow*>> rules_;
};

}  // namespace outrigger::io::dpdk
