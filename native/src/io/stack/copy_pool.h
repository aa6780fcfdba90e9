// SPDX-License-Identifier: Apache-2.0
// Blocks of memory for what can't stay in the device's buffers: frames put together from several, and datagrams that wait for their endpoint's
// turn. Mapped at construction; pages become resident only as they are used, and the block used last is used next.
#pragma once

#include <sys/mman.h>

#include <cstdint>
#include <memory>

namespace outrigger::io {

class CopyPool {
 public:
  static constexpr uint32_t kBlockLength = 64 * 1024 + 256;  // the longest IP packet and its Ethernet header, on a multiple of a cache line
  static constexpr int32_t kNone = -1;

  explicit CopyPool(uint32_t count) : count_(count), free_(std::make_unique<int32_t[]>(count)) {
    void* memory = ::mmap(nullptr, mappedLength(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    memory_ = memory == MAP_FAILED ? nullptr : static_cast<uint8_t*>(memory);
    if (memory_ == nullptr) return;
    for (uint32_t i = 0; i < count; ++i) free_[i] = static_cast<int32_t>(count - 1 - i);
    freeCount_ = count;
  }
  ~CopyPool() {
    if (memory_ != nullptr) ::munmap(memory_, mappedLength());
  }
  CopyPool(const CopyPool&) = delete;
  CopyPool& operator=(const CopyPool&) = delete;

  bool valid() const { return memory_ != nullptr; }
  uint32_t count() const { return count_; }
  uint32_t freeCount() const { return freeCount_; }
  int32_t take() { return freeCount_ == 0 ? kNone : free_[--freeCount_]; }
  void give(int32_t block) { free_[freeCount_++] = block; }
  uint8_t* data(int32_t block) { return memory_ + static_cast<size_t>(block) * kBlockLength; }

 private:
  size_t mappedLength() const { return static_cast<size_t>(count_) * kBlockLength; }

  uint32_t count_;
  uint32_t freeCount_ = 0;
  uint8_t* memory_ = nullptr;
  std::unique_ptr<int32_t[]> free_;
};

}  // namespace outrigger::io
