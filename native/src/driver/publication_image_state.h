// SPDX-License-Identifier: Apache-2.0
// The receiver's private state of an image. Only publication_image.cc, publication_image_inserting.cc and publication_image_control.cc touch it.
#pragma once

#include <cstdint>
#include <memory>

#include "driver/congestion_control.h"
#include "driver/loss_detector.h"
#include "driver/publication_image.h"

namespace outrigger::driver {

struct PublicationImage::ReceiverState {
  static constexpr size_t kExpectedSubscribers = 256;  // more of them cost an allocation on the command, nothing else

  explicit ReceiverState(const LossDetectorConfig& config) : detector(config) {}

  // Memory rule: the four bytes at the start of every hole and at the high-water mark are zero, so a reader that walks frames stops there.
  // All else above the mark may still hold frames of three terms ago: what is inserted overwrites them, what is skipped is zeroed.
  int64_t highWaterMark = 0;
  int64_t rebuildPosition = 0;      // everything below is whole
  int64_t backedPosition = 0;       // memory exists up to here
  int64_t fullyBackedPosition = 0;  // once memory exists up to here, all of the file has it
  int64_t requestedPosition = 0;
  int64_t lastTermRequestNs = 0;
  int64_t consumed = 0;        // lowest subscriber position, never falling
  int64_t statusPosition = 0;  // of the last status message
  int32_t statusWindow = 0;
  int64_t lastStatusNs = 0;   // 0: none yet
  int64_t statusRetryNs = 0;  // a full socket: not before
  int64_t endOfStreamPosition = INT64_MAX;
  int64_t stateChangeNs = 0;
  int32_t endMessages = 0;  // status messages with EOS sent
  int64_t lostBytes = 0;    // not yet reported
  int64_t lastLossReportNs = 0;
  int64_t lastRttRequestNs = 0;
  int32_t rttRequests = 0;  // since the last answer
  int64_t lastErrorFrameNs = 0;
  int64_t lastSetupAnswerNs = 0;
  io::SockAddr control;  // where status messages and NAKs go
  LossDetector detector;
  std::unique_ptr<CongestionControl> congestionControl;
  bool interested = true;
  bool rejected = false;
  int64_t stuckPosition = -1;  // of the first hole, and since when it is the first
  int64_t stuckSinceNs = 0;
  bool lossFound = false;  // a hole since the last cycle
  bool statusForced = false;
  bool stateAnnounced = true;  // the conductor was told of the state it is in
  bool advanced = false;
};

}  // namespace outrigger::driver
