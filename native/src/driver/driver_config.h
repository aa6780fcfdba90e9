// SPDX-License-Identifier: Apache-2.0
// Everything a driver is configured with, with Aeron's defaults. Parsing from environment and flags: config_parser.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cnc/cnc_file.h"
#include "io/backend.h"

namespace outrigger::driver {

constexpr int64_t kMicroNs = 1'000;
constexpr int64_t kMilliNs = 1'000'000;
constexpr int64_t kSecondNs = 1'000'000'000;

enum class ThreadingMode : uint8_t { kDedicated, kSharedNetwork, kShared, kInvoker };
enum class FlowControlStrategy : uint8_t { kMax, kMin, kTagged };
enum class InferableBoolean : uint8_t { kFalse, kTrue, kInfer };
enum class CongestionControlKind : uint8_t { kStatic, kCubic };

// What an agent's thread does when there is nothing to do. kAdaptive: spin briefly, then sleep on sockets and doorbell until the next
// deadline. The others are Aeron's and never sleep on anything but time.
enum class IdleKind : uint8_t { kAdaptive, kBusySpin, kYield, kSleep, kBackoff };

struct IdleStrategy {
  IdleKind kind = IdleKind::kAdaptive;
  int64_t spins = 10;  // kBackoff: cycles of spinning, then of yielding, then sleeps that double from min to max
  int64_t yields = 20;
  int64_t minParkNs = 1'000;  // kSleep: the sleep
  int64_t maxParkNs = 1'000'000;
};

constexpr int32_t kNoCpu = -1;

// Ports that a channel with port 0 gets; low 0: the kernel chooses.
struct PortRange {
  uint16_t low = 0;
  uint16_t high = 0;
};

struct DriverConfig {
  std::string directory;  // AERON_DIR
  bool deleteDirectoryOnStart = false;
  bool deleteDirectoryOnShutdown = false;  // what the driver itself created is removed in any case
  bool warnIfDirectoryExists = false;
  mode_t directoryMode = 02770;      // set-gid: files get the directory's group, so that clients of that group may open them
  int64_t driverTimeoutMs = 10'000;  // a driver whose heartbeat is older is dead, its directory may be taken over
  ThreadingMode threadingMode = ThreadingMode::kShared;
  std::string backend = "mmsg";  // first of `backends` that opens
  std::vector<std::string> backends = {"mmsg", "socket"};
  int64_t backendRetryNs = 0;      // how often better backends than the current are tried again, 0 = never
  std::string impair;              // impair layer specification, empty = none
  bool aeronLoss = false;          // AERON_UDP_CHANNEL_INCOMING_INTERCEPTORS=loss: becomes `impair`
  std::string aeronLossArguments;  // of it
  int32_t busyPollUs = 0;          // SO_BUSY_POLL, 0 = leave alone
  bool segmentationOffload = true;
  bool receiveCoalescing = true;
  io::BackendOptions raw;    // what raw backends open: interface, queues, memory; the fields above override its own of sockets
  std::string policyFile;    // what clients may open and who may publish to them, empty: everything and everybody, as in Aeron
  int64_t policyOwner = -1;  // user whose policy file is obeyed, beside root; -1: the driver's own
  mode_t fileMode = 0660;    // cnc.dat, logs, doorbells: clients may run under another UID of the directory's group

  IdleStrategy conductorIdle;  // dedicated, shared-network
  IdleStrategy senderIdle;     // dedicated
  IdleStrategy receiverIdle;   // dedicated
  IdleStrategy sharedNetworkIdle;
  IdleStrategy sharedIdle;
  int32_t conductorCpu = kNoCpu;  // the thread runs on this CPU only; in shared modes the first agent's counts
  int32_t senderCpu = kNoCpu;
  int32_t receiverCpu = kNoCpu;
  int64_t conductorCycleThresholdNs = 100 * kMilliNs;  // longer duty cycles are counted
  int64_t senderCycleThresholdNs = 100 * kMilliNs;
  int64_t receiverCycleThresholdNs = 100 * kMilliNs;

  cnc::CncSizes cncSizes;
  int32_t lossReportLength = 1024 * 1024;
  int32_t termBufferLength = 16 * 1024 * 1024;
  int32_t ipcTermBufferLength = 64 * 1024 * 1024;
  bool termBufferSparse = true;
  int32_t filePageSize = 4096;
  int32_t mtuLength = 1408;
  int32_t ipcMtuLength = 1408;
  int32_t publicationWindowLength = 0;  // 0 = term length / 2
  int32_t ipcPublicationWindowLength = 0;
  int32_t initialWindowLength = 128 * 1024;  // receiver window
  int32_t socketReceiveBufferLength = 128 * 1024;
  int32_t socketSendBufferLength = 0;
  int32_t multicastTtl = 0;

  int64_t timerIntervalNs = kSecondNs;
  int64_t clientLivenessTimeoutNs = 10 * kSecondNs;
  int64_t imageLivenessTimeoutNs = 10 * kSecondNs;
  int64_t publicationUnblockTimeoutNs = 15 * kSecondNs;
  int64_t publicationConnectionTimeoutNs = 5 * kSecondNs;
  int64_t publicationLingerTimeoutNs = 5 * kSecondNs;
  int64_t statusMessageTimeoutNs = 200 * kMilliNs;
  int64_t setupTimeoutNs = 100 * kMilliNs;
  int64_t heartbeatTimeoutNs = 100 * kMilliNs;
  int64_t counterFreeToReuseTimeoutNs = kSecondNs;
  int64_t untetheredWindowLimitTimeoutNs = 5 * kSecondNs;
  int64_t untetheredLingerTimeoutNs = -1;  // -1: as window limit
  int64_t untetheredRestingTimeoutNs = 10 * kSecondNs;
  int64_t pendingSetupTimeoutNs = kSecondNs;
  int64_t cooldownNs = kSecondNs;  // a (stream, session) whose image died without EOS is not rebuilt for this long

  int64_t retransmitUnicastDelayNs = 0;
  int64_t retransmitUnicastLingerNs = 10 * kMilliNs;  // upper bound; scaled down to the measured RTT
  int64_t nakUnicastDelayNs = kMicroNs;
  int64_t nakMulticastMaxBackoffNs = 10 * kMilliNs;
  int32_t nakMulticastGroupSize = 10;
  int32_t maxResend = 16;

  FlowControlStrategy unicastFlowControl = FlowControlStrategy::kMax;
  FlowControlStrategy multicastFlowControl = FlowControlStrategy::kMax;
  int32_t flowControlGroupMinSize = 0;
  int64_t flowControlGroupTag = -1;
  int64_t flowControlReceiverTimeoutNs = 5 * kSecondNs;
  bool hasReceiverGroupTag = false;
  int64_t receiverGroupTag = -1;
  InferableBoolean receiverGroupConsideration = InferableBoolean::kInfer;
  bool spiesSimulateConnection = false;
  bool rejoinStream = true;
  bool reliableStream = true;
  bool tetherSubscriptions = true;
  CongestionControlKind congestionControl = CongestionControlKind::kStatic;

  int32_t publicationReservedSessionIdLow = -1;
  int32_t publicationReservedSessionIdHigh = 1000;
  PortRange senderPorts;
  PortRange receiverPorts;
  bool terminationAllowed = false;  // DRIVER_TERMINATION_VALIDATOR=allow
  bool printConfiguration = false;
  uint64_t randomSeed = 0;  // 0: from the clock at start; session ids, receiver ids, back-off
};

// What `config` says to a backend.
io::BackendOptions backendOptionsOf(const DriverConfig& config);

}  // namespace outrigger::driver
