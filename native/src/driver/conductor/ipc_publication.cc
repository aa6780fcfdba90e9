// SPDX-License-Identifier: Apache-2.0
// Limits, cleaning and unblocking of an IPC publication. Subscriber positions are written by clients: each is bounded before use.
#include "driver/conductor/ipc_publication.h"

#include <algorithm>

#include "logbuffer/term_ops.h"

namespace outrigger::driver {
namespace {

namespace meta = logbuffer::meta;
// Zeroing of one duty cycle: the conductor has other work.
constexpr int64_t kCleanChunk = 1024 * 1024;
// The limit moves once consumers are this part of the window further (Aeron's trip gain), so that it is not written for every message.
constexpr int64_t kTripsPerWindow = 8;

}  // namespace

IpcPublication::IpcPublication(const IpcPublicationParams& params, MappedFile logFile, std::string logFileName,
                               const cnc::Counter& publisherLimit, const cnc::Counter& publisherPosition)
    : params_(params),
      logFile_(std::move(logFile)),
      logFileName_(std::move(logFileName)),
      log_(logFile_.data(), params.termLength, logFile_.length()),
      publisherLimit_(publisherLimit),
      publisherPosition_(publisherPosition),
      backedPosition_(params.backedPosition),
      wantedMemory_(params.backedPosition) {
  startPosition_ = logbuffer::computePosition(params.startTermId, params.startTermOffset, log_.bits(), params.initialTermId);
  consumerPosition_ = startPosition_;
  lastConsumerPosition_ = startPosition_;
  cleanPosition_ = startPosition_;
  limit_ = startPosition_;
  tripLimit_ = startPosition_;
  publisherLimit_.set(startPosition_);
  publisherPosition_.set(startPosition_);
}

int64_t IpcPublication::positionOf(const cnc::Counter& subscriber, int64_t producer) const {
  return std::clamp(subscriber.get(), startPosition_, std::max(producer, startPosition_));
}

int64_t IpcPublication::joinPosition() const {
  const int64_t producer = producerPosition();
  int64_t position = consumerPosition_;
  for (const cnc::Counter& subscriber : subscribers_) position = std::min(position, positionOf(subscriber, producer));
  // What is cleaned already can't be read any more, whatever a subscriber's counter says.
  return std::max(position, cleanPosition_);
}

bool IpcPublication::isDrained() const {
  const int64_t producer = producerPosition();
  return std::all_of(subscribers_.begin(), subscribers_.end(),
                     [&](const cnc::Counter& subscriber) { return subscriber.get() >= producer; });
}

void IpcPublication::addSubscriber(const cnc::Counter& position) {
  subscribers_.push_back(position);
  log_.putRelease<int32_t>(meta::kActiveTransportCount, static_cast<int32_t>(subscribers_.size()));
  log_.putRelease<int32_t>(meta::kIsConnected, 1);
}

void IpcPublication::removeSubscriber(const cnc::Counter& position) {
  updateLimit();
  std::erase_if(subscribers_, [&](const cnc::Counter& subscriber) { return subscriber.id == position.id; });
  log_.putRelease<int32_t>(meta::kActiveTransportCount, static_cast<int32_t>(subscribers_.size()));
  if (subscribers_.empty()) log_.putRelease<int32_t>(meta::kIsConnected, 0);
}

void IpcPublication::cleanTo(int64_t position) {
  if (position <= cleanPosition_) return;
  const int32_t offset = logbuffer::termOffsetFromPosition(cleanPosition_, params_.termLength);
  const int64_t length = std::min({position - cleanPosition_, kCleanChunk, static_cast<int64_t>(params_.termLength) - offset});
  std::memset(log_.atPosition(cleanPosition_), 0, static_cast<size_t>(length));
  cleanPosition_ += length;
}

bool IpcPublication::updateLimit() {
  if (endOfStream_) return false;
  const int64_t producer = producerPosition();
  publisherPosition_.set(producer);
  if (subscribers_.empty()) {
    cleanTo(consumerPosition_);
    if (limit_ <= consumerPosition_) return false;
    limit_ = consumerPosition_;
    tripLimit_ = consumerPosition_;
    publisherLimit_.set(limit_);
    return false;
  }
  int64_t lowest = INT64_MAX;
  for (const cnc::Counter& subscriber : subscribers_) {
    const int64_t position = positionOf(subscriber, producer);
    lowest = std::min(lowest, position);
    consumerPosition_ = std::max(consumerPosition_, position);
  }
  cleanTo(std::min(lowest, consumerPosition_));
  const int64_t termLength = params_.termLength;
  const int64_t proposal = lowest + params_.windowLength;
  // One term ahead of the limit, asked for before it is needed.
  const int64_t wanted = ((proposal + termLength - 1) & ~(termLength - 1)) + termLength;
  wantedMemory_ = std::max(wantedMemory_, wanted);
  // A claim may run past the limit by one message a publisher: half a term in hand of what is clean, as over the network.
  const int64_t bounded = std::min({proposal, backedPosition_, cleanPosition_ + 3 * termLength - termLength / 2});
  if (bounded <= limit_ || (bounded <= tripLimit_ && bounded == proposal)) return false;
  limit_ = bounded;
  tripLimit_ = bounded + params_.windowLength / kTripsPerWindow;
  publisherLimit_.set(limit_);
  return true;
}

void IpcPublication::onTermBacked(int64_t position) { backedPosition_ = std::max(backedPosition_, position); }

bool IpcPublication::checkForBlockedPublisher(int64_t nowNs, int64_t timeoutNs) {
  // An exclusive publication has one writer, and its client's death closes it.
  if (params_.exclusive) return false;
  const bool stuck = consumerPosition_ == lastConsumerPosition_ && producerPosition() > consumerPosition_;
  if (!stuck || lastProgressNs_ == 0) {
    lastConsumerPosition_ = consumerPosition_;
    lastProgressNs_ = nowNs;
    return false;
  }
  if (nowNs - lastProgressNs_ <= timeoutNs) return false;
  lastProgressNs_ = nowNs;
  return unblockNow();
}

bool IpcPublication::unblockNow() {
  const int64_t producer = producerPosition();
  for (const cnc::Counter& subscriber : subscribers_) {
    consumerPosition_ = std::max(consumerPosition_, positionOf(subscriber, producer));
  }
  return producer > consumerPosition_ && logbuffer::unblockLog(log_, consumerPosition_, params_.initialTermId);
}

void IpcPublication::signalEndOfStream(bool revoke) {
  if (endOfStream_) return;
  endOfStream_ = true;
  const int64_t position = producerPosition();
  publisherLimit_.set(position);
  log_.putRelease<int64_t>(meta::kEndOfStreamPosition, position);
  if (revoke) log_.putRelease<uint8_t>(meta::kIsPublicationRevoked, 1);
}

}  // namespace outrigger::driver
