// SPDX-License-Identifier: Apache-2.0
// The test program playing driver or sidecar: when OUTRIGGER_TEST_STAND_IN is set it never reaches main. It says "NAME-ready" once no
// signal can be lost, then waits for signals and says which came.
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <string>

namespace {

void say(const std::string& what) {
  const std::string line = what + "\n";
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
}

bool playStandIn() {
  const char* part = std::getenv("OUTRIGGER_TEST_STAND_IN");
  if (part == nullptr) return false;
  const std::string text(part);
  const std::string name = text.substr(0, text.find(':'));
  const bool handlesTerm = text.find("term", name.size()) != std::string::npos;
  const bool handlesHup = text.find("hup", name.size()) != std::string::npos;
  sigset_t waited;
  sigemptyset(&waited);
  // Blocked and waited for, yet with a handler: that is how the kernel, and so init, sees that a program handles a signal.
  for (const auto& [number, handled] : {std::pair{SIGTERM, handlesTerm}, std::pair{SIGHUP, handlesHup}}) {
    if (handled) {
      sigaddset(&waited, number);
      ::sigprocmask(SIG_BLOCK, &waited, nullptr);
      ::signal(number, [](int) {});
    } else if (number == SIGTERM) {
      ::signal(number, SIG_IGN);
    }
  }
  say(name + "-ready");
  for (;;) {
    int number = 0;
    ::sigwait(&waited, &number);
    say(name + (number == SIGHUP ? "-hup" : "-term"));
    if (number == SIGTERM) ::_exit(0);
  }
}

[[maybe_unused]] const bool kPlayed = playStandIn();

}  // namespace
