// SPDX-License-Identifier: Apache-2.0
#include "io/stack/queue_spread.h"

#include <sys/socket.h>

#include <algorithm>

#include "net/ip_address.h"

namespace outrigger::io {
namespace {

// The address from which the kernel sends to `peer`; without a family where it has no route.
SockAddr sourceTowards(const SockAddr& peer) {
  SockAddr source;
  const UniqueFd probe(::socket(peer.family(), SOCK_DGRAM | SOCK_CLOEXEC, 0));
  source.length = sizeof(source.storage);
  if (!probe.valid() || ::connect(probe.get(), peer.get(), peer.length) != 0 ||
      ::getsockname(probe.get(), reinterpret_cast<sockaddr*>(&source.storage), &source.length) != 0) {
    return {};
  }
  return source;
}

}  // namespace

Result<std::unique_ptr<UdpEndpoint>> QueueSpread::open(const EndpointConfig& config, const UdpSocketOptions& options, int32_t& queue) {
  queue = kNone;
  const bool free = config.bindAddress.port() == 0 && config.predecessor == nullptr && config.peer.port() != 0;
  if (!free || uses_.size() < 2) return UdpEndpoint::open(config, options);
  SockAddr local = config.bindAddress;
  if (net::IpAddress::of(local).unspecified()) local = sourceTowards(config.peer);
  if (local.family() != config.peer.family()) return UdpEndpoint::open(config, options);
  const uint32_t wanted = leastUsed();
  // Those that are elsewhere are kept meanwhile, so that none of their ports is tried again.
  std::vector<std::unique_ptr<UdpEndpoint>> others;
  for (int trial = 0; trial < kTrials; ++trial) {
    auto opened = UdpEndpoint::open(config, options);
    if (!opened && others.empty()) return opened;
    if (!opened) break;
    local.setPort((*opened)->localAddress().port());
    const std::optional<uint32_t> found = device_.queueOf(config.peer, local);
    if (!found || *found >= uses_.size()) return opened;
    if (*found == wanted) {
      const std::lock_guard lock(mutex_);
      ++uses_[wanted];
      queue = static_cast<int32_t>(wanted);
      return opened;
    }
    others.push_back(opened.take());
  }
  return std::move(others.front());
}

void QueueSpread::forget(int32_t queue) {
  if (queue == kNone) return;
  const std::lock_guard lock(mutex_);
  --uses_[static_cast<size_t>(queue)];
}

uint32_t QueueSpread::leastUsed() const {
  const std::lock_guard lock(mutex_);
  return static_cast<uint32_t>(std::min_element(uses_.begin(), uses_.end()) - uses_.begin());
}

}  // namespace outrigger::io
