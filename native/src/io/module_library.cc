// SPDX-License-Identifier: Apache-2.0
// See the header.
#include "io/module_library.h"

#include <dlfcn.h>
#include <unistd.h>

#include <array>
#include <cstdlib>

namespace outrigger::io {

bool libraryGiven(const ModuleLibrary& library) {
  const char* given = std::getenv(library.variable);
  return given != nullptr && *given != '\0';
}

std::string libraryPath(const ModuleLibrary& library) {
  if (libraryGiven(library)) return std::getenv(library.variable);
  std::array<char, 4096> self{};
  const ssize_t length = ::readlink("/proc/self/exe", self.data(), self.size() - 1);
  const std::string program(self.data(), length > 0 ? static_cast<size_t>(length) : 0);
  return program.substr(0, program.rfind('/') + 1) + library.file;
}

void* openLibrary(const ModuleLibrary& library, std::string& error) {
  const std::string path = libraryPath(library);
  void* opened = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (opened == nullptr) {
    const char* text = ::dlerror();
    error = text != nullptr ? text : path + " can't be loaded";
    return nullptr;
  }
  void* symbol = ::dlsym(opened, library.symbol);
  if (symbol == nullptr) error = path + " has no function " + library.symbol + ": it is something else";
  return symbol;
}

std::string otherBuild(const ModuleLibrary& library, uint32_t version, uint32_t layout) {
  return libraryPath(library) + " is of another build: interface " + std::to_string(version) + "/" + std::to_string(layout) +
         ", this program has " + std::to_string(library.version) + "/" + std::to_string(library.layout);
}

}  // namespace outrigger::io
