// SPDX-License-Identifier: Apache-2.0
// The conductor agent: client commands in, publications, subscriptions, images and counters made and unmade (contract between the
// runtime, which makes and steps it, and whoever embeds it). It owns every object that sender and receiver use between Add and Released.
#pragma once

#include <cstdint>
#include <memory>

#include "base/random.h"
#include "base/spsc_ring.h"
#include "cnc/cnc_file.h"
#include "cnc/doorbells.h"
#include "cnc/error_log.h"
#include "driver/agent_messages.h"
#include "driver/backend_choice.h"
#include "driver/counter_factory.h"
#include "driver/driver_config.h"
#include "driver/driver_counters.h"
#include "driver/log_buffer_factory.h"
#include "driver/resource_agent.h"
#include "io/datagram_io.h"
#include "net/udp_channel.h"

namespace outrigger::driver {

// What the runtime made before the conductor. All of it outlives the conductor.
struct ConductorParts {
  const DriverConfig& config;  // directory exists, with publications/ and images/
  cnc::CncRegions cnc;
  CounterFactory& counterFactory;
  const DriverCounters& counters;
  cnc::ErrorLog& errorLog;
  cnc::LossReport& lossReport;
  const cnc::Doorbells& doorbells;
  ResourceAgent& resources;
  io::DatagramIo& senderIo;    // control part only: openEndpoint, resolve
  io::DatagramIo& receiverIo;  // may be the same object when sender and receiver share a thread
  SpscRing<SenderCommand>& toSender;
  SpscRing<AgentEvent>& fromSender;
  SpscRing<ReceiverCommand>& toReceiver;
  SpscRing<AgentEvent>& fromReceiver;
  FileAllocator allocator;            // backs log files; tests inject a full volume
  net::HostResolver resolver;         // blocking look-ups, called on the resource agent
  BackendChoice* backends = nullptr;  // whose pair senderIo and receiverIo are; null: they are never changed for others
};

class Conductor {
 public:
  // nowMs: epoch milliseconds, for counters, heartbeats and logs.
  Conductor(ConductorParts parts, int64_t nowNs, int64_t nowMs);
  ~Conductor();
  Conductor(const Conductor&) = delete;
  Conductor& operator=(const Conductor&) = delete;

  // One duty cycle: client commands, agent events, answers of the resource agent, timers. Returns a work count, 0 when nothing was done.
  // A command to another agent that found its ring full is kept and offered again; agents are rung when something was sent to them.
  int32_t doWork(int64_t nowNs, int64_t nowMs);
  // When it must run again even if nothing rings (timers, keepalive of the CnC heartbeat); never more than a second ahead.
  int64_t nextDeadlineNs(int64_t nowNs) const;

  // A client sent TERMINATE_DRIVER and the configuration allows it.
  bool terminationRequested() const;
  // Stops serving: revokes nothing, marks publications end-of-stream and takes everything back from sender and receiver. Keep stepping all
  // agents until closed() is true (bounded by the publication linger; the runtime may give up earlier), then destroy.
  void close(int64_t nowNs);
  bool closed() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace outrigger::driver
