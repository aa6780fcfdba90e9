// SPDX-License-Identifier: Apache-2.0
// See the header.
#include "io/verbs/peer_directory.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/random.h>

#include <algorithm>
#include <unordered_set>

#include "base/clock.h"

namespace outrigger::io::verbs {
namespace {

// Long after any send that names it is over.
constexpr int64_t kRetiredNs = 60'000'000'000;
constexpr int64_t kNever = INT64_MAX;

int64_t monotonicNs() { return SystemClock().nanoTime(); }

// Not to be guessed by who does not see the ask.
uint64_t freshNonce() {
  uint64_t nonce = 0;
  while (::getrandom(&nonce, sizeof(nonce), 0) != sizeof(nonce)) {
  }
  return nonce;
}

}  // namespace

PeerDirectory::PeerDirectory(std::shared_ptr<RdmaPort> port, const DirectoryTimes& times, UniqueFd wake)
    : port_(std::move(port)), times_(times), wake_(std::move(wake)) {}

Result<std::shared_ptr<PeerDirectory>> PeerDirectory::create(std::shared_ptr<RdmaPort> port, const DirectoryTimes& times) {
  UniqueFd wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake.valid()) return makeError(ErrorCode::kGeneric, "backend verbs: cannot create an eventfd", errno);
  std::shared_ptr<PeerDirectory> directory(new PeerDirectory(std::move(port), times, std::move(wake)));
  directory->thread_ = std::thread([raw = directory.get()] { raw->run(); });
  return directory;
}

PeerDirectory::~PeerDirectory() {
  running_.store(false, std::memory_order_release);
  wake();
  if (thread_.joinable()) thread_.join();
}

void PeerDirectory::wake() const { ::eventfd_write(wake_.get(), 1); }

uint64_t PeerDirectory::addEndpoint(int fd, const net::IpAddress& own) {
  const std::lock_guard lock(mutex_);
  endpoints_.emplace(nextEndpoint_, EndpointEntry{fd, own});
  return nextEndpoint_++;
}

void PeerDirectory::dropEndpoint(uint64_t number) {
  const std::lock_guard lock(mutex_);
  endpoints_.erase(number);
}

void PeerDirectory::watch(PeerCell& cell) {
  {
    const std::lock_guard lock(mutex_);
    Progress& progress = cells_[&cell];
    look(cell, progress, monotonicNs());
  }
  wake();
}

void PeerDirectory::forget(PeerCell& cell) {
  const std::lock_guard lock(mutex_);
  cells_.erase(&cell);
}

PeerNotes* PeerDirectory::addNotes() {
  const std::lock_guard lock(mutex_);
  return notes_.emplace_back(std::make_unique<PeerNotes>()).get();
}

void PeerDirectory::dropNotes(PeerNotes* notes) {
  const std::lock_guard lock(mutex_);
  std::erase_if(notes_, [&](const auto& each) { return each.get() == notes; });
}

void PeerDirectory::run() {
  ::pthread_setname_np(::pthread_self(), "outrigger-rdma");
  int64_t nextNs = kNever;
  while (running_.load(std::memory_order_acquire)) {
    const int64_t nowNs = monotonicNs();
    // A millisecond too long rather than a spin.
    const int timeout = nextNs == kNever ? -1 : static_cast<int>(std::clamp<int64_t>((nextNs - nowNs) / 1'000'000 + 1, 0, 60'000));
    pollfd handle{wake_.get(), POLLIN, 0};
    if (::poll(&handle, 1, timeout) < 0 && errno != EINTR) break;
    eventfd_t ignored = 0;
    ::eventfd_read(wake_.get(), &ignored);
    {
      const std::lock_guard lock(mutex_);
      readNotes(monotonicNs());
    }
    for (Believed& each : believed_) makeHandle(each, monotonicNs());
    const std::lock_guard lock(mutex_);
    const int64_t settledNs = monotonicNs();
    for (const Believed& each : believed_) settle(each, settledNs);
    believed_.clear();
    nextNs = round(settledNs);
  }
}

void PeerDirectory::readNotes(int64_t nowNs) {
  for (const auto& notes : notes_) {
    PeerNote note;
    while (notes->messages.poll(note)) take(note, nowNs);
    while (notes->hints.poll(note)) take(note, nowNs);
  }
}

int64_t PeerDirectory::round(int64_t nowNs) {
  int64_t nextNs = kNever;
  for (auto& [cell, progress] : cells_) nextNs = std::min(nextNs, look(*cell, progress, nowNs));
  return std::min(nextNs, sweep(nowNs));
}

// Retires the handles that no answer names, and ends those that were retired long ago.
int64_t PeerDirectory::sweep(int64_t nowNs) {
  if (handles_.empty() && retired_.empty()) return kNever;
  if (nowNs < nextSweepNs_) return nextSweepNs_;
  nextSweepNs_ = nowNs + times_.sweepNs;
  std::erase_if(retired_, [&](const Handle& each) { return nowNs - each.sinceNs > kRetiredNs; });
  std::unordered_set<const AddressHandle*> named;
  for (const auto& [cell, progress] : cells_) {
    if (cell->question.load().endpoint != 0) named.insert(progress.answer.to);
  }
  for (auto each = handles_.begin(); each != handles_.end();) {
    Handle& handle = each->second;
    if (named.contains(handle.handle.get())) {
      ++each;
      continue;
    }
    retired_.push_back({std::move(handle.handle), nowNs});
    each = handles_.erase(each);
  }
  handleCount_.store(handles_.size(), std::memory_order_relaxed);
  return nextSweepNs_;
}

void PeerDirectory::publish(PeerCell& cell, const Progress& progress) {
  const PeerAnswer old = cell.answer.load();
  const PeerAnswer& fresh = progress.answer;
  const bool sameWay = old.state == fresh.state && old.refusal == fresh.refusal && old.queueNumber == fresh.queueNumber &&
                       old.queueKey == fresh.queueKey && old.mtu == fresh.mtu;
  if (sameWay && old.question == fresh.question && old.to == fresh.to) return;
  // Counted before it is seen.
  if (!sameWay && fresh.state != PeerState::kAsking) stats_.changes.fetch_add(1, std::memory_order_relaxed);
  cell.answer.store(fresh);
}

// Asks, if it is time to; says when to look again.
int64_t PeerDirectory::look(PeerCell& cell, Progress& progress, int64_t nowNs) {
  const PeerQuestion question = cell.question.load();
  if (question.endpoint == 0) return kNever;
  if (question.number != progress.question) {
    progress = {};
    progress.question = question.number;
    progress.answer.question = question.number;
    publish(cell, progress);
  }
  if (nowNs < progress.nextNs) return progress.nextNs;
  PeerAnswer& answer = progress.answer;
  switch (answer.state) {
    case PeerState::kAsking:
      if (progress.unanswered < kFirstAsks) {
        ++progress.unanswered;
        ask(question, progress, nowNs);
        progress.nextNs = nowNs + times_.askNs;
        break;
      }
      answer.state = PeerState::kKernel;
      progress.backoffNs = times_.kernelNs;
      progress.nextNs = nowNs + progress.backoffNs;
      publish(cell, progress);
      break;
    case PeerState::kReady:
      if (progress.unanswered >= kChecks) {
        // Its queue pair may be gone with it: what is sent there would vanish.
        stats_.lost.fetch_add(1, std::memory_order_relaxed);
        answer = {};
        answer.question = question.number;
        answer.state = PeerState::kKernel;
        progress.backoffNs = times_.checkNs;
        progress.nextNs = nowNs + progress.backoffNs;
        publish(cell, progress);
        break;
      }
      // One that lies idle is asked when it is used again: its owner wakes us.
      if (progress.unanswered == 0 && !cell.used.exchange(false, std::memory_order_relaxed)) {
        progress.nextNs = nowNs + times_.checkNs;
        break;
      }
      ++progress.unanswered;
      ask(question, progress, nowNs);
      progress.nextNs = nowNs + times_.checkNs;
      break;
    case PeerState::kKernel:
      if (cell.used.exchange(false, std::memory_order_relaxed)) ask(question, progress, nowNs);
      progress.backoffNs = std::min(progress.backoffNs * 2, times_.kernelMaxNs);
      progress.nextNs = nowNs + progress.backoffNs;
      break;
  }
  return progress.nextNs;
}

void PeerDirectory::ask(const PeerQuestion& question, Progress& progress, int64_t nowNs) {
  const auto endpoint = endpoints_.find(question.endpoint);
  if (endpoint == endpoints_.end()) return;
  // The same until it is answered: an answer may take longer than the time between two asks.
  if (progress.nonce == 0) progress.nonce = freshNonce() | 1;
  ExchangeMessage message;
  message.nonce = progress.nonce;
  std::array<uint8_t, kExchangeLength> bytes;
  writeExchange(message, bytes);
  progress.lastNs = nowNs;
  stats_.asks.fetch_add(1, std::memory_order_relaxed);
  // What the socket has no room for is asked again.
  static_cast<void>(::sendto(endpoint->second.fd, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL, question.destination.get(),
                             question.destination.length));
}

void PeerDirectory::take(const PeerNote& note, int64_t nowNs) {
  bool known = false;
  for (auto& [cell, progress] : cells_) {
    const PeerQuestion question = cell->question.load();
    if (question.endpoint != note.endpoint || question.number != progress.question || !(question.destination == note.source)) continue;
    if (note.kind == PeerNote::Kind::kHint) {
      if (progress.answer.state != PeerState::kAsking && nowNs - progress.lastNs >= times_.hintNs) ask(question, progress, nowNs);
      continue;
    }
    if (progress.nonce == 0 || note.message.nonce != progress.nonce) continue;
    known = true;
    if (note.message.kind == ExchangeKind::kAnswer && believe(*cell, question, note.message)) continue;
    if (note.message.kind == ExchangeKind::kRefusal) stats_.refusals.fetch_add(1, std::memory_order_relaxed);
    leave(*cell, progress, note.message.reason, nowNs);
  }
  if (!known && note.kind == PeerNote::Kind::kMessage) stats_.rejected.fetch_add(1, std::memory_order_relaxed);
}

// No way there by the device.
void PeerDirectory::leave(PeerCell& cell, Progress& progress, RefusalReason reason, int64_t nowNs) {
  progress.backoffNs = progress.answer.state == PeerState::kReady ? times_.checkNs : times_.kernelNs;
  progress.nextNs = nowNs + progress.backoffNs;
  progress.nonce = 0;
  progress.unanswered = 0;
  progress.answer = {};
  progress.answer.question = progress.question;
  progress.answer.state = PeerState::kKernel;
  progress.answer.refusal = reason;
  publish(cell, progress);
}

// False: not to be believed, or the endpoint's own address has no GID.
bool PeerDirectory::believe(PeerCell& cell, const PeerQuestion& question, const ExchangeMessage& message) {
  const auto& gids = port_->facts().gids;
  const net::IpAddress destination = net::IpAddress::of(question.destination);
  const auto endpoint = endpoints_.find(question.endpoint);
  auto own = gids.end();
  // Else an answer could turn what we send on a third host.
  if (endpoint != endpoints_.end() && message.gid == gidOf(destination)) {
    own = std::find_if(gids.begin(), gids.end(), [&](const GidEntry& each) {
      if (!endpoint->second.own.unspecified()) return each.gid == gidOf(endpoint->second.own);
      const net::IpAddress address = addressOf(each.gid);
      return address.isV6() == destination.isV6() && !address.isLinkLocalV6();
    });
  }
  if (own == gids.end()) {
    stats_.rejected.fetch_add(1, std::memory_order_relaxed);
    return false;
  }
  believed_.push_back({&cell, message, own->index});
  return true;
}

// Leaves it null when the device refuses.
void PeerDirectory::makeHandle(Believed& believed, int64_t nowNs) {
  const std::pair key{believed.message.gid, believed.ownGidIndex};
  const auto known = handles_.find(key);
  if (known != handles_.end()) {
    believed.handle = known->second.handle.get();
    if (nowNs - known->second.sinceNs < times_.handleNs) return;
  }
  auto made = port_->createAddress(believed.message.gid, believed.ownGidIndex);
  // What there is may still be right; what there never was can't.
  if (!made) return;
  if (known != handles_.end()) {
    believed.before = believed.handle;
    retired_.push_back({std::move(known->second.handle), nowNs});
  }
  Handle& fresh = handles_[key];
  fresh = {made.take(), nowNs};
  believed.handle = fresh.handle.get();
  handleCount_.store(handles_.size(), std::memory_order_relaxed);
}

void PeerDirectory::settle(const Believed& believed, int64_t nowNs) {
  if (believed.before != nullptr) {
    for (auto& [cell, progress] : cells_) {
      if (progress.answer.to != believed.before) continue;
      progress.answer.to = believed.handle;
      publish(*cell, progress);
    }
  }
  // While the handle was made the cell may have gone, or been given another question; a nonce is never given twice.
  const auto found = cells_.find(believed.cell);
  if (found == cells_.end() || found->second.nonce != believed.message.nonce) return;
  auto& [cell, progress] = *found;
  if (believed.handle == nullptr) {
    stats_.rejected.fetch_add(1, std::memory_order_relaxed);
    leave(*cell, progress, RefusalReason::kNone, nowNs);
    return;
  }
  PeerAnswer& answer = progress.answer;
  answer.state = PeerState::kReady;
  answer.refusal = RefusalReason::kNone;
  answer.to = believed.handle;
  answer.queueNumber = believed.message.queueNumber;
  answer.queueKey = believed.message.queueKey;
  answer.mtu = std::min(believed.message.mtu, port_->facts().mtu);
  progress.nonce = 0;
  progress.unanswered = 0;
  progress.nextNs = nowNs + times_.checkNs;
  publish(*cell, progress);
}

}  // namespace outrigger::io::verbs
