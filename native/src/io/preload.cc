// SPDX-License-Identifier: Apache-2.0
// Preloaded socket libraries; see the header.
#include "io/preload.h"

#include <cstdlib>
#include <fstream>
#include <sstream>

namespace outrigger::io {

namespace {

// A path whose last part is the library, with or without a version: "/usr/lib/libvma.so.9.8".
bool namesLibrary(std::string_view path, std::string_view library) {
  const size_t slash = path.rfind('/');
  const std::string_view file = slash == std::string_view::npos ? path : path.substr(slash + 1);
  return file == library || (file.starts_with(library) && file[library.size()] == '.');
}

}  // namespace

std::vector<Preload> preloadsIn(std::string_view maps, std::string_view ldPreload) {
  std::vector<Preload> all = {
      {"onload", "libonload.so", "AMD Solarflare", false, false},
      {"vma", "libvma.so", "NVIDIA ConnectX", false, false},
      {"xlio", "libxlio.so", "NVIDIA ConnectX and BlueField", false, false},
  };
  std::istringstream lines{std::string(maps)};
  for (std::string line; std::getline(lines, line);) {
    const size_t path = line.find('/');
    if (path == std::string::npos) continue;
    for (Preload& each : all) each.loaded |= namesLibrary(std::string_view(line).substr(path), each.library);
  }
  // ld.so(8): separated by spaces or colons.
  for (size_t begin = 0; begin < ldPreload.size();) {
    const size_t end = std::min(ldPreload.find_first_of(" :", begin), ldPreload.size());
    for (Preload& each : all) each.asked |= namesLibrary(ldPreload.substr(begin, end - begin), each.library);
    begin = end + 1;
  }
  return all;
}

const std::vector<Preload>& preloads() {
  static const std::vector<Preload> all = [] {
    std::stringstream maps;
    maps << std::ifstream("/proc/self/maps").rdbuf();
    const char* preload = std::getenv("LD_PRELOAD");
    return preloadsIn(maps.str(), preload == nullptr ? "" : preload);
  }();
  return all;
}

const std::string& socketProvider() {
  static const std::string provider = [] {
    for (const Preload& each : preloads()) {
      if (each.loaded) return each.name;
    }
    return std::string("kernel");
  }();
  return provider;
}

}  // namespace outrigger::io
