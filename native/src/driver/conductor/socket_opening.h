// SPDX-License-Identifier: Apache-2.0
// Opening the socket of a channel: the port of one with port 0 comes from the configured range, or from the kernel. Resource agent.
#pragma once

#include <memory>

#include "driver/driver_config.h"
#include "io/datagram_io.h"
#include "net/channel_uri.h"

namespace outrigger::driver {

// Fails as openEndpoint does; with a range, when each port of it is in use, naming the range.
Result<std::unique_ptr<io::Endpoint>> openSocket(io::DatagramIo& io, const io::EndpointConfig& config, const PortRange& ports);

// The endpoint= of a channel is a host name, not an address.
bool isNamed(const net::ChannelUri& uri);

}  // namespace outrigger::driver
