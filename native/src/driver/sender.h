// SPDX-License-Identifier: Apache-2.0
// The sender agent: publications out, status messages and NAKs in (contract between conductor and sender).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/clock.h"
#include "base/random.h"
#include "base/spsc_ring.h"
#include "cnc/doorbells.h"
#include "driver/agent_messages.h"
#include "driver/driver_config.h"
#include "driver/driver_counters.h"
#include "io/datagram_io.h"

namespace outrigger::driver {

// What a publication needs while the sender works on it.
struct SenderContext {
  io::DatagramIo* io;                 // another one after a switch of backends
  io::DatagramIo* leaving = nullptr;  // the one before, for as long as the network may read what it sent
  const DriverConfig& config;
  const DriverCounters& counters;
  SpscRing<AgentEvent>& events;     // to the conductor
  const cnc::Doorbells& doorbells;  // wakes publishers that wait for their limit
  Clock& clock;                     // for times in messages alone
  Random random;
  std::vector<io::TxItem> items;  // scratch, sized once

  bool stillReads(const uint8_t* data, size_t length) const {
    return io->stillReads(data, length) || (leaving != nullptr && leaving->stillReads(data, length));
  }
};

// io.transmit, but in a group (`group`) a destination whose neighbour is not known holds up nobody else: its items end as lost, with the status
// kNeighbour. Returns how many leading items are finished.
inline size_t transmitItems(io::DatagramIo& io, io::Endpoint& endpoint, std::span<io::TxItem> items, bool group) {
  size_t finished = io.transmit(endpoint, items);
  while (group && finished < items.size() && items[finished].status == io::TxStatus::kNeighbour) {
    ++finished;
    if (finished < items.size()) finished += io.transmit(endpoint, items.subspan(finished));
  }
  return finished;
}

class Sender {
 public:
  Sender(io::DatagramIo& io, const DriverConfig& config, const DriverCounters& counters, SpscRing<SenderCommand>& commands,
         SpscRing<AgentEvent>& events, const cnc::Doorbells& doorbells, Clock& clock);
  ~Sender();

  // One duty cycle; returns a work count, 0 when nothing was done.
  int32_t doWork(int64_t nowNs);
  // When the sender must run again even if nothing rings: next heartbeat, setup, retransmission or linger; INT64_MAX when none.
  int64_t nextDeadlineNs(int64_t nowNs) const;
  // Its thread. The next two, once after a switch of backends: what the instance of before counted.
  io::DatagramIo& io() { return *context_.io; }
  bool hasLastTotals() const;
  std::optional<io::IoTotals> takeLastTotals();
  // As often, when the network reads nothing any more of what that instance sent: what it has counted since then.
  bool hasLateTotals() const;
  std::optional<io::IoTotals> takeLateTotals();

 private:
  SenderContext context_;
  SpscRing<SenderCommand>& commands_;
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace outrigger::driver
