// SPDX-License-Identifier: Apache-2.0
// What the sender does with one network publication: setup, data trains, heartbeats, limits, cleaning, status messages, errors. Repairs are
// in publication_repairs.cc.
#include <algorithm>
#include <cstdio>

#include "driver/intervals.h"
#include "driver/network_publication.h"
#include "driver/publication_sender_state.h"
#include "driver/sender.h"
#include "logbuffer/term_ops.h"

namespace outrigger::driver {

using cnc::OutriggerCounter;
using cnc::SystemCounter;
namespace meta = logbuffer::meta;

namespace {

// Trains of one duty cycle: enough to fill a socket buffer, few enough that ten publications share a thread fairly.
constexpr size_t kMaxTrains = 8;
constexpr size_t kMaxSingles = 32;  // without segmentation offload a train is one datagram
// An elicited SETUP answers a receiver that waits for it: sooner than the periodic 100 ms, but no faster than this.
constexpr int64_t kElicitedSetupIntervalNs = 5 * kMilliNs;
// Zeroing per duty cycle: the longest run of trains that one cycle can send, so cleaning keeps up without stalling it.
constexpr int64_t kCleanChunk = 1024 * 1024;
// Spies move their positions without ringing the sender.
constexpr int64_t kSpyCheckNs = kMilliNs;
// The network tells nobody when it has read what it was lent.
constexpr int64_t kLentRetryNs = 50 * kMicroNs;
// A receiver that rejects an image says so again and again: the clients hear it at most this often.
constexpr int64_t kErrorEventIntervalNs = 10 * kMilliNs;
// Where datagrams get lost, the last of a burst may be one: nothing follows that would show its receivers the hole, and the heartbeat is
// 100 ms away. So after a NAK, and for this long, a burst is followed by up to three early heartbeats, about two round trips apart.
constexpr int64_t kLossMemoryNs = kSecondNs;
constexpr int32_t kMaxProbes = 3;
constexpr int64_t kMinProbeNs = 200 * kMicroNs;
constexpr int64_t kMaxProbeNs = 10 * kMilliNs;

}  // namespace

void NetworkPublication::addSpy(const cnc::Counter& position) {
  state_->spies.push_back(position);
  spyCount_.store(static_cast<int32_t>(state_->spies.size()), std::memory_order_release);
}

void NetworkPublication::removeSpy(const cnc::Counter& position) {
  std::erase_if(state_->spies, [&](const cnc::Counter& spy) { return spy.id == position.id; });
  spyCount_.store(static_cast<int32_t>(state_->spies.size()), std::memory_order_release);
}

void NetworkPublication::onTermBacked(int64_t position) { state_->backedPosition = std::max(state_->backedPosition, position); }

bool NetworkPublication::takeLimitMoved() { return std::exchange(state_->limitMoved, false); }

void NetworkPublication::elicitSetup() {
  state_->setupWanted = true;
  state_->setupElicited = true;
}

int64_t NetworkPublication::heartbeatDueNs(int64_t nowNs) const {
  const SenderState& s = *state_;
  int64_t interval = config_.heartbeatTimeoutNs;
  if (s.probes < kMaxProbes && s.lastNakNs != 0 && nowNs - s.lastNakNs < kLossMemoryNs) {
    const int64_t rttNs = retransmit_->smoothedRttNs() == 0 ? kMilliNs : retransmit_->smoothedRttNs();
    interval = std::min(interval, std::clamp(2 * rttNs, kMinProbeNs, kMaxProbeNs) << s.probes);
  }
  return s.lastSendNs + interval;
}

void NetworkPublication::onDestinationsChanged() { state_->partial = {}; }

void NetworkPublication::setSenderLimit(int64_t limit) {
  if (limit != state_->senderLimit) {
    state_->senderLimit = limit;
    counters_.senderLimit.set(limit);
  }
  if (counters_.flowControlReceivers.valid()) {
    const int64_t count = flowControl_->receiverCount();
    if (count != counters_.flowControlReceivers.getRelaxed()) counters_.flowControlReceivers.set(count);
  }
}

int64_t NetworkPublication::minSpyPosition(int64_t otherwise) const {
  int64_t lowest = otherwise;
  for (const cnc::Counter& spy : state_->spies) lowest = std::min(lowest, spy.get());
  return lowest;
}

int32_t NetworkPublication::send(SenderContext& context, int64_t nowNs) {
  SenderState& s = *state_;
  int32_t bytes = 0;
  if (s.setupWanted) {
    const int64_t interval = s.setupElicited ? kElicitedSetupIntervalNs : config_.setupTimeoutNs;
    if (s.lastSetupNs == 0 || nowNs - s.lastSetupNs >= interval) bytes += sendSetup(context, nowNs);
  }
  updateConnection(nowNs);
  const int32_t sent = sendData(context, nowNs);
  bytes += sent;
  if (sent == 0) {
    bytes += sendHeartbeat(context, nowNs);
    setSenderLimit(flowControl_->onIdle(nowNs, s.senderLimit, s.senderPosition, endOfStream_.load(std::memory_order_relaxed)));
  }
  updateLimits(context, nowNs);
  return bytes;
}

int32_t NetworkPublication::sendData(SenderContext& context, int64_t nowNs) {
  SenderState& s = *state_;
  s.socketFull = false;
  if (revoked_.load(std::memory_order_relaxed)) return 0;
  // Never past what was cleaned: the frame lengths there are those of an older term, whatever the producer claims.
  int64_t available = std::min(s.senderLimit, s.cleanedTo) - s.senderPosition;
  const io::Caps& caps = context.io->caps();
  const bool mdc = endpoint_->isMdc();
  const size_t fanOut = mdc ? endpoint_->destinations.size() : 1;
  if (available <= 0 && !s.partial.pending) {
    if (producerPosition() > s.senderPosition && connected_.load(std::memory_order_relaxed)) {
      counters_.senderBackPressure.add(1);
      driverCounters_.add(SystemCounter::kSenderFlowControlLimits, 1);
    }
    return 0;
  }
  if (fanOut == 0) return 0;
  const size_t wanted = caps.maxTrainSegments > 1 ? kMaxTrains : kMaxSingles;
  const size_t maxSlices = std::clamp<size_t>(context.items.size() / fanOut, 1, wanted);
  std::array<logbuffer::Train, kMaxSingles> slices;
  size_t sliceCount = 0;
  int64_t cursor = s.senderPosition;
  if (s.partial.pending) {
    slices[sliceCount++] = s.partial.train;
    cursor += s.partial.train.length + s.partial.train.padding;
    available -= s.partial.train.length + s.partial.train.padding;
  }
  while (sliceCount < maxSlices && available > 0) {
    const int32_t offset = logbuffer::termOffsetFromPosition(cursor, params_.termLength);
    const auto maxLength = static_cast<int32_t>(std::min<int64_t>(available, params_.termLength - offset));
    bool invalid = false;
    const auto train =
        logbuffer::cutTrain(log_.term(logbuffer::indexByPosition(cursor, log_.bits())), params_.termLength, offset, maxLength, params_.mtu,
                            static_cast<int32_t>(caps.maxTrainSegments), static_cast<int32_t>(caps.maxTrainLengthBytes), invalid);
    if (invalid) reportDamage(context);
    if (train.length == 0) break;
    slices[sliceCount++] = train;
    cursor += train.length + train.padding;
    available -= train.length + train.padding;
  }
  if (sliceCount == 0) return 0;
  if (const int32_t offset = endpoint_->channel.timestamps.channelSend; offset != logbuffer::kNoStamp) {
    const logbuffer::FrameStamp stamp{offset, context.clock.epochNanos()};
    int64_t at = s.senderPosition;
    for (size_t i = 0; i < sliceCount; ++i) {
      // What some destinations have already keeps its time: the others get the same, and the network may still read it.
      uint8_t* frames = log_.atPosition(at);
      const bool out = i == 0 && mdc && (s.partial.pending || context.stillReads(frames, static_cast<size_t>(slices[i].length)));
      if (!out) logbuffer::stampFrames(frames, frames, slices[i].length, stamp);
      at += slices[i].length + slices[i].padding;
    }
  }

  // Slice by slice, each to every destination, as many as the scratch space holds in one call. `next` counts (slice, destination) pairs.
  const size_t total = sliceCount * fanOut;
  size_t next = s.partial.pending ? static_cast<size_t>(s.partial.destination) : 0;
  uint32_t skip = s.partial.pending ? s.partial.sentBytes : 0;
  size_t doneSlices = 0;
  int64_t position = s.senderPosition;  // of slice `doneSlices`
  int32_t sentBytes = 0;
  while (next < total && !s.socketFull) {
    size_t count = 0;
    int64_t at = position;
    size_t slice = doneSlices;
    for (size_t pair = next; pair < total && count < context.items.size(); ++pair) {
      while (slice < pair / fanOut) {
        at += slices[slice].length + slices[slice].padding;
        ++slice;
      }
      const uint32_t done = count == 0 ? skip : 0;
      io::TxItem& item = context.items[count++];
      item = {};
      item.nextHop = mdc ? endpoint_->destinations[pair % fanOut]->nextHop.get() : endpoint_->nextHop.get();
      item.data = log_.atPosition(at) + done;
      item.length = static_cast<uint32_t>(slices[slice].length) - done;
      item.segmentLength = static_cast<uint32_t>(slices[slice].segmentLength);
      item.lent = true;
    }
    const size_t finished = transmitItems(*context.io, *endpoint_->socket, {context.items.data(), count}, mdc);
    int64_t bytes = 0;
    int64_t packets = 0;
    int64_t lost = 0;
    for (size_t i = 0; i < finished; ++i) {
      const io::TxItem& item = context.items[i];
      if (item.status == io::TxStatus::kSent) {
        bytes += item.length;
        packets += datagrams(item.length, item.segmentLength);
      } else {
        lost += datagrams(item.length, item.segmentLength);  // a repair brings them; no other destination waits for this one
        if (item.status == io::TxStatus::kTooLong) reportTooLong(context, item);
      }
    }
    next += finished;
    if (finished > 0) skip = 0;
    while (doneSlices < next / fanOut) {
      const logbuffer::Train& train = slices[doneSlices++];
      position += train.length + train.padding;
      sentBytes += train.length;
      if (train.padding > 0) {
        s.lastPadBegin = position - train.padding - wire::kDataHeaderLength;
        s.lastPadEnd = position;
      }
    }
    if (finished < count) {
      s.socketFull = true;
      driverCounters_.add(SystemCounter::kShortSends, 1);
      const io::TxItem& blocked = context.items[finished];
      if (blocked.sentBytes > 0 && blocked.sentBytes < blocked.length) {
        // A train that was split and blocked part way: whole datagrams of it are out.
        skip += blocked.sentBytes;
        bytes += blocked.sentBytes;
        packets += datagrams(blocked.sentBytes, blocked.segmentLength);
      }
    }
    driverCounters_.add(OutriggerCounter::kSendCalls, 1);
    driverCounters_.add(SystemCounter::kBytesSent, bytes);
    driverCounters_.add(OutriggerCounter::kDatagramsSent, packets);
    if (lost > 0) driverCounters_.add(OutriggerCounter::kSendErrors, lost);
  }
  s.partial = {};
  if (next < total) {
    const auto destination = static_cast<int32_t>(next % fanOut);
    if (!mdc) {
      position += skip;
      sentBytes += static_cast<int32_t>(skip);
    } else if (destination > 0 || skip > 0) {
      s.partial = {slices[doneSlices], destination, skip, true};
    }
  }
  if (position > s.senderPosition) {
    s.senderPosition = position;
    s.lastSendNs = nowNs;
    s.eosSent = false;
    s.probes = 0;
    counters_.senderPosition.set(position);
  }
  return sentBytes;
}

int32_t NetworkPublication::sendControl(SenderContext& context, const uint8_t* frame, uint32_t length) {
  const auto one = [&](const io::SockAddr& destination) {
    io::TxSlot slot;
    if (context.io->reserve(*endpoint_->socket, destination, length, slot) != io::TxStatus::kPending) {
      driverCounters_.add(SystemCounter::kShortSends, 1);
      return 0;
    }
    std::memcpy(slot.data, frame, length);
    if (context.io->commit(*endpoint_->socket, destination, slot, length) != io::TxStatus::kSent) {
      driverCounters_.add(SystemCounter::kShortSends, 1);
      return 0;
    }
    driverCounters_.add(SystemCounter::kBytesSent, length);
    driverCounters_.add(OutriggerCounter::kDatagramsSent, 1);
    return static_cast<int>(length);
  };
  if (!endpoint_->isMdc()) return one(endpoint_->nextHop->address());
  int32_t bytes = 0;
  for (const MdcDestination* destination : endpoint_->destinations) bytes += one(destination->address);
  return bytes;
}

int32_t NetworkPublication::sendSetup(SenderContext& context, int64_t nowNs) {
  SenderState& s = *state_;
  wire::SetupFrame setup{};
  setup.header = {static_cast<int32_t>(sizeof(setup)), 0, params_.groupSemantics ? wire::kSetupFlagGroup : uint8_t{0},
                  static_cast<uint16_t>(wire::FrameType::kSetup)};
  setup.termOffset = logbuffer::termOffsetFromPosition(s.senderPosition, params_.termLength);
  setup.sessionId = params_.sessionId;
  setup.streamId = params_.streamId;
  setup.initialTermId = params_.initialTermId;
  setup.activeTermId = logbuffer::termIdFromPosition(s.senderPosition, log_.bits(), params_.initialTermId);
  setup.termLength = params_.termLength;
  setup.mtu = params_.mtu;
  setup.ttl = params_.ttl;
  s.lastSetupNs = nowNs;
  const int32_t sent = sendControl(context, reinterpret_cast<const uint8_t*>(&setup), sizeof(setup));
  if (sent == 0) return 0;  // a full socket or no destination: who asked for it still waits
  if (s.setupElicited) flowControl_->onSetup(s.senderLimit, s.senderPosition, nowNs);
  s.setupElicited = false;
  if (s.hasInitialConnection) s.setupWanted = false;
  return sent;
}

int32_t NetworkPublication::sendHeartbeat(SenderContext& context, int64_t nowNs) {
  SenderState& s = *state_;
  if (!s.hasInitialConnection) return 0;
  const bool eos = endOfStream_.load(std::memory_order_acquire) && params_.signalEos &&
                   (revoked_.load(std::memory_order_relaxed) || s.senderPosition >= producerPosition());
  const bool firstEos = eos && !s.eosSent;
  if (!firstEos && nowNs < heartbeatDueNs(nowNs)) return 0;
  wire::DataHeader heartbeat{};
  uint8_t flags = wire::kFlagUnfragmented;
  if (eos) flags |= wire::kFlagEos;
  if (eos && revoked_.load(std::memory_order_relaxed)) flags |= wire::kFlagRevoked;
  heartbeat.header = {0, 0, flags, static_cast<uint16_t>(wire::FrameType::kData)};
  heartbeat.termOffset = logbuffer::termOffsetFromPosition(s.senderPosition, params_.termLength);
  heartbeat.sessionId = params_.sessionId;
  heartbeat.streamId = params_.streamId;
  heartbeat.termId = logbuffer::termIdFromPosition(s.senderPosition, log_.bits(), params_.initialTermId);
  s.lastSendNs = nowNs;
  s.eosSent = eos;
  if (s.probes < kMaxProbes) ++s.probes;
  driverCounters_.add(SystemCounter::kHeartbeatsSent, 1);
  int32_t sent = sendControl(context, reinterpret_cast<const uint8_t*>(&heartbeat), sizeof(heartbeat));
  // Of a PAD only the header needs room in the window, so the sender may stand behind one and beyond the limit. Where the window is half a
  // term, Aeron's receivers drop a heartbeat from there as an overrun: one that lost the PAD and what came before it would never learn
  // what it lacks. The header itself they take.
  if (s.senderPosition > s.senderLimit && s.senderPosition == s.lastPadEnd) {
    sent += sendControl(context, log_.atPosition(s.lastPadBegin), wire::kDataHeaderLength);
  }
  return sent;
}

void NetworkPublication::updateConnection(int64_t nowNs) {
  SenderState& s = *state_;
  for (size_t i = s.receiverCount; i-- > 0;) {
    if (nowNs - s.receivers[i].lastHeardNs > config_.publicationConnectionTimeoutNs) s.receivers[i] = s.receivers[--s.receiverCount];
  }
  const bool receivers = s.receiverCount > 0 && flowControl_->hasRequiredReceivers();
  const bool spies = params_.spiesSimulateConnection && !s.spies.empty();
  const bool connected = receivers || spies;
  if (connected != connected_.load(std::memory_order_relaxed)) {
    if (!connected) {
      // The limit first: a publisher that sees the connection gone is then refused, and no message goes where nobody reads.
      s.publisherLimit = minSpyPosition(s.senderPosition);
      counters_.publisherLimit.set(s.publisherLimit);
    }
    connected_.store(connected, std::memory_order_release);
    log_.putRelease<int32_t>(meta::kIsConnected, connected ? 1 : 0);
    s.limitMoved = true;
  }
  const auto transports = static_cast<int32_t>(s.receiverCount);
  if (log_.get<int32_t>(meta::kActiveTransportCount) != transports) log_.putRelease<int32_t>(meta::kActiveTransportCount, transports);
  if (!receivers && spies) {
    // Nobody on the network listens, and the spies stand in for it: what they have read counts as sent.
    int64_t furthest = s.senderPosition;
    // A position is a client's word: it counts aligned, and within what was written and cleaned.
    const int64_t highest = std::min(producerPosition(), s.cleanedTo);
    for (const cnc::Counter& spy : s.spies) {
      furthest = std::max(furthest, std::min(spy.get(), highest) & ~static_cast<int64_t>(wire::kFrameAlignment - 1));
    }
    if (furthest > s.senderPosition) {
      s.senderPosition = furthest;
      s.partial = {};
      counters_.senderPosition.set(furthest);
      setSenderLimit(std::max(s.senderLimit, furthest));
    }
  }
}

void NetworkPublication::askForMemory(SenderContext& context, int64_t limit, int64_t nowNs) {
  // One term ahead of the producer, asked for before it is needed; again when nothing came, since a full volume may get room.
  SenderState& s = *state_;
  const int64_t termMask = static_cast<int64_t>(params_.termLength) - 1;
  const int64_t needed = ((limit + termMask) & ~termMask) + params_.termLength;
  const bool unanswered = s.backedPosition < std::min(needed, s.requestedPosition) && nowNs - s.lastTermRequestNs >= kMemoryRetryNs;
  if (needed <= s.requestedPosition && !unanswered) return;
  AgentEvent event;
  event.type = AgentEvent::Type::kBackTerm;
  event.publication = this;
  event.value = needed;
  if (!context.events.offer(event)) return;  // asked again on the next cycle
  s.requestedPosition = needed;
  s.lastTermRequestNs = nowNs;
}

void NetworkPublication::updateLimits(SenderContext& context, int64_t nowNs) {
  SenderState& s = *state_;
  const int64_t termLength = params_.termLength;
  const int64_t consumed = minSpyPosition(s.senderPosition);
  if (consumed != consumedPosition_.load(std::memory_order_relaxed)) consumedPosition_.store(consumed, std::memory_order_release);
  // Repairs reach back half a term and one message (AERON.md: retransmission window), so one whole term behind stays untouched.
  const int64_t cleanTarget = consumed + 2 * termLength;
  if (cleanTarget > s.cleanedTo) {
    const int64_t from = s.cleanedTo;
    const int32_t offset = logbuffer::termOffsetFromPosition(from, params_.termLength);
    const int64_t length = std::min({cleanTarget - from, kCleanChunk, termLength - offset});
    // Nobody writes where it was not cleaned: what waits for the network's reading is this alone.
    s.memoryLent = context.stillReads(log_.atPosition(from), static_cast<size_t>(length));
    if (!s.memoryLent) {
      std::memset(log_.atPosition(from), 0, static_cast<size_t>(length));
      s.cleanedTo = from + length;
    }
  }
  int64_t limit = consumed;
  if (connected_.load(std::memory_order_relaxed)) {
    limit = consumed + params_.windowLength;
    askForMemory(context, limit, nowNs);
    // Half a term in hand: concurrent publishers may each claim one message past the limit, and the frame behind the last must read zero.
    limit = std::min({limit, s.cleanedTo - termLength / 2, s.backedPosition});
  }
  if (limit > s.publisherLimit || (!connected_.load(std::memory_order_relaxed) && limit < s.publisherLimit)) {
    s.publisherLimit = limit;
    counters_.publisherLimit.set(limit);
    s.limitMoved = true;
  }
}

void NetworkPublication::onStatusMessage(SenderContext& context, const uint8_t* frame, size_t length, const io::SockAddr&, int64_t nowNs) {
  SenderState& s = *state_;
  const auto sm = wire::load<wire::StatusMessageFrame>(frame);
  driverCounters_.add(SystemCounter::kStatusMessagesReceived, 1);
  if ((sm.header.flags & wire::kSmFlagSendSetup) != 0) {
    elicitSetup();
    return;
  }
  StatusMessage message;
  message.position = logbuffer::computePosition(sm.consumptionTermId, sm.consumptionTermOffset, log_.bits(), params_.initialTermId);
  message.windowLength = sm.receiverWindow;
  message.receiverId = sm.receiverId;
  message.flags = sm.header.flags;
  if (sm.header.frameLength >= wire::kStatusMessageWithGroupTagLength &&
      length >= static_cast<size_t>(wire::kStatusMessageWithGroupTagLength)) {
    message.hasGroupTag = true;
    message.groupTag = readAt<int64_t>(frame, sizeof(wire::StatusMessageFrame));
  }
  const int64_t distance = message.position - s.senderPosition;
  if (distance > params_.termLength / 2 || distance < -static_cast<int64_t>(params_.termLength) / 2 - params_.windowLength ||
      message.windowLength > params_.termLength) {
    // A position that this stream cannot have: a stale session, a bug, or an attack. Behind, it may lag by the window that the sender
    // runs ahead on top: a PAD moves the sender past its limit at once.
    driverCounters_.add(SystemCounter::kStatusMessagesRejected, 1);
    return;
  }
  lastActivityNs_.store(nowNs, std::memory_order_relaxed);
  const bool eos = (message.flags & wire::kSmFlagEos) != 0;
  size_t at = 0;
  while (at < s.receiverCount && s.receivers[at].id != message.receiverId) ++at;
  if (eos) {
    if (at < s.receiverCount) s.receivers[at] = s.receivers[--s.receiverCount];
    if (!endpoint_->isMdc()) receiverSaidEos_.store(true, std::memory_order_release);
  } else if (at < s.receiverCount) {
    s.receivers[at].lastHeardNs = nowNs;
  } else if (s.receiverCount < s.receivers.size()) {
    s.receivers[s.receiverCount++] = {message.receiverId, nowNs};
    receiverSaidEos_.store(false, std::memory_order_release);
  }
  if (!s.hasInitialConnection && !eos) {
    s.hasInitialConnection = true;
    s.setupWanted = false;
    s.lastSendNs = nowNs;
    requestRtt(context, nowNs);
  }
  s.receiverWindow = std::max<int32_t>(message.windowLength, params_.mtu);
  setSenderLimit(flowControl_->onStatusMessage(message, s.senderLimit, s.senderPosition, nowNs));
}

void NetworkPublication::onError(SenderContext& context, const uint8_t* frame, size_t, const io::SockAddr& source, int64_t nowNs) {
  SenderState& s = *state_;
  const auto error = wire::load<wire::ErrorFrame>(frame);
  driverCounters_.add(SystemCounter::kErrorFramesReceived, 1);
  flowControl_->onReceiverGone(error.receiverId, nowNs);
  for (size_t i = 0; i < s.receiverCount; ++i) {
    if (s.receivers[i].id == error.receiverId) {
      s.receivers[i] = s.receivers[--s.receiverCount];
      break;
    }
  }
  if (s.lastErrorEventNs != 0 && nowNs - s.lastErrorEventNs < kErrorEventIntervalNs) return;
  s.lastErrorEventNs = nowNs;
  AgentEvent event;
  event.type = AgentEvent::Type::kPublicationError;
  event.publication = this;
  event.address = source;
  event.receiverId = error.receiverId;
  event.groupTag = (error.header.flags & wire::kErrorFlagHasGroupTag) != 0 ? error.groupTag : 0;
  event.errorCode = error.errorCode;
  const auto textLength = std::min<size_t>(static_cast<size_t>(error.errorLength), sizeof(event.text) - 1);
  std::memcpy(event.text, frame + sizeof(wire::ErrorFrame), textLength);
  event.text[textLength] = '\0';
  if (!context.events.offer(event)) driverCounters_.add(SystemCounter::kConductorProxyFails, 1);
}

// No repair helps: the stream's MTU stands in its log.
void NetworkPublication::reportTooLong(SenderContext& context, const io::TxItem& item) {
  if (std::exchange(state_->tooLongReported, true)) return;
  const uint32_t length = item.segmentLength == 0 ? item.length : std::min(item.segmentLength, item.length);
  AgentEvent event;
  event.type = AgentEvent::Type::kError;
  event.errorCode = static_cast<int32_t>(ErrorCode::kGeneric);
  std::snprintf(event.text, sizeof(event.text),
                "publication session=%d stream=%d: a datagram of %u bytes is too long for the path to %s, which takes %u now; add the "
                "publication again with mtu= that fits",
                params_.sessionId, params_.streamId, length, item.nextHop->address().toString().c_str(), item.nextHop->longestDatagram());
  if (!context.events.offer(event)) driverCounters_.add(SystemCounter::kConductorProxyFails, 1);
}

void NetworkPublication::reportDamage(SenderContext& context) {
  if (std::exchange(state_->damagedReported, true)) return;
  AgentEvent event;
  event.type = AgentEvent::Type::kError;
  event.errorCode = static_cast<int32_t>(ErrorCode::kGeneric);
  std::snprintf(event.text, sizeof(event.text),
                "publication session=%d stream=%d: a client wrote a frame of an impossible length at position %lld; the stream stops",
                params_.sessionId, params_.streamId, static_cast<long long>(state_->senderPosition));
  if (!context.events.offer(event)) driverCounters_.add(SystemCounter::kConductorProxyFails, 1);
}

int64_t NetworkPublication::nextDeadlineNs(int64_t nowNs) const {
  const SenderState& s = *state_;
  int64_t deadline = nowNs + kSecondNs;
  if (s.setupWanted && !(endpoint_->isMdc() && endpoint_->destinations.empty())) {
    deadline = std::min(deadline, s.lastSetupNs + (s.setupElicited ? kElicitedSetupIntervalNs : config_.setupTimeoutNs));
  }
  if (s.hasInitialConnection) deadline = std::min(deadline, heartbeatDueNs(nowNs));
  if (s.socketFull) deadline = std::min(deadline, nowNs + kSocketRetryNs);
  if (!s.spies.empty()) deadline = std::min(deadline, nowNs + kSpyCheckNs);
  if (s.cleanedTo < consumedPosition_.load(std::memory_order_relaxed) + 2 * static_cast<int64_t>(params_.termLength)) {
    deadline = s.memoryLent ? std::min(deadline, nowNs + kLentRetryNs) : nowNs;
  }
  return deadline;
}

}  // namespace outrigger::driver
