// SPDX-License-Identifier: Apache-2.0
// One thread that does everything a client has to do: the conductor step, the subscribers, and commands and offers that wait. What it has to
// tell collects until the consumer (the JavaScript thread, or a test) drains it; `notify` is called once for each time that something
// new stands there.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "client/batch_subscriber.h"
#include "client/media_client.h"

namespace outrigger::client {

// Something that takes time. Made and completed by the consumer, stepped by the service thread.
class Operation {
 public:
  virtual ~Operation() = default;
  // Without locks held. True when it is done, whatever came of it; always true once the driver is lost or the client closed.
  virtual bool step(MediaClient& client, int64_t nowNs) = 0;
};

enum class SubscriberEnd : uint8_t { kNone, kSlow, kDriverLost, kClosed };

// A subscriber and its subscription.
struct SubscriberTask {
  explicit SubscriberTask(SubscriberOptions options) : subscriber(options) {}

  BatchSubscriber subscriber;
  // The consumer wants no more of it; the service thread closes the subscription.
  std::atomic<bool> closing{false};

  std::shared_ptr<Subscription> subscription;  // service thread
  bool queued = false;                         // under the service's lock: stands in the output
};

class ClientService {
 public:
  // What the consumer has to look at, in the order of the members.
  struct Output {
    std::vector<std::shared_ptr<Operation>> done;
    std::vector<std::shared_ptr<SubscriberTask>> ready;  // take() from each
    std::vector<std::pair<std::shared_ptr<SubscriberTask>, SubscriberEnd>> ended;
    bool lost = false;  // once
    std::string lostReason;
    bool stopped = false;  // once: the thread is at its end
  };

  // Connects once and starts the thread. notify is called from that thread, or from the one that submits or stops.
  static Result<std::shared_ptr<ClientService>> start(MediaClientOptions options, std::function<void()> notify);
  ~ClientService();
  ClientService(const ClientService&) = delete;
  ClientService& operator=(const ClientService&) = delete;

  MediaClient& client() { return *client_; }
  // Any thread. An operation comes back through drain() exactly once.
  void submit(std::shared_ptr<Operation> operation);
  // Any thread: the service thread looks at everything again (credit came, a task is closing, memory was taken).
  void wake() { client_->wake(); }
  // Service thread, from an operation's step: the driver has made the task's subscription.
  void adopt(std::shared_ptr<SubscriberTask> task) { tasks_.push_back(std::move(task)); }

  // Consumer.
  Output drain();
  // Closes the client; `stopped` follows.
  void requestStop();
  // The same, and waits for the thread. Nothing is notified any more when this returns.
  void stopNow();

 private:
  explicit ClientService(std::function<void()> notify) : notify_(std::move(notify)) {}
  void run();
  int32_t stepOperations(int64_t nowNs);
  int32_t pollTasks(int64_t nowNs);
  SubscriberEnd endOf(const SubscriberTask& task) const;
  bool hasWork() const;
  int64_t longestWaitNs(int64_t nowNs) const;
  void announce();
  void tellLoss();

  std::unique_ptr<MediaClient> client_;
  std::function<void()> notify_;
  std::thread thread_;
  std::atomic<bool> stopping_{false};
  std::atomic<bool> announced_{false};

  mutable std::mutex inMutex_;
  std::vector<std::shared_ptr<Operation>> submitted_;
  bool finished_ = false;

  std::mutex outMutex_;
  Output output_;

  // Service thread.
  bool lost_ = false;  // and not told yet: after the last words of the subscribers
  std::string lostReason_;
  std::vector<std::shared_ptr<Operation>> operations_;
  std::vector<std::shared_ptr<SubscriberTask>> tasks_;
};

}  // namespace outrigger::client
