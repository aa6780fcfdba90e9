// SPDX-License-Identifier: Apache-2.0
// Bounded single-producer single-consumer ring of trivially copyable commands: the only way agents talk to each other.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <type_traits>

namespace outrigger {

template <typename T>
class SpscRing {
  static_assert(std::is_trivially_copyable_v<T>, "commands are copied by value");

 public:
  // capacity is rounded up to a power of two.
  explicit SpscRing(size_t capacity) {
    size_t size = 2;
    while (size < capacity) size <<= 1;
    mask_ = size - 1;
    slots_ = std::make_unique<T[]>(size);
  }

  // Producer thread. False when full: the caller keeps the command and tries again on its next duty cycle.
  bool offer(const T& value) {
    const size_t tail = tail_.load(std::memory_order_relaxed);
    if (tail - headCache_ > mask_) {
      headCache_ = head_.load(std::memory_order_acquire);
      if (tail - headCache_ > mask_) return false;
    }
    slots_[tail & mask_] = value;
    tail_.store(tail + 1, std::memory_order_release);
    return true;
  }

  // Consumer thread. False when empty.
  bool poll(T& out) {
    const size_t head = head_.load(std::memory_order_relaxed);
    if (head == tail_.load(std::memory_order_acquire)) return false;
    out = slots_[head & mask_];
    head_.store(head + 1, std::memory_order_release);
    return true;
  }

  bool empty() const { return head_.load(std::memory_order_acquire) == tail_.load(std::memory_order_acquire); }

 private:
  size_t mask_ = 0;
  std::unique_ptr<T[]> slots_;
  alignas(64) std::atomic<size_t> tail_{0};
  size_t headCache_ = 0;
  alignas(64) std::atomic<size_t> head_{0};
};

}  // namespace outrigger
