// SPDX-License-Identifier: Apache-2.0
// The one symbol of outrigger-verbs.so.
#include "io/verbs/verbs_module.h"
#include "io/verbs_module/ibv_port.h"

extern "C" __attribute__((visibility("default"))) const outrigger::io::verbs::VerbsModule* outriggerVerbsModule() {
  using namespace outrigger::io::verbs;
  static const VerbsModule module{kVerbsModuleVersion, kVerbsModuleLayout, listIbvPorts, openIbvPort};
  return &module;
}
