// SPDX-License-Identifier: Apache-2.0
// GIDs of RoCE v2 and the route header before a received datagram, as IP addresses and back.
#pragma once

#include <optional>
#include <span>
#include <string>

#include "io/verbs/rdma_port.h"
#include "net/ip_address.h"

namespace outrigger::io::verbs {

Gid gidOf(const net::IpAddress& address);
net::IpAddress addressOf(const Gid& gid);
std::string gidText(const Gid& gid);  // "::ffff:10.0.0.1"

struct RouteAddresses {
  net::IpAddress source;
  net::IpAddress destination;
};

// Empty: neither an IPv6 nor an IPv4 header.
std::optional<RouteAddresses> readRouteHeader(std::span<const uint8_t, kRouteHeaderLength> header);

}  // namespace outrigger::io::verbs
