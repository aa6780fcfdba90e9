// SPDX-License-Identifier: Apache-2.0
// MediaDriver: a whole driver in a process (contract): directory, CnC file, agents, their threads and idling. `outrigger-driver` is a main()
// around it; tests, simulations and benchmarks embed it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "driver/driver_config.h"
#include "driver/log_buffer_factory.h"
#include "io/backend.h"
#include "io/datagram_io.h"
#include "net/udp_channel.h"

namespace outrigger::driver {

// Replaceable parts; empty ones are the real thing. `makeIo` is called twice: sender and receiver each own one.
struct MediaDriverParts {
  std::function<Result<std::unique_ptr<io::DatagramIo>>()> makeIo;
  std::function<Result<io::IoPair>(const std::string& name)> openBackend;  // of DriverConfig::backends, any thread; not with makeIo
  FileAllocator allocator;
  net::HostResolver resolver;
  Clock* clock = nullptr;  // borrowed; only invoker mode may use other than the system clock
};

class MediaDriver {
 public:
  // Creates the directory and everything in it; with a threading mode other than invoker the agents run when this returns.
  // Fails naming the directory when an active driver is in it (its heartbeat is younger than the driver timeout), when files can't be
  // made, or when no backend opens (with the reason of each).
  static Result<std::unique_ptr<MediaDriver>> launch(const DriverConfig& config, MediaDriverParts parts = {});
  // Ends agents in order (bounded to about a second), removes what was created, writes the closed heartbeat.
  ~MediaDriver();
  MediaDriver(const MediaDriver&) = delete;
  MediaDriver& operator=(const MediaDriver&) = delete;

  const DriverConfig& config() const;
  // The backend that opened first, and why each better one did not (empty when none is better).
  const std::string& backend() const;
  const std::string& backendReasons() const;
  // What an operator may want to know of the start, a line each.
  const std::vector<std::string>& notices() const;
  // What happened since the last call that somebody may want to know: another network backend. Any thread.
  std::vector<std::string> takeEvents();

  // Invoker mode: one duty cycle of every agent at the clock's time. Returns a work count.
  int32_t doWork();
  // Invoker mode: the clock's time at the end of the last cycle, for a caller that would read it next. 0 before the first.
  int64_t workedUntilNs() const;
  // Invoker mode: when doWork must be called again at the latest.
  int64_t nextDeadlineNs();

  // A client asked for termination and may. The owner then destroys the driver.
  bool terminationRequested() const;

 private:
  MediaDriver();
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace outrigger::driver
