// SPDX-License-Identifier: Apache-2.0
// Which of the configured backends a driver runs, since when, and why none of the better ones: what `explain`, the metric and the log say.
// Owns the open pair. How streams get from one pair to another is the conductor's (conductor/backend_move.cc).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "driver/driver_config.h"
#include "io/datagram_io.h"

namespace outrigger::driver {

// A backend that was not taken, and why.
struct BackendRefusal {
  std::string name;
  std::string reason;
};

struct OpenedBackend {
  std::string name;
  io::IoPair pair;
  std::vector<std::pair<std::string, std::string>> facts;  // what it runs with, as last looked at
  std::string standing;                                    // what it does without for now (io::Health::reason), empty when nothing
};

struct BackendChange {
  int64_t atMs = 0;
  std::string from;
  std::string to;
  std::string reason;
};

class BackendChoice {
 public:
  using Open = std::function<Result<io::IoPair>(const std::string& name)>;
  // Conductor's thread (or the launching one): the current backend is another, or is the first.
  using Changed = std::function<void(const BackendChoice&)>;
  // Conductor's thread: what the current backend runs with is not what it was; `standing`: that which it does without too.
  using Observed = std::function<void(const BackendChoice&, bool standing)>;

  // `names`: as configured, best first. `open` may be called on any thread.
  BackendChoice(std::vector<std::string> names, Open open) : names_(std::move(names)), open_(std::move(open)) {}

  // At the start: the first that opens. Fails naming each and why.
  Result<void> openFirst(int64_t nowMs);
  // At the start: this pair, and never another.
  void adopt(OpenedBackend opened, int64_t nowMs);
  void onChanged(Changed changed) { changed_ = std::move(changed); }
  void onObserved(Observed observed) { observed_ = std::move(observed); }
  // Conductor's thread: what the current pair said of itself just now, by factsOf() and its health.
  void observe(std::vector<std::pair<std::string, std::string>> facts, const std::string& standing);

  // Any thread. With what it runs with; a backend that does not live is refused, and one that needs one thread for sender and receiver where
  // `twoThreads`.
  Result<OpenedBackend> open(const std::string& name, bool twoThreads) const;

  const std::string& name() const { return current_.name; }
  io::IoPair& pair() { return current_.pair; }
  const OpenedBackend& current() const { return current_; }
  int64_t sinceMs() const { return sinceMs_; }
  const std::vector<std::string>& names() const { return names_; }
  // Better ones than the current, each with its reason.
  const std::vector<BackendRefusal>& refusals() const { return refusals_; }
  // "dpdk: ...; xdp: ..." of the refusals, and why the current one does not do all that it could.
  std::string reasons() const;
  const std::vector<BackendChange>& changes() const { return changes_; }

  // All but the current one, best first; `betterOnly`: those before it.
  std::vector<std::string> alternatives(bool betterOnly) const;
  // How often a backend was lost.
  int32_t losses(const std::string& name) const;
  // Takes `next` as the current one and hands the pair of before out. `refused`: what was tried and not taken.
  io::IoPair replace(OpenedBackend next, const std::string& reason, bool lost, const std::vector<BackendRefusal>& refused, int64_t nowMs);

 private:
  static constexpr size_t kMaxChanges = 16;  // kept for `explain`

  std::vector<std::string> names_;
  Open open_;
  Changed changed_;
  Observed observed_;
  OpenedBackend current_;
  int64_t sinceMs_ = 0;
  std::vector<BackendRefusal> refusals_;
  std::vector<BackendChange> changes_;
  std::map<std::string, int32_t> losses_;
};

// What both instances run with: a sender that differs from the receiver says so. Any thread.
std::vector<std::pair<std::string, std::string>> factsOf(const io::DatagramIo& receiver, const io::DatagramIo& sender);

// "key=value" pairs of a label or a line: mode, interface and the like of `facts`, "" when there is none.
std::string factOf(const OpenedBackend& backend, const std::string& key);

// What a driver says of itself in `backend.json` of its directory, for `outrigger explain`.
struct BackendNote {
  static constexpr const char* kFileName = "backend.json";
  static constexpr const char* kFreshSuffix = ".new";
  std::string text;  // JSON

  static BackendNote of(const BackendChoice& choice, const DriverConfig& config,
                        const std::vector<std::pair<std::string, std::string>>& threads);
  // In place of the one of before, at once; a reader sees the old or the new. Fails naming the file.
  Result<void> write(const std::string& directory, mode_t mode) const;
};

}  // namespace outrigger::driver
