// SPDX-License-Identifier: Apache-2.0
// Backend `mmsg`; see the header.
#include "io/mmsg/mmsg_io.h"

#include <sys/socket.h>

namespace outrigger::io {

MmsgIo::MmsgIo(const BackendOptions& options)
    : SocketIoBase(probeTrains("mmsg", options), UdpSocketOptions{false, options.busyPollUs}, options.receiveSlots) {}

Result<std::unique_ptr<DatagramIo>> MmsgIo::create(const BackendOptions& options) {
  std::unique_ptr<MmsgIo> io(new MmsgIo(options));
  if (auto r = io->check(); !r) return r.error();
  io->enableCoalescing(io->caps().receiveCoalescing);
  return std::unique_ptr<DatagramIo>(std::move(io));
}

uint32_t MmsgIo::transmit(Endpoint& endpoint, std::span<TxItem> items) {
  const auto send = [](int fd, mmsghdr* messages, uint32_t count) { return ::sendmmsg(fd, messages, count, MSG_DONTWAIT | MSG_NOSIGNAL); };
  return transmitter_.transmit(static_cast<UdpEndpoint&>(endpoint), items, caps().segmentationOffload, send);
}

uint32_t MmsgIo::receive(UdpEndpoint& endpoint, RxBurst& burst, uint32_t firstSlot, uint32_t endSlot, uint32_t& datagrams) {
  int received = -1;
  for (int attempt = 0; attempt < 2; ++attempt) {
    received = ::recvmmsg(endpoint.fd(), slots().headers(firstSlot), endSlot - firstSlot, MSG_DONTWAIT, nullptr);
    if (received >= 0 || isWouldBlock(errno)) break;
    // An ICMP error for an earlier send: count it and look again, the next datagram is none the worse.
    if (errno != EINTR) endpoint.stats.sendErrors.fetch_add(1, std::memory_order_relaxed);
  }
  if (received <= 0) return 0;
  for (uint32_t slot = firstSlot; slot < firstSlot + static_cast<uint32_t>(received); ++slot) {
    RxPacket& packet = burst.packets[burst.count];
    if (!slots().read(slot, slots().headers(slot)->msg_len, endpoint, packet)) continue;
    ++burst.count;
    datagrams += datagramCount(packet.length, packet.segmentLength);
  }
  return static_cast<uint32_t>(received);
}

}  // namespace outrigger::io
