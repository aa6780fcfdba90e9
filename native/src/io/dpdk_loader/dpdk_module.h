// SPDX-License-Identifier: Apache-2.0
// What outrigger-dpdk.so and the driver agree on (contract). The driver knows no DPDK: the libraries are 35 MB, start threads and take
// memory, so they are loaded only when the backend is asked for. The one exported symbol answers a table; its first two words tell
// whether the rest can be trusted, since both sides come from one tree and share the C++ types of io/frame/frame_io.h.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "io/dpdk_loader/eal_plan.h"
#include "io/frame/frame_io.h"

namespace outrigger::io {

// Raised with every change of the types below, or of FrameIo's.
constexpr uint32_t kDpdkModuleVersion = 2;

// Catches a module of another build whose author forgot to raise the version.
constexpr uint32_t kDpdkModuleLayout = static_cast<uint32_t>(sizeof(FrameIo) + 3 * sizeof(FrameCaps) + 5 * sizeof(RxFrame) +
                                                             7 * sizeof(TxFrame) + 11 * sizeof(LinkState) + 13 * sizeof(EalPlan));

struct DpdkModule {
  uint32_t version = kDpdkModuleVersion;
  uint32_t layout = kDpdkModuleLayout;
  const char* (*dpdkVersion)() = nullptr;  // "DPDK 22.11.11"
  // Starts EAL unless it runs already, and opens plan.device. Fails with EAL's own words for the cause, and the fix.
  Result<std::unique_ptr<FrameIo>> (*open)(const EalPlan& plan) = nullptr;
};

constexpr const char* kDpdkModuleSymbol = "outriggerDpdkModule";

}  // namespace outrigger::io
