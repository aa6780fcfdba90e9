// SPDX-License-Identifier: Apache-2.0
// The states of a neighbour, after RFC 4861, section 7.3, for IPv4 too.
#include "io/stack/neighbour_table.h"

#include <algorithm>

namespace outrigger::io {
namespace {

constexpr int64_t kSecond = 1'000'000'000;
constexpr int64_t kRequestIntervalNs = kSecond;     // RETRANS_TIMER
constexpr int64_t kReachableNs = 30 * kSecond;      // REACHABLE_TIME
constexpr uint32_t kMaxProbes = 3;                  // MAX_UNICAST_SOLICIT
constexpr int64_t kIdleNs = 60 * kSecond;           // nobody sent there: forgotten
constexpr int64_t kIncompleteIdleNs = 5 * kSecond;  // and never answered: sooner, so that a scan can't fill the table
constexpr uint32_t kProbeLength = 16;               // places that an address may take

uint32_t hashOf(const net::IpAddress& address) {
  uint64_t words[2];
  std::memcpy(words, address.bytes.data(), sizeof(words));
  const uint64_t mixed = (words[0] ^ (words[1] * 0x9E3779B97F4A7C15ULL)) * 0xBF58476D1CE4E5B9ULL;
  return static_cast<uint32_t>(mixed >> 32);
}

}  // namespace

uint32_t NeighbourTable::find(const net::IpAddress& address) const {
  const uint32_t hash = hashOf(address);
  for (uint32_t i = 0; i < kProbeLength; ++i) {
    const uint32_t at = (hash + i) % kCapacity;
    if (entries_[at].state != State::kFree && entries_[at].address == address) return at;
  }
  return kNone;
}

uint32_t NeighbourTable::place(const net::IpAddress& address, int64_t nowNs) {
  const uint32_t hash = hashOf(address);
  uint32_t oldest = kNone;
  for (uint32_t i = 0; i < kProbeLength; ++i) {
    const uint32_t at = (hash + i) % kCapacity;
    if (entries_[at].state == State::kFree) return at;
    if (oldest == kNone || entries_[at].lastUsedNs < entries_[oldest].lastUsedNs) oldest = at;
  }
  // A place in use is not given away: its path would be lost.
  return nowNs - entries_[oldest].lastUsedNs > kIncompleteIdleNs ? oldest : kNone;
}

uint32_t NeighbourTable::want(const net::IpAddress& address, int64_t nowNs) {
  uint32_t at = find(address);
  if (at == kNone) {
    at = place(address, nowNs);
    if (at == kNone) return kNone;
    entries_[at] = {};
    entries_[at].address = address;
    entries_[at].state = State::kIncomplete;
    entries_[at].lastRequestNs = nowNs - kRequestIntervalNs;
  }
  entries_[at].lastUsedNs = nowNs;
  return at;
}

bool NeighbourTable::learn(const net::IpAddress& address, const MacAddress& mac, bool solicited, int64_t nowNs) {
  uint32_t at = find(address);
  bool fresh = false;
  if (at == kNone) {
    if (!solicited) return false;
    at = place(address, nowNs);
    if (at == kNone) return false;
    entries_[at] = {};
    entries_[at].address = address;
    entries_[at].lastUsedNs = nowNs;
    fresh = true;
  }
  Entry& entry = entries_[at];
  const bool changed = fresh || entry.state == State::kIncomplete || entry.mac != mac;
  entry.mac = mac;
  entry.state = State::kReachable;
  entry.requests = 0;
  entry.confirmedNs = nowNs;
  return changed;
}

bool NeighbourTable::step(Entry& entry, int64_t nowNs, Request& request, bool& changed) {
  if (entry.state == State::kFree) return false;
  const int64_t idleNs = nowNs - entry.lastUsedNs;
  if (idleNs > (entry.state == State::kIncomplete ? kIncompleteIdleNs : kIdleNs)) {
    changed |= entry.state != State::kIncomplete;
    entry.state = State::kFree;
    return false;
  }
  if (entry.state == State::kReachable) {
    if (nowNs - entry.confirmedNs < kReachableNs || idleNs > kRequestIntervalNs) return false;
    entry.state = State::kProbing;
    entry.requests = 0;
    entry.lastRequestNs = nowNs - kRequestIntervalNs;
  }
  if (nowNs - entry.lastRequestNs < kRequestIntervalNs) return false;
  if (entry.state == State::kProbing && entry.requests >= kMaxProbes) {
    // It does not answer at that MAC address any more: everyone is asked.
    entry.state = State::kIncomplete;
    entry.requests = 0;
    changed = true;
  }
  entry.lastRequestNs = nowNs;
  ++entry.requests;
  request = {entry.address, entry.mac, entry.state == State::kProbing};
  return true;
}

}  // namespace outrigger::io
