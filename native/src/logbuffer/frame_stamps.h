// SPDX-License-Identifier: Apache-2.0
// Times in messages, where a channel asks for them (media-rcv-ts-offset=, channel-rcv-ts-offset=, channel-snd-ts-offset=): nanoseconds since the
// epoch, 64 bits, little endian, in the first frame of each message.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>

#include "wire/frames.h"

namespace outrigger::logbuffer {

// Where the time stands, from the end of the data header on.
constexpr int32_t kNoStamp = -1;
constexpr int32_t kReservedValueStamp = -static_cast<int32_t>(sizeof(int64_t));  // the header's reserved value is its last field
constexpr int32_t kMaxStampOffset = wire::kMaxUdpPayloadLength - wire::kDataHeaderLength - static_cast<int32_t>(sizeof(int64_t));

struct FrameStamp {
  int32_t offset = kNoStamp;
  int64_t timeNs = 0;
};

// Writes a time into every frame of a run of contiguous frames that begins a message and is long enough for it; a PAD has none, nor has what
// follows in a message of several frames. Lengths and kinds are read from `frames`, which may be shared memory: each length is read once, and
// nothing is written outside of `length` bytes. `destination` is the place of the same frames that is written, `frames` itself or a copy of it.
inline void stampFrames(const uint8_t* frames, uint8_t* destination, int32_t length, const FrameStamp& stamp) {
  int32_t at = 0;
  while (length - at >= wire::kDataHeaderLength) {
    const uint8_t* frame = frames + at;
    const int32_t declared = loadRelaxed<int32_t>(frame);
    if (declared < wire::kDataHeaderLength || declared > length - at) return;  // a heartbeat, or a PAD, which ends its run
    const bool begins = wire::frameType(frame) == wire::FrameType::kData && (wire::frameFlags(frame) & wire::kFlagBegin) != 0;
    if (begins && stamp.offset <= declared - wire::kDataHeaderLength - static_cast<int32_t>(sizeof(int64_t))) {
      std::memcpy(destination + at + wire::kDataHeaderLength + stamp.offset, &stamp.timeNs, sizeof(stamp.timeNs));
    }
    at += wire::alignedFrameLength(declared);
  }
}

inline void stampFrames(const uint8_t* frames, uint8_t* destination, int32_t length, std::span<const FrameStamp> stamps) {
  for (const FrameStamp& stamp : stamps) stampFrames(frames, destination, length, stamp);
}

}  // namespace outrigger::logbuffer
