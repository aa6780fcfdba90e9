// SPDX-License-Identifier: Apache-2.0
// Who of the destinations is one of ours, and where its queue pair is: asks them through the sockets of the endpoints, keeps asking those in use,
// and tells the owner threads by cells that they read without a lock (as net::KernelTables does with routes). One for each backend, with a
// thread of its own, since making an address handle may wait for ARP; nobody waits for that with it. What arrives at a socket is its owner's to
// read: it hands over what belongs here.
//
// Nobody else can tell us a queue pair: an answer counts only with the nonce that its destination was last sent, from the address that was asked,
// and with the GID of that address.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <vector>

#include "base/fd.h"
#include "base/seqlock.h"
#include "base/spsc_ring.h"
#include "io/verbs/exchange.h"
#include "io/verbs/gid.h"

namespace outrigger::io::verbs {

struct PeerQuestion {
  uint32_t number = 0;    // the asker counts; an answer names the question that it is for
  uint64_t endpoint = 0;  // by its number in the directory; 0: nothing is asked
  SockAddr destination;
};

enum class PeerState : uint8_t {
  kAsking,  // not known yet: for a fifth of a second at the most
  kReady,   // has a queue pair
  kKernel,  // reached through the kernel alone: not one of ours, refused, or silent since
};

struct PeerAnswer {
  uint32_t question = 0;
  PeerState state = PeerState::kAsking;
  RefusalReason refusal = RefusalReason::kNone;
  const AddressHandle* to = nullptr;
  uint32_t queueNumber = 0;
  uint32_t queueKey = 0;
  uint32_t mtu = 0;  // the lesser of both ends'
};

struct PeerCell {
  Seqlock<PeerQuestion> question;  // written by the asker alone
  Seqlock<PeerAnswer> answer;      // written by the directory alone
  std::atomic<bool> used{false};   // set by the asker as it sends
};

// An exchange message or a hint, from the owner thread that read it.
struct PeerNote {
  enum class Kind : uint8_t {
    kMessage,  // an answer or a refusal
    kHint,     // the peer asked us: so it is one of ours, and worth asking
  };
  Kind kind = Kind::kMessage;
  uint64_t endpoint = 0;
  SockAddr source;
  ExchangeMessage message;
};

// From one owner thread. Apart, so that who asks much leaves room for the answers to what we ask; what finds none is asked for again.
struct PeerNotes {
  static constexpr size_t kRoom = 256;  // a burst of first answers

  SpscRing<PeerNote> messages{kRoom};
  SpscRing<PeerNote> hints{kRoom};

  // Owner thread; false: there is no room.
  bool offer(const PeerNote& note) { return (note.kind == PeerNote::Kind::kHint ? hints : messages).offer(note); }
};

struct DirectoryTimes {
  int64_t askNs = 50'000'000;            // between the first asks of a destination
  int64_t checkNs = 1'000'000'000;       // between asks of one that is in use
  int64_t kernelNs = 5'000'000'000;      // until one that did not answer is asked again, doubling
  int64_t kernelMaxNs = 60'000'000'000;  // up to this
  int64_t hintNs = 100'000'000;          // hints lead to an ask no more often than this
  // A handle has the MAC address of when it was made: after a failover what is sent goes nowhere for as long as this and a check.
  int64_t handleNs = 5'000'000'000;
  int64_t sweepNs = 10'000'000'000;  // between looks for handles that nobody uses any more
};

struct DirectoryStats {
  std::atomic<int64_t> asks{0};
  // Of the way to a peer: found, not found, refused, lost, has another queue pair. A fresh handle for the same one is none.
  std::atomic<int64_t> changes{0};
  std::atomic<int64_t> refusals{0};
  std::atomic<int64_t> rejected{0};  // answers that are not to be believed, or name no host that can be reached
  std::atomic<int64_t> lost{0};      // peers that stopped answering
};

class PeerDirectory {
 public:
  static constexpr uint32_t kFirstAsks = 4;  // then it is not one of ours
  static constexpr uint32_t kChecks = 3;     // unanswered: it is gone

  static Result<std::shared_ptr<PeerDirectory>> create(std::shared_ptr<RdmaPort> port, const DirectoryTimes& times = {});
  ~PeerDirectory();

  const RdmaPort& port() const { return *port_; }
  RdmaPort& port() { return *port_; }
  const DirectoryStats& stats() const { return stats_; }
  // Address handles that are in use.
  size_t handles() const { return handleCount_.load(std::memory_order_relaxed); }

  // --- control threads ---
  // The socket is used until dropEndpoint.
  uint64_t addEndpoint(int fd, const net::IpAddress& own);
  void dropEndpoint(uint64_t number);
  void watch(PeerCell& cell);  // with a question: asks at once
  void forget(PeerCell& cell);
  // Of one owner thread, until dropped.
  PeerNotes* addNotes();
  void dropNotes(PeerNotes* notes);

  // --- any thread; does not block ---
  void wake() const;

 private:
  struct EndpointEntry {
    int fd = -1;
    net::IpAddress own;  // unspecified: a wildcard
  };
  struct Progress {
    uint32_t question = 0;
    uint64_t nonce = 0;
    // Asks whose time had come. Those for a hint don't count: whoever asks us could make a peer look silent with them.
    uint32_t unanswered = 0;
    int64_t nextNs = 0;
    int64_t lastNs = INT64_MIN / 2;
    int64_t backoffNs = 0;
    PeerAnswer answer;
  };
  struct Handle {
    std::unique_ptr<AddressHandle> handle;
    int64_t sinceNs = 0;  // made; retired
  };
  // An answer that is believed, on its way to get a handle.
  struct Believed {
    PeerCell* cell = nullptr;
    ExchangeMessage message;  // whose nonce tells whether the cell is still the one that asked
    uint32_t ownGidIndex = 0;
    const AddressHandle* handle = nullptr;
    const AddressHandle* before = nullptr;  // what it takes the place of
  };

  PeerDirectory(std::shared_ptr<RdmaPort> port, const DirectoryTimes& times, UniqueFd wake);
  void run();
  // With mutex_ held. Those with a result say when to look again.
  void readNotes(int64_t nowNs);
  void take(const PeerNote& note, int64_t nowNs);
  bool believe(PeerCell& cell, const PeerQuestion& question, const ExchangeMessage& message);
  void settle(const Believed& believed, int64_t nowNs);
  void leave(PeerCell& cell, Progress& progress, RefusalReason reason, int64_t nowNs);
  int64_t round(int64_t nowNs);
  int64_t look(PeerCell& cell, Progress& progress, int64_t nowNs);
  int64_t sweep(int64_t nowNs);
  void ask(const PeerQuestion& question, Progress& progress, int64_t nowNs);
  void publish(PeerCell& cell, const Progress& progress);
  // Without it: may wait for ARP.
  void makeHandle(Believed& believed, int64_t nowNs);

  std::shared_ptr<RdmaPort> port_;
  const DirectoryTimes times_;
  UniqueFd wake_;
  DirectoryStats stats_;
  std::mutex mutex_;
  uint64_t nextEndpoint_ = 1;
  std::unordered_map<uint64_t, EndpointEntry> endpoints_;
  std::unordered_map<PeerCell*, Progress> cells_;
  std::vector<std::unique_ptr<PeerNotes>> notes_;
  // The thread's own.
  std::vector<Believed> believed_;
  std::map<std::pair<Gid, uint32_t>, Handle> handles_;  // by destination and own GID
  std::vector<Handle> retired_;                         // the device may still be sending to them
  int64_t nextSweepNs_ = 0;
  std::atomic<size_t> handleCount_{0};
  std::atomic<bool> running_{true};
  std::thread thread_;
};

}  // namespace outrigger::io::verbs
