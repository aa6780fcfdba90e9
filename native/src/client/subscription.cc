// SPDX-License-Identifier: Apache-2.0
// The image list of a subscription.
#include "client/subscription.h"

#include <algorithm>

namespace outrigger::client {

int64_t Subscription::channelStatus() const {
  const int64_t* value = memory_->counterValue(channelStatusId_);
  return value == nullptr ? cnc::kChannelStatusActive : loadAcquire<int64_t>(value);
}

std::vector<std::shared_ptr<Image>> Subscription::imagesSnapshot() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return images_;
}

bool Subscription::hasWork() {
  if (version_.load(std::memory_order_acquire) != polledVersion_) return true;
  return std::any_of(polled_.begin(), polled_.end(), [](const auto& image) { return image->hasWork(); });
}

void Subscription::synchronise() {
  const std::lock_guard<std::mutex> lock(mutex_);
  polled_ = images_;
  polledVersion_ = version_.load(std::memory_order_relaxed);
}

void Subscription::addImage(std::shared_ptr<Image> image) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (isClosed()) return image->close(ImageEndReason::kClosed);
  images_.push_back(std::move(image));
  imageCount_.store(static_cast<int32_t>(images_.size()), std::memory_order_release);
  version_.fetch_add(1, std::memory_order_release);
}

std::shared_ptr<Image> Subscription::removeImage(int64_t correlationId) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found =
      std::find_if(images_.begin(), images_.end(), [&](const auto& image) { return image->correlationId() == correlationId; });
  if (found == images_.end()) return nullptr;
  std::shared_ptr<Image> image = *found;
  images_.erase(found);
  imageCount_.store(static_cast<int32_t>(images_.size()), std::memory_order_release);
  version_.fetch_add(1, std::memory_order_release);
  return image;
}

std::vector<std::shared_ptr<Image>> Subscription::closeAll(ImageEndReason reason) {
  const std::lock_guard<std::mutex> lock(mutex_);
  closed_.store(true, std::memory_order_release);
  std::vector<std::shared_ptr<Image>> closed;
  closed.swap(images_);
  for (const auto& image : closed) image->close(reason);
  imageCount_.store(0, std::memory_order_release);
  version_.fetch_add(1, std::memory_order_release);
  return closed;
}

}  // namespace outrigger::client
