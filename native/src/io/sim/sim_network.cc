// SPDX-License-Identifier: Apache-2.0
// SimNetwork: who has which address, what a link does to a datagram, and delivery in order of time.
#include "io/sim/sim_network.h"

#include <algorithm>
#include <limits>

#include "io/sim/sim_io.h"

namespace outrigger::io {
namespace {

constexpr uint64_t kFnvPrime = 0x100000001B3ULL;
constexpr int64_t kNsPerSecond = 1'000'000'000;

bool sameHostPart(const SockAddr& a, const SockAddr& b) {
  SockAddr left = a;
  SockAddr right = b;
  left.setPort(0);
  right.setPort(0);
  return left == right;
}

bool isLoopback(const SockAddr& address) {
  if (address.isV6()) return IN6_IS_ADDR_LOOPBACK(&reinterpret_cast<const sockaddr_in6*>(&address.storage)->sin6_addr) != 0;
  return ntohl(reinterpret_cast<const sockaddr_in*>(&address.storage)->sin_addr.s_addr) >> 24 == 127;
}

bool isWildcard(const SockAddr& address) {
  if (address.isV6()) return IN6_IS_ADDR_UNSPECIFIED(&reinterpret_cast<const sockaddr_in6*>(&address.storage)->sin6_addr) != 0;
  return reinterpret_cast<const sockaddr_in*>(&address.storage)->sin_addr.s_addr == 0;
}

SockAddr loopbackOf(const SockAddr& address) { return SockAddr::parseNumeric(address.isV6() ? "::1" : "127.0.0.1", address.port()).take(); }

}  // namespace

SimNetwork::SimNetwork(const SimOptions& options) : options_(options) {}
SimNetwork::~SimNetwork() = default;

Result<uint32_t> SimNetwork::hostOf(const std::string& name) {
  for (uint32_t i = 0; i < hosts_.size(); ++i) {
    if (hosts_[i].name == name) return i;
  }
  Host host;
  host.name = name;
  size_t begin = 0;
  while (begin <= name.size()) {
    const size_t end = std::min(name.find(',', begin), name.size());
    auto address = SockAddr::parseNumeric(name.substr(begin, end - begin), 0);
    if (!address) return makeError(ErrorCode::kGeneric, "simulated host '" + name + "': " + address.error().message);
    for (const Host& other : hosts_) {
      for (const SockAddr& taken : other.addresses) {
        if (taken == *address) {
          return makeError(ErrorCode::kGeneric, "simulated host '" + name + "' shares an address with host '" + other.name + "'");
        }
      }
    }
    host.addresses.push_back(address.take());
    begin = end + 1;
  }
  hosts_.push_back(std::move(host));
  return static_cast<uint32_t>(hosts_.size() - 1);
}

Result<std::unique_ptr<DatagramIo>> SimNetwork::createIo(const std::string& host) {
  auto index = hostOf(host);
  if (!index) return index.error();
  return std::unique_ptr<DatagramIo>(std::make_unique<SimIo>(*this, *index));
}

SimNetwork::LinkState& SimNetwork::link(uint32_t from, uint32_t to) {
  const auto key = std::make_pair(from, to);
  auto found = links_.find(key);
  if (found == links_.end()) {
    // Each direction draws from a sequence of its own: traffic elsewhere does not change what happens here.
    Random seeder(options_.seed ^ (static_cast<uint64_t>(from) << 32 | to));
    found = links_.emplace(key, LinkState{from == to ? options_.loopback : options_.link, Random(seeder.next()), true}).first;
  }
  return found->second;
}

Result<void> SimNetwork::setLink(const std::string& from, const std::string& to, const SimLink& config) {
  auto source = hostOf(from);
  if (!source) return source.error();
  auto target = hostOf(to);
  if (!target) return target.error();
  LinkState& state = link(*source, *target);
  state.config = config;
  state.isDefault = false;
  return {};
}

Result<void> SimNetwork::setLinkBoth(const std::string& a, const std::string& b, const SimLink& config) {
  if (auto r = setLink(a, b, config); !r) return r;
  return setLink(b, a, config);
}

void SimNetwork::setDefaultLink(const SimLink& config) {
  options_.link = config;
  for (auto& [key, state] : links_) {
    if (state.isDefault && key.first != key.second) state.config = config;
  }
}

Result<std::unique_ptr<Endpoint>> SimNetwork::open(uint32_t host, const EndpointConfig& config) {
  Host& owner = hosts_[host];
  SockAddr local = config.bindAddress;
  const auto failed = [&](const std::string& what, int err) {
    return makeError(ErrorCode::kChannelEndpointError, "UDP endpoint " + config.bindAddress.toString() + ": " + what, err);
  };
  if (local.family() != AF_INET && local.family() != AF_INET6) return failed("the bind address has no IPv4 or IPv6 family", 0);
  const bool owned =
      std::any_of(owner.addresses.begin(), owner.addresses.end(), [&](const SockAddr& address) { return sameHostPart(address, local); });
  if (!owned && !isWildcard(local) && !isLoopback(local)) {
    return failed("cannot bind: simulated host '" + owner.name + "' does not have this address", EADDRNOTAVAIL);
  }
  const auto taken = [&](const SockAddr& address) {
    return std::any_of(endpoints_.begin(), endpoints_.end(), [&](const SimEndpoint* other) {
      const SockAddr& used = other->localAddress();
      return other != config.predecessor && other->host() == host && used.port() == address.port() && used.family() == address.family() &&
             (sameHostPart(used, address) || isWildcard(used) || isWildcard(address));
    });
  };
  if (local.port() == 0) {
    do {
      local.setPort(owner.nextEphemeralPort);
      owner.nextEphemeralPort = owner.nextEphemeralPort == 60999 ? 32768 : static_cast<uint16_t>(owner.nextEphemeralPort + 1);
    } while (taken(local));
  } else if (taken(local)) {
    return failed("cannot bind: another endpoint of simulated host '" + owner.name + "' holds this port; choose another", EADDRINUSE);
  }
  auto endpoint = std::make_unique<SimEndpoint>(
      *this, host, local, config.receiveBufferBytes > 0 ? config.receiveBufferBytes : options_.defaultSocketBufferBytes,
      config.sendBufferBytes > 0 ? config.sendBufferBytes : options_.defaultSocketBufferBytes);
  endpoints_.push_back(endpoint.get());
  return std::unique_ptr<Endpoint>(std::move(endpoint));
}

void SimNetwork::close(SimEndpoint& endpoint) { std::erase(endpoints_, &endpoint); }

SimEndpoint* SimNetwork::find(uint32_t host, const SockAddr& address) const {
  SimEndpoint* any = nullptr;
  // The last one first: it may have taken the port of an earlier one over.
  for (size_t i = endpoints_.size(); i-- > 0;) {
    SimEndpoint* endpoint = endpoints_[i];
    const SockAddr& local = endpoint->localAddress();
    if (endpoint->host() != host || local.port() != address.port() || local.family() != address.family()) continue;
    if (sameHostPart(local, address)) return endpoint;
    if (any == nullptr && isWildcard(local)) any = endpoint;
  }
  return any;
}

TxStatus SimNetwork::send(SimEndpoint& from, const SockAddr& destination, const uint8_t* data, uint32_t length) {
  if (length > options_.maxDatagramBytes) {
    from.stats.sendErrors.fetch_add(1, std::memory_order_relaxed);
    return TxStatus::kTooLong;
  }
  uint32_t toHost = from.host();
  bool known = isLoopback(destination);
  for (uint32_t i = 0; i < hosts_.size() && !known; ++i) {
    for (const SockAddr& address : hosts_[i].addresses) {
      if (!sameHostPart(address, destination)) continue;
      toHost = i;
      known = true;
    }
  }
  if (!known) {
    ++stats_.unroutable;
    from.stats.sendErrors.fetch_add(1, std::memory_order_relaxed);
    return TxStatus::kUnreachable;
  }
  LinkState& state = link(from.host(), toHost);
  int64_t departureNs = nowNs_;
  if (state.config.bytesPerSecond > 0) {
    const int64_t backlogNs = std::max<int64_t>(0, from.sendBusyUntilNs - nowNs_);
    const auto backlogBytes =
        static_cast<int64_t>(static_cast<double>(backlogNs) * static_cast<double>(state.config.bytesPerSecond) / kNsPerSecond);
    // An empty buffer takes one datagram of any length, as a socket does.
    if (backlogBytes > 0 && backlogBytes + length > from.sendBufferBytes()) return TxStatus::kWouldBlock;
    departureNs = nowNs_ + backlogNs + static_cast<int64_t>(length) * kNsPerSecond / state.config.bytesPerSecond;
    from.sendBusyUntilNs = departureNs;
  }
  ++stats_.sent;
  if (state.config.partitioned) {
    ++stats_.partitionDrops;
    return TxStatus::kSent;
  }
  if (state.random.chance(state.config.loss)) {
    ++stats_.lost;
    return TxStatus::kSent;
  }
  launch(state, from, toHost, destination, data, length, departureNs);
  if (state.random.chance(state.config.duplicate)) {
    ++stats_.duplicated;
    launch(state, from, toHost, destination, data, length, departureNs);
  }
  return TxStatus::kSent;
}

void SimNetwork::launch(LinkState& state, const SimEndpoint& from, uint32_t toHost, const SockAddr& destination, const uint8_t* data,
                        uint32_t length, int64_t departureNs) {
  if (freeFlights_.empty()) {
    flightPool_.push_back(std::make_unique<Flight>());
    freeFlights_.push_back(flightPool_.back().get());
  }
  Flight* flight = freeFlights_.back();
  freeFlights_.pop_back();
  flight->arrivalNs = departureNs + state.config.delayNs +
                      static_cast<int64_t>(state.random.below(static_cast<uint64_t>(std::max<int64_t>(0, state.config.jitterNs))));
  if (state.random.chance(state.config.reorder)) {
    ++stats_.reordered;
    flight->arrivalNs += state.config.reorderDelayNs;
  }
  flight->sequence = nextSequence_++;
  flight->toHost = toHost;
  flight->destination = destination;
  flight->source = from.localAddress();
  if (isWildcard(flight->source)) {
    // As a kernel does: loopback talks from the loopback address, anything else from the host's first of that family.
    SockAddr chosen = loopbackOf(flight->source);
    if (!isLoopback(destination)) {
      for (const SockAddr& address : hosts_[from.host()].addresses) {
        if (address.family() != destination.family()) continue;
        chosen = address;
        break;
      }
    }
    chosen.setPort(from.localAddress().port());
    flight->source = chosen;
  }
  flight->bytes.assign(data, data + length);
  if (length > 0 && state.random.chance(state.config.corrupt)) {
    ++stats_.corrupted;
    for (uint64_t flips = 1 + state.random.below(3); flips > 0; --flips) {
      const uint64_t bit = state.random.below(static_cast<uint64_t>(length) * 8);
      flight->bytes[bit / 8] = static_cast<uint8_t>(flight->bytes[bit / 8] ^ (1U << (bit % 8)));
    }
  }
  inFlight_.push(flight);
}

void SimNetwork::setNow(int64_t nowNs) {
  nowNs_ = std::max(nowNs_, nowNs);
  while (!inFlight_.empty() && inFlight_.top()->arrivalNs <= nowNs_) {
    Flight* flight = inFlight_.top();
    inFlight_.pop();
    deliver(*flight);
    freeFlights_.push_back(flight);
  }
}

int64_t SimNetwork::nextEventNs() const { return inFlight_.empty() ? std::numeric_limits<int64_t>::max() : inFlight_.top()->arrivalNs; }

void SimNetwork::deliver(Flight& flight) {
  SimEndpoint* endpoint = find(flight.toHost, flight.destination);
  if (endpoint == nullptr) {
    ++stats_.unroutable;
    return;
  }
  if (flight.bytes.empty()) {
    endpoint->stats.emptyDatagrams.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  if (endpoint->queuedBytes + static_cast<int64_t>(flight.bytes.size()) > endpoint->receiveBufferBytes()) {
    ++stats_.queueDrops;
    endpoint->stats.receiveQueueDrops.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  ++stats_.delivered;
  const uint64_t ports = static_cast<uint64_t>(flight.source.port()) << 16 | flight.destination.port();
  digest(&flight.arrivalNs, sizeof(flight.arrivalNs));
  digest(&ports, sizeof(ports));
  digest(flight.bytes.data(), flight.bytes.size());
  endpoint->queuedBytes += static_cast<int64_t>(flight.bytes.size());
  endpoint->queue.push_back({flight.source, flight.destination, flight.bytes});
}

// FNV-1a over words of eight bytes, the last one padded: a digest of runs, never written down.
void SimNetwork::digest(const void* data, size_t length) {
  const auto* bytes = static_cast<const uint8_t*>(data);
  for (size_t i = 0; i < length; i += sizeof(uint64_t)) {
    uint64_t word = 0;
    std::memcpy(&word, bytes + i, std::min(sizeof(word), length - i));
    traceDigest_ = (traceDigest_ ^ word) * kFnvPrime;
  }
  traceDigest_ = (traceDigest_ ^ length) * kFnvPrime;
}

}  // namespace outrigger::io
