// SPDX-License-Identifier: Apache-2.0
// Offers the messages of an encoded batch to a publication of either kind, message by message, with one wake at the end. Any thread: offers
// to an exclusive publication follow one another.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>

#include "client/batch_codec.h"
#include "client/publication.h"

namespace outrigger::client {

// Numbers of outrigger.v1.PublishStatus.
enum class OfferStatus : uint8_t {
  kAccepted = 1,
  kBackPressured = 2,
  kNotConnected = 3,
  kClosed = 4,
  kMaxPositionExceeded = 5,
  kMessageTooLong = 6,
};

struct OfferOutcome {
  OfferStatus status = OfferStatus::kAccepted;
  uint32_t accepted = 0;  // leading messages, from the first one offered
  int64_t position = 0;   // after the last accepted message, 0 when none was
  uint64_t bytes = 0;     // payload of the accepted messages
};

class BatchPublisher {
 public:
  explicit BatchPublisher(std::shared_ptr<Publication> publication) : shared_(std::move(publication)), base_(shared_.get()) {}
  explicit BatchPublisher(std::shared_ptr<ExclusivePublication> publication)
      : exclusive_(std::move(publication)), base_(exclusive_.get()) {}

  const PublicationBase& publication() const { return *base_; }
  const std::shared_ptr<Publication>& concurrent() const { return shared_; }
  const std::shared_ptr<ExclusivePublication>& exclusive() const { return exclusive_; }
  // kOfferClosed when closed.
  int64_t position();

  // Offers until one message is not taken. An empty batch is accepted whatever the state.
  OfferOutcome offer(const MessagePart* messages, size_t count);

 private:
  OfferOutcome offerExclusive(const MessagePart* messages, size_t count);
  OfferOutcome offerConcurrent(const MessagePart* messages, size_t count);

  std::shared_ptr<Publication> shared_;
  std::shared_ptr<ExclusivePublication> exclusive_;
  PublicationBase* base_;
  std::mutex mutex_;
};

}  // namespace outrigger::client
