// SPDX-License-Identifier: Apache-2.0
#include "io/dpdk/eal.h"

#include <pthread.h>
#include <sched.h>
#include <time.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <optional>
#include <vector>

#include "io/dpdk/dpdk_headers.h"

namespace outrigger::io::dpdk {
namespace {

// What EAL says of one failure is two or three lines; more would hide the first, which names the cause.
constexpr size_t kMaxErrorBytes = 600;

// EAL's log: each line to stderr in the form of the driver's own log, errors kept for the next Error as well. Locked: EAL's interrupt
// thread logs too.
class Log {
 public:
  void write(const char* text, size_t length) {
    const std::lock_guard lock(mutex_);
    const int level = rte_log_cur_msg_loglevel();
    const bool serious = level > 0 && level <= static_cast<int>(RTE_LOG_ERR);
    std::string line(text, length);
    while (!line.empty() && (line.back() == '\n' || line.back() == ' ')) line.pop_back();
    if (line.empty()) return;
    if (serious && errors_.size() + line.size() < kMaxErrorBytes) errors_ += (errors_.empty() ? "" : "; ") + line;
    print(line, level);
  }

  std::string take() {
    const std::lock_guard lock(mutex_);
    return std::exchange(errors_, {});
  }

 private:
  static void print(const std::string& line, int level) {
    timespec now{};
    ::clock_gettime(CLOCK_REALTIME, &now);
    tm parts{};
    ::gmtime_r(&now.tv_sec, &parts);
    char stamp[40];
    const size_t length = ::strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S", &parts);
    std::snprintf(stamp + length, sizeof(stamp) - length, ".%03dZ", static_cast<int>(now.tv_nsec / 1'000'000));
    std::string escaped;
    for (const char c : line) {
      if (c == '"' || c == '\\') escaped += '\\';
      escaped += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    }
    const int ours = level <= static_cast<int>(RTE_LOG_ERR) ? 50 : level == static_cast<int>(RTE_LOG_WARNING) ? 40 : 30;
    const std::string out = "{\"level\":" + std::to_string(ours) + ",\"time\":\"" + stamp + "\",\"pid\":" + std::to_string(::getpid()) +
                            ",\"name\":\"dpdk\",\"msg\":\"" + escaped + "\"}\n";
    [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, out.data(), out.size());
  }

  std::mutex mutex_;
  std::string errors_;
};

Log& ealLog() {
  static Log log;
  return log;
}

ssize_t writeLog(void*, const char* text, size_t length) {
  ealLog().write(text, length);
  return static_cast<ssize_t>(length);
}

// How EAL was started, or why it could not be.
struct Started {
  bool hugepages = false;
  bool pci = false;
  std::optional<Error> failure;
};
std::optional<Started>& started() {
  static std::optional<Started> state;
  return state;
}

std::string joined(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& word : words) out += (out.empty() ? "" : " ") + word;
  return out;
}

std::string fixFor(const EalPlan& plan) {
  if (!plan.hugepages) return "allow more memory for the process (memory limit, RLIMIT_MEMLOCK under vfio), or fewer buffers";
  return "see that as many hugepages are free as the buffers need, that the container's hugetlb limit allows them, and that /dev/vfio is "
         "readable";
}

Result<void> initialise(const EalPlan& plan) {
  cookie_io_functions_t functions{};
  functions.write = writeLog;
  FILE* stream = ::fopencookie(nullptr, "w", functions);
  if (stream != nullptr) {
    ::setvbuf(stream, nullptr, _IOLBF, 512);
    rte_openlog_stream(stream);
  }
  // EAL keeps pointers into its arguments, so they live as long as the process.
  static std::vector<std::string> words;
  static std::vector<char*> pointers;
  words = {"outrigger-driver"};
  words.insert(words.end(), plan.arguments.begin(), plan.arguments.end());
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  // EAL moves the calling thread to its main lcore; this one goes on with what it was allowed before.
  cpu_set_t before;
  const bool known = ::pthread_getaffinity_np(::pthread_self(), sizeof(before), &before) == 0;
  const int result = rte_eal_init(static_cast<int>(words.size()), pointers.data());
  const int error = rte_errno;
  if (known) ::pthread_setaffinity_np(::pthread_self(), sizeof(before), &before);
  if (result >= 0) return {};
  const std::string log = takeEalErrors();
  return makeError(ErrorCode::kGeneric, "EAL did not start (" + joined(plan.arguments) + "): " + (log.empty() ? rte_strerror(error) : log) +
                                            "; " + fixFor(plan));
}

}  // namespace

std::mutex& ealMutex() {
  static std::mutex mutex;
  return mutex;
}

std::string takeEalErrors() { return ealLog().take(); }

Result<void> startEal(const EalPlan& plan) {
  if (!started()) {
    Started state{plan.hugepages, plan.usesPci, {}};
    if (auto done = initialise(plan); !done) state.failure = done.error();
    started() = state;
    if (state.failure) return *state.failure;
    return {};
  }
  const Started& state = *started();
  if (state.failure) {
    return makeError(ErrorCode::kGeneric, "EAL can be started once in a process, and failed before (" + state.failure->message +
                                              "): restart the driver when the cause is gone");
  }
  if (state.hugepages != plan.hugepages) {
    return makeError(ErrorCode::kGeneric, std::string("EAL runs in this process ") + (state.hugepages ? "with" : "without") +
                                              " hugepages already and can't change: restart the driver");
  }
  if (plan.usesPci && !state.pci) {
    return makeError(ErrorCode::kGeneric,
                     "EAL runs in this process without PCI already, so " + plan.device.name + " can't be opened: restart the driver");
  }
  return {};
}

}  // namespace outrigger::io::dpdk
