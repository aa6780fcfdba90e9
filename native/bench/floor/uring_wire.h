// SPDX-License-Identifier: Apache-2.0
// The floor over io_uring: one multishot recvmsg into a ring of provided buffers, and batches of sendmsg with one call into the kernel.
#pragma once

#include "floor/udp_socket.h"
#include "io/uring/buffer_ring.h"
#include "io/uring/uring.h"
#include "session.h"

#if OUTRIGGER_HAS_URING

#include <array>
#include <vector>

namespace outrigger::bench {

class UringWire {
 public:
  explicit UringWire(const Plan& plan)
      : fd_(openUdp(plan)),
        length_(plan.length),
        perMessage_(plan.segmentation ? trainLength(plan) : 1),
        messages_(plan.segmentation ? kTrains : kMessages),
        slots_(static_cast<size_t>(length_) * perMessage_ * messages_) {
    if (auto r = send_.open(kMessages, 2 * kMessages); !r) die(r.error().message);
    if (auto r = receive_.open(8, 2 * kBuffers); !r) die(r.error().message);
    if (!send_.enable() || !receive_.enable()) die("io_uring: the rings can't be enabled");
    if (auto r = buffers_.open(receive_, kBuffers, kBufferBytes); !r) die(r.error().message);
    layout_.msg_controllen = kControlBytes;
  }
  uint32_t room() const { return messages_ * perMessage_; }
  uint8_t* slot(uint32_t i) { return slots_.data() + static_cast<size_t>(i) * length_; }
  void send(uint32_t count) {
    uint32_t queued = 0;
    for (uint32_t at = 0; at < count; at += perMessage_, ++queued) {
      vectors_[queued] = {slot(at), static_cast<size_t>(length_) * std::min(perMessage_, count - at)};
      headers_[queued] = {};
      headers_[queued].msg_iov = &vectors_[queued];
      headers_[queued].msg_iovlen = 1;
      io_uring_sqe* entry = send_.next();
      entry->opcode = IORING_OP_SENDMSG;
      entry->fd = fd_.get();
      entry->addr = reinterpret_cast<uintptr_t>(&headers_[queued]);
      entry->len = 1;
      entry->msg_flags = MSG_NOSIGNAL;
    }
    // Slots are filled again afterwards, so all have to be over.
    for (uint32_t ended = 0; ended < queued;) {
      if (const int err = send_.enter(queued - ended); err != 0 && err != EINTR) die("io_uring_enter: " + std::string(std::strerror(err)));
      for (; send_.peek() != nullptr; send_.advance()) ++ended;
    }
  }
  void poll(Sink& sink) {
    if (!underWay_) startReceive();
    if (receive_.queued() > 0 || receive_.hasWork()) receive_.enter(0);
    bool gaveBack = false;
    for (const io_uring_cqe* each = receive_.peek(); each != nullptr; receive_.advance(), each = receive_.peek()) {
      if ((each->flags & IORING_CQE_F_MORE) == 0) underWay_ = false;
      if ((each->flags & IORING_CQE_F_BUFFER) == 0) continue;
      const auto id = static_cast<uint16_t>(each->flags >> IORING_CQE_BUFFER_SHIFT);
      uint8_t* const buffer = buffers_.buffer(id);
      io_uring_recvmsg_out out{};
      std::memcpy(&out, buffer, sizeof(out));
      if (each->res > static_cast<int32_t>(kPayloadOffset)) {
        const uint32_t length = static_cast<uint32_t>(each->res) - kPayloadOffset;
        msghdr header{};
        header.msg_control = buffer + sizeof(out);
        header.msg_controllen = out.controllen;
        sink.take(buffer + kPayloadOffset, length, segmentOf(header, length));
      }
      buffers_.put(id);
      gaveBack = true;
    }
    if (gaveBack) buffers_.publish();
  }
  std::string facts() const { return ",\"train\":" + std::to_string(perMessage_); }

 private:
  static constexpr uint32_t kMessages = 64;
  static constexpr uint32_t kTrains = 8;
  static constexpr uint32_t kBuffers = 64;
  static constexpr uint32_t kPayloadOffset = sizeof(io_uring_recvmsg_out) + kControlBytes;
  static constexpr uint32_t kBufferBytes = 68 * 1024;

  void startReceive() {
    io_uring_sqe* entry = receive_.next();
    entry->opcode = IORING_OP_RECVMSG;
    entry->fd = fd_.get();
    entry->addr = reinterpret_cast<uintptr_t>(&layout_);
    entry->len = 1;
    entry->ioprio = IORING_RECV_MULTISHOT;
    entry->flags = IOSQE_BUFFER_SELECT;
    entry->buf_group = io::BufferRing::kGroup;
    underWay_ = true;
  }

  UniqueFd fd_;
  const uint32_t length_;
  const uint32_t perMessage_;
  const uint32_t messages_;
  std::vector<uint8_t> slots_;
  io::BufferRing buffers_;  // before the ring that it is registered with
  io::Uring receive_;
  io::Uring send_;
  msghdr layout_{};
  bool underWay_ = false;
  std::array<msghdr, kMessages> headers_{};
  std::array<iovec, kMessages> vectors_{};
};

}  // namespace outrigger::bench

#endif
