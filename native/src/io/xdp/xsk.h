// SPDX-License-Identifier: Apache-2.0
// One AF_XDP socket (XSK), in two halves that may live in two processes:
//   setting it up   openXsk, registerUmem, setRings, bindXsk: needs CAP_NET_RAW to create the socket, nothing afterwards. outrigger-nicd
//                   does this and passes the bound descriptor.
//   using it        XskRings::map on any descriptor of the socket, also a passed one: needs no capability.
// The program that redirects frames to it is elsewhere (xdp_program.h). Kernel documentation: networking/af_xdp.rst.
//
// As set up by nicd:
//   auto memory = UmemMemory::adopt(std::move(memfd), limit);
//   auto socket = openXsk();
//   registerUmem(socket->get(), memory->data(), memory->lengthBytes(), layout);
//   setRings(socket->get(), sizes);
//   bindXsk(socket->get(), {.interfaceIndex = …, .queue = …, .mode = XskMode::kCopy});   // XskMode::kZeroCopy first
//   …put socket into the XSKMAP, pass it with layout and sizes; the driver: XskRings::map(socket, sizes).
// A further queue over the same memory: a second socket with rings of its own and `sharedUmemSocket` set to the first, no registerUmem.
//
// After close, a queue stays EBUSY until the last descriptor and every ring mapping of its socket is gone, and for some milliseconds
// more, since the kernel frees the buffer pool on a work queue: bindXsk waits for that.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "base/fd.h"
#include "base/result.h"
#include "io/backend.h"
#include "io/xdp/xdp_abi.h"

namespace outrigger::io::xdp {

struct UmemLayout {
  uint32_t chunkBytes = 2048;    // 2048 or 4096 (a page at most), so that chunks never straddle pages
  uint32_t headroom = 0;         // free bytes before each received frame, beside the kernel's own 256
  uint32_t txMetadataBytes = 0;  // sizeof(TxMetadata) to send checksum requests; kernel 6.8 and later
};

// Entries; each a power of two.
struct RingSizes {
  uint32_t receive = 2048;
  uint32_t transmit = 2048;
  uint32_t fill = 4096;
  uint32_t completion = 4096;
};

enum class XskMode : uint8_t {
  kCopy,      // the kernel copies between its buffers and the UMEM: any device
  kZeroCopy,  // the device's driver uses the UMEM itself
};

struct XskBinding {
  uint32_t interfaceIndex = 0;
  uint32_t queue = 0;
  XskMode mode = XskMode::kCopy;
  bool needWakeup = true;      // 5.4: the kernel says when it must be called, so a busy ring costs no system call
  bool multiBuffer = false;    // XDP_USE_SG, 6.6: frames longer than a chunk
  int sharedUmemSocket = -1;   // a socket bound before over the same memory; mode and flags are then inherited from it
  int64_t busyWaitMs = 1'000;  // how long to wait for a queue whose last socket is being freed
};

struct XskStatistics {
  int64_t receiveDropped = 0;   // frame too long for its chunk and the like
  int64_t receiveRingFull = 0;  // we were too slow
  int64_t fillRingEmpty = 0;    // no chunk to receive into
  int64_t invalidReceiveDescriptors = 0;
  int64_t invalidTransmitDescriptors = 0;
};

// Fails with EPERM without CAP_NET_RAW, EAFNOSUPPORT on a kernel without AF_XDP; the message has the fix.
Result<UniqueFd> openXsk();

// Pins `lengthBytes` at `memory` (page-aligned). Counts against RLIMIT_MEMLOCK of the user unless the process has CAP_IPC_LOCK.
Result<void> registerUmem(int socket, uint8_t* memory, uint64_t lengthBytes, const UmemLayout& layout);

Result<void> setRings(int socket, const RingSizes& sizes);

// sysErrno of the error tells the rungs of the ladder apart: EOPNOTSUPP the device has no zero-copy, EBUSY the queue has another socket,
// EINVAL no such queue or an unknown flag, ENODEV no such interface.
Result<void> bindXsk(int socket, const XskBinding& binding);

Result<XskStatistics> readXskStatistics(int socket);

// Whether a bound socket really runs without copies.
Result<bool> isZeroCopy(int socket);

// Preferred busy polling of a bound socket (SO_PREFER_BUSY_POLL, SO_BUSY_POLL in microseconds above 0, SO_BUSY_POLL_BUDGET; Linux 5.11, CAP_NET_ADMIN): the
// device's interrupts stay off while we poll often enough, so its work is done on our thread. For hardware only: on devices without interrupts of their own
// it changes nothing. Never fatal: without it the interrupt does the work, as everywhere. Says why it can't be had, and how it could.
std::optional<BackendCause> preferBusyPoll(int socket, const std::string& interface, int32_t microseconds);

// One of the four rings between us and the kernel: a power of two of entries, and free-running indices of who writes (producer) and who
// reads (consumer). Barriers as in the kernel's xsk_queue.h: acquire what the other side wrote, release what we wrote.
template <typename Entry>
class ProducerRing {
 public:
  void attach(uint8_t* base, const xdp_ring_offset& offsets, uint32_t size) {
    producer_ = reinterpret_cast<uint32_t*>(base + offsets.producer);
    consumer_ = reinterpret_cast<uint32_t*>(base + offsets.consumer);
    flags_ = reinterpret_cast<uint32_t*>(base + offsets.flags);
    entries_ = reinterpret_cast<Entry*>(base + offsets.desc);
    size_ = size;
    // Not zero when an earlier owner of a passed socket has used it.
    next_ = __atomic_load_n(producer_, __ATOMIC_RELAXED);
    consumerSeen_ = __atomic_load_n(consumer_, __ATOMIC_ACQUIRE);
  }
  uint32_t size() const { return size_; }
  // Free entries. Looks at the shared index only when what is known to be free is less than `wanted`.
  uint32_t room(uint32_t wanted) {
    uint32_t free = size_ - (next_ - consumerSeen_);
    if (free < wanted) {
      consumerSeen_ = __atomic_load_n(consumer_, __ATOMIC_ACQUIRE);
      free = size_ - (next_ - consumerSeen_);
    }
    return free;
  }
  // What the kernel has not taken yet.
  uint32_t pending() {
    consumerSeen_ = __atomic_load_n(consumer_, __ATOMIC_ACQUIRE);
    return next_ - consumerSeen_;
  }
  // Writes one entry; the kernel sees it after publish(). There must be room.
  void push(const Entry& entry) { entries_[next_++ & (size_ - 1)] = entry; }
  void publish() { __atomic_store_n(producer_, next_, __ATOMIC_RELEASE); }
  bool needsWakeup() const { return (__atomic_load_n(flags_, __ATOMIC_RELAXED) & XDP_RING_NEED_WAKEUP) != 0; }

 private:
  uint32_t* producer_ = nullptr;
  uint32_t* consumer_ = nullptr;
  uint32_t* flags_ = nullptr;
  Entry* entries_ = nullptr;
  uint32_t size_ = 0;
  uint32_t next_ = 0;
  uint32_t consumerSeen_ = 0;
};

template <typename Entry>
class ConsumerRing {
 public:
  void attach(uint8_t* base, const xdp_ring_offset& offsets, uint32_t size) {
    producer_ = reinterpret_cast<uint32_t*>(base + offsets.producer);
    consumer_ = reinterpret_cast<uint32_t*>(base + offsets.consumer);
    entries_ = reinterpret_cast<const Entry*>(base + offsets.desc);
    size_ = size;
    next_ = __atomic_load_n(consumer_, __ATOMIC_RELAXED);
    producerSeen_ = __atomic_load_n(producer_, __ATOMIC_ACQUIRE);
  }
  uint32_t size() const { return size_; }
  // Entries to read, at most as many as the ring has: the index is the kernel's, or of whoever else maps the ring.
  uint32_t available() {
    if (producerSeen_ == next_) producerSeen_ = __atomic_load_n(producer_, __ATOMIC_ACQUIRE);
    const uint32_t filled = producerSeen_ - next_;
    return filled < size_ ? filled : size_;
  }
  // As available(), but looks for more even when some are known.
  uint32_t refreshed() {
    producerSeen_ = __atomic_load_n(producer_, __ATOMIC_ACQUIRE);
    return available();
  }
  // The entry `ahead` of the next one.
  Entry peek(uint32_t ahead) const { return entries_[(next_ + ahead) & (size_ - 1)]; }
  // Gives `count` entries back to the kernel.
  void pop(uint32_t count) {
    next_ += count;
    __atomic_store_n(consumer_, next_, __ATOMIC_RELEASE);
  }

 private:
  uint32_t* producer_ = nullptr;
  uint32_t* consumer_ = nullptr;
  const Entry* entries_ = nullptr;
  uint32_t size_ = 0;
  uint32_t next_ = 0;
  uint32_t producerSeen_ = 0;
};

// The mapped rings of one socket. The descriptor may be closed afterwards by who set the socket up, not by who uses the rings: wake-ups go
// through it.
class XskRings {
 public:
  XskRings() = default;
  XskRings(XskRings&& other) noexcept { *this = std::move(other); }
  XskRings& operator=(XskRings&& other) noexcept;
  XskRings(const XskRings&) = delete;
  XskRings& operator=(const XskRings&) = delete;
  ~XskRings() { reset(); }

  // `sizes` as given to setRings.
  static Result<XskRings> map(int socket, const RingSizes& sizes);

  ConsumerRing<xdp_desc> receive;
  ProducerRing<xdp_desc> transmit;
  ProducerRing<uint64_t> fill;
  ConsumerRing<uint64_t> completion;

 private:
  static constexpr int kRings = 4;
  struct Region {
    uint8_t* address = nullptr;
    uint64_t lengthBytes = 0;
  };
  void reset();

  Region regions_[kRings];
};

}  // namespace outrigger::io::xdp
