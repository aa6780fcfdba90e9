// SPDX-License-Identifier: Apache-2.0
// Any backend, given memory that it may go on reading, as a publication gives it its log: what nobody reads any more is written over at once, so that
// a datagram which is read too late shows.
#pragma once

#include <algorithm>
#include <chrono>
#include <list>
#include <thread>

#include "conformance_world.h"

namespace outrigger::io::testing {

// Until nothing of that memory is read any more.
inline bool awaitUnread(DatagramIo& io, const uint8_t* data, size_t length) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(kPatienceMs);
  while (io.stillReads(data, length)) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::yield();
  }
  return true;
}

class LendingIo final : public DatagramIo {
 public:
  explicit LendingIo(std::unique_ptr<DatagramIo> inner) : inner_(std::move(inner)) {}
  ~LendingIo() override { EXPECT_TRUE(awaitUnread(*inner_, nullptr, SIZE_MAX)); }

  const Caps& caps() const override { return inner_->caps(); }
  Result<std::unique_ptr<Endpoint>> openEndpoint(const EndpointConfig& config) override { return inner_->openEndpoint(config); }
  Result<std::unique_ptr<NextHop>> resolve(Endpoint& endpoint, const SockAddr& to) override { return inner_->resolve(endpoint, to); }
  Health health() override { return inner_->health(); }
  std::vector<std::pair<std::string, std::string>> facts() const override { return inner_->facts(); }
  void attach(Endpoint& endpoint) override { inner_->attach(endpoint); }
  void detach(Endpoint& endpoint) override { inner_->detach(endpoint); }
  uint32_t poll(RxBurst& burst, int64_t nowNs) override { return inner_->poll(burst, nowNs); }
  void release(RxBurst& burst) override { inner_->release(burst); }
  uint32_t transmit(Endpoint& endpoint, std::span<TxItem> items) override {
    overwrite();
    std::vector<TxItem> lent(items.begin(), items.end());
    for (TxItem& item : lent) {
      loans_.emplace_back(item.data, item.data + item.length);
      item.data = loans_.back().data();
      item.lent = true;
    }
    const uint32_t finished = inner_->transmit(endpoint, lent);
    for (size_t i = 0; i < items.size(); ++i) {
      items[i].status = lent[i].status;
      items[i].sentBytes = lent[i].sentBytes;
    }
    overwrite();
    return finished;
  }
  TxStatus reserve(Endpoint& endpoint, const SockAddr& destination, uint32_t length, TxSlot& slot) override {
    return inner_->reserve(endpoint, destination, length, slot);
  }
  TxStatus commit(Endpoint& endpoint, const SockAddr& destination, TxSlot& slot, uint32_t length) override {
    return inner_->commit(endpoint, destination, slot, length);
  }
  void abort(Endpoint& endpoint, TxSlot& slot) override { inner_->abort(endpoint, slot); }
  IoTotals totals() const override { return inner_->totals(); }
  bool stillReads(const uint8_t* data, size_t length) override { return inner_->stillReads(data, length); }
  int waitHandle() const override { return inner_->waitHandle(); }
  bool arm() override { return inner_->arm(); }

 private:
  void overwrite() {
    std::erase_if(loans_, [this](Bytes& memory) {
      if (inner_->stillReads(memory.data(), memory.size())) return false;
      std::fill(memory.begin(), memory.end(), uint8_t{0xEE});
      return true;
    });
  }

  std::list<Bytes> loans_;
  std::unique_ptr<DatagramIo> inner_;  // goes first: what it tells of the loans ends with it
};

class LendingWorld final : public World {
 public:
  explicit LendingWorld(std::unique_ptr<World> inner) : inner_(std::move(inner)) {}
  std::string refusal() const override { return inner_->refusal(); }
  std::unique_ptr<DatagramIo> makeIo(Side side) override { return lending(inner_->makeIo(side)); }
  std::unique_ptr<DatagramIo> makeAnother(Side side) override { return lending(inner_->makeAnother(side)); }
  std::string host(Side side, bool v6) const override { return inner_->host(side, v6); }
  int64_t nowNs() override { return inner_->nowNs(); }
  bool await(DatagramIo& io) override { return inner_->await(io); }
  bool isSimulated() const override { return inner_->isSimulated(); }
  bool hasSocketBuffers() const override { return inner_->hasSocketBuffers(); }
  bool takesLongDatagrams() const override { return inner_->takesLongDatagrams(); }

 private:
  static std::unique_ptr<DatagramIo> lending(std::unique_ptr<DatagramIo> io) {
    return io == nullptr ? nullptr : std::make_unique<LendingIo>(std::move(io));
  }
  std::unique_ptr<World> inner_;
};

}  // namespace outrigger::io::testing
