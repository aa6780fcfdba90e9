// SPDX-License-Identifier: Apache-2.0
// The connected UDP socket of the floors of socket, mmsg and uring, and what they read from its control messages.
#pragma once

#include <netinet/udp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "floor/wire.h"

namespace outrigger::bench {

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

constexpr int kSocketBufferBytes = 2 << 20;  // as the tuned engine has
constexpr uint32_t kMaxTrainBytes = 65'507;  // the longest UDP payload over IPv4
constexpr uint32_t kMaxTrainSegments = 64;   // UDP_MAX_SEGMENTS of kernels before 6.9
constexpr size_t kControlBytes = CMSG_SPACE(sizeof(int));

// Datagrams of one train.
inline uint32_t trainLength(const Plan& plan) { return std::max(1U, std::min(kMaxTrainSegments, kMaxTrainBytes / plan.length)); }

inline UniqueFd openUdp(const Plan& plan) {
  UniqueFd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd.valid()) dieErrno("cannot create a UDP socket");
  ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUF, &kSocketBufferBytes, sizeof(kSocketBufferBytes));
  ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDBUF, &kSocketBufferBytes, sizeof(kSocketBufferBytes));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(plan.port);
  address.sin_addr = plan.local;
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0)
    dieErrno("cannot bind port " + std::to_string(plan.port));
  address.sin_addr = plan.peer;
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) dieErrno("cannot connect the socket");
  if (plan.segmentation) {
    const int segment = static_cast<int>(plan.length);
    if (::setsockopt(fd.get(), IPPROTO_UDP, UDP_SEGMENT, &segment, sizeof(segment)) != 0) dieErrno("UDP_SEGMENT");
    const int on = 1;
    if (::setsockopt(fd.get(), IPPROTO_UDP, UDP_GRO, &on, sizeof(on)) != 0) dieErrno("UDP_GRO");
  }
  return fd;
}

// Bytes of each datagram of what was received, `whole` when it is a single one.
inline uint32_t segmentOf(msghdr& header, uint32_t whole) {
  for (cmsghdr* each = CMSG_FIRSTHDR(&header); each != nullptr; each = CMSG_NXTHDR(&header, each)) {
    if (each->cmsg_level != IPPROTO_UDP || each->cmsg_type != UDP_GRO) continue;
    int segment = 0;
    std::memcpy(&segment, CMSG_DATA(each), sizeof(segment));
    if (segment > 0) return static_cast<uint32_t>(segment);
  }
  return whole;
}

// Whether a refused send is worth trying again at once. An ICMP error for an earlier datagram uses up the call.
inline bool sendAgain(int err) { return err == EAGAIN || err == EINTR || err == ECONNREFUSED || err == ENOBUFS; }

}  // namespace outrigger::bench
