// SPDX-License-Identifier: Apache-2.0
// ImpairIo: loses, duplicates, corrupts and swaps datagrams around any real backend, seeded, decided per datagram. Trains are
// taken apart where a decision falls and stay whole between. Nothing is delayed beyond the next datagram or poll.
#pragma once

#include <array>
#include <atomic>
#include <memory>

#include "base/random.h"
#include "io/datagram_io.h"
#include "io/impair/impair_config.h"

namespace outrigger::io {

// Datagrams it acted on, monotonic. Written by the owner thread.
struct ImpairStats {
  std::atomic<int64_t> seen{0};
  std::atomic<int64_t> lost{0};
  std::atomic<int64_t> duplicated{0};
  std::atomic<int64_t> corrupted{0};
  std::atomic<int64_t> reordered{0};
};

class ImpairIo final : public DatagramIo {
 public:
  static Result<std::unique_ptr<DatagramIo>> wrap(std::unique_ptr<DatagramIo> inner, const ImpairConfig& config);
  ~ImpairIo() override;

  const Caps& caps() const override { return caps_; }
  Result<std::unique_ptr<Endpoint>> openEndpoint(const EndpointConfig& config) override { return inner_->openEndpoint(config); }
  Result<std::unique_ptr<NextHop>> resolve(Endpoint& endpoint, const SockAddr& destination) override {
    return inner_->resolve(endpoint, destination);
  }
  Health health() override { return inner_->health(); }
  std::shared_ptr<CaptureTap> captureTap() override { return inner_->captureTap(); }
  std::vector<std::pair<std::string, std::string>> facts() const override;
  void attach(Endpoint& endpoint) override { inner_->attach(endpoint); }
  void detach(Endpoint& endpoint) override;
  uint32_t poll(RxBurst& burst, int64_t nowNs) override;
  uint32_t transmit(Endpoint& endpoint, std::span<TxItem> items) override;
  bool stillReads(const uint8_t* data, size_t length) override { return inner_->stillReads(data, length); }
  TxStatus reserve(Endpoint& endpoint, const SockAddr& destination, uint32_t length, TxSlot& slot) override {
    return inner_->reserve(endpoint, destination, length, slot);
  }
  TxStatus commit(Endpoint& endpoint, const SockAddr& destination, TxSlot& slot, uint32_t length) override;
  void abort(Endpoint& endpoint, TxSlot& slot) override { inner_->abort(endpoint, slot); }
  IoTotals totals() const override {
    IoTotals totals = inner_->totals();
    totals.impairedDrops += receiveStats_.lost.load(std::memory_order_relaxed) + transmitStats_.lost.load(std::memory_order_relaxed);
    return totals;
  }
  int waitHandle() const override { return inner_->waitHandle(); }
  bool arm() override;

  const ImpairStats& receiveStats() const { return receiveStats_; }
  const ImpairStats& transmitStats() const { return transmitStats_; }
  DatagramIo& inner() { return *inner_; }

 private:
  enum class Action : uint8_t { kPass, kLose, kDuplicate, kCorrupt, kReorder };

  // Copies of received datagrams that must outlive or differ from the backend's view. One poll hands out at most kMaxPackets
  // of them and one more waits for its successor, so a ring a little longer never reuses one that is still looked at.
  static constexpr size_t kReceiveCopies = RxBurst::kMaxPackets + 4;
  // Corrupted copies of one inner transmit call; a burst with more goes out in several.
  static constexpr size_t kTransmitCopies = 16;
  static constexpr size_t kCopyLength = 64 * 1024;
  static constexpr size_t kCopiesLength = (kReceiveCopies + kTransmitCopies) * kCopyLength;
  static constexpr size_t kMaxInnerItems = 128;

  struct Addresses {
    SockAddr source;
    SockAddr destination;
  };
  // Where the caller's items stand once the inner item of the same index is done.
  struct Progress {
    uint32_t item = 0;
    uint32_t endBytes = 0;
    bool run = false;  // partial progress of the inner item counts
  };

  ImpairIo(std::unique_ptr<DatagramIo> inner, const ImpairConfig& config, uint8_t* copies);
  Action decide(const ImpairProfile& profile, Random& random, ImpairStats& stats, const uint8_t* data, uint32_t length);
  // A copy in receive memory with its own addresses: it stays valid when the backend's view is gone.
  RxPacket copyOf(const RxPacket& train, const uint8_t* data, uint32_t length);
  static void flipBit(Random& random, uint8_t* data, uint32_t length);
  void extendRun(RxBurst& burst, const RxPacket& train, const uint8_t* data, uint32_t length);
  void emit(RxBurst& burst, const RxPacket& packet);
  void receiveDatagram(RxBurst& burst, const RxPacket& train, const uint8_t* data, uint32_t length);
  void push(const TxItem& source, const uint8_t* data, uint32_t length, Progress progress);
  void decompose(std::span<const TxItem> items, uint32_t& item, uint32_t& offset);
  static void advance(std::span<TxItem> items, uint32_t& finished, const Progress& to, TxStatus status);

  std::unique_ptr<DatagramIo> inner_;
  ImpairConfig config_;
  Caps caps_;
  Random receiveRandom_;
  Random transmitRandom_;
  ImpairStats receiveStats_;
  ImpairStats transmitStats_;

  uint8_t* copies_;  // kCopiesLength, mapped: resident only where used
  std::array<Addresses, kReceiveCopies> copyAddresses_{};
  size_t nextReceiveCopy_ = 0;

  RxBurst received_;  // the backend's burst, worked off over as many polls as it takes
  size_t receivedIndex_ = 0;
  uint32_t receivedOffset_ = 0;
  bool runOpen_ = false;  // the last packet of the burst may still grow
  bool holding_ = false;  // `held_` waits for the next datagram to overtake it
  RxPacket held_;

  std::array<TxItem, kMaxInnerItems> innerItems_{};
  std::array<Progress, kMaxInnerItems> progress_{};
  uint32_t innerCount_ = 0;
};

}  // namespace outrigger::io
