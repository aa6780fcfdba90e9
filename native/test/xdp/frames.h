// SPDX-License-Identifier: Apache-2.0
// Frames made by hand, good and bad, put on the wire through an AF_PACKET socket; and waiting for what they cause.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sys/socket.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "base/fd.h"

namespace outrigger::io::testing {

// Looks again every millisecond, for ten seconds at most.
inline bool waitUntil(const std::function<bool()>& condition) {
  for (int i = 0; i < 10'000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return condition();
}

// Each setter answers a changed copy. UDP from port 5000 of the far end unless said otherwise; checksums are right.
class FrameBuilder {
 public:
  FrameBuilder to(const std::string& address, uint16_t port) const {
    FrameBuilder copy = *this;
    copy.v6_ = address.find(':') != std::string::npos;
    copy.destination_ = address;
    copy.port_ = port;
    return copy;
  }
  FrameBuilder payload(const std::string& text) const {
    return with([&](FrameBuilder& b) { b.payload_ = text; });
  }
  FrameBuilder vlan(uint16_t tci) const {
    return with([&](FrameBuilder& b) { b.tagged_ = true, b.tci_ = tci; });
  }
  FrameBuilder fragment(uint16_t field) const {
    return with([&](FrameBuilder& b) { b.fragment_ = field; });
  }
  FrameBuilder options(size_t bytes) const {
    return with([&](FrameBuilder& b) { b.options_ = bytes; });
  }
  FrameBuilder protocol(uint8_t number) const {
    return with([&](FrameBuilder& b) { b.protocol_ = number; });
  }
  FrameBuilder fromPort(uint16_t port) const {
    return with([&](FrameBuilder& b) { b.sourcePort_ = port; });
  }
  FrameBuilder from(const std::string& address) const {
    return with([&](FrameBuilder& b) { b.source_ = address; });
  }
  FrameBuilder hopLimit(uint8_t limit) const {
    return with([&](FrameBuilder& b) { b.hopLimit_ = limit; });
  }
  FrameBuilder nextHeader(uint8_t number) const { return protocol(number); }
  FrameBuilder etherType(uint16_t type) const {
    return with([&](FrameBuilder& b) { b.type_ = type; });
  }

  static std::vector<uint8_t> cut(std::vector<uint8_t> frame, size_t length) {
    frame.resize(length);
    return frame;
  }

  std::vector<uint8_t> build() const {
    std::vector<uint8_t> frame(12, 0xFF);  // to everybody, so that no neighbour need be known
    frame[6] = 0x02;
    if (tagged_) put16(frame, 0x8100), put16(frame, tci_);
    put16(frame, type_ != 0 ? type_ : (v6_ ? 0x86DD : 0x0800));
    const size_t ip = frame.size();
    const auto udpLength = static_cast<uint16_t>(8 + payload_.size());
    if (v6_) {
      put16(frame, 0x6000), put16(frame, 0), put16(frame, udpLength);
      frame.push_back(protocol_);
      frame.push_back(hopLimit_);
      putAddress(frame, AF_INET6, source_.empty() ? "fd77::2" : source_);
      putAddress(frame, AF_INET6, destination_);
    } else {
      frame.push_back(static_cast<uint8_t>(0x45 + options_ / 4));
      frame.push_back(0);
      put16(frame, static_cast<uint16_t>(20 + options_ + udpLength));
      put16(frame, 1), put16(frame, fragment_);
      frame.push_back(hopLimit_);
      frame.push_back(protocol_);
      put16(frame, 0);
      putAddress(frame, AF_INET, source_.empty() ? "10.77.0.2" : source_);
      putAddress(frame, AF_INET, destination_);
      frame.insert(frame.end(), options_, 1);  // no operation
      set16(frame, ip + 10, static_cast<uint16_t>(~sum(frame, ip, frame.size(), 0)));
    }
    const size_t udp = frame.size();
    put16(frame, sourcePort_), put16(frame, port_), put16(frame, udpLength), put16(frame, 0);
    frame.insert(frame.end(), payload_.begin(), payload_.end());
    const size_t addresses = v6_ ? ip + 8 : ip + 12;
    const uint32_t pseudo = 17U + udpLength + sum(frame, addresses, addresses + (v6_ ? 32 : 8), 0);
    const auto check = static_cast<uint16_t>(~sum(frame, udp, frame.size(), pseudo));
    set16(frame, udp + 6, check == 0 ? 0xFFFF : check);
    return frame;
  }

 private:
  FrameBuilder with(const std::function<void(FrameBuilder&)>& change) const {
    FrameBuilder copy = *this;
    change(copy);
    return copy;
  }
  static void put16(std::vector<uint8_t>& frame, uint16_t value) {
    frame.push_back(static_cast<uint8_t>(value >> 8));
    frame.push_back(static_cast<uint8_t>(value & 0xFF));
  }
  static void set16(std::vector<uint8_t>& frame, size_t at, uint16_t value) {
    frame[at] = static_cast<uint8_t>(value >> 8);
    frame[at + 1] = static_cast<uint8_t>(value & 0xFF);
  }
  static void putAddress(std::vector<uint8_t>& frame, int family, const std::string& text) {
    uint8_t bytes[16];
    EXPECT_EQ(::inet_pton(family, text.c_str(), bytes), 1) << text;
    frame.insert(frame.end(), bytes, bytes + (family == AF_INET ? 4 : 16));
  }
  // RFC 1071, folded.
  static uint16_t sum(const std::vector<uint8_t>& frame, size_t from, size_t to, uint32_t start) {
    uint32_t total = start;
    for (size_t i = from; i < to; i += 2) total += static_cast<uint32_t>(frame[i] << 8 | (i + 1 < to ? frame[i + 1] : 0));
    while (total >> 16 != 0) total = (total & 0xFFFF) + (total >> 16);
    return static_cast<uint16_t>(total);
  }

  bool v6_ = false;
  std::string destination_ = "10.77.0.1";
  uint16_t port_ = 0;
  std::string source_;  // empty: the far end's
  uint16_t sourcePort_ = 5000;
  uint8_t hopLimit_ = 64;
  std::string payload_ = "payload";
  bool tagged_ = false;
  uint16_t tci_ = 0;
  uint16_t fragment_ = 0;
  size_t options_ = 0;
  uint8_t protocol_ = 17;
  uint16_t type_ = 0;
};

class FrameSender {
 public:
  void open(const char* interface) {
    fd_ = UniqueFd(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0));
    ASSERT_TRUE(fd_.valid()) << std::strerror(errno);
    address_.sll_family = AF_PACKET;
    address_.sll_ifindex = static_cast<int>(::if_nametoindex(interface));
    ASSERT_EQ(::bind(fd_.get(), reinterpret_cast<sockaddr*>(&address_), sizeof(address_)), 0) << std::strerror(errno);
  }
  void send(const std::vector<uint8_t>& frame) const {
    ASSERT_EQ(::send(fd_.get(), frame.data(), frame.size(), 0), static_cast<ssize_t>(frame.size())) << std::strerror(errno);
  }

 private:
  UniqueFd fd_;
  sockaddr_ll address_{};
};

// UDP payload of a good frame with at most one tag.
inline std::string payloadOf(const std::vector<uint8_t>& frame) {
  size_t at = 14;
  if (frame.size() < 18) return "(no frame)";
  uint16_t type = static_cast<uint16_t>(frame[12] << 8 | frame[13]);
  if (type == 0x8100) type = static_cast<uint16_t>(frame[16] << 8 | frame[17]), at = 18;
  at += type == 0x86DD ? 40 : 20;
  if (frame.size() < at + 8) return "(short frame)";
  const size_t length = static_cast<size_t>(frame[at + 4] << 8 | frame[at + 5]);
  if (length < 8 || frame.size() < at + length) return "(short datagram)";
  return {frame.begin() + static_cast<ptrdiff_t>(at + 8), frame.begin() + static_cast<ptrdiff_t>(at + length)};
}

}  // namespace outrigger::io::testing
