// SPDX-License-Identifier: Apache-2.0
#include "io/dpdk_loader/port_filter.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace outrigger::io {
namespace {

constexpr uint32_t kEthernetLength = 14;
constexpr uint32_t kTagLength = 4;
constexpr uint32_t kUdpLength = 8;
constexpr uint8_t kUdp = 17;
constexpr uint16_t kTypeIpv4 = 0x0800;
constexpr uint16_t kTypeIpv6 = 0x86dd;
constexpr uint16_t kTypeVlan = 0x8100;

uint16_t read16(std::span<const uint8_t> frame, uint32_t at) { return static_cast<uint16_t>(frame[at] << 8 | frame[at + 1]); }

}  // namespace

UdpPlace findUdp(std::span<const uint8_t> frame) {
  UdpPlace place;
  if (frame.size() < kEthernetLength + kTagLength + kUdpLength) return place;
  uint32_t at = kEthernetLength;
  uint16_t type = read16(frame, 12);
  if (type == kTypeVlan) {
    type = read16(frame, 16);
    at += kTagLength;
  }
  place.ip = at;
  if (type == kTypeIpv4) {
    if (frame.size() < at + 20 + kUdpLength || frame[at] != 0x45 || frame[at + 9] != kUdp) return place;
    if ((read16(frame, at + 6) & 0x3fff) != 0) return place;  // a fragment: more to come, or an offset
    place.udp = at + 20;
    place.end = at + read16(frame, at + 2);
  } else if (type == kTypeIpv6) {
    if (frame.size() < at + 40 + kUdpLength || (frame[at] >> 4) != 6 || frame[at + 6] != kUdp) return place;
    place.isIpv6 = true;
    place.udp = at + 40;
    place.end = at + 40 + read16(frame, at + 4);
  } else {
    return place;
  }
  place.found = true;
  return place;
}

PortFilter::PortFilter() {
  publish({});
  current_ = newest_.get();
}

PortFilter::Rule PortFilter::ruleOf(const SockAddr& address) {
  Rule rule;
  rule.port = address.port();
  rule.isIpv6 = address.isV6();
  if (rule.isIpv6) {
    std::memcpy(rule.address.data(), &reinterpret_cast<const sockaddr_in6*>(&address.storage)->sin6_addr, 16);
  } else {
    std::memcpy(rule.address.data(), &reinterpret_cast<const sockaddr_in*>(&address.storage)->sin_addr, 4);
  }
  rule.any = std::all_of(rule.address.begin(), rule.address.end(), [](uint8_t byte) { return byte == 0; });
  return rule;
}

void PortFilter::add(const SockAddr& address) {
  const std::lock_guard lock(mutex_);
  const Rule rule = ruleOf(address);
  std::vector<Rule> rules = newest_->sorted;
  if (std::find(rules.begin(), rules.end(), rule) != rules.end()) return;
  rules.insert(std::upper_bound(rules.begin(), rules.end(), rule.port, [](uint16_t port, const Rule& each) { return port < each.port; }),
               rule);
  publish(std::move(rules));
}

void PortFilter::remove(const SockAddr& address) {
  const std::lock_guard lock(mutex_);
  std::vector<Rule> rules = newest_->sorted;
  if (std::erase(rules, ruleOf(address)) > 0) publish(std::move(rules));
}

void PortFilter::publish(std::vector<Rule> sorted) {
  auto rules = std::make_unique<Rules>();
  for (const Rule& rule : sorted) rules->ports[rule.port / 64] |= 1ull << (rule.port % 64);
  rules->sorted = std::move(sorted);
  // Sequentially consistent: the count must not be read before the owner can see the new rules.
  published_.store(rules.get());
  const uint64_t seen = seen_.load();
  if (newest_ != nullptr) retired_.push_back({std::move(newest_), seen});
  newest_ = std::move(rules);
  // The owner may have loaded the old rules just before the store; once it has come again, and that call is counted, it has others.
  std::erase_if(retired_, [&](const Retired& old) { return seen > old.seen + 1; });
}

bool PortFilter::wants(std::span<const uint8_t> frame, const UdpPlace& place, const MacAddress& mac) const {
  if (!place.found) return false;
  const uint16_t port = read16(frame, place.udp + 2);
  if ((current_->ports[port / 64] & (1ull << (port % 64))) == 0) return false;
  // A packet socket also shows what this host sends.
  if ((frame[0] & 1) == 0 && !std::equal(mac.begin(), mac.end(), frame.begin())) return false;
  const uint8_t* address = frame.data() + place.ip + (place.isIpv6 ? 24 : 16);
  const size_t length = place.isIpv6 ? 16 : 4;
  auto rule =
      std::lower_bound(current_->sorted.begin(), current_->sorted.end(), port, [](const Rule& each, uint16_t p) { return each.port < p; });
  for (; rule != current_->sorted.end() && rule->port == port; ++rule) {
    if (rule->isIpv6 != place.isIpv6) continue;
    if (rule->any || std::memcmp(rule->address.data(), address, length) == 0) return true;
  }
  return false;
}

}  // namespace outrigger::io
