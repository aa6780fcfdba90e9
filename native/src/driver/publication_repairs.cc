// SPDX-License-Identifier: Apache-2.0
// How a network publication repairs losses: NAKs, retransmission out of the log, and the round trip that both wait for.
#include <algorithm>

#include "driver/intervals.h"
#include "driver/network_publication.h"
#include "driver/publication_sender_state.h"
#include "driver/sender.h"
#include "logbuffer/term_ops.h"

namespace outrigger::driver {

using cnc::OutriggerCounter;
using cnc::SystemCounter;

void NetworkPublication::requestRtt(SenderContext& context, int64_t nowNs) {
  SenderState& s = *state_;
  const int64_t interval = retransmit_->smoothedRttNs() == 0 ? kRttRetryIntervalNs : kRttRequestIntervalNs;
  if (s.lastRttRequestNs != 0 && nowNs - s.lastRttRequestNs < interval) return;
  s.lastRttRequestNs = nowNs;
  wire::RttMeasurementFrame rttm{};
  rttm.header = {static_cast<int32_t>(sizeof(rttm)), 0, wire::kRttmFlagReply, static_cast<uint16_t>(wire::FrameType::kRttMeasurement)};
  rttm.sessionId = params_.sessionId;
  rttm.streamId = params_.streamId;
  rttm.echoTimestampNs = nowNs;
  sendControl(context, reinterpret_cast<const uint8_t*>(&rttm), sizeof(rttm));
}

void NetworkPublication::onRttMeasurement(SenderContext& context, const wire::RttMeasurementFrame& frame, const io::SockAddr& source,
                                          int64_t nowNs) {
  const SenderState& s = *state_;
  if ((frame.header.flags & wire::kRttmFlagReply) == 0) {
    // Both numbers are the receiver's word: a time we cannot have asked at, or a delay longer than all of it, says nothing.
    const bool plausible = frame.echoTimestampNs > 0 && frame.echoTimestampNs <= s.lastRttRequestNs &&
                           nowNs - frame.echoTimestampNs <= kMaxRttNs && frame.receptionDeltaNs >= 0 &&
                           frame.receptionDeltaNs <= nowNs - frame.echoTimestampNs;
    if (!plausible) {
      driverCounters_.add(SystemCounter::kInvalidPackets, 1);
      return;
    }
    retransmit_->onRttSample(nowNs - frame.echoTimestampNs - frame.receptionDeltaNs);
    return;
  }
  wire::RttMeasurementFrame reply = frame;
  reply.header = {static_cast<int32_t>(sizeof(reply)), 0, 0, static_cast<uint16_t>(wire::FrameType::kRttMeasurement)};
  reply.receptionDeltaNs = 0;
  io::TxSlot slot;
  if (context.io->reserve(*endpoint_->socket, source, sizeof(reply), slot) != io::TxStatus::kPending) return;
  std::memcpy(slot.data, &reply, sizeof(reply));
  context.io->commit(*endpoint_->socket, source, slot, sizeof(reply));
}

void NetworkPublication::onNak(SenderContext& context, const wire::NakFrame& nak, int64_t nowNs) {
  SenderState& s = *state_;
  driverCounters_.add(SystemCounter::kNaksReceived, 1);
  counters_.naksReceived.add(1);
  if (nak.length <= 0 || nak.termOffset >= params_.termLength || nak.termOffset % wire::kFrameAlignment != 0) {
    if (nak.length != 0) driverCounters_.add(SystemCounter::kInvalidPackets, 1);
    return;
  }
  const int64_t begin = logbuffer::computePosition(nak.termId, nak.termOffset, log_.bits(), params_.initialTermId);
  const int64_t lowest =
      std::max(s.startPosition, s.senderPosition - params_.termLength / 2 - logbuffer::maxMessageLength(params_.termLength));
  if (begin < lowest || begin >= s.senderPosition) {
    // Before the stream, not sent yet, or so old that its memory is being cleaned.
    driverCounters_.add(OutriggerCounter::kRetransmitsSuppressed, 1);
    return;
  }
  const int64_t wantedLength = flowControl_->maxRetransmissionLength(nak.length, params_.termLength - nak.termOffset, s.receiverWindow);
  const int64_t end = std::min(s.senderPosition, begin + alignUp<int64_t>(wantedLength, wire::kFrameAlignment));
  lastActivityNs_.store(nowNs, std::memory_order_relaxed);
  s.lastNakNs = nowNs;
  requestRtt(context, nowNs);
  // No more repair bytes in a linger than two receiver windows: whatever asks for them, recovery never becomes an amplifier.
  if (nowNs - s.repairBudgetResetNs >= retransmit_->lingerNs()) {
    s.repairBudgetResetNs = nowNs;
    s.repairedBytes = 0;
  }
  std::array<RetransmitHandler::Range, 16> ranges;
  int64_t suppressed = 0;
  bool overflow = false;
  const int32_t count = retransmit_->onNak(begin, end, nowNs, ranges, suppressed, overflow);
  if (suppressed > 0) driverCounters_.add(OutriggerCounter::kRetransmitsSuppressed, 1);
  if (overflow) driverCounters_.add(SystemCounter::kRetransmitOverflow, 1);
  for (int32_t i = 0; i < count; ++i) {
    auto range = ranges[static_cast<size_t>(i)];
    const int64_t budget = 2 * static_cast<int64_t>(s.receiverWindow) - s.repairedBytes;
    if (budget <= 0) {
      driverCounters_.add(OutriggerCounter::kRetransmitsSuppressed, 1);
      return;
    }
    range.end = std::min(range.end, range.begin + alignUp<int64_t>(budget, wire::kFrameAlignment));
    const int64_t reached = retransmit(context, range.begin, range.end);
    retransmit_->onSent(range.begin, reached, nowNs);
    s.repairedBytes += reached - range.begin;
    if (reached < range.end) return;  // full socket, or a range that does not begin at a frame: the receiver asks again for the rest
  }
}

// What is sent again says when. Memory that the network still reads stays as it is, with the time of the send before.
void NetworkPublication::stampRepair(SenderContext& context, uint8_t* frames, int32_t length) const {
  const int32_t offset = endpoint_->channel.timestamps.channelSend;
  if (offset == logbuffer::kNoStamp || context.stillReads(frames, static_cast<size_t>(length))) return;
  logbuffer::stampFrames(frames, frames, length, logbuffer::FrameStamp{offset, context.clock.epochNanos()});
}

int64_t NetworkPublication::retransmit(SenderContext& context, int64_t begin, int64_t end) {
  const io::Caps& caps = context.io->caps();
  const bool mdc = endpoint_->isMdc();
  int64_t cursor = begin;
  while (cursor < end) {
    const int32_t offset = logbuffer::termOffsetFromPosition(cursor, params_.termLength);
    const int32_t index = logbuffer::indexByPosition(cursor, log_.bits());
    const auto header = wire::load<wire::DataHeader>(log_.term(index) + offset);
    // A NAK may name any offset: only one where a frame of this term begins is answered.
    if (header.termOffset != offset || header.termId != logbuffer::termIdFromPosition(cursor, log_.bits(), params_.initialTermId)) {
      driverCounters_.add(SystemCounter::kInvalidPackets, 1);
      return cursor;
    }
    const auto maxLength = static_cast<int32_t>(std::min<int64_t>(end - cursor, params_.termLength - offset));
    bool invalid = false;
    auto train = logbuffer::cutTrain(log_.term(index), params_.termLength, offset, maxLength, params_.mtu,
                                     static_cast<int32_t>(caps.maxTrainSegments), static_cast<int32_t>(caps.maxTrainLengthBytes), invalid);
    if (train.length == 0) return cursor;
    stampRepair(context, log_.term(index) + offset, train.length);
    const size_t fanOut = mdc ? std::min(endpoint_->destinations.size(), context.items.size()) : 1;
    for (size_t d = 0; d < fanOut; ++d) {
      io::TxItem& item = context.items[d];
      item = {};
      item.nextHop = mdc ? endpoint_->destinations[d]->nextHop.get() : endpoint_->nextHop.get();
      item.data = log_.term(index) + offset;
      item.length = static_cast<uint32_t>(train.length);
      item.segmentLength = static_cast<uint32_t>(train.segmentLength);
      item.lent = true;
    }
    if (fanOut > 0 && transmitItems(*context.io, *endpoint_->socket, {context.items.data(), fanOut}, mdc) < fanOut) {
      driverCounters_.add(SystemCounter::kShortSends, 1);
      return cursor;
    }
    driverCounters_.add(SystemCounter::kRetransmitsSent, 1);
    driverCounters_.add(SystemCounter::kRetransmittedBytes, train.length);
    driverCounters_.add(SystemCounter::kBytesSent, static_cast<int64_t>(train.length) * static_cast<int64_t>(fanOut));
    driverCounters_.add(
        OutriggerCounter::kDatagramsSent,
        datagrams(static_cast<uint32_t>(train.length), static_cast<uint32_t>(train.segmentLength)) * static_cast<int64_t>(fanOut));
    cursor += train.length + train.padding;
  }
  return cursor;
}

}  // namespace outrigger::driver
