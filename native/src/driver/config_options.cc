// SPDX-License-Identifier: Apache-2.0
// The option table. Names and defaults are those of Aeron's C driver; OUTRIGGER_ ones are ours.
#include "driver/config_options.h"

#include <net/if.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <optional>
#include <type_traits>
#include <unordered_map>
#include <utility>

#include "cnc/counters.h"
#include "driver/config_values.h"
#include "io/backend.h"
#include "io/dpdk_loader/address_list.h"
#include "io/impair/impair_config.h"

namespace outrigger::driver {
namespace {

constexpr int64_t kMaxInt32 = std::numeric_limits<int32_t>::max();
constexpr int64_t kMiB = 1024 * 1024;
constexpr int64_t kDaySeconds = 86'400;

using Apply = std::function<bool(DriverConfig&, std::string_view, std::string&)>;
using Show = std::function<std::string(const DriverConfig&)>;

std::string upperFlag(const ConfigOption& option) {
  const size_t prefix = option.name.find('_');
  std::string flag = "--" + lowerCase(std::string_view(option.name).substr(prefix + 1));
  std::replace(flag.begin(), flag.end(), '_', '-');
  return flag;
}

class Table {
 public:
  std::vector<ConfigOption> options;

  void add(const char* name, const char* meaning, std::string allowed, Apply apply, Show show = {}) {
    options.push_back({name, meaning, std::move(allowed), std::move(apply), std::move(show)});
  }

  void text(const char* name, const char* meaning, const char* allowed, std::string DriverConfig::*member) {
    add(
        name, meaning, allowed,
        [member](DriverConfig& c, std::string_view value, std::string&) {
          if (value.empty()) return false;
          c.*member = std::string(value);
          return true;
        },
        [member](const DriverConfig& c) { return c.*member; });
  }

  void toggle(const char* name, const char* meaning, bool DriverConfig::*member) {
    add(
        name, meaning, "true or false",
        [member](DriverConfig& c, std::string_view value, std::string&) {
          const auto parsed = parseSwitch(value);
          if (parsed) c.*member = *parsed;
          return parsed.has_value();
        },
        [member](const DriverConfig& c) { return std::string(c.*member ? "true" : "false"); });
  }

  void duration(const char* name, const char* meaning, int64_t DriverConfig::*member, int64_t minNs,
                int64_t maxNs = kDaySeconds * kSecondNs, int64_t unitNs = 1) {
    add(
        name, meaning,
        "duration from " + durationText(minNs) + " to " + durationText(maxNs) + ", as in 5s, 100ms, 50us" +
            (unitNs == 1 ? "; plain numbers are ns" : "; plain numbers are ms"),
        [=](DriverConfig& c, std::string_view value, std::string&) {
          const auto parsed = parseDurationNs(value, unitNs);
          if (!parsed || *parsed < minNs || *parsed > maxNs) return false;
          c.*member = *parsed / unitNs;
          return true;
        },
        [=](const DriverConfig& c) { return durationText(c.*member * unitNs); });
  }

  // A member of int32_t that holds bytes.
  void size(const char* name, const char* meaning, int32_t DriverConfig::*member, int64_t min, int64_t max, const char* rule = "",
            bool (*check)(int64_t) = nullptr) {
    add(
        name, meaning, "size from " + sizeText(min) + " to " + sizeText(max) + rule + ", as in 64k, 16m",
        [=](DriverConfig& c, std::string_view value, std::string&) {
          const auto parsed = parseSize(value);
          if (!parsed || *parsed < min || *parsed > max || (check != nullptr && !check(*parsed))) return false;
          c.*member = static_cast<int32_t>(*parsed);
          return true;
        },
        [=](const DriverConfig& c) { return sizeText(c.*member); });
  }

  template <typename T>
  void number(const char* name, const char* meaning, T DriverConfig::*member, int64_t min, int64_t max) {
    add(
        name, meaning, "whole number from " + std::to_string(min) + " to " + std::to_string(max),
        [=](DriverConfig& c, std::string_view value, std::string&) {
          const auto parsed = parseInteger(value);
          if (!parsed || *parsed < min || *parsed > max) return false;
          c.*member = static_cast<T>(*parsed);
          return true;
        },
        [=](const DriverConfig& c) { return std::to_string(c.*member); });
  }

  template <typename Enum>
  void choice(const char* name, const char* meaning, Enum DriverConfig::*member, std::vector<std::pair<std::string, Enum>> names,
              const char* allowed) {
    add(
        name, meaning, allowed,
        [=](DriverConfig& c, std::string_view value, std::string&) {
          const std::string lower = lowerCase(value);
          for (const auto& [known, kind] : names) {
            if (known == lower) {
              c.*member = kind;
              return true;
            }
          }
          return false;
        },
        [=](const DriverConfig& c) {
          for (const auto& [known, kind] : names) {
            if (kind == c.*member) return known;
          }
          return std::string();
        });
  }

  void idle(const char* name, const char* meaning, IdleStrategy DriverConfig::*member) {
    add(
        name, meaning, "adaptive, busy-spin, noop, yield, sleep-ns or backoff",
        [=](DriverConfig& c, std::string_view value, std::string&) {
          const auto kind = parseIdleKind(value);
          if (kind) (c.*member).kind = *kind;
          return kind.has_value();
        },
        [=](const DriverConfig& c) { return std::string(idleKindText((c.*member).kind)); });
    const std::string arguments = std::string(name) + "_INIT_ARGS";
    add(
        arguments.c_str(), "Arguments of that strategy",
        "backoff: spins|yields|minPark|maxPark, as in 10|20|1us|1ms; sleep-ns: a duration up to 1s",
        [=](DriverConfig& c, std::string_view value, std::string&) { return applyIdleArguments(c.*member, value).ok(); },
        [=](const DriverConfig& c) {
          const IdleStrategy& s = c.*member;
          if (s.kind == IdleKind::kSleep) return durationText(s.minParkNs);
          if (s.kind != IdleKind::kBackoff) return std::string();
          return std::to_string(s.spins) + "|" + std::to_string(s.yields) + "|" + durationText(s.minParkNs) + "|" +
                 durationText(s.maxParkNs);
        });
  }

  void mode(const char* name, const char* meaning, mode_t DriverConfig::*member, mode_t needed, mode_t mask) {
    add(
        name, meaning, "octal permission bits that include the owner's, as in 0660 or 02770",
        [=](DriverConfig& c, std::string_view value, std::string&) {
          unsigned bits = 0;
          if (value.empty() || value.size() > 5) return false;
          for (const char digit : value) {
            if (digit < '0' || digit > '7') return false;
            bits = bits * 8 + static_cast<unsigned>(digit - '0');
          }
          if ((bits & needed) != needed || (bits & ~mask) != 0) return false;
          c.*member = static_cast<mode_t>(bits);
          return true;
        },
        [=](const DriverConfig& c) {
          std::string out;
          for (unsigned bits = c.*member; bits != 0; bits /= 8) out.insert(out.begin(), static_cast<char>('0' + bits % 8));
          return "0" + out;
        });
  }

  void ports(const char* name, const char* meaning, PortRange DriverConfig::*member) {
    add(
        name, meaning, "two ports from 1 to 65535, low first, as in '20000 20100'; '0 0' for any",
        [=](DriverConfig& c, std::string_view value, std::string&) {
          auto parts = splitList(value, ' ');
          std::erase(parts, "");
          if (parts.size() != 2) return false;
          const auto low = parseInteger(parts[0]);
          const auto high = parseInteger(parts[1]);
          if (!low || !high || *low < 0 || *high > 65535 || *low > *high || (*low == 0 && *high != 0)) return false;
          c.*member = {static_cast<uint16_t>(*low), static_cast<uint16_t>(*high)};
          return true;
        },
        [=](const DriverConfig& c) { return std::to_string((c.*member).low) + " " + std::to_string((c.*member).high); });
  }

  // Aeron's option that changes nothing here: any value is taken, and said to be without effect.
  void ignored(const char* name, const char* why) {
    add(name, why, "anything: it has no effect", [name, why](DriverConfig&, std::string_view, std::string& notice) {
      notice = std::string(name) + " has no effect: " + why;
      return true;
    });
  }

  // Something that comes later: only the value that asks for nothing is taken, since going on without it would break what was asked for.
  void unsupported(const char* name, const char* what, std::vector<std::string> harmless) {
    std::string allowed = "not supported by this version";
    for (const std::string& value : harmless) allowed += (value.empty() ? ", leave it out or empty" : ", or '" + value + "'");
    add(name, what, std::move(allowed), [harmless = std::move(harmless)](DriverConfig&, std::string_view value, std::string&) {
      return std::find(harmless.begin(), harmless.end(), value) != harmless.end();
    });
  }
};

bool isFrameAligned(int64_t v) { return v % 32 == 0; }
bool isPower(int64_t v) { return isPowerOfTwo(v); }
bool isEven8(int64_t v) { return v % 8 == 0; }
bool isCounterAligned(int64_t v) { return v % static_cast<int64_t>(cnc::kCounterValueLength) == 0; }
bool isPage(int64_t v) { return isPowerOfTwo(v); }

// A ring buffer's length as in Aeron: a power of two, with or without its trailer.
Apply ringLength(int32_t cnc::CncSizes::*member, size_t trailer) {
  return [member, trailer](DriverConfig& c, std::string_view value, std::string&) {
    const auto parsed = parseSize(value);
    if (!parsed) return false;
    const auto withTrailer = static_cast<int64_t>(trailer);
    const int64_t capacity = isPowerOfTwo(*parsed) ? *parsed : *parsed - withTrailer;
    if (!isPowerOfTwo(capacity) || capacity < 64 * 1024 || capacity > 256 * kMiB) return false;
    c.cncSizes.*member = static_cast<int32_t>(capacity + withTrailer);
    return true;
  };
}

Show cncSize(int32_t cnc::CncSizes::*member) {
  return [member](const DriverConfig& c) { return sizeText(c.cncSizes.*member); };
}

void cncOptions(Table& t) {
  t.add("AERON_CONDUCTOR_BUFFER_LENGTH", "Length of the command ring from clients",
        "power of two from 64k to 256m, with or without its trailer of 768 bytes",
        ringLength(&cnc::CncSizes::toDriverLength, cnc::kRingTrailerLength), cncSize(&cnc::CncSizes::toDriverLength));
  t.add("AERON_CLIENTS_BUFFER_LENGTH", "Length of the broadcast buffer to clients",
        "power of two from 64k to 256m, with or without its trailer of 128 bytes",
        ringLength(&cnc::CncSizes::toClientsLength, cnc::kBroadcastTrailerLength), cncSize(&cnc::CncSizes::toClientsLength));
  const auto plain = [&](const char* name, const char* meaning, int32_t cnc::CncSizes::*member, int64_t min, const char* rule,
                         bool (*check)(int64_t)) {
    t.add(
        name, meaning, "size from " + sizeText(min) + " to 256m, " + rule,
        [=](DriverConfig& c, std::string_view value, std::string&) {
          const auto parsed = parseSize(value);
          if (!parsed || *parsed < min || *parsed > 256 * kMiB || !check(*parsed)) return false;
          c.cncSizes.*member = static_cast<int32_t>(*parsed);
          return true;
        },
        cncSize(member));
  };
  plain("AERON_COUNTERS_BUFFER_LENGTH", "Length of the counter values, 128 bytes a counter; their metadata takes four times as much",
        &cnc::CncSizes::countersValuesLength, 32 * 1024, "a multiple of 128", isCounterAligned);
  plain("AERON_ERROR_BUFFER_LENGTH", "Length of the error log", &cnc::CncSizes::errorLogLength, 4096, "a multiple of 8", isEven8);
}

void directoryOptions(Table& t) {
  t.text("AERON_DIR", "Directory of the driver, on memory", "path", &DriverConfig::directory);
  t.toggle("AERON_DIR_DELETE_ON_START", "Delete what is in the directory at start, even when a driver seems to run there",
           &DriverConfig::deleteDirectoryOnStart);
  t.toggle("AERON_DIR_DELETE_ON_SHUTDOWN", "Remove the directory itself at the end, also when it existed before",
           &DriverConfig::deleteDirectoryOnShutdown);
  t.toggle("AERON_DIR_WARN_IF_EXISTS", "Log when the directory exists at start", &DriverConfig::warnIfDirectoryExists);
  t.mode("OUTRIGGER_DIR_MODE", "Permissions of the directory; its group may use the driver", &DriverConfig::directoryMode, 0700, 07777);
  t.mode("OUTRIGGER_FILE_MODE", "Permissions of the files in it, whatever the umask", &DriverConfig::fileMode, 0600, 0666);
  t.add(
      "OUTRIGGER_POLICY_FILE",
      "File with what clients may open and who may publish to them, which the sidecar writes and keeps up to date; while there is none, "
      "only aeron:ipc and spies are allowed. Empty: everything is, as in Aeron's drivers",
      "an absolute path outside the driver's directory, in a folder that only its owner may write, or empty",
      [](DriverConfig& c, std::string_view value, std::string&) {
        if (!value.empty() && (!value.starts_with('/') || value.ends_with('/'))) return false;
        c.policyFile = std::string(value);
        return true;
      },
      [](const DriverConfig& c) { return c.policyFile; });
  t.number("OUTRIGGER_POLICY_OWNER", "Number of the user whose policy file is obeyed, beside root; -1 for the driver's own",
           &DriverConfig::policyOwner, -1, UINT32_MAX);
  t.duration("AERON_DRIVER_TIMEOUT", "Age of the heartbeat from which a driver counts as dead", &DriverConfig::driverTimeoutMs, kMilliNs,
             kDaySeconds * kSecondNs, kMilliNs);
  t.size("AERON_FILE_PAGE_SIZE", "Page size that files are aligned to", &DriverConfig::filePageSize, 4096, 1024 * kMiB, ", a power of two",
         isPage);
  t.size("AERON_LOSS_REPORT_BUFFER_LENGTH", "Length of the loss report", &DriverConfig::lossReportLength, 4096, 256 * kMiB);
  cncOptions(t);
  t.ignored("AERON_PERFORM_STORAGE_CHECKS", "memory is reserved before anything is written to it");
  t.ignored("AERON_LOW_FILE_STORE_WARNING_THRESHOLD", "memory is reserved before anything is written to it");
}

void threadOptions(Table& t) {
  t.choice<ThreadingMode>("AERON_THREADING_MODE", "Which agents share a thread", &DriverConfig::threadingMode,
                          {{"shared", ThreadingMode::kShared},
                           {"shared_network", ThreadingMode::kSharedNetwork},
                           {"shared-network", ThreadingMode::kSharedNetwork},
                           {"dedicated", ThreadingMode::kDedicated},
                           {"invoker", ThreadingMode::kInvoker}},
                          "DEDICATED, SHARED_NETWORK, SHARED or INVOKER");
  t.idle("AERON_CONDUCTOR_IDLE_STRATEGY", "How the conductor idles (DEDICATED, SHARED_NETWORK)", &DriverConfig::conductorIdle);
  t.idle("AERON_SENDER_IDLE_STRATEGY", "How the sender idles (DEDICATED)", &DriverConfig::senderIdle);
  t.idle("AERON_RECEIVER_IDLE_STRATEGY", "How the receiver idles (DEDICATED)", &DriverConfig::receiverIdle);
  t.idle("AERON_SHAREDNETWORK_IDLE_STRATEGY", "How sender and receiver idle (SHARED_NETWORK)", &DriverConfig::sharedNetworkIdle);
  t.idle("AERON_SHARED_IDLE_STRATEGY", "How the one thread idles (SHARED)", &DriverConfig::sharedIdle);
  t.number("AERON_CONDUCTOR_CPU_AFFINITY", "CPU of the conductor's thread, -1 for any", &DriverConfig::conductorCpu, -1, 1023);
  t.number("AERON_SENDER_CPU_AFFINITY", "CPU of the sender's thread, -1 for any", &DriverConfig::senderCpu, -1, 1023);
  t.number("AERON_RECEIVER_CPU_AFFINITY", "CPU of the receiver's thread, -1 for any", &DriverConfig::receiverCpu, -1, 1023);
  t.duration("AERON_DRIVER_CONDUCTOR_CYCLE_THRESHOLD", "Longer duty cycles of the conductor are counted",
             &DriverConfig::conductorCycleThresholdNs, kMicroNs);
  t.duration("AERON_DRIVER_SENDER_CYCLE_THRESHOLD", "Longer duty cycles of the sender are counted", &DriverConfig::senderCycleThresholdNs,
             kMicroNs);
  t.duration("AERON_DRIVER_RECEIVER_CYCLE_THRESHOLD", "Longer duty cycles of the receiver are counted",
             &DriverConfig::receiverCycleThresholdNs, kMicroNs);
  t.ignored("AERON_DRIVER_NAME_RESOLVER_THRESHOLD", "names are resolved on the resource thread, where nobody waits");
  for (const char* name : {"AERON_ASYNC_CPU_AFFINITY", "AERON_DRIVER_ASYNC_EXECUTOR_ENABLED", "AERON_DRIVER_ASYNC_EXECUTOR_IDLE_STRATEGY",
                           "AERON_DRIVER_ASYNC_EXECUTOR_IDLE_STRATEGY_INIT_ARGS", "AERON_DRIVER_CPUSET_AFFINITY",
                           "AERON_DRIVER_CPUSET_WARNINGS_AS_ERRORS", "AERON_AGENT_ON_START_FUNCTION"}) {
    t.ignored(name, "blocking work has a thread of its own that sleeps until it is needed");
  }
}

void streamOptions(Table& t) {
  t.size("AERON_TERM_BUFFER_LENGTH", "Term length of UDP publications", &DriverConfig::termBufferLength, 64 * 1024, 1024 * kMiB,
         ", a power of two", isPower);
  t.size("AERON_IPC_TERM_BUFFER_LENGTH", "Term length of IPC publications", &DriverConfig::ipcTermBufferLength, 64 * 1024, 1024 * kMiB,
         ", a power of two", isPower);
  t.toggle("AERON_TERM_BUFFER_SPARSE_FILE", "Terms get memory when they are first used", &DriverConfig::termBufferSparse);
  t.size("AERON_MTU_LENGTH", "Longest datagram of UDP publications", &DriverConfig::mtuLength, 64, 65504, ", a multiple of 32",
         isFrameAligned);
  t.size("AERON_IPC_MTU_LENGTH", "Longest frame of IPC publications", &DriverConfig::ipcMtuLength, 64, 65504, ", a multiple of 32",
         isFrameAligned);
  t.size("AERON_PUBLICATION_TERM_WINDOW_LENGTH", "How far UDP publishers may be ahead, 0 for half a term",
         &DriverConfig::publicationWindowLength, 0, 1024 * kMiB);
  t.size("AERON_IPC_PUBLICATION_TERM_WINDOW_LENGTH", "How far IPC publishers may be ahead, 0 for half a term",
         &DriverConfig::ipcPublicationWindowLength, 0, 1024 * kMiB);
  t.size("AERON_RCV_INITIAL_WINDOW_LENGTH", "Receiver window", &DriverConfig::initialWindowLength, 256, 1024 * kMiB);
  t.size("AERON_SOCKET_SO_RCVBUF", "Receive buffer of sockets, 0 for the system's", &DriverConfig::socketReceiveBufferLength, 0, kMaxInt32);
  t.size("AERON_SOCKET_SO_SNDBUF", "Send buffer of sockets, 0 for the system's", &DriverConfig::socketSendBufferLength, 0, kMaxInt32);
  t.number("AERON_SOCKET_MULTICAST_TTL", "TTL of multicast, 0 for the system's", &DriverConfig::multicastTtl, 0, 255);
  t.toggle("AERON_SPIES_SIMULATE_CONNECTION", "Spies alone make a publication connected", &DriverConfig::spiesSimulateConnection);
  t.toggle("AERON_RELIABLE_STREAM", "Subscriptions ask for what is lost", &DriverConfig::reliableStream);
  t.toggle("AERON_TETHER_SUBSCRIPTIONS", "Subscriptions hold the publisher back", &DriverConfig::tetherSubscriptions);
  t.toggle("AERON_REJOIN_STREAM", "Untethered subscriptions join again after resting", &DriverConfig::rejoinStream);
  t.number("AERON_PUBLICATION_RESERVED_SESSION_ID_LOW", "First session id that is never given out",
           &DriverConfig::publicationReservedSessionIdLow, std::numeric_limits<int32_t>::min(), kMaxInt32);
  t.number("AERON_PUBLICATION_RESERVED_SESSION_ID_HIGH", "Last session id that is never given out",
           &DriverConfig::publicationReservedSessionIdHigh, std::numeric_limits<int32_t>::min(), kMaxInt32);
  t.ports("AERON_SENDER_WILDCARD_PORT_RANGE", "Ports that publications with port 0 take", &DriverConfig::senderPorts);
  t.ports("AERON_RECEIVER_WILDCARD_PORT_RANGE", "Ports that subscriptions with port 0 take", &DriverConfig::receiverPorts);
  for (const char* name : {"AERON_SEND_TO_STATUS_POLL_RATIO", "AERON_RECEIVER_IO_VECTOR_CAPACITY", "AERON_SENDER_IO_VECTOR_CAPACITY",
                           "AERON_NETWORK_PUBLICATION_MAX_MESSAGES_PER_SEND"}) {
    t.ignored(name, "batches follow the load");
  }
  t.ignored("AERON_DRIVER_RESOURCE_FREE_LIMIT", "files are removed on the resource thread");
  t.ignored("AERON_DRIVER_STREAM_SESSION_LIMIT", "sessions are limited by the memory volume");
}

void timeoutOptions(Table& t) {
  t.duration("AERON_TIMER_INTERVAL", "Interval between checks of timeouts", &DriverConfig::timerIntervalNs, kMilliNs, 60 * kSecondNs);
  t.duration("AERON_CLIENT_LIVENESS_TIMEOUT", "Silence after which a client is dead", &DriverConfig::clientLivenessTimeoutNs, kMilliNs);
  t.duration("AERON_IMAGE_LIVENESS_TIMEOUT", "Silence after which an image is gone", &DriverConfig::imageLivenessTimeoutNs, kMilliNs);
  t.duration("AERON_PUBLICATION_UNBLOCK_TIMEOUT", "Age at which a dead publisher's claim is skipped",
             &DriverConfig::publicationUnblockTimeoutNs, kMilliNs);
  t.duration("AERON_PUBLICATION_CONNECTION_TIMEOUT", "Silence after which a receiver is gone",
             &DriverConfig::publicationConnectionTimeoutNs, kMilliNs);
  t.duration("AERON_PUBLICATION_LINGER_TIMEOUT", "Time a drained publication stays for repairs", &DriverConfig::publicationLingerTimeoutNs,
             0);
  t.duration("AERON_RCV_STATUS_MESSAGE_TIMEOUT", "Longest time between status messages", &DriverConfig::statusMessageTimeoutNs, kMilliNs);
  t.duration("AERON_COUNTERS_FREE_TO_REUSE_TIMEOUT", "Time a freed counter is not given out", &DriverConfig::counterFreeToReuseTimeoutNs,
             0);
  t.duration("AERON_UNTETHERED_WINDOW_LIMIT_TIMEOUT", "Time an untethered subscriber may be behind",
             &DriverConfig::untetheredWindowLimitTimeoutNs, kMilliNs);
  t.duration("AERON_UNTETHERED_LINGER_TIMEOUT", "Time it may then still read what it has", &DriverConfig::untetheredLingerTimeoutNs, 0);
  t.duration("AERON_UNTETHERED_RESTING_TIMEOUT", "Time it then rests", &DriverConfig::untetheredRestingTimeoutNs, kMilliNs);
  t.duration("AERON_RETRANSMIT_UNICAST_DELAY", "Wait before a retransmission", &DriverConfig::retransmitUnicastDelayNs, 0, 60 * kSecondNs);
  t.duration("AERON_RETRANSMIT_UNICAST_LINGER", "At most this long a repeated NAK is ignored; shortened to the round trip",
             &DriverConfig::retransmitUnicastLingerNs, 0, 60 * kSecondNs);
  t.duration("AERON_NAK_UNICAST_DELAY", "Wait before the first NAK of a gap", &DriverConfig::nakUnicastDelayNs, 0, 60 * kSecondNs);
  t.duration("AERON_NAK_MULTICAST_MAX_BACKOFF", "Longest random wait before a NAK among many receivers",
             &DriverConfig::nakMulticastMaxBackoffNs, kMicroNs, 60 * kSecondNs);
  t.number("AERON_NAK_MULTICAST_GROUP_SIZE", "Receivers expected in such a group", &DriverConfig::nakMulticastGroupSize, 1, 1'000'000);
  t.ignored("AERON_NAK_UNICAST_RETRY_DELAY_RATIO", "a NAK is repeated after the measured round trip");
  t.number("AERON_MAX_RESEND", "Retransmissions under way for one stream", &DriverConfig::maxResend, 1, 256);
  t.ignored("AERON_DRIVER_RERESOLUTION_CHECK_INTERVAL", "destination names are resolved when they are added");
}

bool applySupplier(FlowControlStrategy& out, std::string_view value) {
  static const std::unordered_map<std::string, FlowControlStrategy> kNames = {
      {"max", FlowControlStrategy::kMax},
      {"multicast_max", FlowControlStrategy::kMax},
      {"unicast_max", FlowControlStrategy::kMax},
      {"aeron_max_multicast_flow_control_strategy_supplier", FlowControlStrategy::kMax},
      {"aeron_unicast_flow_control_strategy_supplier", FlowControlStrategy::kMax},
      {"io.aeron.driver.maxmulticastflowcontrolsupplier", FlowControlStrategy::kMax},
      {"io.aeron.driver.unicastflowcontrolsupplier", FlowControlStrategy::kMax},
      {"io.aeron.driver.defaultmulticastflowcontrolsupplier", FlowControlStrategy::kMax},
      {"io.aeron.driver.defaultunicastflowcontrolsupplier", FlowControlStrategy::kMax},
      {"min", FlowControlStrategy::kMin},
      {"multicast_min", FlowControlStrategy::kMin},
      {"aeron_min_flow_control_strategy_supplier", FlowControlStrategy::kMin},
      {"io.aeron.driver.minmulticastflowcontrolsupplier", FlowControlStrategy::kMin},
      {"tagged", FlowControlStrategy::kTagged},
      {"multicast_tagged", FlowControlStrategy::kTagged},
      {"aeron_tagged_flow_control_strategy_supplier", FlowControlStrategy::kTagged},
      {"io.aeron.driver.taggedmulticastflowcontrolsupplier", FlowControlStrategy::kTagged},
  };
  const auto found = kNames.find(lowerCase(value));
  if (found == kNames.end()) return false;
  out = found->second;
  return true;
}

const char* strategyText(FlowControlStrategy strategy) {
  switch (strategy) {
    case FlowControlStrategy::kMax:
      return "max";
    case FlowControlStrategy::kMin:
      return "min";
    case FlowControlStrategy::kTagged:
      return "tagged";
  }
  return "";
}

void flowControlOptions(Table& t) {
  const auto supplier = [&](const char* name, const char* meaning, FlowControlStrategy DriverConfig::*member) {
    t.add(
        name, meaning, "max, min, tagged, or the supplier names of Aeron's drivers such as aeron_min_flow_control_strategy_supplier",
        [=](DriverConfig& c, std::string_view value, std::string&) { return applySupplier(c.*member, value); },
        [=](const DriverConfig& c) { return std::string(strategyText(c.*member)); });
  };
  supplier("AERON_UNICAST_FLOWCONTROL_SUPPLIER", "Flow control of unicast publications", &DriverConfig::unicastFlowControl);
  supplier("AERON_MULTICAST_FLOWCONTROL_SUPPLIER", "Flow control of publications with several receivers",
           &DriverConfig::multicastFlowControl);
  t.duration("AERON_FLOW_CONTROL_RECEIVER_TIMEOUT", "Silence after which a receiver no longer counts",
             &DriverConfig::flowControlReceiverTimeoutNs, kMilliNs);
  t.number("AERON_FLOW_CONTROL_GROUP_MIN_SIZE", "Receivers needed before anything is sent", &DriverConfig::flowControlGroupMinSize, 0,
           kMaxInt32);
  t.number("AERON_FLOW_CONTROL_GROUP_TAG", "Tag of the receivers that count under tagged flow control", &DriverConfig::flowControlGroupTag,
           INT64_MIN, INT64_MAX);
  t.add(
      "AERON_RECEIVER_GROUP_TAG", "Tag that this driver's receivers send, empty for none", "whole number of 64 bits, or empty",
      [](DriverConfig& c, std::string_view value, std::string&) {
        const auto parsed = parseInteger(value);
        if (!parsed && !value.empty()) return false;
        c.hasReceiverGroupTag = parsed.has_value();
        c.receiverGroupTag = parsed.value_or(-1);
        return true;
      },
      [](const DriverConfig& c) { return c.hasReceiverGroupTag ? std::to_string(c.receiverGroupTag) : std::string(); });
  t.choice<InferableBoolean>("AERON_RECEIVER_GROUP_CONSIDERATION", "Whether receivers hold back NAKs as in a group",
                             &DriverConfig::receiverGroupConsideration,
                             {{"infer", InferableBoolean::kInfer}, {"true", InferableBoolean::kTrue}, {"false", InferableBoolean::kFalse}},
                             "true, false or infer");
  t.choice<CongestionControlKind>(
      "AERON_CONGESTIONCONTROL_SUPPLIER", "Congestion control of images", &DriverConfig::congestionControl,
      {{"static", CongestionControlKind::kStatic},
       {"aeron_congestion_control_default_strategy_supplier", CongestionControlKind::kStatic},
       {"aeron_static_window_congestion_control_strategy_supplier", CongestionControlKind::kStatic},
       {"io.aeron.driver.defaultcongestioncontrolsupplier", CongestionControlKind::kStatic},
       {"cubic", CongestionControlKind::kCubic},
       {"aeron_cubic_congestion_control_strategy_supplier", CongestionControlKind::kCubic},
       {"io.aeron.driver.ext.cubiccongestioncontrolsupplier", CongestionControlKind::kCubic}},
      "static, cubic, or the supplier names of Aeron's drivers such as aeron_cubic_congestion_control_strategy_supplier");
  for (const char* name :
       {"AERON_CUBICCONGESTIONCONTROL_MEASURERTT", "AERON_CUBICCONGESTIONCONTROL_INITIALRTT", "AERON_CUBICCONGESTIONCONTROL_TCPMODE"}) {
    t.ignored(name, "cubic follows the measured round trip");
  }
}

// Linux's dev_valid_name.
bool isInterfaceName(std::string_view name) {
  return name.size() < IFNAMSIZ && name != "." && name != ".." && name.find_first_of("/: \t\n\r\f\v") == std::string_view::npos;
}

constexpr int64_t kMaxQueue = 1023;  // of what drivers have, mlx5 goes farthest
constexpr size_t kMaxQueues = 64;
constexpr int64_t kMaxVlan = 4094;         // IEEE 802.1Q: 4095 is reserved, 0 is a tag with a priority only
constexpr int64_t kMaxPacketSockets = 16;  // one thread reads them all; each ring of blocks is 16 MiB of the kernel's memory

// "0,2,4-7" into queue numbers, each once.
std::optional<std::vector<uint32_t>> parseQueues(std::string_view text) {
  std::vector<uint32_t> queues;
  if (text.empty()) return queues;
  for (const std::string& part : splitList(text, ',')) {
    const size_t dash = part.find('-', 1);
    const auto first = parseInteger(std::string_view(part).substr(0, dash));
    const auto last = dash == std::string::npos ? first : parseInteger(std::string_view(part).substr(dash + 1));
    if (!first || !last || *first < 0 || *last < *first || *last > kMaxQueue) return std::nullopt;
    for (int64_t queue = *first; queue <= *last; ++queue) {
      if (std::find(queues.begin(), queues.end(), queue) == queues.end()) queues.push_back(static_cast<uint32_t>(queue));
    }
  }
  if (queues.size() > kMaxQueues) return std::nullopt;
  return queues;
}

template <typename List>
std::string joined(const List& list, const char* separator) {
  std::string out;
  for (const auto& each : list) {
    if (!out.empty()) out += separator;
    if constexpr (std::is_arithmetic_v<std::decay_t<decltype(each)>>) {
      out += std::to_string(each);
    } else {
      out += each;
    }
  }
  return out;
}

// A text of the raw backends' options that may be empty.
void rawText(Table& t, const char* name, const char* meaning, const char* allowed, std::string io::BackendOptions::*member,
             bool (*check)(std::string_view)) {
  t.add(
      name, meaning, allowed,
      [=](DriverConfig& c, std::string_view value, std::string&) {
        if (!value.empty() && !check(value)) return false;
        c.raw.*member = std::string(value);
        return true;
      },
      [=](const DriverConfig& c) { return c.raw.*member; });
}

void rawOptions(Table& t) {
  rawText(t, "OUTRIGGER_INTERFACE",
          "Network interface that packet, xdp and dpdk open, and whose RDMA port verbs opens; empty for the one of "
          "OUTRIGGER_INTERFACE_ADDRESS, else of the default route (verbs: the first port that can be used)",
          "an interface's name, or empty", &io::BackendOptions::interface, isInterfaceName);
  rawText(t, "OUTRIGGER_INTERFACE_ADDRESS", "Local address that a raw backend or verbs serves; empty for every address of its interface",
          "a numeric IPv4 or IPv6 address, or empty", &io::BackendOptions::address,
          [](std::string_view value) { return io::SockAddr::parseNumeric(std::string(value), 0).ok(); });
  t.add(
      "OUTRIGGER_QUEUES", "Receive queues of the interface that xdp and dpdk open; empty for all (dpdk: the first)",
      "comma-separated queue numbers and ranges from 0 to 1023, at most 64, as in 0,2,4-7, or empty",
      [](DriverConfig& c, std::string_view value, std::string&) {
        auto queues = parseQueues(value);
        if (queues) c.raw.queues = std::move(*queues);
        return queues.has_value();
      },
      [](const DriverConfig& c) { return joined(c.raw.queues, ","); });
  t.add(
      "OUTRIGGER_XDP_MODE", "How xdp attaches: auto takes the best that binds, the others that one or nothing",
      "auto, zero-copy, native or generic",
      [](DriverConfig& c, std::string_view value, std::string&) {
        if (value != "auto" && value != "zero-copy" && value != "native" && value != "generic") return false;
        c.raw.xdpMode = std::string(value);
        return true;
      },
      [](const DriverConfig& c) { return c.raw.xdpMode; });
  t.add(
      "OUTRIGGER_UMEM_SIZE", "Memory for frames of xdp and dpdk and for datagrams of verbs, for sending and receiving together",
      "size from 256k to 1g, a multiple of 4k, as in 64k, 16m",
      [](DriverConfig& c, std::string_view value, std::string&) {
        const auto bytes = parseSize(value);
        if (!bytes || *bytes < kMiB / 4 || *bytes > 1024 * kMiB || *bytes % 4096 != 0) return false;
        c.raw.umemBytes = static_cast<uint32_t>(*bytes);
        return true;
      },
      [](const DriverConfig& c) { return sizeText(c.raw.umemBytes); });
  t.add(
      "OUTRIGGER_HUGEPAGES", "Put frames of xdp and dpdk on huge pages where there are free ones; dpdk then needs them", "true or false",
      [](DriverConfig& c, std::string_view value, std::string&) {
        const auto parsed = parseSwitch(value);
        if (parsed) c.raw.hugepages = *parsed;
        return parsed.has_value();
      },
      [](const DriverConfig& c) { return std::string(c.raw.hugepages ? "true" : "false"); });
  t.add(
      "OUTRIGGER_PACKET_MODE", "Receive ring of packet: latency hands over each frame, bulk blocks of them up to a millisecond later",
      "latency or bulk",
      [](DriverConfig& c, std::string_view value, std::string&) {
        if (value != "latency" && value != "bulk") return false;
        c.raw.lowLatency = value == "latency";
        return true;
      },
      [](const DriverConfig& c) { return std::string(c.raw.lowLatency ? "latency" : "bulk"); });
  t.add(
      "OUTRIGGER_PACKET_SOCKETS", "Receive sockets of packet, each with a ring of its own: several share out the flows (a fanout group)",
      "whole number from 1 to " + std::to_string(kMaxPacketSockets),
      [](DriverConfig& c, std::string_view value, std::string&) {
        const auto sockets = parseInteger(value);
        if (!sockets || *sockets < 1 || *sockets > kMaxPacketSockets) return false;
        c.raw.packetSockets = static_cast<uint32_t>(*sockets);
        return true;
      },
      [](const DriverConfig& c) { return std::to_string(c.raw.packetSockets); });
  t.add(
      "OUTRIGGER_URING_ZERO_COPY",
      "Sends of uring without a copy: auto for messages from 16 KiB on where the kernel does not copy them after all, on for all",
      "auto, on or off", [](DriverConfig& c, std::string_view value, std::string&) { return io::parseZeroCopy(value, c.raw.zeroCopy); },
      [](const DriverConfig& c) {
        return std::string(c.raw.zeroCopy == io::ZeroCopyMode::kAuto ? "auto" : c.raw.zeroCopy == io::ZeroCopyMode::kOn ? "on" : "off");
      });
  rawText(t, "OUTRIGGER_NICD_SOCKET",
          "Socket of outrigger-nicd, which opens the device in the driver's stead; empty for opening it ourselves",
          "an absolute path of at most 107 bytes, or empty", &io::BackendOptions::nicdSocket,
          [](std::string_view value) { return value.starts_with('/') && value.size() < sizeof(sockaddr_un::sun_path); });
  rawText(t, "OUTRIGGER_NICD_CLAIM", "File with the claim to show to outrigger-nicd, named as the claim; empty for none",
          "an absolute path, or empty", &io::BackendOptions::nicdClaim, [](std::string_view value) { return value.starts_with('/'); });
  t.add(
      "OUTRIGGER_DPDK_ARGS", "Further arguments of DPDK's EAL, separated by blanks",
      "arguments as in --vdev=net_af_packet0,iface=eth0, or empty",
      [](DriverConfig& c, std::string_view value, std::string&) {
        std::vector<std::string> arguments;
        for (std::string& each : splitList(value, ' ')) {
          if (!each.empty()) arguments.push_back(std::move(each));
        }
        // A first one that is no option would end EAL's own parsing, and hide all that follow.
        if (!arguments.empty() && !arguments.front().starts_with('-')) return false;
        c.raw.dpdkArguments = std::move(arguments);
        return true;
      },
      [](const DriverConfig& c) { return joined(c.raw.dpdkArguments, " "); });
  rawText(t, "OUTRIGGER_DPDK_DEVICE", "Device that dpdk opens; empty for the only one that the arguments name",
          "a PCI address as in 0000:3b:02.1, the name of a virtual device as in net_af_packet0, or empty", &io::BackendOptions::dpdkDevice,
          [](std::string_view value) { return value.find_first_of(" \t,") == std::string_view::npos; });
  rawText(t, "OUTRIGGER_DPDK_ADDRESSES",
          "Addresses of a DPDK device that the kernel does not own, such as a VF under vfio: it gets an exception interface with them",
          "comma-separated addresses with prefix lengths as in 10.9.0.1/24,fd00::1/64, or empty", &io::BackendOptions::dpdkAddresses,
          [](std::string_view value) { return io::parseAddressList(std::string(value)).ok(); });
  rawText(t, "OUTRIGGER_DPDK_GATEWAYS", "Next hops of such a device for what is in none of its networks",
          "an IPv4 address, an IPv6 address, both with a comma between, or empty", &io::BackendOptions::dpdkGateways,
          [](std::string_view value) { return io::parseGateways(std::string(value)).ok(); });
  rawText(t, "OUTRIGGER_DPDK_INTERFACE", "Name of its exception interface; one that exists and belongs to this user is taken over",
          "an interface's name", &io::BackendOptions::dpdkInterface, isInterfaceName);
  t.add(
      "OUTRIGGER_DPDK_MTU", "MTU to set on such a device; 0 leaves it as it is", "0, or 68 to 9216",
      [](DriverConfig& c, std::string_view value, std::string&) {
        const auto mtu = parseInteger(value);
        if (!mtu || (*mtu != 0 && (*mtu < 68 || *mtu > 9216))) return false;
        c.raw.dpdkMtu = static_cast<uint32_t>(*mtu);
        return true;
      },
      [](const DriverConfig& c) { return std::to_string(c.raw.dpdkMtu); });
  t.add(
      "OUTRIGGER_VLAN",
      "VLAN (802.1Q) of all frames of dpdk, whose device brings those of every VLAN; 0 for untagged ones. For another backend open "
      "the VLAN's interface (OUTRIGGER_INTERFACE=eth0.42)",
      "whole number from 0 to " + std::to_string(kMaxVlan),
      [](DriverConfig& c, std::string_view value, std::string&) {
        const auto vlan = parseInteger(value);
        if (!vlan || *vlan < 0 || *vlan > kMaxVlan) return false;
        c.raw.vlan = static_cast<uint16_t>(*vlan);
        return true;
      },
      [](const DriverConfig& c) { return std::to_string(c.raw.vlan); });
}

void ioOptions(Table& t) {
  static const std::string known = "comma-separated list of " + joined(io::backendNames(), ", ");
  t.add(
      "OUTRIGGER_BACKENDS", "Network backends, best first: the first that opens is taken, and the reason why no better one did is reported",
      known,
      [](DriverConfig& c, std::string_view value, std::string&) {
        const auto names = splitList(value, ',');
        const auto& all = io::backendNames();
        for (size_t i = 0; i < names.size(); ++i) {
          if (std::find(all.begin(), all.end(), names[i]) == all.end()) return false;
          if (std::find(names.begin(), names.begin() + static_cast<std::ptrdiff_t>(i), names[i]) !=
              names.begin() + static_cast<std::ptrdiff_t>(i))
            return false;
        }
        c.backends = names;
        c.backend = names.front();
        return true;
      },
      [](const DriverConfig& c) { return joined(c.backends, ","); });
  t.duration("OUTRIGGER_BACKEND_RETRY",
             "How often backends before the one in use are tried again, after a loss twice, four times... that; 0 for never",
             &DriverConfig::backendRetryNs, 0);
  rawOptions(t);
  t.toggle("OUTRIGGER_UDP_SEGMENT", "Use UDP segmentation offload where the kernel has it", &DriverConfig::segmentationOffload);
  t.toggle("OUTRIGGER_UDP_GRO", "Use UDP receive coalescing where the kernel has it", &DriverConfig::receiveCoalescing);
  t.number("OUTRIGGER_BUSY_POLL_US", "SO_BUSY_POLL of sockets in microseconds, 0 for off", &DriverConfig::busyPollUs, 0, 1'000'000);
  t.add(
      "OUTRIGGER_IMPAIR", "Loses, duplicates, corrupts and reorders datagrams on purpose: for tests",
      "none, or parameters like rx-loss=0.1,tx-dup=0.01,corrupt=0.001,reorder=0.02,mask=0x2,seed=7",
      [](DriverConfig& c, std::string_view value, std::string&) {
        if (!value.empty() && !io::ImpairConfig::parse(value)) return false;
        c.impair = value == "none" ? std::string() : std::string(value);
        return true;
      },
      [](const DriverConfig& c) { return c.impair; });
  t.add(
      "AERON_UDP_CHANNEL_INCOMING_INTERCEPTORS", "'loss': lose received datagrams as the loss arguments say", "loss, or empty",
      [](DriverConfig& c, std::string_view value, std::string&) {
        if (value != "loss" && !value.empty()) return false;
        c.aeronLoss = value == "loss";
        return true;
      },
      [](const DriverConfig& c) { return std::string(c.aeronLoss ? "loss" : ""); });
  t.add(
      "AERON_UDP_CHANNEL_TRANSPORT_BINDINGS_LOSS_ARGS", "Arguments of that loss", "rate=0.01|seed=1|recv-msg-mask=0x2",
      [](DriverConfig& c, std::string_view value, std::string&) {
        if (!value.empty() && !io::ImpairConfig::parseAeronLoss(value)) return false;
        c.aeronLossArguments = std::string(value);
        return true;
      },
      [](const DriverConfig& c) { return c.aeronLossArguments; });
  t.unsupported("AERON_UDP_CHANNEL_OUTGOING_INTERCEPTORS", "Interceptors of what is sent", {""});
  t.unsupported("AERON_UDP_CHANNEL_TRANSPORT_BINDINGS_MEDIA", "Other transports: use OUTRIGGER_BACKENDS", {"", "default"});
  t.unsupported("AERON_CONDUCTOR_UDP_CHANNEL_TRANSPORT_BINDINGS_MEDIA", "Other transports: use OUTRIGGER_BACKENDS", {"", "default"});
  t.unsupported("AERON_DRIVER_DYNAMIC_LIBRARIES", "Plug-in libraries", {""});
  t.ignored("AERON_DRIVER_CONNECT", "sockets of publications are not connected");
  t.ignored("AERON_ENABLE_EXPERIMENTAL_FEATURES", "there are none");
}

void processOptions(Table& t) {
  t.add(
      "AERON_DRIVER_TERMINATION_VALIDATOR", "Whether a client's TERMINATE_DRIVER is obeyed",
      "allow or deny (or aeron_driver_termination_validator_default_allow, ..._default_deny)",
      [](DriverConfig& c, std::string_view value, std::string&) {
        const std::string lower = lowerCase(value);
        const bool allow = lower == "allow" || lower == "aeron_driver_termination_validator_default_allow" ||
                           lower == "io.aeron.driver.defaultallowterminationvalidator";
        const bool deny = lower == "deny" || lower == "aeron_driver_termination_validator_default_deny" ||
                          lower == "io.aeron.driver.defaultdenyterminationvalidator";
        if (allow || deny) c.terminationAllowed = allow;
        return allow || deny;
      },
      [](const DriverConfig& c) { return std::string(c.terminationAllowed ? "allow" : "deny"); });
  t.toggle("AERON_PRINT_CONFIGURATION", "Log the configuration at start", &DriverConfig::printConfiguration);
  t.number("OUTRIGGER_RANDOM_SEED", "Seed of session ids and back-off, 0 for one from the clock", &DriverConfig::randomSeed, 0, INT64_MAX);
  for (const char* name : {"AERON_EVENT_LOG", "AERON_EVENT_LOG_DISABLE", "AERON_EVENT_LOG_FILENAME", "AERON_EVENT_LOG_READER_CLASSNAME"}) {
    t.ignored(name, "there is no event log in this version; counters and the error log say what happens");
  }
  t.unsupported("AERON_NAME_RESOLVER_SUPPLIER", "Other name resolvers", {"", "default"});
  for (const char* name : {"AERON_NAME_RESOLVER_INIT_ARGS", "AERON_DRIVER_RESOLVER_NAME", "AERON_DRIVER_RESOLVER_INTERFACE",
                           "AERON_DRIVER_RESOLVER_BOOTSTRAP_NEIGHBOR"}) {
    t.unsupported(name, "Name resolution among drivers: use addresses or DNS names", {""});
  }
  for (const char* name :
       {"AERON_DRIVER_RESOLVER_NEIGHBOR_TIMEOUT", "AERON_DRIVER_RESOLVER_SELF_RESOLUTION_INTERVAL",
        "AERON_DRIVER_RESOLVER_NEIGHBOR_RESOLUTION_INTERVAL", "AERON_DRIVER_RESOLVER_BOOTSTRAP_NEIGHBOR_RESOLUTION_INTERVAL"}) {
    t.ignored(name, "there is no name resolution among drivers in this version");
  }
}

std::vector<ConfigOption> makeTable() {
  Table table;
  directoryOptions(table);
  threadOptions(table);
  ioOptions(table);
  streamOptions(table);
  timeoutOptions(table);
  flowControlOptions(table);
  processOptions(table);
  return std::move(table.options);
}

}  // namespace

std::string ConfigOption::flag() const { return upperFlag(*this); }

const std::vector<ConfigOption>& configOptions() {
  static const std::vector<ConfigOption> options = makeTable();
  return options;
}

const ConfigOption* findOption(std::string_view name) {
  for (const ConfigOption& option : configOptions()) {
    if (option.name == name) return &option;
  }
  return nullptr;
}

io::BackendOptions backendOptionsOf(const DriverConfig& config) {
  io::BackendOptions options = config.raw;
  options.segmentation = config.segmentationOffload;
  options.coalescing = config.receiveCoalescing;
  options.busyPollUs = config.busyPollUs;
  options.impair = config.impair;
  return options;
}

Result<void> checkConfig(const DriverConfig& config, std::vector<std::string>& notices) {
  if (!config.policyFile.empty() && config.policyFile.starts_with(config.directory + "/")) {
    return makeError(ErrorCode::kGeneric,
                     "OUTRIGGER_POLICY_FILE=" + config.policyFile +
                         " is in the driver's directory, where clients could put another one in its place; name one in a "
                         "folder that clients don't have");
  }
  if (config.raw.vlan != 0 && std::find(config.backends.begin(), config.backends.end(), "dpdk") == config.backends.end()) {
    const std::string vlan = std::to_string(config.raw.vlan);
    return makeError(ErrorCode::kGeneric,
                     "OUTRIGGER_VLAN=" + vlan + " is for dpdk, which OUTRIGGER_BACKENDS=" + joined(config.backends, ",") +
                         " does not have; leave it out and open the VLAN's interface (OUTRIGGER_INTERFACE=eth0." + vlan + ")");
  }
  if (config.publicationReservedSessionIdLow > config.publicationReservedSessionIdHigh) {
    return makeError(ErrorCode::kGeneric,
                     "AERON_PUBLICATION_RESERVED_SESSION_ID_LOW=" + std::to_string(config.publicationReservedSessionIdLow) +
                         " is above AERON_PUBLICATION_RESERVED_SESSION_ID_HIGH=" + std::to_string(config.publicationReservedSessionIdHigh) +
                         "; swap them");
  }
  if (config.socketSendBufferLength > 0 && config.mtuLength > config.socketSendBufferLength) {
    return makeError(ErrorCode::kGeneric, "AERON_MTU_LENGTH=" + std::to_string(config.mtuLength) + " does not fit AERON_SOCKET_SO_SNDBUF=" +
                                              std::to_string(config.socketSendBufferLength) + "; raise the buffer or lower the MTU");
  }
  if (config.publicationWindowLength > config.termBufferLength / 2) {
    notices.push_back("AERON_PUBLICATION_TERM_WINDOW_LENGTH is more than half of AERON_TERM_BUFFER_LENGTH; half a term is used");
  }
  if (config.socketReceiveBufferLength > 0 && config.initialWindowLength > config.socketReceiveBufferLength) {
    notices.push_back("AERON_RCV_INITIAL_WINDOW_LENGTH=" + sizeText(config.initialWindowLength) + " is more than AERON_SOCKET_SO_RCVBUF=" +
                      sizeText(config.socketReceiveBufferLength) + ": a burst may overflow the socket");
  }
  return {};
}

}  // namespace outrigger::driver
