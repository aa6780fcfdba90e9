// SPDX-License-Identifier: Apache-2.0
// The one symbol of outrigger-dpdk.so.
#include <memory>

#include "io/dpdk/dpdk_io.h"
#include "io/dpdk_loader/dpdk_module.h"

namespace outrigger::io::dpdk {
namespace {

Result<std::unique_ptr<FrameIo>> open(const EalPlan& plan) {
  auto opened = DpdkIo::open(plan);
  if (!opened) return opened.error();
  return std::unique_ptr<FrameIo>(opened.take());
}

const char* version() { return rte_version(); }

}  // namespace
}  // namespace outrigger::io::dpdk

extern "C" __attribute__((visibility("default"))) const outrigger::io::DpdkModule* outriggerDpdkModule() {
  static const outrigger::io::DpdkModule module{outrigger::io::kDpdkModuleVersion, outrigger::io::kDpdkModuleLayout,
                                                outrigger::io::dpdk::version, outrigger::io::dpdk::open};
  return &module;
}
