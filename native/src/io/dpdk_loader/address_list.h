// SPDX-License-Identifier: Apache-2.0
// Addresses with prefix lengths, as a device gets them that the kernel does not own: "10.9.0.1/24,fd00::1/64".
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "io/datagram_io.h"

namespace outrigger::io {

struct InterfaceAddress {
  SockAddr address;
  uint8_t prefixLength = 0;
};

// Without a prefix length an address stands alone (/32, /128). Empty text: none. Fails naming the part and what is allowed.
Result<std::vector<InterfaceAddress>> parseAddressList(const std::string& text);

// Gateways: addresses alone, at most one of each family.
Result<std::vector<SockAddr>> parseGateways(const std::string& text);

}  // namespace outrigger::io
