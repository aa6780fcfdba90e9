// SPDX-License-Identifier: Apache-2.0
// See the header.
#include "io/verbs/verbs_loader.h"

#include <dlfcn.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <mutex>

namespace outrigger::io::verbs {
namespace {

#ifdef OUTRIGGER_VERBS
constexpr bool kBuilt = true;
#else
constexpr bool kBuilt = false;
#endif

bool libraryGiven() {
  const char* given = std::getenv("OUTRIGGER_VERBS_LIBRARY");
  return given != nullptr && *given != '\0';
}

BackendCause causeOf(const std::string& path, const std::string& error) {
  if (error.find("libibverbs") != std::string::npos) {
    return {"RDMA libraries", error, "install rdma-core's libraries (Debian: libibverbs1 and ibverbs-providers)"};
  }
  return {"outrigger-verbs.so", error, "put it beside the driver, or set OUTRIGGER_VERBS_LIBRARY (now " + path + ")"};
}

LoadedVerbs load() {
  LoadedVerbs loaded;
  if (!kBuilt && !libraryGiven()) {
    loaded.built = false;
    loaded.cause = {
        "RDMA", "this build left it out: there was no infiniband/verbs.h when it was made",
        "install libibverbs-dev and build again, or set OUTRIGGER_VERBS_LIBRARY to the outrigger-verbs.so of a build of this version"};
    return loaded;
  }
  const std::string path = verbsLibraryPath();
  void* library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (library == nullptr) {
    const char* error = ::dlerror();
    loaded.cause = causeOf(path, error != nullptr ? error : path + " can't be loaded");
    return loaded;
  }
  const auto function = reinterpret_cast<VerbsModuleFunction>(::dlsym(library, kVerbsModuleSymbol));
  if (function == nullptr) {
    loaded.cause = causeOf(path, path + " has no function " + kVerbsModuleSymbol + ": it is something else");
    return loaded;
  }
  const VerbsModule* module = function();
  if (module->version != kVerbsModuleVersion || module->layout != kVerbsModuleLayout) {
    loaded.cause =
        causeOf(path, path + " is of another build: interface " + std::to_string(module->version) + "/" + std::to_string(module->layout) +
                          ", this program has " + std::to_string(kVerbsModuleVersion) + "/" + std::to_string(kVerbsModuleLayout));
    return loaded;
  }
  loaded.module = module;
  return loaded;
}

}  // namespace

std::string verbsLibraryPath() {
  if (libraryGiven()) return std::getenv("OUTRIGGER_VERBS_LIBRARY");
  std::array<char, 4096> self{};
  const ssize_t length = ::readlink("/proc/self/exe", self.data(), self.size() - 1);
  const std::string program(self.data(), length > 0 ? static_cast<size_t>(length) : 0);
  return program.substr(0, program.rfind('/') + 1) + "outrigger-verbs.so";
}

const LoadedVerbs& loadVerbs() {
  static std::mutex mutex;
  static LoadedVerbs loaded;
  const std::lock_guard lock(mutex);
  if (loaded.module == nullptr) loaded = load();
  return loaded;
}

}  // namespace outrigger::io::verbs
