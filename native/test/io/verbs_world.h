// SPDX-License-Identifier: Apache-2.0
// Two hosts of the conformance suite that know each other's queue pairs: over a fabric in memory, and over real devices (rdma_rxe in the lab), each
// in a network namespace that OUTRIGGER_TEST_VERBS_HOSTS names: "one,10.77.0.1,fd77::1;two,10.77.0.2,fd77::2".
#pragma once

#include <sched.h>

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <sstream>

#include "base/clock.h"
#include "conformance_world.h"
#include "forwarding_io.h"
#include "io/verbs/verbs_io.h"
#include "rdma_fabric.h"

namespace outrigger::io::testing {

// How peers are found is not the suite's subject: a next hop is known when resolve returns. For that all instances are polled; what else arrives
// meanwhile is kept.
class AcquaintedIo final : public outrigger::testing::ForwardingIo {
 public:
  using Instances = std::vector<AcquaintedIo*>;
  using Enter = std::function<std::shared_ptr<void>()>;

  AcquaintedIo(std::unique_ptr<DatagramIo> io, std::shared_ptr<Instances> all, Enter enter)
      : ForwardingIo(std::move(io)), all_(std::move(all)), enter_(std::move(enter)) {
    all_->push_back(this);
  }
  ~AcquaintedIo() override { std::erase(*all_, this); }

  Result<std::unique_ptr<Endpoint>> openEndpoint(const EndpointConfig& config) override {
    const auto inside = enter_();
    return inner().openEndpoint(config);
  }
  Result<std::unique_ptr<NextHop>> resolve(Endpoint& endpoint, const SockAddr& destination) override {
    auto resolved = inner().resolve(endpoint, destination);
    if (!resolved) return resolved;
    auto& next = static_cast<verbs::VerbsNextHop&>(**resolved);
    for (int waited = 0; waited < kPatienceMs && next.now().state == verbs::PeerState::kAsking; ++waited) {
      for (AcquaintedIo* each : *all_) each->keep();
      ::poll(nullptr, 0, 1);
    }
    return resolved;
  }
  void detach(Endpoint& endpoint) override {
    std::erase_if(kept_, [&](const Arrival& each) { return each.endpoint == &endpoint; });
    inner().detach(endpoint);
  }
  uint32_t poll(RxBurst& burst, int64_t nowNs) override {
    if (kept_.empty()) return inner().poll(burst, nowNs);
    shown_ = std::move(kept_.front());
    kept_.pop_front();
    const auto length = static_cast<uint32_t>(shown_.bytes.size());
    burst.packets[0] = {shown_.bytes.data(), length, length, shown_.endpoint, &shown_.source, &shown_.destination};
    burst.count = 1;
    return 1;
  }
  bool arm() override { return kept_.empty() && inner().arm(); }

 private:
  void keep() {
    for (Arrival& each : pollOnce(inner(), SystemClock().nanoTime())) kept_.push_back(std::move(each));
    // Nothing of the device's stays out.
    RxBurst none;
    inner().release(none);
  }

  std::shared_ptr<Instances> all_;
  Enter enter_;
  std::deque<Arrival> kept_;
  Arrival shown_;
};

class VerbsWorldBase : public World {
 public:
  int64_t nowNs() override { return SystemClock().nanoTime(); }
  bool await(DatagramIo& io) override {
    if (!io.arm()) return true;
    pollfd handle{io.waitHandle(), POLLIN, 0};
    return ::poll(&handle, 1, kPatienceMs) > 0;
  }
  bool hasSocketBuffers() const override { return false; }

 protected:
  std::shared_ptr<AcquaintedIo::Instances> all_ = std::make_shared<AcquaintedIo::Instances>();
};

class FabricWorld final : public VerbsWorldBase {
 public:
  std::unique_ptr<DatagramIo> makeIo(Side side) override {
    auto port = std::make_shared<FabricPort>(fabric_, std::vector<std::string>{host(side, false), host(side, true)});
    auto directory = verbs::PeerDirectory::create(port);
    EXPECT_TRUE(directory.ok()) << directory.error().message;
    auto io = verbs::VerbsIo::create(*directory, {});
    EXPECT_TRUE(io.ok()) << io.error().message;
    return std::make_unique<AcquaintedIo>(io.take(), all_, [] { return nullptr; });
  }
  // All of 127/8 can be bound without any set-up; of IPv6 one address.
  std::string host(Side side, bool v6) const override { return v6 ? "::1" : side == Side::kSender ? "127.88.0.1" : "127.88.0.2"; }

 private:
  Fabric fabric_;
};

class DeviceWorld final : public VerbsWorldBase {
 public:
  DeviceWorld() {
    const char* given = std::getenv("OUTRIGGER_TEST_VERBS_HOSTS");
    std::istringstream hosts(given == nullptr ? "" : given);
    for (std::string one; std::getline(hosts, one, ';');) {
      std::istringstream parts(one);
      Host host;
      std::getline(parts, host.name, ',');
      std::getline(parts, host.v4, ',');
      std::getline(parts, host.v6, ',');
      hosts_.push_back(host);
    }
  }
  std::string refusal() const override {
    return hosts_.size() == 2 ? "" : "OUTRIGGER_TEST_VERBS_HOSTS names no two hosts with an RDMA device each: the lab does";
  }
  std::unique_ptr<DatagramIo> makeIo(Side side) override {
    const std::string name = at(side).name;
    const auto enter = [name]() -> std::shared_ptr<void> { return std::make_shared<Guest>(name); };
    const auto inside = enter();
    BackendOptions options;
    options.address = at(side).v4;
    options.umemBytes = 8 << 20;
    auto pair = openPair("verbs", options);
    EXPECT_TRUE(pair.ok()) << pair.error().message;
    if (!pair.ok()) return nullptr;
    return std::make_unique<AcquaintedIo>(side == Side::kSender ? std::move(pair->sender) : std::move(pair->receiver), all_, enter);
  }
  std::string host(Side side, bool v6) const override { return v6 ? at(side).v6 : at(side).v4; }

 private:
  struct Host {
    std::string name, v4, v6;
  };
  // The thread is in a network namespace for as long as the object lives.
  class Guest {
   public:
    explicit Guest(const std::string& name) : home_(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)) {
      const UniqueFd there(::open(("/run/netns/" + name).c_str(), O_RDONLY | O_CLOEXEC));
      EXPECT_EQ(::setns(there.get(), CLONE_NEWNET), 0) << name << ": " << std::strerror(errno);
    }
    ~Guest() { EXPECT_EQ(::setns(home_.get(), CLONE_NEWNET), 0) << std::strerror(errno); }
    Guest(const Guest&) = delete;
    Guest& operator=(const Guest&) = delete;

   private:
    UniqueFd home_;
  };
  const Host& at(Side side) const { return hosts_[side == Side::kSender ? 0 : 1]; }

  std::vector<Host> hosts_;
};

}  // namespace outrigger::io::testing
