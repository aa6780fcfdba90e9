// SPDX-License-Identifier: Apache-2.0
// outrigger-probe: the parts of `outrigger ping` and `outrigger reflect` that touch the network. Answers in JSON; the command makes it readable.
#include <cstdio>
#include <cstring>
#include <set>
#include <string>

#include "probe/exit.h"
#include "probe/options.h"
#include "probe/ping.h"
#include "probe/reflect.h"

namespace outrigger::probe {
namespace {

int run(int argc, char** argv) {
  const std::string command = argc > 1 ? argv[1] : "";
  const std::set<std::string> pingOptions{"host", "port", "count", "interval-us", "size", "timeout-ms", "via", "mode", "wait"};
  const std::set<std::string> reflectOptions{"interface", "port", "mode"};
  if (command != "ping" && command != "reflect") {
    std::fprintf(stderr, "usage: outrigger-probe ping|reflect --option value ...; see `outrigger ping --help`\n");
    return kExitUsage;
  }
  auto options = Options::parse(argc - 2, argv + 2, command == "ping" ? pingOptions : reflectOptions);
  if (!options) return fail(kExitUsage, options.error());
  return command == "ping" ? ping(*options) : reflect(*options);
}

}  // namespace
}  // namespace outrigger::probe

int main(int argc, char** argv) { return outrigger::probe::run(argc, argv); }
