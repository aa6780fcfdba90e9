// SPDX-License-Identifier: Apache-2.0
// outrigger-driver: a media driver as a process. Started without arguments it is configured by its environment, as aeronmd is. Ends cleanly
// on SIGTERM, SIGINT and on a client's TERMINATE_DRIVER where that is allowed. Logs are JSON, one object a line, on stderr.
#include <signal.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "base/fd.h"
#include "base/json.h"
#include "driver/config_parser.h"
#include "driver/explain.h"
#include "driver/media_driver.h"
#include "driver/version.h"

#include <poll.h>

namespace {

using outrigger::driver::MediaDriver;
using outrigger::driver::ThreadingMode;

// How soon a client's request to end is noticed; nothing rings for it.
constexpr int kTerminationPollMs = 100;
// Invoker mode has no thread that sleeps on sockets: the main loop steps and naps.
constexpr int kInvokerNapMs = 1;

// As sysexits.h has it: what starts the driver again can tell that another start would not help.
constexpr int kExitConfig = 78;

using Field = std::pair<const char*, std::string>;

// As the sidecar's log has it, so that one reader takes both.
enum class Level { kInfo = 30, kWarn = 40, kError = 50 };

void log(Level level, const std::string& message, const std::vector<Field>& fields = {}) {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  tm parts{};
  ::gmtime_r(&now.tv_sec, &parts);
  char stamp[64];
  const size_t length = ::strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S", &parts);
  std::snprintf(stamp + length, sizeof(stamp) - length, ".%03dZ", static_cast<int>(now.tv_nsec / 1'000'000));
  std::string line = "{\"level\":" + std::to_string(static_cast<int>(level)) + ",\"time\":" + outrigger::jsonQuoted(stamp) +
                     ",\"pid\":" + std::to_string(::getpid()) + ",\"name\":\"driver\"";
  for (const auto& [key, value] : fields) line += ",\"" + std::string(key) + "\":" + outrigger::jsonQuoted(value);
  line += ",\"msg\":" + outrigger::jsonQuoted(message) + "}\n";
  // One write a line, so that lines of several processes on one pipe stay whole.
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
}

const char* modeText(ThreadingMode mode) {
  switch (mode) {
    case ThreadingMode::kDedicated:
      return "dedicated";
    case ThreadingMode::kSharedNetwork:
      return "shared-network";
    case ThreadingMode::kShared:
      return "shared";
    case ThreadingMode::kInvoker:
      return "invoker";
  }
  return "";
}

// Blocks the ending signals for every thread and makes them readable. Before the first thread is made.
outrigger::UniqueFd makeSignalFd() {
  ::signal(SIGPIPE, SIG_IGN);
  sigset_t signals;
  ::sigemptyset(&signals);
  ::sigaddset(&signals, SIGTERM);
  ::sigaddset(&signals, SIGINT);
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  return outrigger::UniqueFd(::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
}

// Why it ends.
std::string serve(MediaDriver& driver, int signalFd) {
  const bool invoker = driver.config().threadingMode == ThreadingMode::kInvoker;
  for (;;) {
    const bool busy = invoker && driver.doWork() > 0;
    pollfd polled{signalFd, POLLIN, 0};
    const int timeoutMs = busy ? 0 : invoker ? kInvokerNapMs : kTerminationPollMs;
    if (::poll(&polled, 1, timeoutMs) > 0) {
      signalfd_siginfo info{};
      if (::read(signalFd, &info, sizeof(info)) == static_cast<ssize_t>(sizeof(info))) {
        return info.ssi_signo == SIGTERM ? "SIGTERM" : "SIGINT";
      }
    }
    for (const std::string& event : driver.takeEvents()) log(Level::kWarn, event);
    if (driver.terminationRequested()) return "TERMINATE_DRIVER";
  }
}

}  // namespace

int main(int argc, char** argv) {
  auto parsed = outrigger::driver::parseConfig({argv + 1, argv + argc}, outrigger::driver::processEnvironment());
  if (!parsed) {
    log(Level::kError, parsed.error().message);
    return kExitConfig;
  }
  if (parsed->help) {
    std::fputs(outrigger::driver::configHelp().c_str(), stdout);
    return 0;
  }
  if (parsed->version) {
    std::printf("outrigger-driver %s\n", outrigger::driver::kVersion);
    return 0;
  }
  if (parsed->explain) {
    const outrigger::driver::Explanation explanation = outrigger::driver::explain(parsed->config);
    const std::string text =
        parsed->json ? outrigger::driver::explanationJson(explanation) : outrigger::driver::explanationText(explanation);
    std::fputs(text.c_str(), stdout);
    return explanation.wouldUse.empty() ? 1 : 0;
  }
  const outrigger::UniqueFd signalFd = makeSignalFd();
  if (!signalFd.valid()) {
    log(Level::kError, outrigger::makeError(outrigger::ErrorCode::kGeneric, "cannot make a signal descriptor", errno).message);
    return 1;
  }
  for (const std::string& notice : parsed->notices) log(Level::kWarn, notice);
  auto launched = MediaDriver::launch(parsed->config);
  if (!launched) {
    log(Level::kError, launched.error().message);
    return 1;
  }
  {
    const std::unique_ptr<MediaDriver> driver = launched.take();
    for (const std::string& notice : driver->notices()) log(Level::kWarn, notice);
    if (driver->config().printConfiguration) {
      for (const std::string& line : outrigger::driver::describeConfig(driver->config())) log(Level::kInfo, line);
    }
    log(Level::kInfo, "driver is ready",
        {{"dir", driver->config().directory},
         {"backend", driver->backend()},
         {"backendReasons", driver->backendReasons()},
         {"threading", modeText(driver->config().threadingMode)},
         {"version", outrigger::driver::kVersion}});
    log(Level::kInfo, "driver ends", {{"reason", serve(*driver, signalFd.get())}});
  }
  log(Level::kInfo, "driver has ended");
  return 0;
}
