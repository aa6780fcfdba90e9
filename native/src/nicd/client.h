// SPDX-License-Identifier: Apache-2.0
// A connection: who is behind it, what waits to be sent to it, and how fast it may ask.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>

#include "io/nicd_client/seqpacket.h"
#include "nicd/feed.h"
#include "nicd/registry.h"

namespace outrigger::nicd {

// Requests that may be asked at once, and how fast they come back. A client that asks more is read later, which costs nobody else anything.
class RequestBudget {
 public:
  RequestBudget(int64_t perSecond, int64_t nowNs) : perSecond_(perSecond), tokens_(perSecond), atNs_(nowNs) {}

  // False: none left before nextNs().
  bool take(int64_t nowNs) {
    const int64_t earned = (nowNs - atNs_) * perSecond_ / kSecondNs;
    if (earned > 0) {
      tokens_ = tokens_ + earned > perSecond_ ? perSecond_ : tokens_ + earned;
      atNs_ = nowNs;
    }
    if (tokens_ == 0) return false;
    --tokens_;
    return true;
  }
  int64_t nextNs() const { return atNs_ + kSecondNs / perSecond_ + 1; }

 private:
  static constexpr int64_t kSecondNs = 1'000'000'000;
  int64_t perSecond_;
  int64_t tokens_;
  int64_t atNs_;
};

class Client {
 public:
  // More answers than this are waiting only for who does not read: it is disconnected.
  static constexpr size_t kMaxAnswersWaiting = 256;
  // Feed messages wait up to here; then the feed is dropped and sent anew when there is room.
  static constexpr size_t kMaxFeedWaiting = 64;

  Client(UniqueFd socket, Owner who, int64_t requestsPerSecond, int64_t nowNs)
      : socket_(std::move(socket)), owner(std::move(who)), budget(requestsPerSecond, nowNs) {}

  int fd() const { return socket_.get(); }

  // Queues an answer. False: too many wait.
  bool answer(Message message, UniqueFd descriptor = {});
  // Queues what changed in the feeds of its sessions, or notes that it has to be sent anew.
  void feed();
  // Sends what the socket takes. False: the connection is over.
  bool flush();
  bool wantsToSend() const { return !waiting_.empty(); }

  uint64_t id = 0;

 private:
  struct Outgoing {
    Message message;
    UniqueFd descriptor;
    bool isFeed = false;
  };
  void dropFeed();

  UniqueFd socket_;
  std::deque<Outgoing> waiting_;
  size_t feedWaiting_ = 0;
  bool feedDropped_ = false;

 public:
  Owner owner;
  RequestBudget budget;
  UniqueFd process;  // pidfd
  bool greeted = false;
  bool ending = false;  // what waits is sent, then it is closed
  bool paused = false;  // over its budget
  std::string name;
  std::map<uint64_t, std::unique_ptr<SessionFeed>> feeds;  // by session: the sessions that it holds
  int64_t greetingDueNs = 0;
  int64_t requests = 0;
  uint64_t feedResyncs = 0;
};

}  // namespace outrigger::nicd
