// SPDX-License-Identifier: Apache-2.0
// What all backends over the kernel's UDP sockets share: endpoints and the list of attached ones, next hops, control frames, and what a
// failed send means. How data moves is each backend's own.
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "io/datagram_io.h"
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

class UdpIoBase : public DatagramIo {
 public:
  const Caps& caps() const override { return caps_; }
  Result<std::unique_ptr<Endpoint>> openEndpoint(const EndpointConfig& config) override;
  Result<std::unique_ptr<NextHop>> resolve(Endpoint& endpoint, const SockAddr& destination) override;
  TxStatus reserve(Endpoint& endpoint, const SockAddr& destination, uint32_t length, TxSlot& slot) override;
  TxStatus commit(Endpoint& endpoint, const SockAddr& destination, TxSlot& slot, uint32_t length) override;
  void abort(Endpoint& endpoint, TxSlot& slot) override;
  IoTotals totals() const override;

 protected:
  UdpIoBase(Caps caps, UdpSocketOptions socketOptions);

  // Before the first openEndpoint: endpoints ask for UDP_GRO.
  void enableCoalescing(bool on) { socketOptions_.coalescing = on; }

  // Sends one datagram. kSent, kWouldBlock, or another status after counting it.
  TxStatus sendOne(UdpEndpoint& endpoint, const SockAddr& destination, const uint8_t* data, uint32_t length);

  // Into and out of `attached`; false when it was, or was not, in it.
  bool enlist(UdpEndpoint& endpoint);
  bool strike(UdpEndpoint& endpoint);
  const std::vector<UdpEndpoint*>& attached() const { return attached_; }

 private:
  // Control frames: the longest is an error frame of 40 bytes and 1023 of text. Slots are committed at once, so few do.
  static constexpr uint32_t kTxSlotLength = 2048;
  static constexpr uint32_t kTxSlotCount = 8;

  Caps caps_;
  UdpSocketOptions socketOptions_;
  std::vector<UdpEndpoint*> attached_;
  IoTotals detachedTotals_;  // of endpoints that are gone
  std::array<std::array<uint8_t, kTxSlotLength>, kTxSlotCount> txSlots_{};
  uint32_t txSlotsInUse_ = 0;  // bit per slot
};

}  // namespace outrigger::io
