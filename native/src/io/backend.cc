// SPDX-License-Identifier: Apache-2.0
// Backend names to backends, and the environment's overrides.
#include "io/backend.h"

#include <charconv>
#include <cstdlib>

#include "io/impair/impair_config.h"
#include "io/impair/impair_io.h"
#include "io/mmsg/mmsg_io.h"
#include "io/socket/socket_io.h"

namespace outrigger::io {
namespace {

constexpr int32_t kMaxBusyPollUs = 1'000'000;

Error badVariable(const char* name, const char* value, const std::string& allowed) {
  return makeError(ErrorCode::kGeneric, std::string(name) + "=" + value + " is not valid, allowed is " + allowed);
}

Result<void> readSwitch(const char* name, bool& out) {
  const char* value = std::getenv(name);
  if (value == nullptr || *value == '\0') return {};
  const std::string text = value;
  if (text == "on") {
    out = true;
  } else if (text == "off") {
    out = false;
  } else {
    return badVariable(name, value, "on, off");
  }
  return {};
}

}  // namespace

const std::vector<std::string>& backendNames() {
  static const std::vector<std::string> names{"socket", "mmsg"};
  return names;
}

Result<void> applyEnvironment(BackendOptions& options) {
  if (auto r = readSwitch("OUTRIGGER_UDP_SEGMENT", options.segmentation); !r) return r;
  if (auto r = readSwitch("OUTRIGGER_UDP_GRO", options.coalescing); !r) return r;
  if (const char* value = std::getenv("OUTRIGGER_BUSY_POLL_US"); value != nullptr && *value != '\0') {
    const std::string_view text = value;
    int32_t microseconds = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), microseconds);
    if (error != std::errc() || end != text.data() + text.size() || microseconds < 0 || microseconds > kMaxBusyPollUs) {
      return badVariable("OUTRIGGER_BUSY_POLL_US", value, "a whole number of microseconds from 0 to 1000000");
    }
    options.busyPollUs = microseconds;
  }
  if (const char* value = std::getenv("OUTRIGGER_IMPAIR"); value != nullptr && *value != '\0') {
    if (auto config = ImpairConfig::parse(value); !config) {
      return makeError(ErrorCode::kGeneric, "OUTRIGGER_IMPAIR: " + config.error().message);
    }
    options.impair = value;
  }
  return {};
}

Result<std::unique_ptr<DatagramIo>> makeBackend(const std::string& name, const BackendOptions& options) {
  if (options.receiveSlots < 1 || options.receiveSlots > RxBurst::kMaxPackets) {
    return makeError(ErrorCode::kGeneric, "backend " + name + ": receiveSlots=" + std::to_string(options.receiveSlots) +
                                              " is out of range: allowed is 1 to " + std::to_string(RxBurst::kMaxPackets));
  }
  Result<std::unique_ptr<DatagramIo>> io = makeError(ErrorCode::kGeneric, "");
  if (name == "socket") {
    io = SocketIo::create(options);
  } else if (name == "mmsg") {
    io = MmsgIo::create(options);
  } else {
    std::string allowed;
    for (const std::string& known : backendNames()) allowed += (allowed.empty() ? "" : ", ") + known;
    return makeError(ErrorCode::kGeneric, "backend '" + name + "' is unknown, allowed are " + allowed);
  }
  if (!io || options.impair.empty() || options.impair == "none") return io;
  auto config = ImpairConfig::parse(options.impair);
  if (!config) return config.error();
  return ImpairIo::wrap(io.take(), *config);
}

}  // namespace outrigger::io
