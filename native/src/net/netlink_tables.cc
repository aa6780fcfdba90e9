// SPDX-License-Identifier: Apache-2.0
// The mirror, its thread and the answers. See the header.
#include "net/netlink_tables.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>

#include <algorithm>

#include "base/clock.h"

namespace outrigger::net {
namespace {

// Learned path MTUs come and go without a notification (they expire after ten minutes): destinations in use are asked for this often.
constexpr int64_t kUpkeepIntervalNs = 1'000'000'000;
constexpr int64_t kMillisecondNs = 1'000'000;

bool isUsed(const RouteCell* cell) { return cell->alwaysUsed || cell->used.load(std::memory_order_relaxed); }

}  // namespace

Result<std::shared_ptr<NetlinkTables>> NetlinkTables::create() {
  auto events = NetlinkSocket::open({RTNLGRP_LINK, RTNLGRP_NEIGH, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV4_ROUTE,
                                     RTNLGRP_IPV6_ROUTE, RTNLGRP_IPV4_RULE, RTNLGRP_IPV6_RULE});
  if (!events) return events.error();
  auto queries = NetlinkSocket::open({});
  if (!queries) return queries.error();
  UniqueFd wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  UniqueFd changed(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake.valid() || !changed.valid()) return makeError(ErrorCode::kGeneric, "cannot create an eventfd", errno);
  std::shared_ptr<NetlinkTables> tables(new NetlinkTables(events.take(), queries.take(), std::move(wake), std::move(changed)));
  {
    // Notifications are subscribed to already, so nothing that changes from here on is missed.
    const std::lock_guard lock(tables->mutex_);
    if (auto r = tables->resync(); !r) return r.error();
  }
  tables->thread_ = std::thread([raw = tables.get()] { raw->run(); });
  return tables;
}

NetlinkTables::~NetlinkTables() {
  running_.store(false, std::memory_order_release);
  ::eventfd_write(wake_.get(), 1);
  if (thread_.joinable()) thread_.join();
}

Result<void> NetlinkTables::resync() {
  const auto visit = [this](const nlmsghdr* message) { apply(message); };
  if (auto r = queries_.dump(
          RTM_GETLINK, AF_UNSPEC, [this] { links_.clear(); }, visit);
      !r)
    return r;
  if (auto r = queries_.dump(
          RTM_GETADDR, AF_UNSPEC, [this] { addresses_.clear(); }, visit);
      !r)
    return r;
  if (auto r = queries_.dump(
          RTM_GETNEIGH, AF_UNSPEC, [this] { neighbours_.clear(); }, visit);
      !r)
    return r;
  published_.publish(addresses_);
  return {};
}

void NetlinkTables::apply(const nlmsghdr* message) {
  if (NetlinkLink link; parseLink(message, link)) {
    if (link.deleted) {
      links_.erase(link.index);
    } else {
      links_[link.index] = link;
    }
    routesChanged_ = true;
  } else if (NetlinkAddress address; parseAddress(message, address)) {
    const auto same = [&](const LocalAddress& each) {
      return each.address == address.local.address && each.interfaceIndex == address.local.interfaceIndex;
    };
    std::erase_if(addresses_, same);
    if (!address.deleted) addresses_.push_back(address.local);
    addressesChanged_ = true;
    routesChanged_ = true;
  } else if (NetlinkNeighbour neighbour; parseNeighbour(message, neighbour)) {
    const NeighbourKey key{neighbour.interfaceIndex, neighbour.address};
    if (neighbour.deleted) {
      neighbours_.erase(key);
    } else {
      neighbours_[key] = {neighbour.mac, neighbour.state};
    }
    neighbourChanged(key);
  } else if (message->nlmsg_type == RTM_NEWROUTE || message->nlmsg_type == RTM_DELROUTE || message->nlmsg_type == RTM_NEWRULE ||
             message->nlmsg_type == RTM_DELRULE) {
    routesChanged_ = true;
  }
}

void NetlinkTables::fillNeighbour(RouteAnswer& answer) const {
  answer.neighbour = NeighbourState::kMissing;
  const auto found = neighbours_.find({answer.interfaceIndex, answer.nextHop});
  if (found == neighbours_.end()) return;
  answer.neighbour = found->second.state;
  answer.mac = found->second.mac;
}

RouteAnswer NetlinkTables::ask(const RouteQuestion& question) {
  RouteAnswer answer;
  answer.question = question.number;
  if (question.destination.family == AF_UNSPEC) return answer;
  NetlinkRoute route;
  if (queries_.route(question, route) != 0) {
    answer.route = RouteState::kUnreachable;
    return answer;
  }
  switch (route.type) {
    case RTN_UNICAST:
      answer.route = RouteState::kForward;
      break;
    case RTN_LOCAL:
    case RTN_BROADCAST:
    case RTN_ANYCAST:
    case RTN_MULTICAST:  // the kernel sends and loops these
      answer.route = RouteState::kLocal;
      break;
    default:
      answer.route = RouteState::kUnreachable;
      return answer;
  }
  answer.interfaceIndex = route.interfaceIndex;
  answer.source = question.source.unspecified() || question.source.family != question.destination.family ? route.source : question.source;
  answer.nextHop = route.gateway.family != AF_UNSPEC ? route.gateway : question.destination;
  const auto link = links_.find(route.interfaceIndex);
  const uint32_t linkMtu = link == links_.end() ? 0 : link->second.mtu;
  answer.mtu = route.mtu == 0 ? linkMtu : linkMtu == 0 ? route.mtu : std::min(route.mtu, linkMtu);
  fillNeighbour(answer);
  return answer;
}

void NetlinkTables::answer(RouteCell& cell) {
  const RouteQuestion question = cell.question.load();
  const RouteAnswer fresh = ask(question);
  const RouteAnswer old = cell.answer.load();
  // What is the same stays: a new version makes the owner build its header again.
  const bool same = old.question == fresh.question && old.route == fresh.route && old.neighbour == fresh.neighbour &&
                    old.mac == fresh.mac && old.interfaceIndex == fresh.interfaceIndex && old.mtu == fresh.mtu &&
                    old.source == fresh.source && old.nextHop == fresh.nextHop;
  if (!same) cell.answer.store(fresh);
}

void NetlinkTables::neighbourChanged(const NeighbourKey& key) {
  for (RouteCell* cell : cells_) {
    RouteAnswer answer = cell->answer.load();
    if (answer.route != RouteState::kForward || answer.interfaceIndex != key.interfaceIndex || !(answer.nextHop == key.address)) continue;
    const RouteAnswer before = answer;
    fillNeighbour(answer);
    if (before.neighbour != answer.neighbour || before.mac != answer.mac) cell->answer.store(answer);
  }
}

void NetlinkTables::answerAll() {
  for (RouteCell* cell : cells_) answer(*cell);
}

// Those that were used since the last time; whether there were any.
bool NetlinkTables::answerUsed() {
  bool any = false;
  for (RouteCell* cell : cells_) {
    if (!cell->used.exchange(false, std::memory_order_relaxed) && !cell->alwaysUsed) continue;
    answer(*cell);
    any = true;
  }
  return any;
}

// Has a deadline of its own: a busy node wakes this thread many times a second, and so does every ICMP error.
void NetlinkTables::keepUp(int64_t nowNs) {
  bool used = false;
  if (upkeepDueNs_ == 0) {
    used = std::any_of(cells_.begin(), cells_.end(), isUsed);
  } else if (nowNs >= upkeepDueNs_) {
    used = answerUsed();
    upkeeps_.fetch_add(1, std::memory_order_relaxed);
  } else {
    return;
  }
  // Asleep for good when nothing was sent to any watched destination for a whole interval: who sends then asks anew.
  upkeepDueNs_ = used ? nowNs + kUpkeepIntervalNs : 0;
}

RouteAnswer NetlinkTables::lookup(const RouteQuestion& question) {
  const std::lock_guard lock(mutex_);
  return ask(question);
}

void NetlinkTables::watch(RouteCell& cell) {
  const std::lock_guard lock(mutex_);
  cells_.insert(&cell);
  if (cell.question.load().destination.family != AF_UNSPEC) answer(cell);
  if (cell.alwaysUsed && upkeepDueNs_ == 0) ::eventfd_write(wake_.get(), 1);
}

void NetlinkTables::forget(RouteCell& cell) {
  // What is queued is answered first: the queue is a chain through the cells.
  const std::lock_guard lock(mutex_);
  answerQueued();
  cells_.erase(&cell);
}

void NetlinkTables::refresh(RouteCell& cell) {
  if (cell.queued.exchange(true, std::memory_order_acq_rel)) return;
  RouteCell* head = queue_.load(std::memory_order_relaxed);
  do {
    cell.next.store(head, std::memory_order_relaxed);
  } while (!queue_.compare_exchange_weak(head, &cell, std::memory_order_release, std::memory_order_relaxed));
  ::eventfd_write(wake_.get(), 1);
}

void NetlinkTables::answerQueued() {
  RouteCell* cell = queue_.exchange(nullptr, std::memory_order_acquire);
  while (cell != nullptr) {
    RouteCell* following = cell->next.load(std::memory_order_relaxed);
    // From here on it may be queued again: its question is read after this.
    cell->queued.store(false, std::memory_order_release);
    if (cells_.contains(cell)) answer(*cell);
    cell = following;
  }
}

void NetlinkTables::run() {
  ::pthread_setname_np(::pthread_self(), "outrigger-netl");
  SystemClock clock;
  int64_t dueNs = 0;  // upkeepDueNs_, which only this thread writes
  while (running_.load(std::memory_order_acquire)) {
    pollfd handles[2]{{events_.fd(), POLLIN, 0}, {wake_.get(), POLLIN, 0}};
    const int64_t remainingNs = std::max<int64_t>(dueNs - clock.nanoTime(), 0);
    const int ready = ::poll(handles, 2, dueNs == 0 ? -1 : static_cast<int>((remainingNs + kMillisecondNs - 1) / kMillisecondNs));
    if (ready < 0 && errno != EINTR) break;
    eventfd_t ignored = 0;
    ::eventfd_read(wake_.get(), &ignored);
    const std::lock_guard lock(mutex_);
    routesChanged_ = false;
    addressesChanged_ = false;
    const bool complete = events_.drain([this](const nlmsghdr* message) {
      notifications_.fetch_add(1, std::memory_order_relaxed);
      apply(message);
    });
    if (!complete) {
      resyncs_.fetch_add(1, std::memory_order_relaxed);
      // A dump that fails leaves what there was; the next loss or change tries again.
      static_cast<void>(resync());
      routesChanged_ = true;
    }
    if (addressesChanged_) published_.publish(addresses_);
    answerQueued();
    if (routesChanged_) answerAll();
    keepUp(clock.nanoTime());
    dueNs = upkeepDueNs_;
    ::eventfd_write(changed_.get(), 1);
  }
}

}  // namespace outrigger::net
