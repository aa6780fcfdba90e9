// SPDX-License-Identifier: Apache-2.0
// Ports of a range, tried in order.
#include "driver/conductor/socket_opening.h"

#include "io/posix/port_holder.h"
#include "net/udp_channel.h"

namespace outrigger::driver {

Result<std::unique_ptr<io::Endpoint>> openSocket(io::DatagramIo& io, const io::EndpointConfig& config, const PortRange& ports) {
  if (config.bindAddress.port() != 0 || ports.low == 0) return io.openEndpoint(config);
  const io::PortTrial trial;
  io::EndpointConfig attempt = config;
  for (int32_t port = ports.low; port <= ports.high; ++port) {
    attempt.bindAddress.setPort(static_cast<uint16_t>(port));
    auto opened = io.openEndpoint(attempt);
    if (opened || opened.error().sysErrno != EADDRINUSE) return opened;
  }
  return makeError(ErrorCode::kChannelEndpointError, "UDP endpoint " + config.bindAddress.toString() + ": every port from " +
                                                         std::to_string(ports.low) + " to " + std::to_string(ports.high) +
                                                         " is in use; widen the wildcard port range");
}

bool isNamed(const net::ChannelUri& uri) {
  auto hostPort = net::splitHostPort(uri.get("endpoint"));
  if (!hostPort) return false;
  const std::string& host = hostPort->first;
  const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  return !io::SockAddr::parseNumeric(bracketed ? host.substr(1, host.size() - 2) : host, hostPort->second).ok();
}

}  // namespace outrigger::driver
