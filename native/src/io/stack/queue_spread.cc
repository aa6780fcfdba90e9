// SPDX-License-Identifier: Apache-2.0
#include "io/stack/queue_spread.h"

#include <algorithm>

namespace outrigger::io {

Result<std::unique_ptr<UdpEndpoint>> QueueSpread::open(const EndpointConfig& config, const UdpSocketOptions& options,
                                                       const std::function<net::IpAddress()>& source, int32_t& queue) {
  queue = kNone;
  const bool free = config.bindAddress.port() == 0 && config.predecessor == nullptr && config.peer.port() != 0;
  if (!free || uses_.size() < 2) return UdpEndpoint::open(config, options);
  const net::IpAddress from = source();
  if (from.unspecified() || from.family != config.peer.family()) return UdpEndpoint::open(config, options);
  SockAddr local;
  const uint32_t wanted = leastUsed();
  // Those that are elsewhere are kept meanwhile, so that none of their ports is tried again.
  std::vector<std::unique_ptr<UdpEndpoint>> others;
  for (int trial = 0; trial < kTrials; ++trial) {
    auto opened = UdpEndpoint::open(config, options);
    if (!opened && others.empty()) return opened;
    if (!opened) break;
    from.writeTo(local, (*opened)->localAddress().port());
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
  // Not counted: it is where chance has put it.
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
