// SPDX-License-Identifier: Apache-2.0
// Fuzzes what looks into frames beside the stack: where UDP stands (port filter of dpdk), whether a checksum is left to be filled (xdp), and the taking apart of
// trains for a capture. Each gets a copy of exactly the frame's length, so that the sanitizer sees a byte too many.
#include <cstdlib>
#include <cstring>
#include <memory>

#include "io/capture/frame_expander.h"
#include "io/dpdk_loader/port_filter.h"
#include "io/xdp/partial_checksum.h"

using namespace outrigger;

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

void lookForUdp(std::span<const uint8_t> frame) {
  const io::UdpPlace place = io::findUdp(frame);
  if (!place.found) return;
  require(place.ip < place.udp && place.udp + 8 <= frame.size() && place.end >= place.ip);
  static io::PortFilter filter;
  static const bool added = [] {
    filter.add(io::SockAddr::parseNumeric("0.0.0.0", 4321).take());
    filter.add(io::SockAddr::parseNumeric("::", 4321).take());
    return true;
  }();
  require(added);
  filter.refresh();
  static_cast<void>(filter.wants(frame, place, io::MacAddress{0x02, 0, 0, 0, 0, 0x0A}));
}

void takeApart(std::span<const uint8_t> frame, uint8_t marks, uint16_t segmentLength) {
  io::CapturedFrame captured;
  captured.data = frame.data();
  captured.length = static_cast<uint32_t>(frame.size());
  captured.originalLength = captured.length + (marks & 4 ? 1000U : 0U);
  captured.checksumMissing = (marks & 1) != 0;
  captured.vlanPresent = (marks & 2) != 0;
  captured.vlanTci = 0x2005;
  captured.segmentLength = segmentLength;
  io::FrameExpander expander;
  size_t frames = 0;
  expander.expand(captured, [&](std::span<const uint8_t> data, uint32_t originalLength) {
    ++frames;
    require(originalLength >= data.size());
    volatile uint8_t sum = 0;
    for (const uint8_t byte : data) sum = static_cast<uint8_t>(sum ^ byte);
  });
  require(frames > 0 && frames <= frame.size() + 1);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 3) return 0;
  const size_t length = size - 3;
  const auto copy = std::make_unique<uint8_t[]>(length);
  std::memcpy(copy.get(), data + 3, length);
  const std::span<const uint8_t> frame(copy.get(), length);
  lookForUdp(frame);
  static_cast<void>(io::xdp::hasPartialChecksum(frame.data(), static_cast<uint32_t>(length)));
  takeApart(frame, data[0], static_cast<uint16_t>(data[1] << 8 | data[2]));
  return 0;
}
