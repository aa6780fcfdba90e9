// SPDX-License-Identifier: Apache-2.0
// Interests, sessions and the check of a SETUP. See the header.
#include "driver/receiver_endpoint.h"

#include <algorithm>
#include <cstdio>

#include "driver/publication_image.h"
#include "logbuffer/descriptor.h"

namespace outrigger::driver {

void ReceiverEndpoint::addInterest(int32_t streamId, int32_t sessionId, bool sessionSpecific) {
  Interest& interest = interests_[streamId];
  if (sessionSpecific) {
    const auto at = std::find_if(interest.sessions.begin(), interest.sessions.end(), [&](const auto& s) { return s.first == sessionId; });
    if (at == interest.sessions.end()) {
      interest.sessions.emplace_back(sessionId, 1);
    } else {
      ++at->second;
    }
  } else {
    ++interest.all;
  }
  // A new subscription may make possible what was refused before.
  sessions_.removeIf([&](const Session& s) { return s.streamId == streamId && s.state == SessionState::kCoolDown && s.refused; });
  sessions_.forEach([&](const Session& s) {
    if (s.streamId == streamId && s.state == SessionState::kActive && wants(streamId, s.sessionId)) s.image->setInterest(true);
  });
}

void ReceiverEndpoint::removeInterest(int32_t streamId, int32_t sessionId, bool sessionSpecific) {
  const auto found = interests_.find(streamId);
  if (found == interests_.end()) return;
  Interest& interest = found->second;
  if (sessionSpecific) {
    std::erase_if(interest.sessions, [&](auto& s) { return s.first == sessionId && --s.second == 0; });
  } else if (interest.all > 0) {
    --interest.all;
  }
  if (interest.all == 0 && interest.sessions.empty()) interests_.erase(found);
  const auto unwanted = [&](const Session& s) { return s.streamId == streamId && !wants(streamId, s.sessionId); };
  sessions_.forEach([&](const Session& s) {
    if (s.state == SessionState::kActive && unwanted(s)) s.image->setInterest(false);
  });
  // An image that is being made is answered for by the conductor.
  sessions_.removeIf(
      [&](const Session& s) { return (s.state == SessionState::kPendingSetup || s.state == SessionState::kCoolDown) && unwanted(s); });
}

bool ReceiverEndpoint::wants(int32_t streamId, int32_t sessionId) const {
  const auto found = interests_.find(streamId);
  if (found == interests_.end()) return false;
  const Interest& interest = found->second;
  return interest.all > 0 ||
         std::any_of(interest.sessions.begin(), interest.sessions.end(), [&](const auto& s) { return s.first == sessionId; });
}

const SourceList* ReceiverEndpoint::setSources(int32_t streamId, const SourceList* sources) {
  strangerCount_ = 0;  // who is refused from now on is refused by another list
  const auto found = sources_.find(streamId);
  const SourceList* before = found == sources_.end() ? nullptr : found->second;
  if (sources != nullptr) {
    sources_[streamId] = sources;
  } else if (found != sources_.end()) {
    sources_.erase(found);
  }
  return before;
}

bool ReceiverEndpoint::strangerPersists(int32_t streamId, const io::SockAddr& source, int64_t nowNs) {
  const AddressKey address = addressKeyOf(source);
  const auto end = strangers_.begin() + static_cast<std::ptrdiff_t>(strangerCount_);
  const auto known =
      std::find_if(strangers_.begin(), end, [&](const Stranger& each) { return each.streamId == streamId && each.address == address; });
  if (known != end) {
    if (known->told || nowNs - known->firstNs < kStrangerPatienceNs) return false;
    return known->told = true;
  }
  if (strangerCount_ < strangers_.size()) {
    strangers_[strangerCount_++] = {streamId, address, nowNs, false};
    return false;
  }
  Stranger& oldest = strangers_[nextStranger_];
  nextStranger_ = (nextStranger_ + 1) % strangers_.size();
  if (!oldest.told) oldest = {streamId, address, nowNs, false};
  return false;
}

void ReceiverEndpoint::addImage(PublicationImage* image) {
  Session& session = sessions_.add(image->params().streamId, image->params().sessionId);
  if (session.state != SessionState::kActive) ++images_;
  session.state = SessionState::kActive;
  session.image = image;
  cached_ = nullptr;
  image->setInterest(wants(session.streamId, session.sessionId));
}

void ReceiverEndpoint::removeImage(PublicationImage* image, int64_t coolDownUntilNs) {
  const int32_t streamId = image->params().streamId;
  const int32_t sessionId = image->params().sessionId;
  cached_ = nullptr;
  Session* session = sessions_.find(streamId, sessionId);
  if (session == nullptr || session->state != SessionState::kActive || session->image != image) return;
  --images_;
  if (coolDownUntilNs == 0) {
    sessions_.remove(streamId, sessionId);
    return;
  }
  session->state = SessionState::kCoolDown;
  session->image = nullptr;
  session->refused = false;
  session->deadlineNs = coolDownUntilNs;
}

Session* ReceiverEndpoint::unknownSession(int32_t streamId, int32_t sessionId, int64_t nowNs) {
  Session* known = sessions_.find(streamId, sessionId);
  if (known != nullptr) {
    const bool timed = known->state == SessionState::kPendingSetup || known->state == SessionState::kCoolDown;
    return timed && nowNs >= known->deadlineNs ? known : nullptr;
  }
  if (sessions_.size() - images_ >= kMaxUnconfirmed) return nullptr;
  Session& session = sessions_.add(streamId, sessionId);
  session.deadlineNs = nowNs;
  return &session;
}

void ReceiverEndpoint::expire(int64_t nowNs) {
  sessions_.removeIf([&](const Session& s) {
    return (s.state == SessionState::kPendingSetup || s.state == SessionState::kCoolDown) && nowNs >= s.deadlineNs;
  });
}

const char* refuseSetup(const wire::SetupFrame& setup, int32_t receiveBufferBytes, uint32_t longestReceivable, char* text,
                        size_t capacity) {
  text[0] = '\0';
  const auto stream = [&](const char* what) {
    const int written = std::snprintf(text, capacity, "SETUP session=%d stream=%d refused: %s", setup.sessionId, setup.streamId, what);
    return static_cast<size_t>(std::clamp(written, 0, static_cast<int>(capacity)));
  };
  size_t at = 0;
  const auto add = [&](const char* format, auto... values) { std::snprintf(text + at, capacity - at, format, values...); };
  if (!logbuffer::isValidTermLength(setup.termLength)) {
    at = stream("term length ");
    add("%d is not a power of two from %d to %d; the publisher must use another term-length", setup.termLength, logbuffer::kMinTermLength,
        logbuffer::kMaxTermLength);
  } else if (!logbuffer::isValidMtu(setup.mtu)) {
    at = stream("mtu ");
    add("%d is not a multiple of %d from %d to %d; the publisher must use another mtu", setup.mtu, wire::kFrameAlignment,
        wire::kDataHeaderLength + wire::kFrameAlignment, wire::kMaxUdpPayloadLength);
  } else if (receiveBufferBytes > 0 && setup.mtu > receiveBufferBytes) {
    at = stream("mtu ");
    add("%d is larger than the receive buffer of %d bytes; raise so-rcvbuf= or lower the publisher's mtu", setup.mtu, receiveBufferBytes);
  } else if (longestReceivable > 0 && static_cast<uint32_t>(setup.mtu) > longestReceivable) {
    at = stream("mtu ");
    add("%d is longer than the %u bytes of a datagram that can arrive here: the device takes no longer frame, and nobody puts fragments "
        "together; raise the interface's MTU or lower the publisher's mtu",
        setup.mtu, longestReceivable);
  } else if (logbuffer::termDelta(setup.activeTermId, setup.initialTermId) < 0) {
    at = stream("active term id ");
    add("%d lies before initial term id %d", setup.activeTermId, setup.initialTermId);
  } else if (setup.termOffset < 0 || setup.termOffset >= setup.termLength || setup.termOffset % wire::kFrameAlignment != 0) {
    at = stream("term offset ");
    add("%d is no frame boundary in a term of %d bytes", setup.termOffset, setup.termLength);
  }
  return text;
}

}  // namespace outrigger::driver
