// SPDX-License-Identifier: Apache-2.0
// A driver's connection to outrigger-nicd: requests that wait for their answer, the feed, and coming back. When nicd goes away, what it handed
// out goes on working; the connection reconnects by itself, presents its sessions, and they go on as if nothing had been. A session that
// nicd does not know any more is lost, with the reason.
//
// A thread of its own reads; any other may ask. Nothing here is for the data path.
#pragma once

#include <array>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/fd.h"
#include "io/frame/frame_io.h"
#include "io/nicd_client/protocol.h"
#include "io/nicd_client/seqpacket.h"

namespace outrigger::nicd {

// What nicd sends of its own accord for one session. Called on the connection's thread, never two at a time.
class SessionListener {
 public:
  virtual ~SessionListener() = default;
  virtual void onFeed(const FeedEntry& entry) = 0;
  // nicd came back and knows the session, but nothing of what was watched.
  virtual void onResumed() = 0;
  // After Connection::wake().
  virtual void onWake() = 0;
  // The answer to Connection::askStatistics().
  virtual void onStatistics(const StatisticsAnswer& answer) = 0;
};

class Connection {
 public:
  struct Options {
    std::string socket;
    std::string claimFile;  // a claim as the node's agent wrote it for the pod (its name and token); empty: none
    std::string name;       // for nicd's log
  };

  // Connects and says Hello. The error says what nicd refused and why.
  static Result<std::shared_ptr<Connection>> open(const Options& options);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  struct Reply {
    AnswerBody body;
    std::vector<UniqueFd> descriptors;
  };
  // Sends a request (its requestId is filled in here) and waits. Fails when nicd refuses, is away, or does not answer in time.
  template <typename Body>
  Result<Reply> request(MessageType type, const Body& body, std::span<const int> descriptors = {}) {
    return ask(encode(type, 1, body), descriptors);
  }
  // Sends and waits for nothing; a refusal is dropped. False: nicd is away.
  template <typename Body>
  bool post(MessageType type, const Body& body) {
    return postMessage(encode(type, 1, body));
  }

  // Asks for the session's statistics, which its listener gets; a refusal is dropped. False: nicd is away.
  bool askStatistics(uint64_t session);

  // A session that was opened by request(): it is presented again after a reconnect, with a duplicate of its socket.
  Result<void> keep(const Opened& opened, int socket);
  // Ends the session at nicd too, if it is there.
  void drop(uint64_t session);
  // The listener outlives the session's keeping, or takes itself off (nullptr), after which it is not called any more. What the feed said of the
  // session before comes first, from within this call.
  void listen(uint64_t session, SessionListener* listener);

  struct Standing {
    std::string lost;  // empty as long as the session lives; else what happened
    std::string away;  // empty as long as nicd is there; else why not
  };
  // Never waits: false, and nothing is said, while another thread talks to nicd.
  bool tryStanding(uint64_t session, Standing& standing) const;
  bool isAway() const;
  const Welcome& welcome() const { return welcome_; }

  // Has the thread call every listener's onWake soon. Any thread, also on the data path.
  void wake();

 private:
  struct Kept {
    std::array<uint8_t, kTokenLength> token{};
    std::shared_ptr<UniqueFd> socket;
    SessionListener* listener = nullptr;
    std::string lost;
  };
  struct Pending {
    bool done = false;
    bool failed = false;
    Reply reply;
  };

  explicit Connection(const Options& options) : options_(options) {}
  Result<void> readClaim();
  Result<UniqueFd> connectAndGreet();
  // Before the socket is everyone's: sends, and reads until the answer comes.
  Result<Reply> exchange(int socket, Message message, std::span<const int> descriptors);
  Result<Reply> ask(Message message, std::span<const int> descriptors);
  bool postMessage(Message message);
  void deliverStatistics(uint64_t requestId, const StatisticsAnswer& answer);
  bool sendNow(const Message& message, std::span<const int> descriptors);
  void run();
  void readAll();
  void deliver(Answer answer, std::vector<UniqueFd> descriptors);
  void deliverFeed(const FeedEntries& feed);
  void holdFeed(const FeedEntries& feed);
  void goAway(const std::string& why);
  void comeBack();
  void wakeListeners();

  Options options_;
  Hello hello_;
  Welcome welcome_;
  UniqueFd wake_;
  mutable std::mutex mutex_;
  std::condition_variable answered_;
  UniqueFd socket_;
  std::string away_;
  bool stopping_ = false;
  uint64_t nextRequest_ = 1;
  std::map<uint64_t, Pending*> pending_;
  std::map<uint64_t, uint64_t> statisticsAsked_;  // session by request
  std::map<uint64_t, Kept> sessions_;
  std::mutex listenerMutex_;  // held while a listener is called
  // By session, under listenerMutex_: link and addresses as told before anyone listened. They follow a session's opening at once.
  std::map<uint64_t, std::vector<FeedEntry>> unheard_;
  std::thread thread_;
};

}  // namespace outrigger::nicd
