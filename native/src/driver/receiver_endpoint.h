// SPDX-License-Identifier: Apache-2.0
// What the receiver knows of one receive endpoint: who wants which stream, and the state of every session seen there. Decides where a
// datagram goes; sends nothing. Receiver thread only.
#pragma once

#include <array>
#include <cstdint>
#include <unordered_map>
#include <utility>
#include <vector>

#include "driver/driver_config.h"
#include "driver/endpoints.h"
#include "driver/session_table.h"
#include "driver/source_list.h"
#include "wire/frames.h"

namespace outrigger::driver {

class ReceiverEndpoint {
 public:
  explicit ReceiverEndpoint(ReceiveChannelEndpoint* endpoint) : endpoint_(endpoint) {}

  ReceiveChannelEndpoint& channel() const { return *endpoint_; }
  SessionTable& sessions() { return sessions_; }

  // Interests count: several subscriptions may want the same.
  void addInterest(int32_t streamId, int32_t sessionId, bool sessionSpecific);
  void removeInterest(int32_t streamId, int32_t sessionId, bool sessionSpecific);
  bool wants(int32_t streamId, int32_t sessionId) const;
  bool wantsAnything() const { return !interests_.empty(); }

  // Who may publish a stream here, where a policy says it (DriverConfig::policyFile). Returns the list before; null stands for nobody.
  const SourceList* setSources(int32_t streamId, const SourceList* sources);
  bool admits(int32_t streamId, const io::SockAddr& source) const {
    const auto found = sources_.find(streamId);
    return found != sources_.end() && found->second->admits(source);
  }
  // A source was refused. True once for each that is still refused after the time in which a new member becomes known: the error log gets an
  // entry then. Of a flood of sources it gets some, or none.
  bool strangerPersists(int32_t streamId, const io::SockAddr& source, int64_t nowNs);

  // The image of a session, null when there is none. Trains of one stream follow each other: the last answer is kept.
  PublicationImage* image(int32_t streamId, int32_t sessionId) {
    if (cached_ != nullptr && cachedStreamId_ == streamId && cachedSessionId_ == sessionId) return cached_;
    Session* session = sessions_.find(streamId, sessionId);
    if (session == nullptr || session->state != SessionState::kActive) return nullptr;
    cached_ = session->image;
    cachedStreamId_ = streamId;
    cachedSessionId_ = sessionId;
    return cached_;
  }
  void addImage(PublicationImage* image);
  // coolDownUntilNs: 0 when the session may come back at once.
  void removeImage(PublicationImage* image, int64_t coolDownUntilNs);
  bool hasImages() const { return images_ > 0; }

  // A session that is not known yet, or whose time is over, and that may be remembered: null when it must wait, or when strangers have
  // filled the table.
  Session* unknownSession(int32_t streamId, int32_t sessionId, int64_t nowNs);
  // Forgets pending set-ups and cool-downs whose time is over.
  void expire(int64_t nowNs);

  int64_t lastElicitNs = 0;    // multi-destination receivers introduce themselves
  int32_t elicits = 0;         // introductions since there was an image
  int64_t lastRefusalNs = 0;   // of an entry in the error log
  int64_t lastStrangerNs = 0;  // when the conductor last heard of a refused source

 private:
  // Unknown sessions are a stranger's word; each costs an entry until its time is over.
  static constexpr size_t kMaxUnconfirmed = 1024;
  // Error log entries that strangers can cause on one endpoint until its sources change; all are counted.
  static constexpr size_t kMaxStrangers = 64;
  // Members are told within a second, and a publisher may be faster with its first SETUP: that is no error.
  static constexpr int64_t kStrangerPatienceNs = 3 * kSecondNs;
  struct Stranger {
    int32_t streamId = 0;
    AddressKey address{};
    int64_t firstNs = 0;
    bool told = false;
  };
  struct Interest {
    int32_t all = 0;
    std::vector<std::pair<int32_t, int32_t>> sessions;  // (session, count)
  };

  ReceiveChannelEndpoint* endpoint_;
  SessionTable sessions_;
  std::unordered_map<int32_t, Interest> interests_;
  std::unordered_map<int32_t, const SourceList*> sources_;
  std::array<Stranger, kMaxStrangers> strangers_{};
  size_t strangerCount_ = 0;
  size_t nextStranger_ = 0;  // the next to be forgotten for another one, unless it was told of
  size_t images_ = 0;
  PublicationImage* cached_ = nullptr;
  int32_t cachedStreamId_ = 0;
  int32_t cachedSessionId_ = 0;
};

// Writes why the image of this SETUP can't be made, for the error log; an empty text when it can. receiveBufferBytes: of the socket,
// longestReceivable: datagram that the path in can bring; 0 unknown.
const char* refuseSetup(const wire::SetupFrame& setup, int32_t receiveBufferBytes, uint32_t longestReceivable, char* text, size_t capacity);

}  // namespace outrigger::driver
