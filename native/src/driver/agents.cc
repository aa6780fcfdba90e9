// SPDX-License-Identifier: Apache-2.0
// What agents do besides their protocol work.
#include "driver/agents.h"

#include <algorithm>
#include <utility>

namespace outrigger::driver {

using cnc::OutriggerCounter;
using cnc::SystemCounter;

void IoStatistics::collect(const io::DatagramIo& io, int64_t nowNs) {
  if (nowNs < nextNs_) return;
  nextNs_ = nowNs + kIntervalNs;
  move(io.totals());
}

void IoStatistics::finish(const io::IoTotals& last) {
  move(last);
  last_ = {};
  replaced_ = last;
}

void IoStatistics::finishLate(const io::IoTotals& last) {
  const io::IoTotals current = std::exchange(last_, replaced_);
  move(last);
  last_ = current;
}

void IoStatistics::move(const io::IoTotals& now) {
  const auto add = [&](auto id, int64_t io::IoTotals::*member) {
    if (const int64_t fresh = now.*member - last_.*member; fresh > 0) counters_.add(id, fresh);
  };
  add(OutriggerCounter::kReceiveQueueDrops, &io::IoTotals::receiveQueueDrops);
  add(OutriggerCounter::kSendErrors, &io::IoTotals::sendErrors);
  add(OutriggerCounter::kSegmentationFallbacks, &io::IoTotals::segmentationFallbacks);
  add(OutriggerCounter::kImpairedDrops, &io::IoTotals::impairedDrops);
  add(SystemCounter::kInvalidPackets, &io::IoTotals::droppedDatagrams);
  for (size_t i = 0; i < now.network.size(); ++i) {
    if (const int64_t fresh = now.network[i] - last_.network[i]; fresh > 0) counters_.addNetwork(i, fresh);
  }
  last_ = now;
}

int32_t ConductorAgent::doWork(int64_t nowNs) {
  // None who is told to close rests: an invoker that ends gives it a number of steps, perhaps at one time of its clock.
  if (!closing_ && closeRequested_.load(std::memory_order_acquire)) {
    closing_ = true;
    conductor_.close(nowNs);
  }
  if (!closing_ && nowNs < restUntilNs_ && !pending()) return 0;
  const int32_t work = conductor_.doWork(nowNs, clock_.epochMillis());
  restUntilNs_ = work > 0 ? 0 : nowNs + kRestNs;
  if (closing_ && conductor_.closed()) closed_.store(true, std::memory_order_release);
  if (conductor_.terminationRequested()) terminationRequested_.store(true, std::memory_order_release);
  // A client appears by a command and disappears by a command or a timeout.
  if ((work > 0 && nowNs >= nextClientCheckNs_ - kClientCheckNs + kFirstCommandNs) || nowNs >= nextClientCheckNs_) {
    nextClientCheckNs_ = nowNs + kClientCheckNs;
    lookForSilentClients();
  }
  return work;
}

int64_t ConductorAgent::nextDeadlineNs(int64_t nowNs) const { return std::min(conductor_.nextDeadlineNs(nowNs), nowNs + kFirstCommandNs); }

void ConductorAgent::lookForSilentClients() {
  bool silent = false;
  for (int32_t id = 0; id < counters_.highWaterMark() && !silent; ++id) {
    if (!counters_.isAllocated(id) || counters_.typeOf(id) != cnc::counter_type::kClientHeartbeat) continue;
    silent = !doorbells_.hasSlot(counters_.registrationIdOf(id));
  }
  if (silent == silentClients_.load(std::memory_order_relaxed)) return;
  silentClients_.store(silent, std::memory_order_release);
  if (!silent) return;
  // They may be asleep for long.
  doorbells_.ringAgent(cnc::AgentId::kSender);
  doorbells_.ringAgent(cnc::AgentId::kReceiver);
}

}  // namespace outrigger::driver
