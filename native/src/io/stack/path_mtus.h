// SPDX-License-Identifier: Apache-2.0
// Path MTUs that routers told us of (RFC 1191, RFC 8201), where the kernel does not hear them for us. A small table: the longest known is forgotten
// first, and each after ten minutes, so that a path that has widened is found out. Owner thread only.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "net/ip_address.h"

namespace outrigger::io {

class PathMtus {
 public:
  static constexpr int64_t kLifeNs = 600'000'000'000;  // RFC 1191, section 6.3

  // What a path takes, no more than `mtu`.
  uint32_t limit(const net::IpAddress& destination, uint32_t mtu, int64_t nowNs) const {
    for (const Entry& entry : entries_) {
      if (entry.mtu != 0 && entry.destination == destination && nowNs < entry.untilNs) return std::min(mtu, entry.mtu);
    }
    return mtu;
  }

  // A router said that only `mtu` fits. Below what every IPv4 path of today, or every IPv6 link, must take nobody is believed: a forged message
  // would slow a stream to a crawl. Answers whether that changed anything.
  bool lower(const net::IpAddress& destination, uint32_t mtu, int64_t nowNs) {
    mtu = std::max(mtu, destination.isV6() ? 1280U : 552U);
    Entry* place = &entries_[0];
    for (Entry& entry : entries_) {
      if (entry.mtu != 0 && entry.destination == destination) {
        place = &entry;
        break;
      }
      if (entry.untilNs < place->untilNs) place = &entry;
    }
    const bool changed = place->mtu != mtu || !(place->destination == destination) || nowNs >= place->untilNs;
    *place = {destination, mtu, nowNs + kLifeNs};
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
  std::array<Entry, 64> entries_;
};

}  // namespace outrigger::io
