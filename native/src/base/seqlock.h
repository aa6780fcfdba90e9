// SPDX-License-Identifier: Apache-2.0
// A small value that one thread writes and others read without a lock: the reader tries again when a write came in between.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace outrigger {

// Writers must exclude each other. No stand-alone fences (the sanitizers don't model them): each word is stored with release and loaded with
// acquire, so who sees a word of a write also sees that the version had become odd before it.
template <typename T>
class Seqlock {
  static_assert(std::is_trivially_copyable_v<T>);
  static constexpr size_t kWords = (sizeof(T) + 7) / 8;

 public:
  // Grows by two with each write; odd while one is under way.
  uint64_t version() const { return version_.load(std::memory_order_acquire); }

  void store(const T& value) {
    std::array<uint64_t, kWords> words{};
    std::memcpy(words.data(), &value, sizeof(T));
    const uint64_t version = version_.load(std::memory_order_relaxed);
    version_.store(version + 1, std::memory_order_relaxed);
    for (size_t i = 0; i < kWords; ++i) words_[i].store(words[i], std::memory_order_release);
    version_.store(version + 2, std::memory_order_release);
  }

  // False when a write was under way: `value` is then unchanged, and the version that was read last is not taken over.
  bool tryLoad(T& value, uint64_t& version) const {
    const uint64_t before = version_.load(std::memory_order_acquire);
    if ((before & 1) != 0) return false;
    std::array<uint64_t, kWords> words;
    for (size_t i = 0; i < kWords; ++i) words[i] = words_[i].load(std::memory_order_acquire);
    if (version_.load(std::memory_order_relaxed) != before) return false;
    std::memcpy(static_cast<void*>(&value), words.data(), sizeof(T));
    version = before;
    return true;
  }

  T load() const {
    T value{};
    uint64_t version = 0;
    while (!tryLoad(value, version)) {
    }
    return value;
  }

 private:
  std::atomic<uint64_t> version_{0};
  std::array<std::atomic<uint64_t>, kWords> words_{};
};

}  // namespace outrigger
