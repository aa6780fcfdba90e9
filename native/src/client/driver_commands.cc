// SPDX-License-Identifier: Apache-2.0
// Encoding of client commands: see cnc/commands.h for the records.
#include "client/driver_commands.h"

#include <string>

namespace outrigger::client {
namespace {

// int32 key length, key padded to 4, int32 label length, label.
std::string keyAndLabel(std::string_view key, std::string_view label) {
  const auto appendInt = [](std::string& out, size_t value) {
    const auto narrow = static_cast<int32_t>(value);
    out.append(reinterpret_cast<const char*>(&narrow), sizeof(narrow));
  };
  std::string out;
  appendInt(out, key.size());
  out.append(key);
  out.resize(alignUp<size_t>(out.size(), 4), '\0');
  appendInt(out, label.size());
  out.append(label);
  return out;
}

}  // namespace

bool DriverCommands::send(cnc::Command command, const void* fixed, size_t fixedLength, std::string_view tail) {
  bool written = false;
  if (tail.empty()) {
    written = ring_.write(static_cast<int32_t>(command), fixed, static_cast<int32_t>(fixedLength));
  } else {
    std::string record(static_cast<const char*>(fixed), fixedLength);
    record.append(tail);
    written = ring_.write(static_cast<int32_t>(command), record.data(), static_cast<int32_t>(record.size()));
  }
  memory_->bells().ringAgent(cnc::AgentId::kConductor);
  return written;
}

bool DriverCommands::addPublication(int64_t correlationId, std::string_view channel, int32_t streamId, bool exclusive) {
  const cnc::PublicationCommand command{{clientId_, correlationId}, streamId, static_cast<int32_t>(channel.size())};
  return send(exclusive ? cnc::Command::kAddExclusivePublication : cnc::Command::kAddPublication, &command, sizeof(command), channel);
}

bool DriverCommands::removePublication(int64_t correlationId, int64_t registrationId, bool revoke) {
  const cnc::RemovePublicationCommand command{{clientId_, correlationId}, registrationId, revoke ? uint64_t{1} : uint64_t{0}};
  return send(cnc::Command::kRemovePublication, &command, sizeof(command));
}

bool DriverCommands::addSubscription(int64_t correlationId, std::string_view channel, int32_t streamId) {
  const cnc::SubscriptionCommand command{{clientId_, correlationId}, -1, streamId, static_cast<int32_t>(channel.size())};
  return send(cnc::Command::kAddSubscription, &command, sizeof(command), channel);
}

bool DriverCommands::removeSubscription(int64_t correlationId, int64_t registrationId) {
  const cnc::RemoveCommand command{{clientId_, correlationId}, registrationId};
  return send(cnc::Command::kRemoveSubscription, &command, sizeof(command));
}

bool DriverCommands::destination(cnc::Command kind, int64_t correlationId, int64_t registrationId, std::string_view channel) {
  const cnc::DestinationCommand command{{clientId_, correlationId}, registrationId, static_cast<int32_t>(channel.size())};
  return send(kind, &command, sizeof(command), channel);
}

bool DriverCommands::removeDestinationById(int64_t correlationId, int64_t registrationId, int64_t destinationId) {
  const cnc::DestinationByIdCommand command{{clientId_, correlationId}, registrationId, destinationId};
  return send(cnc::Command::kRemoveDestinationById, &command, sizeof(command));
}

bool DriverCommands::addCounter(int64_t correlationId, int32_t typeId, std::string_view key, std::string_view label) {
  const cnc::CounterCommand command{{clientId_, correlationId}, typeId};
  return send(cnc::Command::kAddCounter, &command, sizeof(command), keyAndLabel(key, label));
}

bool DriverCommands::addStaticCounter(int64_t correlationId, int64_t registrationId, int32_t typeId, std::string_view key,
                                      std::string_view label) {
  const cnc::StaticCounterCommand command{{clientId_, correlationId}, registrationId, typeId};
  return send(cnc::Command::kAddStaticCounter, &command, sizeof(command), keyAndLabel(key, label));
}

bool DriverCommands::removeCounter(int64_t correlationId, int64_t registrationId) {
  const cnc::RemoveCommand command{{clientId_, correlationId}, registrationId};
  return send(cnc::Command::kRemoveCounter, &command, sizeof(command));
}

bool DriverCommands::rejectImage(int64_t correlationId, int64_t imageCorrelationId, int64_t position, std::string_view reason) {
  const cnc::RejectImageCommand command{{clientId_, correlationId}, imageCorrelationId, position, static_cast<int32_t>(reason.size())};
  return send(cnc::Command::kRejectImage, &command, sizeof(command), reason);
}

bool DriverCommands::keepalive() {
  const cnc::CorrelatedCommand command{clientId_, 0};
  return send(cnc::Command::kClientKeepalive, &command, sizeof(command));
}

bool DriverCommands::close() {
  const cnc::CorrelatedCommand command{clientId_, ring_.nextCorrelationId()};
  return send(cnc::Command::kClientClose, &command, sizeof(command));
}

bool DriverCommands::terminateDriver(std::string_view token) {
  const cnc::TerminateDriverCommand command{{clientId_, ring_.nextCorrelationId()}, static_cast<int32_t>(token.size())};
  return send(cnc::Command::kTerminateDriver, &command, sizeof(command), token);
}

}  // namespace outrigger::client
