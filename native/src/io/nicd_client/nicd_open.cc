// SPDX-License-Identifier: Apache-2.0
#include "io/nicd_client/nicd_open.h"

#include <unistd.h>

namespace outrigger::nicd {

std::string nicdAt(const io::BackendOptions& options) { return "outrigger-nicd at " + options.nicdSocket; }

Result<std::shared_ptr<Connection>> connectForDriver(const io::BackendOptions& options) {
  Connection::Options connection;
  connection.socket = options.nicdSocket;
  connection.claimFile = options.nicdClaim;
  connection.name = "driver-" + std::to_string(::getpid());
  return Connection::open(connection);
}

Result<Described> describeInterface(Connection& connection, const std::string& name) {
  Describe request;
  if (!setName(request.interface, name)) {
    return makeError(ErrorCode::kGeneric, "interface '" + name + "' is no name of an interface: up to 15 characters, without spaces");
  }
  auto reply = connection.request(MessageType::kDescribe, request);
  if (!reply) return reply.error();
  const auto* described = std::get_if<Described>(&reply->body);
  if (described == nullptr) return makeError(ErrorCode::kGeneric, "outrigger-nicd describes something else than an interface");
  return *described;
}

std::vector<uint32_t> allowedQueues(const Described& interface) {
  std::vector<uint32_t> queues;
  for (uint32_t queue = 0; queue < interface.queues && queue < kDescribedQueues; ++queue) {
    if ((interface.queueMask[queue / 8] & (1U << (queue % 8))) != 0) queues.push_back(queue);
  }
  return queues;
}

}  // namespace outrigger::nicd
