// SPDX-License-Identifier: Apache-2.0
#include "init/options.h"

#include <charconv>
#include <string_view>

namespace outrigger::init {
namespace {

struct Setting {
  std::string_view flag;
  std::string_view variable;
  int64_t Options::*field;
  int64_t min;
  int64_t max;
  bool isDuration;
  std::string_view meaning;
};

constexpr int64_t kHourMs = 3'600'000;

// More than CPU_SETSIZE has no name in the kernel's masks.
constexpr int64_t kMaxCpus = 1024;

constexpr Setting kSettings[] = {
    {"--drain-timeout", "OUTRIGGER_INIT_DRAIN_TIMEOUT", &Options::drainTimeoutMs, 1, kHourMs, true,
     "from SIGTERM until whatever still runs is killed"},
    {"--driver-drain", "OUTRIGGER_INIT_DRIVER_DRAIN", &Options::driverDrainMs, 0, kHourMs, true,
     "the end of that time, kept for the driver: the sidecar is killed when only this is left"},
    {"--backoff-min", "OUTRIGGER_INIT_BACKOFF_MIN", &Options::backoffMinMs, 1, kHourMs, true,
     "pause before the first restart of a child; it doubles with each"},
    {"--backoff-max", "OUTRIGGER_INIT_BACKOFF_MAX", &Options::backoffMaxMs, 1, kHourMs, true, "longest pause"},
    {"--stable-after", "OUTRIGGER_INIT_STABLE_AFTER", &Options::stableAfterMs, 1, kHourMs, true,
     "a child that ran this long is restarted after the shortest pause again"},
    {"--config-attempts", "OUTRIGGER_INIT_CONFIG_ATTEMPTS", &Options::configAttempts, 1, 1000, false,
     "exits with status 78 (bad configuration) in a row before init ends, with that status"},
    {"--driver-cores", "OUTRIGGER_INIT_DRIVER_CORES", &Options::driverCores, 0, kMaxCpus - 1, false,
     "CPUs that the driver has for itself: the last ones that init may run on; the sidecar has the others. 0: they share all"},
    {"--cpus", "OUTRIGGER_INIT_CPUS", &Options::cpus, 0, kMaxCpus, false,
     "CPUs that the container was promised: where it may run on more, they are others' too, and where on fewer, some are missing:\n"
     "      the driver gets none for itself then. 0: whatever there is"},
};

std::string formatValue(int64_t value, bool isDuration) {
  if (!isDuration) return std::to_string(value);
  return value % 1000 == 0 && value > 0 ? std::to_string(value / 1000) + "s" : std::to_string(value) + "ms";
}

bool parseValue(std::string_view text, bool isDuration, int64_t& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || value < 0 || value > kHourMs) return false;
  const std::string_view unit(end, static_cast<size_t>(text.data() + text.size() - end));
  if (unit.empty()) return true;
  if (!isDuration) return false;
  if (unit == "ms") return true;
  if (unit == "s") value *= 1000;
  if (unit == "m") value *= 60'000;
  return unit == "s" || unit == "m";
}

Result<void> assign(Options& options, const Setting& setting, std::string_view name, std::string_view text) {
  int64_t value = 0;
  if (!parseValue(text, setting.isDuration, value) || value < setting.min || value > setting.max) {
    return makeError(ErrorCode::kGeneric, std::string(name) + " is '" + std::string(text) +
                                              "'; allowed: " + formatValue(setting.min, setting.isDuration) + " to " +
                                              formatValue(setting.max, setting.isDuration));
  }
  options.*setting.field = value;
  return {};
}

Result<void> readEnvironment(Options& options, const char* const* env) {
  for (; *env != nullptr; ++env) {
    const std::string_view entry(*env);
    for (const Setting& setting : kSettings) {
      if (entry.size() > setting.variable.size() && entry.starts_with(setting.variable) && entry[setting.variable.size()] == '=') {
        if (auto done = assign(options, setting, setting.variable, entry.substr(setting.variable.size() + 1)); !done) return done;
      }
    }
  }
  return {};
}

const Setting* findSetting(std::string_view flag) {
  for (const Setting& setting : kSettings) {
    if (setting.flag == flag) return &setting;
  }
  return nullptr;
}

Result<void> checkTogether(const Options& options) {
  if (options.driver.empty()) return makeError(ErrorCode::kGeneric, "--driver COMMAND is missing: the program that moves the messages");
  if (options.sidecar.empty()) return makeError(ErrorCode::kGeneric, "--sidecar COMMAND is missing: the program that serves the apps");
  if (options.driverDrainMs >= options.drainTimeoutMs) {
    return makeError(ErrorCode::kGeneric, "--driver-drain is " + formatValue(options.driverDrainMs, true) +
                                              ", which leaves the sidecar nothing of --drain-timeout " +
                                              formatValue(options.drainTimeoutMs, true) + ": it must be shorter");
  }
  if (options.backoffMinMs > options.backoffMaxMs) {
    return makeError(ErrorCode::kGeneric, "--backoff-min is " + formatValue(options.backoffMinMs, true) + ", above --backoff-max " +
                                              formatValue(options.backoffMaxMs, true));
  }
  return {};
}

}  // namespace

std::string helpText() {
  std::string text =
      "Usage: outrigger-init [SETTING VALUE]... --driver COMMAND [ARGUMENT]... --sidecar COMMAND [ARGUMENT]...\n"
      "\n"
      "Runs driver and sidecar side by side, as PID 1 of a container or anywhere else. Each is restarted on its own when it ends.\n"
      "A command reaches to the next --driver or --sidecar; the order of the two does not matter.\n"
      "\n"
      "Ends on SIGTERM, SIGINT or SIGQUIT: the sidecar drains first, then the driver; a second SIGINT kills both at once. Ends also\n"
      "when the sidecar exits with status 0 (it was told to drain). SIGHUP, SIGUSR1 and SIGUSR2 go to the children that handle them.\n"
      "Logs one JSON line an event on standard error.\n"
      "\n"
      "Exit status: 0 drained, 1 something had to be killed, 64 wrong usage, 71 the system refused, 78 a child can't be configured.\n"
      "\n"
      "Settings, also as variables of the environment; a duration is 250ms, 5s, 2m or a number of milliseconds:\n";
  const Options defaults;
  for (const Setting& setting : kSettings) {
    text += "  " + std::string(setting.flag) + ", " + std::string(setting.variable) + " (" +
            formatValue(defaults.*setting.field, setting.isDuration) + ")\n      " + std::string(setting.meaning) + "\n";
  }
  return text;
}

Result<Options> parseOptions(int argc, const char* const* argv, const char* const* env) {
  Options options;
  if (auto done = readEnvironment(options, env); !done) return done.error();
  std::vector<std::string>* command = nullptr;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument(argv[i]);
    if (argument == "--driver" || argument == "--sidecar") {
      command = argument == "--driver" ? &options.driver : &options.sidecar;
      if (!command->empty()) return makeError(ErrorCode::kGeneric, std::string(argument) + " is given twice");
    } else if (command != nullptr) {
      command->emplace_back(argument);
    } else if (argument == "--help" || argument == "-h") {
      options.help = true;
      return options;
    } else if (const Setting* setting = findSetting(argument); setting == nullptr) {
      return makeError(ErrorCode::kGeneric, "argument '" + std::string(argument) + "' is unknown: see --help");
    } else if (++i == argc) {
      return makeError(ErrorCode::kGeneric, std::string(argument) + " lacks its value");
    } else if (auto done = assign(options, *setting, argument, argv[i]); !done) {
      return done.error();
    }
  }
  if (auto done = checkTogether(options); !done) return done.error();
  return options;
}

}  // namespace outrigger::init
