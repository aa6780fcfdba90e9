// SPDX-License-Identifier: Apache-2.0
// Records of cnc/commands.h, filled and transmitted.
#include "driver/conductor/client_responses.h"

namespace outrigger::driver {
namespace {

constexpr size_t kMaxMessageLength = 2048;  // of an error text: a channel may be in it

std::string_view cut(std::string_view text) { return text.substr(0, kMaxMessageLength); }

}  // namespace

void ClientResponses::send(cnc::Response type) {
  if (transmitter_.transmit(static_cast<int32_t>(type), bytes_.data(), static_cast<int32_t>(bytes_.size()))) sent_ = true;
}

void ClientResponses::appendSized(std::string_view text) {
  const auto length = static_cast<int32_t>(text.size());
  append({reinterpret_cast<const char*>(&length), sizeof(length)});
  append(text);
  bytes_.resize(alignUp<size_t>(bytes_.size(), 4));
}

void ClientResponses::error(int64_t correlationId, ErrorCode code, std::string_view message) {
  message = cut(message);
  begin(cnc::ErrorResponse{correlationId, static_cast<int32_t>(code), static_cast<int32_t>(message.size())});
  append(message);
  send(cnc::Response::kError);
}

void ClientResponses::publicationReady(const PublicationReadyFields& fields, std::string_view logFileName) {
  begin(cnc::PublicationReady{fields.correlationId, fields.registrationId, fields.sessionId, fields.streamId, fields.positionLimitCounterId,
                              fields.channelStatusCounterId, static_cast<int32_t>(logFileName.size())});
  append(logFileName);
  send(fields.exclusive ? cnc::Response::kExclusivePublicationReady : cnc::Response::kPublicationReady);
}

void ClientResponses::subscriptionReady(int64_t correlationId, int32_t channelStatusCounterId) {
  begin(cnc::SubscriptionReady{correlationId, channelStatusCounterId});
  send(cnc::Response::kSubscriptionReady);
}

void ClientResponses::availableImage(const ImageReadyFields& fields, std::string_view logFileName, std::string_view sourceIdentity) {
  begin(cnc::ImageReady{fields.correlationId, fields.sessionId, fields.streamId, fields.subscriptionRegistrationId,
                        fields.subscriberPositionId});
  appendSized(logFileName);
  appendSized(sourceIdentity);
  send(cnc::Response::kAvailableImage);
}

void ClientResponses::unavailableImage(int64_t imageCorrelationId, int64_t subscriptionRegistrationId, int32_t streamId,
                                       std::string_view channel) {
  begin(cnc::ImageUnavailable{imageCorrelationId, subscriptionRegistrationId, streamId, static_cast<int32_t>(channel.size())});
  append(channel);
  send(cnc::Response::kUnavailableImage);
}

void ClientResponses::operationSucceeded(int64_t correlationId) {
  begin(cnc::OperationSucceeded{correlationId});
  send(cnc::Response::kOperationSuccess);
}

void ClientResponses::counterReady(int64_t correlationId, int32_t counterId) {
  begin(cnc::CounterUpdate{correlationId, counterId});
  send(cnc::Response::kCounterReady);
}

void ClientResponses::staticCounter(int64_t correlationId, int32_t counterId) {
  begin(cnc::CounterUpdate{correlationId, counterId});
  send(cnc::Response::kStaticCounter);
}

void ClientResponses::unavailableCounter(int64_t registrationId, int32_t counterId) {
  begin(cnc::CounterUpdate{registrationId, counterId});
  send(cnc::Response::kUnavailableCounter);
}

void ClientResponses::clientTimeout(int64_t clientId) {
  begin(cnc::ClientTimeout{clientId});
  send(cnc::Response::kClientTimeout);
}

void ClientResponses::publicationError(const PublicationErrorFields& fields, std::string_view message) {
  message = cut(message);
  cnc::PublicationErrorResponse record{};
  record.registrationId = fields.registrationId;
  record.destinationRegistrationId = fields.destinationRegistrationId;
  record.sessionId = fields.sessionId;
  record.streamId = fields.streamId;
  record.receiverId = fields.receiverId;
  record.groupTag = fields.groupTag;
  record.addressType = fields.source.isV6() ? 2 : 1;
  record.sourcePort = fields.source.port();
  if (fields.source.family() == AF_INET6) {
    std::memcpy(record.sourceAddress, &reinterpret_cast<const sockaddr_in6*>(&fields.source.storage)->sin6_addr, 16);
  } else if (fields.source.family() == AF_INET) {
    std::memcpy(record.sourceAddress, &reinterpret_cast<const sockaddr_in*>(&fields.source.storage)->sin_addr, 4);
  }
  record.errorCode = fields.errorCode;
  record.messageLength = static_cast<int32_t>(message.size());
  begin(record);
  append(message);
  send(cnc::Response::kPublicationError);
}

void ClientResponses::nextAvailableSessionId(int64_t correlationId, int32_t sessionId) {
  begin(cnc::NextAvailableSessionId{correlationId, sessionId});
  send(cnc::Response::kNextAvailableSessionId);
}

}  // namespace outrigger::driver
