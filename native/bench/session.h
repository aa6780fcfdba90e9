// SPDX-License-Identifier: Apache-2.0
// What the benchmark programs share: a connected client, a stop signal, waiting, and CPU time of processes.
#pragma once

#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <atomic>
#include <cinttypes>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "arguments.h"
#include "base/clock.h"
#include "client/media_client.h"

namespace outrigger::bench {

inline int64_t nowNs() {
  SystemClock clock;
  return clock.nanoTime();
}

inline std::atomic<bool>& stopFlag() {
  static std::atomic<bool> flag{false};
  return flag;
}
inline bool stopped() { return stopFlag().load(std::memory_order_relaxed); }

// SIGTERM and SIGINT end the run early; what was measured so far is reported.
inline void installStop() {
  struct sigaction action {};
  action.sa_handler = [](int) { stopFlag().store(true, std::memory_order_relaxed); };
  ::sigaction(SIGTERM, &action, nullptr);
  ::sigaction(SIGINT, &action, nullptr);
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  ::prctl(PR_SET_TIMERSLACK, 1UL);  // ns; the default of 50 us would be added to every timed wait
}

inline std::unique_ptr<client::MediaClient> connectOrDie(const Arguments& arguments) {
  client::MediaClientOptions options;
  options.directory = arguments.text("dir");
  options.onError = [](const Error& error) { std::fprintf(stderr, "%s\n", error.message.c_str()); };
  options.onDriverLost = [](const std::string& reason) {
    std::fprintf(stderr, "driver lost: %s\n", reason.c_str());
    stopFlag().store(true);
  };
  auto connected = client::MediaClient::connectWithin(options, 10'000'000'000);
  if (!connected) die(connected.error().message);
  auto client = connected.take();
  client->start();
  return client;
}

template <typename T>
std::shared_ptr<T> orDie(Result<std::shared_ptr<T>> result) {
  if (!result) die(result.error().message);
  return result.take();
}

// How a polling thread passes the time: `doorbell` spins about 50 us, then sleeps until the driver rings (a driver without doorbells is
// then polled with growing pauses); `yield` gives the core away and looks again.
class Idle {
 public:
  Idle(client::MediaClient& client, const std::string& kind) : adaptive_(client), yield_(kind == "yield") {
    if (kind != "yield" && kind != "doorbell") die("--idle '" + kind + "' is neither 'doorbell' nor 'yield'");
  }
  template <typename LookAgain>
  void idle(int32_t workCount, int64_t now, int64_t maxWaitNs, LookAgain&& lookAgain) {
    if (!yield_) {
      adaptive_.idle(workCount, now, maxWaitNs, lookAgain);
    } else if (workCount == 0) {
      ::sched_yield();
    }
  }

 private:
  client::ClientIdle adaptive_;
  bool yield_;
};

// CPU seconds (user and system) of named processes: `--cpu driverA=12,client=self`.
class CpuTimes {
 public:
  explicit CpuTimes(const std::string& list) {
    std::stringstream stream(list);
    std::string entry;
    while (std::getline(stream, entry, ',')) {
      const size_t equals = entry.find('=');
      if (equals == std::string::npos) die("--cpu '" + entry + "' is not name=pid");
      std::string pid = entry.substr(equals + 1);
      processes_.emplace_back(entry.substr(0, equals), std::move(pid));
    }
  }
  void begin() { begin_ = read(); }
  void end() { end_ = read(); }
  std::string json() const {
    std::string text = "{";
    for (size_t i = 0; i < processes_.size() && i < begin_.size() && i < end_.size(); ++i) {
      if (i > 0) text += ",";
      text += "\"" + processes_[i].first + "\":" + std::to_string(end_[i] - begin_[i]);
    }
    return text + "}";
  }

 private:
  std::vector<double> read() const {
    std::vector<double> seconds;
    for (const auto& process : processes_) seconds.push_back(secondsOf(process.second));
    return seconds;
  }
  // proc(5): utime and stime are fields 14 and 15; the name before them may hold spaces, so counting starts after its parenthesis.
  static double secondsOf(const std::string& pid) {
    std::ifstream file("/proc/" + pid + "/stat");
    std::string line;
    if (!std::getline(file, line)) die("process " + pid + " is gone: its CPU time can't be read");
    std::stringstream rest(line.substr(line.rfind(')') + 2));
    std::string field;
    double ticks = 0;
    for (int i = 3; i <= 15 && rest >> field; ++i) {
      if (i >= 14) ticks += std::strtod(field.c_str(), nullptr);
    }
    return ticks / static_cast<double>(::sysconf(_SC_CLK_TCK));
  }

  std::vector<std::pair<std::string, std::string>> processes_;
  std::vector<double> begin_;
  std::vector<double> end_;
};

inline void say(const std::string& line) {
  std::printf("%s\n", line.c_str());
  std::fflush(stdout);
}

}  // namespace outrigger::bench
