// SPDX-License-Identifier: Apache-2.0
// The socket: connections, who may have one, one request at a time in turn, and the clock. What requests mean is in requests.cc.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "nicd/client.h"
#include "nicd/options.h"
#include "nicd/registry.h"

namespace outrigger::nicd {

class Server {
 public:
  // Takes up what an earlier process left, and listens. The error names what the system refused and the fix.
  static Result<std::unique_ptr<Server>> create(const Options& options);
  ~Server();

  // Until `signalFd` is readable.
  Result<void> run(int signalFd);

 private:
  explicit Server(const Options& options, SessionStore store) : options_(options), registry_(options, std::move(store)) {}
  Result<void> open();
  Result<void> listen();

  void accept(int64_t nowNs);
  Result<Owner> identify(int socket, bool& mayConnect) const;
  void serve(Client& client, int64_t nowNs);
  void flush(Client& client);
  void disconnect(uint64_t id, const std::string& why);
  void watchEvents(const Client& client, bool add);
  void feedAll();
  void collect(int64_t nowNs);
  void onTimer(int64_t nowNs);
  int timeoutMs(int64_t nowNs) const;

  // requests.cc. The answer is queued; an error is answered by Refused.
  void handle(Client& client, Received& received, int64_t nowNs);
  Result<void> dispatch(Client& client, Request& request, std::vector<UniqueFd>& descriptors);
  Result<void> greet(Client& client, uint64_t requestId, const Hello& hello);
  Result<void> openXdp(Client& client, uint64_t requestId, const OpenXdp& request, UniqueFd descriptor);
  Result<void> openPacket(Client& client, uint64_t requestId, const OpenPacket& request);
  Result<void> grant(Client& client, uint64_t requestId, Result<Registry::Grant> result);
  Result<void> openPort(Client& client, uint64_t requestId, const OpenPort& request, const UniqueFd& existing);
  Result<void> resolve(Client& client, uint64_t requestId, const Resolve& request);
  Result<void> statistics(Client& client, uint64_t requestId, const Statistics& request);
  Result<void> resume(Client& client, uint64_t requestId, const Resume& request, const UniqueFd& socket);
  Result<void> watch(Client& client, const Watch& request);
  Result<void> describe(Client& client, uint64_t requestId, const Describe& request);
  Result<void> status(Client& client, uint64_t requestId, const StatusRequest& request);
  // The session when it is this connection's.
  Result<Session*> ownSession(const Client& client, uint64_t id);
  void attach(Client& client, Session& session);
  void reply(Client& client, Message message, UniqueFd descriptor = {});

  Options options_;
  Registry registry_;
  std::shared_ptr<net::NetlinkTables> tables_;
  UniqueFd epoll_;
  UniqueFd listener_;
  uint64_t instance_ = 0;
  uint64_t nextClient_ = 16;  // below: descriptors that are no clients
  std::map<uint64_t, std::unique_ptr<Client>> clients_;
  int64_t startedNs_ = 0;
  int64_t nextCollectNs_ = 0;
  int64_t refusedConnections_ = 0;
  int64_t malformed_ = 0;
};

}  // namespace outrigger::nicd
