// SPDX-License-Identifier: Apache-2.0
// A station of a SimWire: FrameIo with a bounded receive ring and a pool of transmit buffers, as a NIC queue has them.
#pragma once

#include <deque>

#include "io/sim/sim_wire.h"

namespace outrigger::io {

class SimStation final : public FrameIo {
 public:
  SimStation(SimWire& wire, uint32_t index, const SimStationOptions& options);
  ~SimStation() override;

  const FrameCaps& caps() const override { return caps_; }
  Result<void> steer(const SteerRule& rule) override;
  Result<void> unsteer(const SteerRule& rule) override;
  std::optional<uint32_t> queueOf([[maybe_unused]] const SockAddr& source, const SockAddr& destination) const override {
    return destination.port() % options_.queues;
  }
  LinkState link() override { return link_; }
  uint32_t receive(std::span<RxFrame> frames) override;
  void giveBack(std::span<const RxFrame> frames) override;
  uint32_t reserve(std::span<TxFrame> frames) override;
  void commit(std::span<const TxFrame> frames) override;
  void abort(std::span<const TxFrame> frames) override;
  bool flush() override;
  int waitHandle() const override { return -1; }
  bool arm() override { return ring_.empty(); }

 private:
  friend class SimWire;
  struct Received {
    SimWire::Frame frame;
    int64_t arrivedNs = 0;
    uint32_t buffersOut = 0;
    bool inUse = false;
  };

  void arrive(const SimWire::Frame& frame);
  bool accepts(const SimWire::Frame& frame) const;
  uint32_t buffersOf(size_t length) const;

  SimWire& wire_;
  uint32_t index_;
  SimStationOptions options_;
  FrameCaps caps_;
  LinkState link_;
  std::vector<Received> received_;  // the ring's memory
  std::vector<uint32_t> freeReceived_;
  std::deque<uint32_t> ring_;  // arrived, not taken
  uint32_t receivedOut_ = 0;
  std::vector<std::vector<uint8_t>> transmit_;
  std::vector<uint32_t> freeTransmit_;
  uint32_t transmitOut_ = 0;
  std::vector<uint32_t> sent_;  // committed, back after the next flush
  SimWire::Frame building_;     // a frame of several buffers
  std::vector<SteerRule> rules_;
};

}  // namespace outrigger::io
