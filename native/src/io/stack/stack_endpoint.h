// SPDX-License-Identifier: Apache-2.0
// A UDP port of NetStack: the kernel socket that reserves it, and the datagrams that wait for their turn. Data only; NetStack moves it.
#pragma once

#include <array>
#include <memory>
#include <utility>

#include "io/frame/frame_io.h"
#include "io/posix/udp_endpoint.h"
#include "io/stack/copy_pool.h"
#include "net/ip_address.h"

namespace outrigger::io {

class NetStack;

// Whose memory a received datagram lies in: a buffer of the device, or a block of the copy pool.
struct Held {
  RxFrame frame;
  bool ofDevice = false;  // `frame` goes back to it
  int32_t block = CopyPool::kNone;

  static Held buffer(const RxFrame& frame) { return {frame, true, CopyPool::kNone}; }
  static Held copy(int32_t block) { return {{}, false, block}; }
};

struct Waiting {
  Held held;
  const uint8_t* data = nullptr;
  uint32_t length = 0;
  uint32_t segmentLength = 0;
  net::IpAddress source;
  net::IpAddress destination;
  uint16_t sourcePort = 0;
  int64_t arrivedNs = 0;
};

class StackEndpoint final : public Endpoint {
 public:
  static constexpr size_t kNotAttached = SIZE_MAX;
  // Datagrams or trains that may wait. With the longest trains that is 8 MiB, so bytes are bounded too, by the receive buffer.
  static constexpr uint32_t kMaxWaiting = 128;

  // `queue`: of QueueSpread.
  StackEndpoint(std::shared_ptr<NetStack> stack, uint32_t face, std::unique_ptr<UdpEndpoint> reserved, int32_t queue,
                const EndpointConfig& config);
  ~StackEndpoint() override;

  const SockAddr& localAddress() const override { return reserved_->localAddress(); }
  int32_t receiveBufferBytes() const override { return reserved_->receiveBufferBytes(); }
  int32_t sendBufferBytes() const override { return reserved_->sendBufferBytes(); }
  int socketFd() const override { return reserved_->fd(); }
  uint32_t longestReceivable() const override;

  UdpEndpoint& reserved() { return *reserved_; }
  const net::IpAddress& ip() const { return ip_; }
  uint16_t port() const { return port_; }
  bool wildcard() const { return wildcard_; }
  uint8_t hopLimit() const { return hopLimit_; }
  uint32_t face() const { return face_; }
  uint64_t id() const { return id_; }  // never given twice: what is kept about an endpoint can't be taken for another's at the same address
  const NetStack* stack() const { return stack_.get(); }

  // What the reserved socket lost counts as lost by this endpoint.
  void takeReservedStats() {
    const auto take = [](std::atomic<int64_t>& from, std::atomic<int64_t>& to) {
      if (const int64_t value = from.exchange(0, std::memory_order_relaxed); value != 0) to.fetch_add(value, std::memory_order_relaxed);
    };
    EndpointStats& from = reserved_->stats;
    take(from.receiveQueueDrops, stats.receiveQueueDrops);
    take(from.sendErrors, stats.sendErrors);
    take(from.truncatedDatagrams, stats.truncatedDatagrams);
    take(from.emptyDatagrams, stats.emptyDatagrams);
  }

  // Owner thread.
  size_t attachIndex = kNotAttached;
  StackEndpoint* nextOfBucket = nullptr;
  uint32_t lastReservedDrops = 0;  // what the kernel last said of the reserved socket (32 bits, wraps)

  bool hasWaiting() const { return waitingCount_ > 0; }
  uint32_t waitingCount() const { return waitingCount_; }
  int64_t waitingBytes() const { return waitingBytes_; }
  void push(const Waiting& entry) {
    waiting_[(waitingFirst_ + waitingCount_++) % kMaxWaiting] = entry;
    waitingBytes_ += entry.length;
  }
  Waiting& front() { return waiting_[waitingFirst_]; }
  void pop() {
    waitingBytes_ -= waiting_[waitingFirst_].length;
    waitingFirst_ = (waitingFirst_ + 1) % kMaxWaiting;
    --waitingCount_;
  }

 private:
  std::shared_ptr<NetStack> stack_;
  uint32_t face_;
  uint64_t id_;
  std::unique_ptr<UdpEndpoint> reserved_;
  int32_t queue_;
  net::IpAddress ip_;
  uint16_t port_;
  bool wildcard_;
  uint8_t hopLimit_;
  std::unique_ptr<Waiting[]> waiting_ = std::make_unique<Waiting[]>(kMaxWaiting);
  uint32_t waitingFirst_ = 0;
  uint32_t waitingCount_ = 0;
  int64_t waitingBytes_ = 0;
};

}  // namespace outrigger::io
