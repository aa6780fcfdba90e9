// SPDX-License-Identifier: Apache-2.0
// The resource agent's thread and rings.
#include "driver/resource_agent.h"

#include <pthread.h>
#include <sys/eventfd.h>

#include <cstdint>
#include <memory>

namespace outrigger::driver {
namespace {
constexpr size_t kRingCapacity = 1024;
}

ResourceAgent::ResourceAgent(std::string name, std::function<void()> onAnswer)
    : name_(std::move(name)),
      onAnswer_(std::move(onAnswer)),
      requests_(kRingCapacity),
      answers_(kRingCapacity),
      wakeFd_(::eventfd(0, EFD_CLOEXEC)) {}

ResourceAgent::~ResourceAgent() {
  stop();
  ResourceTask* task = nullptr;
  while (requests_.poll(task)) delete task;
  while (answers_.poll(task)) delete task;
  for (ResourceTask* left : waiting_) delete left;
}

void ResourceAgent::submit(ResourceTask task) {
  auto* owned = new ResourceTask(std::move(task));
  ++outstanding_;
  // Answers must always fit: never more under way than the ring holds.
  if (!waiting_.empty() || outstanding_ > static_cast<int64_t>(kRingCapacity) || !requests_.offer(owned)) {
    waiting_.push_back(owned);
    return;
  }
  if (!threaded_) return;
  if (!thread_.joinable()) {
    running_.store(true, std::memory_order_release);
    thread_ = std::thread([this] { runThread(); });
  }
  wake();
}

int32_t ResourceAgent::pollAnswers(int32_t limit) {
  ResourceTask* raw = nullptr;
  if (!threaded_) {
    for (int32_t i = 0; i < limit && requests_.poll(raw); ++i) {
      raw->run();
      answers_.offer(raw);
    }
  }
  int32_t count = 0;
  while (count < limit && answers_.poll(raw)) {
    std::unique_ptr<ResourceTask> task(raw);
    --outstanding_;
    ++count;
    if (task->complete) task->complete();
  }
  size_t moved = 0;
  while (moved < waiting_.size() && requests_.offer(waiting_[moved])) ++moved;
  if (moved > 0) {
    waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<std::ptrdiff_t>(moved));
    if (threaded_) wake();
  }
  return count;
}

void ResourceAgent::stop() {
  if (!thread_.joinable()) return;
  running_.store(false, std::memory_order_release);
  wake();
  thread_.join();
}

void ResourceAgent::wake() {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(wakeFd_.get(), &one, sizeof(one));
}

void ResourceAgent::runThread() {
  ::pthread_setname_np(::pthread_self(), name_.substr(0, 15).c_str());
  while (running_.load(std::memory_order_acquire)) {
    ResourceTask* task = nullptr;
    if (requests_.poll(task)) {
      task->run();
      while (!answers_.offer(task) && running_.load(std::memory_order_acquire)) std::this_thread::yield();
      onAnswer_();
      continue;
    }
    uint64_t count = 0;
    [[maybe_unused]] const ssize_t got = ::read(wakeFd_.get(), &count, sizeof(count));
  }
}

}  // namespace outrigger::driver
