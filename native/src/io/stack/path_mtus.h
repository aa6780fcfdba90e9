// SPDX-License-Identifier: Apache-2.0
// Path MTUs that routers told us of (RFC 1191, RFC 8201). A small table: who is forgotten soonest gives its place away. Owner thread only.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "net/ip_address.h"

namespace outrigger::io {

class PathMtus {
 public:
  // How far a router is believed, and for how long: a path that has widened is found out afterwards. Below what every IPv6 link must take nobody is
  // believed.
  struct Trust {
    uint32_t leastV4 = 0;
    int64_t lifeNs = 0;
  };
  // Where nobody else hears routers: ten minutes (RFC 1191, section 6.3), and no less than what every IPv4 path of today takes, since what is longer is
  // not sent at all.
  static constexpr Trust kAlone{552, 600'000'000'000};
  // Beside a kernel that hears them too: longer datagrams go through it, in fragments of what it believes, so the least is the protocol's (RFC 791).
  // A minute, since its routes say the same for as long as it believes it, and no longer when a route changes. Where it learns nothing (the route's
  // MTU is locked, the way is one of several) a datagram a minute is lost to find out again.
  static constexpr Trust kBesideKernel{68, 60'000'000'000};

  explicit PathMtus(const Trust& trust) : trust_(trust) {}

  // What a path takes, no more than `mtu`.
  uint32_t limit(const net::IpAddress& destination, uint32_t mtu, int64_t nowNs) const {
    for (const Entry& entry : entries_) {
      if (entry.mtu != 0 && entry.destination == destination && nowNs < entry.untilNs) return std::min(mtu, entry.mtu);
    }
    return mtu;
  }

  // A router said that only `mtu` fits. Answers whether that changed anything. It never makes a path wider (RFC 8201, section 4).
  bool lower(const net::IpAddress& destination, uint32_t mtu, int64_t nowNs) {
    mtu = std::max(mtu, destination.isV6() ? kLeastV6 : trust_.leastV4);
    Entry* place = &entries_[0];
    for (Entry& entry : entries_) {
      if (entry.mtu != 0 && entry.destination == destination) {
        place = &entry;
        break;
      }
      if (entry.untilNs < place->untilNs) place = &entry;
    }
    const bool known = place->mtu != 0 && place->destination == destination && nowNs < place->untilNs;
    if (known && mtu > place->mtu) return false;
    const bool changed = !known || mtu < place->mtu;
    *place = {destination, mtu, nowNs + trust_.lifeNs};
    return changed;
  }

  // True once after an entry's time is over.
  bool expire(int64_t nowNs) {
    bool any = false;
    for (Entry& entry : entries_) {
      if (entry.mtu == 0 || nowNs < entry.untilNs) continue;
      entry = {};
      any = true;
    }
    return any;
  }

 private:
  struct Entry {
    net::IpAddress destination;
    uint32_t mtu = 0;
    int64_t untilNs = 0;
  };
  static constexpr uint32_t kLeastV6 = 1280;

  Trust trust_;
  std::array<Entry, 64> entries_;
};

}  // namespace outrigger::io
