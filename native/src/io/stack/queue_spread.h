// SPDX-License-Identifier: Apache-2.0
// Source ports by the device's hash (RSS): what is sent back to an endpoint arrives on the queue that the hash of addresses and ports picks, so an
// endpoint whose port may be any gets one that puts its answers on the queue with the fewest such endpoints. Control threads.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "io/frame/frame_io.h"
#include "io/posix/udp_endpoint.h"
#include "net/ip_address.h"

namespace outrigger::io {

class QueueSpread {
 public:
  static constexpr int32_t kNone = -1;

  explicit QueueSpread(const FrameIo& device) : device_(device), uses_(device.caps().queues) {}

  // Opens sockets until one has such a port. `source` tells the address that the endpoint sends from, unspecified where that is not known; it is asked
  // where there is a choice. `queue`: that which the port is on, kNone where the device does not tell or the port is given; goes to forget() with the
  // endpoint.
  Result<std::unique_ptr<UdpEndpoint>> open(const EndpointConfig& config, const UdpSocketOptions& options,
                                            const std::function<net::IpAddress()>& source, int32_t& queue);
  void forget(int32_t queue);

 private:
  // Each hits the queue that is wanted one time in as many as there are queues.
  static constexpr int kTrials = 64;

  uint32_t leastUsed() const;

  const FrameIo& device_;
  mutable std::mutex mutex_;
  std::vector<uint32_t> uses_;  // endpoints, by queue
};

}  // namespace outrigger::io
