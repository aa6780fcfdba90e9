// SPDX-License-Identifier: Apache-2.0
// The three strategies: max (fastest receiver leads), min (slowest of all), tagged (slowest of those with the group's tag).
#include "driver/flow_control.h"

#include <algorithm>
#include <array>

namespace outrigger::driver {
namespace {

// A receiver may ask for more than it has room for when gaps merge: unicast repairs at most 16 windows at once, a group 4.
constexpr int32_t kUnicastRetransmitMultiple = 16;
constexpr int32_t kGroupRetransmitMultiple = 4;

int64_t retransmissionLength(int64_t resendLength, int64_t termBytesLeft, int32_t receiverWindow, int32_t multiple) {
  return std::min({resendLength, termBytesLeft, static_cast<int64_t>(receiverWindow) * multiple});
}

class MaxFlowControl final : public FlowControl {
 public:
  explicit MaxFlowControl(int32_t retransmitMultiple) : retransmitMultiple_(retransmitMultiple) {}

  int64_t onStatusMessage(const StatusMessage& message, int64_t senderLimit, int64_t, int64_t) override {
    return std::max(senderLimit, message.position + message.windowLength);
  }
  void onSetup(int64_t, int64_t, int64_t) override {}
  void onReceiverGone(int64_t, int64_t) override {}
  int64_t onIdle(int64_t, int64_t senderLimit, int64_t, bool) override { return senderLimit; }
  bool hasRequiredReceivers() const override { return true; }
  int32_t receiverCount() const override { return -1; }
  int64_t maxRetransmissionLength(int64_t resendLength, int64_t termBytesLeft, int32_t receiverWindow) const override {
    return retransmissionLength(resendLength, termBytesLeft, receiverWindow, retransmitMultiple_);
  }

 private:
  int32_t retransmitMultiple_;
};

// Min and tagged: the limit is the lowest (position + window) over a table of receivers.
class MinFlowControl final : public FlowControl {
 public:
  MinFlowControl(bool tagged, int64_t groupTag, int32_t groupMinSize, int64_t receiverTimeoutNs, int32_t retransmitMultiple)
      : tagged_(tagged),
        groupTag_(groupTag),
        groupMinSize_(groupMinSize),
        receiverTimeoutNs_(receiverTimeoutNs),
        retransmitMultiple_(retransmitMultiple) {}

  int64_t onStatusMessage(const StatusMessage& message, int64_t senderLimit, int64_t senderPosition, int64_t nowNs) override {
    if (tagged_ && (!message.hasGroupTag || message.groupTag != groupTag_)) return senderLimit;
    const bool eos = (message.flags & wire::kSmFlagEos) != 0;
    const int64_t limit = message.position + message.windowLength;
    bool found = false;
    for (int32_t i = 0; i < count_; ++i) {
      Receiver& receiver = receivers_[static_cast<size_t>(i)];
      if (receiver.id != message.receiverId) continue;
      found = true;
      if (eos) {
        remove(i);
      } else {
        receiver.lastPosition = std::max(receiver.lastPosition, message.position);
        receiver.limit = receiver.lastPosition + message.windowLength;
        receiver.lastHeardNs = nowNs;
      }
      break;
    }
    if (!found && !eos && count_ < static_cast<int32_t>(receivers_.size()) &&
        (count_ == 0 || limit >= lowestLimit() - message.windowLength)) {
      // A joiner far behind the group would stop it: it is admitted once it has caught up to within a window.
      receivers_[static_cast<size_t>(count_++)] = {message.receiverId, message.position, limit, nowNs};
    }
    return groupLimit(senderLimit, senderPosition, nowNs);
  }

  void onSetup(int64_t senderLimit, int64_t, int64_t nowNs) override {
    // An elicited SETUP announces a receiver. Until its first SM arrives, or the timeout, the limit stands still for it.
    if (setupNs_ == 0 || nowNs - setupNs_ > receiverTimeoutNs_) {
      setupLimit_ = senderLimit;
      setupNs_ = nowNs;
      countAtSetup_ = count_;
    }
  }

  void onReceiverGone(int64_t receiverId, int64_t) override {
    for (int32_t i = 0; i < count_; ++i) {
      if (receivers_[static_cast<size_t>(i)].id == receiverId) {
        remove(i);
        return;
      }
    }
  }

  int64_t onIdle(int64_t nowNs, int64_t senderLimit, int64_t senderPosition, bool) override {
    for (int32_t i = count_ - 1; i >= 0; --i) {
      if (nowNs - receivers_[static_cast<size_t>(i)].lastHeardNs > receiverTimeoutNs_) remove(i);
    }
    return groupLimit(senderLimit, senderPosition, nowNs);
  }

  bool hasRequiredReceivers() const override { return count_ >= std::max(groupMinSize_, tagged_ ? 1 : 0); }
  int32_t receiverCount() const override { return count_; }
  int64_t maxRetransmissionLength(int64_t resendLength, int64_t termBytesLeft, int32_t receiverWindow) const override {
    return retransmissionLength(resendLength, termBytesLeft, receiverWindow, retransmitMultiple_);
  }

 private:
  struct Receiver {
    int64_t id = 0;
    int64_t lastPosition = 0;
    int64_t limit = 0;
    int64_t lastHeardNs = 0;
  };

  void remove(int32_t index) { receivers_[static_cast<size_t>(index)] = receivers_[static_cast<size_t>(--count_)]; }

  int64_t lowestLimit() const {
    int64_t lowest = INT64_MAX;
    for (int32_t i = 0; i < count_; ++i) lowest = std::min(lowest, receivers_[static_cast<size_t>(i)].limit);
    return lowest;
  }

  int64_t groupLimit(int64_t senderLimit, int64_t senderPosition, int64_t nowNs) {
    if (count_ < groupMinSize_ || count_ == 0) return std::min(senderLimit, std::max(senderPosition, int64_t{0}));
    int64_t limit = lowestLimit();
    if (setupNs_ != 0) {
      if (nowNs - setupNs_ > kJoinProtectionNs || count_ > countAtSetup_) {
        setupNs_ = 0;
      } else {
        limit = std::min(limit, std::max(setupLimit_, senderPosition));
      }
    }
    return limit;
  }

  // How long a SETUP may hold the others back when its receiver never sends a status message.
  static constexpr int64_t kJoinProtectionNs = 200 * kMilliNs;

  bool tagged_;
  int64_t groupTag_;
  int32_t groupMinSize_;
  int64_t receiverTimeoutNs_;
  int32_t retransmitMultiple_;
  std::array<Receiver, 256> receivers_{};
  int32_t count_ = 0;
  int32_t countAtSetup_ = 0;
  int64_t setupLimit_ = 0;
  int64_t setupNs_ = 0;
};

}  // namespace

std::unique_ptr<FlowControl> makeFlowControl(const net::UdpChannel& channel, const DriverConfig& config, int32_t) {
  const bool group = channel.multicast || channel.isMdcSender();
  const net::FlowControlParams& params = channel.flowControl;
  FlowControlStrategy strategy = group ? config.multicastFlowControl : config.unicastFlowControl;
  if (params.kind == net::FlowControlKind::kMax) strategy = FlowControlStrategy::kMax;
  if (params.kind == net::FlowControlKind::kMin) strategy = FlowControlStrategy::kMin;
  if (params.kind == net::FlowControlKind::kTagged) strategy = FlowControlStrategy::kTagged;
  const int32_t multiple = params.retransmitReceiverWindowMultiple > 0 ? params.retransmitReceiverWindowMultiple
                           : group                                     ? kGroupRetransmitMultiple
                                                                       : kUnicastRetransmitMultiple;
  // fc= has a meaning for groups only (a unicast stream has one receiver).
  if (strategy == FlowControlStrategy::kMax || !group) return std::make_unique<MaxFlowControl>(multiple);
  const int64_t timeoutNs = params.receiverTimeoutNs > 0 ? params.receiverTimeoutNs : config.flowControlReceiverTimeoutNs;
  const int32_t minSize = params.groupMinSize > 0 ? params.groupMinSize : config.flowControlGroupMinSize;
  const int64_t tag = params.hasGroupTag ? params.groupTag : config.flowControlGroupTag;
  return std::make_unique<MinFlowControl>(strategy == FlowControlStrategy::kTagged, tag, minSize, timeoutNs, multiple);
}

}  // namespace outrigger::driver
