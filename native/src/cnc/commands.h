// SPDX-License-Identifier: Apache-2.0
// Records of the client-driver protocol: commands in the to-driver ring, responses in the to-clients broadcast (Aeron control protocol 1.0).
// Fixed parts only; variable parts (channel, key, label, text) follow as said at each struct. Every length comes from another process:
// validate before use.
#pragma once

#include <cstdint>

namespace outrigger::cnc {

enum class Command : int32_t {
  kAddPublication = 0x01,
  kRemovePublication = 0x02,
  kAddExclusivePublication = 0x03,
  kAddSubscription = 0x04,
  kRemoveSubscription = 0x05,
  kClientKeepalive = 0x06,
  kAddDestination = 0x07,
  kRemoveDestination = 0x08,
  kAddCounter = 0x09,
  kRemoveCounter = 0x0A,
  kClientClose = 0x0B,
  kAddRcvDestination = 0x0C,
  kRemoveRcvDestination = 0x0D,
  kTerminateDriver = 0x0E,
  kAddStaticCounter = 0x0F,
  kRejectImage = 0x10,
  kRemoveDestinationById = 0x11,
  kGetNextAvailableSessionId = 0x12,
};

enum class Response : int32_t {
  kError = 0x0F01,
  kAvailableImage = 0x0F02,
  kPublicationReady = 0x0F03,
  kOperationSuccess = 0x0F04,
  kUnavailableImage = 0x0F05,
  kExclusivePublicationReady = 0x0F06,
  kSubscriptionReady = 0x0F07,
  kCounterReady = 0x0F08,
  kUnavailableCounter = 0x0F09,
  kClientTimeout = 0x0F0A,
  kStaticCounter = 0x0F0B,
  kPublicationError = 0x0F0C,
  kNextAvailableSessionId = 0x0F0D,
};

#pragma pack(push, 4)
struct CorrelatedCommand {
  int64_t clientId;
  int64_t correlationId;
};
struct PublicationCommand {  // + channel
  CorrelatedCommand correlated;
  int32_t streamId;
  int32_t channelLength;
};
struct RemovePublicationCommand {  // older clients send it without flags (24 bytes)
  CorrelatedCommand correlated;
  int64_t registrationId;
  uint64_t flags;  // bit 0: revoke
};
struct RemoveCommand {
  CorrelatedCommand correlated;
  int64_t registrationId;
};
struct SubscriptionCommand {  // + channel
  CorrelatedCommand correlated;
  int64_t registrationCorrelationId;  // -1
  int32_t streamId;
  int32_t channelLength;
};
struct DestinationCommand {  // + channel
  CorrelatedCommand correlated;
  int64_t registrationId;
  int32_t channelLength;
};
struct DestinationByIdCommand {
  CorrelatedCommand correlated;
  int64_t resourceRegistrationId;
  int64_t destinationRegistrationId;
};
struct CounterCommand {  // + int32 keyLength, key padded to 4, int32 labelLength, label
  CorrelatedCommand correlated;
  int32_t typeId;
};
struct StaticCounterCommand {  // + key and label as CounterCommand
  CorrelatedCommand correlated;
  int64_t registrationId;
  int32_t typeId;
};
struct TerminateDriverCommand {  // + token
  CorrelatedCommand correlated;
  int32_t tokenLength;
};
struct RejectImageCommand {  // + reason
  CorrelatedCommand correlated;
  int64_t imageCorrelationId;
  int64_t position;
  int32_t reasonLength;
};
struct GetNextAvailableSessionIdCommand {
  CorrelatedCommand correlated;
  int32_t streamId;
};

struct ErrorResponse {  // + message
  int64_t offendingCorrelationId;
  int32_t errorCode;
  int32_t messageLength;
};
struct PublicationReady {  // + log file name
  int64_t correlationId;
  int64_t registrationId;
  int32_t sessionId;
  int32_t streamId;
  int32_t positionLimitCounterId;
  int32_t channelStatusCounterId;
  int32_t logFileLength;
};
struct SubscriptionReady {
  int64_t correlationId;
  int32_t channelStatusCounterId;
};
struct ImageReady {  // + int32 logFileLength, log file name padded to 4, int32 sourceIdentityLength, source identity
  int64_t correlationId;
  int32_t sessionId;
  int32_t streamId;
  int64_t subscriberRegistrationId;
  int32_t subscriberPositionId;
};
struct OperationSucceeded {
  int64_t correlationId;
};
struct ImageUnavailable {  // + channel
  int64_t correlationId;
  int64_t subscriptionRegistrationId;
  int32_t streamId;
  int32_t channelLength;
};
struct CounterUpdate {
  int64_t correlationId;
  int32_t counterId;
};
struct ClientTimeout {
  int64_t clientId;
};
struct PublicationErrorResponse {  // + message
  int64_t registrationId;
  int64_t destinationRegistrationId;
  int32_t sessionId;
  int32_t streamId;
  int64_t receiverId;
  int64_t groupTag;
  int16_t addressType;  // 1 IPv4, 2 IPv6
  uint16_t sourcePort;
  uint8_t sourceAddress[16];
  int32_t errorCode;
  int32_t messageLength;
};
struct NextAvailableSessionId {
  int64_t correlationId;
  int32_t nextSessionId;
};
#pragma pack(pop)

static_assert(sizeof(PublicationCommand) == 24);
static_assert(sizeof(SubscriptionCommand) == 32);
static_assert(sizeof(DestinationCommand) == 28);
static_assert(sizeof(CounterCommand) == 20);
static_assert(sizeof(PublicationReady) == 36);
static_assert(sizeof(ImageReady) == 28);
static_assert(sizeof(ImageUnavailable) == 24);
static_assert(sizeof(PublicationErrorResponse) == 68);

}  // namespace outrigger::cnc
