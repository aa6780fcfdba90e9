// SPDX-License-Identifier: Apache-2.0
// Everything a driver is configured with, with Aeron's defaults. Parsing from environment and flags: config_parser.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cnc/cnc_file.h"

namespace outrigger::driver {

constexpr int64_t kMicroNs = 1'000;
constexpr int64_t kMilliNs = 1'000'000;
constexpr int64_t kSecondNs = 1'000'000'000;

enum class ThreadingMode : uint8_t { kDedicated, kSharedNetwork, kShared, kInvoker };
enum class FlowControlStrategy : uint8_t { kMax, kMin, kTagged };
enum class InferableBoolean : uint8_t { kFalse, kTrue, kInfer };
enum class CongestionControlKind : uint8_t { kStatic, kCubic };

struct DriverConfig {
  std::string directory;  // AERON_DIR
  bool deleteDirectoryOnStart = false;
  bool deleteDirectoryOnShutdown = false;  // what the driver itself created is removed in any case
  ThreadingMode threadingMode = ThreadingMode::kShared;
  std::string backend = "mmsg";  // first of `backends` that opens
  std::vector<std::string> backends = {"mmsg", "socket"};
  std::string impair;  // impair layer specification, empty = none
  bool segmentationOffload = true;
  bool receiveCoalescing = true;
  mode_t fileMode = 0660;  // cnc.dat, logs, doorbells: clients may run under another UID of the directory's group

  cnc::CncSizes cncSizes;
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
  bool terminationAllowed = false;  // DRIVER_TERMINATION_VALIDATOR=allow
  bool printConfiguration = false;
  uint64_t randomSeed = 0;  // 0: from the clock at start; session ids, receiver ids, back-off
};

}  // namespace outrigger::driver
