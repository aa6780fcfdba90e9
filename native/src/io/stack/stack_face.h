// SPDX-License-Identifier: Apache-2.0
// One agent's DatagramIo over a NetStack. Faces of one stack belong to one thread.
#pragma once

#include "io/stack/net_stack.h"

namespace outrigger::io {

class StackFace final : public DatagramIo {
 public:
  StackFace(std::shared_ptr<NetStack> stack, uint32_t face) : stack_(std::move(stack)), face_(face) {}

  const Caps& caps() const override { return stack_->caps(); }
  Result<std::unique_ptr<Endpoint>> openEndpoint(const EndpointConfig& config) override { return stack_->openEndpoint(face_, config); }
  Result<std::unique_ptr<NextHop>> resolve(Endpoint& endpoint, const SockAddr& destination) override {
    return stack_->resolve(endpoint, destination);
  }
  Health health() override { return stack_->health(); }
  std::shared_ptr<CaptureTap> captureTap() override { return stack_->captureTap(); }
  std::vector<std::pair<std::string, std::string>> facts() const override { return stack_->facts(); }
  void attach(Endpoint& endpoint) override { stack_->attach(endpoint); }
  void detach(Endpoint& endpoint) override { stack_->detach(endpoint); }
  uint32_t poll(RxBurst& burst, int64_t nowNs) override { return stack_->poll(face_, burst, nowNs); }
  void release(RxBurst& burst) override { stack_->release(face_, burst); }
  uint32_t transmit(Endpoint& endpoint, std::span<TxItem> items) override { return stack_->transmit(endpoint, items); }
  TxStatus reserve(Endpoint& endpoint, const SockAddr& destination, uint32_t length, TxSlot& slot) override {
    return stack_->reserve(endpoint, destination, length, slot);
  }
  TxStatus commit(Endpoint& endpoint, const SockAddr& destination, TxSlot& slot, uint32_t length) override {
    return stack_->commit(endpoint, destination, slot, length);
  }
  void abort(Endpoint&, TxSlot& slot) override { stack_->abort(slot); }
  IoTotals totals() const override { return stack_->totals(face_); }
  int waitHandle() const override { return stack_->waitHandle(face_); }
  bool arm() override { return stack_->arm(face_); }

  NetStack& stack() { return *stack_; }

 private:
  std::shared_ptr<NetStack> stack_;
  uint32_t face_;
};

}  // namespace outrigger::io
