// SPDX-License-Identifier: Apache-2.0
// Datagram validation: see classify() in frames.h for the rules.
#include "wire/frames.h"

namespace outrigger::wire {
namespace {

bool controlFits(const uint8_t* packet, size_t length, size_t minimum) {
  const int32_t declared = frameLength(packet);
  return length >= minimum && declared >= static_cast<int32_t>(minimum) && static_cast<size_t>(declared) <= length;
}

PacketKind classifyData(const uint8_t* packet, size_t length) {
  if (length < static_cast<size_t>(kDataHeaderLength) || length % static_cast<size_t>(kFrameAlignment) != 0) {
    return PacketKind::kInvalid;
  }
  const auto first = load<DataHeader>(packet);
  if (first.termOffset < 0 || first.termOffset % kFrameAlignment != 0) return PacketKind::kInvalid;
  if (isHeartbeat(packet, length)) {
    return frameType(packet) == FrameType::kData ? PacketKind::kData : PacketKind::kInvalid;
  }
  size_t offset = 0;
  int64_t expectedTermOffset = first.termOffset;
  while (offset < length) {
    if (length - offset < static_cast<size_t>(kDataHeaderLength)) return PacketKind::kInvalid;
    const auto frame = load<DataHeader>(packet + offset);
    const auto type = static_cast<FrameType>(frame.header.type);
    if (frame.header.version != 0 || frame.header.frameLength < kDataHeaderLength ||
        frame.header.frameLength > INT32_MAX - kFrameAlignment || frame.termOffset != expectedTermOffset ||
        frame.sessionId != first.sessionId || frame.streamId != first.streamId || frame.termId != first.termId) {
      return PacketKind::kInvalid;
    }
    if (type == FrameType::kPad) {
      // Only the header of a PAD travels, as the last frame: it fills the term from here to its end.
      return offset + static_cast<size_t>(kDataHeaderLength) == length ? PacketKind::kData : PacketKind::kInvalid;
    }
    if (type != FrameType::kData) return PacketKind::kInvalid;
    const int32_t aligned = alignedFrameLength(frame.header.frameLength);
    if (static_cast<size_t>(aligned) > length - offset) return PacketKind::kInvalid;
    offset += static_cast<size_t>(aligned);
    expectedTermOffset += aligned;
  }
  return PacketKind::kData;
}

PacketKind classifyStatusMessage(const uint8_t* packet, size_t length) {
  if (!controlFits(packet, length, sizeof(StatusMessageFrame))) return PacketKind::kInvalid;
  const auto frame = load<StatusMessageFrame>(packet);
  return frame.consumptionTermOffset >= 0 && frame.receiverWindow >= 0 ? PacketKind::kStatusMessage : PacketKind::kInvalid;
}

PacketKind classifyError(const uint8_t* packet, size_t length) {
  if (!controlFits(packet, length, sizeof(ErrorFrame))) return PacketKind::kInvalid;
  const auto frame = load<ErrorFrame>(packet);
  const bool textFits = frame.errorLength >= 0 && frame.errorLength <= kMaxErrorTextLength &&
                        sizeof(ErrorFrame) + static_cast<size_t>(frame.errorLength) <= length;
  return textFits ? PacketKind::kError : PacketKind::kInvalid;
}

}  // namespace

PacketKind classify(const uint8_t* packet, size_t length) {
  if (length < sizeof(FrameHeader)) return PacketKind::kInvalid;
  const auto header = load<FrameHeader>(packet);
  if (header.version != 0 || header.frameLength < 0) return PacketKind::kInvalid;
  switch (static_cast<FrameType>(header.type)) {
    case FrameType::kPad:
    case FrameType::kData:
      return classifyData(packet, length);
    case FrameType::kNak: {
      if (!controlFits(packet, length, sizeof(NakFrame))) return PacketKind::kInvalid;
      const auto nak = load<NakFrame>(packet);
      return nak.length >= 0 && nak.termOffset >= 0 ? PacketKind::kNak : PacketKind::kInvalid;
    }
    case FrameType::kStatusMessage:
      return classifyStatusMessage(packet, length);
    case FrameType::kError:
      return classifyError(packet, length);
    case FrameType::kSetup:
      return controlFits(packet, length, sizeof(SetupFrame)) ? PacketKind::kSetup : PacketKind::kInvalid;
    case FrameType::kRttMeasurement:
      return controlFits(packet, length, sizeof(RttMeasurementFrame)) ? PacketKind::kRttMeasurement : PacketKind::kInvalid;
    case FrameType::kResolution:
      return controlFits(packet, length, sizeof(FrameHeader)) ? PacketKind::kResolution : PacketKind::kInvalid;
    case FrameType::kResponseSetup:
      return controlFits(packet, length, sizeof(ResponseSetupFrame)) ? PacketKind::kResponseSetup : PacketKind::kInvalid;
    case FrameType::kAtsData:
    case FrameType::kAtsSetup:
    case FrameType::kAtsStatusMessage:
    case FrameType::kExtension:
      return PacketKind::kUnsupported;
  }
  return PacketKind::kInvalid;
}

}  // namespace outrigger::wire
