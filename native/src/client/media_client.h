// SPDX-License-Identifier: Apache-2.0
// MediaClient: a client of one media driver (Outrigger's or a stock Aeron driver, CnC 0.2.x) over the shared memory in its directory.
// It owns commands and their answers, keepalive, and the lifetime of publications, subscriptions and images. Messages themselves never pass
// through here: see publication.h and subscription.h.
//
// The conductor step doWork(nowNs, nowMs) is explicit, so that a simulation can run it on a virtual clock; start() runs it on an own thread
// instead. Every member function may be called from any thread. Handlers are called from the conductor step, without locks held.
#pragma once

#include <sched.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/adaptive_spin.h"
#include "client/driver_commands.h"
#include "client/driver_memory.h"
#include "client/publication.h"
#include "client/subscription.h"
#include "cnc/broadcast.h"

namespace outrigger::client {

using ImageHandler = std::function<void(Subscription&, const std::shared_ptr<Image>&)>;

struct MediaClientOptions {
  std::string directory;
  int64_t driverTimeoutNs = 10'000'000'000;  // without a driver heartbeat
  int64_t keepaliveIntervalNs = 500'000'000;
  int64_t commandTimeoutNs = 10'000'000'000;  // without an answer
  bool useDoorbells = true;
  // Ringing a dead driver's FIFO raises SIGPIPE. When its action is the default one it is set to ignore.
  bool ignoreSigpipe = true;
  std::function<void(const std::string& reason)> onDriverLost;  // at most once
  // Errors that belong to no command: a channel endpoint failed, a receiver rejected a publication.
  std::function<void(const Error&)> onError;
};

// The answer to a command, by the correlation id that issuing it returned.
struct CommandStatus {
  enum class State : uint8_t { kAwaiting, kSucceeded, kFailed };
  // Why it failed: the driver said no, it is gone, it did not answer, this client or object was closed, an argument was out of range.
  enum class Failure : uint8_t { kNone, kRefused, kDriverLost, kTimeout, kClosed, kInvalid };
  State state = State::kAwaiting;
  Failure failure = Failure::kNone;
  Error error;
  int64_t value = 0;  // of a counter: its id

  bool done() const { return state != State::kAwaiting; }
  bool succeeded() const { return state == State::kSucceeded; }
};

class MediaClient {
 public:
  // One attempt. kResourceTemporarilyUnavailable: the driver is starting, or its heartbeat is older than driverTimeoutNs at nowMs.
  static Result<std::unique_ptr<MediaClient>> connect(MediaClientOptions options, int64_t nowNs, int64_t nowMs);
  // Tries on the system clock until timeoutNs has passed.
  static Result<std::unique_ptr<MediaClient>> connectWithin(const MediaClientOptions& options, int64_t timeoutNs);
  ~MediaClient();

  int64_t clientId() const { return commands_.clientId(); }
  const DriverMemory& memory() const { return *memory_; }
  bool isClosed() const { return closed_.load(std::memory_order_acquire); }
  bool isDriverLost() const { return lost_.load(std::memory_order_acquire); }
  std::string lostReason() const;
  int64_t driverHeartbeatMs() const { return commands_.consumerHeartbeatMs(); }

  // The conductor step: answers, images, keepalive, liveness. Returns the number of messages handled.
  int32_t doWork(int64_t nowNs, int64_t nowMs);
  // Conductor thread: an answer of the driver waits for doWork().
  bool hasResponses() const { return responses_.hasNext(); }
  // An own thread for the conductor step, on the system clock.
  void start();
  // Tells the driver, closes everything, ends the own thread. Idempotent; no handler is called afterwards. Not from a handler.
  void close();

  // Commands: each returns the correlation id to ask status() with. An id < 0 (kNoCommand) never happens; when the command can't be issued
  // the status is kFailed at once.
  int64_t addPublication(std::string_view channel, int32_t streamId) { return add(Kind::kPublication, channel, streamId); }
  int64_t addExclusivePublication(std::string_view channel, int32_t streamId) {
    return add(Kind::kExclusivePublication, channel, streamId);
  }
  int64_t addSubscription(std::string_view channel, int32_t streamId, ImageHandler onAvailable = {}, ImageHandler onUnavailable = {});
  int64_t addDestination(const PublicationBase& publication, std::string_view channel);
  int64_t removeDestination(const PublicationBase& publication, std::string_view channel);
  int64_t removeDestination(const PublicationBase& publication, int64_t destinationId);
  int64_t addDestination(const Subscription& subscription, std::string_view channel);
  int64_t removeDestination(const Subscription& subscription, std::string_view channel);
  int64_t addCounter(int32_t typeId, std::string_view key, std::string_view label);
  int64_t addStaticCounter(int32_t typeId, std::string_view key, std::string_view label, int64_t registrationId);
  int64_t removeCounter(int64_t registrationId);
  int64_t rejectImage(const Image& image, std::string_view reason);
  bool terminateDriver(std::string_view token) { return commands_.terminateDriver(token); }

  // State of a command. A finished one is forgotten by this call; an id that is not known is kFailed.
  CommandStatus status(int64_t correlationId);
  // Hands over what a succeeded command made; nullptr when it is none of that kind.
  std::shared_ptr<Publication> publication(int64_t correlationId);
  std::shared_ptr<ExclusivePublication> exclusivePublication(int64_t correlationId);
  std::shared_ptr<Subscription> subscription(int64_t correlationId);

  // The same, waiting on the system clock; runs the conductor step itself when there is no own thread.
  CommandStatus await(int64_t correlationId, int64_t timeoutNs = 10'000'000'000);
  Result<std::shared_ptr<Publication>> awaitPublication(int64_t correlationId, int64_t timeoutNs = 10'000'000'000);
  Result<std::shared_ptr<ExclusivePublication>> awaitExclusivePublication(int64_t correlationId, int64_t timeoutNs = 10'000'000'000);
  Result<std::shared_ptr<Subscription>> awaitSubscription(int64_t correlationId, int64_t timeoutNs = 10'000'000'000);

  // Closes at once for the caller and tells the driver. Memory stays mapped until the last pointer is dropped.
  void closePublication(const std::shared_ptr<Publication>& publication, bool revoke = false);
  void closePublication(const std::shared_ptr<ExclusivePublication>& publication, bool revoke = false);
  void closeSubscription(const std::shared_ptr<Subscription>& subscription);

  // Counter values by id, nullptr when out of range. The memory lives as long as the client.
  int64_t* counterValue(int32_t counterId) const { return memory_->counterValue(counterId); }

  // Sleeping of the thread that polls (one a client): prepareWait(), look for work once more, then wait() or cancelWait(). With a driver
  // that has no doorbells a wait is at most maxBlindWaitNs long, since nobody rings.
  void prepareWait();
  void cancelWait();
  void wait(int64_t timeoutNs, int64_t maxBlindWaitNs = 1'000'000);
  // Any thread: ends the wait.
  void wake();
  bool hasDoorbells() const { return slot_ >= 0; }

 private:
  enum class Kind : uint8_t { kPublication, kExclusivePublication, kSubscription, kCounter, kOperation };
  struct Pending {
    Kind kind = Kind::kOperation;
    int64_t deadlineNs = 0;  // 0: set by the next conductor step
    std::string channel;
    int32_t streamId = 0;
    ImageHandler onAvailable;
    ImageHandler onUnavailable;
    CommandStatus status;
    std::shared_ptr<Publication> publication;
    std::shared_ptr<ExclusivePublication> exclusive;
    std::shared_ptr<Subscription> subscription;
  };
  struct SubscriptionEntry {
    std::shared_ptr<Subscription> subscription;
    ImageHandler onAvailable;
    ImageHandler onUnavailable;
  };
  using Calls = std::vector<std::function<void()>>;

  MediaClient(MediaClientOptions options, std::shared_ptr<DriverMemory> memory);

  int64_t add(Kind kind, std::string_view channel, int32_t streamId, ImageHandler onAvailable = {}, ImageHandler onUnavailable = {});
  // Registers a pending operation, then issues it; fails it at once when the ring is full.
  template <typename Issue>
  int64_t issue(Pending pending, Issue&& send);
  int64_t destination(cnc::Command command, bool closed, int64_t registrationId, std::string_view channel);
  static void fail(Pending& pending, CommandStatus::Failure failure, ErrorCode code, std::string message);
  template <typename T>
  Result<std::shared_ptr<T>> awaitObject(int64_t correlationId, int64_t timeoutNs, std::shared_ptr<T> Pending::*member);
  template <typename T>
  std::shared_ptr<T> takeObject(int64_t correlationId, std::shared_ptr<T> Pending::*member);
  void pump();

  void onResponse(int32_t type, const uint8_t* message, int32_t length, Calls& calls);
  void onPublicationReady(const uint8_t* message, int32_t length, bool exclusive);
  void onSubscriptionReady(const uint8_t* message, int32_t length);
  void onImageReady(const uint8_t* message, int32_t length, Calls& calls);
  void onImageUnavailable(const uint8_t* message, int32_t length, Calls& calls);
  void onErrorResponse(const uint8_t* message, int32_t length, Calls& calls);
  void onPublicationError(const uint8_t* message, int32_t length, Calls& calls);
  void onCounterReady(const uint8_t* message, int32_t length);
  void keepalive(int64_t nowMs, Calls& calls);
  void checkTimeouts(int64_t nowNs);
  // False when the heartbeat counter was there and is gone: the driver has timed this client out.
  bool refreshHeartbeat(int64_t nowMs);
  void lose(const std::string& reason, Calls& calls);
  void closeEverything(ImageEndReason reason, CommandStatus::Failure failure, const std::string& message, Calls* calls);
  Pending* findPending(int64_t correlationId, Kind kind);
  void reportError(Error error, Calls& calls);

  MediaClientOptions options_;
  std::shared_ptr<DriverMemory> memory_;
  DriverCommands commands_;
  cnc::BroadcastReceiver responses_;
  std::vector<uint8_t> scratch_;
  int32_t slot_ = -1;  // doorbell slot, -1: polled
  std::atomic<int32_t> localWord_{0};
  std::atomic<bool> closed_{false};
  std::atomic<bool> lost_{false};

  std::mutex stepMutex_;      // one conductor step at a time
  mutable std::mutex mutex_;  // all below
  std::string lostReason_;
  std::unordered_map<int64_t, Pending> pending_;
  std::unordered_map<int64_t, std::shared_ptr<PublicationBase>> publications_;
  std::unordered_map<int64_t, SubscriptionEntry> subscriptions_;
  // Commands that timed out and would make something: an answer that comes late is undone, or the driver would keep it for this client.
  std::unordered_set<int64_t> abandoned_;
  int64_t nextKeepaliveNs_ = 0;
  int64_t nextHangUpCheckNs_ = 0;
  int32_t heartbeatCounterId_ = -1;

  std::thread thread_;
  std::atomic<bool> stop_{false};
};

// Idle strategy of a polling thread: some spinning after the last work (AdaptiveSpin), then sleep until the doorbell rings or maxWaitNs.
class ClientIdle {
 public:
  explicit ClientIdle(MediaClient& client) : client_(client) {}

  // lookAgain() is called between announcing the sleep and sleeping; true when there is work after all.
  template <typename LookAgain>
  void idle(int32_t workCount, int64_t nowNs, int64_t maxWaitNs, LookAgain&& lookAgain) {
    if (workCount > 0) {
      spin_.workFound(nowNs);
      blindWaitNs_ = kMinBlindWaitNs;
      return;
    }
    if (spin_.shouldSpin(nowNs)) {
      // On a core of one's own a yield costs next to nothing; on a shared one it lets the driver answer instead of waiting for this slice to end.
      ::sched_yield();
      return;
    }
    client_.prepareWait();
    if (lookAgain()) {
      client_.cancelWait();
      return;
    }
    client_.wait(maxWaitNs, blindWaitNs_);
    if (blindWaitNs_ < kMaxBlindWaitNs) blindWaitNs_ *= 2;
  }

 private:
  static constexpr int64_t kMinBlindWaitNs = 100'000;
  static constexpr int64_t kMaxBlindWaitNs = 800'000;

  MediaClient& client_;
  AdaptiveSpin spin_;
  int64_t blindWaitNs_ = kMinBlindWaitNs;
};

}  // namespace outrigger::client
