// SPDX-License-Identifier: Apache-2.0
// What the socket backends share: endpoints, the set of attached ones and its epoll descriptor, control frames, and what a
// failed send means. How data datagrams are sent and received is each backend's own.
#pragma once

#include <sys/epoll.h>

#include <array>
#include <memory>
#include <vector>

#include "base/fd.h"
#include "io/datagram_io.h"
#include "io/posix/receive_slots.h"
#include "io/posix/udp_endpoint.h"

namespace outrigger::io {

// True when the kernel has no room now: the datagram was not taken and may be offered again.
inline bool isWouldBlock(int err) { return err == EAGAIN || err == EWOULDBLOCK || err == ENOBUFS; }

// What to answer for a datagram that the kernel refused.
TxStatus sendStatusOf(int err);

// Datagrams in `length` bytes cut every `segmentLength`.
inline uint32_t datagramCount(uint32_t length, uint32_t segmentLength) {
  return segmentLength == 0 || segmentLength >= length ? 1 : (length + segmentLength - 1) / segmentLength;
}

class SocketIoBase : public DatagramIo {
 public:
  const Caps& caps() const override { return caps_; }
  Result<std::unique_ptr<Endpoint>> openEndpoint(const EndpointConfig& config) override;
  Result<std::unique_ptr<NextHop>> resolve(Endpoint& endpoint, const SockAddr& destination) override;
  void attach(Endpoint& endpoint) override;
  void detach(Endpoint& endpoint) override;
  uint32_t poll(RxBurst& burst, int64_t nowNs) final;
  TxStatus reserve(Endpoint& endpoint, const SockAddr& destination, uint32_t length, TxSlot& slot) override;
  TxStatus commit(Endpoint& endpoint, const SockAddr& destination, TxSlot& slot, uint32_t length) override;
  void abort(Endpoint& endpoint, TxSlot& slot) override;
  IoTotals totals() const override;
  int waitHandle() const override { return epoll_.get(); }
  bool arm() override;

 protected:
  SocketIoBase(Caps caps, UdpSocketOptions socketOptions, uint32_t receiveSlots);

  // Before the first openEndpoint: endpoints ask for UDP_GRO.
  void enableCoalescing(bool on) { socketOptions_.coalescing = on; }

  // Empty when construction got everything it needs from the kernel.
  Result<void> check() const;

  // Receives from one endpoint into slots [firstSlot, endSlot), appends packets to the burst, adds to datagrams.
  // Returns the number of slots used.
  virtual uint32_t receive(UdpEndpoint& endpoint, RxBurst& burst, uint32_t firstSlot, uint32_t endSlot, uint32_t& datagrams) = 0;

  // Sends one datagram. kSent, kWouldBlock, or another status after counting it.
  TxStatus sendOne(UdpEndpoint& endpoint, const SockAddr& destination, const uint8_t* data, uint32_t length);

  ReceiveSlots& slots() { return slots_; }

 private:
  // Control frames: the longest is an error frame of 40 bytes and 1023 of text. Slots are committed at once, so few do.
  static constexpr uint32_t kTxSlotLength = 2048;
  static constexpr uint32_t kTxSlotCount = 8;
  // Up to this many endpoints are tried one by one: cheaper than asking epoll first. More are asked for through epoll.
  static constexpr size_t kDirectPollEndpoints = 4;
  static constexpr int kMaxEvents = 64;

  Caps caps_;
  UdpSocketOptions socketOptions_;
  UniqueFd epoll_;
  int epollErrno_ = 0;
  ReceiveSlots slots_;
  std::vector<UdpEndpoint*> attached_;
  IoTotals detachedTotals_;  // of endpoints that are gone
  size_t nextEndpoint_ = 0;
  uint32_t usedSlots_ = 0;  // by the last poll, always the first ones
  std::array<epoll_event, kMaxEvents> events_{};
  std::array<std::array<uint8_t, kTxSlotLength>, kTxSlotCount> txSlots_{};
  uint32_t txSlotsInUse_ = 0;  // bit per slot
};

}  // namespace outrigger::io
