// SPDX-License-Identifier: Apache-2.0
// The choice and what is said of it.
#include "driver/backend_choice.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "base/fd.h"
#include "base/json.h"
#include "driver/config_options.h"

namespace outrigger::driver {

namespace {

std::string listOf(const std::vector<BackendRefusal>& refusals) {
  std::string out;
  for (const BackendRefusal& each : refusals) out += (out.empty() ? "" : "; ") + each.name + ": " + each.reason;
  return out;
}

// Options that decide what a backend can be: `explain` probes with those of the driver.
bool isBackendOption(const ConfigOption& option) {
  static const std::vector<std::string> names = {
      "OUTRIGGER_BACKENDS",       "OUTRIGGER_INTERFACE",      "OUTRIGGER_INTERFACE_ADDRESS", "OUTRIGGER_QUEUES",
      "OUTRIGGER_XDP_MODE",       "OUTRIGGER_UMEM_SIZE",      "OUTRIGGER_HUGEPAGES",         "OUTRIGGER_PACKET_MODE",
      "OUTRIGGER_PACKET_SOCKETS", "OUTRIGGER_NICD_SOCKET",    "OUTRIGGER_NICD_CLAIM",        "OUTRIGGER_DPDK_ARGS",
      "OUTRIGGER_DPDK_DEVICE",    "OUTRIGGER_DPDK_ADDRESSES", "OUTRIGGER_DPDK_GATEWAYS",     "OUTRIGGER_DPDK_INTERFACE",
      "OUTRIGGER_DPDK_MTU",       "OUTRIGGER_VLAN",           "OUTRIGGER_UDP_GRO",           "OUTRIGGER_UDP_SEGMENT",
      "OUTRIGGER_BUSY_POLL_US",   "OUTRIGGER_URING_ZERO_COPY"};
  return std::find(names.begin(), names.end(), option.name) != names.end();
}

using Facts = std::vector<std::pair<std::string, std::string>>;

// What the pair adds to what its instances say of themselves.
Facts withThreads(Facts facts, const io::IoPair& pair) {
  if (pair.sameThread) facts.emplace_back("one thread for sender and receiver", pair.reason);
  return facts;
}

Facts factsOf(const io::IoPair& pair) { return withThreads(driver::factsOf(*pair.receiver, *pair.sender), pair); }

}  // namespace

std::vector<std::pair<std::string, std::string>> factsOf(const io::DatagramIo& receiver, const io::DatagramIo& sender) {
  auto facts = receiver.facts();
  for (auto& [key, value] : sender.facts()) {
    const auto same = std::find_if(facts.begin(), facts.end(), [&wanted = key](const auto& each) { return each.first == wanted; });
    if (same == facts.end()) {
      facts.emplace_back(key, value);
    } else if (same->second != value) {
      facts.emplace_back(key + " (sender)", value);
    }
  }
  return facts;
}

Result<OpenedBackend> BackendChoice::open(const std::string& name, bool twoThreads) const {
  auto pair = open_(name);
  if (!pair) return pair.error();
  if (pair->sameThread && twoThreads) {
    return makeError(ErrorCode::kGeneric, "it needs one thread for sender and receiver (" + pair->reason +
                                              ") and this driver was started with two: set AERON_THREADING_MODE=SHARED_NETWORK");
  }
  io::Health health = pair->receiver->health();
  if (health.state == io::Health::State::kOk) health = pair->sender->health();
  if (health.state != io::Health::State::kOk) return makeError(ErrorCode::kGeneric, health.reason);
  OpenedBackend opened;
  opened.name = name;
  opened.facts = factsOf(*pair);
  opened.pair = pair.take();
  return opened;
}

Result<void> BackendChoice::openFirst(int64_t nowMs) {
  for (const std::string& name : names_) {
    auto pair = open_(name);
    if (!pair) {
      refusals_.push_back({name, pair.error().message});
      continue;
    }
    OpenedBackend opened;
    opened.name = name;
    opened.facts = factsOf(*pair);
    opened.pair = pair.take();
    adopt(std::move(opened), nowMs);
    return {};
  }
  return makeError(ErrorCode::kGeneric, names_.empty() ? "no backend is configured: set OUTRIGGER_BACKENDS"
                                                       : "no backend of OUTRIGGER_BACKENDS opens: " + listOf(refusals_));
}

void BackendChoice::adopt(OpenedBackend opened, int64_t nowMs) {
  current_ = std::move(opened);
  sinceMs_ = nowMs;
}

void BackendChoice::observe(std::vector<std::pair<std::string, std::string>> facts, const std::string& standing) {
  facts = withThreads(std::move(facts), current_.pair);
  const bool otherStanding = standing != current_.standing;
  if (!otherStanding && facts == current_.facts) return;
  current_.facts = std::move(facts);
  current_.standing = standing;
  if (observed_) observed_(*this, otherStanding);
}

std::string BackendChoice::reasons() const {
  std::string out = listOf(refusals_);
  const std::string& own = current_.pair.sender->caps().reason;
  if (!own.empty()) out += (out.empty() ? "" : "; ") + own;
  return out;
}

std::vector<std::string> BackendChoice::alternatives(bool betterOnly) const {
  std::vector<std::string> out;
  for (const std::string& each : names_) {
    if (each == current_.name) {
      if (betterOnly) break;
      continue;
    }
    out.push_back(each);
  }
  return out;
}

int32_t BackendChoice::losses(const std::string& name) const {
  const auto found = losses_.find(name);
  return found == losses_.end() ? 0 : found->second;
}

io::IoPair BackendChoice::replace(OpenedBackend next, const std::string& reason, bool lost, const std::vector<BackendRefusal>& refused,
                                  int64_t nowMs) {
  std::vector<BackendRefusal> known = std::move(refusals_);
  const auto put = [&known](const BackendRefusal& refusal) {
    std::erase_if(known, [&](const BackendRefusal& each) { return each.name == refusal.name; });
    known.push_back(refusal);
  };
  for (const BackendRefusal& each : refused) put(each);
  if (lost) {
    ++losses_[current_.name];
    put({current_.name, "lost: " + reason});
  }
  // Of the better ones only, in the order of preference.
  for (const std::string& name : names_) {
    if (name == next.name) break;
    const auto found = std::find_if(known.begin(), known.end(), [&](const BackendRefusal& each) { return each.name == name; });
    if (found != known.end()) refusals_.push_back(*found);
  }
  if (changes_.size() == kMaxChanges) changes_.erase(changes_.begin());
  changes_.push_back({nowMs, current_.name, next.name, reason});
  io::IoPair before = std::move(current_.pair);
  current_ = std::move(next);
  sinceMs_ = nowMs;
  if (changed_) changed_(*this);
  return before;
}

std::string factOf(const OpenedBackend& backend, const std::string& key) {
  for (const auto& [name, value] : backend.facts) {
    if (name == key) return value;
  }
  return {};
}

BackendNote BackendNote::of(const BackendChoice& choice, const DriverConfig& config,
                            const std::vector<std::pair<std::string, std::string>>& threads) {
  JsonWriter json;
  json.beginObject();
  json.field("backend", choice.name());
  json.field("sinceMs", choice.sinceMs());
  json.field("pid", static_cast<int64_t>(::getpid()));
  json.key("facts").beginObject();
  for (const auto& [key, value] : choice.current().facts) json.field(key, value);
  json.endObject();
  std::string reason = choice.current().pair.sender->caps().reason;
  if (const std::string& standing = choice.current().standing; !standing.empty()) reason += (reason.empty() ? "" : "; ") + standing;
  json.field("reason", reason);
  json.key("notBetter").beginArray();
  for (const BackendRefusal& each : choice.refusals()) {
    json.beginObject().field("name", each.name).field("reason", each.reason).endObject();
  }
  json.endArray();
  json.key("changes").beginArray();
  for (const BackendChange& each : choice.changes()) {
    json.beginObject().field("atMs", each.atMs).field("from", each.from).field("to", each.to).field("reason", each.reason).endObject();
  }
  json.endArray();
  json.key("threads").beginObject();
  for (const auto& [key, value] : threads) json.field(key, value);
  json.endObject();
  json.key("settings").beginObject();
  for (const ConfigOption& option : configOptions()) {
    if (isBackendOption(option)) json.field(option.name, option.show(config));
  }
  json.endObject();
  json.endObject();
  return {json.text() + "\n"};
}

Result<void> BackendNote::write(const std::string& directory, mode_t mode) const {
  const std::string path = directory + "/" + kFileName;
  const std::string fresh = path + kFreshSuffix;
  const auto failed = [&](const char* what) {
    const int err = errno;
    ::unlink(fresh.c_str());
    return makeError(ErrorCode::kGeneric, std::string(what) + " '" + path + "', so `outrigger explain` can't tell of this driver", err);
  };
  const UniqueFd file(::open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode));
  if (!file.valid()) return failed("cannot make");
  if (::fchmod(file.get(), mode) != 0) return failed("cannot set the mode of");
  if (::write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) return failed("cannot write");
  if (::rename(fresh.c_str(), path.c_str()) != 0) return failed("cannot put in place");
  return {};
}

}  // namespace outrigger::driver
