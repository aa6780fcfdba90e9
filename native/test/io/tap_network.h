// SPDX-License-Identifier: Apache-2.0
// A child process in a network namespace of its own with one TAP interface whose wire the test holds: no neighbour answers
// until the test does, so sent datagrams pile up in the kernel. For would-block and MTU behaviour that loopback can't show.
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/if_ether.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <functional>
#include <vector>

#include "base/fd.h"

namespace outrigger::io::testing {

class TapNetwork {
 public:
  static constexpr const char* kLocal = "10.99.0.1";
  static constexpr const char* kPeer = "10.99.0.2";
  static constexpr int kMtu = 1500;

  // Runs `body` in the child, whose failed expectations become the caller's. The namespace goes with the child. Without
  // CAP_SYS_ADMIN a user namespace gives the right to one, which only a process with a single thread can enter.
  static void run(const std::function<void(TapNetwork&)>& body) {
    std::fflush(nullptr);
    const pid_t child = ::fork();
    ASSERT_GE(child, 0) << std::strerror(errno);
    if (child == 0) {
      runInChild(body);
      std::fflush(nullptr);
      ::_exit(::testing::Test::HasFailure() ? 1 : 0);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0) << "see the child's output above";
  }

  // The peer's interface answers every ARP request from now on, and what it receives is kept.
  void answerNeighbourRequests() {
    answering_ = true;
    pump();
  }

  // UDP payload bytes the peer received so far, by length of the datagram. IP fragments count as fragments.
  struct Received {
    std::vector<std::vector<uint8_t>> payloads;
    size_t fragments = 0;
  };
  const Received& received() {
    pump();
    return received_;
  }

  // Takes every frame off the wire that is there now, waiting for the first.
  void pump() {
    uint8_t frame[2048];
    pollfd handle{tap_.get(), POLLIN, 0};
    while (::poll(&handle, 1, 0) > 0) {
      const ssize_t length = ::read(tap_.get(), frame, sizeof(frame));
      if (length < 14) break;
      take(frame, static_cast<size_t>(length));
    }
  }

 private:
  static void runInChild(const std::function<void(TapNetwork&)>& body) {
    if (::unshare(CLONE_NEWNET) != 0) {
      ASSERT_EQ(::unshare(CLONE_NEWUSER | CLONE_NEWNET), 0) << "no network namespace: " << std::strerror(errno);
    }
    TapNetwork network;
    ASSERT_NO_FATAL_FAILURE(network.create());
    body(network);
  }

  void create() {
    tap_ = UniqueFd(::open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC));
    ASSERT_TRUE(tap_.valid()) << "/dev/net/tun: " << std::strerror(errno);
    ifreq request{};
    std::strncpy(request.ifr_name, "tap0", IFNAMSIZ - 1);
    request.ifr_flags = IFF_TAP | IFF_NO_PI;
    ASSERT_EQ(::ioctl(tap_.get(), TUNSETIFF, &request), 0) << std::strerror(errno);
    UniqueFd control(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    auto* in = reinterpret_cast<sockaddr_in*>(&request.ifr_addr);
    in->sin_family = AF_INET;
    ::inet_pton(AF_INET, kLocal, &in->sin_addr);
    ASSERT_EQ(::ioctl(control.get(), SIOCSIFADDR, &request), 0) << std::strerror(errno);
    ::inet_pton(AF_INET, "255.255.255.0", &in->sin_addr);
    ASSERT_EQ(::ioctl(control.get(), SIOCSIFNETMASK, &request), 0) << std::strerror(errno);
    request.ifr_flags = IFF_UP | IFF_RUNNING;
    ASSERT_EQ(::ioctl(control.get(), SIOCSIFFLAGS, &request), 0) << std::strerror(errno);
  }

  void take(const uint8_t* frame, size_t length) {
    const uint16_t type = static_cast<uint16_t>(frame[12] << 8 | frame[13]);
    if (type == ETH_P_ARP && length >= 42 && answering_) answer(frame);
    if (type != ETH_P_IP || length < 14 + 20) return;
    const uint8_t* ip = frame + 14;
    const size_t headerLength = static_cast<size_t>(ip[0] & 0x0F) * 4;
    if (ip[9] != IPPROTO_UDP) return;
    const size_t total = static_cast<size_t>(ip[2] << 8 | ip[3]);
    const bool fragment = ((ip[6] & 0x3F) | ip[7]) != 0;
    if (fragment) {
      ++received_.fragments;
      return;
    }
    received_.payloads.emplace_back(ip + headerLength + 8, ip + total);
  }

  // ARP reply (RFC 826): sender and target change places, our answer names a made-up address.
  void answer(const uint8_t* request) {
    static constexpr uint8_t kPeerMac[6] = {0x02, 0, 0, 0, 0, 0x02};
    uint8_t reply[42];
    std::memcpy(reply, request + 6, 6);
    std::memcpy(reply + 6, kPeerMac, 6);
    std::memcpy(reply + 12, request + 12, 8);
    reply[20] = 0;
    reply[21] = ARPOP_REPLY;
    std::memcpy(reply + 22, kPeerMac, 6);
    std::memcpy(reply + 28, request + 38, 4);
    std::memcpy(reply + 32, request + 22, 10);
    EXPECT_EQ(::write(tap_.get(), reply, sizeof(reply)), static_cast<ssize_t>(sizeof(reply)));
  }

  UniqueFd tap_;
  bool answering_ = false;
  Received received_;
};

}  // namespace outrigger::io::testing
