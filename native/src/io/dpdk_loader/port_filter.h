// SPDX-License-Identifier: Apache-2.0
// Which received frames are the stack's, where the device hands over everything that the kernel sees as well: UDP to a steered address and
// port, sent to this device. Written by control threads, read by the owner, who takes no lock.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "io/frame/frame_io.h"

namespace outrigger::io {

// Where the headers of an unfragmented UDP packet without options lie; found false for all else.
struct UdpPlace {
  bool found = false;
  bool isIpv6 = false;
  uint32_t ip = 0;  // offsets in the frame
  uint32_t udp = 0;
  uint32_t end = 0;  // of the IP packet, by its own length
};
UdpPlace findUdp(std::span<const uint8_t> frame);

class PortFilter {
 public:
  PortFilter();

  // --- control threads ---
  // Idempotent. 0.0.0.0 is every IPv4 address, :: every IPv6 address.
  void add(const SockAddr& address);
  void remove(const SockAddr& address);

  // --- owner ---
  // At the start of each burst: what the rules are now. Until the next call they stay.
  void refresh() {
    current_ = published_.load();
    seen_.store(seen_.load(std::memory_order_relaxed) + 1, std::memory_order_release);
  }
  // `frame`: the first buffer; `place`: findUdp of it. Fragments and packets with options before UDP's header are the kernel's.
  bool wants(std::span<const uint8_t> frame, const UdpPlace& place, const MacAddress& mac) const;

 private:
  struct Rule {
    uint16_t port = 0;
    bool isIpv6 = false;
    bool any = false;
    std::array<uint8_t, 16> address{};
    bool operator==(const Rule&) const = default;
  };
  // Immutable once published.
  struct Rules {
    std::array<uint64_t, 65536 / 64> ports{};  // a port that no rule names is seen at once
    std::vector<Rule> sorted;                  // by port
  };
  struct Retired {
    std::unique_ptr<Rules> rules;
    uint64_t seen = 0;
  };

  static Rule ruleOf(const SockAddr& address);
  void publish(std::vector<Rule> rules);

  std::mutex mutex_;
  std::unique_ptr<Rules> newest_;
  std::vector<Retired> retired_;  // the owner may still be looking at them
  std::atomic<const Rules*> published_{nullptr};
  std::atomic<uint64_t> seen_{0};  // how often the owner took the rules
  const Rules* current_ = nullptr;
};

}  // namespace outrigger::io
