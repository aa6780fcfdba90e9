// SPDX-License-Identifier: Apache-2.0
// Longest prefix over a handful of routes; see the header.
#include "net/fixed_tables.h"

#include <algorithm>
#include <charconv>

namespace outrigger::net {
namespace {

struct Prefix {
  IpAddress address;
  uint8_t length = 0;
};

Result<Prefix> parsePrefix(const std::string& text) {
  const size_t slash = text.find('/');
  auto address = io::SockAddr::parseNumeric(text.substr(0, slash), 0);
  if (!address) return address.error();
  Prefix prefix{IpAddress::of(*address), 0};
  const uint32_t longest = prefix.address.length() * 8;
  uint32_t length = longest;
  if (slash != std::string::npos) {
    const char* end = text.data() + text.size();
    const auto [at, error] = std::from_chars(text.data() + slash + 1, end, length);
    if (error != std::errc() || at != end || length > longest) {
      return makeError(ErrorCode::kGeneric,
                       "'" + text + "' has no prefix length from 0 to " + std::to_string(longest) + " behind the slash");
    }
  }
  prefix.length = static_cast<uint8_t>(length);
  return prefix;
}

}  // namespace

Result<void> FixedTables::add(const std::string& network, const std::string& gateway, uint32_t mtu, bool unreachable) {
  auto prefix = parsePrefix(network);
  if (!prefix) return prefix.error();
  FixedRoute route{prefix->address, prefix->length, {}, mtu, unreachable};
  if (!gateway.empty()) {
    auto address = io::SockAddr::parseNumeric(gateway, 0);
    if (!address) return address.error();
    route.gateway = IpAddress::of(*address);
  }
  const std::lock_guard lock(mutex_);
  routes_.push_back(route);
  std::stable_sort(routes_.begin(), routes_.end(),
                   [](const FixedRoute& a, const FixedRoute& b) { return a.prefixLength > b.prefixLength; });
  answerAll();
  return {};
}

Result<void> FixedTables::addAddress(const std::string& addressAndPrefix) {
  auto prefix = parsePrefix(addressAndPrefix);
  if (!prefix) return prefix.error();
  {
    const std::lock_guard lock(mutex_);
    addresses_.push_back({prefix->address, interfaceIndex_, prefix->length});
    published_.publish(addresses_);
  }
  return add(addressAndPrefix, "", 0, false);
}

Result<void> FixedTables::addRoute(const std::string& network, const std::string& gateway, uint32_t mtu) {
  return add(network, gateway, mtu, false);
}

Result<void> FixedTables::addUnreachable(const std::string& network) { return add(network, "", 0, true); }

void FixedTables::setMtu(uint32_t mtu) {
  const std::lock_guard lock(mutex_);
  mtu_ = mtu;
  answerAll();
}

Result<void> FixedTables::setNeighbour(const std::string& address, const std::array<uint8_t, 6>& mac, NeighbourState state) {
  auto parsed = io::SockAddr::parseNumeric(address, 0);
  if (!parsed) return parsed.error();
  const std::lock_guard lock(mutex_);
  neighbours_[IpAddress::of(*parsed).toString()] = {mac, state};
  answerAll();
  return {};
}

RouteAnswer FixedTables::answer(const RouteQuestion& question) const {
  RouteAnswer answer;
  answer.question = question.number;
  if (question.destination.family == AF_UNSPEC) return answer;
  const auto isOurs = [](const std::vector<LocalAddress>& all, const IpAddress& address) {
    return std::any_of(all.begin(), all.end(), [&](const LocalAddress& each) { return each.address == address; });
  };
  if (isOurs(addresses_, question.destination)) {
    answer.route = RouteState::kLocal;
    return answer;
  }
  const auto route = std::find_if(routes_.begin(), routes_.end(),
                                  [&](const FixedRoute& each) { return question.destination.inPrefix(each.network, each.prefixLength); });
  if (route == routes_.end() || route->unreachable) {
    answer.route = RouteState::kUnreachable;
    return answer;
  }
  answer.route = RouteState::kForward;
  answer.interfaceIndex = interfaceIndex_;
  answer.mtu = route->mtu == 0 ? mtu_ : std::min(mtu_, route->mtu);
  answer.nextHop = route->gateway.family != AF_UNSPEC ? route->gateway : question.destination;
  answer.source = question.source;
  if (question.source.family != question.destination.family || question.source.unspecified()) {
    // The address whose prefix the next hop lies in, else the first of the family.
    const LocalAddress* best = nullptr;
    for (const LocalAddress& each : addresses_) {
      if (each.address.family != question.destination.family) continue;
      if (best == nullptr || answer.nextHop.inPrefix(each.address, each.prefixLength)) best = &each;
    }
    if (best != nullptr) answer.source = best->address;
  }
  if (const auto found = neighbours_.find(answer.nextHop.toString()); found != neighbours_.end()) {
    answer.neighbour = found->second.state;
    answer.mac = found->second.mac;
  }
  return answer;
}

void FixedTables::answerAll() {
  for (RouteCell* cell : cells_) cell->answer.store(answer(cell->question.load()));
}

RouteAnswer FixedTables::lookup(const RouteQuestion& question) {
  const std::lock_guard lock(mutex_);
  return answer(question);
}

void FixedTables::watch(RouteCell& cell) {
  const std::lock_guard lock(mutex_);
  cells_.insert(&cell);
  cell.answer.store(answer(cell.question.load()));
}

void FixedTables::forget(RouteCell& cell) {
  const std::lock_guard lock(mutex_);
  cells_.erase(&cell);
}

void FixedTables::refresh(RouteCell& cell) {
  const std::lock_guard lock(mutex_);
  if (!cells_.contains(&cell)) return;
  const RouteQuestion question = cell.question.load();
  // The same question has the same answer until something is set.
  if (cell.answer.load().question != question.number) cell.answer.store(answer(question));
}

}  // namespace outrigger::net
