// SPDX-License-Identifier: Apache-2.0
// The conductor step of MediaClient: answers and images from the driver, keepalive, liveness of the driver. Every length in a response is
// checked against the record before use.
#include <algorithm>

#include "client/media_client.h"

namespace outrigger::client {
namespace {

constexpr int32_t kResponsesPerStep = 64;
constexpr int64_t kHangUpCheckNs = 100'000'000;

template <typename Record>
bool readRecord(const uint8_t* message, int32_t length, Record& record) {
  if (length < static_cast<int32_t>(sizeof(Record))) return false;
  std::memcpy(&record, message, sizeof(Record));
  return true;
}

// A text of `textLength` bytes at `offset`; empty when it does not fit.
std::string textAt(const uint8_t* message, int32_t length, int32_t offset, int32_t textLength) {
  if (textLength <= 0 || offset < 0 || offset > length || textLength > length - offset) return {};
  return {reinterpret_cast<const char*>(message + offset), static_cast<size_t>(textLength)};
}

ImageEndReason endReasonOf(const Image& image) {
  if (image.isRevoked()) return ImageEndReason::kRevoked;
  return image.isEndOfStream() ? ImageEndReason::kEndOfStream : ImageEndReason::kTimedOut;
}

}  // namespace

int32_t MediaClient::doWork(int64_t nowNs, int64_t nowMs) {
  const std::lock_guard<std::mutex> step(stepMutex_);
  if (isClosed() || isDriverLost()) return 0;
  Calls calls;
  int32_t work = 0;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (; work < kResponsesPerStep && !isDriverLost(); ++work) {
      int32_t type = 0;
      int32_t length = 0;
      const auto status = responses_.receive(type, scratch_.data(), static_cast<int32_t>(scratch_.size()), length);
      if (status == cnc::BroadcastReceiver::Status::kNothing) break;
      if (status == cnc::BroadcastReceiver::Status::kLapped) {
        lose("responses of the driver were overwritten before this client read them; call doWork more often", calls);
        break;
      }
      onResponse(type, scratch_.data(), length, calls);
    }
    if (!isDriverLost() && nowNs >= nextHangUpCheckNs_) {
      nextHangUpCheckNs_ = nowNs + kHangUpCheckNs;
      if (memory_->driverHungUp()) lose("the driver process ended", calls);
    }
    if (!isDriverLost() && nowNs >= nextKeepaliveNs_) {
      nextKeepaliveNs_ = nowNs + options_.keepaliveIntervalNs;
      keepalive(nowMs, calls);
    }
    if (!isDriverLost()) checkTimeouts(nowNs);
  }
  for (const auto& call : calls) call();
  return work;
}

void MediaClient::onResponse(int32_t type, const uint8_t* message, int32_t length, Calls& calls) {
  switch (static_cast<cnc::Response>(type)) {
    case cnc::Response::kPublicationReady:
      return onPublicationReady(message, length, false);
    case cnc::Response::kExclusivePublicationReady:
      return onPublicationReady(message, length, true);
    case cnc::Response::kSubscriptionReady:
      return onSubscriptionReady(message, length);
    case cnc::Response::kAvailableImage:
      return onImageReady(message, length, calls);
    case cnc::Response::kUnavailableImage:
      return onImageUnavailable(message, length, calls);
    case cnc::Response::kError:
      return onErrorResponse(message, length, calls);
    case cnc::Response::kPublicationError:
      return onPublicationError(message, length, calls);
    case cnc::Response::kCounterReady:
    case cnc::Response::kStaticCounter:
      return onCounterReady(message, length);
    case cnc::Response::kOperationSuccess: {
      cnc::OperationSucceeded record{};
      if (!readRecord(message, length, record)) return;
      if (Pending* pending = findPending(record.correlationId, Kind::kOperation)) {
        pending->status.state = CommandStatus::State::kSucceeded;
        pending->status.value = record.correlationId;
      }
      return;
    }
    case cnc::Response::kClientTimeout: {
      cnc::ClientTimeout record{};
      if (readRecord(message, length, record) && record.clientId == clientId()) {
        lose("the driver timed this client out: no keepalive reached it in time", calls);
      }
      return;
    }
    case cnc::Response::kUnavailableCounter:
    case cnc::Response::kNextAvailableSessionId:
      return;
  }
}

MediaClient::Pending* MediaClient::findPending(int64_t correlationId, Kind kind) {
  const auto found = pending_.find(correlationId);
  if (found == pending_.end() || found->second.kind != kind || found->second.status.done()) return nullptr;
  return &found->second;
}

void MediaClient::onPublicationReady(const uint8_t* message, int32_t length, bool exclusive) {
  cnc::PublicationReady record{};
  if (!readRecord(message, length, record)) return;
  Pending* pending = findPending(record.correlationId, exclusive ? Kind::kExclusivePublication : Kind::kPublication);
  if (pending == nullptr) {
    if (abandoned_.erase(record.correlationId) > 0) {
      commands_.removePublication(commands_.nextCorrelationId(), record.correlationId, false);
    }
    return;
  }
  const std::string path = textAt(message, length, sizeof(record), record.logFileLength);
  auto mapping = LogMapping::open(path, options_.directory);
  int64_t* limit = memory_->counterValue(record.positionLimitCounterId);
  if (!mapping || limit == nullptr) {
    fail(*pending, CommandStatus::Failure::kRefused, ErrorCode::kGeneric,
         mapping ? "the driver named position limit counter " + std::to_string(record.positionLimitCounterId) + ", which does not exist"
                 : mapping.error().message);
    commands_.removePublication(commands_.nextCorrelationId(), record.correlationId, false);
    return;
  }
  PublicationParams params;
  params.memory = memory_;
  params.mapping = mapping.take();
  params.channel = pending->channel;
  params.registrationId = record.correlationId;
  params.originalRegistrationId = record.registrationId;
  params.sessionId = record.sessionId;
  params.streamId = record.streamId;
  params.channelStatusId = record.channelStatusCounterId;
  params.positionLimit = limit;
  if (exclusive) {
    pending->exclusive = std::make_shared<ExclusivePublication>(std::move(params));
    publications_[record.correlationId] = pending->exclusive;
  } else {
    pending->publication = std::make_shared<Publication>(std::move(params));
    publications_[record.correlationId] = pending->publication;
  }
  pending->status.state = CommandStatus::State::kSucceeded;
}

void MediaClient::onSubscriptionReady(const uint8_t* message, int32_t length) {
  cnc::SubscriptionReady record{};
  if (!readRecord(message, length, record)) return;
  Pending* pending = findPending(record.correlationId, Kind::kSubscription);
  if (pending == nullptr) {
    if (abandoned_.erase(record.correlationId) > 0) {
      commands_.removeSubscription(commands_.nextCorrelationId(), record.correlationId);
    }
    return;
  }
  pending->subscription =
      std::make_shared<Subscription>(memory_, pending->channel, pending->streamId, record.correlationId, record.channelStatusCounterId);
  subscriptions_[record.correlationId] = {pending->subscription, std::move(pending->onAvailable), std::move(pending->onUnavailable)};
  pending->status.state = CommandStatus::State::kSucceeded;
}

void MediaClient::onImageReady(const uint8_t* message, int32_t length, Calls& calls) {
  cnc::ImageReady record{};
  if (!readRecord(message, length, record)) return;
  const auto found = subscriptions_.find(record.subscriberRegistrationId);
  if (found == subscriptions_.end()) return;  // of another client
  int32_t offset = sizeof(record);
  if (length - offset < 4) return;
  const auto pathLength = readAt<int32_t>(message, static_cast<size_t>(offset));
  offset += 4;
  if (pathLength <= 0 || pathLength > length - offset) return;
  const std::string path = textAt(message, length, offset, pathLength);
  offset += std::min(alignUp<int32_t>(pathLength, 4), length - offset);
  std::string source;
  if (length - offset >= 4) {
    source = textAt(message, length, offset + 4, readAt<int32_t>(message, static_cast<size_t>(offset)));
  }
  const SubscriptionEntry& entry = found->second;
  auto mapping = LogMapping::open(path, options_.directory);
  int64_t* position = memory_->counterValue(record.subscriberPositionId);
  if (!mapping || position == nullptr) {
    // An image that can't be read would hold its publisher back for ever, and its messages would be missing without a word.
    entry.subscription->closeAll(ImageEndReason::kClosed);
    commands_.removeSubscription(commands_.nextCorrelationId(), record.subscriberRegistrationId);
    subscriptions_.erase(found);
    return reportError(mapping ? makeError(ErrorCode::kGeneric, "the driver named subscriber position counter " +
                                                                    std::to_string(record.subscriberPositionId) + ", which does not exist")
                               : mapping.error(),
                       calls);
  }
  const std::string& channel = entry.subscription->channel();
  ImageParams params;
  params.memory = memory_;
  params.mapping = mapping.take();
  params.correlationId = record.correlationId;
  params.subscriptionRegistrationId = record.subscriberRegistrationId;
  params.sessionId = record.sessionId;
  params.streamId = record.streamId;
  params.subscriberPositionId = record.subscriberPositionId;
  params.subscriberPosition = position;
  params.sourceIdentity = std::move(source);
  params.reliable = channel.find("reliable=false") == std::string::npos;
  const bool ipc = channel.starts_with("aeron:ipc");
  const bool spy = channel.starts_with("aeron-spy:");
  params.local = ipc || spy;
  // Who moves the publisher limit behind this image: the conductor for IPC, the sender for a spied publication, the receiver else.
  params.consumer = ipc ? cnc::AgentId::kConductor : spy ? cnc::AgentId::kSender : cnc::AgentId::kReceiver;
  auto image = std::make_shared<Image>(std::move(params));
  entry.subscription->addImage(image);
  if (entry.onAvailable) {
    calls.push_back([handler = entry.onAvailable, subscription = entry.subscription, image] { handler(*subscription, image); });
  }
}

void MediaClient::onImageUnavailable(const uint8_t* message, int32_t length, Calls& calls) {
  cnc::ImageUnavailable record{};
  if (!readRecord(message, length, record)) return;
  const auto found = subscriptions_.find(record.subscriptionRegistrationId);
  if (found == subscriptions_.end()) return;
  const SubscriptionEntry& entry = found->second;
  const std::shared_ptr<Image> image = entry.subscription->removeImage(record.correlationId);
  if (!image) return;
  image->close(endReasonOf(*image));
  if (entry.onUnavailable) {
    calls.push_back([handler = entry.onUnavailable, subscription = entry.subscription, image] { handler(*subscription, image); });
  }
}

void MediaClient::onErrorResponse(const uint8_t* message, int32_t length, Calls& calls) {
  cnc::ErrorResponse record{};
  if (!readRecord(message, length, record)) return;
  std::string text = textAt(message, length, sizeof(record), record.messageLength);
  const auto code = static_cast<ErrorCode>(record.errorCode);
  // For a channel that fails the driver names its status counter instead of a command.
  if (code == ErrorCode::kChannelEndpointError) return reportError(makeError(code, std::move(text)), calls);
  const auto found = pending_.find(record.offendingCorrelationId);
  if (found != pending_.end() && !found->second.status.done()) {
    fail(found->second, CommandStatus::Failure::kRefused, code, std::move(text));
  }
}

void MediaClient::onPublicationError(const uint8_t* message, int32_t length, Calls& calls) {
  cnc::PublicationErrorResponse record{};
  if (!readRecord(message, length, record)) return;
  const bool ours = std::any_of(publications_.begin(), publications_.end(),
                                [&](const auto& entry) { return entry.second->originalRegistrationId() == record.registrationId; });
  if (!ours) return;
  reportError(makeError(static_cast<ErrorCode>(record.errorCode), textAt(message, length, sizeof(record), record.messageLength)), calls);
}

void MediaClient::onCounterReady(const uint8_t* message, int32_t length) {
  cnc::CounterUpdate record{};
  if (!readRecord(message, length, record)) return;
  Pending* pending = findPending(record.correlationId, Kind::kCounter);
  if (pending == nullptr) return;
  if (memory_->counterValue(record.counterId) == nullptr) {
    return fail(*pending, CommandStatus::Failure::kRefused, ErrorCode::kGeneric,
                "the driver named counter " + std::to_string(record.counterId) + ", which does not exist");
  }
  pending->status.state = CommandStatus::State::kSucceeded;
  pending->status.value = record.counterId;
}

void MediaClient::reportError(Error error, Calls& calls) {
  if (options_.onError) calls.push_back([handler = options_.onError, error = std::move(error)] { handler(error); });
}

// ---- liveness ----

void MediaClient::keepalive(int64_t nowMs, Calls& calls) {
  const int64_t heartbeatMs = commands_.consumerHeartbeatMs();
  if (heartbeatMs < 0) return lose("the driver closed", calls);
  if (nowMs - heartbeatMs > options_.driverTimeoutNs / 1'000'000) {
    return lose("no heartbeat of the driver for " + std::to_string(nowMs - heartbeatMs) + " ms", calls);
  }
  if (!memory_->isCurrent()) return lose("the driver was restarted or its directory was removed", calls);
  if (!refreshHeartbeat(nowMs)) return lose("the driver timed this client out: its heartbeat counter is gone", calls);
}

bool MediaClient::refreshHeartbeat(int64_t nowMs) {
  const cnc::CncRegions& regions = memory_->regions();
  const auto isOurs = [&](size_t id) {
    const uint8_t* metadata = regions.countersMetadata.data + id * cnc::kCounterMetadataLength;
    return loadAcquire<int32_t>(metadata + cnc::counter_meta::kState) == cnc::kCounterAllocated &&
           loadRelaxed<int32_t>(metadata + cnc::counter_meta::kTypeId) == cnc::counter_type::kClientHeartbeat &&
           readAt<int64_t>(metadata, cnc::counter_meta::kKey) == clientId();
  };
  if (heartbeatCounterId_ >= 0) {
    if (!isOurs(static_cast<size_t>(heartbeatCounterId_))) return false;
    storeRelease<int64_t>(memory_->counterValue(heartbeatCounterId_), nowMs);
    return true;
  }
  const size_t count =
      std::min(regions.countersMetadata.length / cnc::kCounterMetadataLength, regions.countersValues.length / cnc::kCounterValueLength);
  for (size_t id = 0; id < count; ++id) {
    const uint8_t* metadata = regions.countersMetadata.data + id * cnc::kCounterMetadataLength;
    if (loadAcquire<int32_t>(metadata + cnc::counter_meta::kState) == cnc::kCounterUnused) break;
    if (!isOurs(id)) continue;
    heartbeatCounterId_ = static_cast<int32_t>(id);
    storeRelease<int64_t>(memory_->counterValue(heartbeatCounterId_), nowMs);
    return true;
  }
  commands_.keepalive();
  return true;
}

void MediaClient::checkTimeouts(int64_t nowNs) {
  for (auto& [correlationId, pending] : pending_) {
    if (pending.status.done()) continue;
    if (pending.deadlineNs == 0) {
      pending.deadlineNs = nowNs + options_.commandTimeoutNs;
    } else if (nowNs >= pending.deadlineNs) {
      if (pending.kind != Kind::kOperation && pending.kind != Kind::kCounter) abandoned_.insert(correlationId);
      fail(pending, CommandStatus::Failure::kTimeout, ErrorCode::kGeneric,
           "the driver did not answer within " + std::to_string(options_.commandTimeoutNs / 1'000'000) + " ms" +
               (pending.channel.empty() ? std::string() : " (channel '" + pending.channel + "')"));
    }
  }
}

void MediaClient::closeEverything(ImageEndReason reason, CommandStatus::Failure failure, const std::string& message, Calls* calls) {
  std::unique_lock<std::mutex> lock(mutex_, std::defer_lock);
  if (calls == nullptr) lock.lock();  // a conductor step holds it already
  for (const auto& [id, publication] : publications_) publication->markClosed();
  publications_.clear();
  for (const auto& [id, entry] : subscriptions_) {
    for (const auto& image : entry.subscription->closeAll(reason)) {
      if (calls != nullptr && entry.onUnavailable) {
        calls->push_back([handler = entry.onUnavailable, subscription = entry.subscription, image] { handler(*subscription, image); });
      }
    }
  }
  subscriptions_.clear();
  for (auto& [id, pending] : pending_) {
    if (!pending.status.done()) fail(pending, failure, ErrorCode::kResourceTemporarilyUnavailable, message);
  }
}

void MediaClient::lose(const std::string& reason, Calls& calls) {
  lost_.store(true, std::memory_order_release);
  lostReason_ = reason;
  closeEverything(ImageEndReason::kDriverLost, CommandStatus::Failure::kDriverLost,
                  "the driver of '" + options_.directory + "' is lost: " + reason, &calls);
  if (options_.onDriverLost) calls.push_back([handler = options_.onDriverLost, reason] { handler(reason); });
}

}  // namespace outrigger::client
