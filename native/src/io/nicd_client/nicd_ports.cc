// SPDX-License-Identifier: Apache-2.0
#include "io/nicd_client/nicd_ports.h"

#include <utility>

namespace outrigger::nicd {

NicdPorts::~NicdPorts() {
  for (const uint64_t session : sessions_) connection_->drop(session);
}

Result<Connection::Reply> NicdPorts::openOne(uint64_t session, const io::SockAddr& address, int32_t receiveBufferBytes, int existing) {
  OpenPort request;
  request.session = session;
  request.address = addressOf(address);
  request.receiveBufferBytes = receiveBufferBytes;
  return connection_->request(MessageType::kOpenPort, request, {&existing, existing >= 0 ? 1U : 0U});
}

Result<UniqueFd> NicdPorts::open(const io::SockAddr& address, int32_t receiveBufferBytes) {
  auto reply = openOne(sessions_.front(), address, receiveBufferBytes, -1);
  if (!reply) return reply.error();
  const auto* opened = std::get_if<PortOpened>(&reply->body);
  if (opened == nullptr || reply->descriptors.size() != 1) {
    return makeError(ErrorCode::kGeneric, "outrigger-nicd opened a port without handing over its socket");
  }
  UniqueFd socket = std::move(reply->descriptors.front());
  const io::SockAddr bound = sockAddrOf(opened->address);
  for (size_t i = 1; i < sessions_.size(); ++i) {
    if (auto more = openOne(sessions_[i], bound, 0, socket.get()); !more) return more.error();
  }
  return socket;
}

Result<void> NicdPorts::steer(const io::SteerRule& rule) {
  if (rule.reservedFd < 0) {
    return makeError(ErrorCode::kGeneric,
                     "outrigger-nicd steers only ports that it opened, and " + rule.address.toString() + " came without its socket");
  }
  for (const uint64_t session : sessions_) {
    if (auto reply = openOne(session, rule.address, 0, rule.reservedFd); !reply) return reply.error();
  }
  return {};
}

Result<void> NicdPorts::unsteer(const io::SteerRule& rule) {
  for (const uint64_t session : sessions_) {
    ClosePort request;
    request.session = session;
    request.address = addressOf(rule.address);
    auto reply = connection_->request(MessageType::kClosePort, request);
    if (reply) continue;
    if (reply.error().code != ErrorCode::kResourceTemporarilyUnavailable) return reply.error();
    const std::lock_guard lock(mutex_);
    late_.push_back(request);
  }
  return {};
}

void NicdPorts::tellLate() {
  std::vector<ClosePort> requests;
  {
    const std::lock_guard lock(mutex_);
    if (late_.empty() || connection_->isAway()) return;
    requests = std::exchange(late_, {});
  }
  for (const ClosePort& request : requests) static_cast<void>(connection_->post(MessageType::kClosePort, request));
}

}  // namespace outrigger::nicd
