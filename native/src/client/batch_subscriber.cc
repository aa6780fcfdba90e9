// SPDX-License-Identifier: Apache-2.0
// Delivery of messages and events to one subscriber: see batch_subscriber.h.
#include "client/batch_subscriber.h"

#include <algorithm>

namespace outrigger::client {
namespace {

// Fragments of one image in a row: enough to fill a batch's worth of small messages, few enough that credit and other images get their turn.
constexpr int32_t kFragmentsPerTurn = 256;
// Written and not taken yet; then the poll thread stops, and through the image's position so does the publisher.
constexpr size_t kMinFullBytes = 256 * 1024;
constexpr size_t kMaxFullBytes = 4 * 1024 * 1024;
// A skipping subscriber hears of its gaps at once, then this often while it has no credit.
constexpr int64_t kGapReportNs = 500'000'000;
// A waiting one hears of its lag after this, then each time the wait has doubled.
constexpr int64_t kFirstLagNs = 1'000'000'000;
constexpr size_t kMaxEnded = 256;
constexpr int64_t kMaxCreditBytes = INT64_MAX / 2;

ImageEndCode endCode(ImageEndReason reason) {
  switch (reason) {
    case ImageEndReason::kEndOfStream:
      return ImageEndCode::kEndOfStream;
    case ImageEndReason::kRevoked:
      return ImageEndCode::kRevoked;
    case ImageEndReason::kDriverLost:
      return ImageEndCode::kDriverLost;
    default:
      return ImageEndCode::kTimedOut;
  }
}

}  // namespace

BatchSubscriber::BatchSubscriber(SubscriberOptions options)
    : options_(options), fullBytes_(std::clamp(2 * options.maxBatchBytes, kMinFullBytes, kMaxFullBytes)) {}

void BatchSubscriber::addCredit(uint64_t messages, uint64_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  creditMessages_ = messages > UINT64_MAX - creditMessages_ ? UINT64_MAX : creditMessages_ + messages;
  const int64_t more = bytes > static_cast<uint64_t>(kMaxCreditBytes) ? kMaxCreditBytes : static_cast<int64_t>(bytes);
  creditBytes_ = std::min(kMaxCreditBytes, creditBytes_ + more);
}

SubscriberStats BatchSubscriber::stats() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return taken_;
}

bool BatchSubscriber::hasResponses() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return !chunk_.empty();
}

bool BatchSubscriber::take(ResponseChunk& out, bool* wasFull) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (chunk_.empty()) return false;
  if (wasFull != nullptr) *wasFull = isFull();
  chunk_.seal();
  taken_.messages += chunk_.messages();
  taken_.bytes += chunk_.payloadBytes();
  std::swap(out, chunk_);
  return true;
}

// ---- images ----

void BatchSubscriber::onAvailable(const std::shared_ptr<Image>& image) {
  Reading reading;
  reading.image = image;
  reading.delivered = image->joinPosition();
  readings_.push_back(std::move(reading));
  const std::lock_guard<std::mutex> lock(mutex_);
  taken_.images = static_cast<uint32_t>(readings_.size());
  chunk_.addImageAvailable(image->sessionId(), image->joinPosition(), image->sourceIdentity());
  const auto before = std::find_if(ended_.begin(), ended_.end(), [&](const Ended& each) { return each.sessionId == image->sessionId(); });
  if (before == ended_.end()) return;
  if (before->position != image->joinPosition()) {
    addGap(image->sessionId(), before->position, image->joinPosition(), 0, GapCode::kRejoined);
  }
  ended_.erase(before);
}

void BatchSubscriber::onUnavailable(const std::shared_ptr<Image>& image, int64_t nowNs) {
  const auto found = std::find_if(readings_.begin(), readings_.end(), [&](const Reading& each) { return each.image == image; });
  if (found == readings_.end()) return;
  Reading reading = std::move(*found);
  readings_.erase(found);
  const ImageEndReason reason = image->endReason();
  const std::lock_guard<std::mutex> lock(mutex_);
  taken_.images = static_cast<uint32_t>(readings_.size());
  if (reading.skipped > 0) sayGap(reading, nowNs);
  // The end of the driver ends the whole subscription, which says so once; who opened it knows where each image stood.
  if (reason == ImageEndReason::kDriverLost || reason == ImageEndReason::kClosed) return;
  chunk_.addImageUnavailable(image->sessionId(), reading.delivered, endCode(reason));
  if (reason == ImageEndReason::kEndOfStream) return;
  if (ended_.size() >= kMaxEnded) ended_.pop_front();
  ended_.push_back({image->sessionId(), reading.delivered});
}

void BatchSubscriber::addGap(int32_t sessionId, int64_t from, int64_t to, uint64_t messages, GapCode reason) {
  chunk_.addGap(sessionId, from, to, messages, reason);
  ++taken_.gaps;
}

void BatchSubscriber::sayGap(Reading& reading, int64_t nowNs) {
  addGap(reading.image->sessionId(), reading.skippedFrom, reading.delivered, reading.skipped, GapCode::kSkipped);
  reading.skipped = 0;
  reading.gapSaidNs = nowNs;
}

// ---- polling ----

int32_t BatchSubscriber::poll(int64_t nowNs) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (slow_) return 0;
  if (!hasCredit() && options_.policy != SlowPolicy::kSkip) return waitForCredit(nowNs) ? 1 : 0;
  waiting_ = false;
  int32_t work = 0;
  const size_t count = readings_.size();
  if (next_ >= count) next_ = 0;
  const size_t first = next_;
  for (size_t i = 0; i < count && !isFull(); ++i) {
    const size_t index = first + i < count ? first + i : first + i - count;
    work += pollImage(readings_[index], nowNs);
  }
  ++next_;
  return work;
}

int32_t BatchSubscriber::pollImage(Reading& reading, int64_t nowNs) {
  Image& image = *reading.image;
  const int64_t before = image.position();
  const auto onFragment = [&](const uint8_t* data, int32_t length, const FragmentHeader& header) {
    return image.assembler().onFragment(data, length, header,
                                        [&](const uint8_t* message, int32_t messageLength, const FragmentHeader& last) {
                                          if (reading.skipped > 0 && hasCredit()) sayGap(reading, nowNs);
                                          return deliver(reading, message, messageLength, last);
                                        });
  };
  const auto onPad = [&](int64_t startPosition, int32_t length, bool atTermEnd) {
    // At the end of a term a PAD is what every rotation leaves.
    if (options_.reliable || atTermEnd) return;
    if (reading.skipped > 0) sayGap(reading, nowNs);
    addGap(image.sessionId(), startPosition, startPosition + length, 0, GapCode::kUnreliableLoss);
  };
  image.pollFrames(onFragment, onPad, kFragmentsPerTurn);
  image.ringConsumption();
  damaged_ = damaged_ || image.isDamaged();
  if (reading.skipped > 0 && (reading.gapSaidNs == INT64_MIN || nowNs - reading.gapSaidNs >= kGapReportNs)) sayGap(reading, nowNs);
  return image.position() > before ? 1 : 0;
}

PollAction BatchSubscriber::deliver(Reading& reading, const uint8_t* message, int32_t length, const FragmentHeader& header) {
  if (!hasCredit()) {
    if (options_.policy != SlowPolicy::kSkip) return PollAction::kAbort;
    if (reading.skipped == 0) reading.skippedFrom = reading.delivered;
    ++reading.skipped;
    ++taken_.skipped;
    reading.delivered = header.position;
    return PollAction::kContinue;
  }
  const Image& image = *reading.image;
  chunk_.addMessage(image.sessionId(), image.streamId(), header.position, message, static_cast<size_t>(length), options_.maxBatchBytes);
  --creditMessages_;
  creditBytes_ -= length;
  reading.delivered = header.position;
  return isFull() ? PollAction::kBreak : PollAction::kContinue;
}

bool BatchSubscriber::anyImageHasWork() const {
  return std::any_of(readings_.begin(), readings_.end(), [](const Reading& each) { return each.image->hasWork(); });
}

bool BatchSubscriber::waitForCredit(int64_t nowNs) {
  if (!waiting_) {
    if (!anyImageHasWork()) return false;
    waiting_ = true;
    waitingSinceNs_ = nowNs;
    lagSaidNs_ = 0;
    return true;
  }
  const int64_t waitedNs = nowNs - waitingSinceNs_;
  if (options_.policy == SlowPolicy::kDisconnectAfter && waitedNs >= options_.disconnectAfterNs) {
    slow_ = true;
    return true;
  }
  if (waitedNs < std::max(kFirstLagNs, 2 * lagSaidNs_)) return false;
  lagSaidNs_ = waitedNs;
  chunk_.addLagging(static_cast<uint32_t>(std::min<int64_t>(waitedNs / 1'000'000, UINT32_MAX)));
  return true;
}

bool BatchSubscriber::hasWork() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (slow_ || isFull()) return false;
  if (!hasCredit() && options_.policy != SlowPolicy::kSkip) return !waiting_ && anyImageHasWork();
  return anyImageHasWork();
}

int64_t BatchSubscriber::nextDeadlineNs() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (slow_) return INT64_MAX;
  int64_t deadline = INT64_MAX;
  for (const Reading& reading : readings_) {
    if (reading.skipped > 0) deadline = std::min(deadline, reading.gapSaidNs + kGapReportNs);
  }
  if (!waiting_) return deadline;
  deadline = std::min(deadline, waitingSinceNs_ + std::max(kFirstLagNs, 2 * lagSaidNs_));
  if (options_.policy == SlowPolicy::kDisconnectAfter) deadline = std::min(deadline, waitingSinceNs_ + options_.disconnectAfterNs);
  return deadline;
}

}  // namespace outrigger::client
