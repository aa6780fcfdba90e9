// SPDX-License-Identifier: Apache-2.0
// The change of all sockets and next hops of an agent at once, from one backend to another: made by the conductor, applied by the agent
// between two duty cycles, taken back by the conductor with what was there before.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "driver/endpoints.h"
#include "io/datagram_io.h"

namespace outrigger::driver {

struct SendEndpointMove {
  SendChannelEndpoint* endpoint = nullptr;
  std::unique_ptr<io::Endpoint> socket;  // the new one; afterwards the old one, and so for all that follow
  std::unique_ptr<io::NextHop> nextHop;  // unicast
  std::vector<std::pair<MdcDestination*, std::unique_ptr<io::NextHop>>> destinations;
};

struct ReceiveEndpointMove {
  ReceiveChannelEndpoint* endpoint = nullptr;
  std::unique_ptr<io::Endpoint> socket;
};

// `to` may be the instance that the agent has: then only these endpoints change.
template <typename Move>
struct BackendSwitch {
  io::DatagramIo* to = nullptr;
  std::vector<Move> moves;
};
using SenderSwitch = BackendSwitch<SendEndpointMove>;
using ReceiverSwitch = BackendSwitch<ReceiveEndpointMove>;

// Bursts that an agent still takes from the old instance before it lets it go: what waits there need not be repaired.
constexpr int32_t kDrainPolls = 64;

// Lets `from` go of an endpoint's socket and has `to` serve the new one, for the same sink.
inline void exchangeSockets(io::DatagramIo& from, io::DatagramIo& to, std::unique_ptr<io::Endpoint>& current,
                            std::unique_ptr<io::Endpoint>& other) {
  from.detach(*current);
  other->user = std::exchange(current->user, nullptr);
  std::swap(current, other);
  to.attach(*current);
}

}  // namespace outrigger::driver
