// SPDX-License-Identifier: Apache-2.0
// Attach, say so, wait, count.
#include "probe/reflect.h"

#include <poll.h>

#include <cerrno>
#include <cstdio>
#include <optional>

#include "echo_maps.h"
#include "io/frame/netdev.h"
#include "io/xdp/interface_facts.h"
#include "io/xdp/xdp_program.h"
#include "probe/exit.h"
#include "probe/json.h"
#include "probe/stop.h"

namespace outrigger::probe {
namespace {

using io::xdp::AttachMode;
using io::xdp::EchoProgram;

constexpr int kLookMs = 1'000;  // how soon a pulled program is noticed

struct Attached {
  EchoProgram program;
  const char* mode;
  std::string reason;  // why not natively
};

Result<Attached> attach(uint32_t interfaceIndex, const std::string& mode, uint16_t port) {
  std::string reason;
  if (mode == "auto" || mode == "native") {
    auto program = EchoProgram::attach(interfaceIndex, AttachMode::kNative, true, port);
    if (program) return Attached{program.take(), "native", ""};
    const int error = program.error().sysErrno;
    // A slot that is taken, and a missing capability, stay so in the other mode.
    if (mode == "native" || error == EBUSY || error == EPERM || error == EACCES || error == 0) return program.error();
    reason = program.error().message;
  }
  auto program = EchoProgram::attach(interfaceIndex, AttachMode::kGeneric, true, port);
  if (!program) return program.error();
  return Attached{program.take(), "generic", reason};
}

}  // namespace

int reflect(const Options& options) {
  const auto port = options.number("port", ECHO_DEFAULT_PORT, 1, 65'535);
  if (!port) return fail(kExitUsage, port.error());
  const std::string mode = options.text("mode", "auto");
  if (mode != "auto" && mode != "native" && mode != "generic") {
    return fail(kExitUsage, makeError(ErrorCode::kGeneric, "--mode '" + mode + "' is unknown, allowed are auto, native, generic"));
  }
  const UniqueFd stop = stopSignals();
  auto netdev = io::chooseNetdev(options.text("interface", ""), "");
  if (!netdev) return fail(kExitUnavailable, netdev.error());
  auto attached = attach(netdev->index, mode, static_cast<uint16_t>(*port));
  if (!attached) return fail(kExitUnavailable, attached.error());

  JsonObject ready;
  ready.text("event", "reflecting").text("interface", netdev->name).number("port", *port).text("mode", attached->mode);
  if (!attached->reason.empty()) ready.text("reason", attached->reason);
  const auto facts = io::xdp::readInterfaceFacts(*netdev);
  if (facts.driver == "veth" && attached->mode == std::string("native")) {
    ready.text("note", "veth returns a frame only while its other end runs a native XDP program: `outrigger ping` attaches one there");
  }
  std::printf("%s\n", ready.done().c_str());
  std::fflush(stdout);

  pollfd stopping{stop.get(), POLLIN, 0};
  bool there = true;
  while (there && ::poll(&stopping, 1, kLookMs) == 0) there = attached->program.attached();

  JsonObject counters;
  counters.text("event", "ended");
  for (const auto& counter : attached->program.counters()) counters.number(counter.name, counter.frames);
  if (!there) counters.text("reason", "the program was detached from interface " + netdev->name);
  std::printf("%s\n", counters.done().c_str());
  std::fflush(stdout);
  return there ? kExitOk : kExitFailed;
}

}  // namespace outrigger::probe
