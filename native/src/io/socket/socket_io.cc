// SPDX-License-Identifier: Apache-2.0
// Backend `socket`; see the header.
#include "io/socket/socket_io.h"

#include <sys/socket.h>

#include <algorithm>

namespace outrigger::io {
namespace {

constexpr uint32_t kMaxUdpPayload = 65507;  // 65535 less the IPv4 and UDP headers; IPv6 would allow 20 more

}  // namespace

SocketIo::SocketIo(const BackendOptions& options)
    : SocketIoBase(Caps{"socket", false, false, kMaxUdpPayload, 1, "one datagram a call by design: backend mmsg batches"},
                   UdpSocketOptions{false, options.busyPollUs}, options.receiveSlots) {}

Result<std::unique_ptr<DatagramIo>> SocketIo::create(const BackendOptions& options) {
  std::unique_ptr<SocketIo> io(new SocketIo(options));
  if (auto r = io->check(); !r) return r.error();
  return std::unique_ptr<DatagramIo>(std::move(io));
}

uint32_t SocketIo::transmit(Endpoint& endpoint, std::span<TxItem> items) {
  auto& udp = static_cast<UdpEndpoint&>(endpoint);
  for (TxItem& item : items) {
    item.status = TxStatus::kPending;
    item.sentBytes = 0;
  }
  uint32_t finished = 0;
  for (TxItem& item : items) {
    const uint32_t step = item.segmentLength == 0 ? item.length : std::min(item.segmentLength, item.length);
    TxStatus worst = TxStatus::kSent;
    do {
      const uint32_t length = std::min(step, item.length - item.sentBytes);
      const TxStatus status = sendOne(udp, item.nextHop->address(), item.data + item.sentBytes, length);
      if (status == TxStatus::kWouldBlock) {
        item.status = status;
        return finished;
      }
      if (status != TxStatus::kSent) worst = status;
      item.sentBytes += length;
    } while (item.sentBytes < item.length);
    item.status = worst;
    ++finished;
  }
  return finished;
}

uint32_t SocketIo::receive(UdpEndpoint& endpoint, RxBurst& burst, uint32_t firstSlot, uint32_t endSlot, uint32_t& datagrams) {
  uint32_t slot = firstSlot;
  bool retried = false;
  while (slot < endSlot) {
    const ssize_t length = ::recvmsg(endpoint.fd(), &slots().headers(slot)->msg_hdr, MSG_DONTWAIT);
    if (length < 0) {
      const int err = errno;
      if (err == EINTR) continue;
      if (isWouldBlock(err) || retried) break;
      // An ICMP error for an earlier send: count it and look again, the next datagram is none the worse.
      endpoint.stats.sendErrors.fetch_add(1, std::memory_order_relaxed);
      retried = true;
      continue;
    }
    if (slots().read(slot, static_cast<uint32_t>(length), endpoint, burst.packets[burst.count])) {
      ++burst.count;
      ++datagrams;
    }
    ++slot;
  }
  return slot - firstSlot;
}

}  // namespace outrigger::io
