// SPDX-License-Identifier: Apache-2.0
#include "io/dpdk_loader/address_list.h"

#include <charconv>

namespace outrigger::io {
namespace {

std::vector<std::string> parts(const std::string& text) {
  std::vector<std::string> out;
  for (size_t at = 0; at < text.size();) {
    const size_t comma = std::min(text.find(',', at), text.size());
    out.push_back(text.substr(at, comma - at));
    at = comma + 1;
  }
  return out;
}

}  // namespace

Result<std::vector<InterfaceAddress>> parseAddressList(const std::string& text) {
  std::vector<InterfaceAddress> out;
  for (const std::string& part : parts(text)) {
    const size_t slash = part.find('/');
    auto address = SockAddr::parseNumeric(part.substr(0, slash), 0);
    if (!address) return address.error();
    const uint8_t longest = address->isV6() ? 128 : 32;
    InterfaceAddress entry{*address, longest};
    if (slash != std::string::npos) {
      const std::string digits = part.substr(slash + 1);
      unsigned length = 0;
      const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), length);
      if (error != std::errc() || end != digits.data() + digits.size() || length < 1 || length > longest) {
        return makeError(ErrorCode::kGeneric,
                         "address '" + part + "': prefix length '" + digits + "' is not valid, allowed is 1 to " + std::to_string(longest));
      }
      entry.prefixLength = static_cast<uint8_t>(length);
    }
    out.push_back(entry);
  }
  return out;
}

Result<std::vector<SockAddr>> parseGateways(const std::string& text) {
  std::vector<SockAddr> out;
  for (const std::string& part : parts(text)) {
    auto address = SockAddr::parseNumeric(part, 0);
    if (!address) return address.error();
    for (const SockAddr& other : out) {
      if (other.family() != address->family()) continue;
      return makeError(ErrorCode::kGeneric, "gateway '" + text + "': two of one family, allowed is one of IPv4 and one of IPv6");
    }
    out.push_back(*address);
  }
  return out;
}

}  // namespace outrigger::io
