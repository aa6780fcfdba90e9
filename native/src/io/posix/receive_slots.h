// SPDX-License-Identifier: Apache-2.0
// Receive memory of socket backends: 64 KiB slots with room for source address and control messages, and the reading of
// those control messages. Mapped at construction; pages become resident only as datagrams touch them.
#pragma once

#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>

#include "io/datagram_io.h"
#include "io/posix/udp_endpoint.h"

namespace outrigger::io {

// Control messages a datagram can carry: UDP_GRO (int), SO_RXQ_OVFL (u32), IP_PKTINFO or IPV6_PKTINFO (at most 20 bytes),
// IP_RECVFRAGSIZE (int), IP_RECVOPTS (at most 40 bytes), SO_TIMESTAMPNS (timespec).
constexpr size_t kReceiveControlLength = 2 * CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(uint32_t)) + CMSG_SPACE(sizeof(in6_pktinfo)) +
                                         CMSG_SPACE(40) + CMSG_SPACE(sizeof(timespec));
static_assert(sizeof(timespec::tv_sec) == 8, "SO_TIMESTAMPNS tells 64 bits of seconds where the C library's timespec has them");

// How a datagram came: known where the socket asks for it (UdpSocketOptions::arrival).
struct DatagramArrival {
  uint32_t interfaceIndex = 0;
  bool reassembled = false;  // from IP fragments
  bool options = false;      // with IPv4 options
};

// What the addresses of a packet point to, and how it came.
struct DatagramAddresses {
  SockAddr source;  // its storage filled by the receive call
  SockAddr destination;
  DatagramArrival arrival;
};

// Turns a received message into a packet, reading truncation, train length, queue drops and destination from its header. False when
// nothing usable arrived: the reason is counted on the endpoint.
bool readDatagram(msghdr& header, const uint8_t* data, uint32_t length, UdpEndpoint& endpoint, DatagramAddresses& addresses,
                  RxPacket& packet);

class ReceiveSlots {
 public:
  static constexpr uint32_t kSlotLength = 64 * 1024;  // over the longest UDP datagram or GRO train (65527 bytes)

  explicit ReceiveSlots(uint32_t count) : count_(std::clamp<uint32_t>(count, 1, RxBurst::kMaxPackets)) {
    void* memory = ::mmap(nullptr, mappedLength(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    memory_ = memory == MAP_FAILED ? nullptr : static_cast<uint8_t*>(memory);
    meta_ = std::make_unique<Meta[]>(count_);
    headers_ = std::make_unique<mmsghdr[]>(count_);
    if (memory_ != nullptr) prepare(count_);
  }
  ~ReceiveSlots() {
    if (memory_ != nullptr) ::munmap(memory_, mappedLength());
  }
  ReceiveSlots(const ReceiveSlots&) = delete;
  ReceiveSlots& operator=(const ReceiveSlots&) = delete;

  bool valid() const { return memory_ != nullptr; }
  uint32_t count() const { return count_; }
  mmsghdr* headers(uint32_t slot) { return &headers_[slot]; }

  // Readies slots [0, count) again: a receive call overwrites the lengths and flags of the slots it fills, of no other.
  void prepare(uint32_t count) {
    for (uint32_t slot = 0; slot < count; ++slot) {
      Meta& meta = meta_[slot];
      meta.vector = {memory_ + static_cast<size_t>(slot) * kSlotLength, kSlotLength};
      msghdr& header = headers_[slot].msg_hdr;
      header.msg_name = &meta.addresses.source.storage;
      header.msg_namelen = sizeof(meta.addresses.source.storage);
      header.msg_iov = &meta.vector;
      header.msg_iovlen = 1;
      header.msg_control = meta.control.data();
      header.msg_controllen = meta.control.size();
      header.msg_flags = 0;
    }
  }

  // Turns a received slot into a packet. False when nothing usable arrived: the reason is counted on the endpoint.
  bool read(uint32_t slot, uint32_t length, UdpEndpoint& endpoint, RxPacket& packet) {
    Meta& meta = meta_[slot];
    return readDatagram(headers_[slot].msg_hdr, static_cast<const uint8_t*>(meta.vector.iov_base), length, endpoint, meta.addresses,
                        packet);
  }

  using Arrival = DatagramArrival;
  const Arrival& arrival(uint32_t slot) const { return meta_[slot].addresses.arrival; }

 private:
  struct Meta {
    DatagramAddresses addresses;
    iovec vector{};
    alignas(cmsghdr) std::array<uint8_t, kReceiveControlLength> control{};
  };

  size_t mappedLength() const { return static_cast<size_t>(count_) * kSlotLength; }

  uint32_t count_;
  uint8_t* memory_ = nullptr;
  std::unique_ptr<Meta[]> meta_;
  std::unique_ptr<mmsghdr[]> headers_;
};

}  // namespace outrigger::io
