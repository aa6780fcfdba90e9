// SPDX-License-Identifier: Apache-2.0
// Backend `sim`: a host's DatagramIo on a SimNetwork. Receive queues, trains and the seam's calls; the network is elsewhere.
#pragma once

#include <array>
#include <deque>
#include <vector>

#include "io/sim/sim_network.h"

namespace outrigger::io {

class SimEndpoint final : public Endpoint {
 public:
  struct Received {
    SockAddr source;
    SockAddr destination;
    std::vector<uint8_t> bytes;
  };

  SimEndpoint(SimNetwork& network, uint32_t host, const SockAddr& local, int32_t receiveBuffer, int32_t sendBuffer)
      : network_(network), host_(host), local_(local), receiveBufferBytes_(receiveBuffer), sendBufferBytes_(sendBuffer) {}
  ~SimEndpoint() override { network_.close(*this); }

  const SockAddr& localAddress() const override { return local_; }
  int32_t receiveBufferBytes() const override { return receiveBufferBytes_; }
  int32_t sendBufferBytes() const override { return sendBufferBytes_; }
  uint32_t host() const { return host_; }

  std::deque<Received> queue;
  int64_t queuedBytes = 0;
  int64_t sendBusyUntilNs = 0;  // when what was sent so far has left, on links with a rate
  bool attached = false;

 private:
  SimNetwork& network_;
  uint32_t host_;
  SockAddr local_;
  int32_t receiveBufferBytes_;
  int32_t sendBufferBytes_;
};

class SimIo final : public DatagramIo {
 public:
  SimIo(SimNetwork& network, uint32_t host);

  const Caps& caps() const override { return caps_; }
  Result<std::unique_ptr<Endpoint>> openEndpoint(const EndpointConfig& config) override;
  Result<std::unique_ptr<NextHop>> resolve(Endpoint& endpoint, const SockAddr& destination) override;
  void attach(Endpoint& endpoint) override;
  void detach(Endpoint& endpoint) override;
  uint32_t poll(RxBurst& burst, int64_t nowNs) override;
  uint32_t transmit(Endpoint& endpoint, std::span<TxItem> items) override;
  TxStatus reserve(Endpoint& endpoint, const SockAddr& destination, uint32_t length, TxSlot& slot) override;
  TxStatus commit(Endpoint& endpoint, const SockAddr& destination, TxSlot& slot, uint32_t length) override;
  void abort(Endpoint& endpoint, TxSlot& slot) override;
  int waitHandle() const override { return -1; }  // nothing to sleep on: SimNetwork::nextEventNs says how far to jump
  bool arm() override;

 private:
  static constexpr size_t kSlots = 16;  // packets of one poll, as socket backends have
  static constexpr size_t kSlotLength = 64 * 1024;
  static constexpr size_t kMaxTrainDatagrams = 64;  // as the kernel's UDP_GRO_CNT_MAX
  struct Slot {
    SockAddr source;
    SockAddr destination;
    std::vector<uint8_t> bytes;
  };

  uint32_t take(SimEndpoint& endpoint, Slot& slot, RxPacket& packet);

  SimNetwork& network_;
  uint32_t host_;
  Caps caps_;
  std::vector<SimEndpoint*> attached_;
  size_t nextEndpoint_ = 0;
  std::array<Slot, kSlots> slots_;
  std::array<std::array<uint8_t, 2048>, 8> txSlots_{};
  uint32_t txSlotsInUse_ = 0;
};

}  // namespace outrigger::io
