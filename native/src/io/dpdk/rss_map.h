// SPDX-License-Identifier: Apache-2.0
// Which receive queue a port's hash picks: receive side scaling by Toeplitz over addresses and UDP ports, with the port's own key and table.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "io/datagram_io.h"
#include "io/dpdk/dpdk_headers.h"

namespace outrigger::io::dpdk {

class RssMap {
 public:
  static constexpr size_t kKeyLength = 40;  // bytes: for the longest input, IPv6 with ports; longer keys begin alike

  // `table`: queue by the low bits of the hash. `v4`, `v6`: whether ports are part of the hash of that family's datagrams.
  RssMap(std::vector<uint8_t> key, std::vector<uint16_t> table, bool v4, bool v6)
      : key_(std::move(key)), table_(std::move(table)), v4_(v4), v6_(v6) {}
  // As the port is set up now. None where the driver does not tell, the hash is another one, or ports have no part in it.
  static std::optional<RssMap> of(uint16_t port, const rte_eth_dev_info& info);

  std::optional<uint32_t> queueOf(const SockAddr& source, const SockAddr& destination) const;

 private:
  std::vector<uint8_t> key_;
  std::vector<uint16_t> table_;
  bool v4_;
  bool v6_;
};

}  // namespace outrigger::io::dpdk
