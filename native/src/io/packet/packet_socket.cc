// SPDX-License-Identifier: Apache-2.0
// See the header.
#include "io/packet/packet_socket.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <bit>
#include <cstring>

namespace outrigger::io {
namespace {

Error failed(const Netdev& netdev, const std::string& what, int err) {
  return makeError(ErrorCode::kGeneric, "backend packet on " + netdev.name + ": " + what, err);
}

// EAGAIN and EPERM (a limit of 0) are those of mmap(2) for the limit; another error would be the kernel's own.
std::string unlockedBecause(size_t lengthBytes, int err) {
  rlimit limit{};
  ::getrlimit(RLIMIT_MEMLOCK, &limit);
  const std::string bytes = std::to_string(lengthBytes) + " bytes";
  if (err != EAGAIN && err != EPERM) return bytes + ": " + std::strerror(err);
  return bytes + " are more than RLIMIT_MEMLOCK (" + std::to_string(limit.rlim_cur) +
         ") leaves this process, which lacks CAP_IPC_LOCK; the kernel keeps rings in memory all the same";
}

}  // namespace

Result<PacketRing> PacketRing::map(int fd, size_t lengthBytes, const std::string& what) {
  constexpr int kProtection = PROT_READ | PROT_WRITE;
  void* memory = ::mmap(nullptr, lengthBytes, kProtection, MAP_SHARED | MAP_LOCKED | MAP_POPULATE, fd, 0);
  std::string unlocked;
  if (memory == MAP_FAILED) {
    unlocked = unlockedBecause(lengthBytes, errno);
    memory = ::mmap(nullptr, lengthBytes, kProtection, MAP_SHARED | MAP_POPULATE, fd, 0);
  }
  if (memory == MAP_FAILED) {
    return makeError(ErrorCode::kGeneric, "backend packet: cannot map the " + what + " ring of " + std::to_string(lengthBytes) + " bytes",
                     errno);
  }
  PacketRing ring;
  ring.memory_ = static_cast<uint8_t*>(memory);
  ring.length_ = lengthBytes;
  ring.unlocked_ = std::move(unlocked);
  return ring;
}

SlotLayout layOut(uint32_t minimumLength, uint32_t totalBytes) {
  // The kernel takes a block in one piece if it can, so short ones are easier to get; long enough that little is left over at its end.
  constexpr uint32_t kShortBlock = 256 * 1024;
  constexpr uint32_t kLongBlock = 1024 * 1024;
  SlotLayout layout;
  layout.slotLength = (minimumLength + TPACKET_ALIGNMENT - 1) / TPACKET_ALIGNMENT * TPACKET_ALIGNMENT;
  layout.blockLength = layout.slotLength <= kShortBlock / 8 ? kShortBlock : kLongBlock;
  layout.slotsPerBlock = layout.blockLength / layout.slotLength;
  layout.blocks = std::max(1U, totalBytes / layout.blockLength);
  return layout;
}

tpacket_req ringRequest(const SlotLayout& layout) {
  tpacket_req request{};
  request.tp_block_size = layout.blockLength;
  request.tp_block_nr = layout.blocks;
  request.tp_frame_size = layout.slotLength;
  request.tp_frame_nr = layout.slots();
  return request;
}

Result<UniqueFd> openPacketSocket(const Netdev& netdev) {
  UniqueFd fd(::socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (fd.valid()) return fd;
  const int err = errno;
  if (err == EPERM) {
    return failed(netdev,
                  "cannot create an AF_PACKET socket: the process lacks CAP_NET_RAW in this network namespace, grant it or use mmsg", err);
  }
  if (err == EAFNOSUPPORT) return failed(netdev, "cannot create an AF_PACKET socket: this kernel is built without CONFIG_PACKET", err);
  return failed(netdev, "cannot create an AF_PACKET socket", err);
}

Result<void> setPacketOption(int fd, int option, int value, const char* name, const Netdev& netdev) {
  if (::setsockopt(fd, SOL_PACKET, option, &value, sizeof(value)) == 0) return {};
  return failed(netdev, "cannot set " + std::string(name) + "=" + std::to_string(value), errno);
}

Result<void> attachFilter(int fd, const std::vector<sock_filter>& program, const Netdev& netdev) {
  sock_fprog description{};
  description.len = static_cast<unsigned short>(program.size());
  description.filter = const_cast<sock_filter*>(program.data());
  if (::setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &description, sizeof(description)) == 0) return {};
  const int err = errno;
  const std::string what = "cannot attach a filter of " + std::to_string(program.size()) + " instructions";
  if (err == ENOMEM) return failed(netdev, what + ": raise the sysctl net.core.optmem_max, or bind fewer ports", err);
  return failed(netdev, what, err);
}

Result<void> bindPacketSocket(int fd, const Netdev& netdev, uint16_t protocol) {
  sockaddr_ll address{};
  address.sll_family = AF_PACKET;
  address.sll_protocol = htons(protocol);
  address.sll_ifindex = static_cast<int>(netdev.index);
  if (::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) return {};
  return failed(netdev, "cannot bind to the interface", errno);
}

void raiseBuffer(int fd, int forceOption, int option, int32_t bytes) {
  if (::setsockopt(fd, SOL_SOCKET, forceOption, &bytes, sizeof(bytes)) != 0) {
    ::setsockopt(fd, SOL_SOCKET, option, &bytes, sizeof(bytes));
  }
}

int32_t grantedBuffer(int fd, int option) {
  int granted = 0;
  socklen_t length = sizeof(granted);
  return ::getsockopt(fd, SOL_SOCKET, option, &granted, &length) == 0 ? granted / 2 : 0;
}

}  // namespace outrigger::io
