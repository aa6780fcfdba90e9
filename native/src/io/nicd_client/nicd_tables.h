// SPDX-License-Identifier: Apache-2.0
// KernelTables of the NIC's network namespace, seen from another one: questions go to outrigger-nicd, answers come by its feed. Also the link
// of the session's interface. While nicd is away the answers stay what they were.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "base/clock.h"
#include "io/nicd_client/connection.h"
#include "net/local_addresses.h"

namespace outrigger::nicd {

class NicdTables final : public net::KernelTables, public SessionListener {
 public:
  // nicd is asked for its counts no sooner than this after the time before: less than a second, so that each upkeep of a stack asks.
  static constexpr int64_t kStatisticsIntervalNs = 900'000'000;

  // Of a session that the connection keeps. The clock says when to ask for counts; the default is the system's.
  static std::shared_ptr<NicdTables> create(std::shared_ptr<Connection> connection, const Opened& opened, const std::string& interface,
                                            std::shared_ptr<Clock> clock = std::make_shared<SystemClock>());
  ~NicdTables() override;

  net::RouteAnswer lookup(const net::RouteQuestion& question) override;
  void watch(net::RouteCell& cell) override;
  void forget(net::RouteCell& cell) override;
  void refresh(net::RouteCell& cell) override;
  uint64_t addressVersion() const override { return published_.version(); }
  bool copyAddresses(std::vector<net::LocalAddress>& out) const override { return published_.copy(out); }

  // The link as nicd last told; gone, with the reason, when the session is lost. Any thread, never waits for nicd.
  io::LinkState link();
  // Frames of the interface that were for a steered port and went to the kernel, since the session was opened, as nicd last told; has it asked
  // anew, once an interval however often this is called (a stack whose ring overflows does a thousand times a second). Any thread, never waits for
  // nicd.
  int64_t framesLeftToKernel();
  // Called on the connection's thread when nicd is back, until the session is dropped.
  void setResumed(std::function<void()> resumed) { resumed_ = std::move(resumed); }

  void onFeed(const FeedEntry& entry) override;
  void onResumed() override;
  void onWake() override;
  void onStatistics(const StatisticsAnswer& answer) override;

 private:
  NicdTables(std::shared_ptr<Connection> connection, const Opened& opened, std::string interface, std::shared_ptr<Clock> clock);
  bool ask(uint32_t number, const net::RouteQuestion& question);
  void askQueued();
  uint32_t numberOf(const net::RouteCell& cell) const;

  std::shared_ptr<Connection> connection_;
  uint64_t session_;
  std::string interface_;
  uint32_t interfaceIndex_;
  std::shared_ptr<Clock> clock_;
  mutable std::mutex mutex_;
  std::condition_variable answered_;
  std::map<uint32_t, net::RouteCell*> cells_;
  std::map<const net::RouteCell*, uint32_t> numbers_;
  uint32_t nextNumber_ = 0;
  std::vector<uint32_t> freeNumbers_;
  std::function<void()> resumed_;
  std::atomic<bool> statisticsWanted_{false};
  std::atomic<int64_t> statisticsAskedNs_{0};
  std::atomic<int64_t> leftToKernel_{0};
  bool leftBaseKnown_ = false;  // connection's thread, as what follows
  uint64_t leftLast_ = 0;       // the interface has counted before us, and may serve others
  io::LinkState link_;
  Connection::Standing standing_;
  bool lost_ = false;
  net::LocalAddresses published_;
  std::vector<net::LocalAddress> arriving_;      // addresses of a list that is not complete yet
  std::atomic<net::RouteCell*> queue_{nullptr};  // a stack of cells that refresh() was asked for
};

}  // namespace outrigger::nicd
