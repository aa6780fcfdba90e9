// SPDX-License-Identifier: Apache-2.0
#include "io/dpdk/rss_map.h"

#include <rte_thash.h>

#include <algorithm>
#include <array>

#include "net/ip_address.h"

namespace outrigger::io::dpdk {
namespace {

uint32_t wordAt(const uint8_t* bytes) {
  return uint32_t{bytes[0]} << 24 | uint32_t{bytes[1]} << 16 | uint32_t{bytes[2]} << 8 | uint32_t{bytes[3]};
}

}  // namespace

std::optional<RssMap> RssMap::of(uint16_t port, const rte_eth_dev_info& info) {
  std::vector<uint8_t> key(std::max<size_t>(info.hash_key_size, kKeyLength));
  rte_eth_rss_conf configuration{};
  configuration.rss_key = key.data();
  configuration.rss_key_len = static_cast<uint8_t>(key.size());
  if (rte_eth_dev_rss_hash_conf_get(port, &configuration) != 0 || !isToeplitz(configuration)) return {};
  if (info.hash_key_size != 0 && info.hash_key_size < kKeyLength) return {};
  const bool v4 = (configuration.rss_hf & RTE_ETH_RSS_NONFRAG_IPV4_UDP) != 0;
  const bool v6 = (configuration.rss_hf & RTE_ETH_RSS_NONFRAG_IPV6_UDP) != 0;
  if (info.reta_size == 0 || !(v4 || v6)) return {};
  std::vector<rte_eth_rss_reta_entry64> groups((info.reta_size + RTE_ETH_RETA_GROUP_SIZE - 1) / RTE_ETH_RETA_GROUP_SIZE);
  for (rte_eth_rss_reta_entry64& group : groups) group.mask = UINT64_MAX;
  if (rte_eth_dev_rss_reta_query(port, groups.data(), info.reta_size) != 0) return {};
  std::vector<uint16_t> table(info.reta_size);
  for (size_t i = 0; i < table.size(); ++i) table[i] = groups[i / RTE_ETH_RETA_GROUP_SIZE].reta[i % RTE_ETH_RETA_GROUP_SIZE];
  return RssMap(std::move(key), std::move(table), v4, v6);
}

std::optional<uint32_t> RssMap::queueOf(const SockAddr& source, const SockAddr& destination) const {
  const net::IpAddress from = net::IpAddress::of(source);
  const net::IpAddress to = net::IpAddress::of(destination);
  if (from.family != to.family || !(from.isV6() ? v6_ : v4_)) return {};
  // Both addresses, then both ports, as they are on the wire.
  std::array<uint32_t, 9> input{};
  uint32_t words = 0;
  for (const net::IpAddress* address : {&from, &to}) {
    for (size_t at = 0; at < (from.isV6() ? 16U : 4U); at += 4) input[words++] = wordAt(&address->bytes[at]);
  }
  input[words++] = uint32_t{source.port()} << 16 | destination.port();
  return table_[rte_softrss(input.data(), words, key_.data()) % table_.size()];
}

}  // namespace outrigger::io::dpdk
