// SPDX-License-Identifier: Apache-2.0
// Rules grouped by address: one comparison of the address, then one instruction a port.
#include "io/packet/packet_filter.h"

#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <set>

namespace outrigger::io {
namespace {

constexpr uint32_t kAcceptAll = 0x40000;  // bytes to keep: over the longest train
constexpr uint32_t kNoLimitTerm = 255;    // longest conditional jump: its offset is 8 bits

// Offsets in a frame without an inline VLAN tag. Loads are relative to the index register: 4 behind an inline tag.
constexpr uint32_t kTypeOffset = 12;
constexpr uint32_t kIpv4Offset = 14;
constexpr uint32_t kIpv4DestinationOffset = kIpv4Offset + 16;
constexpr uint32_t kIpv4PortOffset = kIpv4Offset + 20 + 2;
constexpr uint32_t kIpv6DestinationOffset = kIpv4Offset + 24;
constexpr uint32_t kIpv6PortOffset = kIpv4Offset + 40 + 2;

using Address = std::vector<uint32_t>;  // host-order words, empty: any
using Groups = std::map<Address, std::set<uint16_t>>;
using Program = std::vector<sock_filter>;

sock_filter statement(uint16_t code, uint32_t value) { return sock_filter{code, 0, 0, value}; }
sock_filter jump(uint16_t code, uint32_t value, uint8_t ifTrue, uint8_t ifFalse) { return sock_filter{code, ifTrue, ifFalse, value}; }
sock_filter jumpOver(size_t count) { return statement(BPF_JMP | BPF_JA, static_cast<uint32_t>(count)); }

void append(Program& program, const Program& more) { program.insert(program.end(), more.begin(), more.end()); }

// The port is in the accumulator. Accepts one of `ports`, else runs on past the end.
Program matchPorts(const std::set<uint16_t>& ports) {
  Program program;
  const std::vector<uint16_t> all(ports.begin(), ports.end());
  constexpr size_t kChunk = kNoLimitTerm - 1;
  for (size_t first = 0; first < all.size(); first += kChunk) {
    const size_t count = std::min(kChunk, all.size() - first);
    for (size_t i = 0; i < count; ++i) {
      program.push_back(jump(BPF_JMP | BPF_JEQ | BPF_K, all[first + i], static_cast<uint8_t>(count - i), 0));
    }
    program.push_back(jumpOver(1));
    program.push_back(statement(BPF_RET | BPF_K, kAcceptAll));
  }
  return program;
}

sock_filter load(uint16_t width, uint32_t offset) { return statement(static_cast<uint16_t>(BPF_LD | BPF_IND | width), offset); }

Program matchGroups(const Groups& groups, uint32_t destinationOffset, uint32_t portOffset) {
  Program program;
  for (const auto& [address, ports] : groups) {
    Program body;
    body.push_back(load(BPF_H, portOffset));
    append(body, matchPorts(ports));
    // Backwards: each word that differs jumps over all that follows, by the unconditional jump since that is as long as it needs.
    for (size_t i = address.size(); i-- > 0;) {
      const size_t rest = body.size();
      const Program check{load(BPF_W, destinationOffset + static_cast<uint32_t>(i) * 4), jump(BPF_JMP | BPF_JEQ | BPF_K, address[i], 1, 0),
                          jumpOver(rest)};
      body.insert(body.begin(), check.begin(), check.end());
    }
    append(program, body);
  }
  program.push_back(statement(BPF_RET | BPF_K, 0));
  return program;
}

Address wordsOf(const SockAddr& address) {
  if (!address.isV6()) {
    const uint32_t word = ntohl(reinterpret_cast<const sockaddr_in*>(&address.storage)->sin_addr.s_addr);
    return word == INADDR_ANY ? Address{} : Address{word};
  }
  std::array<uint32_t, 4> words{};
  std::memcpy(words.data(), &reinterpret_cast<const sockaddr_in6*>(&address.storage)->sin6_addr, sizeof(words));
  if (std::all_of(words.begin(), words.end(), [](uint32_t word) { return word == 0; })) return {};
  Address result;
  for (const uint32_t word : words) result.push_back(ntohl(word));
  return result;
}

// IPv4: no options, whole, UDP.
Program ipv4Branch(const Groups& groups) {
  Program program{
      load(BPF_B, kIpv4Offset),     jump(BPF_JMP | BPF_JEQ | BPF_K, 0x45, 1, 0),        statement(BPF_RET | BPF_K, 0),
      load(BPF_H, kIpv4Offset + 6), jump(BPF_JMP | BPF_JSET | BPF_K, 0x3FFF, 0, 1),     statement(BPF_RET | BPF_K, 0),
      load(BPF_B, kIpv4Offset + 9), jump(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_UDP, 1, 0), statement(BPF_RET | BPF_K, 0),
  };
  append(program, matchGroups(groups, kIpv4DestinationOffset, kIpv4PortOffset));
  return program;
}

// IPv6: UDP directly behind the fixed header, so no extension and no fragment.
Program ipv6Branch(const Groups& groups) {
  Program program{
      load(BPF_B, kIpv4Offset + 6),
      jump(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_UDP, 1, 0),
      statement(BPF_RET | BPF_K, 0),
  };
  append(program, matchGroups(groups, kIpv6DestinationOffset, kIpv6PortOffset));
  return program;
}

}  // namespace

Result<std::vector<sock_filter>> buildPacketFilter(const std::vector<SteerRule>& rules, FilterView view) {
  Groups v4;
  Groups v6;
  for (const SteerRule& rule : rules) (rule.address.isV6() ? v6 : v4)[wordsOf(rule.address)].insert(rule.address.port());
  Program program;
  if (view == FilterView::kPacketSocket) {
    // PACKET_HOST, _BROADCAST, _MULTICAST are below PACKET_OTHERHOST and PACKET_OUTGOING.
    program = {statement(BPF_LD | BPF_W | BPF_ABS, static_cast<uint32_t>(SKF_AD_OFF + SKF_AD_PKTTYPE)),
               jump(BPF_JMP | BPF_JGE | BPF_K, PACKET_OTHERHOST, 0, 1), statement(BPF_RET | BPF_K, 0)};
  }
  const Program ipv4 = ipv4Branch(v4);
  program.push_back(statement(BPF_LDX | BPF_W | BPF_IMM, 0));
  program.push_back(load(BPF_H, kTypeOffset));
  if (view == FilterView::kDevice) {
    // A packet socket gets the tag beside the frame: one still in it is a second one, and not ours.
    program.push_back(jump(BPF_JMP | BPF_JEQ | BPF_K, ETH_P_8021Q, 0, 2));
    program.push_back(statement(BPF_LDX | BPF_W | BPF_IMM, 4));
    program.push_back(load(BPF_H, kTypeOffset));
  }
  program.push_back(jump(BPF_JMP | BPF_JEQ | BPF_K, ETH_P_IP, 1, 0));
  program.push_back(jumpOver(ipv4.size()));
  append(program, ipv4);
  program.push_back(jump(BPF_JMP | BPF_JEQ | BPF_K, ETH_P_IPV6, 1, 0));
  program.push_back(statement(BPF_RET | BPF_K, 0));
  append(program, ipv6Branch(v6));
  if (program.size() > BPF_MAXINSNS) {
    return makeError(ErrorCode::kGeneric, "a filter of " + std::to_string(rules.size()) + " addresses and ports has " +
                                              std::to_string(program.size()) + " instructions, the kernel takes " +
                                              std::to_string(BPF_MAXINSNS) + ": bind fewer ports, or to a wildcard address");
  }
  return program;
}

}  // namespace outrigger::io
