// SPDX-License-Identifier: Apache-2.0
// Memory of logs: terms are backed by the resource agent before any byte may land in them, and given back when a stream is gone. A full
// volume costs a counter, an entry in the error log and waiting; it is tried again.
#include <algorithm>
#include <type_traits>

#include "driver/conductor/state.h"

namespace outrigger::driver {

namespace {
// A try on a full volume may zero megabytes before it fails.
constexpr int64_t kRetryNs = 500 * kMilliNs;
}  // namespace

void ConductorState::onStorageFull(const std::string& text) {
  parts_.counters.add(cnc::OutriggerCounter::kStorageWaits, 1);
  recordError(text);
}

void ConductorState::wantMemory(LogBacking& backing, int64_t position) {
  backing.wantedPosition = std::max(backing.wantedPosition, position);
}

template <typename Entry>
void ConductorState::stepBacking(Entry& entry) {
  LogBacking& backing = entry.backing;
  if (backing.busy || backing.wantedPosition <= backing.backedPosition || nowNs_ < backing.retryAtNs || closing_) return;
  struct Job {
    int error = 0;
  };
  auto job = std::make_shared<Job>();
  const int64_t target = backing.wantedPosition;
  backing.busy = true;
  ResourceTask task;
  task.run = [job, fd = backing.fd, termLength = backing.termLength, from = backing.backedPosition, target, allocator = parts_.allocator] {
    job->error = backTerms(fd, termLength, from, target, allocator);
  };
  // The entry outlives the task: it is not destroyed while busy.
  task.complete = [this, job, target, owner = &entry] {
    owner->backing.busy = false;
    if (job->error != 0) {
      owner->backing.retryAtNs = nowNs_ + kRetryNs;
      onStorageFull(
          makeError(ErrorCode::kStorageSpace,
                    "no memory for the next term of stream " + owner->channel + ", it waits; enlarge the volume of the driver directory",
                    job->error)
              .message);
      return;
    }
    // Terms are used in turn: asking again would walk through their pages at each rotation, for nothing.
    const bool whole = target >= owner->backing.wholePosition;
    const int64_t backed = whole ? logbuffer::maxPossiblePosition(owner->backing.termLength) : target;
    owner->backing.backedPosition = std::max(owner->backing.backedPosition, backed);
    if constexpr (std::is_same_v<Entry, NetworkEntry>) {
      if (owner->state == StreamState::kRemoving || owner->state == StreamState::kReleased) return;
      SenderCommand command;
      command.type = SenderCommand::Type::kTermBacked;
      command.publication = owner->publication.get();
      command.value = backed;
      sendToSender(command);
    } else if constexpr (std::is_same_v<Entry, ImageEntry>) {
      if (owner->removing) return;
      ReceiverCommand command;
      command.type = ReceiverCommand::Type::kTermBacked;
      command.image = owner->image.get();
      command.value = backed;
      sendToReceiver(command);
    } else {
      owner->publication->onTermBacked(backed);
    }
  };
  parts_.resources.submit(std::move(task));
}

template void ConductorState::stepBacking(NetworkEntry& entry);
template void ConductorState::stepBacking(IpcEntry& entry);
template void ConductorState::stepBacking(ImageEntry& entry);

void ConductorState::onBackTerm(const AgentEvent& event) {
  if (event.publication != nullptr) {
    if (NetworkEntry* entry = findNetwork(event.publication)) {
      wantMemory(entry->backing, event.value);
      stepBacking(*entry);
    }
  } else if (event.image != nullptr) {
    if (ImageEntry* entry = findImage(event.image)) {
      wantMemory(entry->backing, event.value);
      stepBacking(*entry);
    }
  }
}

void ConductorState::retireLog(std::shared_ptr<void> owner, std::string path, uint64_t logLength) {
  parts_.counters.add(cnc::SystemCounter::kBytesCurrentlyMapped, -static_cast<int64_t>(logLength));
  ResourceTask task;
  // Unmapping megabytes and unlinking may take a while.
  task.run = [owner = std::move(owner), path = std::move(path)]() mutable {
    owner.reset();
    ::unlink(path.c_str());
  };
  parts_.resources.submit(std::move(task));
}

}  // namespace outrigger::driver
