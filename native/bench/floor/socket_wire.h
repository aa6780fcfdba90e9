// SPDX-License-Identifier: Apache-2.0
// Floors over the socket calls: one datagram a call (sendmsg, recvmsg), and many a call (sendmmsg, recvmmsg), with or without trains.
#pragma once

#include <array>
#include <vector>

#include "floor/udp_socket.h"
#include "session.h"

namespace outrigger::bench {

class SocketWire {
 public:
  explicit SocketWire(const Plan& plan) : fd_(openUdp(plan)), slot_(plan.length), buffer_(kMaxTrainBytes) {
    if (plan.segmentation) die("the floor of socket has no trains");
  }
  uint32_t room() const { return 1; }
  uint8_t* slot(uint32_t) { return slot_.data(); }
  void send(uint32_t) {
    iovec vector{slot_.data(), slot_.size()};
    msghdr header{};
    header.msg_iov = &vector;
    header.msg_iovlen = 1;
    while (::sendmsg(fd_.get(), &header, MSG_NOSIGNAL) < 0 && sendAgain(errno) && !stopped()) {
    }
  }
  void poll(Sink& sink) {
    iovec vector{buffer_.data(), buffer_.size()};
    msghdr header{};
    header.msg_iov = &vector;
    header.msg_iovlen = 1;
    const ssize_t length = ::recvmsg(fd_.get(), &header, 0);
    if (length > 0) sink.take(buffer_.data(), static_cast<uint32_t>(length), static_cast<uint32_t>(length));
  }
  std::string facts() const { return {}; }

 private:
  UniqueFd fd_;
  std::vector<uint8_t> slot_;
  std::vector<uint8_t> buffer_;
};

class MmsgWire {
 public:
  explicit MmsgWire(const Plan& plan)
      : fd_(openUdp(plan)),
        length_(plan.length),
        perMessage_(plan.segmentation ? trainLength(plan) : 1),
        messages_(plan.segmentation ? kTrains : kMessages),
        slots_(static_cast<size_t>(length_) * perMessage_ * messages_),
        receiveLength_(plan.segmentation ? kMaxTrainBytes + 1 : plan.length),
        buffers_(static_cast<size_t>(receiveLength_) * messages_) {}

  uint32_t room() const { return messages_ * perMessage_; }
  uint8_t* slot(uint32_t i) { return slots_.data() + static_cast<size_t>(i) * length_; }
  void send(uint32_t count) {
    uint32_t filled = 0;
    for (uint32_t at = 0; at < count; at += perMessage_, ++filled) {
      vectors_[filled] = {slot(at), static_cast<size_t>(length_) * std::min(perMessage_, count - at)};
      headers_[filled] = {};
      headers_[filled].msg_hdr.msg_iov = &vectors_[filled];
      headers_[filled].msg_hdr.msg_iovlen = 1;
    }
    for (uint32_t sent = 0; sent < filled && !stopped();) {
      const int result = ::sendmmsg(fd_.get(), &headers_[sent], filled - sent, MSG_NOSIGNAL);
      if (result > 0) sent += static_cast<uint32_t>(result);
      if (result < 0 && !sendAgain(errno)) dieErrno("sendmmsg");
    }
  }
  void poll(Sink& sink) {
    for (uint32_t i = 0; i < messages_; ++i) {
      vectors_[i] = {buffers_.data() + static_cast<size_t>(i) * receiveLength_, receiveLength_};
      headers_[i] = {};
      headers_[i].msg_hdr.msg_iov = &vectors_[i];
      headers_[i].msg_hdr.msg_iovlen = 1;
      headers_[i].msg_hdr.msg_control = control_[i].data();
      headers_[i].msg_hdr.msg_controllen = kControlBytes;
    }
    const int received = ::recvmmsg(fd_.get(), headers_.data(), messages_, MSG_DONTWAIT, nullptr);
    for (int i = 0; i < received; ++i) {
      mmsghdr& each = headers_[static_cast<size_t>(i)];
      sink.take(static_cast<uint8_t*>(each.msg_hdr.msg_iov->iov_base), each.msg_len, segmentOf(each.msg_hdr, each.msg_len));
    }
  }
  std::string facts() const { return ",\"train\":" + std::to_string(perMessage_); }

 private:
  static constexpr uint32_t kMessages = 64;
  static constexpr uint32_t kTrains = 8;

  UniqueFd fd_;
  const uint32_t length_;
  const uint32_t perMessage_;
  const uint32_t messages_;
  std::vector<uint8_t> slots_;
  const uint32_t receiveLength_;
  std::vector<uint8_t> buffers_;
  std::array<mmsghdr, kMessages> headers_{};
  std::array<iovec, kMessages> vectors_{};
  alignas(cmsghdr) std::array<std::array<uint8_t, kControlBytes>, kMessages> control_{};
};

}  // namespace outrigger::bench
