// SPDX-License-Identifier: Apache-2.0
// Interface search over getifaddrs: by name, by exact address, by subnet.
#include "net/interface_search.h"

#include <ifaddrs.h>
#include <net/if.h>

#include <algorithm>
#include <charconv>
#include <memory>

namespace outrigger::net {
namespace {

using io::SockAddr;
using InterfaceList = std::unique_ptr<ifaddrs, void (*)(ifaddrs*)>;

InterfaceList listInterfaces() {
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) list = nullptr;
  return InterfaceList(list, [](ifaddrs* head) {
    if (head != nullptr) ::freeifaddrs(head);
  });
}

bool hasAddress(const ifaddrs& entry, int family) {
  if (entry.ifa_addr == nullptr) return false;
  const int own = entry.ifa_addr->sa_family;
  return family == AF_UNSPEC ? own == AF_INET || own == AF_INET6 : own == family;
}

SockAddr toSockAddr(const sockaddr* address, uint16_t port) {
  SockAddr out;
  out.length = address->sa_family == AF_INET6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in);
  std::memcpy(&out.storage, address, out.length);
  out.setPort(port);
  return out;
}

std::pair<const uint8_t*, size_t> addressBytes(const sockaddr* address) {
  if (address->sa_family == AF_INET6) {
    return {reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr.s6_addr, 16};
  }
  return {reinterpret_cast<const uint8_t*>(&reinterpret_cast<const sockaddr_in*>(address)->sin_addr), 4};
}

bool sameSubnet(const sockaddr* a, const sockaddr* b, size_t prefixBits) {
  const auto [left, length] = addressBytes(a);
  const uint8_t* right = addressBytes(b).first;
  for (size_t i = 0; i < length && prefixBits > 0; ++i) {
    const size_t bits = std::min<size_t>(prefixBits, 8);
    const auto mask = static_cast<uint8_t>(0xFF << (8 - bits));
    if ((left[i] & mask) != (right[i] & mask)) return false;
    prefixBits -= bits;
  }
  return true;
}

Error unknown(const std::string& spec, const std::string& what) {
  return makeError(ErrorCode::kInvalidChannel, "interface=" + spec + " " + what);
}

Result<InterfaceMatch> searchByName(const std::string& spec, int family) {
  if (spec.size() < 3 || spec.back() != '}') return unknown(spec, "is malformed: write {name}, as in {eth0}");
  const std::string name = spec.substr(1, spec.size() - 2);
  const auto list = listInterfaces();
  const ifaddrs* found = nullptr;
  for (const ifaddrs* entry = list.get(); entry != nullptr; entry = entry->ifa_next) {
    if (name != entry->ifa_name || !hasAddress(*entry, family)) continue;
    if (found == nullptr || (entry->ifa_addr->sa_family == AF_INET && found->ifa_addr->sa_family != AF_INET)) found = entry;
  }
  if (found == nullptr) return unknown(spec, "names no local interface with an address of the channel's family");
  return InterfaceMatch{toSockAddr(found->ifa_addr, 0), name};
}

struct ParsedSpec {
  std::string host;
  uint16_t port = 0;
  bool hasPrefix = false;
  size_t prefixBits = 0;
};

Result<ParsedSpec> parseSpec(const std::string& spec) {
  ParsedSpec parsed;
  std::string_view text = spec;
  if (const size_t slash = text.find('/'); slash != std::string_view::npos) {
    const std::string_view prefix = text.substr(slash + 1);
    const auto [end, error] = std::from_chars(prefix.data(), prefix.data() + prefix.size(), parsed.prefixBits);
    if (error != std::errc() || end != prefix.data() + prefix.size() || parsed.prefixBits > 128) {
      return unknown(spec, "has the prefix length '" + std::string(prefix) + "', allowed is 0 to 32 or, for IPv6, 128");
    }
    parsed.hasPrefix = true;
    text = text.substr(0, slash);
  }
  const size_t portColon = text.starts_with('[') ? text.find("]:") : text.find(':');
  if (portColon != std::string_view::npos) {
    auto hostPort = splitHostPort(text);
    if (!hostPort) return hostPort.error();
    parsed.host = hostPort->first;
    parsed.port = hostPort->second;
  } else {
    const bool bracketed = text.size() > 2 && text.front() == '[' && text.back() == ']';
    parsed.host = std::string(bracketed ? text.substr(1, text.size() - 2) : text);
  }
  if (parsed.host.empty()) return unknown(spec, "has no address");
  return parsed;
}

}  // namespace

Result<InterfaceMatch> searchInterface(const std::string& spec, int family, const HostResolver& resolver) {
  if (spec.starts_with('{')) return searchByName(spec, family);
  auto parsed = parseSpec(spec);
  if (!parsed) return parsed.error();
  auto address = resolver(parsed->host, parsed->port, family == AF_INET6 || spec.starts_with('['));
  if (!address) return address.error();
  if (family != AF_UNSPEC && address->family() != family) {
    return unknown(spec, "is " + std::string(address->isV6() ? "IPv6" : "IPv4") + " but the channel's addresses are " +
                             (address->isV6() ? "IPv4" : "IPv6"));
  }
  const size_t fullBits = address->isV6() ? 128 : 32;
  if (parsed->prefixBits > fullBits) return unknown(spec, "has a prefix longer than " + std::to_string(fullBits) + " bits");

  const auto list = listInterfaces();
  const ifaddrs* inSubnet = nullptr;
  for (const ifaddrs* entry = list.get(); entry != nullptr; entry = entry->ifa_next) {
    if (!hasAddress(*entry, address->family())) continue;
    if (sameSubnet(entry->ifa_addr, address->get(), fullBits)) {
      return InterfaceMatch{toSockAddr(entry->ifa_addr, parsed->port), entry->ifa_name};
    }
    if (inSubnet == nullptr && parsed->hasPrefix && sameSubnet(entry->ifa_addr, address->get(), parsed->prefixBits)) {
      inSubnet = entry;
    }
  }
  if (inSubnet != nullptr) return InterfaceMatch{toSockAddr(inSubnet->ifa_addr, parsed->port), inSubnet->ifa_name};
  if (parsed->hasPrefix) return unknown(spec, "matches no address of a local interface");
  return InterfaceMatch{address.take(), ""};
}

}  // namespace outrigger::net
