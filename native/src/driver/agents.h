// SPDX-License-Identifier: Apache-2.0
// Conductor, sender and receiver as the runner steps them: each with what it does besides its protocol work (ringing the conductor, feeding
// the driver's counters, noticing clients that ring no doorbell). Internal to media_driver.
#pragma once

#include <atomic>
#include <cstdint>

#include "base/clock.h"
#include "base/spsc_ring.h"
#include "cnc/counters.h"
#include "cnc/doorbells.h"
#include "driver/agent_messages.h"
#include "driver/agent_runner.h"
#include "driver/conductor.h"
#include "driver/driver_counters.h"
#include "driver/receiver.h"
#include "driver/sender.h"
#include "io/datagram_io.h"

namespace outrigger::driver {

// Moves what a DatagramIo counted into the driver's counters, now and then. One an agent, on its thread.
class IoStatistics {
 public:
  explicit IoStatistics(const DriverCounters& counters) : counters_(counters) {}
  void collect(const io::DatagramIo& io, int64_t nowNs);
  // The instance was replaced, and this is what it counted at last.
  void finish(const io::IoTotals& last);
  // What that one has counted after it was finished: it was still open.
  void finishLate(const io::IoTotals& last);

 private:
  static constexpr int64_t kIntervalNs = 200 * kMilliNs;
  void move(const io::IoTotals& now);

  const DriverCounters& counters_;
  io::IoTotals last_;
  io::IoTotals replaced_;
  int64_t nextNs_ = 0;
};

class ConductorAgent final : public Agent {
 public:
  ConductorAgent(Conductor& conductor, Clock& clock, const cnc::CountersManager& counters, const cnc::Doorbells& doorbells,
                 const SpscRing<AgentEvent>& fromSender, const SpscRing<AgentEvent>& fromReceiver)
      : conductor_(conductor),
        clock_(clock),
        counters_(counters),
        doorbells_(doorbells),
        fromSender_(fromSender),
        fromReceiver_(fromReceiver) {}

  int32_t doWork(int64_t nowNs) override;
  int64_t nextDeadlineNs(int64_t nowNs) const override;
  bool pending() const override { return !fromSender_.empty() || !fromReceiver_.empty(); }
  void lookAtAll() override { restUntilNs_ = 0; }

  // Any thread. The conductor closes in its next step.
  void requestClose() { closeRequested_.store(true, std::memory_order_release); }
  bool closed() const { return closed_.load(std::memory_order_acquire); }
  bool terminationRequested() const { return terminationRequested_.load(std::memory_order_acquire); }
  // A client without doorbell is connected: agents must look for its work themselves.
  const std::atomic<bool>& silentClients() const { return silentClients_; }

 private:
  void lookForSilentClients();

  // Nobody rings for a stock client's first command, so the conductor looks that often whoever is connected: 0.1 % of a core.
  static constexpr int64_t kFirstCommandNs = 10 * kMilliNs;
  static constexpr int64_t kClientCheckNs = 500 * kMilliNs;
  // A step that found nothing is not repeated so soon: no command, timer or limit is that urgent, and on a shared thread each step is on the way of
  // messages (a fifth of an idle cycle).
  static constexpr int64_t kRestNs = 5'000;

  Conductor& conductor_;
  Clock& clock_;
  const cnc::CountersManager& counters_;
  const cnc::Doorbells& doorbells_;
  const SpscRing<AgentEvent>& fromSender_;
  const SpscRing<AgentEvent>& fromReceiver_;
  int64_t nextClientCheckNs_ = 0;
  int64_t restUntilNs_ = 0;
  bool closing_ = false;
  std::atomic<bool> closeRequested_{false};
  std::atomic<bool> closed_{false};
  std::atomic<bool> terminationRequested_{false};
  std::atomic<bool> silentClients_{false};
};

// Sender or receiver.
template <typename Core, typename Command>
class NetworkAgent final : public Agent {
 public:
  NetworkAgent(Core& core, const SpscRing<Command>& commands, const SpscRing<AgentEvent>& events, const cnc::Doorbells& doorbells,
               const DriverCounters& counters)
      : core_(core), commands_(commands), events_(events), doorbells_(doorbells), statistics_(counters) {}

  int32_t doWork(int64_t nowNs) override {
    const int32_t work = core_.doWork(nowNs);
    if (!events_.empty()) doorbells_.ringAgent(cnc::AgentId::kConductor);
    if (core_.hasLastTotals()) statistics_.finish(*core_.takeLastTotals());
    if constexpr (requires { core_.takeLateTotals(); }) {
      if (core_.hasLateTotals()) statistics_.finishLate(*core_.takeLateTotals());
    }
    statistics_.collect(core_.io(), nowNs);
    return work;
  }
  int64_t nextDeadlineNs(int64_t nowNs) const override { return core_.nextDeadlineNs(nowNs); }
  bool pending() const override { return !commands_.empty(); }
  io::DatagramIo* io() const override { return &core_.io(); }

 private:
  Core& core_;
  const SpscRing<Command>& commands_;
  const SpscRing<AgentEvent>& events_;
  const cnc::Doorbells& doorbells_;
  IoStatistics statistics_;
};

using SenderAgent = NetworkAgent<Sender, SenderCommand>;
using ReceiverAgent = NetworkAgent<Receiver, ReceiverCommand>;

}  // namespace outrigger::driver
