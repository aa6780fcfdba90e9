// SPDX-License-Identifier: Apache-2.0
// Addresses that may publish to a subscription. Made by the conductor, unchanging from then on, read by the receiver without locks.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "io/datagram_io.h"

namespace outrigger::driver {

// An address without its port. IPv4 as IPv6 sees it (RFC 4291, 2.5.5.2): a socket for both families names an IPv4 peer so.
using AddressKey = std::array<uint8_t, 16>;

inline AddressKey addressKeyOf(const io::SockAddr& address) {
  AddressKey key{};
  if (address.family() == AF_INET) {
    key[10] = key[11] = 0xFF;
    std::memcpy(key.data() + 12, &reinterpret_cast<const sockaddr_in*>(&address.storage)->sin_addr, 4);
  } else if (address.family() == AF_INET6) {
    std::memcpy(key.data(), &reinterpret_cast<const sockaddr_in6*>(&address.storage)->sin6_addr, 16);
  }
  return key;
}

class SourceList {
 public:
  // A publisher sends from whatever port its kernel gave it: port 0 admits every one of the address.
  void add(const io::SockAddr& address) { entries_.emplace_back(addressKeyOf(address), address.port()); }
  void addAny() { any_ = true; }
  void addAll(const SourceList& other) {
    any_ = any_ || other.any_;
    entries_.insert(entries_.end(), other.entries_.begin(), other.entries_.end());
  }
  // After the last add, before the first admits.
  void seal() {
    std::sort(entries_.begin(), entries_.end());
    entries_.erase(std::unique(entries_.begin(), entries_.end()), entries_.end());
  }

  // Takes no memory: asked for each datagram of a session that has no image.
  bool admits(const io::SockAddr& source) const {
    if (any_) return true;
    const AddressKey key = addressKeyOf(source);
    const auto has = [&](uint16_t port) { return std::binary_search(entries_.begin(), entries_.end(), Entry{key, port}); };
    return has(0) || has(source.port());
  }
  bool any() const { return any_; }
  bool operator==(const SourceList& other) const = default;

 private:
  using Entry = std::pair<AddressKey, uint16_t>;
  std::vector<Entry> entries_;
  bool any_ = false;
};

}  // namespace outrigger::driver
