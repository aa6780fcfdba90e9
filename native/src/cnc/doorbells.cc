// SPDX-License-Identifier: Apache-2.0
// Doorbell file and FIFOs: see doorbells.h for the protocol.
#include "cnc/doorbells.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>

#include <algorithm>
#include <climits>

#include "base/shared_memory.h"

namespace outrigger::cnc {
namespace {

constexpr int32_t kMagic = 0x4C424F44;  // "DOBL"
constexpr int32_t kLayoutVersion = 1;
constexpr size_t kHeaderBytes = 64;
constexpr size_t kLine = 64;  // one cache line an entry: agents and clients write their own words
constexpr size_t kUsedSlots = 8;
constexpr size_t kAgentsOffset = kHeaderBytes;
constexpr size_t kSlotsOffset = kAgentsOffset + kLine * Doorbells::kAgentCount;
constexpr size_t kFileLength = kSlotsOffset + kLine * Doorbells::kSlotCount;
constexpr int64_t kMaxWaitNs = 1'000'000'000;

std::string fifoPath(const std::string& directory, int32_t index) { return directory + "/doorbell-" + std::to_string(index); }

// What a slot holds: 0 is free, and 0 is also the id of a driver's first client (ids come from a counter that starts there).
constexpr int64_t slotOwner(int64_t clientId) { return static_cast<int64_t>(static_cast<uint64_t>(clientId) + 1); }

long futex(const void* word, int operation, int32_t value, const timespec* timeout) {
  return ::syscall(SYS_futex, word, operation, value, timeout, nullptr, 0);
}

}  // namespace

uint8_t* Doorbells::agentWord(int32_t agent) const { return file_.data() + kAgentsOffset + kLine * static_cast<size_t>(agent); }
uint8_t* Doorbells::slotAt(int32_t slot) const { return file_.data() + kSlotsOffset + kLine * static_cast<size_t>(slot); }

Result<Doorbells> Doorbells::create(const std::string& directory, const int32_t (&fifoOf)[kAgentCount], mode_t mode) {
  auto file = MappedFile::create(directory + "/" + kFileName, kFileLength, mode);
  if (!file) return file.error();
  if (const int err = file->allocate(0, kFileLength); err != 0) {
    return makeError(ErrorCode::kStorageSpace, "no room for '" + directory + "/" + kFileName + "'", err);
  }
  Doorbells bells;
  bells.file_ = file.take();
  for (int32_t agent = 0; agent < kAgentCount; ++agent) {
    const int32_t fifo = fifoOf[agent];
    bells.fifoOf_[agent] = fifo;
    writeAt<int32_t>(bells.agentWord(agent), 4, fifo);
    if (bells.fifos_[fifo].valid()) continue;
    const std::string path = fifoPath(directory, fifo);
    if (::mkfifo(path.c_str(), mode) != 0) return makeError(ErrorCode::kGeneric, "cannot create FIFO '" + path + "'", errno);
    if (::chmod(path.c_str(), mode) != 0) return makeError(ErrorCode::kGeneric, "cannot set mode of '" + path + "'", errno);
    // Read-write, so that the FIFO never reports end-of-file when the last client leaves.
    bells.fifos_[fifo] = UniqueFd(::open(path.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC));
    if (!bells.fifos_[fifo].valid()) return makeError(ErrorCode::kGeneric, "cannot open FIFO '" + path + "'", errno);
  }
  writeAt<int32_t>(bells.file_.data(), 4, kLayoutVersion);
  storeRelease<int32_t>(bells.file_.data(), kMagic);
  return bells;
}

Result<Doorbells> Doorbells::open(const std::string& directory) {
  auto file = MappedFile::open(directory + "/" + kFileName, true);
  if (!file) return file.error();
  if (file->length() < kFileLength || loadAcquire<int32_t>(file->data()) != kMagic || readAt<int32_t>(file->data(), 4) != kLayoutVersion) {
    return makeError(ErrorCode::kNotSupported, "'" + directory + "/" + kFileName + "' has an unknown layout");
  }
  Doorbells bells;
  bells.file_ = file.take();
  for (int32_t agent = 0; agent < kAgentCount; ++agent) {
    const auto fifo = readAt<int32_t>(bells.agentWord(agent), 4);
    if (fifo < 0 || fifo >= kAgentCount) return makeError(ErrorCode::kGeneric, "doorbell file names FIFO " + std::to_string(fifo));
    bells.fifoOf_[agent] = fifo;
    if (bells.fifos_[fifo].valid()) continue;
    const std::string path = fifoPath(directory, fifo);
    bells.fifos_[fifo] = UniqueFd(::open(path.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC));
    if (!bells.fifos_[fifo].valid()) return makeError(ErrorCode::kGeneric, "cannot open FIFO '" + path + "'", errno);
  }
  return bells;
}

void Doorbells::ringAgent(AgentId agent) const {
  if (!valid()) return;
  const int32_t fifo = fifoOf_[static_cast<int32_t>(agent)];
  uint8_t* word = agentWord(fifo);
  fullFence();
  if (loadRelaxed<int32_t>(word) == 0 || !compareAndSet<int32_t>(word, 1, 0)) return;
  const char byte = 1;
  // A full FIFO already wakes its reader, so the result does not matter.
  [[maybe_unused]] const ssize_t written = ::write(fifos_[fifo].get(), &byte, 1);
}

void Doorbells::prepareSleep(int32_t fifo) const {
  storeRelease<int32_t>(agentWord(fifo), 1);
  fullFence();
}

void Doorbells::awake(int32_t fifo) const {
  storeRelease<int32_t>(agentWord(fifo), 0);
  char drained[256];
  while (::read(fifos_[fifo].get(), drained, sizeof(drained)) == static_cast<ssize_t>(sizeof(drained))) {
  }
}

int32_t Doorbells::claimSlot(int64_t clientId) const {
  const int64_t owner = slotOwner(clientId);
  if (owner == 0) return -1;  // what free slots hold
  for (int32_t slot = 0; slot < kSlotCount; ++slot) {
    uint8_t* entry = slotAt(slot);
    if (loadAcquire<int64_t>(entry) == 0 && compareAndSet<int64_t>(entry, 0, owner)) {
      storeRelease<int32_t>(entry + 8, 0);
      uint8_t* used = file_.data() + kUsedSlots;
      for (int32_t seen = loadAcquire<int32_t>(used); seen < slot + 1; seen = loadAcquire<int32_t>(used)) {
        if (compareAndSet<int32_t>(used, seen, slot + 1)) break;
      }
      return slot;
    }
  }
  return -1;
}

void Doorbells::releaseSlot(int32_t slot) const {
  if (slot < 0 || slot >= kSlotCount) return;
  storeRelease<int32_t>(slotAt(slot) + 8, 0);
  storeRelease<int64_t>(slotAt(slot), int64_t{0});
}

void Doorbells::releaseSlotsOf(int64_t clientId) const {
  if (!valid()) return;
  const int64_t owner = slotOwner(clientId);
  if (owner == 0) return;  // what free slots hold
  for (int32_t slot = 0; slot < kSlotCount; ++slot) {
    if (loadAcquire<int64_t>(slotAt(slot)) == owner) releaseSlot(slot);
  }
}

bool Doorbells::hasSlot(int64_t clientId) const {
  if (!valid()) return false;
  const int64_t owner = slotOwner(clientId);
  const int32_t used = std::clamp(loadAcquire<int32_t>(file_.data() + kUsedSlots), 0, kSlotCount);
  for (int32_t slot = 0; slot < used; ++slot) {
    if (loadAcquire<int64_t>(slotAt(slot)) == owner) return true;
  }
  return false;
}

int32_t Doorbells::ringClients() const {
  if (!valid()) return 0;
  fullFence();
  const int32_t used = std::clamp(loadRelaxed<int32_t>(file_.data() + kUsedSlots), 0, kSlotCount);
  int32_t rung = 0;
  for (int32_t slot = 0; slot < used; ++slot) {
    uint8_t* word = slotAt(slot) + 8;
    if (loadRelaxed<int32_t>(word) != 0 && compareAndSet<int32_t>(word, 1, 0)) {
      futex(word, FUTEX_WAKE, INT_MAX, nullptr);
      ++rung;
    }
  }
  return rung;
}

void Doorbells::prepareWait(int32_t slot) const {
  storeRelease<int32_t>(slotAt(slot) + 8, 1);
  fullFence();
}

void Doorbells::cancelWait(int32_t slot) const { storeRelease<int32_t>(slotAt(slot) + 8, 0); }

void Doorbells::wait(int32_t slot, int64_t timeoutNs) const {
  const int64_t bounded = std::clamp<int64_t>(timeoutNs, 0, kMaxWaitNs);
  const timespec timeout{static_cast<time_t>(bounded / 1'000'000'000), static_cast<long>(bounded % 1'000'000'000)};
  futex(slotAt(slot) + 8, FUTEX_WAIT, 1, &timeout);
  storeRelease<int32_t>(slotAt(slot) + 8, 0);
}

void Doorbells::ringSlot(int32_t slot) const {
  if (slot < 0 || slot >= kSlotCount) return;
  fullFence();
  uint8_t* word = slotAt(slot) + 8;
  if (compareAndSet<int32_t>(word, 1, 0)) futex(word, FUTEX_WAKE, INT_MAX, nullptr);
}

}  // namespace outrigger::cnc
