// SPDX-License-Identifier: Apache-2.0
// Decodes what clients write into the to-driver ring. Every byte of it is hostile: a record is copied once, then each length is checked
// against the copy. No effects here, so that a fuzzer can call it alone.
#pragma once

#include <cstdint>
#include <string>

#include "cnc/commands.h"

namespace outrigger::driver {

// One command, whatever its type; fields that the type does not have keep their defaults.
struct ClientCommand {
  cnc::Command type{};
  int64_t clientId = 0;
  int64_t correlationId = 0;
  int64_t registrationId = -1;  // what is removed, or what a destination belongs to; of REJECT_IMAGE the image
  int64_t destinationId = -1;   // REMOVE_DESTINATION by id
  int64_t position = 0;         // REJECT_IMAGE
  int32_t streamId = 0;
  int32_t typeId = 0;   // counters
  bool revoke = false;  // REMOVE_PUBLICATION
  std::string channel;
  std::string key;   // counters
  std::string text;  // label of a counter, reason of REJECT_IMAGE, token of TERMINATE_DRIVER
};

enum class DecodeStatus : uint8_t { kDecoded, kMalformed, kUnknownType };

struct DecodedCommand {
  DecodeStatus status = DecodeStatus::kMalformed;
  bool correlationKnown = false;  // command.clientId and correlationId are readable: the client can be answered
  ClientCommand command;
  std::string problem;  // a sentence, when not decoded
};

// `message` must be private memory of the caller.
DecodedCommand decodeCommand(int32_t type, const uint8_t* message, int32_t length);

const char* commandName(cnc::Command command);

}  // namespace outrigger::driver
