// SPDX-License-Identifier: Apache-2.0
// What `verbs` needs of an RDMA device: one port of it, and queue pairs for unreliable datagrams on that port. Implemented over libibverbs in a
// shared object of its own (verbs_module), and by a fabric in memory for tests. No protocol is known here: an address is a GID, a port a number.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"

namespace outrigger::io::verbs {

// Of RoCE v2: the IPv6 address, or the IPv4 address as ::ffff:a.b.c.d.
using Gid = std::array<uint8_t, 16>;

// The global route header stands before every datagram in its receive buffer, also where the device only left the place for it: with RoCE v2
// over IPv4 its last 20 bytes are the IPv4 header (InfiniBand Architecture 1.3, annex 17.4).
constexpr uint32_t kRouteHeaderLength = 40;

struct GidEntry {
  Gid gid{};
  uint32_t index = 0;
};

struct PortFacts {
  std::string device;     // "mlx5_0", "rxe0"
  uint32_t port = 1;      // from 1 on
  std::string node;       // "/dev/infiniband/uverbs0"
  std::string interface;  // of the kernel, that the port belongs to; empty: not known
  bool ethernet = false;  // RoCE; else InfiniBand, whose GIDs are no IP addresses
  bool active = false;
  std::string state;           // "ACTIVE", "DOWN"
  uint32_t mtu = 0;            // longest payload of a datagram, bytes
  std::vector<GidEntry> gids;  // RoCE v2 only
  std::string trouble;         // why it can't be asked ("cannot open: Permission denied"); the rest is then empty
  bool unopened = false;       // with `trouble`: its node could not even be opened
};

struct Received {
  uint32_t slot = 0;                     // to give back
  const uint8_t* routeHeader = nullptr;  // kRouteHeaderLength bytes
  const uint8_t* data = nullptr;
  uint32_t length = 0;
  uint32_t immediate = 0;
};

struct SendSlot {
  uint32_t slot = 0;
  uint8_t* data = nullptr;  // as long as the port's MTU
};

// A destination host as the device needs it (ibv_ah). Outlives every send that names it.
class AddressHandle {
 public:
  virtual ~AddressHandle() = default;
};

struct Outgoing {
  uint32_t slot = 0;
  uint32_t length = 0;
  const AddressHandle* to = nullptr;
  uint32_t queueNumber = 0;
  uint32_t queueKey = 0;
  uint32_t immediate = 0;
};

struct QueueOptions {
  uint32_t receiveSlots = 1024;
  uint32_t sendSlots = 1024;
  uint32_t queueKey = 0;
};

struct QueueStats {
  int64_t received = 0;
  int64_t receiveErrors = 0;  // completions that say so, and what came without the headers that it must have
  int64_t sent = 0;           // the device took them
  int64_t sendErrors = 0;     // refused, or taken and failed later
};

// Why a queue is of no use any more: the first reason stays. Set by its owner thread, read by any.
class QueueFault {
 public:
  // `err`: errno, 0 where there is none.
  void set(const char* what, int err) {
    if (present()) return;
    what_ = what;
    errno_ = err;
    present_.store(true, std::memory_order_release);
  }
  bool present() const { return present_.load(std::memory_order_acquire); }
  // Empty when there is none.
  std::string text() const {
    if (!present()) return "";
    return errno_ == 0 ? what_ : std::string(what_) + ": " + std::strerror(errno_);
  }

 private:
  const char* what_ = "";
  int errno_ = 0;
  std::atomic<bool> present_{false};
};

// One queue pair with its buffers. One owner thread.
class DatagramQueue {
 public:
  virtual ~DatagramQueue() = default;

  virtual uint32_t number() const = 0;
  virtual uint32_t receiveSlots() const = 0;  // what the device granted
  virtual uint32_t sendSlots() const = 0;
  virtual uint32_t inlineBytes() const = 0;  // up to this length a datagram is copied into its descriptor

  virtual uint32_t receive(std::span<Received> datagrams) = 0;
  virtual void giveBack(std::span<const uint32_t> slots) = 0;

  // Free buffers for datagrams; fewer than asked for when sends are not complete.
  virtual uint32_t reserve(std::span<SendSlot> slots) = 0;
  virtual void abort(std::span<const uint32_t> slots) = 0;
  // Returns how many leading ones the device took. The slots of all are gone.
  virtual uint32_t send(std::span<const Outgoing> datagrams) = 0;

  virtual int handle() const = 0;  // readable when something arrived after arm()
  virtual bool arm() = 0;          // false: something is there already
  virtual const QueueStats& stats() const = 0;
  // Any thread. Once there is one nothing is sent, and no buffer goes back to the device.
  virtual const QueueFault& fault() const = 0;
};

// Control threads. Queues and handles keep what they need of it alive.
class RdmaPort {
 public:
  virtual ~RdmaPort() = default;
  virtual const PortFacts& facts() const = 0;  // as they were when it was opened
  virtual Result<std::unique_ptr<DatagramQueue>> openQueue(const QueueOptions& options) = 0;
  // May ask the kernel for the MAC address of the next hop, and wait for that.
  virtual Result<std::unique_ptr<AddressHandle>> createAddress(const Gid& destination, uint32_t ownGidIndex) = 0;
  // Empty: the port is up. `gone`: the device is not there any more.
  virtual std::string trouble(bool& gone) = 0;
  // What the device counts as lost for want of a receive buffer; -1: it does not tell.
  virtual int64_t outOfBuffers() = 0;
};

}  // namespace outrigger::io::verbs
