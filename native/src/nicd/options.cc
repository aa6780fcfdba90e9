// SPDX-License-Identifier: Apache-2.0
#include "nicd/options.h"

#include <charconv>
#include <limits>
#include <string_view>

namespace outrigger::nicd {
namespace {

constexpr int64_t kHourMs = 3'600'000;
constexpr int64_t kMaxId = std::numeric_limits<uint32_t>::max() - 1;

enum class Unit : uint8_t { kNone, kDuration, kBytes, kOctal };

struct NumberFlag {
  std::string_view flag;
  int64_t Options::*field;
  int64_t min;
  int64_t max;
  Unit unit;
  std::string_view meaning;
};

constexpr NumberFlag kNumbers[] = {
    {"--socket-mode", &Options::socketMode, 0, 0777, Unit::kOctal, "access mode of the socket, octal"},
    {"--socket-group", &Options::socketGroup, -1, kMaxId, Unit::kNone, "group of the socket, a number; -1 leaves it"},
    {"--lease", &Options::leaseMs, 100, kHourMs, Unit::kDuration,
     "how long sessions outlive their connection, and this program's own restart"},
    {"--max-clients", &Options::maxClients, 1, 4096, Unit::kNone, "connections at a time"},
    {"--max-clients-of-uid", &Options::maxClientsOfUid, 1, 4096, Unit::kNone, "connections at a time of one user"},
    {"--max-sessions", &Options::maxSessions, 1, 1024, Unit::kNone, "queues and packet sockets of one client process or claim"},
    {"--max-ports", &Options::maxPorts, 1, 1024, Unit::kNone, "UDP ports of one session"},
    {"--max-umem", &Options::maxUmemBytes, 1 << 16, 4ll << 30, Unit::kBytes, "memory that one session may have pinned, or rings"},
    {"--max-requests", &Options::maxRequestsPerSecond, 1, 100'000, Unit::kNone,
     "requests a second of one client; more wait in its own socket"},
};

struct TextFlag {
  std::string_view flag;
  std::string Options::*field;
  std::string_view meaning;
};

constexpr TextFlag kTexts[] = {
    {"--socket", &Options::socket, "UNIX socket (SOCK_SEQPACKET) to serve, or to ask with --status"},
    {"--claims", &Options::claims, "directory of claims: each client must then show one (docs/nicd.md)"},
    {"--bpf-dir", &Options::bpfDirectory,
     "directory to pin programs and maps in, so that they outlive this process; where it is on no bpffs one is mounted on it.\n"
     "      Without it traffic goes to the kernel while this process is away"},
    {"--state-dir", &Options::stateDirectory, "directory, best on a tmpfs, to note sessions in"},
};

struct SwitchFlag {
  std::string_view flag;
  bool Options::*field;
  std::string_view meaning;
};

constexpr SwitchFlag kSwitches[] = {
    {"--allow-packet", &Options::allowPacket,
     "also hand out AF_PACKET sockets: who holds one can send any frame on any interface of this namespace"},
    {"--status", &Options::status, "ask the running one what it holds, and end"},
    {"--json", &Options::json, "with --status: as JSON"},
    {"--version", &Options::version, "print the version and end"},
    {"--help", &Options::help, "print this and end"},
};

Error bad(std::string_view flag, std::string_view value, const std::string& allowed) {
  return makeError(ErrorCode::kGeneric, std::string(flag) + " is '" + std::string(value) + "'; allowed: " + allowed);
}

std::string show(int64_t value, Unit unit) {
  char text[32];
  switch (unit) {
    case Unit::kDuration:
      return value % 1000 == 0 ? std::to_string(value / 1000) + "s" : std::to_string(value) + "ms";
    case Unit::kBytes:
      if (value % (1 << 20) == 0) return std::to_string(value >> 20) + "m";
      return value % 1024 == 0 ? std::to_string(value >> 10) + "k" : std::to_string(value);
    case Unit::kOctal: {
      const auto [end, error] = std::to_chars(text, text + sizeof(text), value, 8);
      return "0" + std::string(text, end);
    }
    case Unit::kNone:
      break;
  }
  return std::to_string(value);
}

bool parse(std::string_view text, Unit unit, int64_t& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, unit == Unit::kOctal ? 8 : 10);
  if (error != std::errc()) return false;
  const std::string_view suffix(end, static_cast<size_t>(text.data() + text.size() - end));
  int64_t factor = suffix.empty() ? 1 : 0;
  if (unit == Unit::kDuration) factor = suffix == "s" ? 1000 : suffix == "m" ? 60'000 : suffix == "ms" ? 1 : factor;
  if (unit == Unit::kBytes) factor = suffix == "k" ? 1 << 10 : suffix == "m" ? 1 << 20 : suffix == "g" ? 1 << 30 : factor;
  return factor != 0 && !__builtin_mul_overflow(value, factor, &value);
}

Result<void> assign(Options& options, const NumberFlag& flag, std::string_view text) {
  int64_t value = 0;
  if (!parse(text, flag.unit, value) || value < flag.min || value > flag.max) {
    return bad(flag.flag, text, show(flag.min, flag.unit) + " to " + show(flag.max, flag.unit));
  }
  options.*flag.field = value;
  return {};
}

Result<void> addId(std::vector<uint32_t>& ids, std::string_view flag, std::string_view text) {
  int64_t value = 0;
  if (!parse(text, Unit::kNone, value) || value < 0 || value > kMaxId) return bad(flag, text, "a number, as `id` prints it");
  ids.push_back(static_cast<uint32_t>(value));
  return {};
}

// Flags that take a value. False when it is none of them.
Result<bool> takeValue(Options& options, std::string_view flag, std::string_view value) {
  for (const NumberFlag& each : kNumbers) {
    if (each.flag != flag) continue;
    if (auto r = assign(options, each, value); !r) return r.error();
    return true;
  }
  for (const TextFlag& each : kTexts) {
    if (each.flag != flag) continue;
    if (value.empty()) return bad(flag, value, "a path");
    options.*each.field = std::string(value);
    return true;
  }
  if (flag == "--interface") {
    if (value.empty() || value.size() > 15) return bad(flag, value, "the name of a network interface");
    options.interfaces.emplace_back(value);
    return true;
  }
  if (flag == "--allow-uid" || flag == "--allow-gid") {
    if (auto r = addId(flag == "--allow-uid" ? options.allowUids : options.allowGids, flag, value); !r) return r.error();
    return true;
  }
  return false;
}

bool takesValue(std::string_view flag) {
  for (const NumberFlag& each : kNumbers) {
    if (each.flag == flag) return true;
  }
  for (const TextFlag& each : kTexts) {
    if (each.flag == flag) return true;
  }
  return flag == "--interface" || flag == "--allow-uid" || flag == "--allow-gid";
}

bool takeSwitch(Options& options, std::string_view flag) {
  for (const SwitchFlag& each : kSwitches) {
    if (each.flag != flag) continue;
    options.*each.field = true;
    return true;
  }
  return false;
}

}  // namespace

std::string helpText() {
  const Options defaults;
  std::string text =
      "Usage: outrigger-nicd [FLAG VALUE]...\n"
      "       outrigger-nicd --status [--socket PATH] [--json]\n"
      "\n"
      "Owns the XDP programs, maps and raw sockets of a node's network interfaces, and hands drivers in pods, which have no capability, "
      "just the\n"
      "sockets that are theirs. Runs in the network namespace of the interfaces; needs CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF, CAP_IPC_LOCK, "
      "and\n"
      "CAP_SYS_ADMIN to mount a bpffs. Logs one JSON line an event on standard error. Ends on SIGTERM and SIGINT.\n"
      "\n"
      "Exit status: 0 ended as asked, 1 the system refused, 64 wrong usage.\n"
      "\n"
      "Flags:\n";
  for (const TextFlag& each : kTexts) {
    const std::string& byDefault = defaults.*each.field;
    text += "  " + std::string(each.flag) + " PATH" + (byDefault.empty() ? "" : " (" + byDefault + ")") + "\n      " +
            std::string(each.meaning) + "\n";
  }
  text +=
      "  --interface NAME\n      an interface that may be opened, may be repeated; without it all but loopback\n"
      "  --allow-uid N, --allow-gid N\n      a user or primary group that may connect, may be repeated; root and this program's own user "
      "always may\n";
  for (const NumberFlag& each : kNumbers) {
    text += "  " + std::string(each.flag) + " N (" + show(defaults.*each.field, each.unit) + ")\n      " + std::string(each.meaning) + "\n";
  }
  for (const SwitchFlag& each : kSwitches) text += "  " + std::string(each.flag) + "\n      " + std::string(each.meaning) + "\n";
  text += "Durations are 250ms, 30s, 2m or a number of milliseconds; sizes take k, m, g.\n";
  return text;
}

Result<Options> parseOptions(int argc, const char* const* argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view flag(argv[i]);
    if (takeSwitch(options, flag)) continue;
    if (!takesValue(flag)) return makeError(ErrorCode::kGeneric, "argument '" + std::string(flag) + "' is unknown: see --help");
    if (++i == argc) return makeError(ErrorCode::kGeneric, std::string(flag) + " lacks its value");
    if (auto taken = takeValue(options, flag, argv[i]); !taken) return taken.error();
  }
  if (options.json && !options.status) return makeError(ErrorCode::kGeneric, "--json is for --status: the log is always JSON");
  if (options.maxClientsOfUid > options.maxClients) options.maxClientsOfUid = options.maxClients;
  return options;
}

}  // namespace outrigger::nicd
