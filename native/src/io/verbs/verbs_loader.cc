// SPDX-License-Identifier: Apache-2.0
// See the header.
#include "io/verbs/verbs_loader.h"

#include <mutex>

#include "io/module_library.h"

namespace outrigger::io::verbs {
namespace {

#ifdef OUTRIGGER_VERBS
constexpr bool kBuilt = true;
#else
constexpr bool kBuilt = false;
#endif

constexpr ModuleLibrary kLibrary{"outrigger-verbs.so", "OUTRIGGER_VERBS_LIBRARY", kVerbsModuleSymbol, kVerbsModuleVersion,
                                 kVerbsModuleLayout};

BackendCause causeOf(const std::string& error) {
  if (error.find("libibverbs") != std::string::npos) {
    return {"RDMA libraries", error, "install rdma-core's libraries (Debian: libibverbs1 and ibverbs-providers)"};
  }
  return {"outrigger-verbs.so", error, "put it beside the driver, or set OUTRIGGER_VERBS_LIBRARY (now " + libraryPath(kLibrary) + ")"};
}

LoadedVerbs load() {
  LoadedVerbs loaded;
  if (!kBuilt && !libraryGiven(kLibrary)) {
    loaded.built = false;
    loaded.cause = {
        "RDMA", "this build left it out: there was no infiniband/verbs.h when it was made",
        "install libibverbs-dev and build again, or set OUTRIGGER_VERBS_LIBRARY to the outrigger-verbs.so of a build of this version"};
    return loaded;
  }
  std::string error;
  loaded.module = loadModule<VerbsModule>(kLibrary, error);
  if (loaded.module == nullptr) loaded.cause = causeOf(error);
  return loaded;
}

}  // namespace

const LoadedVerbs& loadVerbs() {
  static std::mutex mutex;
  static LoadedVerbs loaded;
  const std::lock_guard lock(mutex);
  if (loaded.module == nullptr) loaded = load();
  return loaded;
}

}  // namespace outrigger::io::verbs
