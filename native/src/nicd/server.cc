// SPDX-License-Identifier: Apache-2.0
#include "nicd/server.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/clock.h"
#include "base/json_log.h"
#include "nicd/numbers.h"
#include "nicd/refusal.h"

namespace outrigger::nicd {
namespace {

constexpr uint64_t kSignal = 1;
constexpr uint64_t kListener = 2;
constexpr uint64_t kTables = 3;
constexpr int kMaxEvents = 64;
// Requests of one client before the next has its turn.
constexpr int kRequestsPerTurn = 8;
constexpr int64_t kGreetingNs = 5'000 * kMillisecond;
// What gives no event is looked at this often: leases, interfaces, detached programs, processes that ended.
constexpr int64_t kCollectNs = 1'000 * kMillisecond;
// A process that closes its connection since it ends is dead a moment later.
constexpr int64_t kAfterDisconnectNs = 20 * kMillisecond;
constexpr int kBacklog = 64;

int64_t now() { return SystemClock().nanoTime(); }

Result<sockaddr_un> addressFor(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    return makeError(ErrorCode::kGeneric, "--socket is '" + path + "'; allowed: up to 107 characters");
  }
  std::memcpy(address.sun_path, path.c_str(), path.size());
  return address;
}

// A socket file that a dead process left is in the way; one that answers is another nicd.
Result<void> removeStale(const std::string& path, const sockaddr_un& address) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) return {};
  if (!S_ISSOCK(status.st_mode)) return makeError(ErrorCode::kGeneric, "'" + path + "' of --socket exists and is no socket: remove it");
  const UniqueFd probe(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0 || errno == EAGAIN) {
    return makeError(ErrorCode::kGeneric, "another outrigger-nicd serves '" + path + "': end it, or choose another --socket", EADDRINUSE);
  }
  ::unlink(path.c_str());
  return {};
}

}  // namespace

Result<std::unique_ptr<Server>> Server::create(const Options& options) {
  auto store = SessionStore::open(options.stateDirectory);
  if (!store) return store.error();
  if (!options.bpfDirectory.empty()) {
    if (auto r = prepareBpfDirectory(options.bpfDirectory); !r) return r.error();
  }
  std::unique_ptr<Server> server(new Server(options, store.take()));
  if (auto r = server->open(); !r) return r.error();
  return server;
}

Server::~Server() {
  if (listener_.valid()) ::unlink(options_.socket.c_str());
}

Result<void> Server::open() {
  epoll_ = UniqueFd(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll_.valid()) return makeError(ErrorCode::kGeneric, "cannot create an epoll descriptor", errno);
  auto tables = net::NetlinkTables::create();
  if (!tables) return tables.error();
  tables_ = tables.take();
  instance_ = randomId();
  startedNs_ = now();
  if (auto r = listen(); !r) return r;
  // Only now: an earlier process that still serves must keep its sessions.
  registry_.restore(now());
  for (const auto& [fd, tag] : {std::pair{listener_.get(), kListener}, std::pair{tables_->changeHandle(), kTables}}) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = tag;
    if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) return makeError(ErrorCode::kGeneric, "cannot wait for events", errno);
  }
  return {};
}

Result<void> Server::listen() {
  auto address = addressFor(options_.socket);
  if (!address) return address.error();
  if (auto r = removeStale(options_.socket, *address); !r) return r;
  UniqueFd listener(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener.valid()) return makeError(ErrorCode::kGeneric, "cannot create a UNIX socket", errno);
  if (::bind(listener.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof(*address)) != 0) {
    return makeError(ErrorCode::kGeneric, "cannot bind '" + options_.socket + "' of --socket: check that its directory exists", errno);
  }
  listener_ = std::move(listener);
  if (options_.socketGroup >= 0 &&
      ::chown(options_.socket.c_str(), static_cast<uid_t>(-1), static_cast<gid_t>(options_.socketGroup)) != 0) {
    return makeError(ErrorCode::kGeneric, "cannot give '" + options_.socket + "' to group " + std::to_string(options_.socketGroup), errno);
  }
  if (::chmod(options_.socket.c_str(), static_cast<mode_t>(options_.socketMode)) != 0) {
    return makeError(ErrorCode::kGeneric, "cannot set the mode of '" + options_.socket + "'", errno);
  }
  if (::listen(listener_.get(), kBacklog) != 0) return makeError(ErrorCode::kGeneric, "cannot listen on '" + options_.socket + "'", errno);
  return {};
}

Result<void> Server::run(int signalFd) {
  epoll_event signalEvent{};
  signalEvent.events = EPOLLIN;
  signalEvent.data.u64 = kSignal;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, signalFd, &signalEvent) != 0) {
    return makeError(ErrorCode::kGeneric, "cannot wait for signals", errno);
  }
  LogLine(LogLevel::kInfo)
      .add("socket", options_.socket)
      .add("pinned", options_.bpfDirectory)
      .add("packet", options_.allowPacket ? "yes" : "no")
      .write("nicd is ready");
  epoll_event events[kMaxEvents];
  for (;;) {
    const int count = ::epoll_wait(epoll_.get(), events, kMaxEvents, timeoutMs(now()));
    if (count < 0 && errno != EINTR) return makeError(ErrorCode::kGeneric, "cannot wait for events", errno);
    const int64_t nowNs = now();
    for (int i = 0; i < count; ++i) {
      const uint64_t tag = events[i].data.u64;
      if (tag == kSignal) return {};
      if (tag == kListener) {
        accept(nowNs);
      } else if (tag == kTables) {
        eventfd_t ignored = 0;
        ::eventfd_read(tables_->changeHandle(), &ignored);
        registry_.linksChanged();
        collect(nowNs);
        feedAll();
      } else if (const auto found = clients_.find(tag); found != clients_.end()) {
        const bool over = (events[i].events & (EPOLLHUP | EPOLLERR)) != 0;
        if (over && found->second->paused) {
          disconnect(tag, "it closed the connection");
        } else if (over || (events[i].events & EPOLLIN) != 0) {
          serve(*found->second, nowNs);
        }
        // It may be gone by now.
        if (const auto again = clients_.find(tag); again != clients_.end()) flush(*again->second);
      }
    }
    onTimer(nowNs);
  }
}

Result<Owner> Server::identify(int socket, bool& mayConnect) const {
  ucred peer{};
  socklen_t length = sizeof(peer);
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) return makeError(ErrorCode::kGeneric, "SO_PEERCRED", errno);
  Owner owner;
  owner.uid = peer.uid;
  owner.pid = peer.pid;
  owner.processStart = processStartOf(peer.pid);
  const auto listed = [](const std::vector<uint32_t>& ids, uint32_t id) { return std::find(ids.begin(), ids.end(), id) != ids.end(); };
  // A claim decides by itself, at Hello; its token is what the pod was given, whatever user it runs as.
  mayConnect = !options_.claims.empty() || peer.uid == 0 || peer.uid == ::getuid() || listed(options_.allowUids, peer.uid) ||
               listed(options_.allowGids, peer.gid);
  return owner;
}

void Server::accept(int64_t nowNs) {
  UniqueFd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!socket.valid()) return;
  bool mayConnect = false;
  auto owner = identify(socket.get(), mayConnect);
  std::string refusal;
  Refusal code = Refusal::kLimit;
  if (!owner || !mayConnect) {
    code = Refusal::kNotAllowed;
    refusal = owner ? "user " + std::to_string(owner->uid) + " may not connect: start outrigger-nicd with --allow-uid or --allow-gid"
                    : owner.error().message;
  } else if (clients_.size() >= static_cast<size_t>(options_.maxClients)) {
    refusal = "there are " + std::to_string(clients_.size()) + " connections, as many as --max-clients allows";
  } else {
    const auto same =
        std::count_if(clients_.begin(), clients_.end(), [&](const auto& each) { return each.second->owner.uid == owner->uid; });
    if (same >= options_.maxClientsOfUid) {
      refusal =
          "user " + std::to_string(owner->uid) + " has " + std::to_string(same) + " connections, as many as --max-clients-of-uid allows";
    }
  }
  if (!refusal.empty()) {
    ++refusedConnections_;
    static_cast<void>(sendMessage(socket.get(), encodeRefused(0, code, 0, refusal), {}));
    // Once a power of two: a flood must not fill the log.
    if ((refusedConnections_ & (refusedConnections_ - 1)) == 0) {
      LogLine(LogLevel::kWarn).add("why", refusal).add("refused", refusedConnections_).write("refused a connection");
    }
    return;
  }
  UniqueFd process = watchPeer(socket.get(), static_cast<pid_t>(owner->pid));
  auto client = std::make_unique<Client>(std::move(socket), owner.take(), options_.maxRequestsPerSecond, nowNs);
  client->id = nextClient_++;
  client->process = std::move(process);
  client->greetingDueNs = nowNs + kGreetingNs;
  watchEvents(*client, true);
  const uint64_t id = client->id;
  clients_.emplace(id, std::move(client));
}

void Server::watchEvents(const Client& client, bool add) {
  epoll_event event{};
  event.events = (client.paused || client.ending ? 0U : static_cast<uint32_t>(EPOLLIN)) |
                 (client.wantsToSend() ? static_cast<uint32_t>(EPOLLOUT) : 0U);
  event.data.u64 = client.id;
  ::epoll_ctl(epoll_.get(), add ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, client.fd(), &event);
}

void Server::serve(Client& client, int64_t nowNs) {
  const uint64_t id = client.id;
  Received received;
  for (int i = 0; i < kRequestsPerTurn && !client.ending; ++i) {
    if (!client.budget.take(nowNs)) {
      client.paused = true;
      break;
    }
    const Transfer got = receiveMessage(client.fd(), received);
    if (got == Transfer::kWouldBlock) break;
    if (got == Transfer::kClosed) return disconnect(id, "it closed the connection");
    if (got == Transfer::kTooMuch) {
      ++malformed_;
      reply(client, encodeRefused(0, Refusal::kMalformed, 0, "a message is longer than 8192 bytes or has more than 2 descriptors"));
      client.ending = true;
      break;
    }
    ++client.requests;
    handle(client, received, nowNs);
  }
}

void Server::flush(Client& client) {
  if (!client.flush()) {
    disconnect(client.id, client.ending ? "it was refused" : "it closed the connection");
    return;
  }
  watchEvents(client, false);
}

void Server::reply(Client& client, Message message, UniqueFd descriptor) {
  if (!client.answer(std::move(message), std::move(descriptor))) client.ending = true;
}

void Server::disconnect(uint64_t id, const std::string& why) {
  const auto found = clients_.find(id);
  if (found == clients_.end()) return;
  const std::unique_ptr<Client> client = std::move(found->second);
  clients_.erase(found);
  const int64_t nowNs = now();
  for (const auto& [session, feed] : client->feeds) registry_.detach(session, nowNs);
  if (!client->feeds.empty()) {
    LogLine(LogLevel::kInfo)
        .add("client", client->name)
        .add("uid", static_cast<int64_t>(client->owner.uid))
        .add("sessions", static_cast<int64_t>(client->feeds.size()))
        .add("why", why)
        .write("a client is gone, its lease begins");
    nextCollectNs_ = std::min(nextCollectNs_, nowNs + kAfterDisconnectNs);
  }
}

void Server::feedAll() {
  std::vector<uint64_t> ids;
  for (const auto& [id, client] : clients_) ids.push_back(id);
  for (const uint64_t id : ids) {
    Client& client = *clients_[id];
    client.feed();
    flush(client);
  }
}

void Server::collect(int64_t nowNs) {
  std::vector<uint64_t> touched;
  registry_.collect(nowNs, [&](const Session& session, const std::string& why) {
    for (const auto& [id, client] : clients_) {
      if (client->feeds.erase(session.record.id) == 0) continue;
      reply(*client, encodeLost(session.record.id, why));
      touched.push_back(id);
    }
  });
  for (const uint64_t id : touched) {
    if (const auto found = clients_.find(id); found != clients_.end()) flush(*found->second);
  }
}

void Server::onTimer(int64_t nowNs) {
  std::vector<uint64_t> late;
  for (const auto& [id, client] : clients_) {
    if (!client->greeted && nowNs >= client->greetingDueNs) late.push_back(id);
    if (client->paused && nowNs >= client->budget.nextNs()) {
      client->paused = false;
      watchEvents(*client, false);
    }
  }
  for (const uint64_t id : late) disconnect(id, "it never said Hello");
  if (nowNs >= nextCollectNs_ || nowNs >= registry_.nextDueNs()) {
    nextCollectNs_ = nowNs + kCollectNs;
    collect(nowNs);
  }
}

int Server::timeoutMs(int64_t nowNs) const {
  int64_t due = std::min(nextCollectNs_, registry_.nextDueNs());
  // Nothing at all to look after: sleep until someone comes.
  if (clients_.empty() && registry_.sessions().empty()) return -1;
  for (const auto& [id, client] : clients_) {
    if (client->paused) due = std::min(due, client->budget.nextNs());
    if (!client->greeted) due = std::min(due, client->greetingDueNs);
  }
  return static_cast<int>(std::clamp<int64_t>((due - nowNs + kMillisecond - 1) / kMillisecond, 0, 1000));
}

}  // namespace outrigger::nicd
