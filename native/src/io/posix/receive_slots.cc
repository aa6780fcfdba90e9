// SPDX-License-Identifier: Apache-2.0
// Reading of a received slot: truncation, train length, queue drops, destination address.
#include "io/posix/receive_slots.h"

#include <netinet/udp.h>
#include <time.h>

#ifndef IP_RECVFRAGSIZE
#define IP_RECVFRAGSIZE 25
#endif
#ifndef IPV6_RECVFRAGSIZE
#define IPV6_RECVFRAGSIZE 77
#endif

namespace outrigger::io {

bool readDatagram(msghdr& header, const uint8_t* data, uint32_t length, UdpEndpoint& endpoint, DatagramAddresses& addresses,
                  RxPacket& packet) {
  uint32_t segmentLength = length;
  packet.destination = &endpoint.localAddress();
  packet.arrivedNs = 0;
  addresses.arrival = {};
  for (cmsghdr* message = CMSG_FIRSTHDR(&header); message != nullptr; message = CMSG_NXTHDR(&header, message)) {
    if (message->cmsg_level == SOL_UDP && message->cmsg_type == UDP_GRO) {
      int value = 0;
      std::memcpy(&value, CMSG_DATA(message), sizeof(value));
      if (value > 0) segmentLength = std::min(length, static_cast<uint32_t>(value));
    } else if (message->cmsg_level == SOL_SOCKET && message->cmsg_type == SO_RXQ_OVFL) {
      uint32_t total = 0;
      std::memcpy(&total, CMSG_DATA(message), sizeof(total));
      endpoint.noteQueueDrops(total);
    } else if (message->cmsg_level == SOL_SOCKET && message->cmsg_type == SCM_TIMESTAMPNS) {
      timespec time{};
      std::memcpy(&time, CMSG_DATA(message), sizeof(time));
      packet.arrivedNs = int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
    } else if (message->cmsg_level == IPPROTO_IP && message->cmsg_type == IP_PKTINFO) {
      in_pktinfo info{};
      std::memcpy(&info, CMSG_DATA(message), sizeof(info));
      addresses.arrival.interfaceIndex = static_cast<uint32_t>(info.ipi_ifindex);
      addresses.destination = endpoint.localAddress();
      reinterpret_cast<sockaddr_in*>(&addresses.destination.storage)->sin_addr = info.ipi_addr;
      packet.destination = &addresses.destination;
    } else if (message->cmsg_level == IPPROTO_IPV6 && message->cmsg_type == IPV6_PKTINFO) {
      in6_pktinfo info{};
      std::memcpy(&info, CMSG_DATA(message), sizeof(info));
      addresses.arrival.interfaceIndex = info.ipi6_ifindex;
      addresses.destination = endpoint.localAddress();
      reinterpret_cast<sockaddr_in6*>(&addresses.destination.storage)->sin6_addr = info.ipi6_addr;
      packet.destination = &addresses.destination;
    } else if ((message->cmsg_level == IPPROTO_IP && message->cmsg_type == IP_RECVFRAGSIZE) ||
               (message->cmsg_level == IPPROTO_IPV6 && message->cmsg_type == IPV6_RECVFRAGSIZE)) {
      addresses.arrival.reassembled = true;
    } else if (message->cmsg_level == IPPROTO_IP && message->cmsg_type == IP_RECVOPTS) {
      addresses.arrival.options = true;
    }
  }
  // Without all control messages a train could be taken for one datagram, so MSG_CTRUNC is as bad as MSG_TRUNC.
  if ((header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
    endpoint.stats.truncatedDatagrams.fetch_add(1, std::memory_order_relaxed);
    return false;
  }
  if (length == 0) {
    endpoint.stats.emptyDatagrams.fetch_add(1, std::memory_order_relaxed);
    return false;
  }
  addresses.source.length = header.msg_namelen;
  packet.data = data;
  packet.length = length;
  packet.segmentLength = segmentLength;
  packet.endpoint = &endpoint;
  packet.source = &addresses.source;
  return true;
}

}  // namespace outrigger::io
