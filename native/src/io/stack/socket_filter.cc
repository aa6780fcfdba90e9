// SPDX-License-Identifier: Apache-2.0
// The program; see the header. A UDP socket's filter runs with the UDP header first; SKF_NET_OFF reaches back to the IP header (Linux
// Documentation/networking/filter.rst).
#include "io/stack/socket_filter.h"

#include <linux/filter.h>
#include <sys/socket.h>

#include <array>

#include "io/stack/packet.h"

namespace outrigger::io {
namespace {

constexpr uint32_t kNetwork = static_cast<uint32_t>(SKF_NET_OFF);
constexpr uint32_t kInterface = static_cast<uint32_t>(SKF_AD_OFF + SKF_AD_IFINDEX);
constexpr uint32_t kPass = 0xFFFFFFFF;
constexpr uint32_t kDrop = 0;
constexpr uint32_t kMinIpv6Mtu = 1280;  // RFC 8200, section 5

using Program = std::array<sock_filter, 8>;

Program programV4(uint32_t interfaceIndex) {
  return {{
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kInterface),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, interfaceIndex, 0, 5),
      BPF_STMT(BPF_LD | BPF_B | BPF_ABS, kNetwork),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x45, 0, 3),  // version 4, no options
      BPF_STMT(BPF_LD | BPF_H | BPF_ABS, kNetwork + 6),
      BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, packet::kDontFragment, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, kDrop),
      BPF_STMT(BPF_RET | BPF_K, kPass),
  }};
}

Program programV6(uint32_t interfaceIndex) {
  return {{
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kInterface),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, interfaceIndex, 0, 5),
      BPF_STMT(BPF_LD | BPF_B | BPF_ABS, kNetwork + 6),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, packet::kProtocolUdp, 0, 3),
      BPF_STMT(BPF_LD | BPF_H | BPF_ABS, kNetwork + 4),
      BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, kMinIpv6Mtu - packet::kIpv6Length, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, kDrop),
      BPF_STMT(BPF_RET | BPF_K, kPass),
  }};
}

}  // namespace

Result<void> dropDeviceCopies(int fd, bool v6, uint32_t interfaceIndex) {
  Program instructions = v6 ? programV6(interfaceIndex) : programV4(interfaceIndex);
  const sock_fprog program{static_cast<uint16_t>(instructions.size()), instructions.data()};
  if (::setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) == 0) return {};
  return makeError(ErrorCode::kChannelEndpointError, "cannot attach a filter to the socket that reserves the port", errno);
}

}  // namespace outrigger::io
