// SPDX-License-Identifier: Apache-2.0
// What an image sends and when: status messages, NAKs, round-trip probes, rejections; and the states it goes through until it is gone.
#include <algorithm>
#include <cstdio>

#include "driver/intervals.h"
#include "driver/publication_image.h"
#include "driver/publication_image_state.h"
#include "driver/receiver.h"
#include "logbuffer/term_ops.h"

namespace outrigger::driver {

using cnc::OutriggerCounter;
using cnc::SystemCounter;

namespace {

// A status message goes out once this part of the window was consumed: often enough that the sender never waits for one.
constexpr int32_t kWindowParts = 4;
// A status message with EOS may get lost as any other; after this many the sender finds out by its own timeout.
constexpr int32_t kEndMessages = 5;
// Clients that drain an image that died without an end of stream do not ring.
constexpr int64_t kDrainCheckNs = 10 * kMilliNs;
// Losses are reported in sums, not one by one: at 10 % loss there are more than a hundred thousand a second.
constexpr int64_t kLossReportIntervalNs = 10 * kMilliNs;
// The first round trip is asked for ever more rarely, since a peer need not answer.
constexpr int32_t kMaxRttRequests = 12;
// A SETUP for an image that stands means that the sender heard no status message. It gets one at once, but not for every forged SETUP.
constexpr int64_t kSetupAnswerIntervalNs = 5 * kMilliNs;

}  // namespace

bool PublicationImage::sendControl(ReceiverContext& context, const uint8_t* frame, uint32_t length, const io::SockAddr& destination) {
  io::TxSlot slot;
  bool sent = context.io->reserve(*endpoint_->socket, destination, length, slot) == io::TxStatus::kPending;
  if (sent) {
    std::memcpy(slot.data, frame, length);
    sent = context.io->commit(*endpoint_->socket, destination, slot, length) == io::TxStatus::kSent;
  }
  if (!sent) {
    driverCounters_.add(SystemCounter::kShortSends, 1);
    return false;
  }
  driverCounters_.add(SystemCounter::kBytesSent, length);
  driverCounters_.add(OutriggerCounter::kDatagramsSent, 1);
  return true;
}

int32_t PublicationImage::sendStatusMessage(ReceiverContext& context, int64_t position, int32_t window, uint8_t flags, int64_t nowNs) {
  ReceiverState& s = *receiver_;
  uint8_t frame[wire::kStatusMessageWithGroupTagLength];
  const int32_t length = endpoint_->hasGroupTag ? wire::kStatusMessageWithGroupTagLength : int32_t{sizeof(wire::StatusMessageFrame)};
  wire::StatusMessageFrame sm{};
  sm.header = {length, 0, flags, static_cast<uint16_t>(wire::FrameType::kStatusMessage)};
  sm.sessionId = params_.sessionId;
  sm.streamId = params_.streamId;
  sm.consumptionTermId = logbuffer::termIdFromPosition(position, log_.bits(), params_.initialTermId);
  sm.consumptionTermOffset = logbuffer::termOffsetFromPosition(position, params_.termLength);
  sm.receiverWindow = window;
  sm.receiverId = endpoint_->receiverId;
  wire::store(frame, sm);
  if (endpoint_->hasGroupTag) writeAt<int64_t>(frame, sizeof(sm), endpoint_->groupTag);
  if (!sendControl(context, frame, static_cast<uint32_t>(length), s.control)) {
    s.statusRetryNs = nowNs + kSocketRetryNs;
    return 0;
  }
  driverCounters_.add(SystemCounter::kStatusMessagesSent, 1);
  s.statusPosition = position;
  s.statusWindow = window;
  s.lastStatusNs = nowNs;
  s.statusForced = false;
  return 1;
}

bool PublicationImage::sendNak(ReceiverContext& context, int64_t begin, int64_t end) {
  // A NAK names one term.
  while (begin < end) {
    const int32_t offset = logbuffer::termOffsetFromPosition(begin, params_.termLength);
    wire::NakFrame nak{};
    nak.header = {int32_t{sizeof(nak)}, 0, 0, static_cast<uint16_t>(wire::FrameType::kNak)};
    nak.sessionId = params_.sessionId;
    nak.streamId = params_.streamId;
    nak.termId = logbuffer::termIdFromPosition(begin, log_.bits(), params_.initialTermId);
    nak.termOffset = offset;
    nak.length = static_cast<int32_t>(std::min<int64_t>(end - begin, params_.termLength - offset));
    if (!sendControl(context, reinterpret_cast<const uint8_t*>(&nak), sizeof(nak), receiver_->control)) return false;
    driverCounters_.add(SystemCounter::kNaksSent, 1);
    counters_.naksSent.add(1);
    begin += nak.length;
  }
  return true;
}

int32_t PublicationImage::recoverLoss(ReceiverContext& context, int64_t nowNs) {
  ReceiverState& s = *receiver_;
  LossDetector& detector = s.detector;
  if (nowNs < detector.nextDueNs()) return 0;
  int32_t work = 0;
  if (params_.reliable) {
    bool suppressed = false;
    work = detector.poll(
        nowNs, s.statusPosition + params_.termLength / 2, s.congestionControl->maxWindowLength(),
        [&](int64_t begin, int64_t end, bool first) {
          if (!sendNak(context, begin, end)) return false;
          if (first) s.lostBytes += end - begin;
          return true;
        },
        suppressed);
    if (suppressed) driverCounters_.add(OutriggerCounter::kNaksSuppressed, 1);
    if (work > 0 && nowNs - s.lastRttRequestNs >= kRttRequestIntervalNs) requestRtt(context, nowNs);
  } else {
    work = detector.giveUp(nowNs, [&](int64_t begin, int64_t end) {
      s.lostBytes += end - begin;
      while (begin < end) {
        const int32_t offset = logbuffer::termOffsetFromPosition(begin, params_.termLength);
        const auto length = static_cast<int32_t>(std::min<int64_t>(end - begin, params_.termLength - offset));
        logbuffer::fillGap(log_.term(logbuffer::indexByPosition(begin, log_.bits())), offset, length, params_.sessionId, params_.streamId,
                           logbuffer::termIdFromPosition(begin, log_.bits(), params_.initialTermId));
        driverCounters_.add(SystemCounter::kLossGapFills, 1);
        begin += length;
      }
    });
    if (work > 0) updatePositions();
  }
  return work;
}

// A receiver that joined late, or was cut off, may miss what no sender can send again: better an end and a new beginning, both of which the
// subscribers see, than a stream that stands still for ever, and with it, under min flow control, those of all other receivers.
bool PublicationImage::isBeyondRepair(ReceiverContext& context, int64_t nowNs) {
  ReceiverState& s = *receiver_;
  const GapList& gaps = s.detector.gaps();
  if (gaps.empty() || !params_.reliable) return false;
  const int64_t missing = gaps.front().begin;
  if (missing != s.stuckPosition) {
    s.stuckPosition = missing;
    s.stuckSinceNs = nowNs;
  }
  // Senders, stock ones too, reach back half a term and one message.
  const int64_t reach = params_.termLength / 2 + logbuffer::maxMessageLength(params_.termLength);
  const bool tooOld = s.highWaterMark - missing > reach;
  if (!tooOld && nowNs - s.stuckSinceNs <= config_.imageLivenessTimeoutNs) return false;
  AgentEvent event;
  event.type = AgentEvent::Type::kError;
  event.errorCode = static_cast<int32_t>(ErrorCode::kGeneric);
  event.image = this;
  std::snprintf(event.text, sizeof(event.text),
                "image session=%d stream=%d ends at position %lld: what follows was lost and the sender, now at %lld, %s",
                params_.sessionId, params_.streamId, static_cast<long long>(missing), static_cast<long long>(s.highWaterMark),
                tooOld ? "no longer has it" : "did not send it again");
  if (!context.events.offer(event)) driverCounters_.add(SystemCounter::kConductorProxyFails, 1);
  return true;
}

void PublicationImage::reportLoss(ReceiverContext& context, int64_t nowNs) {
  ReceiverState& s = *receiver_;
  if (s.lostBytes == 0 || nowNs - s.lastLossReportNs < kLossReportIntervalNs) return;
  AgentEvent event;
  event.type = AgentEvent::Type::kLossObserved;
  event.image = this;
  event.value = s.lostBytes;
  s.lastLossReportNs = nowNs;
  if (context.events.offer(event)) s.lostBytes = 0;  // else it is part of the next report
}

int32_t PublicationImage::askForMemory(ReceiverContext& context, int64_t windowEnd, int64_t nowNs) {
  // One term ahead of the window, asked for before it is needed; again when nothing came, since a full volume may get room.
  ReceiverState& s = *receiver_;
  if (s.backedPosition == INT64_MAX) return 0;
  const int64_t termMask = static_cast<int64_t>(params_.termLength) - 1;
  const int64_t needed = std::min(((windowEnd + termMask) & ~termMask) + params_.termLength, s.fullyBackedPosition);
  const bool unanswered = s.backedPosition < std::min(needed, s.requestedPosition) && nowNs - s.lastTermRequestNs >= kMemoryRetryNs;
  if (needed <= s.requestedPosition && !unanswered) return 0;
  AgentEvent event;
  event.type = AgentEvent::Type::kBackTerm;
  event.image = this;
  event.value = needed;
  if (!context.events.offer(event)) return 0;  // asked again on the next cycle
  s.requestedPosition = needed;
  s.lastTermRequestNs = nowNs;
  return 1;
}

int64_t PublicationImage::rttDueNs(int64_t nowNs) const {
  const ReceiverState& s = *receiver_;
  if (s.lastStatusNs == 0) return INT64_MAX;
  if (!s.detector.rtt().known()) {
    if (s.rttRequests == 0) return nowNs;
    if (s.rttRequests >= kMaxRttRequests) return INT64_MAX;
    return s.lastRttRequestNs + std::min(kRttRetryIntervalNs << (s.rttRequests - 1), kSecondNs);
  }
  return s.congestionControl->wantsRtt() ? s.lastRttRequestNs + kRttRequestIntervalNs : INT64_MAX;
}

int32_t PublicationImage::requestRtt(ReceiverContext& context, int64_t nowNs) {
  ReceiverState& s = *receiver_;
  wire::RttMeasurementFrame rttm{};
  rttm.header = {int32_t{sizeof(rttm)}, 0, wire::kRttmFlagReply, static_cast<uint16_t>(wire::FrameType::kRttMeasurement)};
  rttm.sessionId = params_.sessionId;
  rttm.streamId = params_.streamId;
  rttm.echoTimestampNs = nowNs;
  rttm.receiverId = endpoint_->receiverId;
  s.lastRttRequestNs = nowNs;
  if (s.rttRequests < kMaxRttRequests) ++s.rttRequests;
  return sendControl(context, reinterpret_cast<const uint8_t*>(&rttm), sizeof(rttm), s.control) ? 1 : 0;
}

void PublicationImage::onRttMeasurement(ReceiverContext& context, const wire::RttMeasurementFrame& frame, const io::SockAddr& source,
                                        int64_t nowNs) {
  ReceiverState& s = *receiver_;
  if ((frame.header.flags & wire::kRttmFlagReply) != 0) {
    wire::RttMeasurementFrame reply = frame;
    reply.header = {int32_t{sizeof(reply)}, 0, 0, static_cast<uint16_t>(wire::FrameType::kRttMeasurement)};
    reply.receptionDeltaNs = 0;
    reply.receiverId = endpoint_->receiverId;
    sendControl(context, reinterpret_cast<const uint8_t*>(&reply), sizeof(reply), source);
    return;
  }
  if (frame.receiverId != endpoint_->receiverId) return;  // another receiver's answer, sent to all
  // Both numbers are the sender's word: a time that was not asked at, or a delay longer than all of it, says nothing.
  const bool plausible = s.lastRttRequestNs != 0 && frame.echoTimestampNs > 0 && frame.echoTimestampNs <= s.lastRttRequestNs &&
                         nowNs - frame.echoTimestampNs <= kMaxRttNs && frame.receptionDeltaNs >= 0 &&
                         frame.receptionDeltaNs <= nowNs - frame.echoTimestampNs;
  if (!plausible) {
    driverCounters_.add(SystemCounter::kInvalidPackets, 1);
    return;
  }
  s.rttRequests = 0;
  const int64_t rttNs = nowNs - frame.echoTimestampNs - frame.receptionDeltaNs;
  s.detector.rtt().onSample(rttNs, true);
  s.congestionControl->onRttSample(rttNs);
}

void PublicationImage::onSetup(const wire::SetupFrame& setup, const io::SockAddr&, int64_t nowNs) {
  ReceiverState& s = *receiver_;
  const bool same = setup.initialTermId == params_.initialTermId && setup.termLength == params_.termLength && setup.mtu == params_.mtu;
  if (!same || s.rejected || nowNs - s.lastSetupAnswerNs < kSetupAnswerIntervalNs) return;
  s.lastSetupAnswerNs = nowNs;
  s.statusForced = true;
}

void PublicationImage::reject(ReceiverContext& context, int64_t nowNs) {
  ReceiverState& s = *receiver_;
  if (s.rejected || state_.load(std::memory_order_relaxed) != ImageState::kActive) return;
  s.rejected = true;
  driverCounters_.add(SystemCounter::kImagesRejected, 1);
  sendRejection(context, nowNs);
}

int32_t PublicationImage::sendRejection(ReceiverContext& context, int64_t nowNs) {
  ReceiverState& s = *receiver_;
  if (s.lastErrorFrameNs != 0 && nowNs - s.lastErrorFrameNs < config_.statusMessageTimeoutNs) return 0;
  s.lastErrorFrameNs = nowNs;
  uint8_t frame[sizeof(wire::ErrorFrame) + wire::kMaxErrorTextLength];
  const auto textLength = std::min<size_t>(rejectReason_.size(), wire::kMaxErrorTextLength);
  const auto length = static_cast<int32_t>(sizeof(wire::ErrorFrame) + textLength);
  wire::ErrorFrame error{};
  const uint8_t flags = endpoint_->hasGroupTag ? wire::kErrorFlagHasGroupTag : uint8_t{0};
  error.header = {length, 0, flags, static_cast<uint16_t>(wire::FrameType::kError)};
  error.sessionId = params_.sessionId;
  error.streamId = params_.streamId;
  error.receiverId = endpoint_->receiverId;
  error.groupTag = endpoint_->hasGroupTag ? endpoint_->groupTag : 0;
  error.errorCode = static_cast<int32_t>(ErrorCode::kImageRejected);
  error.errorLength = static_cast<int32_t>(textLength);
  wire::store(frame, error);
  std::memcpy(frame + sizeof(error), rejectReason_.data(), textLength);
  if (!sendControl(context, frame, static_cast<uint32_t>(length), s.control)) return 0;
  driverCounters_.add(SystemCounter::kErrorFramesSent, 1);
  return 1;
}

void PublicationImage::enter(ReceiverContext&, ImageState state, int64_t nowNs) {
  ReceiverState& s = *receiver_;
  s.stateChangeNs = nowNs;
  s.stateAnnounced = false;
  s.advanced = true;
  state_.store(state, std::memory_order_release);
}

int32_t PublicationImage::work(ReceiverContext& context, int64_t nowNs) {
  ReceiverState& s = *receiver_;
  const int64_t consumed = consumedPosition();
  if (consumed != s.consumed) {
    s.consumed = consumed;
    joinPosition_.store(consumed, std::memory_order_release);
  }
  int32_t work = recoverLoss(context, nowNs);
  reportLoss(context, nowNs);
  if (s.rejected) {
    work += sendRejection(context, nowNs);
  } else {
    const auto outcome = s.congestionControl->onCycle(nowNs, std::exchange(s.lossFound, false));
    work += askForMemory(context, consumed + s.congestionControl->maxWindowLength(), nowNs);
    // No byte is invited into memory that is not there.
    const auto window = static_cast<int32_t>(std::clamp<int64_t>(s.backedPosition - consumed, 0, outcome.windowLength));
    s.statusForced |= outcome.forceStatusMessage;
    const bool due = s.lastStatusNs == 0 || s.statusForced || window > s.statusWindow ||
                     consumed - s.statusPosition >= std::max(window / kWindowParts, wire::kFrameAlignment) ||
                     nowNs - s.lastStatusNs >= config_.statusMessageTimeoutNs;
    if (due && nowNs >= s.statusRetryNs) work += sendStatusMessage(context, consumed, window, 0, nowNs);
    if (nowNs >= rttDueNs(nowNs)) work += requestRtt(context, nowNs);
  }
  const bool unwanted = !s.interested && subscribers_.empty();
  const bool silent = nowNs - lastPacketNs_.load(std::memory_order_relaxed) > config_.imageLivenessTimeoutNs;
  const bool complete = s.rebuildPosition >= s.endOfStreamPosition;
  if (unwanted || silent || complete || isBeyondRepair(context, nowNs)) {
    enter(context, ImageState::kDraining, nowNs);
    work += 1;
  }
  return work;
}

// The end: the sender is told that this receiver goes, the subscribers read what there is.
int32_t PublicationImage::windDown(ReceiverContext& context, int64_t nowNs) {
  ReceiverState& s = *receiver_;
  int32_t work = 0;
  const bool due = s.endMessages == 0 || nowNs - s.lastStatusNs >= config_.statusMessageTimeoutNs;
  if (!s.rejected && s.endMessages < kEndMessages && due && nowNs >= s.statusRetryNs) {
    const int32_t sent = sendStatusMessage(context, s.consumed, s.statusWindow, wire::kSmFlagEos, nowNs);
    s.endMessages += sent;
    work += sent;
  }
  reportLoss(context, nowNs);
  if (state_.load(std::memory_order_relaxed) == ImageState::kDraining) {
    const int64_t consumed = consumedPosition();
    if (consumed != s.consumed) {
      s.consumed = consumed;
      joinPosition_.store(consumed, std::memory_order_release);
    }
    if (s.rejected || subscribers_.empty() || consumed >= s.rebuildPosition) {
      enter(context, ImageState::kLinger, nowNs);
      work += 1;
    }
  }
  return work;
}

int32_t PublicationImage::doWork(ReceiverContext& context, int64_t nowNs) {
  ReceiverState& s = *receiver_;
  int32_t done = 0;
  switch (state_.load(std::memory_order_acquire)) {
    case ImageState::kActive:
      done = work(context, nowNs);
      break;
    case ImageState::kDraining:
    case ImageState::kLinger:
      done = windDown(context, nowNs);
      break;
    case ImageState::kDone:
      break;
  }
  if (!s.stateAnnounced) {
    AgentEvent event;
    event.type = AgentEvent::Type::kImageStateChanged;
    event.image = this;
    s.stateAnnounced = context.events.offer(event);
    if (!s.stateAnnounced) driverCounters_.add(SystemCounter::kConductorProxyFails, 1);
  }
  return done;
}

int64_t PublicationImage::nextDeadlineNs(int64_t nowNs) const {
  const ReceiverState& s = *receiver_;
  int64_t deadline = nowNs + kSecondNs;
  const auto earlier = [&](int64_t when) { deadline = std::min(deadline, when); };
  if (!s.stateAnnounced) earlier(nowNs + kMilliNs);
  if (s.lostBytes > 0) earlier(s.lastLossReportNs + kLossReportIntervalNs);
  switch (state_.load(std::memory_order_acquire)) {
    case ImageState::kActive: {
      if (s.rejected) {
        earlier(s.lastErrorFrameNs + config_.statusMessageTimeoutNs);
      } else {
        const int64_t status = s.lastStatusNs == 0 || s.statusForced ? nowNs : s.lastStatusNs + config_.statusMessageTimeoutNs;
        earlier(std::max(status, s.statusRetryNs));
        earlier(s.detector.nextDueNs());
        earlier(rttDueNs(nowNs));
      }
      earlier(lastPacketNs_.load(std::memory_order_relaxed) + config_.imageLivenessTimeoutNs + 1);
      break;
    }
    case ImageState::kDraining:
      earlier(nowNs + kDrainCheckNs);
      [[fallthrough]];
    case ImageState::kLinger:
      if (s.endMessages < kEndMessages && !s.rejected)
        earlier(s.endMessages == 0 ? nowNs : s.lastStatusNs + config_.statusMessageTimeoutNs);
      break;
    case ImageState::kDone:
      break;
  }
  return deadline;
}

}  // namespace outrigger::driver
