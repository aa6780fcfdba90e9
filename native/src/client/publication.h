// SPDX-License-Identifier: Apache-2.0
// Publications: appending messages to a log buffer. Publication is shared by any number of threads and processes, ExclusivePublication has
// one writer. Made by MediaClient; the memory stays mapped as long as the object lives, and a closed one answers kOfferClosed.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "client/driver_memory.h"

namespace outrigger::client {

// Results of offer and tryClaim; a value >= 0 is the stream position after the message.
constexpr int64_t kOfferNotConnected = -1;
constexpr int64_t kOfferBackPressured = -2;
constexpr int64_t kOfferAdminAction = -3;  // a term was rotated: try again at once
constexpr int64_t kOfferClosed = -4;
constexpr int64_t kOfferMaxPositionExceeded = -5;
constexpr int64_t kOfferMessageTooLong = -6;

// Whether an offer wakes who reads it. kLater: the caller calls ring() once after a burst.
enum class Wake : uint8_t { kNow, kLater };

struct MessagePart {
  const void* data = nullptr;
  int32_t length = 0;
};

// Room in the log for one unfragmented message: fill data(), then commit() or abort(), then ring() the publication. Until then the stream
// stands still there.
class BufferClaim {
 public:
  BufferClaim() = default;
  BufferClaim(uint8_t* frame, int32_t frameLength) : frame_(frame), frameLength_(frameLength) {}

  uint8_t* data() const { return frame_ + wire::kDataHeaderLength; }
  int32_t length() const { return frameLength_ - wire::kDataHeaderLength; }
  void reservedValue(int64_t value) const { writeAt<int64_t>(frame_, offsetof(wire::DataHeader, reservedValue), value); }
  void commit() { release(wire::FrameType::kData); }
  // The room becomes padding that subscribers skip.
  void abort() { release(wire::FrameType::kPad); }

 private:
  void release(wire::FrameType type) {
    if (frame_ == nullptr) return;
    writeAt<uint16_t>(frame_, offsetof(wire::FrameHeader, type), static_cast<uint16_t>(type));
    logbuffer::frameLengthRelease(frame_, frameLength_);
    frame_ = nullptr;
  }

  uint8_t* frame_ = nullptr;
  int32_t frameLength_ = 0;
};

struct PublicationParams {
  std::shared_ptr<DriverMemory> memory;
  std::shared_ptr<LogMapping> mapping;
  std::string channel;
  int64_t registrationId = 0;          // of this object
  int64_t originalRegistrationId = 0;  // of the publication in the driver, which several objects may share
  int32_t sessionId = 0;
  int32_t streamId = 0;
  int32_t channelStatusId = -1;
  int64_t* positionLimit = nullptr;
};

// What both kinds have in common. Every member function may be called from any thread.
class PublicationBase {
 public:
  explicit PublicationBase(PublicationParams params);
  PublicationBase(const PublicationBase&) = delete;
  PublicationBase& operator=(const PublicationBase&) = delete;

  const std::string& channel() const { return params_.channel; }
  int32_t sessionId() const { return params_.sessionId; }
  int32_t streamId() const { return params_.streamId; }
  int64_t registrationId() const { return params_.registrationId; }
  int64_t originalRegistrationId() const { return params_.originalRegistrationId; }
  int32_t termLength() const { return termLength_; }
  int32_t maxPayloadLength() const { return maxPayload_; }
  int32_t maxMessageLength() const { return maxMessage_; }
  bool isIpc() const { return ipc_; }
  bool isClosed() const { return closed_.load(std::memory_order_acquire); }
  bool isConnected() const { return !isClosed() && log_.getAcquire<int32_t>(logbuffer::meta::kIsConnected) == 1; }
  // The driver (or the peer, by its reject) revoked the stream.
  bool isRevoked() const { return log_.getAcquire<uint8_t>(logbuffer::meta::kIsPublicationRevoked) != 0; }
  // Position up to which the driver lets this publication write, kOfferClosed when closed.
  int64_t positionLimit() const { return isClosed() ? kOfferClosed : loadAcquire<int64_t>(params_.positionLimit); }
  // Value of the channel's status counter (cnc::kChannelStatus...); Active when the driver named none.
  int64_t channelStatus() const;

  // Wakes who takes the messages from here on: the sender agent, or the IPC subscribers.
  void ring() const {
    const cnc::Doorbells& bells = params_.memory->bells();
    if (ipc_) {
      bells.ringClients();
    } else {
      bells.ringAgent(cnc::AgentId::kSender);
    }
  }

  // Conductor: no offer succeeds from now on.
  void markClosed() { closed_.store(true, std::memory_order_release); }

 protected:
  int64_t refusal(int64_t position, int32_t messageLength) const;
  void writeHeader(uint8_t* frame, int32_t termOffset, int32_t termId, uint8_t flags, wire::FrameType type) const {
    // The length field is not touched here: it is what makes the frame visible.
    writeAt<uint32_t>(frame, 4, (static_cast<uint32_t>(type) << 16) | (static_cast<uint32_t>(flags) << 8));
    writeAt<int32_t>(frame, 8, termOffset);
    writeAt<int32_t>(frame, 12, params_.sessionId);
    writeAt<int32_t>(frame, 16, params_.streamId);
    writeAt<int32_t>(frame, 20, termId);
    writeAt<int64_t>(frame, 24, reservedDefault_);
  }
  void claimHeader(uint8_t* frame, int32_t frameLength, int32_t termOffset, int32_t termId, uint8_t flags, wire::FrameType type) const {
    // Negative length first: should this process die here, the driver knows how much to turn into padding.
    logbuffer::frameLengthRelease(frame, -frameLength);
    __atomic_thread_fence(__ATOMIC_RELEASE);
    writeHeader(frame, termOffset, termId, flags, type);
  }
  void writePadding(uint8_t* term, int32_t termOffset, int32_t termId) const;
  template <typename Source>
  void writeMessage(uint8_t* term, int32_t termOffset, int32_t termId, Source& source, int32_t length) const;
  // Bytes of term that a message takes, alignment and fragment headers included.
  int32_t requiredLength(int32_t messageLength) const;

  PublicationParams params_;
  logbuffer::LogBuffer log_;
  int32_t termLength_;
  int32_t initialTermId_;
  int32_t maxPayload_;
  int32_t maxMessage_;
  int64_t reservedDefault_ = 0;
  bool ipc_;
  std::atomic<bool> closed_{false};
};

class Publication final : public PublicationBase {
 public:
  explicit Publication(PublicationParams params) : PublicationBase(std::move(params)) {}

  // Any thread. Copies the message, fragmenting it when it is longer than maxPayloadLength().
  int64_t offer(const void* message, int32_t length, Wake wake = Wake::kNow);
  // The same for a message in parts.
  int64_t offer(const MessagePart* parts, int32_t count, Wake wake = Wake::kNow);
  // Any thread. length <= maxPayloadLength().
  int64_t tryClaim(int32_t length, BufferClaim& claim);
  int64_t position() const;

 private:
  struct Room {
    int64_t position;  // after the message, or a result < 0
    uint8_t* term;
    int32_t termOffset;
    int32_t termId;
  };
  Room reserve(int32_t messageLength, int32_t required);
  template <typename Source>
  int64_t append(Source& source, int32_t length, Wake wake);
};

struct ManyResult {
  int32_t accepted = 0;  // leading messages
  int64_t result = 0;    // position after the last accepted one, or why the next was not (< 0)
  int64_t position = 0;  // after the last accepted one, 0 when none was
};

// One thread at a time.
class ExclusivePublication final : public PublicationBase {
 public:
  explicit ExclusivePublication(PublicationParams params);

  int64_t offer(const void* message, int32_t length, Wake wake = Wake::kNow);
  int64_t offer(const MessagePart* parts, int32_t count, Wake wake = Wake::kNow);
  int64_t tryClaim(int32_t length, BufferClaim& claim);
  // Offers messages in order until one does not fit; term rotation is handled inside. One tail update and one wake a run.
  ManyResult offerMany(const MessagePart* messages, int32_t count);
  int64_t position() const { return isClosed() ? kOfferClosed : termBegin_ + termOffset_; }

 private:
  // Makes room: the position before the message, or a result < 0.
  int64_t reserve(int32_t messageLength, int32_t required);
  int64_t endTerm();
  template <typename Source>
  int64_t append(Source& source, int32_t length, Wake wake);

  int32_t termId_ = 0;
  int32_t termIndex_ = 0;
  int32_t termOffset_ = 0;
  int64_t termBegin_ = 0;
};

}  // namespace outrigger::client
