// SPDX-License-Identifier: Apache-2.0
// A DatagramIo around another one, for tests that change one thing of a real backend: whatever a derived class leaves alone is the inner one's.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "io/datagram_io.h"

namespace outrigger::testing {

class ForwardingIo : public io::DatagramIo {
 public:
  explicit ForwardingIo(std::unique_ptr<io::DatagramIo> inner) : inner_(std::move(inner)) {}

  const io::Caps& caps() const override { return inner_->caps(); }
  Result<std::unique_ptr<io::Endpoint>> openEndpoint(const io::EndpointConfig& config) override { return inner_->openEndpoint(config); }
  Result<std::unique_ptr<io::NextHop>> resolve(io::Endpoint& endpoint, const io::SockAddr& destination) override {
    return inner_->resolve(endpoint, destination);
  }
  io::Health health() override { return inner_->health(); }
  std::vector<std::pair<std::string, std::string>> facts() const override { return inner_->facts(); }
  std::shared_ptr<io::CaptureTap> captureTap() override { return inner_->captureTap(); }
  void attach(io::Endpoint& endpoint) override { inner_->attach(endpoint); }
  void detach(io::Endpoint& endpoint) override { inner_->detach(endpoint); }
  uint32_t poll(io::RxBurst& burst, int64_t nowNs) override { return inner_->poll(burst, nowNs); }
  void release(io::RxBurst& burst) override { inner_->release(burst); }
  uint32_t transmit(io::Endpoint& endpoint, std::span<io::TxItem> items) override { return inner_->transmit(endpoint, items); }
  bool stillReads(const uint8_t* data, size_t length) override { return inner_->stillReads(data, length); }
  io::TxStatus reserve(io::Endpoint& endpoint, const io::SockAddr& destination, uint32_t length, io::TxSlot& slot) override {
    return inner_->reserve(endpoint, destination, length, slot);
  }
  io::TxStatus commit(io::Endpoint& endpoint, const io::SockAddr& destination, io::TxSlot& slot, uint32_t length) override {
    return inner_->commit(endpoint, destination, slot, length);
  }
  void abort(io::Endpoint& endpoint, io::TxSlot& slot) override { inner_->abort(endpoint, slot); }
  io::IoTotals totals() const override { return inner_->totals(); }
  int waitHandle() const override { return inner_->waitHandle(); }
  bool arm() override { return inner_->arm(); }

 protected:
  io::DatagramIo& inner() { return *inner_; }
  const io::DatagramIo& inner() const { return *inner_; }
  // Before members of the derived class, where it still uses them.
  void closeInner() { inner_.reset(); }

 private:
  std::unique_ptr<io::DatagramIo> inner_;
};

}  // namespace outrigger::testing
