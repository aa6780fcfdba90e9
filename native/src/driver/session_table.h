// SPDX-License-Identifier: Apache-2.0
// Which session of which stream is in what state on one receive endpoint: open addressing over one array, since it is looked up for every
// train of datagrams. Grows when a session is added, which opening an image may cost; look-ups and removals take no memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace outrigger::driver {

class PublicationImage;

enum class SessionState : uint8_t {
  kPendingSetup,    // data came, a SETUP was asked for
  kInitInProgress,  // the conductor makes the image
  kActive,
  kCoolDown,  // the image died or was refused: not before `deadlineNs` again
};

struct Session {
  int32_t streamId = 0;
  int32_t sessionId = 0;
  PublicationImage* image = nullptr;  // kActive
  int64_t deadlineNs = 0;             // kPendingSetup and kCoolDown: when the entry goes
  SessionState state = SessionState::kPendingSetup;
  bool refused = false;  // kCoolDown because no image could be made: a new subscription may try again at once
};

class SessionTable {
 public:
  SessionTable() : slots_(kInitialSlots) {}

  size_t size() const { return size_; }

  // Pointers hold until the next add or remove.
  Session* find(int32_t streamId, int32_t sessionId) {
    for (size_t at = home(streamId, sessionId);; at = next(at)) {
      Slot& slot = slots_[at];
      if (!slot.used) return nullptr;
      if (slot.session.streamId == streamId && slot.session.sessionId == sessionId) return &slot.session;
    }
  }

  Session& add(int32_t streamId, int32_t sessionId) {
    if (Session* known = find(streamId, sessionId)) return *known;
    if ((size_ + 1) * 2 > slots_.size()) grow();
    ++size_;
    return place(Session{streamId, sessionId});
  }

  void remove(int32_t streamId, int32_t sessionId) {
    size_t hole = home(streamId, sessionId);
    while (slots_[hole].used && (slots_[hole].session.streamId != streamId || slots_[hole].session.sessionId != sessionId))
      hole = next(hole);
    if (!slots_[hole].used) return;
    // Moves those behind back, so that no probe ends early at the hole.
    for (size_t at = next(hole); slots_[at].used; at = next(at)) {
      const size_t origin = home(slots_[at].session.streamId, slots_[at].session.sessionId);
      const size_t mask = slots_.size() - 1;
      if (((at - origin) & mask) >= ((at - hole) & mask)) {
        slots_[hole] = slots_[at];
        hole = at;
      }
    }
    slots_[hole] = {};
    --size_;
  }

  template <typename Visit>
  void forEach(Visit&& visit) {
    for (Slot& slot : slots_) {
      if (slot.used) visit(slot.session);
    }
  }
  // Removes those for which `unwanted` is true.
  template <typename Unwanted>
  void removeIf(Unwanted&& unwanted) {
    for (size_t at = 0; at < slots_.size();) {
      const Session session = slots_[at].session;
      if (slots_[at].used && unwanted(session)) {
        remove(session.streamId, session.sessionId);  // another one may have moved here
      } else {
        ++at;
      }
    }
  }

 private:
  static constexpr size_t kInitialSlots = 64;
  struct Slot {
    Session session;
    bool used = false;
  };

  size_t home(int32_t streamId, int32_t sessionId) const {
    // Session ids of one driver follow each other: a multiplication spreads them (Fibonacci hashing).
    const uint64_t key = (static_cast<uint64_t>(static_cast<uint32_t>(streamId)) << 32) | static_cast<uint32_t>(sessionId);
    return static_cast<size_t>((key * 0x9E3779B97F4A7C15ULL) >> 32) & (slots_.size() - 1);
  }
  size_t next(size_t at) const { return (at + 1) & (slots_.size() - 1); }
  Session& place(const Session& session) {
    size_t at = home(session.streamId, session.sessionId);
    while (slots_[at].used) at = next(at);
    slots_[at] = {session, true};
    return slots_[at].session;
  }
  void grow() {
    std::vector<Slot> old = std::exchange(slots_, std::vector<Slot>(slots_.size() * 2));
    for (const Slot& slot : old) {
      if (slot.used) place(slot.session);
    }
  }

  std::vector<Slot> slots_;
  size_t size_ = 0;
};

}  // namespace outrigger::driver
