// SPDX-License-Identifier: Apache-2.0
// Bounds checks of client commands.
#include "driver/conductor/client_commands.h"

#include <cstring>

#include "base/shared_memory.h"

namespace outrigger::driver {
namespace {

using cnc::Command;

// Longest texts that mean anything: a URI has 4095 bytes, labels and keys are cut by the counters, a reason fits an ERR frame.
constexpr int32_t kMaxChannelLength = 4095;
constexpr int32_t kMaxTextLength = 4096;

class Reader {
 public:
  Reader(const uint8_t* data, int32_t length) : data_(data), length_(length) {}

  template <typename Record>
  bool record(Record& out) {
    if (length_ - at_ < static_cast<int32_t>(sizeof(Record))) return fail("is shorter than its fixed part");
    std::memcpy(&out, data_ + at_, sizeof(Record));
    at_ += static_cast<int32_t>(sizeof(Record));
    return true;
  }

  bool text(const char* name, int32_t textLength, int32_t maximum, std::string& out) {
    if (textLength < 0 || textLength > length_ - at_) {
      return fail(std::string("has a ") + name + " of " + std::to_string(textLength) + " bytes where " + std::to_string(length_ - at_) +
                  " are left");
    }
    if (textLength > maximum) {
      return fail(std::string("has a ") + name + " of " + std::to_string(textLength) + " bytes, allowed are " + std::to_string(maximum));
    }
    out.assign(reinterpret_cast<const char*>(data_ + at_), static_cast<size_t>(textLength));
    at_ += textLength;
    return true;
  }

  bool sizedText(const char* name, int32_t maximum, std::string& out) {
    int32_t textLength = 0;
    return record(textLength) && text(name, textLength, maximum, out);
  }

  void align4() {
    const int32_t aligned = alignUp<int32_t>(at_, 4);
    at_ = aligned < length_ ? aligned : length_;
  }

  int32_t left() const { return length_ - at_; }
  const std::string& problem() const { return problem_; }

 private:
  bool fail(std::string what) {
    problem_ = std::move(what);
    return false;
  }

  const uint8_t* data_;
  int32_t length_;
  int32_t at_ = 0;
  std::string problem_;
};

// `Correlated` is read already; the reader stands behind it.
bool decodeBody(Command type, Reader& in, ClientCommand& out) {
  int32_t textLength = 0;
  const auto channel = [&] { return in.record(textLength) && in.text("channel", textLength, kMaxChannelLength, out.channel); };
  const auto keyAndLabel = [&] {
    if (!in.sizedText("key", kMaxTextLength, out.key)) return false;
    in.align4();
    return in.sizedText("label", kMaxTextLength, out.text);
  };
  switch (type) {
    case Command::kAddPublication:
    case Command::kAddExclusivePublication:
      return in.record(out.streamId) && channel();
    case Command::kRemovePublication: {
      if (!in.record(out.registrationId)) return false;
      uint64_t flags = 0;
      if (in.left() >= static_cast<int32_t>(sizeof(flags))) in.record(flags);  // older clients send none
      out.revoke = (flags & 1) != 0;
      return true;
    }
    case Command::kAddSubscription:
      return in.record(out.registrationId) && in.record(out.streamId) && channel();
    case Command::kRemoveSubscription:
    case Command::kRemoveCounter:
      return in.record(out.registrationId);
    case Command::kAddDestination:
    case Command::kRemoveDestination:
    case Command::kAddRcvDestination:
    case Command::kRemoveRcvDestination:
      return in.record(out.registrationId) && channel();
    case Command::kRemoveDestinationById:
      return in.record(out.registrationId) && in.record(out.destinationId);
    case Command::kAddCounter:
      return in.record(out.typeId) && keyAndLabel();
    case Command::kAddStaticCounter:
      return in.record(out.registrationId) && in.record(out.typeId) && keyAndLabel();
    case Command::kTerminateDriver:
      return in.sizedText("token", kMaxTextLength, out.text);
    case Command::kRejectImage:
      return in.record(out.registrationId) && in.record(out.position) && in.sizedText("reason", kMaxTextLength, out.text);
    case Command::kGetNextAvailableSessionId:
      return in.record(out.streamId);
    case Command::kClientKeepalive:
    case Command::kClientClose:
      return true;
  }
  return false;
}

bool isKnown(int32_t type) {
  return type >= static_cast<int32_t>(Command::kAddPublication) && type <= static_cast<int32_t>(Command::kGetNextAvailableSessionId);
}

}  // namespace

DecodedCommand decodeCommand(int32_t type, const uint8_t* message, int32_t length) {
  DecodedCommand decoded;
  Reader in(message, length < 0 ? 0 : length);
  cnc::CorrelatedCommand correlated{};
  if (in.record(correlated)) {
    decoded.correlationKnown = true;
    decoded.command.clientId = correlated.clientId;
    decoded.command.correlationId = correlated.correlationId;
  }
  if (!isKnown(type)) {
    decoded.status = DecodeStatus::kUnknownType;
    decoded.problem = "unknown command type " + std::to_string(type);
    return decoded;
  }
  decoded.command.type = static_cast<Command>(type);
  if (decoded.correlationKnown && decodeBody(decoded.command.type, in, decoded.command)) {
    decoded.status = DecodeStatus::kDecoded;
    return decoded;
  }
  decoded.problem =
      std::string("command ") + commandName(decoded.command.type) + " of " + std::to_string(length) + " bytes " + in.problem();
  return decoded;
}

const char* commandName(Command command) {
  switch (command) {
    case Command::kAddPublication:
      return "ADD_PUBLICATION";
    case Command::kRemovePublication:
      return "REMOVE_PUBLICATION";
    case Command::kAddExclusivePublication:
      return "ADD_EXCLUSIVE_PUBLICATION";
    case Command::kAddSubscription:
      return "ADD_SUBSCRIPTION";
    case Command::kRemoveSubscription:
      return "REMOVE_SUBSCRIPTION";
    case Command::kClientKeepalive:
      return "CLIENT_KEEPALIVE";
    case Command::kAddDestination:
      return "ADD_DESTINATION";
    case Command::kRemoveDestination:
      return "REMOVE_DESTINATION";
    case Command::kAddCounter:
      return "ADD_COUNTER";
    case Command::kRemoveCounter:
      return "REMOVE_COUNTER";
    case Command::kClientClose:
      return "CLIENT_CLOSE";
    case Command::kAddRcvDestination:
      return "ADD_RCV_DESTINATION";
    case Command::kRemoveRcvDestination:
      return "REMOVE_RCV_DESTINATION";
    case Command::kTerminateDriver:
      return "TERMINATE_DRIVER";
    case Command::kAddStaticCounter:
      return "ADD_STATIC_COUNTER";
    case Command::kRejectImage:
      return "REJECT_IMAGE";
    case Command::kRemoveDestinationById:
      return "REMOVE_DESTINATION_BY_ID";
    case Command::kGetNextAvailableSessionId:
      return "GET_NEXT_AVAILABLE_SESSION_ID";
  }
  return "UNKNOWN";
}

}  // namespace outrigger::driver
