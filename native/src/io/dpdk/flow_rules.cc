// SPDX-License-Identifier: Apache-2.0
#include "io/dpdk/flow_rules.h"

#include <rte_flow.h>

#include <algorithm>
#include <cstring>

namespace outrigger::io::dpdk {
namespace {

constexpr uint16_t kAllBits16 = 0xffff;

bool isWildcard(const SockAddr& address) {
  if (address.family() == AF_INET) return reinterpret_cast<const sockaddr_in*>(&address.storage)->sin_addr.s_addr == INADDR_ANY;
  return IN6_IS_ADDR_UNSPECIFIED(&reinterpret_cast<const sockaddr_in6*>(&address.storage)->sin6_addr);
}

// The header structs of rte_flow were renamed field by field over the releases; their first bytes are the wire's, which are not.
template <typename Item>
void put(Item& item, size_t offset, const void* bytes, size_t length) {
  std::memcpy(reinterpret_cast<uint8_t*>(&item) + offset, bytes, length);
}

rte_flow* create(uint16_t port, uint16_t vlan, const SockAddr& address, rte_flow_error& error) {
  constexpr size_t kIpv4Destination = 16;
  constexpr size_t kIpv6Destination = 24;
  constexpr size_t kUdpDestination = 2;
  rte_flow_item_eth ethernet{};
  rte_flow_item_ipv4 v4{};
  rte_flow_item_ipv4 v4Mask{};
  rte_flow_item_ipv6 v6{};
  rte_flow_item_ipv6 v6Mask{};
  rte_flow_item_udp udp{};
  rte_flow_item_udp udpMask{};
  const uint16_t wirePort = htons(address.port());
  put(udp, kUdpDestination, &wirePort, sizeof(wirePort));
  put(udpMask, kUdpDestination, &kAllBits16, sizeof(kAllBits16));
  uint8_t ones[16];
  std::memset(ones, 0xff, sizeof(ones));
  const bool isV4 = address.family() == AF_INET;
  if (!isWildcard(address)) {
    if (isV4) {
      put(v4, kIpv4Destination, &reinterpret_cast<const sockaddr_in*>(&address.storage)->sin_addr, 4);
      put(v4Mask, kIpv4Destination, ones, 4);
    } else {
      put(v6, kIpv6Destination, &reinterpret_cast<const sockaddr_in6*>(&address.storage)->sin6_addr, 16);
      put(v6Mask, kIpv6Destination, ones, 16);
    }
  }
  rte_flow_item_vlan tag{};
  rte_flow_item_vlan tagMask{};
  const uint16_t wireTag = htons(vlan);
  const uint16_t idBits = htons(0x0FFF);
  put(tag, 0, &wireTag, sizeof(wireTag));
  put(tagMask, 0, &idBits, sizeof(idBits));
  rte_flow_item pattern[5]{};
  size_t items = 0;
  const auto match = [&](rte_flow_item_type type, const void* spec, const void* mask) {
    pattern[items].type = type;
    pattern[items].spec = spec;
    pattern[items].mask = mask;
    items++;
  };
  match(RTE_FLOW_ITEM_TYPE_ETH, &ethernet, &ethernet);
  if (vlan != 0) match(RTE_FLOW_ITEM_TYPE_VLAN, &tag, &tagMask);
  if (isV4) {
    match(RTE_FLOW_ITEM_TYPE_IPV4, &v4, &v4Mask);
  } else {
    match(RTE_FLOW_ITEM_TYPE_IPV6, &v6, &v6Mask);
  }
  match(RTE_FLOW_ITEM_TYPE_UDP, &udp, &udpMask);
  match(RTE_FLOW_ITEM_TYPE_END, nullptr, nullptr);
  rte_flow_action_queue queue{};
  rte_flow_action actions[2]{};
  actions[0].type = RTE_FLOW_ACTION_TYPE_QUEUE;
  actions[0].conf = &queue;
  actions[1].type = RTE_FLOW_ACTION_TYPE_END;
  rte_flow_attr attributes{};
  attributes.ingress = 1;
  return rte_flow_create(port, &attributes, pattern, actions, &error);
}

}  // namespace

Result<void> FlowRules::add(uint16_t port, const SockAddr& address) {
  const std::lock_guard lock(mutex_);
  const auto known = std::find_if(rules_.begin(), rules_.end(), [&](const auto& rule) { return rule.first == address; });
  if (known != rules_.end()) return {};
  rte_flow_error error{};
  rte_flow* flow = create(port, vlan_, address, error);
  if (flow == nullptr) {
    return makeError(ErrorCode::kGeneric, "dpdk: the device takes no flow rule for UDP to " + address.toString() + ": " +
                                              (error.message != nullptr ? error.message : rte_strerror(rte_errno)));
  }
  rules_.emplace_back(address, flow);
  return {};
}

Result<void> FlowRules::remove(uint16_t port, const SockAddr& address) {
  const std::lock_guard lock(mutex_);
  for (auto rule = rules_.begin(); rule != rules_.end(); ++rule) {
    if (!(rule->first == address)) continue;
    rte_flow_error error{};
    if (rte_flow_destroy(port, rule->second, &error) != 0) {
      return makeError(ErrorCode::kGeneric, "dpdk: the flow rule for UDP to " + address.toString() + " can't be removed: " +
                                                (error.message != nullptr ? error.message : rte_strerror(rte_errno)));
    }
    rules_.erase(rule);
    return {};
  }
  return {};
}

void FlowRules::clear(uint16_t port) {
  const std::lock_guard lock(mutex_);
  rte_flow_error error{};
  for (const auto& rule : rules_) rte_flow_destroy(port, rule.second, &error);
  rules_.clear();
}

}  // namespace outrigger::io::dpdk
