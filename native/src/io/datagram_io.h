// SPDX-License-Identifier: Apache-2.0
// DatagramIo: the layer-4 seam (contract). All that the protocol core sees of a network.
// One instance per agent that uses it, owned by that agent's thread. Control calls (open, resolve) come from the conductor or
// the resource agent and touch nothing that the owner thread polls; attach/detach hand the result over.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "io/network_counters.h"

namespace outrigger::io {

// An IPv4 or IPv6 address and port. Value type; compares by family, address, port and (IPv6) scope.
struct SockAddr {
  sockaddr_storage storage{};
  socklen_t length = 0;

  sa_family_t family() const { return storage.ss_family; }
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  bool isV6() const { return family() == AF_INET6; }
  uint16_t port() const {  // host order
    if (family() == AF_INET) return ntohs(reinterpret_cast<const sockaddr_in*>(&storage)->sin_port);
    if (family() == AF_INET6) return ntohs(reinterpret_cast<const sockaddr_in6*>(&storage)->sin6_port);
    return 0;
  }
  void setPort(uint16_t port) {
    if (family() == AF_INET) reinterpret_cast<sockaddr_in*>(&storage)->sin_port = htons(port);
    if (family() == AF_INET6) reinterpret_cast<sockaddr_in6*>(&storage)->sin6_port = htons(port);
  }
  bool operator==(const SockAddr& other) const;
  uint64_t hash() const;         // of family, address and port
  std::string toString() const;  // "10.0.0.1:40123" or "[::1]:40123"
  // Numeric address only ("10.0.0.1", "::1", "fe80::1%eth0"), no name look-up.
  static Result<SockAddr> parseNumeric(const std::string& host, uint16_t port);
};

struct Caps {
  std::string name;                  // backend name as in the configuration: "socket", "mmsg", "sim"
  bool segmentationOffload = false;  // transmit accepts slices of many datagrams (UDP_SEGMENT)
  bool receiveCoalescing = false;    // poll may deliver trains (UDP_GRO)
  uint32_t maxTrainLengthBytes = 0;  // longest slice of one TxItem; a multiple of nothing, at least one datagram
  uint32_t maxTrainSegments = 1;
  std::string reason;  // why something better is off ("UDP_GRO: Protocol not available"), empty when nothing is
  // What is not ours passes through the instance too (an exception interface), so it is polled also while it has no endpoint.
  bool alwaysPolled = false;
};

class Endpoint;

class CaptureTap;  // io/capture/capture_tap.h

struct EndpointConfig {
  SockAddr bindAddress;            // port 0: ephemeral
  std::string interfaceName;       // bind to device / multicast interface, empty = by routing
  int32_t receiveBufferBytes = 0;  // SO_RCVBUF, 0 = OS default
  int32_t sendBufferBytes = 0;     // SO_SNDBUF, 0 = OS default
  int32_t ttl = 0;                 // 0 = OS default
  bool reuseAddress = false;       // multicast receive only
  SockAddr peer;                   // whom it talks with, where that is one socket and known; else without a port
  bool arrivalTimes = false;       // RxPacket::arrivedNs is wanted: where it is not free, nobody else pays for it
  // An open endpoint of another instance whose address and port the new one takes over, so that the port is never free in between. Its
  // kernel socket is shared (duplicated), not bound again; it goes on being used by its owner until that detaches it.
  const Endpoint* predecessor = nullptr;
};

// What an endpoint lost or fell back from, monotonic. Written by the owner thread, read by anyone (relaxed).
struct EndpointStats {
  std::atomic<int64_t> receiveQueueDrops{0};      // SO_RXQ_OVFL
  std::atomic<int64_t> sendErrors{0};             // ICMP and other per-destination errors
  std::atomic<int64_t> segmentationFallbacks{0};  // trains split after EIO/EINVAL/EMSGSIZE
  std::atomic<int64_t> truncatedDatagrams{0};
  std::atomic<int64_t> emptyDatagrams{0};  // zero-length: dropped in the backend, a view is never empty
};

// A bound UDP port. Made by openEndpoint, used by the owner after attach, destroyed by the control thread after detach.
class Endpoint {
 public:
  virtual ~Endpoint() = default;
  virtual const SockAddr& localAddress() const = 0;  // with the real port
  virtual int32_t receiveBufferBytes() const = 0;    // what the OS granted
  virtual int32_t sendBufferBytes() const = 0;
  // The kernel socket that holds address and port, -1 where there is none. Borrowed, the same for the endpoint's life: any thread.
  virtual int socketFd() const { return -1; }
  // The longest datagram that can arrive here, 0: no limit of the path in is known (IP fragments are put together). Any thread.
  virtual uint32_t longestReceivable() const { return 0; }
  void* user = nullptr;  // the channel endpoint that owns it: set before attach, read in poll
  EndpointStats stats;
};

// A destination resolved once, off the data path. L4 backends hold the sockaddr; raw ones add route, neighbour, header.
class NextHop {
 public:
  virtual ~NextHop() = default;
  const SockAddr& address() const { return address_; }
  // The longest datagram that the path takes now without IP fragments, 0: not known. Any thread.
  virtual uint32_t longestDatagram() const { return 0; }
  bool segmentationRefused = false;  // set by the owner when this path rejected a train: datagrams go one by one

 protected:
  explicit NextHop(const SockAddr& address) : address_(address) {}

 private:
  SockAddr address_;
};

enum class TxStatus : uint8_t {
  kPending,  // not looked at: an earlier item of the call blocked
  kSent,
  kWouldBlock,   // socket buffer or ring full: offer it again later
  kNeighbour,    // address not resolved yet
  kTooLong,      // over the path MTU
  kUnreachable,  // ICMP or route error; counted, the datagram is gone
  kError,        // other error; counted, the datagram is gone
};

// A slice of contiguous datagrams of equal length: `length` bytes cut every `segmentLength`, the last may be shorter.
// The memory must stay unchanged until transmit returns, and where it is lent until stillReads says that nothing reads it any more.
struct TxItem {
  NextHop* nextHop = nullptr;
  const uint8_t* data = nullptr;
  uint32_t length = 0;
  uint32_t segmentLength = 0;  // 0 or >= length: a single datagram
  bool lent = false;           // may be read after transmit has returned: whoever writes over it asks first (stillReads)
  TxStatus status = TxStatus::kPending;
  uint32_t sentBytes = 0;  // out: of `length`, less than it when a train was split and blocked part way. To go on, offer
                           // an item that starts at data + sentBytes: the next call begins at 0 again
};

// One received datagram, or a train of datagrams of `segmentLength` (the last may be shorter) from one source.
struct RxPacket {
  const uint8_t* data = nullptr;
  uint32_t length = 0;
  uint32_t segmentLength = 0;  // == length for a single datagram
  Endpoint* endpoint = nullptr;
  const SockAddr* source = nullptr;
  const SockAddr* destination = nullptr;  // the local address it was sent to; the bound address where that is specific
  // When the kernel or the device had it (a train: one of its datagrams), ns since the epoch. 0: not known, or not asked for
  // (EndpointConfig::arrivalTimes).
  int64_t arrivedNs = 0;
};

// The fact "timestamps": where arrival times come from.
constexpr const char* kTimestampsOnArrival = "the kernel's, on arrival";
constexpr const char* kTimestampsWhenRead = "by software, when read";  // RxPacket::arrivedNs is 0

// Views into the backend's receive memory, valid until the next poll or release.
struct RxBurst {
  static constexpr size_t kMaxPackets = 64;
  std::array<RxPacket, kMaxPackets> packets;
  size_t count = 0;
};

// Memory for one control frame, already past any headers. Filled by the caller between reserve and commit.
struct TxSlot {
  uint8_t* data = nullptr;
  uint32_t capacity = 0;
  uint64_t cookie = 0;  // backend's own
};

// Sums over all endpoints an instance ever had, monotonic.
struct IoTotals {
  int64_t receiveQueueDrops = 0;
  int64_t sendErrors = 0;
  int64_t segmentationFallbacks = 0;
  int64_t droppedDatagrams = 0;  // truncated or empty
  int64_t impairedDrops = 0;
  NetworkCounts network{};  // raw backends, by NetworkCounter

  void add(const EndpointStats& stats) {
    receiveQueueDrops += stats.receiveQueueDrops.load(std::memory_order_relaxed);
    sendErrors += stats.sendErrors.load(std::memory_order_relaxed);
    segmentationFallbacks += stats.segmentationFallbacks.load(std::memory_order_relaxed);
    droppedDatagrams += stats.truncatedDatagrams.load(std::memory_order_relaxed) + stats.emptyDatagrams.load(std::memory_order_relaxed);
  }
};

// Whether an instance can still move datagrams.
struct Health {
  enum class State : uint8_t {
    kOk,
    kDown,  // not now: the link is down, and may come back
    kGone,  // never again: interface removed, program detached, queue taken (by the kernel, or back by outrigger-nicd), device unplugged
  };
  State state = State::kOk;
  std::string reason;   // what happened; when kOk: what it does without for now, empty when nothing
  bool always = false;  // it can't become anything else: need not be asked again
};

class DatagramIo {
 public:
  virtual ~DatagramIo() = default;

  virtual const Caps& caps() const = 0;

  // --- control part: conductor or resource agent thread ---
  virtual Result<std::unique_ptr<Endpoint>> openEndpoint(const EndpointConfig& config) = 0;
  virtual Result<std::unique_ptr<NextHop>> resolve(Endpoint& endpoint, const SockAddr& destination) = 0;
  // Asked several times a second on the resource agent. What moves datagrams through the kernel's own stack is always well: a link that is
  // down is the kernel's to route around.
  virtual Health health() { return {Health::State::kOk, {}, true}; }
  // What it really runs with, for `explain`: {"mode", "native copy"}, {"interface", "eth0"}, {"queues", "2"}, {"mtu", "1500"}, {"offloads", "..."}.
  virtual std::vector<std::pair<std::string, std::string>> facts() const { return {}; }
  // Where frames can be seen that the kernel does not see; null where it sees them all.
  virtual std::shared_ptr<CaptureTap> captureTap() { return nullptr; }

  // --- owner thread ---
  virtual void attach(Endpoint& endpoint) = 0;
  virtual void detach(Endpoint& endpoint) = 0;  // afterwards no view, item or poll refers to it

  // Fills `burst` with what has arrived on all attached endpoints, fairly; returns the number of datagrams (trains counted
  // by their segments). Views of the previous burst die with the call.
  virtual uint32_t poll(RxBurst& burst, int64_t nowNs) = 0;
  // Gives receive memory back early; poll does it implicitly.
  virtual void release(RxBurst& burst) { burst.count = 0; }

  // Sends items in order until one blocks; sets each item's status. Returns how many leading items are finished (sent or
  // lost with a counted error); the rest are kWouldBlock/kNeighbour/kPending. One virtual call per burst.
  virtual uint32_t transmit(Endpoint& endpoint, std::span<TxItem> items) = 0;

  // Whether the network may still read some of this memory, which was sent lent; null: any at all. It lets go of all in the end, sent or not.
  virtual bool stillReads(const uint8_t* data, size_t length) {
    static_cast<void>(data);
    static_cast<void>(length);
    return false;
  }

  // In-place control frames. reserve may answer anything but kSent; kPending means the slot is yours to fill. After commit,
  // whatever it answers, the slot is gone.
  virtual TxStatus reserve(Endpoint& endpoint, const SockAddr& destination, uint32_t length, TxSlot& slot) = 0;
  virtual TxStatus commit(Endpoint& endpoint, const SockAddr& destination, TxSlot& slot, uint32_t length) = 0;
  virtual void abort(Endpoint& endpoint, TxSlot& slot) = 0;

  // For the driver's counters; owner thread, a walk over the attached endpoints.
  virtual IoTotals totals() const { return {}; }

  // A descriptor that polls readable when any attached endpoint may have received (an epoll fd), -1 when the backend must be
  // spun. arm() prepares it before sleeping; false means something is already there: do not sleep.
  virtual int waitHandle() const = 0;
  virtual bool arm() = 0;
};

}  // namespace outrigger::io
