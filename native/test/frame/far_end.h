// SPDX-License-Identifier: Apache-2.0
// What stands at the other end of the wire: an ordinary packet socket that sends frames, also with a checksum left open or as a train,
// and takes what arrives, each with one plain system call.
#pragma once

#include <gtest/gtest.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <optional>
#include <string>

#include "frames.h"
#include "net_world.h"

namespace outrigger::io::testing {

// Long enough for a loaded machine: reaching it is a failure, not a measurement.
constexpr int kPatienceMs = 20'000;

struct FarFrame {
  Datagram datagram;
  bool checksumLeftOpen = false;
  uint16_t segmentLength = 0;
  int vlan = -1;
};

class FarEnd {
 public:
  FarEnd(const Namespace& where, const std::string& interface) {
    const Inside inside(where);
    fd_ = UniqueFd(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    EXPECT_TRUE(fd_.valid()) << std::strerror(errno);
    set(SOL_PACKET, PACKET_VNET_HDR, 1);
    set(SOL_PACKET, 23 /* PACKET_IGNORE_OUTGOING */, 1);
    set(SOL_PACKET, PACKET_AUXDATA, 1);
    set(SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20);
    set(SOL_SOCKET, SO_SNDBUFFORCE, 16 << 20);
    sockaddr_ll address{};
    address.sll_family = AF_PACKET;
    address.sll_protocol = htons(ETH_P_ALL);
    address.sll_ifindex = static_cast<int>(::if_nametoindex(interface.c_str()));
    EXPECT_EQ(::bind(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0) << std::strerror(errno);
    ifreq request{};
    std::strncpy(request.ifr_name, interface.c_str(), IFNAMSIZ - 1);
    EXPECT_EQ(::ioctl(fd_.get(), SIOCGIFHWADDR, &request), 0) << std::strerror(errno);
    std::memcpy(mac_.data(), request.ifr_hwaddr.sa_data, mac_.size());
  }

  const MacAddress& mac() const { return mac_; }

  // False when the kernel would not take it (its errno is kept).
  bool send(const Bytes& frame) { return send(frame, Header{}); }
  // With the checksum left open: `frame` was made with Sum::kPseudo.
  bool sendPartial(const Bytes& frame, const Flow& flow, uint16_t segmentLength = 0) {
    Header header;
    header.flags = 1;
    header.checksumStart = static_cast<uint16_t>(offsetsOf(flow).udp);
    header.checksumOffset = 6;
    header.headerLength = static_cast<uint16_t>(offsetsOf(flow).payload);
    if (segmentLength != 0) {
      header.gsoType = 5;
      header.gsoSize = segmentLength;
    }
    return send(frame, header);
  }

  // The next UDP datagram or train to `port`; what else is on the wire (neighbour discovery and the like) is passed over.
  std::optional<FarFrame> receive(uint16_t port = 41000, int patienceMs = kPatienceMs) {
    for (;;) {
      pollfd handle{fd_.get(), POLLIN, 0};
      if (::poll(&handle, 1, patienceMs) <= 0) {
        if (patienceMs != 0) ADD_FAILURE() << "nothing arrived at the far end";
        return std::nullopt;
      }
      FarFrame frame;
      if (take(frame) && frame.datagram.destinationPort == port) return frame;
    }
  }
  std::optional<FarFrame> receiveNow(uint16_t port = 41000) { return receive(port, 0); }

 private:
  struct Header {
    uint8_t flags = 0;
    uint8_t gsoType = 0;
    uint16_t headerLength = 0;
    uint16_t gsoSize = 0;
    uint16_t checksumStart = 0;
    uint16_t checksumOffset = 0;
  };

  void set(int level, int option, int value) {
    EXPECT_EQ(::setsockopt(fd_.get(), level, option, &value, sizeof(value)), 0) << option << ": " << std::strerror(errno);
  }

  bool send(const Bytes& frame, const Header& header) {
    iovec pieces[2] = {{const_cast<Header*>(&header), sizeof(header)}, {const_cast<uint8_t*>(frame.data()), frame.size()}};
    msghdr message{};
    message.msg_iov = pieces;
    message.msg_iovlen = 2;
    for (;;) {
      if (::sendmsg(fd_.get(), &message, 0) >= 0) return true;
      if (errno != ENOBUFS && errno != EAGAIN) return false;
      ::sched_yield();
    }
  }

  bool take(FarFrame& frame) {
    Header header;
    Bytes bytes(72 * 1024);
    iovec pieces[2] = {{&header, sizeof(header)}, {bytes.data(), bytes.size()}};
    alignas(cmsghdr) uint8_t control[256];
    msghdr message{};
    message.msg_iov = pieces;
    message.msg_iovlen = 2;
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    const ssize_t length = ::recvmsg(fd_.get(), &message, MSG_DONTWAIT);
    if (length < static_cast<ssize_t>(sizeof(header))) return false;
    bytes.resize(static_cast<size_t>(length) - sizeof(header));
    frame.datagram = datagramOf(bytes);
    frame.checksumLeftOpen = (header.flags & 1) != 0;
    frame.segmentLength = header.gsoType == 5 ? header.gsoSize : uint16_t{0};
    frame.vlan = frame.datagram.vlan;
    for (cmsghdr* one = CMSG_FIRSTHDR(&message); one != nullptr; one = CMSG_NXTHDR(&message, one)) {
      if (one->cmsg_level != SOL_PACKET || one->cmsg_type != PACKET_AUXDATA) continue;
      tpacket_auxdata aux{};
      std::memcpy(&aux, CMSG_DATA(one), sizeof(aux));
      if ((aux.tp_status & TP_STATUS_VLAN_VALID) != 0) frame.vlan = aux.tp_vlan_tci;
    }
    return frame.datagram.valid;
  }

  UniqueFd fd_;
  MacAddress mac_{};
};

}  // namespace outrigger::io::testing
