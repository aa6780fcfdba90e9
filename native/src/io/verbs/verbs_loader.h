// SPDX-License-Identifier: Apache-2.0
// Finds and loads outrigger-verbs.so: OUTRIGGER_VERBS_LIBRARY, else beside the running program.
#pragma once

#include "io/backend.h"
#include "io/verbs/verbs_module.h"

namespace outrigger::io::verbs {

struct LoadedVerbs {
  const VerbsModule* module = nullptr;
  BackendCause cause;  // when there is none
  bool built = true;
};

// Once in a process; what failed is tried again.
const LoadedVerbs& loadVerbs();

}  // namespace outrigger::io::verbs
