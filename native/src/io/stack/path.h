// SPDX-License-Identifier: Apache-2.0
// The way from one endpoint to one destination: a watched question to the kernel's tables, and what the owner thread made of its answer.
#pragma once

#include <memory>

#include "io/datagram_io.h"
#include "io/stack/header_template.h"
#include "net/kernel_tables.h"

namespace outrigger::io {

class NetStack;
class StackEndpoint;

enum class PathState : uint8_t {
  kDevice,     // out of our device, with `header`
  kNeighbour,  // out of our device, once the MAC address is known
  kOurselves,  // to an endpoint of this stack, where the kernel has no loopback for it
  kKernel,     // another interface, a local address, or not known yet: through the reserved socket
  kNowhere,    // no route
};

struct Path {
  net::RouteCell cell;
  // Owner thread, except before it is given the path.
  SockAddr destination;
  net::IpAddress destinationIp;
  uint64_t endpointId = 0;  // 0: unused
  uint32_t question = 0;
  uint64_t cellVersion = 0;
  uint64_t stackVersion = 0;
  PathState state = PathState::kKernel;
  bool confirm = false;     // the kernel wants to see traffic to this neighbour
  uint32_t maxPayload = 0;  // bytes of one datagram that neither link nor path nor device is too narrow for; with kDevice
  uint32_t pathMtu = 0;
  int64_t lastKernelNs = 0;  // when a datagram went through the kernel to have the neighbour asked for or confirmed
  int64_t lastUsedNs = 0;
  net::IpAddress nextHop;  // asked for in the stack's own neighbour table, at `neighbour`
  uint32_t neighbour = UINT32_MAX;
  HeaderTemplate header;
};

class StackNextHop final : public NextHop {
 public:
  StackNextHop(std::shared_ptr<NetStack> stack, StackEndpoint& endpoint, const SockAddr& destination);
  ~StackNextHop() override;

  uint32_t longestDatagram() const override;

  Path path;

 private:
  std::shared_ptr<NetStack> stack_;
};

}  // namespace outrigger::io
