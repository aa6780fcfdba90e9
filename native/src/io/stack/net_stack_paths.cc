// SPDX-License-Identifier: Apache-2.0
// Paths: what is asked of the tables, what becomes of an answer, and the small table of paths that control frames take to wherever they answer.
#include <algorithm>

#include "io/stack/net_stack.h"

namespace outrigger::io {
namespace {

// Places that a control destination may take in the table.
constexpr uint32_t kProbes = 8;
// A destination that was not sent to for this long gives its place away: twice the interval at which an idle stream still speaks.
constexpr int64_t kPathIdleNs = 10'000'000'000;

uint32_t scopeOf(const SockAddr& address) {
  return address.isV6() ? reinterpret_cast<const sockaddr_in6*>(&address.storage)->sin6_scope_id : 0;
}

}  // namespace

net::RouteQuestion NetStack::questionOf(const SockAddr& destination, const net::IpAddress& source) const {
  net::RouteQuestion question;
  question.scopeInterface = scopeOf(destination);
  question.deviceInterface = device_->caps().interfaceIndex;
  question.destination = net::IpAddress::of(destination);
  question.source = source;
  return question;
}

net::IpAddress NetStack::sourceOf(const EndpointConfig& config) {
  const net::IpAddress bound = net::IpAddress::of(config.bindAddress);
  return bound.unspecified() ? tables_->lookup(questionOf(config.peer, bound)).source : bound;
}

void NetStack::ask(Path& path, const StackEndpoint& endpoint, const SockAddr& destination) const {
  path.destination = destination;
  path.destinationIp = net::IpAddress::of(destination);
  path.endpointId = endpoint.id();
  path.cellVersion = UINT64_MAX;
  path.lastKernelNs = 0;
  net::RouteQuestion question = questionOf(destination, endpoint.ip());
  question.number = ++path.question;
  path.cell.question.store(question);
}

void NetStack::refreshPath(Path& path, const StackEndpoint& endpoint) {
  if (!path.cell.used.load(std::memory_order_relaxed)) {
    path.cell.used.store(true, std::memory_order_relaxed);
    tables_->refresh(path.cell);
  }
  path.lastUsedNs = nowNs_;
  if (path.neighbour != NeighbourTable::kNone) {
    // The place may have gone to another address while this path lay idle.
    if (neighbours_.at(path.neighbour).address == path.nextHop && neighbours_.at(path.neighbour).state != NeighbourTable::State::kFree) {
      neighbours_.touch(path.neighbour, nowNs_);
    } else {
      path.stackVersion = 0;
    }
  }
  if (path.cell.answer.version() == path.cellVersion && path.stackVersion == version_) return;
  net::RouteAnswer answer;
  if (!path.cell.answer.tryLoad(answer, path.cellVersion)) return;  // being written: what was right a moment ago will do
  path.stackVersion = version_;
  rebuildPath(path, endpoint, answer);
}

void NetStack::rebuildPath(Path& path, const StackEndpoint& endpoint, const net::RouteAnswer& answer) {
  stats_.add(StackCounter::kPathChanges);
  const FrameCaps& device = device_->caps();
  path.confirm = false;
  path.maxPayload = 0;
  path.neighbour = NeighbourTable::kNone;
  path.pathMtu = answer.mtu;
  // Whatever is not ours to send the kernel sends, and says so when it can't either.
  path.state = device.kernelOwnsDevice ? PathState::kKernel : PathState::kNeighbour;
  if (answer.question != path.question || answer.route == net::RouteState::kUnknown) return;
  if (answer.route != net::RouteState::kForward || answer.interfaceIndex != device.interfaceIndex ||
      answer.source.family != path.destinationIp.family || answer.source.unspecified()) {
    if (!device.kernelOwnsDevice) path.state = answer.route == net::RouteState::kLocal ? PathState::kOurselves : PathState::kNowhere;
    return;
  }
  FlowAddresses flow;
  flow.destinationMac = answer.mac;
  if (answer.neighbour == net::NeighbourState::kMissing) {
    path.state = PathState::kNeighbour;
    if (device.kernelOwnsDevice) return;
    path.nextHop = answer.nextHop;
    path.neighbour = neighbours_.want(answer.nextHop, nowNs_);
    if (path.neighbour == NeighbourTable::kNone) return;
    const NeighbourTable::Entry& entry = neighbours_.at(path.neighbour);
    neighbourWanted_ |= entry.state == NeighbourTable::State::kIncomplete;
    if (entry.state == NeighbourTable::State::kIncomplete) return;
    flow.destinationMac = entry.mac;
  }
  flow.sourceMac = link_.mac;
  flow.vlan = options_.vlan;
  flow.source = answer.source;
  flow.destination = path.destinationIp;
  flow.sourcePort = endpoint.port();
  flow.destinationPort = path.destination.port();
  flow.hopLimit = endpoint.hopLimit();
  path.header.build(flow);
  const uint32_t mtu = pathMtus_.limit(path.destinationIp, answer.mtu == 0 ? link_.mtu : std::min(answer.mtu, link_.mtu), nowNs_);
  path.pathMtu = mtu;
  const uint32_t longest = device.transmitBufferLength * std::max<uint32_t>(device.maxTransmitPieces, 1);
  if (mtu <= path.header.ipOverhead() || longest <= path.header.length()) return;  // too narrow for anything: the kernel's answer counts
  path.maxPayload = std::min(mtu - path.header.ipOverhead(), longest - path.header.length());
  path.confirm = answer.neighbour == net::NeighbourState::kStale;
  path.state = PathState::kDevice;
}

Path* NetStack::controlPath(StackEndpoint& endpoint, const SockAddr& destination) {
  const uint64_t hash = destination.hash() ^ (endpoint.id() * 0x9E3779B97F4A7C15ULL);
  Path* oldest = nullptr;
  for (uint32_t i = 0; i < kProbes; ++i) {
    Path& path = controlPaths_[(hash + i) % kControlPaths];
    if (path.endpointId == endpoint.id() && path.destination == destination) return &path;
    if (oldest == nullptr || (oldest->endpointId != 0 && (path.endpointId == 0 || path.lastUsedNs < oldest->lastUsedNs))) oldest = &path;
  }
  if (oldest->endpointId != 0 && nowNs_ - oldest->lastUsedNs < kPathIdleNs) return nullptr;
  ask(*oldest, endpoint, destination);
  oldest->cell.used.store(true, std::memory_order_relaxed);
  tables_->refresh(oldest->cell);
  return oldest;
}

void NetStack::forgetControlPaths(const StackEndpoint& endpoint) {
  for (uint32_t i = 0; i < kControlPaths; ++i) {
    Path& path = controlPaths_[i];
    if (path.endpointId != endpoint.id()) continue;
    path.endpointId = 0;
    net::RouteQuestion nothing;
    nothing.number = ++path.question;
    path.cell.question.store(nothing);
    tables_->refresh(path.cell);
  }
}

void NetStack::enlist(Path& path) {
  const std::lock_guard lock(hopsMutex_);
  hops_.push_back({path.destinationIp, &path.cell});
}

void NetStack::delist(Path& path) {
  const std::lock_guard lock(hopsMutex_);
  std::erase_if(hops_, [&](const Hop& hop) { return hop.cell == &path.cell; });
}

bool NetStack::refreshRoutesTo(const net::IpAddress& destination) {
  bool any = false;
  for (uint32_t i = 0; i < kControlPaths; ++i) {
    Path& path = controlPaths_[i];
    if (path.endpointId == 0 || !(path.destinationIp == destination)) continue;
    tables_->refresh(path.cell);
    any = true;
  }
  const std::unique_lock lock(hopsMutex_, std::try_to_lock);
  if (!lock) return true;
  for (const Hop& hop : hops_) {
    if (!(hop.destination == destination)) continue;
    tables_->refresh(*hop.cell);
    any = true;
  }
  return any;
}

}  // namespace outrigger::io
