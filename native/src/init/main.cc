// SPDX-License-Identifier: Apache-2.0
// outrigger-init: PID 1 of the sidecar's container. See --help.
#include <unistd.h>

#include <cstdio>

#include "base/json_log.h"
#include "init/options.h"
#include "init/supervisor.h"

int main(int argc, char** argv) {
  using namespace outrigger::init;
  outrigger::LogLine::setProgram("init");
  auto options = parseOptions(argc, argv, environ);
  if (!options) {
    std::fprintf(stderr, "outrigger-init: %s\n", options.error().message.c_str());
    return kExitUsage;
  }
  if (options->help) {
    std::fputs(helpText().c_str(), stdout);
    return kExitOk;
  }
  auto status = Supervisor(*options).run();
  if (!status) {
    outrigger::LogLine(outrigger::LogLevel::kError).write(status.error().message);
    return kExitSystem;
  }
  return *status;
}
