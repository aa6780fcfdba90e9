// SPDX-License-Identifier: Apache-2.0
// Subscription: the set of images of one channel and stream. One thread polls; the conductor adds and removes images meanwhile.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "client/image.h"

namespace outrigger::client {

class Subscription {
 public:
  Subscription(std::shared_ptr<DriverMemory> memory, std::string channel, int32_t streamId, int64_t registrationId, int32_t channelStatusId)
      : memory_(std::move(memory)),
        channel_(std::move(channel)),
        streamId_(streamId),
        registrationId_(registrationId),
        channelStatusId_(channelStatusId) {}
  Subscription(const Subscription&) = delete;
  Subscription& operator=(const Subscription&) = delete;

  const std::string& channel() const { return channel_; }
  int32_t streamId() const { return streamId_; }
  int64_t registrationId() const { return registrationId_; }
  bool isClosed() const { return closed_.load(std::memory_order_acquire); }
  int64_t channelStatus() const;

  // Any thread.
  int32_t imageCount() const { return imageCount_.load(std::memory_order_acquire); }
  bool isConnected() const { return imageCount() > 0; }
  std::vector<std::shared_ptr<Image>> imagesSnapshot() const;

  // Poll thread. Round-robin over the images: handler(data, length, header) for at most fragmentLimit fragments in all. Tells the driver what was
  // consumed. Returns fragments.
  template <typename Handler>
  int32_t poll(Handler&& handler, int32_t fragmentLimit) {
    return pollImages([&](Image& image, int32_t limit) { return image.poll(handler, limit); }, fragmentLimit);
  }
  // The same with whole messages.
  template <typename Handler>
  int32_t pollMessages(Handler&& handler, int32_t fragmentLimit) {
    return pollImages([&](Image& image, int32_t limit) { return image.pollMessages(handler, limit); }, fragmentLimit);
  }
  // Poll thread. Some image has a frame to read.
  bool hasWork();
  // Poll thread. The images as last synchronised with the conductor.
  const std::vector<std::shared_ptr<Image>>& images() {
    if (version_.load(std::memory_order_acquire) != polledVersion_) synchronise();
    return polled_;
  }

  // Conductor.
  void addImage(std::shared_ptr<Image> image);
  std::shared_ptr<Image> removeImage(int64_t correlationId);
  std::vector<std::shared_ptr<Image>> closeAll(ImageEndReason reason);

 private:
  template <typename PollOne>
  int32_t pollImages(PollOne&& pollOne, int32_t fragmentLimit) {
    const auto& all = images();
    const size_t count = all.size();
    if (count == 0) return 0;
    if (next_ >= count) next_ = 0;
    const size_t first = next_++;
    int32_t fragments = 0;
    for (size_t i = 0; i < count && fragments < fragmentLimit; ++i) {
      size_t index = first + i;
      if (index >= count) index -= count;
      const int32_t polled = pollOne(*all[index], fragmentLimit - fragments);
      fragments += polled;
      all[index]->ringConsumption();
    }
    return fragments;
  }
  void synchronise();

  std::shared_ptr<DriverMemory> memory_;
  std::string channel_;
  int32_t streamId_;
  int64_t registrationId_;
  int32_t channelStatusId_;
  std::atomic<bool> closed_{false};

  mutable std::mutex mutex_;  // images_; never held while polling
  std::vector<std::shared_ptr<Image>> images_;
  std::atomic<uint64_t> version_{0};
  std::atomic<int32_t> imageCount_{0};

  // Poll thread only. Holding the pointers here is what keeps an image mapped while a poll may be in it.
  std::vector<std::shared_ptr<Image>> polled_;
  uint64_t polledVersion_ = 0;
  size_t next_ = 0;
};

}  // namespace outrigger::client
