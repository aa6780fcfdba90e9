// SPDX-License-Identifier: Apache-2.0
// System calls of AF_XDP sockets, and what their errors mean.
#include "io/xdp/xsk.h"

#include <net/if.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <cerrno>
#include <cstring>
#include <ctime>
#include <fstream>

namespace outrigger::io::xdp {
namespace {

constexpr int64_t kBusyPauseMs = 5;  // a pool is freed within a few milliseconds of its last mapping

bool isPowerOfTwo(uint32_t value) { return value != 0 && (value & (value - 1)) == 0; }

std::string nameOf(const XskBinding& binding) {
  char name[IF_NAMESIZE] = {};
  const char* known = ::if_indextoname(binding.interfaceIndex, name);
  return "interface " + (known != nullptr ? std::string(name) : "#" + std::to_string(binding.interfaceIndex)) + " queue " +
         std::to_string(binding.queue);
}

std::string memoryLimit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_MEMLOCK, &limit) != 0) return "unknown";
  return limit.rlim_cur == RLIM_INFINITY ? "unlimited" : std::to_string(limit.rlim_cur) + " bytes";
}

int tryBind(int socket, const XskBinding& binding) {
  sockaddr_xdp address{};
  address.sxdp_family = AF_XDP;
  address.sxdp_ifindex = binding.interfaceIndex;
  address.sxdp_queue_id = binding.queue;
  if (binding.sharedUmemSocket >= 0) {
    // Flags beside this one are an error: the kernel takes them from the first socket.
    address.sxdp_flags = XDP_SHARED_UMEM;
    address.sxdp_shared_umem_fd = static_cast<uint32_t>(binding.sharedUmemSocket);
  } else {
    unsigned flags = binding.mode == XskMode::kZeroCopy ? XDP_ZEROCOPY : XDP_COPY;
    if (binding.needWakeup) flags |= XDP_USE_NEED_WAKEUP;
    if (binding.multiBuffer) flags |= kUseSg;
    address.sxdp_flags = static_cast<uint16_t>(flags);
  }
  return ::bind(socket, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0 ? 0 : errno;
}

Error bindError(const XskBinding& binding, int error) {
  std::string why = "AF_XDP: cannot bind " + nameOf(binding) + (binding.mode == XskMode::kZeroCopy ? " with zero-copy" : "");
  switch (error) {
    case EBUSY:
      why += ", another AF_XDP socket has this queue: close it, or name other queues";
      break;
    case EINVAL:
      why += ", the interface has no such queue or the kernel does not know a flag" +
             std::string(binding.multiBuffer ? " (frames of several buffers need Linux 6.6)" : "");
      break;
    case EOPNOTSUPP:
      why += ", its driver does not support it";
      break;
    case ENODEV:
      why += ", there is no such interface in this network namespace";
      break;
    default:
      break;
  }
  return makeError(ErrorCode::kGeneric, why, error);
}

}  // namespace

Result<UniqueFd> openXsk() {
  UniqueFd fd(::socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0));
  if (fd.valid()) return fd;
  const int error = errno;
  if (error == EPERM) {
    return makeError(ErrorCode::kGeneric, "AF_XDP: cannot create a socket: give the process CAP_NET_RAW, or a socket from outrigger-nicd",
                     error);
  }
  if (error == EAFNOSUPPORT) {
    return makeError(ErrorCode::kNotSupported, "AF_XDP: cannot create a socket: this kernel is built without CONFIG_XDP_SOCKETS", error);
  }
  return makeError(ErrorCode::kGeneric, "AF_XDP: cannot create a socket", error);
}

Result<void> registerUmem(int socket, uint8_t* memory, uint64_t lengthBytes, const UmemLayout& layout) {
  if ((layout.chunkBytes != 2048 && layout.chunkBytes != 4096) || lengthBytes < layout.chunkBytes) {
    return makeError(ErrorCode::kGeneric, "UMEM of " + std::to_string(lengthBytes) + " bytes in chunks of " +
                                              std::to_string(layout.chunkBytes) + ": chunks are of 2048 or 4096 bytes, at least one");
  }
  UmemRegistration registration;
  registration.address = reinterpret_cast<uintptr_t>(memory);
  registration.length = lengthBytes;
  registration.chunkBytes = layout.chunkBytes;
  registration.headroom = layout.headroom;
  registration.txMetadataBytes = layout.txMetadataBytes;
  if (layout.txMetadataBytes != 0) registration.flags |= kUmemTxMetadataLen;
  if (::setsockopt(socket, SOL_XDP, XDP_UMEM_REG, &registration, sizeof(registration)) == 0) return {};
  const int error = errno;
  std::string why = "AF_XDP: cannot register " + std::to_string(lengthBytes) + " bytes as UMEM";
  if (error == ENOBUFS) {
    why += ": they would exceed the user's limit of locked memory (RLIMIT_MEMLOCK, " + memoryLimit() +
           "): raise the limit, give the process CAP_IPC_LOCK, or use less memory";
  } else if (error == EINVAL && layout.txMetadataBytes != 0) {
    why += " with room for transmit metadata: the kernel is older than 6.11";
  }
  return makeError(ErrorCode::kGeneric, why, error);
}

Result<void> setRings(int socket, const RingSizes& sizes) {
  struct Ring {
    int option;
    uint32_t size;
    const char* name;
  };
  for (const Ring& ring : {Ring{XDP_UMEM_FILL_RING, sizes.fill, "fill"}, Ring{XDP_UMEM_COMPLETION_RING, sizes.completion, "completion"},
                           Ring{XDP_RX_RING, sizes.receive, "receive"}, Ring{XDP_TX_RING, sizes.transmit, "transmit"}}) {
    const std::string what = std::string("AF_XDP: ") + ring.name + " ring of " + std::to_string(ring.size) + " entries";
    if (!isPowerOfTwo(ring.size)) return makeError(ErrorCode::kGeneric, what + ": must be a power of two");
    if (::setsockopt(socket, SOL_XDP, ring.option, &ring.size, sizeof(ring.size)) != 0) return makeError(ErrorCode::kGeneric, what, errno);
  }
  // One call then hands over all that is in the ring instead of 32 frames (6.17; without it flush() calls more often).
  const uint32_t budget = sizes.transmit;
  (void)::setsockopt(socket, SOL_XDP, kMaxTxSkbBudget, &budget, sizeof(budget));
  return {};
}

Result<void> bindXsk(int socket, const XskBinding& binding) {
  int error = tryBind(socket, binding);
  for (int64_t waitedMs = 0; error == EBUSY && waitedMs < binding.busyWaitMs; waitedMs += kBusyPauseMs) {
    timespec pause{0, kBusyPauseMs * 1'000'000};
    ::nanosleep(&pause, nullptr);
    error = tryBind(socket, binding);
  }
  if (error != 0) return bindError(binding, error);
  return {};
}

Result<XskStatistics> readXskStatistics(int socket) {
  xdp_statistics raw{};
  socklen_t length = sizeof(raw);
  if (::getsockopt(socket, SOL_XDP, XDP_STATISTICS, &raw, &length) != 0) return makeError(ErrorCode::kGeneric, "AF_XDP: statistics", errno);
  XskStatistics statistics;
  statistics.receiveDropped = static_cast<int64_t>(raw.rx_dropped);
  statistics.receiveRingFull = static_cast<int64_t>(raw.rx_ring_full);
  statistics.fillRingEmpty = static_cast<int64_t>(raw.rx_fill_ring_empty_descs);
  statistics.invalidReceiveDescriptors = static_cast<int64_t>(raw.rx_invalid_descs);
  statistics.invalidTransmitDescriptors = static_cast<int64_t>(raw.tx_invalid_descs);
  return statistics;
}

Result<bool> isZeroCopy(int socket) {
  xdp_options options{};
  socklen_t length = sizeof(options);
  if (::getsockopt(socket, SOL_XDP, XDP_OPTIONS, &options, &length) != 0) return makeError(ErrorCode::kGeneric, "AF_XDP: options", errno);
  return (options.flags & XDP_OPTIONS_ZEROCOPY) != 0;
}

XskRings& XskRings::operator=(XskRings&& other) noexcept {
  if (this != &other) {
    reset();
    receive = other.receive;
    transmit = other.transmit;
    fill = other.fill;
    completion = other.completion;
    for (int i = 0; i < kRings; ++i) regions_[i] = std::exchange(other.regions_[i], Region{});
  }
  return *this;
}

void XskRings::reset() {
  for (Region& region : regions_) {
    if (region.address != nullptr) ::munmap(region.address, region.lengthBytes);
    region = Region{};
  }
}

std::optional<BackendCause> preferBusyPoll(int socket, const std::string& interface, int32_t microseconds) {
  // Whether the kernel polls the device by itself a while after we last did. Without it a frame that arrives while our thread is elsewhere, or one to be sent
  // while another thread was at the device, waits for the device's next interrupt: up to two seconds on igb.
  const std::string folder = "/sys/class/net/" + interface + "/";
  for (const char* name : {"napi_defer_hard_irqs", "gro_flush_timeout"}) {
    std::ifstream file(folder + name);
    int64_t value = 0;
    if ((file >> value) && value > 0) continue;
    return BackendCause{"busy polling",
                        std::string(name) + " of interface " + interface + " is 0: frames would wait while no thread of ours polls",
                        "echo 2 > " + folder + "napi_defer_hard_irqs; echo 200000 > " + folder + "gro_flush_timeout"};
  }
  constexpr int kBudget = 64;  // packets a poll; more needs CAP_NET_ADMIN on older kernels
  const int on = 1;
  if (::setsockopt(socket, SOL_SOCKET, kPreferBusyPoll, &on, sizeof(on)) != 0 ||
      ::setsockopt(socket, SOL_SOCKET, SO_BUSY_POLL, &microseconds, sizeof(microseconds)) != 0 ||
      ::setsockopt(socket, SOL_SOCKET, kBusyPollBudget, &kBudget, sizeof(kBudget)) != 0) {
    return BackendCause{"busy polling", makeError(ErrorCode::kGeneric, "SO_PREFER_BUSY_POLL", errno).message,
                        "use Linux 5.11 or later, and give the process CAP_NET_ADMIN"};
  }
  return std::nullopt;
}

Result<XskRings> XskRings::map(int socket, const RingSizes& sizes) {
  xdp_mmap_offsets offsets{};
  socklen_t length = sizeof(offsets);
  if (::getsockopt(socket, SOL_XDP, XDP_MMAP_OFFSETS, &offsets, &length) != 0) {
    return makeError(ErrorCode::kGeneric, "AF_XDP: offsets of the rings", errno);
  }
  if (length != sizeof(offsets)) {
    return makeError(ErrorCode::kNotSupported, "AF_XDP: this kernel's rings have no flags: Linux 5.4 or later is needed");
  }
  struct Ring {
    uint64_t pageOffset;
    const xdp_ring_offset* offsets;
    uint64_t entryBytes;
    uint32_t size;
  };
  const Ring rings[kRings] = {{XDP_PGOFF_RX_RING, &offsets.rx, sizeof(xdp_desc), sizes.receive},
                              {XDP_PGOFF_TX_RING, &offsets.tx, sizeof(xdp_desc), sizes.transmit},
                              {XDP_UMEM_PGOFF_FILL_RING, &offsets.fr, sizeof(uint64_t), sizes.fill},
                              {XDP_UMEM_PGOFF_COMPLETION_RING, &offsets.cr, sizeof(uint64_t), sizes.completion}};
  XskRings mapped;
  for (int i = 0; i < kRings; ++i) {
    const Ring& ring = rings[i];
    const uint64_t bytes = ring.offsets->desc + ring.entryBytes * ring.size;
    void* address = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, socket, static_cast<off_t>(ring.pageOffset));
    // EINVAL: the ring does not exist or is shorter than this.
    if (address == MAP_FAILED) {
      return makeError(ErrorCode::kGeneric, "AF_XDP: cannot map a ring of " + std::to_string(ring.size) + " entries", errno);
    }
    mapped.regions_[i] = Region{static_cast<uint8_t*>(address), bytes};
  }
  mapped.receive.attach(mapped.regions_[0].address, offsets.rx, sizes.receive);
  mapped.transmit.attach(mapped.regions_[1].address, offsets.tx, sizes.transmit);
  mapped.fill.attach(mapped.regions_[2].address, offsets.fr, sizes.fill);
  mapped.completion.attach(mapped.regions_[3].address, offsets.cr, sizes.completion);
  return mapped;
}

}  // namespace outrigger::io::xdp
