// SPDX-License-Identifier: Apache-2.0
// Opening of AF_PACKET sockets and their rings (packet(7), Linux Documentation/networking/packet_mmap.rst). Options, memory and errors
// that name the fix; no frame moves here.
#pragma once

#include <linux/filter.h>
#include <linux/if_packet.h>
#include <sys/mman.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "io/frame/netdev.h"

namespace outrigger::io {

// Memory that kernel and we share.
class PacketRing {
 public:
  PacketRing() = default;
  PacketRing(PacketRing&& other) noexcept
      : memory_(std::exchange(other.memory_, nullptr)), length_(std::exchange(other.length_, 0)), unlocked_(std::move(other.unlocked_)) {}
  PacketRing& operator=(PacketRing&& other) noexcept {
    if (this != &other) {
      reset();
      memory_ = std::exchange(other.memory_, nullptr);
      length_ = std::exchange(other.length_, 0);
      unlocked_ = std::move(other.unlocked_);
    }
    return *this;
  }
  ~PacketRing() { reset(); }

  // Locked where the memory limit allows it. The kernel never pages rings out, so without the lock nothing is lost but a page fault
  // on first use; `unlocked` says why.
  static Result<PacketRing> map(int fd, size_t lengthBytes, const std::string& what);

  uint8_t* data() const { return memory_; }
  // Empty when it is locked.
  const std::string& unlocked() const { return unlocked_; }

 private:
  void reset() {
    if (memory_ != nullptr) ::munmap(memory_, length_);
    memory_ = nullptr;
  }

  uint8_t* memory_ = nullptr;
  size_t length_ = 0;
  std::string unlocked_;
};

// A ring of slots of one length in blocks that the kernel allocates each in one piece.
struct SlotLayout {
  uint32_t slotLength = 0;   // a multiple of TPACKET_ALIGNMENT
  uint32_t blockLength = 0;  // a multiple of the page size
  uint32_t slotsPerBlock = 0;
  uint32_t blocks = 0;

  uint32_t slots() const { return slotsPerBlock * blocks; }
  size_t lengthBytes() const { return static_cast<size_t>(blockLength) * blocks; }
  uint8_t* slot(uint8_t* memory, uint32_t index) const {
    return memory + static_cast<size_t>(index / slotsPerBlock) * blockLength + static_cast<size_t>(index % slotsPerBlock) * slotLength;
  }
};

// The layout as the kernel is asked for it.
tpacket_req ringRequest(const SlotLayout& layout);

// At least `minimumLength` a slot, about `totalBytes` in all.
SlotLayout layOut(uint32_t minimumLength, uint32_t totalBytes);

// A raw socket that receives nothing yet. Fails on EPERM saying that CAP_NET_RAW is missing.
Result<UniqueFd> openPacketSocket(const Netdev& netdev);

// setsockopt(SOL_PACKET), or the error with the option's name.
Result<void> setPacketOption(int fd, int option, int value, const char* name, const Netdev& netdev);

// Fails naming the rules' number and what the kernel answers.
Result<void> attachFilter(int fd, const std::vector<sock_filter>& program, const Netdev& netdev);

// From here on the socket receives: `protocol` ETH_P_ALL; or 0 for one that only sends.
Result<void> bindPacketSocket(int fd, const Netdev& netdev, uint16_t protocol);

// Up to `bytes`, without the system's limit where CAP_NET_ADMIN allows that.
void raiseBuffer(int fd, int forceOption, int option, int32_t bytes);
// Of SO_RCVBUF or SO_SNDBUF, as it was asked for: the kernel says twice that.
int32_t grantedBuffer(int fd, int option);

}  // namespace outrigger::io
