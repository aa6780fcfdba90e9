// SPDX-License-Identifier: Apache-2.0
// Fuzzes whole-datagram validation: no read outside the datagram, and what is accepted can be walked frame by frame.
#include <cstdint>
#include <cstdlib>

#include "wire/frames.h"

using namespace outrigger::wire;

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

void walkData(const uint8_t* data, size_t size) {
  if (isHeartbeat(data, size)) return;
  const auto first = load<DataHeader>(data);
  require(first.termOffset >= 0 && first.termOffset % kFrameAlignment == 0);
  size_t offset = 0;
  while (offset < size) {
    require(size - offset >= static_cast<size_t>(kDataHeaderLength));
    const auto frame = load<DataHeader>(data + offset);
    require(frame.header.frameLength >= kDataHeaderLength);
    require(frame.sessionId == first.sessionId && frame.streamId == first.streamId && frame.termId == first.termId);
    require(frame.termOffset == static_cast<int64_t>(first.termOffset) + static_cast<int64_t>(offset));
    const bool pad = frameType(data + offset) == FrameType::kPad;
    offset += pad ? static_cast<size_t>(kDataHeaderLength) : static_cast<size_t>(alignedFrameLength(frame.header.frameLength));
    require(!pad || offset == size);
  }
  require(offset == size);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  switch (classify(data, size)) {
    case PacketKind::kData:
      walkData(data, size);
      break;
    case PacketKind::kNak:
      require(size >= sizeof(NakFrame) && load<NakFrame>(data).length >= 0);
      break;
    case PacketKind::kStatusMessage:
      require(size >= sizeof(StatusMessageFrame) && load<StatusMessageFrame>(data).receiverWindow >= 0);
      break;
    case PacketKind::kError:
      require(size >= sizeof(ErrorFrame) + static_cast<size_t>(load<ErrorFrame>(data).errorLength));
      break;
    case PacketKind::kSetup:
      require(size >= sizeof(SetupFrame));
      break;
    case PacketKind::kRttMeasurement:
      require(size >= sizeof(RttMeasurementFrame));
      break;
    case PacketKind::kResponseSetup:
      require(size >= sizeof(ResponseSetupFrame));
      break;
    case PacketKind::kResolution:
    case PacketKind::kUnsupported:
      require(size >= sizeof(FrameHeader));
      break;
    case PacketKind::kInvalid:
      break;
  }
  return 0;
}
