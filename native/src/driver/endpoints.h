// SPDX-License-Identifier: Apache-2.0
// Channel endpoints: one bound UDP port and the publications (send) or streams (receive) on it. Made and destroyed by the conductor.
// The maps in here belong to the owning agent (sender or receiver) and are changed by its commands only.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "cnc/counters.h"
#include "io/datagram_io.h"
#include "net/udp_channel.h"

namespace outrigger::driver {

class NetworkPublication;

// Whom a socket's datagrams are for: what io::Endpoint::user points to while it is attached. Agents that share a thread share a DatagramIo,
// and then each may poll what belongs to the other.
class TrainSink {
 public:
  virtual void onTrain(const io::RxPacket& train, int64_t nowNs) = 0;

 protected:
  ~TrainSink() = default;
};

// Gives each train of a burst to its owner; returns their bytes.
inline int64_t deliverBurst(const io::RxBurst& burst, int64_t nowNs) {
  int64_t bytes = 0;
  for (size_t i = 0; i < burst.count; ++i) {
    const io::RxPacket& train = burst.packets[i];
    if (train.endpoint == nullptr || train.endpoint->user == nullptr) continue;
    static_cast<TrainSink*>(train.endpoint->user)->onTrain(train, nowNs);
    bytes += train.length;
  }
  return bytes;
}

// A destination of a multi-destination publication's endpoint. Owned by the conductor, used by the sender in between add and release.
struct MdcDestination {
  int64_t registrationId = 0;  // manual: of the ADD_DESTINATION command; dynamic: 0
  std::unique_ptr<io::NextHop> nextHop;
  io::SockAddr address;
  bool manual = false;
  cnc::Counter heard;  // kOutriggerDestination; manual only, and invalid where counters are scarce. Written by the sender
  // Sender thread:
  int64_t receiverId = 0;  // of the last SM from there
  bool receiverIdKnown = false;
  int64_t lastActivityNs = 0;  // dynamic destinations expire 5 s after the last SM
};

class SendChannelEndpoint {
 public:
  net::UdpChannel channel;
  std::unique_ptr<io::Endpoint> socket;
  std::unique_ptr<io::NextHop> nextHop;                            // unicast (and multicast later); null for MDC
  cnc::Counter status;                                             // channel status counter
  cnc::Counter localAddress;                                       // kLocalSockaddr counter
  cnc::Counter destinationCount;                                   // kMdcDestinations, MDC only; written by the sender
  int32_t references = 0;                                          // conductor: publications on it
  std::vector<std::unique_ptr<MdcDestination>> ownedDestinations;  // conductor

  // Sender thread:
  std::vector<NetworkPublication*> publications;
  std::vector<MdcDestination*> destinations;
  bool isMdc() const { return channel.isMdcSender(); }
};

class ReceiveChannelEndpoint {
 public:
  net::UdpChannel channel;
  std::unique_ptr<io::Endpoint> socket;
  cnc::Counter status;
  cnc::Counter localAddress;
  int32_t references = 0;  // conductor: subscriptions on it
  int64_t receiverId = 0;  // unique per endpoint: identifies this receiver in SMs
  bool hasGroupTag = false;
  int64_t groupTag = 0;  // gtag= or the driver's RECEIVER_GROUP_TAG
  bool isMdcReceiver() const { return channel.control.has_value(); }
};

}  // namespace outrigger::driver
