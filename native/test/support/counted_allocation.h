// SPDX-License-Identifier: Apache-2.0
// Counts what a program allocates, for tests that say a data path allocates nothing. Replaces the global operators: include it in exactly one
// file of a test program.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <new>

namespace outrigger::testing {

inline std::atomic<int64_t> allocations{0};

inline void* countedAllocate(size_t length) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  void* memory = std::malloc(length == 0 ? 1 : length);
  if (memory == nullptr) std::abort();
  return memory;
}

inline void* countedAlignedAllocate(size_t length, std::align_val_t alignment) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  const auto boundary = static_cast<size_t>(alignment);
  void* memory = std::aligned_alloc(boundary, (length + boundary - 1) / boundary * boundary);
  if (memory == nullptr) std::abort();
  return memory;
}

}  // namespace outrigger::testing

// Not inlined: a compiler that sees malloc in one of a pair and the other one's call would call them mismatched (GCC under a sanitizer does).
[[gnu::noinline]] void* operator new(size_t length) { return outrigger::testing::countedAllocate(length); }
[[gnu::noinline]] void* operator new[](size_t length) { return outrigger::testing::countedAllocate(length); }
// std::stable_sort asks this way.
[[gnu::noinline]] void* operator new(size_t length, const std::nothrow_t&) noexcept { return outrigger::testing::countedAllocate(length); }
[[gnu::noinline]] void* operator new[](size_t length, const std::nothrow_t&) noexcept {
  return outrigger::testing::countedAllocate(length);
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete[](void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, size_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete[](void* memory, size_t) noexcept { std::free(memory); }
[[gnu::noinline]] void* operator new(size_t length, std::align_val_t alignment) {
  return outrigger::testing::countedAlignedAllocate(length, alignment);
}
[[gnu::noinline]] void* operator new[](size_t length, std::align_val_t alignment) {
  return outrigger::testing::countedAlignedAllocate(length, alignment);
}
[[gnu::noinline]] void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete[](void* memory, std::align_val_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, size_t, std::align_val_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete[](void* memory, size_t, std::align_val_t) noexcept { std::free(memory); }
