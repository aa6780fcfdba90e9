// SPDX-License-Identifier: Apache-2.0
// Making an image, and the receiver's commands to it. Data is in publication_image_inserting.cc, all that is sent in publication_image_control.cc.
#include "driver/publication_image.h"

#include <algorithm>

#include "driver/publication_image_state.h"
#include "driver/receiver.h"

namespace outrigger::driver {

namespace {

// As many holes as a window of full datagrams can have, every other one lost; the bound keeps thousands of images small.
size_t gapCapacity(const ImageParams& params) {
  return std::clamp<size_t>(static_cast<size_t>(params.windowLength) / (2 * static_cast<size_t>(params.mtu)) + 8, 64, 4096);
}

LossDetectorConfig lossConfig(const ImageParams& params, const DriverConfig& config) {
  LossDetectorConfig loss;
  loss.group = params.groupSemantics && params.reliable;
  loss.delayNs = params.nakDelayNs >= 0 ? params.nakDelayNs : config.nakUnicastDelayNs;
  loss.maxBackoffNs = config.nakMulticastMaxBackoffNs;
  loss.groupSize = config.nakMulticastGroupSize;
  loss.capacity = gapCapacity(params);
  loss.seed = params.randomSeed;
  return loss;
}

}  // namespace

PublicationImage::PublicationImage(const ImageParams& params, ReceiveChannelEndpoint* endpoint, const io::SockAddr& source,
                                   MappedFile logFile, std::string logFileName, const ImageCounters& counters,
                                   std::vector<Subscriber> subscribers, const DriverConfig& config, const DriverCounters& driverCounters,
                                   int64_t nowNs)
    : params_(params),
      endpoint_(endpoint),
      source_(source),
      logFile_(std::move(logFile)),
      logFileName_(std::move(logFileName)),
      log_(logFile_.data(), params.termLength, logFile_.length()),
      counters_(counters),
      config_(config),
      driverCounters_(driverCounters),
      subscribers_(std::move(subscribers)),
      receiver_(std::make_unique<ReceiverState>(lossConfig(params, config))) {
  ReceiverState& s = *receiver_;
  const int64_t start = logbuffer::computePosition(params.activeTermId, params.termOffset, log_.bits(), params.initialTermId);
  s.highWaterMark = start;
  s.rebuildPosition = start;
  s.consumed = start;
  s.statusPosition = start;
  s.backedPosition = params.backedPosition;
  s.requestedPosition = params.backedPosition;
  s.fullyBackedPosition = start - params.termOffset + int64_t{logbuffer::kPartitionCount} * params.termLength;
  s.control = endpoint->isMdcReceiver() ? *endpoint->channel.control : source;
  const int32_t window = std::min(params.windowLength, params.termLength / 2);
  s.congestionControl = makeCongestionControl(params.congestionControl, window, params.mtu, nowNs);
  s.stateChangeNs = nowNs;
  subscribers_.reserve(ReceiverState::kExpectedSubscribers);
  lastPacketNs_.store(nowNs, std::memory_order_relaxed);
  joinPosition_.store(start, std::memory_order_relaxed);
  counters_.receiverHwm.set(start);
  counters_.receiverPosition.set(start);
}

PublicationImage::~PublicationImage() = default;

void PublicationImage::addSubscriber(const cnc::Counter& position, bool tethered) { subscribers_.push_back({position, tethered}); }

void PublicationImage::removeSubscriber(const cnc::Counter& position) {
  std::erase_if(subscribers_, [&](const Subscriber& subscriber) { return subscriber.position.id == position.id; });
}

void PublicationImage::setInterest(bool interested) { receiver_->interested = interested; }

void PublicationImage::onTermBacked(int64_t position) {
  ReceiverState& s = *receiver_;
  s.backedPosition = std::max(s.backedPosition, position);
  if (s.backedPosition >= s.fullyBackedPosition) s.backedPosition = INT64_MAX;
}

bool PublicationImage::takeAdvanced() { return std::exchange(receiver_->advanced, false); }

// Positions are the clients' words: they count within what was received, and never backwards.
int64_t PublicationImage::consumedPosition() const {
  const ReceiverState& s = *receiver_;
  int64_t lowest = s.rebuildPosition;
  for (const Subscriber& subscriber : subscribers_) lowest = std::min(lowest, subscriber.position.get());
  return std::max(s.consumed, lowest & ~static_cast<int64_t>(wire::kFrameAlignment - 1));
}

}  // namespace outrigger::driver
