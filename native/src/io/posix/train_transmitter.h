// SPDX-License-Identifier: Apache-2.0
// Items of the sender as messages of the kernel: trains with UDP_SEGMENT where the path takes them, a control message per message, so
// that one call carries trains of several sizes to several destinations. What a refusal means for the rest of a batch is decided
// here; how a batch of messages reaches the kernel is the backend's.
#pragma once

#include <netinet/udp.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <span>
#include <string>

#include "io/backend.h"
#include "io/posix/udp_io_base.h"

namespace outrigger::io {

// What this kernel can do with trains on UDP sockets, and why not more.
Caps probeTrains(const std::string& name, const BackendOptions& options);

class TrainTransmitter {
 public:
  static constexpr size_t kMaxMessages = 64;  // per call; the sender's bursts are shorter

  // As DatagramIo::transmit. `send(fd, messages, count)` is sendmmsg(2): it sends in order, returns how many until one failed, or -1
  // with errno when that was the first.
  template <typename Send>
  uint32_t transmit(UdpEndpoint& udp, std::span<TxItem> items, bool segmentation, Send&& send);
  // Within `send`: the item that a message is of.
  uint32_t itemOf(uint32_t message) const { return messages_[message].item; }

 private:
  // One message of the call being put together.
  struct Message {
    iovec vector{};
    uint32_t item = 0;  // index into the caller's items
    bool train = false;
    alignas(cmsghdr) std::array<uint8_t, CMSG_SPACE(sizeof(uint16_t))> control{};
  };

  uint32_t fill(std::span<TxItem> items, uint32_t first, bool segmentation);
  void addMessage(uint32_t index, uint32_t itemIndex, const TxItem& item, uint32_t offset, uint32_t length, bool train);
  static bool refusesTrain(int err);

  std::array<Message, kMaxMessages> messages_{};
  std::array<mmsghdr, kMaxMessages> headers_{};
};

template <typename Send>
uint32_t TrainTransmitter::transmit(UdpEndpoint& udp, std::span<TxItem> items, bool segmentation, Send&& send) {
  for (TxItem& item : items) {
    item.status = TxStatus::kPending;
    item.sentBytes = 0;
  }
  uint32_t finished = 0;
  bool retried = false;
  while (finished < items.size()) {
    const uint32_t count = fill(items, finished, segmentation);
    const int sent = send(udp.fd(), headers_.data(), count);
    if (sent > 0) {
      // The first failure was another destination's, reported late: that one lost a datagram, this one did not.
      if (retried) udp.stats.sendErrors.fetch_add(1, std::memory_order_relaxed);
      retried = false;
      for (uint32_t i = 0; i < static_cast<uint32_t>(sent); ++i) {
        TxItem& item = items[messages_[i].item];
        item.sentBytes += static_cast<uint32_t>(messages_[i].vector.iov_len);
        if (item.sentBytes >= item.length) {
          item.status = TxStatus::kSent;
          finished = messages_[i].item + 1;
        }
      }
      continue;  // after a short count the next call tells what stopped the message behind it
    }
    const int err = errno;
    TxItem& item = items[finished];
    if (err == EINTR) continue;
    if (isWouldBlock(err)) {
      item.status = TxStatus::kWouldBlock;
      return finished;
    }
    if (messages_[0].train && refusesTrain(err)) {
      item.nextHop->segmentationRefused = true;
      udp.stats.segmentationFallbacks.fetch_add(1, std::memory_order_relaxed);
      continue;
    }
    if (!retried && err != EMSGSIZE) {
      retried = true;
      continue;
    }
    // The rest of the item goes the same way: one system call for it, not one for each of its datagrams.
    udp.stats.sendErrors.fetch_add(datagramCount(item.length - item.sentBytes, item.segmentLength), std::memory_order_relaxed);
    item.status = sendStatusOf(err);
    item.sentBytes = item.length;
    retried = false;
    ++finished;
  }
  return finished;
}

}  // namespace outrigger::io
