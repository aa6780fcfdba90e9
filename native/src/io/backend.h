// SPDX-License-Identifier: Apache-2.0
// The table of backends: makes each by its configured name and says whether it can be had here. Choosing among several is done above.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "io/datagram_io.h"

namespace outrigger::io {

enum class ZeroCopyMode : uint8_t {
  kOff,
  kAuto,  // long messages, where the kernel does not copy them after all
  kOn,    // all messages, whatever the kernel does: for tests and measurements
};

struct BackendOptions {
  bool segmentation = true;                     // mmsg: UDP_SEGMENT where the kernel has it
  bool coalescing = true;                       // mmsg: UDP_GRO where the kernel has it
  int32_t busyPollUs = 0;                       // SO_BUSY_POLL of each socket, 0 = leave alone
  uint32_t receiveSlots = 16;                   // 64 KiB each, address space until used: trains or datagrams taken in one poll, 1 to 64
  ZeroCopyMode zeroCopy = ZeroCopyMode::kAuto;  // uring: sends of what is lent without a copy
  std::string impair;                           // specification of io/impair/impair_config.h, empty or "none" = no impairment

  // Raw backends and verbs.
  // The netdev to open, or for verbs the one whose RDMA port; empty: the one of the default route, of `address` where that is set.
  std::string interface;
  std::string address;                     // local address to serve, numeric; empty: all addresses of the interface
  std::vector<uint32_t> queues;            // receive queues to open, empty: all that the device has (dpdk: the first)
  bool lowLatency = true;                  // packet: V2 ring; false: V3 blocks, for bulk
  uint32_t packetSockets = 1;              // packet: receive sockets with a ring each; several are a fanout group
  std::string xdpMode = "auto";            // xdp: auto (the best that binds), zero-copy, native, generic
  uint32_t umemBytes = 16u << 20;          // xdp, dpdk, verbs: receive and transmit buffers, bytes
  bool hugepages = true;                   // use them where there are any
  std::string nicdSocket;                  // path of outrigger-nicd's socket; empty: open the device ourselves
  std::string nicdClaim;                   // file with the claim to show to it; empty: none
  std::vector<std::string> dpdkArguments;  // further EAL arguments ("--vdev=net_af_packet0,iface=eth0")
  std::string dpdkDevice;                  // ethdev name or PCI address; empty: the only one that dpdkArguments name
  uint32_t dpdkMtu = 0;                    // to set on the device; 0: as it is
  uint16_t vlan = 0;                       // dpdk: 802.1Q tag of all traffic; 0: untagged
  // Of a device that the kernel does not own (a VF under vfio): the exception interface, its addresses and next hops.
  std::string dpdkInterface = "outrigger0";
  std::string dpdkAddresses;  // "10.9.0.1/24,fd00::1/64"
  std::string dpdkGateways;   // "10.9.0.254,fd00::ff", empty: none
};

enum class Availability : uint8_t {
  kAvailable,   // opens, with all that it can do
  kDegraded,    // opens, with less than it could do: `causes` says what and why
  kImpossible,  // does not open here
  kNotBuilt,    // left out of this build
};

// Why a backend, or a part of it, can't be had. Whole sentences; `fix` says what whoever runs this can do.
struct BackendCause {
  std::string what;   // what is missing or was refused: "zero-copy", "open AF_XDP socket", "UDP_GRO"
  std::string cause;  // precise: the call, the value, errno, who holds it
  std::string fix;
};

struct BackendReport {
  std::string name;
  Availability availability = Availability::kAvailable;
  std::vector<BackendCause> causes;
  std::vector<std::pair<std::string, std::string>> facts;  // what it runs with: {"mode", "native copy"}, {"queues", "2"}, {"mtu", "9000"}
};

// Instances for the two agents that send and receive. They are two faces of one device where that has a single queue.
struct IoPair {
  std::unique_ptr<DatagramIo> sender;
  std::unique_ptr<DatagramIo> receiver;
  bool sameThread = false;  // both must be polled by one thread
  std::string reason;       // why sameThread
};

// One row of the table. `open` fails with the reason that it does not open. `probe` opens nothing that outlives the call, disturbs no
// traffic, and says everything that `outrigger explain` prints.
struct Backend {
  std::string name;
  Result<IoPair> (*open)(const BackendOptions& options) = nullptr;
  BackendReport (*probe)(const BackendOptions& options) = nullptr;
};

// All backends that this program knows, built or not, best first: the order of `explain`.
const std::vector<Backend>& backends();

// Names that makeBackend and openPair take.
const std::vector<std::string>& backendNames();

// Why this one can't do with OUTRIGGER_VLAN; an empty `what` where it can.
BackendCause vlanCause(const std::string& name, const BackendOptions& options);

// One that does not move datagrams through the kernel's sockets alone, and so has more to count (IoTotals::network).
bool countsNetworkEvents(const std::string& name);

// "auto", "on", "off". False: something else.
bool parseZeroCopy(std::string_view text, ZeroCopyMode& mode);

// Overrides options from OUTRIGGER_URING_ZERO_COPY=auto|on|off, OUTRIGGER_UDP_SEGMENT=on|off, OUTRIGGER_UDP_GRO=on|off,
// OUTRIGGER_BUSY_POLL_US=<n> and OUTRIGGER_IMPAIR=<specification>. A malformed value is an error naming variable, value and what is allowed.
Result<void> applyEnvironment(BackendOptions& options);

// Fails naming the unknown backend and the known ones, a malformed impairment, or the system call that failed.
Result<std::unique_ptr<DatagramIo>> makeBackend(const std::string& name, const BackendOptions& options);

// The two instances of a driver, with the impairment of `options` around each. Errors as makeBackend.
Result<IoPair> openPair(const std::string& name, const BackendOptions& options);

}  // namespace outrigger::io
