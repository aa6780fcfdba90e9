// SPDX-License-Identifier: Apache-2.0
// What each request does. Every value was checked for form (protocol.cc); here it is checked against who asks.
#include <arpa/inet.h>
#include <sys/socket.h>

#include <algorithm>

#include "base/clock.h"
#include "base/json_log.h"
#include "io/nicd_client/seqpacket.h"
#include "nicd/refusal.h"
#include "nicd/server.h"
#include "nicd/status.h"

namespace outrigger::nicd {
namespace {

// The discard port (RFC 863): nobody listens, and nothing needs to arrive: the kernel resolves the neighbour to send it.
constexpr uint16_t kDiscardPort = 9;

// Has the kernel look for a neighbour, by having something to send to it.
Result<void> provokeResolution(const std::string& interface, Address address) {
  const int family = address.family == 6 ? AF_INET6 : AF_INET;
  const UniqueFd socket(::socket(family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket.valid()) return makeError(ErrorCode::kGeneric, "cannot create a UDP socket", errno);
  if (::setsockopt(socket.get(), SOL_SOCKET, SO_BINDTODEVICE, interface.c_str(), static_cast<socklen_t>(interface.size() + 1)) != 0) {
    return makeError(ErrorCode::kGeneric, "cannot bind a UDP socket to the interface " + interface, errno);
  }
  address.port = kDiscardPort;
  const io::SockAddr to = sockAddrOf(address);
  if (::sendto(socket.get(), nullptr, 0, MSG_NOSIGNAL, to.get(), to.length) < 0 && errno != EAGAIN && errno != ENOBUFS) {
    return refuse(Refusal::kSystem, "cannot ask for the neighbour " + to.toString(), errno);
  }
  return {};
}

}  // namespace

void Server::handle(Client& client, Received& received, int64_t nowNs) {
  uint64_t requestId = 0;
  auto request = decodeRequest(received.bytes, requestId);
  if (!request || !mayCarry(request->body, received.descriptors.size())) {
    ++malformed_;
    reply(client, encodeRefused(requestId, Refusal::kMalformed, 0,
                                request ? std::to_string(received.descriptors.size()) +
                                              " descriptors came with the request, which is not what it needs"
                                        : request.error().message));
    client.ending = true;
    return;
  }
  auto done = dispatch(client, *request, received.descriptors);
  if (!done) {
    const Refusal refusal = refusalOf(done.error());
    ++registry_.totals.refused;
    reply(client, encodeRefused(requestId, refusal, done.error().sysErrno, done.error().message));
    if (!client.greeted || refusal == Refusal::kMalformed) client.ending = true;
  }
  static_cast<void>(nowNs);
}

Result<void> Server::dispatch(Client& client, Request& request, std::vector<UniqueFd>& descriptors) {
  const uint64_t id = request.requestId;
  RequestBody& body = request.body;
  UniqueFd descriptor = descriptors.empty() ? UniqueFd() : std::move(descriptors.front());
  if (const auto* hello = std::get_if<Hello>(&body)) return greet(client, id, *hello);
  if (!client.greeted) return refuse(Refusal::kOutOfTurn, "the first request must be Hello");
  if (const auto* open = std::get_if<OpenXdp>(&body)) return openXdp(client, id, *open, std::move(descriptor));
  if (const auto* open = std::get_if<OpenPacket>(&body)) return openPacket(client, id, *open);
  if (const auto* open = std::get_if<OpenPort>(&body)) return openPort(client, id, *open, descriptor);
  if (const auto* asked = std::get_if<Resolve>(&body)) return resolve(client, id, *asked);
  if (const auto* asked = std::get_if<Statistics>(&body)) return statistics(client, id, *asked);
  if (const auto* asked = std::get_if<Resume>(&body)) return resume(client, id, *asked, descriptor);
  if (const auto* asked = std::get_if<Watch>(&body)) return watch(client, *asked);
  if (const auto* asked = std::get_if<Describe>(&body)) return describe(client, id, *asked);
  if (const auto* asked = std::get_if<StatusRequest>(&body)) return status(client, id, *asked);
  if (const auto* close = std::get_if<ClosePort>(&body)) {
    auto session = ownSession(client, close->session);
    if (!session) return session.error();
    if (auto r = registry_.closePort(**session, close->address); !r) return r;
  } else if (const auto* end = std::get_if<CloseSession>(&body)) {
    auto session = ownSession(client, end->session);
    if (!session) return session.error();
    client.feeds.erase(end->session);
    registry_.close(end->session, "its holder closed it");
  } else if (const auto* asked = std::get_if<Unwatch>(&body)) {
    auto session = ownSession(client, asked->session);
    if (!session) return session.error();
    client.feeds[asked->session]->unwatch(asked->cell);
    return {};
  }
  reply(client, encodeBytes(MessageType::kDone, id, {}));
  return {};
}

Result<void> Server::greet(Client& client, uint64_t requestId, const Hello& hello) {
  if (client.greeted) return refuse(Refusal::kOutOfTurn, "Hello was said before");
  if (hello.minVersion > kMaxVersion || hello.maxVersion < kMinVersion) {
    return refuse(Refusal::kVersion, "the client speaks versions " + std::to_string(hello.minVersion) + " to " +
                                         std::to_string(hello.maxVersion) + " of the protocol, outrigger-nicd " +
                                         std::to_string(kMinVersion) + " to " + std::to_string(kMaxVersion) +
                                         ": use releases that are closer");
  }
  const bool privileged = client.owner.uid == 0 || client.owner.uid == ::getuid();
  const std::string claimName = nameOf(hello.claim);
  // Whoever runs nicd may look without a claim; sessions need one (checked there).
  if (!options_.claims.empty() && !(privileged && claimName.empty())) {
    Token token{};
    std::copy(std::begin(hello.token), std::end(hello.token), token.begin());
    auto claim = loadClaim(options_.claims, claimName, token);
    if (!claim) return refuse(Refusal::kNotAllowed, claim.error().message);
    const auto& uids = claim->uids;
    if (!uids.empty() && std::find(uids.begin(), uids.end(), client.owner.uid) == uids.end()) {
      return refuse(Refusal::kNotAllowed, "claim '" + claimName + "' is not for user " + std::to_string(client.owner.uid));
    }
    client.owner.claim = claim.take();
  }
  client.greeted = true;
  client.name = nameOf(hello.name);
  Welcome welcome;
  welcome.version = std::min(kMaxVersion, hello.maxVersion);
  welcome.leaseMs = static_cast<uint32_t>(options_.leaseMs);
  welcome.instance = instance_;
  welcome.maxUmemBytes = static_cast<uint64_t>(options_.maxUmemBytes);
  welcome.maxSessions = static_cast<uint32_t>(options_.maxSessions);
  welcome.maxPorts = static_cast<uint32_t>(options_.maxPorts);
  reply(client, encode(MessageType::kWelcome, requestId, welcome));
  return {};
}

Result<Session*> Server::ownSession(const Client& client, uint64_t id) {
  Session* session = registry_.find(id);
  if (session == nullptr || !client.feeds.contains(id)) return refuse(Refusal::kUnknown, "this connection has no such session");
  return session;
}

void Server::attach(Client& client, Session& session) {
  const SessionRecord& record = session.record;
  // Where another connection had it, this one has it now.
  for (const auto& [id, other] : clients_) other->feeds.erase(record.id);
  client.feeds[record.id] = std::make_unique<SessionFeed>(tables_, io::Netdev{record.interface, record.interfaceIndex});
  session.process = UniqueFd(::fcntl(client.process.get(), F_DUPFD_CLOEXEC, 0));
}

Result<void> Server::grant(Client& client, uint64_t requestId, Result<Registry::Grant> result) {
  if (!result) return result.error();
  Registry::Grant& given = *result;
  const SessionRecord& record = given.session->record;
  attach(client, *given.session);
  LogLine(LogLevel::kInfo)
      .add("client", client.name)
      .add("uid", static_cast<int64_t>(record.uid))
      .add("claim", record.claim)
      .add("kind", record.kind == SessionKind::kPacket ? "packet" : "xdp")
      .add("interface", record.interface)
      .add("queue", static_cast<int64_t>(record.queue))
      .add("mode", modeName(record))
      .add("reason", given.reason)
      .write("opened a session");
  const std::string reason = given.reason.substr(0, kMaxTextLength);
  given.opened.textLength = static_cast<uint32_t>(reason.size());
  reply(client, encode(MessageType::kOpened, requestId, given.opened, {reinterpret_cast<const uint8_t*>(reason.data()), reason.size()}),
        std::move(given.socket));
  client.feed();
  return {};
}

Result<void> Server::openXdp(Client& client, uint64_t requestId, const OpenXdp& request, UniqueFd descriptor) {
  if (!options_.claims.empty() && !client.owner.claim) return refuse(Refusal::kNotAllowed, "a session needs a claim");
  return grant(client, requestId, registry_.openXdp(client.owner, request, std::move(descriptor)));
}

Result<void> Server::describe(Client& client, uint64_t requestId, const Describe& request) {
  if (!options_.claims.empty() && !client.owner.claim) return refuse(Refusal::kNotAllowed, "an interface needs a claim");
  auto described = registry_.describe(client.owner, nameOf(request.interface));
  if (!described) return described.error();
  reply(client, encode(MessageType::kDescribed, requestId, *described));
  return {};
}

Result<void> Server::openPacket(Client& client, uint64_t requestId, const OpenPacket& request) {
  if (!options_.claims.empty() && !client.owner.claim) return refuse(Refusal::kNotAllowed, "a session needs a claim");
  return grant(client, requestId, registry_.openPacket(client.owner, request));
}

Result<void> Server::openPort(Client& client, uint64_t requestId, const OpenPort& request, const UniqueFd& existing) {
  auto session = ownSession(client, request.session);
  if (!session) return session.error();
  auto port = registry_.openPort(client.owner, **session, request, existing);
  if (!port) return port.error();
  reply(client, encode(MessageType::kPortOpened, requestId, PortOpened{port->address}), std::move(port->socket));
  return {};
}

Result<void> Server::resolve(Client& client, uint64_t requestId, const Resolve& request) {
  auto session = ownSession(client, request.session);
  if (!session) return session.error();
  if (auto r = provokeResolution((*session)->record.interface, request.address); !r) return r;
  reply(client, encodeBytes(MessageType::kDone, requestId, {}));
  return {};
}

Result<void> Server::statistics(Client& client, uint64_t requestId, const Statistics& request) {
  auto session = ownSession(client, request.session);
  if (!session) return session.error();
  StatisticsAnswer answer;
  if (Device* device = registry_.deviceOf(**session)) {
    for (const auto& counter : device->program().counters()) {
      const auto frames = static_cast<uint64_t>(counter.frames);
      (std::string_view(counter.name) == "steered" ? answer.steered : answer.passed) += frames;
    }
    answer.leftToKernel = static_cast<uint64_t>(device->program().framesLeftToKernel());
    // Read after the others, so it may hold frames that they do not.
    answer.passed -= std::min(answer.passed, answer.leftToKernel);
  }
  answer.feedResyncs = client.feedResyncs;
  reply(client, encode(MessageType::kStatisticsAnswer, requestId, answer));
  return {};
}

Result<void> Server::resume(Client& client, uint64_t requestId, const Resume& request, const UniqueFd& socket) {
  auto session = registry_.resume(client.owner, request, socket);
  if (!session) return session.error();
  attach(client, **session);
  LogLine(LogLevel::kInfo)
      .add("client", client.name)
      .add("uid", static_cast<int64_t>(client.owner.uid))
      .add("interface", (*session)->record.interface)
      .add("queue", static_cast<int64_t>((*session)->record.queue))
      .add("ports", static_cast<int64_t>((*session)->record.ports.size()))
      .write("a client came back for its session");
  reply(client, encodeBytes(MessageType::kDone, requestId, {}));
  client.feed();
  return {};
}

Result<void> Server::watch(Client& client, const Watch& request) {
  auto session = ownSession(client, request.session);
  if (!session) return session.error();
  size_t watched = 0;
  for (const auto& [id, feed] : client.feeds) watched += feed->watched();
  if (watched >= kMaxCells)
    return refuse(Refusal::kLimit, "this connection watches " + std::to_string(watched) + " destinations, as many as it may");
  client.feeds[request.session]->watch(request);
  client.feed();
  return {};
}

Result<void> Server::status(Client& client, uint64_t requestId, const StatusRequest& request) {
  if (client.owner.uid != 0 && client.owner.uid != ::getuid()) {
    return refuse(Refusal::kNotAllowed, "the status names all clients: only root and outrigger-nicd's own user may ask for it");
  }
  StatusView view{registry_, {}, (SystemClock().nanoTime() - startedNs_) / 1'000'000, refusedConnections_, malformed_, options_};
  for (const auto& [id, each] : clients_) {
    StatusClient row{each->name,
                     each->owner.uid,
                     each->owner.pid,
                     each->owner.claim ? each->owner.claim->name : "",
                     each->requests,
                     static_cast<int64_t>(each->feedResyncs),
                     {}};
    for (const auto& [session, feed] : each->feeds) row.sessions.push_back(session);
    view.clients.push_back(std::move(row));
  }
  const std::string text = request.format == static_cast<uint32_t>(StatusFormat::kJson) ? statusJson(view) : statusText(view);
  constexpr size_t kPart = kMaxMessageLength - sizeof(Header) - sizeof(StatusPart);
  for (size_t at = 0; at == 0 || at < text.size(); at += kPart) {
    const std::string_view part = std::string_view(text).substr(at, kPart);
    const StatusPart header{at + kPart < text.size() ? 1U : 0U, static_cast<uint32_t>(part.size())};
    reply(client, encode(MessageType::kStatusPart, requestId, header, {reinterpret_cast<const uint8_t*>(part.data()), part.size()}));
  }
  return {};
}

}  // namespace outrigger::nicd
