// SPDX-License-Identifier: Apache-2.0
// The first steps of every device that comes from outrigger-nicd: connect, ask what the interface is like, open a session.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "io/backend.h"
#include "io/nicd_client/connection.h"

namespace outrigger::nicd {

// What `explain` calls who opened the device.
std::string nicdAt(const io::BackendOptions& options);

// To options.nicdSocket, with options.nicdClaim.
Result<std::shared_ptr<Connection>> connectForDriver(const io::BackendOptions& options);

// `name` empty: the one that nicd would give.
Result<Described> describeInterface(Connection& connection, const std::string& name);

// Receive queues that the interface has and the claim allows.
std::vector<uint32_t> allowedQueues(const Described& interface);

struct OpenSession {
  OpenedText answer;
  UniqueFd socket;
};
// Sends the request; the session is kept by the connection from then on.
template <typename Body>
Result<OpenSession> openSession(Connection& connection, MessageType type, const Body& body, std::span<const int> descriptors) {
  auto reply = connection.request(type, body, descriptors);
  if (!reply) return reply.error();
  auto* opened = std::get_if<OpenedText>(&reply->body);
  if (opened == nullptr || reply->descriptors.size() != 1) {
    return makeError(ErrorCode::kGeneric, "outrigger-nicd opened a session without handing over its socket");
  }
  OpenSession session{std::move(*opened), std::move(reply->descriptors.front())};
  if (auto kept = connection.keep(session.answer.opened, session.socket.get()); !kept) return kept.error();
  return session;
}

}  // namespace outrigger::nicd
