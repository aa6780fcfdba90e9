// SPDX-License-Identifier: Apache-2.0
// Traffic of the suite: from the far end into the FrameIo and back, with everything that was received checked and given back.
#pragma once

#include <sched.h>

#include <array>
#include <vector>

#include "frame_world.h"

namespace outrigger::io::testing {

constexpr uint16_t kPort = 41000;

// One received frame, put together from its buffers.
struct Arrival {
  Bytes frame;
  Datagram datagram;
  RxChecksum checksum = RxChecksum::kUnknown;
  uint16_t segmentLength = 0;
  int vlan = -1;
};

// Payloads of the datagrams in a frame.
inline std::vector<Bytes> payloadsOf(const Arrival& arrival) {
  const Bytes& all = arrival.datagram.payload;
  const size_t step = arrival.segmentLength == 0 ? std::max<size_t>(all.size(), 1) : arrival.segmentLength;
  std::vector<Bytes> payloads;
  for (size_t at = 0; at < all.size(); at += step) {
    payloads.emplace_back(all.begin() + static_cast<std::ptrdiff_t>(at),
                          all.begin() + static_cast<std::ptrdiff_t>(std::min(all.size(), at + step)));
  }
  return payloads;
}

inline std::vector<Arrival> read(std::span<const RxFrame> frames) {
  std::vector<Arrival> arrivals;
  bool open = false;
  for (const RxFrame& frame : frames) {
    if (!open) {
      Arrival arrival;
      arrival.checksum = frame.checksum;
      arrival.segmentLength = frame.segmentLength;
      if (frame.vlanPresent) arrival.vlan = frame.vlanTci;
      arrivals.push_back(arrival);
    }
    arrivals.back().frame.insert(arrivals.back().frame.end(), frame.data, frame.data + frame.length);
    open = frame.more;
  }
  EXPECT_FALSE(open) << "a frame's last buffer is missing";
  for (Arrival& arrival : arrivals) {
    arrival.datagram = datagramOf(arrival.frame);
    if (arrival.vlan < 0) arrival.vlan = arrival.datagram.vlan;
  }
  return arrivals;
}

inline std::vector<Arrival> receiveOnce(FrameIo& io) {
  std::array<RxFrame, 32> frames;
  const uint32_t count = io.receive(frames);
  const std::span<const RxFrame> received(frames.data(), count);
  std::vector<Arrival> arrivals = read(received);
  io.giveBack(received);
  return arrivals;
}

// Returns when something may have arrived; false when nothing did for long.
inline bool await(FrameIo& io, int patienceMs = kPatienceMs) {
  if (!io.arm()) return true;
  if (io.waitHandle() < 0) {
    ::sched_yield();
    return true;
  }
  pollfd handle{io.waitHandle(), POLLIN, 0};
  return ::poll(&handle, 1, patienceMs) > 0;
}

// Until the payloads of `count` datagrams have come.
inline std::vector<Arrival> collect(FrameIo& io, size_t count) {
  std::vector<Arrival> all;
  size_t have = 0;
  while (have < count) {
    auto some = receiveOnce(io);
    if (some.empty() && !await(io)) {
      ADD_FAILURE() << "only " << have << " of " << count << " datagrams arrived";
      break;
    }
    for (Arrival& arrival : some) {
      have += payloadsOf(arrival).size();
      all.push_back(std::move(arrival));
    }
  }
  return all;
}

inline std::vector<Bytes> collectPayloads(FrameIo& io, size_t count) {
  std::vector<Bytes> payloads;
  for (const Arrival& arrival : collect(io, count)) {
    for (Bytes& payload : payloadsOf(arrival)) payloads.push_back(std::move(payload));
  }
  return payloads;
}

// What the stack puts into a reserved buffer. With the device's checksum, the field holds the pseudo-header's sum.
inline void fill(TxFrame& slot, const FrameCaps& caps, const Flow& flow, const Bytes& payload, uint16_t segmentLength = 0) {
  const Bytes frame = frameOf(flow, payload, caps.transmitChecksum ? Sum::kPseudo : Sum::kComplete);
  ASSERT_LE(frame.size(), slot.capacity);
  std::copy(frame.begin(), frame.end(), slot.data);
  slot.length = static_cast<uint32_t>(frame.size());
  slot.isIpv6 = flow.v6;
  if (caps.transmitChecksum) {
    slot.checksumStart = static_cast<uint16_t>(offsetsOf(flow).udp);
    slot.checksumOffset = 6;
  }
  slot.segmentLength = segmentLength;
}

// Sends one frame of as many buffers as it needs; false when there is no room now.
inline bool sendFrame(FrameIo& io, const Flow& flow, const Bytes& payload, uint16_t segmentLength = 0) {
  const FrameCaps& caps = io.caps();
  const size_t length = offsetsOf(flow).payload + payload.size();
  const size_t pieces = (length + caps.transmitBufferLength - 1) / caps.transmitBufferLength;
  std::vector<TxFrame> slots(pieces);
  const uint32_t got = io.reserve(slots);
  if (got < pieces) {
    io.abort(std::span<const TxFrame>(slots.data(), got));
    return false;
  }
  if (pieces == 1) {
    fill(slots[0], caps, flow, payload, segmentLength);
  } else {
    const Bytes frame = frameOf(flow, payload, caps.transmitChecksum ? Sum::kPseudo : Sum::kComplete);
    size_t at = 0;
    for (size_t i = 0; i < pieces; ++i) {
      const size_t part = std::min<size_t>(slots[i].capacity, frame.size() - at);
      std::copy_n(frame.begin() + static_cast<std::ptrdiff_t>(at), part, slots[i].data);
      slots[i].length = static_cast<uint32_t>(part);
      slots[i].more = i + 1 < pieces;
      at += part;
    }
    if (caps.transmitChecksum) {
      slots[0].checksumStart = static_cast<uint16_t>(offsetsOf(flow).udp);
      slots[0].checksumOffset = 6;
    }
    slots[0].segmentLength = segmentLength;
  }
  io.commit(slots);
  return true;
}

}  // namespace outrigger::io::testing
