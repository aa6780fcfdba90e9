// SPDX-License-Identifier: Apache-2.0
// An RDMA fabric in memory: ports whose queue pairs reach each other by GID, number and key, as those of real devices do. What finds no receive
// buffer is lost, as there.
#pragma once

#include <sys/eventfd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <vector>

#include "base/fd.h"
#include "io/verbs/gid.h"

namespace outrigger::io::testing {

class FabricQueue;

class Fabric {
 public:
  std::mutex mutex;
  std::map<uint32_t, FabricQueue*> queues;  // by number, which are never given twice
  uint32_t nextNumber = 2;
  // Of a host that failed over: handles made before lead nowhere.
  std::map<verbs::Gid, int> generation;
  int handlesMade = 0;
};

class FabricAddress final : public verbs::AddressHandle {
 public:
  verbs::Gid destination{};
  verbs::Gid source{};
  int generation = 0;
};

class FabricQueue final : public verbs::DatagramQueue {
 public:
  FabricQueue(Fabric& fabric, const verbs::PortFacts& facts, const verbs::QueueOptions& options)
      : fabric_(fabric), facts_(facts), options_(options), event_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    stride_ = verbs::kRouteHeaderLength + facts.mtu;
    receiveMemory_.resize(static_cast<size_t>(stride_) * options.receiveSlots);
    sendMemory_.resize(static_cast<size_t>(facts.mtu) * options.sendSlots);
    for (uint32_t i = 0; i < options.receiveSlots; ++i) posted_.push_back(i);
    for (uint32_t i = 0; i < options.sendSlots; ++i) free_.push_back(i);
    const std::lock_guard lock(fabric_.mutex);
    number_ = fabric_.nextNumber++;
    fabric_.queues[number_] = this;
  }
  ~FabricQueue() override {
    const std::lock_guard lock(fabric_.mutex);
    fabric_.queues.erase(number_);
  }
  uint32_t number() const override { return number_; }
  uint32_t receiveSlots() const override { return options_.receiveSlots; }
  uint32_t sendSlots() const override { return options_.sendSlots; }
  uint32_t inlineBytes() const override { return 0; }

  uint32_t receive(std::span<verbs::Received> datagrams) override {
    const std::lock_guard lock(fabric_.mutex);
    uint32_t count = 0;
    while (count < datagrams.size() && !arrived_.empty()) {
      datagrams[count++] = arrived_.front();
      arrived_.pop_front();
    }
    stats_.received += count;
    return count;
  }
  void giveBack(std::span<const uint32_t> slots) override {
    if (fault_.present()) return;
    const std::lock_guard lock(fabric_.mutex);
    posted_.insert(posted_.end(), slots.begin(), slots.end());
  }
  uint32_t reserve(std::span<verbs::SendSlot> slots) override {
    uint32_t count = 0;
    while (count < slots.size() && !free_.empty()) {
      slots[count++] = {free_.back(), sendMemory_.data() + static_cast<size_t>(free_.back()) * facts_.mtu};
      free_.pop_back();
    }
    return count;
  }
  void abort(std::span<const uint32_t> slots) override { free_.insert(free_.end(), slots.begin(), slots.end()); }
  uint32_t send(std::span<const verbs::Outgoing> datagrams) override {
    if (fault_.present()) {
      for (const verbs::Outgoing& each : datagrams) free_.push_back(each.slot);
      stats_.sendErrors += static_cast<int64_t>(datagrams.size());
      return 0;
    }
    const std::lock_guard lock(fabric_.mutex);
    for (const verbs::Outgoing& each : datagrams) {
      deliver(each);
      free_.push_back(each.slot);
    }
    stats_.sent += static_cast<int64_t>(datagrams.size());
    return static_cast<uint32_t>(datagrams.size());
  }
  int handle() const override { return event_.get(); }
  bool arm() override {
    const std::lock_guard lock(fabric_.mutex);
    eventfd_t ignored = 0;
    ::eventfd_read(event_.get(), &ignored);
    return arrived_.empty();
  }
  const verbs::QueueStats& stats() const override { return stats_; }
  const verbs::QueueFault& fault() const override { return fault_; }
  void breakDown(const char* what, int err) { fault_.set(what, err); }
  size_t buffersOut() const { return options_.receiveSlots - posted_.size() - arrived_.size(); }
  // A datagram as it came from the wire.
  void inject(const std::array<uint8_t, verbs::kRouteHeaderLength>& header, uint32_t immediate, const std::vector<uint8_t>& bytes) {
    const std::lock_guard lock(fabric_.mutex);
    put(header, immediate, bytes.data(), static_cast<uint32_t>(bytes.size()));
  }

 private:
  void deliver(const verbs::Outgoing& outgoing) {
    const auto& to = static_cast<const FabricAddress&>(*outgoing.to);
    const auto found = fabric_.queues.find(outgoing.queueNumber);
    if (found == fabric_.queues.end() || found->second->options_.queueKey != outgoing.queueKey) return;
    const auto& gids = found->second->facts_.gids;
    if (std::none_of(gids.begin(), gids.end(), [&](const auto& gid) { return gid.gid == to.destination; })) return;
    if (fabric_.generation[to.destination] != to.generation) return;
    std::array<uint8_t, verbs::kRouteHeaderLength> header{};
    const net::IpAddress source = verbs::addressOf(to.source);
    const net::IpAddress destination = verbs::addressOf(to.destination);
    if (source.isV6()) {
      header[0] = 0x60;
      std::copy_n(source.bytes.begin(), 16, header.begin() + 8);
      std::copy_n(destination.bytes.begin(), 16, header.begin() + 24);
    } else {
      header[20] = 0x45;  // without a checksum, as rxe does for what stays on the host
      std::copy_n(source.bytes.begin(), 4, header.begin() + 32);
      std::copy_n(destination.bytes.begin(), 4, header.begin() + 36);
    }
    found->second->put(header, outgoing.immediate, sendMemory_.data() + static_cast<size_t>(outgoing.slot) * facts_.mtu, outgoing.length);
  }
  void put(const std::array<uint8_t, verbs::kRouteHeaderLength>& header, uint32_t immediate, const uint8_t* data, uint32_t length) {
    if (posted_.empty() || length > facts_.mtu) return;
    const uint32_t slot = posted_.front();
    posted_.pop_front();
    uint8_t* memory = receiveMemory_.data() + static_cast<size_t>(slot) * stride_;
    std::copy(header.begin(), header.end(), memory);
    if (length > 0) std::memcpy(memory + header.size(), data, length);
    arrived_.push_back({slot, memory, memory + header.size(), length, immediate});
    ::eventfd_write(event_.get(), 1);
  }

  Fabric& fabric_;
  const verbs::PortFacts facts_;
  const verbs::QueueOptions options_;
  UniqueFd event_;
  uint32_t number_ = 0;
  uint32_t stride_ = 0;
  std::vector<uint8_t> receiveMemory_;
  std::vector<uint8_t> sendMemory_;
  std::deque<uint32_t> posted_;
  std::deque<verbs::Received> arrived_;
  std::vector<uint32_t> free_;
  verbs::QueueStats stats_;
  verbs::QueueFault fault_;
};

class FabricPort final : public verbs::RdmaPort {
 public:
  FabricPort(Fabric& fabric, const std::vector<std::string>& addresses, uint32_t mtu = 4096) : fabric_(fabric) {
    facts_.device = "fabric0";
    facts_.ethernet = true;
    facts_.active = true;
    facts_.mtu = mtu;
    for (const std::string& address : addresses) {
      const auto index = static_cast<uint32_t>(facts_.gids.size());
      facts_.gids.push_back({verbs::gidOf(net::IpAddress::of(SockAddr::parseNumeric(address, 0).take())), index});
    }
  }
  const verbs::PortFacts& facts() const override { return facts_; }
  Result<std::unique_ptr<verbs::DatagramQueue>> openQueue(const verbs::QueueOptions& options) override {
    auto queue = std::make_unique<FabricQueue>(fabric_, facts_, options);
    lastQueue = queue.get();
    return std::unique_ptr<verbs::DatagramQueue>(std::move(queue));
  }
  Result<std::unique_ptr<verbs::AddressHandle>> createAddress(const verbs::Gid& destination, uint32_t ownGidIndex) override {
    if (whileMaking && !whileMaking()) return makeError(ErrorCode::kGeneric, "no way there", EHOSTUNREACH);
    const std::lock_guard lock(fabric_.mutex);
    ++fabric_.handlesMade;
    auto handle = std::make_unique<FabricAddress>();
    handle->destination = destination;
    handle->source = facts_.gids[ownGidIndex].gid;
    handle->generation = fabric_.generation[destination];
    return std::unique_ptr<verbs::AddressHandle>(std::move(handle));
  }
  std::string trouble(bool& isGone) override {
    isGone = gone;
    return down;
  }
  int64_t outOfBuffers() override { return -1; }

  FabricQueue* lastQueue = nullptr;
  std::string down;
  bool gone = false;
  std::function<bool()> whileMaking;  // an address handle: as a device that waits for ARP; false: in vain

 private:
  Fabric& fabric_;
  verbs::PortFacts facts_;
};

}  // namespace outrigger::io::testing
