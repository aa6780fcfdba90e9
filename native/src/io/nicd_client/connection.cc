// SPDX-License-Identifier: Apache-2.0
#include "io/nicd_client/connection.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstring>

namespace outrigger::nicd {
namespace {

// nicd answers in microseconds, or milliseconds when it attaches a program; a link that restarts for that takes seconds.
constexpr auto kAnswerTime = std::chrono::seconds(10);
constexpr auto kGreetingTime = std::chrono::seconds(2);
// nicd is restarted by its container in about a second: soon at first, then seldom enough to cost nothing.
constexpr int kFirstRetryMs = 20;
constexpr int kLastRetryMs = 1000;
constexpr size_t kMaxClaimFile = 16 * 1024;
constexpr size_t kMaxUnheard = 1024;  // entries of a session: above net::KernelTables::kMaxLocalAddresses and a link

using SteadyClock = std::chrono::steady_clock;

int millisecondsUntil(SteadyClock::time_point when) {
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(when - SteadyClock::now()).count();
  return static_cast<int>(std::clamp<int64_t>(left, 0, 60'000));
}

void setRequestId(Message& message, uint64_t id) { std::memcpy(message.data() + offsetof(Header, requestId), &id, sizeof(id)); }

Error refusedError(const RefusedText& refused) {
  Error error;
  error.code = refused.refusal == Refusal::kUnsupported ? ErrorCode::kNotSupported : ErrorCode::kGeneric;
  error.sysErrno = refused.sysErrno;
  error.message = "outrigger-nicd refuses: " + refused.text;
  return error;
}

Error lateError() { return makeError(ErrorCode::kResourceTemporarilyUnavailable, "outrigger-nicd does not answer", ETIMEDOUT); }

bool parseHex(std::string_view text, uint8_t* bytes, size_t count) {
  if (text.size() != 2 * count) return false;
  for (size_t i = 0; i < count; ++i) {
    const auto [end, error] = std::from_chars(text.data() + 2 * i, text.data() + 2 * i + 2, bytes[i], 16);
    if (error != std::errc() || end != text.data() + 2 * i + 2) return false;
  }
  return true;
}

}  // namespace

// The pod sees its claim as a file of the claim's name; what counts of it here is the line with the token.
Result<void> Connection::readClaim() {
  if (options_.claimFile.empty()) return {};
  const std::string& path = options_.claimFile;
  const std::string name = path.substr(path.rfind('/') + 1);
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return makeError(ErrorCode::kGeneric, "nicd: cannot read the claim '" + path + "'", errno);
  std::string text(kMaxClaimFile, '\0');
  const ssize_t length = ::read(fd.get(), text.data(), text.size());
  text.resize(length > 0 ? static_cast<size_t>(length) : 0);
  const size_t at = text.find("token = ");
  const bool hasToken =
      at != std::string::npos && parseHex(std::string_view(text).substr(at + 8, 2 * kTokenLength), hello_.token, kTokenLength);
  if (!hasToken || !setName(hello_.claim, name)) {
    return makeError(ErrorCode::kGeneric,
                     "nicd: '" + path + "' is no claim: a file of the claim's name with a line 'token = ' and 64 hex digits is one");
  }
  return {};
}

Result<std::shared_ptr<Connection>> Connection::open(const Options& options) {
  std::shared_ptr<Connection> connection(new Connection(options));
  static_cast<void>(setName(connection->hello_.name, options.name));
  if (auto r = connection->readClaim(); !r) return r.error();
  connection->wake_ = UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!connection->wake_.valid()) return makeError(ErrorCode::kGeneric, "cannot create an eventfd", errno);
  auto socket = connection->connectAndGreet();
  if (!socket) return socket.error();
  connection->socket_ = socket.take();
  connection->thread_ = std::thread([raw = connection.get()] { raw->run(); });
  return connection;
}

Connection::~Connection() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake();
  if (thread_.joinable()) thread_.join();
}

void Connection::wake() { ::eventfd_write(wake_.get(), 1); }

Result<UniqueFd> Connection::connectAndGreet() {
  auto socket = connectTo(options_.socket);
  if (!socket) return socket.error();
  auto reply = exchange(socket->get(), encode(MessageType::kHello, 1, hello_), {});
  if (!reply) return reply.error();
  const auto* welcome = std::get_if<Welcome>(&reply->body);
  if (welcome == nullptr) return makeError(ErrorCode::kGeneric, "nicd: '" + options_.socket + "' answers something else than a welcome");
  welcome_ = *welcome;
  return socket;
}

Result<Connection::Reply> Connection::exchange(int socket, Message message, std::span<const int> descriptors) {
  const auto deadline = SteadyClock::now() + kGreetingTime;
  uint64_t id = 0;
  {
    const std::lock_guard lock(mutex_);
    id = nextRequest_++;
  }
  setRequestId(message, id);
  // Where it can't be sent, what nicd said before it closed (a refused connection) may still be there to read.
  static_cast<void>(sendMessage(socket, message, descriptors));
  for (;;) {
    pollfd polled{socket, POLLIN, 0};
    if (::poll(&polled, 1, millisecondsUntil(deadline)) == 0) return lateError();
    Received received;
    const Transfer got = receiveMessage(socket, received);
    if (got == Transfer::kWouldBlock) continue;
    if (got != Transfer::kDone) return makeError(ErrorCode::kGeneric, "outrigger-nicd closed the connection");
    auto answer = decodeAnswer(received.bytes);
    if (!answer) return answer.error();
    if (const auto* refused = std::get_if<RefusedText>(&answer->body);
        refused != nullptr && (answer->requestId == id || answer->requestId == 0)) {
      return refusedError(*refused);
    }
    if (answer->requestId == id) return Reply{std::move(answer->body), std::move(received.descriptors)};
    if (answer->requestId == 0) deliver(answer.take(), {});
  }
}

bool Connection::sendNow(const Message& message, std::span<const int> descriptors) {
  const auto deadline = SteadyClock::now() + kAnswerTime;
  for (;;) {
    const Transfer sent = sendMessage(socket_.get(), message, descriptors);
    if (sent == Transfer::kDone) return true;
    if (sent != Transfer::kWouldBlock) return false;
    // nicd reads on when this client's budget allows it.
    pollfd polled{socket_.get(), POLLOUT, 0};
    if (::poll(&polled, 1, millisecondsUntil(deadline)) == 0) return false;
  }
}

Result<Connection::Reply> Connection::ask(Message message, std::span<const int> descriptors) {
  std::unique_lock lock(mutex_);
  if (!socket_.valid()) return makeError(ErrorCode::kResourceTemporarilyUnavailable, "outrigger-nicd is away: " + away_);
  const uint64_t id = nextRequest_++;
  setRequestId(message, id);
  Pending pending;
  pending_[id] = &pending;
  if (!sendNow(message, descriptors)) {
    pending_.erase(id);
    return makeError(ErrorCode::kResourceTemporarilyUnavailable, "outrigger-nicd takes no requests");
  }
  const bool inTime = answered_.wait_for(lock, kAnswerTime, [&] { return pending.done; });
  pending_.erase(id);
  if (!inTime) return lateError();
  if (pending.failed) return makeError(ErrorCode::kResourceTemporarilyUnavailable, "outrigger-nicd is away: " + away_);
  if (const auto* refused = std::get_if<RefusedText>(&pending.reply.body)) return refusedError(*refused);
  return std::move(pending.reply);
}

bool Connection::postMessage(Message message) {
  const std::lock_guard lock(mutex_);
  if (!socket_.valid()) return false;
  setRequestId(message, nextRequest_++);
  return sendNow(message, {});
}

bool Connection::askStatistics(uint64_t session) {
  Statistics asked;
  asked.session = session;
  Message message = encode(MessageType::kStatistics, 1, static_cast<SessionRequest&>(asked));
  const std::lock_guard lock(mutex_);
  if (!socket_.valid() || !sessions_.contains(session)) return false;
  const uint64_t id = nextRequest_++;
  setRequestId(message, id);
  // One at a time: what nicd has refused, or not answered yet, is forgotten.
  std::erase_if(statisticsAsked_, [&](const auto& each) { return each.second == session; });
  statisticsAsked_[id] = session;
  return sendNow(message, {});
}

Result<void> Connection::keep(const Opened& opened, int socket) {
  UniqueFd own(::fcntl(socket, F_DUPFD_CLOEXEC, 0));
  if (!own.valid()) return makeError(ErrorCode::kGeneric, "nicd: cannot duplicate a socket", errno);
  const std::lock_guard lock(mutex_);
  Kept& kept = sessions_[opened.session];
  std::copy(std::begin(opened.token), std::end(opened.token), kept.token.begin());
  kept.socket = std::make_shared<UniqueFd>(std::move(own));
  return {};
}

void Connection::listen(uint64_t session, SessionListener* listener) {
  // Waits until a call that is under way has returned.
  const std::lock_guard calls(listenerMutex_);
  {
    const std::lock_guard lock(mutex_);
    const auto found = sessions_.find(session);
    if (found == sessions_.end()) return;
    found->second.listener = listener;
  }
  const auto unheard = unheard_.find(session);
  if (unheard == unheard_.end() || listener == nullptr) return;
  for (const FeedEntry& entry : unheard->second) listener->onFeed(entry);
  unheard_.erase(unheard);
}

void Connection::drop(uint64_t session) {
  {
    const std::lock_guard calls(listenerMutex_);
    const std::lock_guard lock(mutex_);
    const bool known = sessions_.erase(session) != 0;
    unheard_.erase(session);
    std::erase_if(statisticsAsked_, [&](const auto& each) { return each.second == session; });
    if (!known) return;
  }
  CloseSession close;
  close.session = session;
  static_cast<void>(request(MessageType::kCloseSession, static_cast<SessionRequest&>(close)));
  // What the feed said until it was closed.
  const std::lock_guard calls(listenerMutex_);
  unheard_.erase(session);
}

bool Connection::tryStanding(uint64_t session, Standing& standing) const {
  const std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock.owns_lock()) return false;
  const auto found = sessions_.find(session);
  standing.lost = found == sessions_.end() ? "it was closed" : found->second.lost;
  standing.away = socket_.valid() ? "" : away_;
  return true;
}

bool Connection::isAway() const {
  const std::lock_guard lock(mutex_);
  return !socket_.valid();
}

void Connection::deliverFeed(const FeedEntries& feed) {
  const std::lock_guard calls(listenerMutex_);
  SessionListener* listener = nullptr;
  {
    const std::lock_guard lock(mutex_);
    if (const auto found = sessions_.find(feed.session); found != sessions_.end()) listener = found->second.listener;
  }
  if (listener == nullptr) return holdFeed(feed);
  for (const FeedEntry& entry : feed.entries) listener->onFeed(entry);
}

void Connection::holdFeed(const FeedEntries& feed) {
  std::vector<FeedEntry>& held = unheard_[feed.session];
  const auto isLink = [](const FeedEntry& entry) { return entry.kind == static_cast<uint8_t>(FeedKind::kLink); };
  for (const FeedEntry& entry : feed.entries) {
    const auto kind = static_cast<FeedKind>(entry.kind);
    if (kind == FeedKind::kLink) std::erase_if(held, isLink);
    if (kind == FeedKind::kAddresses) std::erase_if(held, [&](const FeedEntry& each) { return !isLink(each); });
    if (kind != FeedKind::kRoute && held.size() < kMaxUnheard) held.push_back(entry);
  }
}

void Connection::deliverStatistics(uint64_t requestId, const StatisticsAnswer& answer) {
  const std::lock_guard calls(listenerMutex_);
  SessionListener* listener = nullptr;
  {
    const std::lock_guard lock(mutex_);
    const auto asked = statisticsAsked_.find(requestId);
    if (asked == statisticsAsked_.end()) return;
    if (const auto found = sessions_.find(asked->second); found != sessions_.end()) listener = found->second.listener;
    statisticsAsked_.erase(asked);
  }
  if (listener != nullptr) listener->onStatistics(answer);
}

void Connection::deliver(Answer answer, std::vector<UniqueFd> descriptors) {
  if (const auto* feed = std::get_if<FeedEntries>(&answer.body)) return deliverFeed(*feed);
  if (const auto* statistics = std::get_if<StatisticsAnswer>(&answer.body)) return deliverStatistics(answer.requestId, *statistics);
  const std::lock_guard lock(mutex_);
  if (const auto* gone = std::get_if<LostText>(&answer.body)) {
    if (const auto found = sessions_.find(gone->session); found != sessions_.end()) found->second.lost = gone->text;
    return;
  }
  const auto found = pending_.find(answer.requestId);
  if (found == pending_.end()) return;
  found->second->reply = {std::move(answer.body), std::move(descriptors)};
  found->second->done = true;
  answered_.notify_all();
}

void Connection::readAll() {
  for (;;) {
    Received received;
    const Transfer got = receiveMessage(socket_.get(), received);
    if (got == Transfer::kWouldBlock) return;
    if (got != Transfer::kDone) return goAway("it closed the connection");
    auto answer = decodeAnswer(received.bytes);
    if (!answer) return goAway("it sent what can't be read: " + answer.error().message);
    deliver(answer.take(), std::move(received.descriptors));
  }
}

void Connection::goAway(const std::string& why) {
  const std::lock_guard lock(mutex_);
  socket_.reset();
  away_ = why;
  statisticsAsked_.clear();
  for (const auto& [id, pending] : pending_) pending->done = pending->failed = true;
  answered_.notify_all();
}

// The socket becomes everyone's when all sessions are presented: a request in between would find them unknown.
void Connection::comeBack() {
  auto socket = connectAndGreet();
  std::vector<std::pair<uint64_t, Resume>> resumes;
  std::vector<std::shared_ptr<UniqueFd>> sockets;
  {
    const std::lock_guard lock(mutex_);
    if (!socket) {
      away_ = socket.error().message;
      return;
    }
    for (const auto& [id, kept] : sessions_) {
      if (!kept.lost.empty()) continue;
      Resume resume;
      resume.session = id;
      std::copy(kept.token.begin(), kept.token.end(), resume.token);
      resumes.emplace_back(id, resume);
      sockets.push_back(kept.socket);
    }
  }
  std::vector<uint64_t> resumed;
  for (size_t i = 0; i < resumes.size(); ++i) {
    const auto& [id, resume] = resumes[i];
    const int own = sockets[i]->get();
    auto reply = exchange(socket->get(), encode(MessageType::kResume, 1, resume), {&own, 1});
    const std::lock_guard lock(mutex_);
    if (!reply && reply.error().code == ErrorCode::kResourceTemporarilyUnavailable) return;  // it went away again
    const auto found = sessions_.find(id);
    if (found == sessions_.end()) continue;
    if (reply) {
      resumed.push_back(id);
    } else {
      found->second.lost = reply.error().message;
    }
  }
  {
    const std::lock_guard lock(mutex_);
    socket_ = socket.take();
    away_.clear();
  }
  const std::lock_guard calls(listenerMutex_);
  for (const uint64_t id : resumed) {
    SessionListener* listener = nullptr;
    {
      const std::lock_guard lock(mutex_);
      if (const auto found = sessions_.find(id); found != sessions_.end()) listener = found->second.listener;
    }
    if (listener != nullptr) listener->onResumed();
  }
}

void Connection::wakeListeners() {
  const std::lock_guard calls(listenerMutex_);
  std::vector<SessionListener*> listeners;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [id, kept] : sessions_) {
      if (kept.listener != nullptr) listeners.push_back(kept.listener);
    }
  }
  for (SessionListener* listener : listeners) listener->onWake();
}

void Connection::run() {
  ::pthread_setname_np(::pthread_self(), "outrigger-nicdc");
  int retryMs = kFirstRetryMs;
  for (;;) {
    int socket = -1;
    {
      const std::lock_guard lock(mutex_);
      if (stopping_) return;
      socket = socket_.get();
    }
    pollfd polled[2]{{wake_.get(), POLLIN, 0}, {socket, POLLIN, 0}};
    const int ready = ::poll(polled, socket < 0 ? 1 : 2, socket < 0 ? retryMs : -1);
    eventfd_t ignored = 0;
    if ((polled[0].revents & POLLIN) != 0 && ::eventfd_read(wake_.get(), &ignored) == 0) wakeListeners();
    if (socket >= 0 && polled[1].revents != 0) readAll();
    if (socket < 0 && ready == 0) {
      comeBack();
      retryMs = std::min(2 * retryMs, kLastRetryMs);
    }
    if (socket >= 0) retryMs = kFirstRetryMs;
  }
}

}  // namespace outrigger::nicd
