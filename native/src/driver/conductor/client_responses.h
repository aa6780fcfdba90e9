// SPDX-License-Identifier: Apache-2.0
// Encodes what the conductor says to clients over the to-clients broadcast. Conductor only.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "cnc/broadcast.h"
#include "cnc/commands.h"
#include "io/datagram_io.h"

namespace outrigger::driver {

struct PublicationReadyFields {
  int64_t correlationId = 0;
  int64_t registrationId = 0;  // of the publication that the first add made; several clients may share it
  int32_t sessionId = 0;
  int32_t streamId = 0;
  int32_t positionLimitCounterId = -1;
  int32_t channelStatusCounterId = -1;
  bool exclusive = false;
};

struct ImageReadyFields {
  int64_t correlationId = 0;
  int32_t sessionId = 0;
  int32_t streamId = 0;
  int64_t subscriptionRegistrationId = 0;
  int32_t subscriberPositionId = -1;
};

struct PublicationErrorFields {
  int64_t registrationId = 0;
  int64_t destinationRegistrationId = -1;
  int32_t sessionId = 0;
  int32_t streamId = 0;
  int64_t receiverId = 0;
  int64_t groupTag = 0;
  io::SockAddr source;
  int32_t errorCode = 0;
};

class ClientResponses {
 public:
  explicit ClientResponses(cnc::Region toClients) : transmitter_(toClients) {}

  void error(int64_t correlationId, ErrorCode code, std::string_view message);
  void publicationReady(const PublicationReadyFields& fields, std::string_view logFileName);
  void subscriptionReady(int64_t correlationId, int32_t channelStatusCounterId);
  void availableImage(const ImageReadyFields& fields, std::string_view logFileName, std::string_view sourceIdentity);
  void unavailableImage(int64_t imageCorrelationId, int64_t subscriptionRegistrationId, int32_t streamId, std::string_view channel);
  void operationSucceeded(int64_t correlationId);
  void counterReady(int64_t correlationId, int32_t counterId);
  void staticCounter(int64_t correlationId, int32_t counterId);
  void unavailableCounter(int64_t registrationId, int32_t counterId);
  void clientTimeout(int64_t clientId);
  void publicationError(const PublicationErrorFields& fields, std::string_view message);
  void nextAvailableSessionId(int64_t correlationId, int32_t sessionId);

  // Something was said since the last call: sleeping clients must be rung.
  bool takeSent() { return std::exchange(sent_, false); }

 private:
  template <typename Record>
  void begin(const Record& record) {
    bytes_.resize(sizeof(Record));
    std::memcpy(bytes_.data(), &record, sizeof(Record));
  }
  void append(std::string_view text) { bytes_.insert(bytes_.end(), text.begin(), text.end()); }
  void appendSized(std::string_view text);  // int32 length, text, padded to 4
  void send(cnc::Response type);

  cnc::BroadcastTransmitter transmitter_;
  std::vector<uint8_t> bytes_;
  bool sent_ = false;
};

}  // namespace outrigger::driver
