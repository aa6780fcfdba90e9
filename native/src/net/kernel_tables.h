// SPDX-License-Identifier: Apache-2.0
// The kernel's routes, neighbours, links and addresses as a raw backend needs them: how a datagram leaves, and with which MAC address. An
// interface, so that outrigger-nicd's feed, fixed tables (a device that the kernel does not own) and simulations can stand in for netlink.
//
// A destination in use is a RouteCell: a question that its owner asks and an answer that the tables keep up to date. The owner thread reads
// the answer's version on the data path and nothing else; a change of route, neighbour, MAC or MTU reaches it with the next datagram.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <vector>

#include "base/result.h"
#include "base/seqlock.h"
#include "net/ip_address.h"

namespace outrigger::net {

struct RouteQuestion {
  uint32_t number = 0;           // the asker counts; an answer names the question that it is for
  uint32_t scopeInterface = 0;   // of a link-local destination
  uint32_t deviceInterface = 0;  // that the asker sends on; 0: whichever
  IpAddress destination;         // family AF_UNSPEC: nothing is asked
  IpAddress source;              // unspecified: the route's choice
};

enum class RouteState : uint8_t {
  kUnknown,      // not answered yet
  kForward,      // leaves through interfaceIndex
  kLocal,        // one of our own addresses
  kUnreachable,  // no route, or one that forbids it
};

enum class NeighbourState : uint8_t {
  kMissing,  // no MAC address is known: nothing was asked, no answer yet, or none came
  kUsable,   // confirmed lately, or permanent
  kStale,    // may be used, but the owner of the tables wants to see traffic to confirm it
};

struct RouteAnswer {
  uint32_t question = 0;
  RouteState route = RouteState::kUnknown;
  NeighbourState neighbour = NeighbourState::kMissing;
  std::array<uint8_t, 6> mac{};  // of nextHop, with kUsable and kStale
  uint32_t interfaceIndex = 0;
  uint32_t mtu = 0;   // longest IP packet on this path: the least of link, route and path MTU discovery
  IpAddress source;   // to send from
  IpAddress nextHop;  // the gateway, or the destination itself when it is on-link
};

// One watched destination. The asker owns it, and forgets it before it goes.
class RouteCell {
 public:
  Seqlock<RouteQuestion> question;  // written by the asker alone
  Seqlock<RouteAnswer> answer;      // written by the tables alone
  std::atomic<bool> used{false};    // set by the asker as it sends: what lies idle needs no upkeep
  bool alwaysUsed = false;          // set before it is watched: the asker can't tell when it is used
  std::atomic<bool> queued{false};  // the tables': waits to be answered
  std::atomic<RouteCell*> next{nullptr};
};

struct LocalAddress {
  IpAddress address;
  uint32_t interfaceIndex = 0;
  uint8_t prefixLength = 0;
};

class KernelTables {
 public:
  static constexpr size_t kMaxLocalAddresses = 512;

  virtual ~KernelTables() = default;

  // --- control threads; may block for a system call ---
  // Answers once.
  virtual RouteAnswer lookup(const RouteQuestion& question) = 0;
  // Answers the cell before it returns (a question with no destination: not at all) and keeps the answer up to date until forget.
  virtual void watch(RouteCell& cell) = 0;
  virtual void forget(RouteCell& cell) = 0;

  // --- any thread; neither blocks nor allocates ---
  // The question of a watched cell is a new one, or its answer should be looked at again.
  virtual void refresh(RouteCell& cell) = 0;
  // Grows with each change of local addresses.
  virtual uint64_t addressVersion() const = 0;
  // Copies up to `out`'s capacity of them. False while they are being changed: ask again later.
  virtual bool copyAddresses(std::vector<LocalAddress>& out) const = 0;
};

}  // namespace outrigger::net
