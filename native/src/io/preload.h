// SPDX-License-Identifier: Apache-2.0
// Libraries that take the place of the kernel's sockets by LD_PRELOAD (Onload, VMA, XLIO): run modes of `socket` and `mmsg`, which notice
// nothing. Here they are found in this process, so that `explain` and the metric say what moves the datagrams.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace outrigger::io {

struct Preload {
  std::string name;     // "onload"
  std::string library;  // "libonload.so"
  std::string vendor;   // whose devices it drives
  bool loaded = false;  // it is mapped into this process
  bool asked = false;   // LD_PRELOAD names it
};

// All that are known, each as it is in a process with this /proc/<pid>/maps and this LD_PRELOAD.
std::vector<Preload> preloadsIn(std::string_view maps, std::string_view ldPreload);
// Of this process; read once.
const std::vector<Preload>& preloads();
// "onload", or "kernel" when the kernel's own sockets are used.
const std::string& socketProvider();

}  // namespace outrigger::io
