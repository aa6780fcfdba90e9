// SPDX-License-Identifier: Apache-2.0
// Static and cubic windows. Cubic follows RFC 9438 (TCP-friendly region left out) with the constants that Aeron uses.
#include "driver/congestion_control.h"

#include <algorithm>
#include <cmath>

namespace outrigger::driver {
namespace {

class StaticWindow final : public CongestionControl {
 public:
  explicit StaticWindow(int32_t windowLength) : windowLength_(windowLength) {}
  Outcome onCycle(int64_t, bool) override { return {windowLength_, false}; }
  void onRttSample(int64_t) override {}
  bool wantsRtt() const override { return false; }
  int32_t maxWindowLength() const override { return windowLength_; }

 private:
  int32_t windowLength_;
};

class CubicWindow final : public CongestionControl {
 public:
  CubicWindow(int32_t maxWindowLength, int32_t mtu, int64_t nowNs)
      : mtu_(mtu),
        maxWindowLength_(maxWindowLength),
        maxDatagrams_(std::max(maxWindowLength / mtu, 1)),
        window_(std::min(kInitialDatagrams, maxDatagrams_)),
        // Before any loss the curve aims at the whole window, from its lowest point.
        plateau_(maxDatagrams_),
        plateauAfterSeconds_(std::cbrt(plateau_ * kDecrease / kGrowth)),
        epochNs_(nowNs),
        lastUpdateNs_(nowNs) {}

  Outcome onCycle(int64_t nowNs, bool lossOccurred) override {
    // Several holes of one round trip are one sign of congestion.
    if (lossOccurred && (lastLossNs_ == 0 || nowNs - lastLossNs_ >= rttNs_)) {
      lastLossNs_ = nowNs;
      epochNs_ = nowNs;
      lastUpdateNs_ = nowNs;
      plateau_ = window_;
      plateauAfterSeconds_ = std::cbrt(plateau_ * kDecrease / kGrowth);
      window_ = std::max(1, static_cast<int32_t>(window_ * (1 - kDecrease)));
      return {lengthBytes(), true};
    }
    if (window_ < maxDatagrams_ && nowNs - lastUpdateNs_ >= kUpdateIntervalNs) {
      lastUpdateNs_ = nowNs;
      const double t = static_cast<double>(nowNs - epochNs_) / static_cast<double>(kSecondNs) - plateauAfterSeconds_;
      // Far behind the plateau the cube leaves the range of int32.
      const double target = std::min(plateau_ + kGrowth * t * t * t, static_cast<double>(maxDatagrams_));
      window_ = std::clamp(static_cast<int32_t>(target), window_, maxDatagrams_);
    }
    return {lengthBytes(), false};
  }

  void onRttSample(int64_t rttNs) override {
    if (rttNs <= 0 || rttNs > 10 * kSecondNs) return;
    rttNs_ += (rttNs - rttNs_) / 8;
  }
  bool wantsRtt() const override { return true; }
  int32_t maxWindowLength() const override { return maxWindowLength_; }

 private:
  static constexpr double kGrowth = 0.4;    // C
  static constexpr double kDecrease = 0.2;  // 1 - beta
  static constexpr int32_t kInitialDatagrams = 10;
  static constexpr int64_t kInitialRttNs = 100 * kMicroNs;
  static constexpr int64_t kUpdateIntervalNs = 100 * kMicroNs;

  int32_t lengthBytes() const { return std::min(window_ * mtu_, maxWindowLength_); }

  int32_t mtu_;
  int32_t maxWindowLength_;
  int32_t maxDatagrams_;
  int32_t window_;  // datagrams
  double plateau_;
  double plateauAfterSeconds_;
  int64_t epochNs_;
  int64_t lastUpdateNs_;
  int64_t lastLossNs_ = 0;
  int64_t rttNs_ = kInitialRttNs;
};

}  // namespace

std::unique_ptr<CongestionControl> makeCongestionControl(CongestionControlKind kind, int32_t maxWindowLength, int32_t mtu, int64_t nowNs) {
  if (kind == CongestionControlKind::kCubic) return std::make_unique<CubicWindow>(maxWindowLength, mtu, nowNs);
  return std::make_unique<StaticWindow>(maxWindowLength);
}

}  // namespace outrigger::driver
