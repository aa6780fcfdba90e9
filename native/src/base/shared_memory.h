// SPDX-License-Identifier: Apache-2.0
// Ordered loads and stores on memory that other processes map (CnC file, log buffers, doorbells).
// The processes on the other side are not trusted: read a field once through these, then validate the copy.
#pragma once

#include <cstdint>
#include <cstring>

namespace outrigger {

template <typename T>
inline T loadAcquire(const void* address) {
  return __atomic_load_n(static_cast<const T*>(address), __ATOMIC_ACQUIRE);
}

template <typename T>
inline T loadRelaxed(const void* address) {
  return __atomic_load_n(static_cast<const T*>(address), __ATOMIC_RELAXED);
}

template <typename T>
inline void storeRelease(void* address, T value) {
  __atomic_store_n(static_cast<T*>(address), value, __ATOMIC_RELEASE);
}

template <typename T>
inline void storeRelaxed(void* address, T value) {
  __atomic_store_n(static_cast<T*>(address), value, __ATOMIC_RELAXED);
}

template <typename T>
inline T fetchAdd(void* address, T delta) {
  return __atomic_fetch_add(static_cast<T*>(address), delta, __ATOMIC_ACQ_REL);
}

template <typename T>
inline bool compareAndSet(void* address, T expected, T desired) {
  return __atomic_compare_exchange_n(static_cast<T*>(address), &expected, desired, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

// Full fence: needed between "publish data" and "look whether the reader sleeps" (store-load order).
inline void fullFence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

inline void cpuRelax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Unaligned plain access, for wire formats and packed command records.
template <typename T>
inline T readAt(const void* base, size_t offset) {
  T value;
  std::memcpy(&value, static_cast<const uint8_t*>(base) + offset, sizeof(T));
  return value;
}

template <typename T>
inline void writeAt(void* base, size_t offset, T value) {
  std::memcpy(static_cast<uint8_t*>(base) + offset, &value, sizeof(T));
}

template <typename T>
constexpr T alignUp(T value, T alignment) {
  return static_cast<T>((value + (alignment - 1)) & ~(alignment - 1));
}

constexpr bool isPowerOfTwo(int64_t value) { return value > 0 && (value & (value - 1)) == 0; }

}  // namespace outrigger
