// SPDX-License-Identifier: Apache-2.0
// outrigger-nicd: see --help.
#include <signal.h>
#include <sys/signalfd.h>

#include <cstdio>
#include <string_view>

#include "base/json_log.h"
#include "driver/version.h"
#include "nicd/options.h"
#include "nicd/server.h"
#include "nicd/status_client.h"

namespace {

constexpr int kExitOk = 0;
constexpr int kExitSystem = 1;
constexpr int kExitUsage = 64;  // sysexits.h

outrigger::UniqueFd makeSignalFd() {
  ::signal(SIGPIPE, SIG_IGN);
  sigset_t signals;
  ::sigemptyset(&signals);
  ::sigaddset(&signals, SIGTERM);
  ::sigaddset(&signals, SIGINT);
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  return outrigger::UniqueFd(::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
}

int serve(const outrigger::nicd::Options& options) {
  using outrigger::LogLevel;
  using outrigger::LogLine;
  // Before the first thread is made: it inherits what is blocked.
  const outrigger::UniqueFd signals = makeSignalFd();
  auto server = outrigger::nicd::Server::create(options);
  if (!server) {
    LogLine(LogLevel::kError).write(server.error().message);
    return kExitSystem;
  }
  if (auto r = (*server)->run(signals.get()); !r) {
    LogLine(LogLevel::kError).write(r.error().message);
    return kExitSystem;
  }
  LogLine(LogLevel::kInfo).write("nicd ends");
  return kExitOk;
}

}  // namespace

int main(int argc, char** argv) {
  outrigger::LogLine::setProgram("nicd");
  auto options = outrigger::nicd::parseOptions(argc, argv);
  if (!options) {
    std::fprintf(stderr, "outrigger-nicd: %s\n", options.error().message.c_str());
    return kExitUsage;
  }
  if (options->help) {
    std::fputs(outrigger::nicd::helpText().c_str(), stdout);
    return kExitOk;
  }
  if (options->version) {
    std::printf("outrigger-nicd %s\n", outrigger::driver::kVersion);
    return kExitOk;
  }
  if (!options->status) return serve(*options);
  auto text = outrigger::nicd::fetchStatus(options->socket, options->json);
  if (!text) {
    std::fprintf(stderr, "outrigger-nicd: %s\n", text.error().message.c_str());
    return kExitSystem;
  }
  std::fputs(text->c_str(), stdout);
  return kExitOk;
}
