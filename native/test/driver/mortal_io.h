// SPDX-License-Identifier: Apache-2.0
// A backend that lives and dies as a test says, around any other: what a raw one does when its device goes, without a device.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>

#include "forwarding_io.h"
#include "io/datagram_io.h"

namespace outrigger::test {

// What happens to the backends of a test, by name. Outlives the driver. Any thread.
class Fates {
 public:
  using State = io::Health::State;

  void set(const std::string& name, State state) {
    const std::lock_guard lock(mutex_);
    states_[name] = state;
  }
  State of(const std::string& name) {
    const std::lock_guard lock(mutex_);
    return states_[name];
  }
  // For the driver that asks how `name` is.
  State look(const std::string& name) {
    const std::lock_guard lock(mutex_);
    ++looks_[name];
    return states_[name];
  }
  int64_t looks(const std::string& name) {
    const std::lock_guard lock(mutex_);
    return looks_[name];
  }
  // What `name` says of itself while it is well: its MTU, and what it does without.
  void say(const std::string& name, const std::string& mtu, const std::string& standing) {
    const std::lock_guard lock(mutex_);
    said_[name] = {mtu, standing};
  }
  std::pair<std::string, std::string> said(const std::string& name) {
    const std::lock_guard lock(mutex_);
    return said_[name];
  }
  // From now on `name` does not have this address (without port).
  void withholdAddress(const std::string& name, const std::string& address, bool withheld) {
    const std::lock_guard lock(mutex_);
    if (withheld) {
      withheld_.insert(name + " " + address);
    } else {
      withheld_.erase(name + " " + address);
    }
  }
  bool isWithheld(const std::string& name, const io::SockAddr& address) {
    const std::lock_guard lock(mutex_);
    const std::string text = address.toString();
    return withheld_.contains(name + " " + text.substr(0, text.rfind(':')));
  }

 private:
  std::mutex mutex_;
  std::map<std::string, State> states_;
  std::map<std::string, int64_t> looks_;
  std::map<std::string, std::pair<std::string, std::string>> said_;
  std::set<std::string> withheld_;
};

class MortalIo final : public outrigger::testing::ForwardingIo {
 public:
  MortalIo(std::string name, std::shared_ptr<Fates> fates, std::unique_ptr<io::DatagramIo> inner)
      : ForwardingIo(std::move(inner)), name_(std::move(name)), fates_(std::move(fates)) {}

  Result<std::unique_ptr<io::Endpoint>> openEndpoint(const io::EndpointConfig& config) override {
    if (fates_->isWithheld(name_, config.bindAddress)) {
      return makeError(ErrorCode::kChannelEndpointError, name_ + " does not have " + config.bindAddress.toString(), EADDRNOTAVAIL);
    }
    return inner().openEndpoint(config);
  }
  // The instance that lost its device does not come back with it: a new one is opened.
  io::Health health() override {
    const io::Health::State state = fates_->look(name_);
    if (state == io::Health::State::kGone) gone_.store(true);
    if (gone_.load()) return {io::Health::State::kGone, name_ + " was taken away", false};
    if (state == io::Health::State::kDown) return {io::Health::State::kDown, name_ + " is down", false};
    return {io::Health::State::kOk, fates_->said(name_).second, false};
  }
  std::vector<std::pair<std::string, std::string>> facts() const override {
    std::vector<std::pair<std::string, std::string>> facts = {{"mode", "mortal"}, {"interface", name_}};
    if (const std::string mtu = fates_->said(name_).first; !mtu.empty()) facts.emplace_back("mtu", mtu);
    return facts;
  }
  uint32_t poll(io::RxBurst& burst, int64_t nowNs) override {
    const uint32_t count = inner().poll(burst, nowNs);
    if (works()) return count;
    burst.count = 0;  // what arrives at a dead device is gone
    return 0;
  }
  uint32_t transmit(io::Endpoint& endpoint, std::span<io::TxItem> items) override {
    if (works()) return inner().transmit(endpoint, items);
    for (io::TxItem& item : items) {
      item.status = io::TxStatus::kSent;  // into a ring that nobody empties
      item.sentBytes = item.length;
    }
    return static_cast<uint32_t>(items.size());
  }
  io::TxStatus commit(io::Endpoint& endpoint, const io::SockAddr& destination, io::TxSlot& slot, uint32_t length) override {
    if (works()) return inner().commit(endpoint, destination, slot, length);
    inner().abort(endpoint, slot);
    return io::TxStatus::kSent;
  }

 private:
  bool works() { return !gone_.load() && fates_->of(name_) == io::Health::State::kOk; }

  std::string name_;
  std::shared_ptr<Fates> fates_;
  std::atomic<bool> gone_{false};
};

// Opens `name` as a pair of what `make` makes; a backend that is not well does not open.
template <typename Make>
Result<io::IoPair> openMortal(const std::string& name, const std::shared_ptr<Fates>& fates, Make make) {
  if (fates->of(name) == io::Health::State::kGone) return makeError(ErrorCode::kGeneric, name + " has no device");
  auto sender = make();
  if (!sender) return sender.error();
  auto receiver = make();
  if (!receiver) return receiver.error();
  io::IoPair pair;
  pair.sender = std::make_unique<MortalIo>(name, fates, sender.take());
  pair.receiver = std::make_unique<MortalIo>(name, fates, receiver.take());
  return pair;
}

}  // namespace outrigger::test
