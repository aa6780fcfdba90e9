// SPDX-License-Identifier: Apache-2.0
// The key of the maps that say which datagrams are a driver's: the same for the XDP program and for the filter of packet sockets.
#pragma once

#include <arpa/inet.h>

#include <cstdint>
#include <cstring>

#include "io/nicd_client/protocol.h"

namespace outrigger::nicd {

// struct steer_key of bpf/steer.h.
struct SteerKey {
  uint8_t address[16] = {};  // network order, IPv4 in the first four bytes; all zero: any of the family
  uint16_t port = 0;         // network order
  uint8_t family = 0;        // 4 or 6
  uint8_t zero = 0;
};
static_assert(sizeof(SteerKey) == 20);

inline SteerKey steerKeyOf(const Address& address) {
  SteerKey key;
  std::memcpy(key.address, address.bytes, sizeof(key.address));
  key.port = htons(address.port);
  key.family = static_cast<uint8_t>(address.family);
  return key;
}

}  // namespace outrigger::nicd
