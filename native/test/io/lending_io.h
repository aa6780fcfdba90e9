// SPDX-License-Identifier: Apache-2.0
// Any backend, given memory that it may go on reading, as a publication gives it its log: what nobody reads any more is written over at once, so that
// a datagram which is read too late shows.
#pragma once

#include <algorithm>
#include <chrono>
#include <list>
#include <thread>

#include "conformance_world.h"
#include "forwarding_io.h"

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

class LendingIo final : public outrigger::testing::ForwardingIo {
 public:
  explicit LendingIo(std::unique_ptr<DatagramIo> inner) : ForwardingIo(std::move(inner)) {}
  ~LendingIo() override {
    EXPECT_TRUE(awaitUnread(inner(), nullptr, SIZE_MAX));
    closeInner();  // what it tells of the loans ends with it
  }

  uint32_t transmit(Endpoint& endpoint, std::span<TxItem> items) override {
    overwrite();
    std::vector<TxItem> lent(items.begin(), items.end());
    for (TxItem& item : lent) {
      loans_.emplace_back(item.data, item.data + item.length);
      item.data = loans_.back().data();
      item.lent = true;
    }
    const uint32_t finished = inner().transmit(endpoint, lent);
    for (size_t i = 0; i < items.size(); ++i) {
      items[i].status = lent[i].status;
      items[i].sentBytes = lent[i].sentBytes;
    }
    overwrite();
    return finished;
  }

 private:
  void overwrite() {
    std::erase_if(loans_, [this](Bytes& memory) {
      if (inner().stillReads(memory.data(), memory.size())) return false;
      std::fill(memory.begin(), memory.end(), uint8_t{0xEE});
      return true;
    });
  }

  std::list<Bytes> loans_;
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
