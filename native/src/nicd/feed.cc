// SPDX-License-Identifier: Apache-2.0
#include "nicd/feed.h"

#include <algorithm>
#include <cstring>

namespace outrigger::nicd {
namespace {

net::IpAddress ipOf(const Address& address) {
  if (address.family == 0) return {};
  return net::IpAddress::fromBytes(address.family == 6 ? AF_INET6 : AF_INET, address.bytes);
}

Address netAddressOf(const net::IpAddress& ip) {
  Address address;
  if (ip.family == AF_UNSPEC) return address;
  address.family = ip.isV6() ? 6 : 4;
  std::memcpy(address.bytes, ip.bytes.data(), ip.length());
  return address;
}

static_assert(static_cast<uint8_t>(FeedRoute::kUnreachable) == static_cast<uint8_t>(net::RouteState::kUnreachable));
static_assert(static_cast<uint8_t>(FeedRoute::kLocal) == static_cast<uint8_t>(net::RouteState::kLocal));
static_assert(static_cast<uint8_t>(FeedNeighbour::kStale) == static_cast<uint8_t>(net::NeighbourState::kStale));

FeedEntry entryOf(uint32_t cell, const net::RouteAnswer& answer) {
  FeedEntry entry;
  entry.kind = static_cast<uint8_t>(FeedKind::kRoute);
  entry.cell = cell;
  entry.number = answer.question;
  entry.route = static_cast<uint8_t>(answer.route);
  entry.neighbour = static_cast<uint8_t>(answer.neighbour);
  entry.interfaceIndex = answer.interfaceIndex;
  entry.mtu = answer.mtu;
  std::copy(answer.mac.begin(), answer.mac.end(), entry.mac);
  entry.address = netAddressOf(answer.source);
  entry.nextHop = netAddressOf(answer.nextHop);
  return entry;
}

}  // namespace

SessionFeed::~SessionFeed() {
  for (const auto& [number, watched] : cells_) tables_->forget(watched->cell);
}

void SessionFeed::watch(const Watch& request) {
  std::unique_ptr<Watched>& watched = cells_[request.cell];
  const bool isNew = watched == nullptr;
  if (isNew) watched = std::make_unique<Watched>();
  // The client's use is not seen here, and path MTUs are learned without a notification.
  watched->cell.alwaysUsed = true;
  net::RouteQuestion question;
  question.number = request.number;
  question.scopeInterface = request.destination.scope;
  question.deviceInterface = netdev_.index;
  question.destination = ipOf(request.destination);
  question.source = ipOf(request.source);
  watched->cell.question.store(question);
  watched->toldVersion = 0;  // an answer is due, also when it is the old one
  if (!isNew) tables_->forget(watched->cell);
  // Answers at once, and goes on.
  tables_->watch(watched->cell);
}

void SessionFeed::unwatch(uint32_t cell) {
  const auto found = cells_.find(cell);
  if (found == cells_.end()) return;
  tables_->forget(found->second->cell);
  cells_.erase(found);
}

void SessionFeed::forgetTold() {
  linkTold_ = false;
  toldAddresses_ = 0;
  for (const auto& [number, watched] : cells_) watched->toldVersion = 0;
}

void SessionFeed::collect(std::vector<FeedEntry>& entries) {
  collectLink(entries);
  collectAddresses(entries);
  for (const auto& [number, watched] : cells_) {
    const uint64_t version = watched->cell.answer.version();
    if (version == watched->toldVersion) continue;
    net::RouteAnswer answer;
    uint64_t read = 0;
    if (!watched->cell.answer.tryLoad(answer, read)) continue;  // being written: its writer rings again
    watched->toldVersion = read;
    entries.push_back(entryOf(number, answer));
  }
}

void SessionFeed::collectLink(std::vector<FeedEntry>& entries) {
  if (link_ == nullptr) {
    auto reader = io::LinkReader::open(netdev_);
    if (!reader) return;
    link_ = reader.take();
  }
  const io::LinkState state = link_->read();
  if (linkTold_ && state.generation == toldLinkGeneration_) return;
  linkTold_ = true;
  toldLinkGeneration_ = state.generation;
  FeedEntry entry;
  entry.kind = static_cast<uint8_t>(FeedKind::kLink);
  entry.flags = static_cast<uint8_t>((state.up ? kFeedUp : 0) | (state.gone ? kFeedGone : 0));
  entry.interfaceIndex = netdev_.index;
  entry.mtu = state.mtu;
  std::copy(state.mac.begin(), state.mac.end(), entry.mac);
  entries.push_back(entry);
}

void SessionFeed::collectAddresses(std::vector<FeedEntry>& entries) {
  const uint64_t version = tables_->addressVersion();
  if (version == toldAddresses_) return;
  std::vector<net::LocalAddress> addresses;
  addresses.reserve(net::KernelTables::kMaxLocalAddresses);
  if (!tables_->copyAddresses(addresses)) return;  // being written: its writer rings again
  toldAddresses_ = version;
  // Other interfaces' addresses are no business of a driver's, and not needed to tell what came to it.
  std::erase_if(addresses, [&](const net::LocalAddress& each) { return each.interfaceIndex != netdev_.index; });
  FeedEntry start;
  start.kind = static_cast<uint8_t>(FeedKind::kAddresses);
  start.flags = addresses.empty() ? kFeedLast : uint8_t{0};
  entries.push_back(start);
  for (const net::LocalAddress& each : addresses) {
    FeedEntry entry;
    entry.kind = static_cast<uint8_t>(FeedKind::kAddress);
    entry.interfaceIndex = each.interfaceIndex;
    entry.prefixLength = each.prefixLength;
    entry.address = netAddressOf(each.address);
    if (&each == &addresses.back()) entry.flags = kFeedLast;
    entries.push_back(entry);
  }
}

}  // namespace outrigger::nicd
