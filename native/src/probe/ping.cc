// SPDX-License-Identifier: Apache-2.0
// Probe i is due at start + i * interval, whatever happened to those before it, and its time counts from then: a stall is in the time of all
// probes that were due meanwhile. One thread sends and receives.
#include "probe/ping.h"

#include <arpa/inet.h>
#include <netinet/udp.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "base/histogram.h"
#include "echo_maps.h"
#include "io/frame/netdev.h"
#include "io/xdp/interface_facts.h"
#include "io/xdp/xdp_program.h"
#include "probe/exit.h"
#include "probe/json.h"
#include "probe/probe_link.h"
#include "probe/stop.h"

namespace outrigger::probe {
namespace {

constexpr int64_t kNsPerMs = 1'000'000;
constexpr int64_t kNsPerUs = 1'000;
constexpr int64_t kLeastReachNs = 2'000 * kNsPerMs;  // a neighbour is asked for three times, a second apart

// What the reflector sees is the magic alone; the rest is ours to know our probes again.
struct ProbeHeader {
  uint32_t magic;    // network order
  uint32_t session;  // random: answers to another run are not ours
  uint64_t sequence;
};
static_assert(sizeof(ProbeHeader) >= ECHO_MIN_PAYLOAD_LENGTH);

struct Request {
  io::SockAddr target;
  LinkKind kind = LinkKind::kSocket;
  std::string mode;
  int64_t count = 0;
  int64_t intervalNs = 0;
  int64_t timeoutNs = 0;
  uint32_t size = 0;
  bool spin = true;
};

Result<Request> read(const Options& options) {
  Request request;
  const auto port = options.number("port", ECHO_DEFAULT_PORT, 1, 65'535);
  if (!port) return port.error();
  auto target = io::SockAddr::parseNumeric(options.text("host", ""), static_cast<uint16_t>(*port));
  if (!target) return target.error();
  request.target = *target;
  const auto count = options.number("count", 1'000, 1, 100'000'000);
  if (!count) return count.error();
  const auto interval = options.number("interval-us", 1'000, 1, 60'000'000);
  if (!interval) return interval.error();
  const auto timeout = options.number("timeout-ms", 1'000, 1, 60'000);
  if (!timeout) return timeout.error();
  const auto size = options.number("size", 64, sizeof(ProbeHeader), 1'400);
  if (!size) return size.error();
  request.count = *count;
  request.intervalNs = *interval * kNsPerUs;
  request.timeoutNs = *timeout * kNsPerMs;
  request.size = static_cast<uint32_t>(*size);
  const std::string via = options.text("via", "socket");
  const std::string wait = options.text("wait", "spin");
  request.mode = options.text("mode", "auto");
  if (via != "socket" && via != "xdp") return makeError(ErrorCode::kGeneric, "--via '" + via + "' is unknown, allowed are socket, xdp");
  if (wait != "spin" && wait != "sleep") return makeError(ErrorCode::kGeneric, "--wait '" + wait + "' is unknown, allowed are spin, sleep");
  request.kind = via == "xdp" ? LinkKind::kXdp : LinkKind::kSocket;
  request.spin = wait == "spin";
  return request;
}

struct Outcome {
  int64_t sent = 0;
  int64_t refused = 0;  // due, but the link had no room
  int64_t received = 0;
  int64_t duplicates = 0;
  bool interrupted = false;
  Histogram nanoseconds;
};

// Waits for one answer before anything is measured: the neighbour gets known, and a reflector that is not there is said at once.
bool reach(const Request& request, ProbeLink& link) {
  constexpr uint64_t kNotCounted = UINT64_MAX;
  constexpr int kPauseMs = 10;
  SystemClock clock;
  std::vector<uint8_t> probe(request.size);
  const ProbeHeader header{htonl(ECHO_MAGIC), static_cast<uint32_t>(clock.nanoTime()), kNotCounted};
  std::memcpy(probe.data(), &header, sizeof(header));
  bool answered = false;
  const int64_t limitNs = clock.nanoTime() + std::max(request.timeoutNs, kLeastReachNs);
  while (!answered && clock.nanoTime() < limitNs) {
    link.send(probe);
    if (link.arm()) {
      pollfd handle{link.waitHandle(), POLLIN, 0};
      ::poll(&handle, 1, kPauseMs);
    }
    link.receive([&](const uint8_t* data, uint32_t length, int64_t) {
      answered = answered || (length >= sizeof(header) && std::memcmp(data, &header, sizeof(header)) == 0);
    });
  }
  return answered;
}

void exchange(const Request& request, ProbeLink& link, int stop, Outcome& outcome) {
  SystemClock clock;
  std::vector<uint8_t> probe(request.size);
  ProbeHeader header{htonl(ECHO_MAGIC), static_cast<uint32_t>(clock.nanoTime()), 0};
  std::vector<bool> answered(static_cast<size_t>(request.count));
  const int64_t startNs = clock.nanoTime() + kNsPerMs;
  const auto dueNs = [&](int64_t sequence) { return startNs + sequence * request.intervalNs; };
  const auto take = [&](const uint8_t* data, uint32_t length, int64_t nowNs) {
    ProbeHeader got{};
    if (length < sizeof(got)) return;
    std::memcpy(&got, data, sizeof(got));
    if (got.magic != header.magic || got.session != header.session || got.sequence >= static_cast<uint64_t>(request.count)) return;
    const auto sequence = static_cast<int64_t>(got.sequence);
    if (answered[got.sequence]) {
      ++outcome.duplicates;
      return;
    }
    answered[got.sequence] = true;
    ++outcome.received;
    outcome.nanoseconds.record(nowNs - dueNs(sequence));
  };
  int64_t next = 0;
  int64_t looks = 0;
  for (;;) {
    link.receive(take);
    const int64_t nowNs = clock.nanoTime();
    while (next < request.count && nowNs >= dueNs(next)) {
      header.sequence = static_cast<uint64_t>(next);
      std::memcpy(probe.data(), &header, sizeof(header));
      if (link.send(probe)) {
        ++outcome.sent;
      } else {
        ++outcome.refused;
      }
      ++next;
      link.receive(take);  // after a stall many are due at once: their answers must not pile up
    }
    if (next == request.count && (outcome.received == outcome.sent || nowNs > dueNs(next - 1) + request.timeoutNs)) return;
    const int64_t untilNs = (next < request.count ? dueNs(next) : dueNs(next - 1) + request.timeoutNs) - nowNs;
    constexpr int64_t kLooksBetweenStops = 4'096;  // a system call to see a signal is dearer than a look at a ring
    if (!request.spin || ++looks % kLooksBetweenStops == 0) {
      pollfd handles[2] = {{stop, POLLIN, 0}, {link.waitHandle(), POLLIN, 0}};
      const timespec limit{untilNs > 0 ? untilNs / 1'000'000'000 : 0, untilNs > 0 ? untilNs % 1'000'000'000 : 0};
      const timespec none{0, 0};
      const bool sleep = !request.spin && link.arm();
      ::ppoll(handles, sleep ? 2 : 1, sleep ? &limit : &none, nullptr);
      if ((handles[0].revents & POLLIN) != 0) {
        outcome.interrupted = true;
        return;
      }
    }
  }
}

std::string summary(const Request& request, const ProbeLink& link, const Outcome& outcome) {
  const auto us = [&](int64_t nanoseconds) {
    char text[32];
    std::snprintf(text, sizeof(text), "%.1f", static_cast<double>(nanoseconds) / 1'000.0);
    return std::string(text);
  };
  const Histogram& times = outcome.nanoseconds;
  JsonObject rtt;
  rtt.raw("min", us(times.min()));
  rtt.raw("p50", us(times.valueAt(50))).raw("p90", us(times.valueAt(90))).raw("p99", us(times.valueAt(99)));
  rtt.raw("p999", us(times.valueAt(99.9))).raw("max", us(times.max()));
  JsonObject result;
  result.text("target", request.target.toString()).text("interface", link.description().interface).text("via", link.description().via);
  result.number("size", request.size).number("intervalUs", request.intervalNs / kNsPerUs);
  result.number("sent", outcome.sent).number("received", outcome.received).number("lost", outcome.sent - outcome.received);
  result.number("refused", outcome.refused).number("duplicates", outcome.duplicates).raw("rttUs", rtt.done());
  std::string notes;
  for (const std::string& note : link.description().notes) notes += (notes.empty() ? "" : ",") + quoted(note);
  result.raw("notes", "[" + notes + "]");
  result.raw("interrupted", outcome.interrupted ? "true" : "false");
  return result.done();
}

}  // namespace

int ping(const Options& options) {
  auto request = read(options);
  if (!request) return fail(kExitUsage, request.error());
  const UniqueFd stop = stopSignals();
  auto link = openLink(request->kind, request->target, request->mode);
  if (!link) return fail(kExitUnavailable, link.error());
  if (!reach(*request, **link)) {
    std::string notes;
    for (const std::string& note : (*link)->description().notes) notes += "; " + note;
    return fail(kExitUnavailable,
                makeError(ErrorCode::kGeneric,
                          "ping: no reflector answers at " + request->target.toString() +
                              ": start one there with `outrigger reflect`, and see that no firewall drops UDP to this port" + notes));
  }
  Outcome outcome;
  exchange(*request, **link, stop.get(), outcome);
  std::printf("%s\n", summary(*request, **link, outcome).c_str());
  std::fflush(stdout);
  return outcome.received == request->count ? kExitOk : kExitFailed;
}

}  // namespace outrigger::probe
