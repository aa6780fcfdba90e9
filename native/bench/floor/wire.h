// SPDX-License-Identifier: Apache-2.0
// What the floors share. A floor is a program as one would write it for one API alone: no protocol, no driver, no recovery. Each has a class, a
// `wire`, with the same members, so that the four roles (roles.h) are written once, as templates:
//
//   uint32_t room()               datagrams that can be filled now
//   uint8_t* slot(uint32_t i)     the payload of the i-th of them
//   void send(uint32_t count)     hands over the first `count` slots; whatever the kernel refuses is lost, as UDP may lose it
//   void poll(Sink& sink)         looks once for what has arrived
//   std::string facts() const     what it really runs with, JSON members
//
// Every wire spins: it never sleeps in the kernel. Payload is filled into slots and copied out of the receive memory, so that a floor touches each
// byte as often as a program has to. Nothing here is shared with the engine but the mapping of rings (Uring, XskRings).
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "arguments.h"
#include "checker.h"

namespace outrigger::bench {

using Mac = std::array<uint8_t, 6>;

[[noreturn]] inline void dieErrno(const std::string& what) {
  die(what + ": " + std::strerror(errno) + " (errno " + std::to_string(errno) + ")");
}

// Where and what: the same for every API; each uses what it needs.
struct Plan {
  std::string api;
  std::string mode;           // packet: "latency" or "bulk"; xdp: "native" or "generic"; dpdk: the vdev's driver
  bool segmentation = false;  // trains of datagrams through UDP_SEGMENT and UDP_GRO, or a virtio-net header
  std::string interface;
  in_addr local{};
  in_addr peer{};
  uint16_t port = 0;  // both ends'
  Mac peerMac{};
  uint32_t length = 0;  // payload bytes of each datagram
};

inline in_addr addressOf(const std::string& text) {
  in_addr address{};
  if (::inet_pton(AF_INET, text.c_str(), &address) != 1) die("'" + text + "' is no IPv4 address");
  return address;
}

inline Mac macOf(const std::string& text) {
  unsigned bytes[6] = {};
  char rest = 0;
  if (std::sscanf(text.c_str(), "%2x:%2x:%2x:%2x:%2x:%2x%c", &bytes[0], &bytes[1], &bytes[2], &bytes[3], &bytes[4], &bytes[5], &rest) !=
      6) {
    die("'" + text + "' is no MAC address");
  }
  Mac mac{};
  for (size_t i = 0; i < mac.size(); ++i) mac[i] = static_cast<uint8_t>(bytes[i]);
  return mac;
}

inline Plan planOf(const Arguments& arguments) {
  Plan plan;
  plan.api = arguments.text("api");
  plan.mode = arguments.text("mode", "");
  const std::string segmentation = arguments.text("segmentation", "off");
  if (segmentation != "on" && segmentation != "off") die("--segmentation '" + segmentation + "' is neither 'on' nor 'off'");
  plan.segmentation = segmentation == "on";
  plan.interface = arguments.text("interface", "");
  plan.local = addressOf(arguments.text("local"));
  plan.peer = addressOf(arguments.text("peer"));
  const int64_t port = arguments.number("port", 24000);
  if (port < 1 || port > 65535) die("--port " + std::to_string(port) + " is not in 1..65535");
  plan.port = static_cast<uint16_t>(port);
  if (const std::string mac = arguments.text("peer-mac", ""); !mac.empty()) plan.peerMac = macOf(mac);
  const int64_t length = arguments.number("size", kMinMessageLength);
  if (length < kMinMessageLength || length > 65'000) die("--size " + std::to_string(length) + " is not in 32..65000 bytes");
  plan.length = static_cast<uint32_t>(length);
  return plan;
}

// Where received payload is copied to, and what becomes of it: checked and counted, or kept for who answers.
class Sink {
 public:
  Sink() : ring_(kRingBytes) {}

  // Datagrams of `segment` bytes, one after the other, the last may be shorter.
  void take(const uint8_t* data, uint32_t length, uint32_t segment) {
    uint8_t* const to = room(length);
    std::memcpy(to, data, length);
    landed(to, length, segment);
  }
  // For what arrives in pieces: room to copy them to, then landed().
  uint8_t* room(uint32_t length) {
    if (next_ + length > ring_.size()) next_ = 0;
    uint8_t* const to = ring_.data() + next_;
    next_ += length;
    return to;
  }
  void landed(const uint8_t* data, uint32_t length, uint32_t segment) {
    for (uint32_t offset = 0; offset < length; offset += segment) {
      const auto part = static_cast<int32_t>(std::min(segment, length - offset));
      if (checking_) {
        checker_.onMessage(data + offset, part);
      } else {
        kept_.push_back({data + offset, part});
      }
    }
  }

  // Instead of being checked, datagrams wait for handOver(): what ping and pong do.
  void keep() {
    checking_ = false;
    kept_.reserve(64);
  }
  template <typename Handler>
  void handOver(Handler&& handler) {
    for (const Datagram& each : kept_) handler(each.data, each.length);
    kept_.clear();
  }
  const Checker& checker() const { return checker_; }

 private:
  struct Datagram {
    const uint8_t* data;
    int32_t length;
  };
  static constexpr size_t kRingBytes = 2 << 20;  // as the engine's receiver window

  std::vector<uint8_t> ring_;
  size_t next_ = 0;
  Checker checker_;
  bool checking_ = true;
  std::vector<Datagram> kept_;
};

}  // namespace outrigger::bench
