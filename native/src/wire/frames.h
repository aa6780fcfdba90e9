// SPDX-License-Identifier: Apache-2.0
// Aeron transport frames as they stand on the wire and in a term: layouts, flags, and whole-datagram validation.
// All fields little-endian (the supported hosts are little-endian). Nothing here changes state.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include "base/shared_memory.h"

namespace outrigger::wire {

static_assert(std::endian::native == std::endian::little, "Aeron frames are little-endian; this host is not supported");

enum class FrameType : uint16_t {
  kPad = 0x00,
  kData = 0x01,
  kNak = 0x02,
  kStatusMessage = 0x03,
  kError = 0x04,
  kSetup = 0x05,
  kRttMeasurement = 0x06,
  kResolution = 0x07,
  kAtsData = 0x08,
  kAtsSetup = 0x09,
  kAtsStatusMessage = 0x0A,
  kResponseSetup = 0x0B,
  kExtension = 0xFFFF,
};

constexpr int32_t kFrameAlignment = 32;
constexpr int32_t kDataHeaderLength = 32;
constexpr int32_t kMaxUdpPayloadLength = 65504;  // largest multiple of 32 that fits a UDP/IPv4 datagram

// DATA flags.
constexpr uint8_t kFlagBegin = 0x80;
constexpr uint8_t kFlagEnd = 0x40;
constexpr uint8_t kFlagUnfragmented = 0xC0;
constexpr uint8_t kFlagEos = 0x20;
constexpr uint8_t kFlagRevoked = 0x10;
// SM flags.
constexpr uint8_t kSmFlagSendSetup = 0x80;
constexpr uint8_t kSmFlagEos = 0x40;
// SETUP flags.
constexpr uint8_t kSetupFlagSendResponse = 0x80;
constexpr uint8_t kSetupFlagGroup = 0x40;
// RTTM flags.
constexpr uint8_t kRttmFlagReply = 0x80;
// ERR flags.
constexpr uint8_t kErrorFlagHasGroupTag = 0x08;

#pragma pack(push, 1)
struct FrameHeader {
  int32_t frameLength;  // without alignment padding; 0 in a heartbeat; negative only in a term, while claimed
  uint8_t version;      // 0
  uint8_t flags;
  uint16_t type;  // FrameType
};
static_assert(sizeof(FrameHeader) == 8);

struct DataHeader {
  FrameHeader header;
  int32_t termOffset;
  int32_t sessionId;
  int32_t streamId;
  int32_t termId;
  int64_t reservedValue;
};
static_assert(sizeof(DataHeader) == 32);

struct NakFrame {
  FrameHeader header;
  int32_t sessionId;
  int32_t streamId;
  int32_t termId;
  int32_t termOffset;
  int32_t length;
};
static_assert(sizeof(NakFrame) == 28);

struct StatusMessageFrame {
  FrameHeader header;
  int32_t sessionId;
  int32_t streamId;
  int32_t consumptionTermId;
  int32_t consumptionTermOffset;
  int32_t receiverWindow;
  int64_t receiverId;
};
static_assert(sizeof(StatusMessageFrame) == 36);
constexpr int32_t kStatusMessageWithGroupTagLength = 44;  // an int64 group tag follows the frame

struct ErrorFrame {
  FrameHeader header;
  int32_t sessionId;
  int32_t streamId;
  int64_t receiverId;
  int64_t groupTag;
  int32_t errorCode;
  int32_t errorLength;  // bytes of text that follow, at most kMaxErrorTextLength
};
static_assert(sizeof(ErrorFrame) == 40);
constexpr int32_t kMaxErrorTextLength = 1023;

struct SetupFrame {
  FrameHeader header;
  int32_t termOffset;
  int32_t sessionId;
  int32_t streamId;
  int32_t initialTermId;
  int32_t activeTermId;
  int32_t termLength;
  int32_t mtu;
  int32_t ttl;
};
static_assert(sizeof(SetupFrame) == 40);

struct RttMeasurementFrame {
  FrameHeader header;
  int32_t sessionId;
  int32_t streamId;
  int64_t echoTimestampNs;
  int64_t receptionDeltaNs;
  int64_t receiverId;
};
static_assert(sizeof(RttMeasurementFrame) == 40);

struct ResponseSetupFrame {
  FrameHeader header;
  int32_t sessionId;
  int32_t streamId;
  int32_t responseSessionId;
};
static_assert(sizeof(ResponseSetupFrame) == 20);
#pragma pack(pop)

// Copies a frame struct out of packet memory, so that no packed struct is overlaid on bytes that may move.
template <typename Frame>
inline Frame load(const uint8_t* packet) {
  Frame frame;
  std::memcpy(&frame, packet, sizeof(Frame));
  return frame;
}

template <typename Frame>
inline void store(uint8_t* packet, const Frame& frame) {
  std::memcpy(packet, &frame, sizeof(Frame));
}

inline FrameType frameType(const uint8_t* packet) { return static_cast<FrameType>(readAt<uint16_t>(packet, offsetof(FrameHeader, type))); }
inline int32_t frameLength(const uint8_t* packet) { return readAt<int32_t>(packet, 0); }
inline uint8_t frameFlags(const uint8_t* packet) { return packet[offsetof(FrameHeader, flags)]; }
constexpr int32_t alignedFrameLength(int32_t length) { return alignUp<int32_t>(length, kFrameAlignment); }

// A DATA packet of exactly one header and frame_length 0.
inline bool isHeartbeat(const uint8_t* packet, size_t length) {
  return length == static_cast<size_t>(kDataHeaderLength) && frameLength(packet) == 0;
}

enum class PacketKind : uint8_t {
  kInvalid,  // not an Aeron datagram, or one that breaks a rule: count and drop
  kData,     // one or more DATA or PAD frames, contiguous, of one stream; or one heartbeat
  kNak,
  kStatusMessage,
  kError,
  kSetup,
  kRttMeasurement,
  kResolution,
  kResponseSetup,
  kUnsupported,  // well-formed header of a type this driver does not take part in (ATS, extension)
};

// Validates a whole datagram (every frame of it) and says what it is. Rules: version 0; control frames at least their
// struct long with frame_length inside the datagram; DATA/PAD datagrams a multiple of 32 long, each frame of length >= 32
// (one heartbeat excepted), same session, stream and term, offsets contiguous, none negative, nothing trailing. A PAD may
// only be the last frame and stands with its header alone, though its frame_length covers the rest of the term.
PacketKind classify(const uint8_t* packet, size_t length);

}  // namespace outrigger::wire
