// SPDX-License-Identifier: Apache-2.0
// Receive memory that the kernel picks from by itself: a ring of provided buffers (io_uring_register(2), IORING_REGISTER_PBUF_RING).
#pragma once

#include "io/uring/uring.h"

#if OUTRIGGER_HAS_URING

namespace outrigger::io {

class BufferRing {
 public:
  static constexpr uint16_t kGroup = 0;

  BufferRing() = default;
  BufferRing(BufferRing&&) = delete;
  ~BufferRing();

  // `count` is a power of two. Pages of the buffers become resident only as datagrams touch them.
  Result<void> open(Uring& uring, uint32_t count, uint32_t length);
  uint8_t* buffer(uint16_t id) const { return buffers_ + static_cast<size_t>(id) * length_; }
  uint32_t count() const { return count_; }
  // Gives a buffer back; the kernel sees it from publish() on.
  void put(uint16_t id);
  void publish() { __atomic_store_n(&ring_->tail, tail_, __ATOMIC_RELEASE); }

 private:
  io_uring_buf_ring* ring_ = nullptr;
  uint8_t* buffers_ = nullptr;
  uint32_t count_ = 0;
  uint32_t length_ = 0;
  uint16_t tail_ = 0;
};

}  // namespace outrigger::io

#endif
