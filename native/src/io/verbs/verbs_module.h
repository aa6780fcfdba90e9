// SPDX-License-Identifier: Apache-2.0
// What outrigger-verbs.so and the driver agree on (contract). libibverbs and its drivers are needed by few, so the driver does without and loads
// them with this when the backend is asked for. As with outrigger-dpdk.so, both sides come from one tree.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "io/verbs/rdma_port.h"

namespace outrigger::io::verbs {

// Raised with every change of the types below, or of rdma_port.h.
constexpr uint32_t kVerbsModuleVersion = 2;

// Catches a module of another build whose author forgot to raise the version.
constexpr uint32_t kVerbsModuleLayout = static_cast<uint32_t>(sizeof(PortFacts) + 3 * sizeof(Received) + 5 * sizeof(SendSlot) +
                                                              7 * sizeof(Outgoing) + 11 * sizeof(QueueOptions) + 13 * sizeof(QueueStats));

struct VerbsModule {
  uint32_t version = kVerbsModuleVersion;
  uint32_t layout = kVerbsModuleLayout;
  // Every port of every device, also those that can't be used. Fails where there is no RDMA at all, with errno.
  Result<std::vector<PortFacts>> (*list)() = nullptr;
  // With `facts` of list(), its GIDs perhaps fewer.
  Result<std::shared_ptr<RdmaPort>> (*open)(const PortFacts& facts) = nullptr;
};

constexpr const char* kVerbsModuleSymbol = "outriggerVerbsModule";

}  // namespace outrigger::io::verbs
