// SPDX-License-Identifier: Apache-2.0
// A publication between processes of one host: no socket, the subscribers read the publisher's log. The conductor moves its limit, cleans
// what was consumed and unblocks dead publishers. Conductor thread only; clients share the log and the counters.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/fd.h"
#include "cnc/counters.h"
#include "logbuffer/descriptor.h"

namespace outrigger::driver {

struct IpcPublicationParams {
  int64_t registrationId = 0;
  int32_t sessionId = 0;
  int32_t streamId = 0;
  int32_t initialTermId = 0;
  int32_t startTermId = 0;
  int32_t startTermOffset = 0;
  int32_t termLength = 0;
  int32_t windowLength = 0;
  bool exclusive = false;
  int64_t backedPosition = 0;  // memory exists up to here
};

class IpcPublication {
 public:
  IpcPublication(const IpcPublicationParams& params, MappedFile logFile, std::string logFileName, const cnc::Counter& publisherLimit,
                 const cnc::Counter& publisherPosition);

  const IpcPublicationParams& params() const { return params_; }
  const logbuffer::LogBuffer& log() const { return log_; }
  const std::string& logFileName() const { return logFileName_; }
  uint64_t logFileLength() const { return logFile_.length(); }
  cnc::Counter& publisherLimit() { return publisherLimit_; }
  cnc::Counter& publisherPosition() { return publisherPosition_; }

  int64_t producerPosition() const { return log_.producerPosition(params_.initialTermId); }
  int64_t consumerPosition() const { return consumerPosition_; }
  // Where a subscriber that joins now starts: the lowest position that is still whole.
  int64_t joinPosition() const;
  // Every subscriber has read everything (also when there is none).
  bool isDrained() const;

  // The counter's value is the position from which the subscriber reads.
  void addSubscriber(const cnc::Counter& position);
  void removeSubscriber(const cnc::Counter& position);
  bool hasSubscribers() const { return !subscribers_.empty(); }

  // Once a duty cycle. True when the limit moved: publishers that wait may go on.
  bool updateLimit();
  // Memory must exist up to here before the limit may go on; at most backedPosition when all is there.
  int64_t wantedMemory() const { return wantedMemory_; }
  void onTermBacked(int64_t position);

  // A claim of a publisher that died: padded once the consumers stood still before it for the timeout. True when something was unblocked.
  bool checkForBlockedPublisher(int64_t nowNs, int64_t timeoutNs);
  // All publishers have closed, so whatever claim is left is dead.
  bool unblockNow();
  void signalEndOfStream(bool revoke);

 private:
  int64_t positionOf(const cnc::Counter& subscriber, int64_t producer) const;
  void cleanTo(int64_t position);

  IpcPublicationParams params_;
  MappedFile logFile_;
  std::string logFileName_;
  logbuffer::LogBuffer log_;
  cnc::Counter publisherLimit_;
  cnc::Counter publisherPosition_;
  std::vector<cnc::Counter> subscribers_;
  int64_t startPosition_ = 0;
  int64_t consumerPosition_ = 0;  // of the fastest subscriber so far
  int64_t cleanPosition_ = 0;     // consumed bytes below are zero again
  int64_t limit_ = 0;
  int64_t tripLimit_ = 0;  // the limit moves in steps: a proposal must pass this
  int64_t backedPosition_ = 0;
  int64_t wantedMemory_ = 0;
  int64_t lastConsumerPosition_ = 0;
  int64_t lastProgressNs_ = 0;
  bool endOfStream_ = false;
};

}  // namespace outrigger::driver
