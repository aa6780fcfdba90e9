// SPDX-License-Identifier: Apache-2.0
// Backend `verbs`: one agent's DatagramIo over a queue pair for unreliable datagrams. The UDP socket that reserves each endpoint's port is in use as
// well: for the exchange of queue pairs, for peers that have none, and for what is longer than a datagram of the device can be.
//
// A datagram carries both UDP ports as its immediate data, source port first, and the addresses in its route header: so one queue pair serves all
// endpoints of an instance, and all of the device's MTU is payload.
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "base/rate_limit.h"
#include "io/posix/udp_endpoint.h"
#include "io/stack/stack_stats.h"
#include "io/verbs/peer_directory.h"

namespace outrigger::io::verbs {

class VerbsEndpoint final : public UdpEndpoint {
 public:
  ~VerbsEndpoint() override {
    if (directory_ != nullptr) directory_->dropEndpoint(number_);
  }
  // Once the socket is open.
  void enter(std::shared_ptr<PeerDirectory> directory);

  uint64_t number() const { return number_; }
  const net::IpAddress& ip() const { return ip_; }
  uint16_t port() const { return localAddress().port(); }
  bool wildcard() const { return wildcard_; }
  bool onDevice() const { return onDevice_; }  // its address has a GID: else all goes through the kernel

  // Owner thread.
  VerbsEndpoint* nextOfBucket = nullptr;
  bool listed = false;

 private:
  std::shared_ptr<PeerDirectory> directory_;
  uint64_t number_ = 0;
  net::IpAddress ip_;
  bool wildcard_ = false;
  bool onDevice_ = false;
};

// A peer as an owner thread sees it: its cell, and a copy of the answer that is read again when the cell's version has changed.
class Peer {
 public:
  // Owner thread.
  const PeerAnswer& answer() {
    if (cell.answer.version() != version_) {
      PeerAnswer fresh;
      // One to the question before is none. While one is written nothing is known: the last one's handle may be gone for long.
      if (!cell.answer.tryLoad(fresh, version_)) {
        answer_ = {};
      } else if (fresh.question == question_) {
        answer_ = fresh;
      }
    }
    if (!cell.used.load(std::memory_order_relaxed)) cell.used.store(true, std::memory_order_relaxed);
    return answer_;
  }

  // The cell has another question.
  void forgetAnswer(uint32_t question) {
    question_ = question;
    answer_ = {};
  }

  PeerCell cell;

 private:
  uint32_t question_ = 1;
  PeerAnswer answer_;
  uint64_t version_ = 0;
};

class VerbsNextHop final : public NextHop {
 public:
  VerbsNextHop(std::shared_ptr<PeerDirectory> directory, const VerbsEndpoint& endpoint, const SockAddr& destination);
  ~VerbsNextHop() override { directory_->forget(peer.cell); }
  uint32_t longestDatagram() const override;
  // Any thread.
  PeerAnswer now() const { return peer.cell.answer.load(); }

  Peer peer;

 private:
  std::shared_ptr<PeerDirectory> directory_;
  bool onDevice_;
};

struct VerbsOptions {
  uint32_t receiveSlots = 1024;
  uint32_t sendSlots = 1024;
  int32_t busyPollUs = 0;    // of the sockets
  bool segmentation = true;  // of what goes through them
  bool countsPort = false;   // of the instances on one port one shows what the port counts
};

class VerbsIo final : public DatagramIo {
 public:
  static Result<std::unique_ptr<VerbsIo>> create(std::shared_ptr<PeerDirectory> directory, const VerbsOptions& options);
  ~VerbsIo() override;

  const Caps& caps() const override { return caps_; }
  Result<std::unique_ptr<Endpoint>> openEndpoint(const EndpointConfig& config) override;
  Result<std::unique_ptr<NextHop>> resolve(Endpoint& endpoint, const SockAddr& destination) override;
  Health health() override;
  std::vector<std::pair<std::string, std::string>> facts() const override;
  void attach(Endpoint& endpoint) override;
  void detach(Endpoint& endpoint) override;
  uint32_t poll(RxBurst& burst, int64_t nowNs) override;
  void release(RxBurst& burst) override;
  uint32_t transmit(Endpoint& endpoint, std::span<TxItem> items) override;
  TxStatus reserve(Endpoint& endpoint, const SockAddr& destination, uint32_t length, TxSlot& slot) override;
  TxStatus commit(Endpoint& endpoint, const SockAddr& destination, TxSlot& slot, uint32_t length) override;
  void abort(Endpoint& endpoint, TxSlot& slot) override { kernel_->abort(endpoint, slot); }
  IoTotals totals() const override;
  int waitHandle() const override { return epoll_.get(); }
  bool arm() override;

  const StackStats& stats() const { return stats_; }

 private:
  // Destinations of control frames, which have no next hop: status messages, repairs' requests. In sets of kWays, the longest unused one gives way.
  static constexpr uint32_t kControlSets = 64;
  static constexpr uint32_t kWays = 4;
  static constexpr uint32_t kPortBuckets = 256;
  static constexpr uint32_t kBatch = 64;

  struct ControlPeer {
    Peer peer;
    uint64_t endpoint = 0;
    uint32_t question = 0;
    uint64_t lastUse = 0;
    SockAddr destination;
  };
  struct Slot {
    SockAddr source;
    SockAddr destination;
  };

  VerbsIo(std::shared_ptr<PeerDirectory> directory, const VerbsOptions& options);
  Result<void> open();

  uint32_t readQueue(RxBurst& burst);
  uint32_t readKernel(RxBurst& burst, int64_t nowNs);
  bool deliver(const Received& received, RxBurst& burst);
  // True: the directory has something to look at.
  bool onExchange(VerbsEndpoint& endpoint, const RxPacket& packet, ExchangeVerdict verdict, const ExchangeMessage& message, int64_t nowNs);
  void answer(VerbsEndpoint& endpoint, const RxPacket& packet, ExchangeVerdict verdict, uint64_t nonce);
  VerbsEndpoint* find(const net::IpAddress& destination, uint16_t port) const;

  // Whether the next datagrams of `item` go by the queue; else through the kernel.
  bool byQueue(const VerbsEndpoint& endpoint, const TxItem& item, const PeerAnswer& peer) const;
  bool sendItem(VerbsEndpoint& endpoint, TxItem& item, const PeerAnswer& peer);
  uint8_t* nextSlot(VerbsEndpoint& endpoint);
  void post(const VerbsEndpoint& endpoint, const PeerAnswer& peer, uint16_t port, uint32_t length);
  void flush(VerbsEndpoint& endpoint);
  Peer& controlPeer(const VerbsEndpoint& endpoint, const SockAddr& destination);

  std::shared_ptr<PeerDirectory> directory_;
  const VerbsOptions options_;
  Caps caps_;
  uint32_t queueKey_ = 0;
  uint32_t mtu_ = 0;
  std::unique_ptr<DatagramQueue> queue_;
  std::unique_ptr<DatagramIo> kernel_;
  PeerNotes* notes_ = nullptr;
  UniqueFd epoll_;
  StackStats stats_;
  std::atomic<int64_t> outOfBuffers_{0};
  int64_t firstOutOfBuffers_ = -1;

  std::array<VerbsEndpoint*, kPortBuckets> ports_{};
  std::array<Slot, RxBurst::kMaxPackets> slots_{};
  std::array<Received, RxBurst::kMaxPackets> received_{};
  std::array<uint32_t, RxBurst::kMaxPackets> held_{};
  uint32_t heldCount_ = 0;
  RxBurst kernelBurst_;
  uint32_t pollsSinceKernel_ = 0;
  bool kernelReady_ = false;
  // Two thousand a second: each is a datagram sent, or a look at all peers. Apart, so that a flood of asks lets the answers to ours through.
  RateLimit askLimit_{256, 500'000};
  RateLimit answerLimit_{256, 500'000};

  std::array<SendSlot, kBatch> free_{};
  uint32_t freeCount_ = 0;
  std::array<Outgoing, kBatch> outgoing_{};
  uint32_t outgoingCount_ = 0;
  std::unique_ptr<ControlPeer[]> controlPeers_ = std::make_unique<ControlPeer[]>(kControlSets * kWays);
  uint64_t uses_ = 0;
};

}  // namespace outrigger::io::verbs
