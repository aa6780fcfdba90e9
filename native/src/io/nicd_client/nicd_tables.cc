// SPDX-License-Identifier: Apache-2.0
#include "io/nicd_client/nicd_tables.h"

#include <algorithm>
#include <chrono>
#include <cstring>

namespace outrigger::nicd {
namespace {

// watch() answers before it returns where it can: nicd takes a fraction of a millisecond. Without it the answer comes later, by the feed.
constexpr auto kFirstAnswerTime = std::chrono::milliseconds(500);

Address addressOf(const net::IpAddress& ip, uint32_t scope) {
  Address address;
  if (ip.family == AF_UNSPEC) return address;
  address.family = ip.isV6() ? 6 : 4;
  address.scope = ip.isV6() ? scope : 0;
  std::memcpy(address.bytes, ip.bytes.data(), ip.length());
  return address;
}

net::IpAddress ipOf(const Address& address) {
  if (address.family == 0) return {};
  return net::IpAddress::fromBytes(address.family == 6 ? AF_INET6 : AF_INET, address.bytes);
}

net::RouteAnswer answerOf(const FeedEntry& entry) {
  net::RouteAnswer answer;
  answer.question = entry.number;
  answer.route = static_cast<net::RouteState>(entry.route);
  answer.neighbour = static_cast<net::NeighbourState>(entry.neighbour);
  std::copy(std::begin(entry.mac), std::end(entry.mac), answer.mac.begin());
  answer.interfaceIndex = entry.interfaceIndex;
  answer.mtu = entry.mtu;
  answer.source = ipOf(entry.address);
  answer.nextHop = ipOf(entry.nextHop);
  return answer;
}

}  // namespace

NicdTables::NicdTables(std::shared_ptr<Connection> connection, const Opened& opened, std::string interface, std::shared_ptr<Clock> clock)
    : connection_(std::move(connection)),
      session_(opened.session),
      interface_(std::move(interface)),
      interfaceIndex_(opened.interfaceIndex),
      clock_(std::move(clock)),
      statisticsAskedNs_(clock_->nanoTime()) {
  std::copy(std::begin(opened.mac), std::end(opened.mac), link_.mac.begin());
  link_.mtu = opened.mtu;
  link_.up = opened.up != 0;
}

std::shared_ptr<NicdTables> NicdTables::create(std::shared_ptr<Connection> connection, const Opened& opened, const std::string& interface,
                                               std::shared_ptr<Clock> clock) {
  std::shared_ptr<NicdTables> tables(new NicdTables(connection, opened, interface, std::move(clock)));
  connection->listen(opened.session, tables.get());
  // What was counted until now is nobody's of this session.
  static_cast<void>(connection->askStatistics(opened.session));
  return tables;
}

NicdTables::~NicdTables() { connection_->listen(session_, nullptr); }

bool NicdTables::ask(uint32_t number, const net::RouteQuestion& question) {
  Watch watch;
  watch.session = session_;
  watch.cell = number;
  watch.number = question.number;
  watch.destination = addressOf(question.destination, question.scopeInterface != 0 ? interfaceIndex_ : 0);
  if (!question.source.unspecified()) watch.source = addressOf(question.source, 0);
  return connection_->post(MessageType::kWatch, watch);
}

net::RouteAnswer NicdTables::lookup(const net::RouteQuestion& question) {
  net::RouteCell cell;
  cell.question.store(question);
  watch(cell);
  forget(cell);
  return cell.answer.load();
}

void NicdTables::watch(net::RouteCell& cell) {
  std::unique_lock lock(mutex_);
  uint32_t number = nextNumber_;
  if (!freeNumbers_.empty()) {
    number = freeNumbers_.back();
    freeNumbers_.pop_back();
  } else {
    ++nextNumber_;
  }
  cells_[number] = &cell;
  numbers_[&cell] = number;
  const net::RouteQuestion question = cell.question.load();
  if (question.destination.family == AF_UNSPEC) return;
  lock.unlock();
  if (!ask(number, question)) return;
  lock.lock();
  answered_.wait_for(lock, kFirstAnswerTime, [&] {
    const net::RouteAnswer answer = cell.answer.load();
    return answer.question == question.number && answer.route != net::RouteState::kUnknown;
  });
  const net::RouteAnswer answer = cell.answer.load();
  lock.unlock();
  // Whoever watches is about to send: a neighbour that is known by then spares the first frames the way through the kernel.
  if (answer.question == question.number && answer.route == net::RouteState::kForward &&
      answer.neighbour == net::NeighbourState::kMissing && answer.interfaceIndex == interfaceIndex_ && !answer.nextHop.unspecified()) {
    Resolve resolve;
    resolve.session = session_;
    resolve.address = addressOf(answer.nextHop, interfaceIndex_);
    static_cast<void>(connection_->post(MessageType::kResolve, resolve));
  }
}

void NicdTables::forget(net::RouteCell& cell) {
  // What is queued is asked first: the queue is a chain through the cells.
  askQueued();
  Unwatch unwatch;
  unwatch.session = session_;
  {
    const std::lock_guard lock(mutex_);
    const auto found = numbers_.find(&cell);
    if (found == numbers_.end()) return;
    unwatch.cell = found->second;
    cells_.erase(found->second);
    freeNumbers_.push_back(found->second);
    numbers_.erase(found);
  }
  static_cast<void>(connection_->post(MessageType::kUnwatch, unwatch));
}

void NicdTables::refresh(net::RouteCell& cell) {
  if (cell.queued.exchange(true, std::memory_order_acq_rel)) return;
  net::RouteCell* head = queue_.load(std::memory_order_relaxed);
  do {
    cell.next.store(head, std::memory_order_relaxed);
  } while (!queue_.compare_exchange_weak(head, &cell, std::memory_order_release, std::memory_order_relaxed));
  connection_->wake();
}

void NicdTables::askQueued() {
  std::vector<std::pair<uint32_t, net::RouteQuestion>> questions;
  {
    const std::lock_guard lock(mutex_);
    net::RouteCell* cell = queue_.exchange(nullptr, std::memory_order_acquire);
    while (cell != nullptr) {
      net::RouteCell* following = cell->next.load(std::memory_order_relaxed);
      // From here on it may be queued again: its question is read after this.
      cell->queued.store(false, std::memory_order_release);
      const auto known = numbers_.find(cell);
      if (known != numbers_.end()) {
        const net::RouteQuestion question = cell->question.load();
        if (question.destination.family != AF_UNSPEC) questions.emplace_back(known->second, question);
      }
      cell = following;
    }
  }
  for (const auto& [number, question] : questions) static_cast<void>(ask(number, question));
}

int64_t NicdTables::framesLeftToKernel() {
  const int64_t nowNs = clock_->nanoTime();
  int64_t askedNs = statisticsAskedNs_.load(std::memory_order_relaxed);
  // Of two threads that find it due at once, one asks.
  if (nowNs - askedNs >= kStatisticsIntervalNs && statisticsAskedNs_.compare_exchange_strong(askedNs, nowNs, std::memory_order_relaxed)) {
    statisticsWanted_.store(true, std::memory_order_relaxed);
    connection_->wake();
  }
  return leftToKernel_.load(std::memory_order_relaxed);
}

void NicdTables::onWake() {
  askQueued();
  if (statisticsWanted_.exchange(false, std::memory_order_relaxed)) static_cast<void>(connection_->askStatistics(session_));
}

void NicdTables::onStatistics(const StatisticsAnswer& answer) {
  // Less than before: a program that was attached anew, which counts from zero.
  const uint64_t before = answer.leftToKernel < leftLast_ ? 0 : leftLast_;
  if (leftBaseKnown_) leftToKernel_.fetch_add(static_cast<int64_t>(answer.leftToKernel - before), std::memory_order_relaxed);
  leftBaseKnown_ = true;
  leftLast_ = answer.leftToKernel;
}

io::LinkState NicdTables::link() {
  const std::lock_guard lock(mutex_);
  static_cast<void>(connection_->tryStanding(session_, standing_));
  if (!standing_.lost.empty() && !lost_) {
    lost_ = true;
    ++link_.generation;
  }
  io::LinkState state = link_;
  if (lost_) {
    state.gone = true;
    state.up = false;
    state.reason = "outrigger-nicd took " + interface_ + " back: " + standing_.lost;
  } else if (!standing_.away.empty()) {
    state.reason = "outrigger-nicd is away (" + standing_.away + "): what it gave is used on, changes of routes and ports wait for it";
  } else if (!state.up) {
    state.reason = "interface " + interface_ + " is down, or has no carrier";
  }
  return state;
}

void NicdTables::onFeed(const FeedEntry& entry) {
  const std::lock_guard lock(mutex_);
  switch (static_cast<FeedKind>(entry.kind)) {
    case FeedKind::kLink: {
      const io::LinkState before = link_;
      std::copy(std::begin(entry.mac), std::end(entry.mac), link_.mac.begin());
      link_.mtu = entry.mtu;
      link_.up = (entry.flags & kFeedUp) != 0;
      link_.gone = (entry.flags & kFeedGone) != 0;
      if (before.mac != link_.mac || before.mtu != link_.mtu || before.up != link_.up || before.gone != link_.gone) ++link_.generation;
      return;
    }
    case FeedKind::kAddresses:
      arriving_.clear();
      break;
    case FeedKind::kAddress:
      if (arriving_.size() < kMaxLocalAddresses) arriving_.push_back({ipOf(entry.address), entry.interfaceIndex, entry.prefixLength});
      break;
    case FeedKind::kRoute: {
      const auto found = cells_.find(entry.cell);
      // An answer to the former owner of the number names a question that this one did not ask, or asks again.
      if (found == cells_.end() || found->second->question.load().number != entry.number) return;
      found->second->answer.store(answerOf(entry));
      answered_.notify_all();
      return;
    }
  }
  if ((entry.flags & kFeedLast) == 0) return;
  published_.publish(arriving_);
}

void NicdTables::onResumed() {
  std::vector<std::pair<uint32_t, net::RouteQuestion>> questions;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [number, cell] : cells_) {
      const net::RouteQuestion question = cell->question.load();
      if (question.destination.family != AF_UNSPEC) questions.emplace_back(number, question);
    }
  }
  for (const auto& [number, question] : questions) static_cast<void>(ask(number, question));
  if (resumed_) resumed_();
}

}  // namespace outrigger::nicd
