// SPDX-License-Identifier: Apache-2.0
// A kernel UDP socket as an Endpoint, and the next hop of socket backends. Opening and options only: no data moves here.
#pragma once

#include <cstddef>
#include <memory>

#include "base/fd.h"
#include "base/result.h"
#include "io/datagram_io.h"

namespace outrigger::io {

struct UdpSocketOptions {
  bool coalescing = false;  // UDP_GRO
  int32_t busyPollUs = 0;
  bool freeBind = false;       // IP_FREEBIND: the address need not be one of this host's
  bool receiveErrors = false;  // IP_RECVERR: ICMP errors are queued with the address that they are about
  bool arrival = false;        // each datagram tells by which interface it came, and whether in fragments or with options
  bool countDrops = true;      // SO_RXQ_OVFL: off where a socket filter drops, since the kernel counts that as the same
};

class UdpEndpoint : public Endpoint {
 public:
  static constexpr size_t kNotAttached = SIZE_MAX;

  // Opens, configures and binds, or takes the predecessor's socket over. Fails with kChannelEndpointError naming the address and the
  // option or call that failed.
  static Result<std::unique_ptr<UdpEndpoint>> open(const EndpointConfig& config, const UdpSocketOptions& options);
  // The same for one that a backend derived.
  static Result<void> openInto(UdpEndpoint& endpoint, const EndpointConfig& config, const UdpSocketOptions& options);

  const SockAddr& localAddress() const final { return localAddress_; }
  int32_t receiveBufferBytes() const final { return receiveBufferBytes_; }
  int32_t sendBufferBytes() const final { return sendBufferBytes_; }
  int socketFd() const final { return fd_.get(); }
  int fd() const { return fd_.get(); }

  // Takes the socket's running total of dropped datagrams (32 bits, wraps) and adds what is new to the statistics.
  void noteQueueDrops(uint32_t total) {
    const uint32_t fresh = total - lastQueueDrops_;
    lastQueueDrops_ = total;
    if (fresh != 0) stats.receiveQueueDrops.fetch_add(fresh, std::memory_order_relaxed);
  }

  size_t attachIndex = kNotAttached;  // owner thread: place in the instance's list of attached endpoints

 private:
  UniqueFd fd_;
  UniqueFd sign_;
  SockAddr localAddress_;
  int32_t receiveBufferBytes_ = 0;
  int32_t sendBufferBytes_ = 0;
  uint32_t lastQueueDrops_ = 0;
};

class UdpNextHop final : public NextHop {
 public:
  explicit UdpNextHop(const SockAddr& address) : NextHop(address) {}
};

}  // namespace outrigger::io
