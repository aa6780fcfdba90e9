// SPDX-License-Identifier: Apache-2.0
// Frames to send and to recognise.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "io/frame/frame_io.h"

namespace outrigger::io::testing {

// Ethernet, IPv4 and UDP from 10.0.0.1:4000 to 10.0.0.2:5000, `length` bytes in all, filled with what `seed` gives. No checksums.
inline std::vector<uint8_t> udpFrame(uint32_t length, uint32_t seed, uint16_t port = 5000) {
  std::vector<uint8_t> frame(length);
  const std::array<uint8_t, 42> head{0x02, 0,  0,  0, 0, 2,  0x02, 0, 0, 0,  0, 1, 0x08, 0x00, 0x45, 0, 0, 0, 0, 0, 0,
                                     0,    64, 17, 0, 0, 10, 0,    0, 1, 10, 0, 0, 2,    0x0f, 0xa0, 0, 0, 0, 0, 0, 0};
  std::memcpy(frame.data(), head.data(), head.size());
  const auto put16 = [&](uint32_t at, uint32_t value) {
    frame[at] = static_cast<uint8_t>(value >> 8);
    frame[at + 1] = static_cast<uint8_t>(value);
  };
  put16(16, length - 14);
  put16(36, port);
  put16(38, length - 34);
  for (uint32_t i = 42; i < length; i++) frame[i] = static_cast<uint8_t>(seed * 31 + i * 7);
  return frame;
}

// How many of them the device took.
inline size_t send(FrameIo& io, const std::vector<std::vector<uint8_t>>& frames) {
  std::vector<TxFrame> buffers(frames.size());
  const uint32_t count = io.reserve(buffers);
  for (uint32_t i = 0; i < count; i++) {
    std::memcpy(buffers[i].data, frames[i].data(), frames[i].size());
    buffers[i].length = static_cast<uint32_t>(frames[i].size());
  }
  io.commit(std::span(buffers).first(count));
  io.flush();
  return count;
}

// Until `count` frames are there, or nothing comes any more: a software port has what was sent at once.
inline std::vector<std::vector<uint8_t>> receiveAll(FrameIo& io, size_t count) {
  std::vector<std::vector<uint8_t>> frames;
  std::array<RxFrame, 64> burst;
  bool open = false;
  for (uint32_t idle = 0; frames.size() < count && idle < 1000;) {
    const uint32_t got = io.receive(burst);
    for (uint32_t i = 0; i < got; i++) {
      if (!open) frames.emplace_back();
      frames.back().insert(frames.back().end(), burst[i].data, burst[i].data + burst[i].length);
      open = burst[i].more;
    }
    io.giveBack(std::span(burst).first(got));
    idle = got == 0 ? idle + 1 : 0;
  }
  return frames;
}

}  // namespace outrigger::io::testing
