// SPDX-License-Identifier: Apache-2.0
// A shared object of this build that is loaded when its backend is asked for, since few have the libraries that it needs.
#pragma once

#include <cstdint>
#include <string>

namespace outrigger::io {

struct ModuleLibrary {
  const char* file;      // "outrigger-dpdk.so"
  const char* variable;  // of the environment, with the path of another one
  const char* symbol;    // of the function that answers the module, which begins with its version and layout
  uint32_t version;
  uint32_t layout;
};

// The variable is set.
bool libraryGiven(const ModuleLibrary& library);
// What it says, else the file beside the running program.
std::string libraryPath(const ModuleLibrary& library);

// The address of its symbol; null with an `error`. Never unloaded.
void* openLibrary(const ModuleLibrary& library, std::string& error);
std::string otherBuild(const ModuleLibrary& library, uint32_t version, uint32_t layout);

template <typename Module>
const Module* loadModule(const ModuleLibrary& library, std::string& error) {
  void* symbol = openLibrary(library, error);
  if (symbol == nullptr) return nullptr;
  const Module* module = reinterpret_cast<const Module* (*)()>(symbol)();
  if (module->version == library.version && module->layout == library.layout) return module;
  error = otherBuild(library, module->version, module->layout);
  return nullptr;
}

}  // namespace outrigger::io
