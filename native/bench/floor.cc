// SPDX-License-Identifier: Apache-2.0
// The raw floor of each kernel API: what a program of that API alone reaches, without any engine. The benchmark runs it beside the engine, with the
// same payload, checks and clock: `--api socket|mmsg|uring|packet|xdp --role send|receive|ping|pong --local ADDRESS --peer ADDRESS --size BYTES`,
// for raw ones also `--interface NAME --peer-mac MAC --mode ...`. DPDK's is floor_dpdk.
#include "floor/packet_wire.h"
#include "floor/roles.h"
#include "floor/socket_wire.h"
#include "floor/uring_wire.h"
#include "floor/xdp_wire.h"

namespace outrigger::bench {
namespace {

template <typename Wire>
int over(const Plan& plan, const Arguments& arguments) {
  Wire wire(plan);
  return run(wire, plan, arguments);
}

int start(const Arguments& arguments) {
  installStop();
  const Plan plan = planOf(arguments);
  if (plan.api == "socket") return over<SocketWire>(plan, arguments);
  if (plan.api == "mmsg") return over<MmsgWire>(plan, arguments);
#if OUTRIGGER_HAS_URING
  if (plan.api == "uring") return over<UringWire>(plan, arguments);
#endif
  if (plan.api == "packet") return over<PacketWire>(plan, arguments);
#ifdef OUTRIGGER_LIBBPF
  if (plan.api == "xdp") return over<XdpWire>(plan, arguments);
#endif
  die("--api '" + plan.api + "' is none of socket, mmsg, uring, packet, xdp, or left out of this build");
}

}  // namespace
}  // namespace outrigger::bench

int main(int argc, char** argv) { return outrigger::bench::start(outrigger::bench::Arguments(argc, argv)); }
