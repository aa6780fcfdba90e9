// SPDX-License-Identifier: Apache-2.0
// Doorbells: how our driver and our clients wake each other, since nothing in Aeron's shared memory does. A side file in the driver
// directory (`doorbells.dat`) plus one FIFO per sleeping agent; stock clients ignore both and are polled.
//
// Towards a driver agent: the agent stores sleeping=1, looks for work once more, then polls its sockets *and* its FIFO (a futex cannot be
// waited on together with sockets). Who has work for it sees sleeping=1, clears it and writes a byte to the FIFO.
// Towards a client: a futex word a client slot. The client stores 1, looks once more, FUTEX_WAITs; the driver (or another client, for IPC)
// sees 1, stores 0 and FUTEX_WAKEs. Words are hostile memory: a wrong value costs a spurious or a late wake (waits are bounded), nothing else.
#pragma once

#include <cstdint>
#include <string>

#include "base/fd.h"

namespace outrigger::cnc {

enum class AgentId : int32_t { kConductor = 0, kSender = 1, kReceiver = 2 };

class Doorbells {
 public:
  static constexpr int32_t kAgentCount = 3;
  static constexpr int32_t kSlotCount = 256;  // clients beyond that are polled like stock clients
  static constexpr const char* kFileName = "doorbells.dat";

  // Driver: creates the file and the FIFOs. fifoOf[agent] says which FIFO the agent sleeps on (agents that share a thread share one).
  static Result<Doorbells> create(const std::string& directory, const int32_t (&fifoOf)[kAgentCount], mode_t mode);
  // Client: opens both. Fails when the driver has no doorbells (a stock driver): the caller then polls.
  static Result<Doorbells> open(const std::string& directory);

  Doorbells() = default;
  Doorbells(Doorbells&&) = default;
  Doorbells& operator=(Doorbells&&) = default;

  // Anyone, after publishing work: one fence and one load when the agent is awake.
  void ringAgent(AgentId agent) const;

  // The agent's thread. prepareSleep: then look for work once more; sleep with poll() on fifoFd(); awake() drains it.
  void prepareSleep(int32_t fifo) const;
  void awake(int32_t fifo) const;
  int fifoFd(int32_t fifo) const { return fifos_[fifo].get(); }

  // Client: -1 when all slots are taken.
  int32_t claimSlot(int64_t clientId) const;
  void releaseSlot(int32_t slot) const;
  // Driver: frees the slot of a client that died.
  void releaseSlotsOf(int64_t clientId) const;
  bool hasSlot(int64_t clientId) const;

  // Driver and IPC publishers, after images advanced or positions moved: wakes sleeping clients; returns how many.
  int32_t ringClients() const;

  // Client's poll thread: prepareWait(slot), look once more, then wait (at most timeoutNs, bounded to 1 s) or cancelWait.
  void prepareWait(int32_t slot) const;
  void cancelWait(int32_t slot) const;
  void wait(int32_t slot, int64_t timeoutNs) const;
  // Any thread of the client: wake its own poll thread.
  void ringSlot(int32_t slot) const;

  bool valid() const { return file_.valid(); }

 private:
  uint8_t* agentWord(int32_t agent) const;
  uint8_t* slotAt(int32_t slot) const;

  MappedFile file_;
  UniqueFd fifos_[kAgentCount];
  int32_t fifoOf_[kAgentCount] = {0, 0, 0};
};

}  // namespace outrigger::cnc
