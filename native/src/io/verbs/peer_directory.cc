// SPDX-License-Identifier: Apache-2.0
// See the header.
#include "io/verbs/peer_directory.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <time.h>

#include <algorithm>

namespace outrigger::io::verbs {
namespace {

constexpr size_t kNotes = 256;  // a burst of first answers; what finds no room is asked for again
// Long after any send that names it is over.
constexpr int64_t kRetiredNs = 60'000'000'000;
// A handle has the MAC address of when it was made. After a failover what is sent goes nowhere for as long as this and a check.
constexpr int64_t kHandleNs = 5'000'000'000;
constexpr int64_t kNever = INT64_MAX;

int64_t monotonicNs() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<int64_t>(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
}

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

SpscRing<PeerNote>* PeerDirectory::addNotes() {
  const std::lock_guard lock(mutex_);
  return notes_.emplace_back(std::make_unique<SpscRing<PeerNote>>(kNotes)).get();
}

void PeerDirectory::dropNotes(SpscRing<PeerNote>* notes) {
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
    const std::lock_guard lock(mutex_);
    nextNs = round(monotonicNs());
  }
}

int64_t PeerDirectory::round(int64_t nowNs) {
  for (const auto& notes : notes_) {
    PeerNote note;
    while (notes->poll(note)) take(note, nowNs);
  }
  std::erase_if(retired_, [&](const Handle& each) { return nowNs - each.sinceNs > kRetiredNs; });
  int64_t nextNs = retired_.empty() ? kNever : nowNs + kRetiredNs;
  for (auto& [cell, progress] : cells_) nextNs = std::min(nextNs, look(*cell, progress, nowNs));
  return nextNs;
}

void PeerDirectory::publish(PeerCell& cell, const Progress& progress) {
  const PeerAnswer old = cell.answer.load();
  const PeerAnswer& fresh = progress.answer;
  const bool same = old.question == fresh.question && old.state == fresh.state && old.refusal == fresh.refusal && old.to == fresh.to &&
                    old.queueNumber == fresh.queueNumber && old.queueKey == fresh.queueKey && old.mtu == fresh.mtu;
  if (!same) cell.answer.store(fresh);
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
  ++progress.unanswered;
  progress.lastNs = nowNs;
  stats_.asks.fetch_add(1, std::memory_order_relaxed);
  // What the socket has no room for is asked again.
  static_cast<void>(::sendto(endpoint->second.fd, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL, question.destination.get(),
                             question.destination.length));
}

void PeerDirectory::take(const PeerNote& note, int64_t nowNs) {
  bool believed = false;
  for (auto& [cell, progress] : cells_) {
    const PeerQuestion question = cell->question.load();
    if (question.endpoint != note.endpoint || question.number != progress.question || !(question.destination == note.source)) continue;
    if (note.kind == PeerNote::Kind::kHint) {
      if (progress.answer.state != PeerState::kAsking && nowNs - progress.lastNs >= times_.hintNs) ask(question, progress, nowNs);
      continue;
    }
    if (progress.nonce == 0 || note.message.nonce != progress.nonce) continue;
    believed = true;
    const bool wasReady = progress.answer.state == PeerState::kReady;
    if (note.message.kind == ExchangeKind::kAnswer && accept(question, note.message, progress, nowNs)) {
      stats_.answers.fetch_add(1, std::memory_order_relaxed);
    } else {
      if (note.message.kind == ExchangeKind::kRefusal) stats_.refusals.fetch_add(1, std::memory_order_relaxed);
      progress.answer = {};
      progress.answer.question = progress.question;
      progress.answer.state = PeerState::kKernel;
      progress.answer.refusal = note.message.reason;
      progress.backoffNs = wasReady ? times_.checkNs : times_.kernelNs;
      progress.nextNs = nowNs + progress.backoffNs;
    }
    progress.nonce = 0;
    progress.unanswered = 0;
    publish(*cell, progress);
  }
  if (!believed && note.kind == PeerNote::Kind::kMessage) stats_.rejected.fetch_add(1, std::memory_order_relaxed);
}

// False: not to be believed, or no way there.
bool PeerDirectory::accept(const PeerQuestion& question, const ExchangeMessage& message, Progress& progress, int64_t nowNs) {
  // Else an answer could turn what we send on a third host.
  if (message.gid != gidOf(net::IpAddress::of(question.destination))) {
    stats_.rejected.fetch_add(1, std::memory_order_relaxed);
    return false;
  }
  PeerAnswer& answer = progress.answer;
  const AddressHandle* handle = handleFor(question, message.gid, nowNs);
  if (handle == nullptr) {
    stats_.rejected.fetch_add(1, std::memory_order_relaxed);
    return false;
  }
  answer.state = PeerState::kReady;
  answer.refusal = RefusalReason::kNone;
  answer.to = handle;
  answer.queueNumber = message.queueNumber;
  answer.queueKey = message.queueKey;
  answer.mtu = std::min(message.mtu, port_->facts().mtu);
  progress.nextNs = nowNs + times_.checkNs;
  return true;
}

// Null: the endpoint's own address has no GID, or the device refuses.
const AddressHandle* PeerDirectory::handleFor(const PeerQuestion& question, const Gid& gid, int64_t nowNs) {
  const auto endpoint = endpoints_.find(question.endpoint);
  if (endpoint == endpoints_.end()) return nullptr;
  const auto& gids = port_->facts().gids;
  const bool v6 = net::IpAddress::of(question.destination).isV6();
  const auto own = std::find_if(gids.begin(), gids.end(), [&](const GidEntry& each) {
    if (!endpoint->second.own.unspecified()) return each.gid == gidOf(endpoint->second.own);
    const net::IpAddress address = addressOf(each.gid);
    return address.isV6() == v6 && !address.isLinkLocalV6();
  });
  if (own == gids.end()) return nullptr;
  Handle& known = handles_[{gid, own->index}];
  if (known.handle != nullptr && nowNs - known.sinceNs < kHandleNs) return known.handle.get();
  auto made = port_->createAddress(gid, own->index);
  // What there is may still be right; what there never was can't.
  if (!made) return known.handle.get();
  const AddressHandle* before = known.handle.get();
  if (before != nullptr) retired_.push_back({std::move(known.handle), nowNs});
  known = {made.take(), nowNs};
  for (auto& [cell, progress] : cells_) {
    if (before == nullptr || progress.answer.to != before) continue;
    progress.answer.to = known.handle.get();
    publish(*cell, progress);
  }
  return known.handle.get();
}

}  // namespace outrigger::io::verbs
