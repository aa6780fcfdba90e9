// SPDX-License-Identifier: Apache-2.0
// Construction and end of an image: the parts off the data path.
#include "client/image.h"

namespace outrigger::client {
namespace {

// The driver sends a status message once a quarter of the window is consumed: twice as often is early enough to keep it full.
constexpr int64_t kRingsPerWindow = 8;
constexpr int64_t kDefaultWindow = 128 * 1024;  // Aeron's initial window, when the log does not say

}  // namespace

Image::Image(ImageParams params)
    : params_(std::move(params)),
      log_(params_.mapping->log()),
      termLength_(params_.mapping->termLength()),
      assembler_(logbuffer::maxMessageLength(termLength_)) {
  joinPosition_ = loadAcquire<int64_t>(params_.subscriberPosition);
  if (joinPosition_ < 0 || joinPosition_ > logbuffer::maxPossiblePosition(termLength_) || joinPosition_ % wire::kFrameAlignment != 0) {
    damaged_.store(true, std::memory_order_relaxed);
    joinPosition_ = 0;
  }
  position_.store(joinPosition_, std::memory_order_relaxed);
  rungPosition_ = joinPosition_;
  int64_t window = log_.get<int32_t>(logbuffer::meta::kReceiverWindow);
  if (params_.local) window = termLength_ / 2;
  if (window <= 0) window = kDefaultWindow;
  ringThreshold_ = std::max<int64_t>(wire::kFrameAlignment, std::min<int64_t>(window, termLength_ / 2) / kRingsPerWindow);
}

void Image::close(ImageEndReason reason) {
  ImageEndReason none = ImageEndReason::kNone;
  endReason_.compare_exchange_strong(none, reason, std::memory_order_acq_rel);
  closed_.store(true, std::memory_order_release);
}

}  // namespace outrigger::client
