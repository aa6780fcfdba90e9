// SPDX-License-Identifier: Apache-2.0
// Resource agent: a thread for what may block (files, memory, name look-up), fed and answered over SPSC rings. With no thread of its own
// (invoker mode) the conductor's thread runs the tasks in doWork().
#pragma once

#include <atomic>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "base/fd.h"
#include "base/spsc_ring.h"

namespace outrigger::driver {

struct ResourceTask {
  std::function<void()> run;       // resource agent's thread
  std::function<void()> complete;  // conductor's thread, after run
};

class ResourceAgent {
 public:
  // onAnswer wakes the conductor; called on the agent's thread.
  ResourceAgent(std::string name, std::function<void()> onAnswer);
  ~ResourceAgent();

  // Conductor's thread. submit never blocks: what does not fit the ring waits in the conductor's queue.
  void submit(ResourceTask task);
  int32_t pollAnswers(int32_t limit);
  bool idle() const { return outstanding_ == 0; }

  // Runs tasks on the caller's thread from now on (invoker) or on an own one, which starts with the first task.
  void useThread(bool threaded) { threaded_ = threaded; }
  // Ends the thread after the task it is in. Answers and requests that are left are completed or dropped by the destructor.
  void stop();

 private:
  void runThread();
  void wake();

  std::string name_;
  std::function<void()> onAnswer_;
  bool threaded_ = false;
  int64_t outstanding_ = 0;
  std::vector<ResourceTask*> waiting_;  // overflow of requests_
  SpscRing<ResourceTask*> requests_;
  SpscRing<ResourceTask*> answers_;
  std::atomic<bool> running_{false};
  std::thread thread_;
  UniqueFd wakeFd_;
};

}  // namespace outrigger::driver
