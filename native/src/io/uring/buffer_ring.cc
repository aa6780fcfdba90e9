// SPDX-License-Identifier: Apache-2.0
// See the header.
#include "io/uring/buffer_ring.h"

#if OUTRIGGER_HAS_URING

#include <sys/mman.h>

#include <cerrno>

namespace outrigger::io {
namespace {

void* reserveMemory(size_t length) {
  void* memory = ::mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return memory == MAP_FAILED ? nullptr : memory;
}

}  // namespace

BufferRing::~BufferRing() {
  if (ring_ != nullptr) ::munmap(ring_, count_ * sizeof(io_uring_buf));
  if (buffers_ != nullptr) ::munmap(buffers_, static_cast<size_t>(count_) * length_);
}

Result<void> BufferRing::open(Uring& uring, uint32_t count, uint32_t length) {
  count_ = count;
  length_ = length;
  ring_ = static_cast<io_uring_buf_ring*>(reserveMemory(count_ * sizeof(io_uring_buf)));
  buffers_ = static_cast<uint8_t*>(reserveMemory(static_cast<size_t>(count_) * length_));
  if (ring_ == nullptr || buffers_ == nullptr) {
    return makeError(ErrorCode::kGeneric,
                     "backend uring: cannot map " + std::to_string(count) + " receive buffers of " + std::to_string(length) + " bytes",
                     errno);
  }
  io_uring_buf_reg registration{};
  registration.ring_addr = reinterpret_cast<uintptr_t>(ring_);
  registration.ring_entries = count_;
  registration.bgid = kGroup;
  if (const int err = uring.control(IORING_REGISTER_PBUF_RING, &registration, 1); err != 0) {
    const UringRefusal refusal = explainUringRefusal(err);
    Error error = makeError(ErrorCode::kGeneric, "backend uring: registering receive buffers: " + refusal.cause + "; " + refusal.fix);
    error.sysErrno = err;
    return error;
  }
  for (uint32_t i = 0; i < count_; ++i) put(static_cast<uint16_t>(i));
  publish();
  return {};
}

void BufferRing::put(uint16_t id) {
  // The array begins where the ring does: its tail lies in a field of the first entry that buffers leave alone, so no whole entry is written.
  io_uring_buf& entry = reinterpret_cast<io_uring_buf*>(ring_)[tail_ & (count_ - 1)];
  entry.addr = reinterpret_cast<uintptr_t>(buffer(id));
  entry.len = length_;
  entry.bid = id;
  ++tail_;
}

}  // namespace outrigger::io

#endif
