// SPDX-License-Identifier: Apache-2.0
// MAC addresses of hosts on the link, where the kernel does not own the device and so does not keep them for us. State and timers only: what is sent
// and parsed is in neighbour_messages.h. Owner thread only; allocates nothing after construction.
#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include "io/frame/frame_io.h"
#include "net/ip_address.h"

namespace outrigger::io {

class NeighbourTable {
 public:
  static constexpr uint32_t kCapacity = 512;
  static constexpr uint32_t kNone = UINT32_MAX;

  enum class State : uint8_t {
    kFree,
    kIncomplete,  // asked for, no answer yet
    kReachable,   // answered, or heard from, lately
    kProbing,     // was reachable, is used, and is asked whether it still is
  };

  struct Entry {
    net::IpAddress address;
    MacAddress mac{};
    State state = State::kFree;
    uint32_t requests = 0;  // without an answer
    int64_t confirmedNs = 0;
    int64_t lastRequestNs = 0;
    int64_t lastUsedNs = 0;
  };

  // What a timer wants sent: to all, or to the MAC address that is in doubt.
  struct Request {
    net::IpAddress address;
    MacAddress mac{};
    bool unicast = false;
  };

  const Entry& at(uint32_t index) const { return entries_[index]; }
  void touch(uint32_t index, int64_t nowNs) { entries_[index].lastUsedNs = nowNs; }

  // The place of an address, taken for it when it has none; kNone when all places belong to addresses in use. A new or long unused one is
  // asked for at once: the next due() names it.
  uint32_t want(const net::IpAddress& address, int64_t nowNs);

  // An address showed its MAC address. `solicited`: it answered us, or asked for us, so that it may take a place of its own; an announcement to
  // all only changes what is known already (RFC 826's merge flag). Answers whether a path has to be built again.
  bool learn(const net::IpAddress& address, const MacAddress& mac, bool solicited, int64_t nowNs);

  // Calls send(const Request&) for what is due, at most once a second for an address; forgets what nobody uses. True when a path has to be
  // built again since a neighbour was given up.
  template <typename Send>
  bool due(int64_t nowNs, Send&& send) {
    bool changed = false;
    for (uint32_t i = 0; i < kCapacity; ++i) {
      Request request;
      if (!step(entries_[i], nowNs, request, changed)) continue;
      send(request);
    }
    return changed;
  }

 private:
  uint32_t find(const net::IpAddress& address) const;
  uint32_t place(const net::IpAddress& address, int64_t nowNs);
  static bool step(Entry& entry, int64_t nowNs, Request& request, bool& changed);

  std::unique_ptr<Entry[]> entries_ = std::make_unique<Entry[]>(kCapacity);
};

}  // namespace outrigger::io
