// SPDX-License-Identifier: Apache-2.0
// Offering of batches: see batch_publisher.h.
#include "client/batch_publisher.h"

#include <algorithm>

namespace outrigger::client {
namespace {

// An admin action is over within a few tries, unless a publisher of another process died in the middle of a rotation: then the stream is
// back pressured until the driver unblocks it.
constexpr int32_t kMaxAdminActions = 1000;

OfferStatus statusOf(int64_t result) {
  if (result >= 0) return OfferStatus::kAccepted;
  switch (result) {
    case kOfferNotConnected:
      return OfferStatus::kNotConnected;
    case kOfferClosed:
      return OfferStatus::kClosed;
    case kOfferMaxPositionExceeded:
      return OfferStatus::kMaxPositionExceeded;
    case kOfferMessageTooLong:
      return OfferStatus::kMessageTooLong;
    default:
      return OfferStatus::kBackPressured;
  }
}

uint64_t totalBytes(const MessagePart* messages, uint32_t count) {
  uint64_t bytes = 0;
  for (uint32_t i = 0; i < count; ++i) bytes += static_cast<uint64_t>(messages[i].length);
  return bytes;
}

}  // namespace

int64_t BatchPublisher::position() {
  if (shared_) return shared_->position();
  const std::lock_guard<std::mutex> lock(mutex_);
  return exclusive_->position();
}

OfferOutcome BatchPublisher::offer(const MessagePart* messages, size_t count) {
  if (count == 0) return {};
  OfferOutcome outcome = exclusive_ ? offerExclusive(messages, count) : offerConcurrent(messages, count);
  outcome.bytes = totalBytes(messages, outcome.accepted);
  return outcome;
}

OfferOutcome BatchPublisher::offerExclusive(const MessagePart* messages, size_t count) {
  const std::lock_guard<std::mutex> lock(mutex_);
  OfferOutcome outcome;
  const ManyResult many = exclusive_->offerMany(messages, static_cast<int32_t>(std::min<size_t>(count, INT32_MAX)));
  outcome.accepted = static_cast<uint32_t>(many.accepted);
  outcome.position = many.position;
  outcome.status = statusOf(many.result);
  return outcome;
}

OfferOutcome BatchPublisher::offerConcurrent(const MessagePart* messages, size_t count) {
  OfferOutcome outcome;
  int32_t adminActions = 0;
  while (outcome.accepted < count) {
    const MessagePart& next = messages[outcome.accepted];
    const int64_t result = shared_->offer(next.data, next.length, Wake::kLater);
    if (result >= 0) {
      outcome.position = result;
      ++outcome.accepted;
      adminActions = 0;
    } else if (result != kOfferAdminAction || ++adminActions > kMaxAdminActions) {
      outcome.status = statusOf(result);
      break;
    }
  }
  if (outcome.accepted > 0) shared_->ring();
  return outcome;
}

}  // namespace outrigger::client
