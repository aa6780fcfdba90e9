// SPDX-License-Identifier: Apache-2.0
// The loop of the service thread: see client_service.h.
#include "client/client_service.h"

#include <algorithm>
#include <iterator>

#include "base/clock.h"

namespace outrigger::client {
namespace {

// The driver rings for images, positions and answers. What it may change without ringing is looked at this often.
constexpr int64_t kPendingWaitNs = 1'000'000;
// A driver that died rings no more: MediaClient looks for that, and keeps itself alive, at least this often.
constexpr int64_t kIdleWaitNs = 100'000'000;

}  // namespace

Result<std::shared_ptr<ClientService>> ClientService::start(MediaClientOptions options, std::function<void()> notify) {
  std::shared_ptr<ClientService> service(new ClientService(std::move(notify)));
  ClientService* self = service.get();
  options.onDriverLost = [self](const std::string& reason) {
    self->lost_ = true;
    self->lostReason_ = reason;
  };
  SystemClock clock;
  auto client = MediaClient::connect(std::move(options), clock.nanoTime(), clock.epochMillis());
  if (!client) return client.error();
  service->client_ = client.take();
  service->thread_ = std::thread([self] { self->run(); });
  return service;
}

ClientService::~ClientService() { stopNow(); }

void ClientService::submit(std::shared_ptr<Operation> operation) {
  {
    const std::lock_guard<std::mutex> lock(inMutex_);
    if (!finished_) {
      submitted_.push_back(std::move(operation));
      wake();
      return;
    }
  }
  operation->step(*client_, 0);
  {
    const std::lock_guard<std::mutex> lock(outMutex_);
    output_.done.push_back(std::move(operation));
  }
  announce();
}

ClientService::Output ClientService::drain() {
  // Before the output is taken: what comes after that is announced anew.
  announced_.store(false, std::memory_order_seq_cst);
  const std::lock_guard<std::mutex> lock(outMutex_);
  for (const auto& task : output_.ready) task->queued = false;
  return std::exchange(output_, Output{});
}

void ClientService::requestStop() {
  stopping_.store(true, std::memory_order_seq_cst);
  wake();
}

void ClientService::stopNow() {
  if (!thread_.joinable()) return;
  requestStop();
  thread_.join();
}

void ClientService::announce() {
  if (!announced_.exchange(true, std::memory_order_seq_cst) && notify_) notify_();
}

// ---- service thread ----

void ClientService::run() {
  SystemClock clock;
  ClientIdle idle(*client_);
  while (!stopping_.load(std::memory_order_acquire)) {
    const int64_t nowNs = clock.nanoTime();
    int32_t work = client_->doWork(nowNs, clock.epochMillis());
    work += stepOperations(nowNs);
    work += pollTasks(nowNs);
    if (lost_) tellLoss();
    idle.idle(work, nowNs, longestWaitNs(nowNs), [this] { return hasWork(); });
  }
  client_->close();
  tasks_.clear();
  stepOperations(clock.nanoTime());
  {
    const std::lock_guard<std::mutex> lock(inMutex_);
    finished_ = true;
  }
  stepOperations(clock.nanoTime());  // what was submitted between the two
  {
    const std::lock_guard<std::mutex> lock(outMutex_);
    output_.stopped = true;
  }
  announce();
}

void ClientService::tellLoss() {
  lost_ = false;
  {
    const std::lock_guard<std::mutex> lock(outMutex_);
    output_.lost = true;
    output_.lostReason = lostReason_;
  }
  announce();
}

int32_t ClientService::stepOperations(int64_t nowNs) {
  {
    const std::lock_guard<std::mutex> lock(inMutex_);
    operations_.insert(operations_.end(), submitted_.begin(), submitted_.end());
    submitted_.clear();
  }
  if (operations_.empty()) return 0;
  std::vector<std::shared_ptr<Operation>> done;
  // In the order of submission: offers to one publication must not overtake each other.
  std::erase_if(operations_, [&](const std::shared_ptr<Operation>& operation) {
    if (!operation->step(*client_, nowNs)) return false;
    done.push_back(operation);
    return true;
  });
  if (done.empty()) return 0;
  const auto count = static_cast<int32_t>(done.size());
  {
    const std::lock_guard<std::mutex> lock(outMutex_);
    output_.done.insert(output_.done.end(), std::make_move_iterator(done.begin()), std::make_move_iterator(done.end()));
  }
  announce();
  return count;
}

SubscriberEnd ClientService::endOf(const SubscriberTask& task) const {
  if (client_->isDriverLost()) return SubscriberEnd::kDriverLost;
  if (task.subscriber.isSlow()) return SubscriberEnd::kSlow;
  if (task.subscription->isClosed() || task.subscriber.isDamaged()) return SubscriberEnd::kClosed;
  return SubscriberEnd::kNone;
}

int32_t ClientService::pollTasks(int64_t nowNs) {
  int32_t work = 0;
  bool news = false;
  std::erase_if(tasks_, [&](const std::shared_ptr<SubscriberTask>& task) {
    if (task->closing.load(std::memory_order_acquire)) {
      client_->closeSubscription(task->subscription);
      return true;
    }
    work += task->subscriber.poll(nowNs);
    const SubscriberEnd end = endOf(*task);
    const bool responses = task->subscriber.hasResponses();
    if (!responses && end == SubscriberEnd::kNone) return false;
    const std::lock_guard<std::mutex> lock(outMutex_);
    if (responses && !task->queued) {
      task->queued = true;
      output_.ready.push_back(task);
      news = true;
    }
    if (end == SubscriberEnd::kNone) return false;
    client_->closeSubscription(task->subscription);
    output_.ended.emplace_back(task, end);
    news = true;
    return true;
  });
  if (news) announce();
  return work;
}

bool ClientService::hasWork() const {
  if (stopping_.load(std::memory_order_acquire) || client_->hasResponses()) return true;
  {
    const std::lock_guard<std::mutex> lock(inMutex_);
    if (!submitted_.empty()) return true;
  }
  return std::any_of(tasks_.begin(), tasks_.end(),
                     [](const auto& task) { return task->closing.load(std::memory_order_acquire) || task->subscriber.hasWork(); });
}

int64_t ClientService::longestWaitNs(int64_t nowNs) const {
  int64_t wait = operations_.empty() ? kIdleWaitNs : kPendingWaitNs;
  for (const auto& task : tasks_) {
    const int64_t deadlineNs = task->subscriber.nextDeadlineNs();
    if (deadlineNs != INT64_MAX) wait = std::min(wait, std::max<int64_t>(0, deadlineNs - nowNs));
  }
  return wait;
}

}  // namespace outrigger::client
