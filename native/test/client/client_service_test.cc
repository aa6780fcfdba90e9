// SPDX-License-Identifier: Apache-2.0
// The service thread, with a driver of its own in this process: what the addon does, without JavaScript.
#include "client/client_service.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <condition_variable>
#include <map>

#include "client/batch_publisher.h"
#include "client_world.h"
#include "driver/media_driver.h"

namespace outrigger::client {
namespace {

class OpenSubscription final : public Operation {
 public:
  OpenSubscription(ClientService& service, std::shared_ptr<SubscriberTask> task, int64_t command)
      : service_(service), task_(std::move(task)), command_(command) {}
  bool step(MediaClient& client, int64_t) override {
    status = client.status(command_);
    if (!status.done()) return false;
    task_->subscription = client.subscription(command_);
    if (task_->subscription) service_.adopt(task_);
    return true;
  }
  CommandStatus status;

 private:
  ClientService& service_;
  std::shared_ptr<SubscriberTask> task_;
  int64_t command_;
};

class OpenPublication final : public Operation {
 public:
  explicit OpenPublication(int64_t command) : command_(command) {}
  bool step(MediaClient& client, int64_t) override {
    status = client.status(command_);
    if (!status.done()) return false;
    publication = client.exclusivePublication(command_);
    return true;
  }
  CommandStatus status;
  std::shared_ptr<ExclusivePublication> publication;

 private:
  int64_t command_;
};

// Stands where JavaScript stands: sleeps until notified, then takes everything.
class Consumer {
  // Before the service, whose thread notifies until it is destroyed.
  std::mutex mutex_;
  std::condition_variable wake_;
  bool notified_ = false;

 public:
  explicit Consumer(const std::string& directory) {
    MediaClientOptions options;
    options.directory = directory;
    auto started = ClientService::start(std::move(options), [this] {
      const std::lock_guard<std::mutex> lock(mutex_);
      notified_ = true;
      wake_.notify_one();
    });
    EXPECT_TRUE(started.ok()) << started.error().message;
    if (started) service = started.take();
  }

  template <typename Condition>
  bool until(Condition&& holds) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (!holds()) {
      {
        std::unique_lock<std::mutex> lock(mutex_);
        if (!wake_.wait_until(lock, deadline, [this] { return notified_; })) return false;
        notified_ = false;
      }
      drain();
    }
    return true;
  }

  std::shared_ptr<SubscriberTask> subscribe(const std::string& channel, int32_t streamId, SubscriberOptions options = {}) {
    auto task = std::make_shared<SubscriberTask>(options);
    const auto hold = task;
    const int64_t command = service->client().addSubscription(
        channel, streamId, [hold](Subscription&, const std::shared_ptr<Image>& image) { hold->subscriber.onAvailable(image); },
        [hold](Subscription&, const std::shared_ptr<Image>& image) {
          SystemClock clock;
          hold->subscriber.onUnavailable(image, clock.nanoTime());
        });
    auto operation = std::make_shared<OpenSubscription>(*service, task, command);
    service->submit(operation);
    EXPECT_TRUE(until([&] { return isDone(operation.get()); }));
    EXPECT_TRUE(operation->status.succeeded()) << operation->status.error.message;
    return task;
  }
  std::shared_ptr<ExclusivePublication> publish(const std::string& channel, int32_t streamId) {
    auto operation = std::make_shared<OpenPublication>(service->client().addExclusivePublication(channel, streamId));
    service->submit(operation);
    EXPECT_TRUE(until([&] { return isDone(operation.get()); }));
    return operation->publication;
  }
  bool isDone(const Operation* operation) const {
    return std::any_of(done.begin(), done.end(), [&](const auto& each) { return each.get() == operation; });
  }

  std::shared_ptr<ClientService> service;
  std::vector<std::shared_ptr<Operation>> done;  // held, so that no later one gets the address of an earlier one
  std::map<const SubscriberTask*, uint64_t> messages;
  std::vector<SubscriberEnd> ends;
  int32_t losses = 0;
  int32_t stops = 0;

 private:
  void drain() {
    auto output = service->drain();
    done.insert(done.end(), output.done.begin(), output.done.end());
    for (const auto& task : output.ready) take(*task);
    for (const auto& [task, end] : output.ended) {
      take(*task);
      ends.push_back(end);
    }
    losses += output.lost ? 1 : 0;
    stops += output.stopped ? 1 : 0;
  }
  void take(SubscriberTask& task) {
    ResponseChunk chunk;
    bool wasFull = false;
    if (!task.subscriber.take(chunk, &wasFull)) return;
    messages[&task] += chunk.messages();
    if (wasFull) service->wake();
  }
};

struct ClientServiceTest : ::testing::Test {
  void SetUp() override {
    driver::DriverConfig config;
    config.directory = directory.path() + "/driver";
    config.threadingMode = driver::ThreadingMode::kShared;
    config.ipcTermBufferLength = 256 * 1024;
    config.termBufferLength = 256 * 1024;
    auto launched = driver::MediaDriver::launch(config);
    ASSERT_TRUE(launched.ok()) << launched.error().message;
    mediaDriver = launched.take();
    consumer = std::make_unique<Consumer>(config.directory);
    ASSERT_TRUE(consumer->service);
  }
  void TearDown() override {
    consumer.reset();
    mediaDriver.reset();
  }

  void exchange(const std::string& channel) {
    constexpr uint64_t kCount = 50'000;
    const auto task = consumer->subscribe(channel, 10);
    const auto publication = consumer->publish(channel, 10);
    ASSERT_TRUE(publication);
    task->subscriber.addCredit(kCount, UINT64_MAX);
    consumer->service->wake();
    BatchPublisher publisher(publication);
    const std::vector<MessagePart> batch(50, MessagePart{"0123456789abcdef0123456789abcdef", 32});
    std::thread sender([&] {
      for (uint64_t sent = 0; sent < kCount;) {
        const size_t size = static_cast<size_t>(std::min<uint64_t>(50, kCount - sent));
        const OfferOutcome outcome = publisher.offer(batch.data(), size);
        sent += outcome.accepted;
        if (outcome.status == OfferStatus::kClosed) return;
        if (outcome.accepted < size) std::this_thread::yield();
      }
    });
    EXPECT_TRUE(consumer->until([&] { return consumer->messages[task.get()] == kCount; })) << consumer->messages[task.get()];
    sender.join();
    EXPECT_EQ(task->subscriber.stats().bytes, kCount * 32);
    EXPECT_EQ(consumer->losses, 0);
  }

  TempDirectory directory;
  std::unique_ptr<driver::MediaDriver> mediaDriver;
  std::unique_ptr<Consumer> consumer;
};

TEST_F(ClientServiceTest, MessagesOverIpcReachTheConsumer) { exchange("aeron:ipc"); }

TEST_F(ClientServiceTest, MessagesOverUdpReachTheConsumer) { exchange("aeron:udp?endpoint=127.0.0.1:24861"); }

TEST_F(ClientServiceTest, AnEndedSubscriberIsToldOnceAndAClosedOneNotAtAll) {
  SubscriberOptions options;
  options.policy = SlowPolicy::kDisconnectAfter;
  options.disconnectAfterNs = kMs;
  const auto slow = consumer->subscribe("aeron:ipc", 10, options);
  const auto closed = consumer->subscribe("aeron:ipc", 10, options);
  closed->closing.store(true);
  consumer->service->wake();
  const auto publication = consumer->publish("aeron:ipc", 10);
  ASSERT_TRUE(consumer->until([&] { return slow->subscriber.stats().images == 1; }));
  while (publication->offer("x", 1) < 0) std::this_thread::yield();
  EXPECT_TRUE(consumer->until([&] { return !consumer->ends.empty(); }));
  EXPECT_EQ(consumer->ends, std::vector<SubscriberEnd>{SubscriberEnd::kSlow});
}

TEST_F(ClientServiceTest, TheEndOfTheDriverIsToldAfterTheEndOfItsSubscribers) {
  consumer->subscribe("aeron:ipc", 10);
  consumer->subscribe("aeron:ipc", 11);
  mediaDriver.reset();
  EXPECT_TRUE(consumer->until([&] { return consumer->losses > 0; }));
  EXPECT_EQ(consumer->losses, 1);
  EXPECT_EQ(consumer->ends, (std::vector<SubscriberEnd>{SubscriberEnd::kDriverLost, SubscriberEnd::kDriverLost}));
  auto late = std::make_shared<OpenPublication>(consumer->service->client().addExclusivePublication("aeron:ipc", 1));
  consumer->service->submit(late);
  EXPECT_TRUE(consumer->until([&] { return consumer->isDone(late.get()); }));
  EXPECT_EQ(late->status.failure, CommandStatus::Failure::kDriverLost);
}

TEST_F(ClientServiceTest, StoppingSettlesEveryOperationAlsoOnesThatComeLater) {
  consumer->service->requestStop();
  EXPECT_TRUE(consumer->until([&] { return consumer->stops > 0; }));
  consumer->service->stopNow();
  auto late = std::make_shared<OpenPublication>(consumer->service->client().addExclusivePublication("aeron:ipc", 1));
  consumer->service->submit(late);
  EXPECT_TRUE(consumer->until([&] { return consumer->isDone(late.get()); }));
  EXPECT_EQ(late->status.failure, CommandStatus::Failure::kClosed);
  EXPECT_EQ(consumer->stops, 1);
}

}  // namespace
}  // namespace outrigger::client
