// SPDX-License-Identifier: Apache-2.0
// FrameIo: the layer-2 seam (contract). What a raw backend (packet, xdp, dpdk, tap, sim) offers: Ethernet frames in bursts, in memory
// that the backend owns. NetStack (io/stack) turns it into DatagramIo, once for all of them. No address, port or protocol is known
// here, except for `steer`, which tells a device what the stack wants to see.
//
// One owning thread for the data part. The control part (steer, link, explain) is called by the conductor or the resource agent and
// touches nothing that the owner polls without synchronisation of its own.
//
// Ownership: a received buffer is the stack's from receive() until giveBack(), which it calls for all of a burst, in any order, before
// it sleeps. A transmit buffer is the stack's from reserve() until commit() or abort(). After commit the device has it; it comes back
// by itself, found by flush() or by the next reserve().
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "io/datagram_io.h"

namespace outrigger::io {

using MacAddress = std::array<uint8_t, 6>;

// Ethernet header, one 802.1Q tag, IPv6 (the longer of the two) and UDP: what the stack puts before a payload.
constexpr uint32_t kMaxFrameHeaderLength = 14 + 4 + 40 + 8;

struct FrameCaps {
  std::string name;       // "packet", "xdp", "dpdk", "tap", "sim"
  std::string mode;       // what it really runs with: "zero-copy", "native copy", "generic", "V3 ring + V2 ring", "net_af_xdp"
  std::string reason;     // why nothing better ("driver veth has no zero-copy: EOPNOTSUPP"), empty when nothing is better
  std::string interface;  // netdev name as the kernel has it; empty when the kernel does not own the device (vfio)
  uint32_t interfaceIndex = 0;
  std::string openedBy;               // who opened the device in our stead ("outrigger-nicd at /run/..."); empty: we did
  uint32_t queues = 1;                // receive queues that this instance polls
  uint32_t maxTransmitPieces = 1;     // buffers that one frame may be made of
  uint32_t transmitBufferLength = 0;  // capacity of one transmit buffer
  bool transmitChecksum = false;      // commit fills the UDP checksum from TxFrame::checksumStart/Offset
  bool transmitSegmentation = false;  // commit takes trains: TxFrame::segmentLength (a vnet header, or the device's)
  bool receiveChecksum = false;       // RxFrame::checksum may be kGood
  bool receiveTrains = false;         // RxFrame::segmentLength may be set
  bool arrivalTimes = false;          // RxFrame::arrivedNs is set
  bool kernelSeesFrames = false;      // the kernel's stack gets a copy of each received frame (packet)
  bool joinsFragments = false;        // an IPv4 datagram in fragments comes whole, up to the MTU, besides the kernel's copy (net_af_packet)
  bool kernelOwnsDevice = true;       // ARP, NDP and ICMP are the kernel's; false under vfio: the stack answers them
  bool exceptionPath = false;         // what is not ours reaches the kernel through this instance, so it is polled at all times
  bool emptyFillRingLoses = false;    // FrameStats::fillRingEmpty counts lost frames (xdp with copies), not tries that the device repeats
  uint32_t untoldRing = 0;            // frames of a ring whose overflows the device does not tell (DPDK over the kernel); 0: it tells
  bool singleOwner = false;           // sender and receiver have to share this instance, so one thread (one queue)
  std::vector<std::string> offloads;  // device features in use, for `explain`
  std::string memory;                 // whether rings are locked in memory, and why not (packet); empty: nothing to tell
};

// The device as it is now. `generation` grows with each change.
struct LinkState {
  MacAddress mac{};
  uint32_t mtu = 0;    // layer 3, bytes: the longest IP packet
  bool up = false;     // administratively up and with carrier
  bool gone = false;   // can't be used any more: interface removed, program detached, queue taken, device unplugged
  std::string reason;  // when gone or down: what happened; when up: what it does without for now, empty when nothing
  uint64_t generation = 0;
};

enum class RxChecksum : uint8_t {
  kUnknown,  // the stack verifies it
  kGood,     // the device or the kernel verified it
  kPartial,  // never computed (CHECKSUM_PARTIAL from a local sender): must not be verified
};

// One received buffer. A frame longer than a buffer is several in a row, all but the last with `more`.
struct RxFrame {
  const uint8_t* data = nullptr;  // the Ethernet header (of the first buffer)
  uint32_t length = 0;
  uint16_t segmentLength = 0;  // payload bytes of each UDP datagram of a train; 0: a single datagram
  bool more = false;
  RxChecksum checksum = RxChecksum::kUnknown;
  uint16_t vlanTci = 0;  // tag that the device took out of the frame; valid with vlanPresent
  bool vlanPresent = false;
  int64_t arrivedNs = 0;  // ns since the epoch, by the kernel or the device; 0: not known
  uint64_t cookie = 0;    // backend's own
};

// One transmit buffer. A frame of several buffers is several in a row, all but the last with `more`; offload fields count in the first.
struct TxFrame {
  uint8_t* data = nullptr;  // set by reserve
  uint32_t capacity = 0;    // set by reserve; even
  uint32_t length = 0;      // set by the stack
  bool more = false;
  // With caps().transmitChecksum: the UDP header's offset in the frame and the checksum's in it; the field then holds the folded
  // pseudo-header sum. 0: the frame is complete.
  uint16_t checksumStart = 0;
  uint16_t checksumOffset = 0;
  uint16_t segmentLength = 0;  // with caps().transmitSegmentation: payload bytes of each datagram; 0: a single one
  bool isIpv6 = false;         // of the packet, for devices whose descriptors ask
  uint64_t cookie = 0;         // backend's own
};

// Monotonic; written by the owner, read by anyone (relaxed).
struct FrameStats {
  std::atomic<int64_t> receivedFrames{0};
  std::atomic<int64_t> receivedBytes{0};
  std::atomic<int64_t> transmittedFrames{0};
  std::atomic<int64_t> transmittedBytes{0};
  std::atomic<int64_t> ringFullDrops{0};       // received by the device, no room in the ring or no buffer (rx_dropped, tp_drops, imissed)
  std::atomic<int64_t> noBuffer{0};            // times that reserve had nothing to give
  std::atomic<int64_t> fillRingEmpty{0};       // xdp: rx_fill_ring_empty_descs (FrameCaps::emptyFillRingLoses)
  std::atomic<int64_t> invalidDescriptors{0};  // xdp: rx_ and tx_invalid_descs; packet: TP_STATUS_WRONG_FORMAT
  std::atomic<int64_t> transmitErrors{0};      // the device refused or lost a committed frame
  std::atomic<int64_t> receiveErrors{0};       // the device dropped them as broken (bad CRC, length)
  std::atomic<int64_t> exceptionFrames{0};     // received, not ours, handed to the kernel through an exception interface (dpdk under vfio)
  std::atomic<int64_t> exceptionDrops{0};      // the same that it did not take, and what it sent while there was no buffer
  std::atomic<int64_t> oversizedFrames{0};     // received and longer than what the backend can hold: dropped
  std::atomic<int64_t> otherVlanFrames{0};     // dpdk: of another VLAN than the one that was asked for, or untagged: dropped
  std::atomic<int64_t> leftToKernel{0};  // for a rule, but only the kernel can take it apart (a train in one piece): its socket got it
};

// What a device should hand to this instance: UDP to `address` (any when unspecified) and `port`, host order.
struct SteerRule {
  SockAddr address;
  int reservedFd = -1;  // the kernel socket that reserves the port, where there is one; borrowed for the call
};

class FrameIo {
 public:
  virtual ~FrameIo() = default;

  virtual const FrameCaps& caps() const = 0;

  // --- control part ---
  // Adds or removes what this instance wants to receive. Everything else stays the kernel's (where it owns the device). Idempotent.
  // Fails naming the rule and the cause (map full, another program, permission).
  virtual Result<void> steer(const SteerRule& rule) = 0;
  virtual Result<void> unsteer(const SteerRule& rule) = 0;
  // A device of another network namespace: a UDP socket bound there to `address` (port 0: a free one), which is steered already. Invalid: the
  // device is of the caller's own namespace, who binds one itself.
  virtual Result<UniqueFd> openPort(const SockAddr& address, int32_t receiveBufferBytes) {
    static_cast<void>(address);
    static_cast<void>(receiveBufferBytes);
    return UniqueFd();
  }
  // The receive queue that the device's hash picks for a datagram from `source` to `destination`; none where that can't be told: one queue,
  // a hash without ports, a driver that keeps its key to itself.
  virtual std::optional<uint32_t> queueOf([[maybe_unused]] const SockAddr& source, [[maybe_unused]] const SockAddr& destination) const {
    return {};
  }
  // The link as it is now; cheap enough for once a second and after each netlink event.
  virtual LinkState link() = 0;

  // --- owner thread ---
  // Fills `frames` with what has arrived; returns how many. Never splits a frame of several buffers between two calls unless it has
  // more buffers than `frames` is long (then it is dropped and counted).
  virtual uint32_t receive(std::span<RxFrame> frames) = 0;
  virtual void giveBack(std::span<const RxFrame> frames) = 0;

  // Gives as many buffers as there are now, from the first on; returns how many.
  virtual uint32_t reserve(std::span<TxFrame> frames) = 0;
  // Hands over in this order. All of `frames` are accepted: room was reserved.
  virtual void commit(std::span<const TxFrame> frames) = 0;
  virtual void abort(std::span<const TxFrame> frames) = 0;
  // Tells the device about what was committed, once a burst, and takes back what it has sent. False: the device is still full.
  virtual bool flush() = 0;
  // The stack had the kernel send a datagram, which may come back out through this instance (caps().exceptionPath).
  virtual void kernelSent() {}

  // As in DatagramIo: a descriptor to sleep on, or -1; arm() false means something is already there.
  virtual int waitHandle() const = 0;
  virtual bool arm() = 0;

  // Reads the device's own counters into `stats` (a system call on some backends): owner thread, about once a second.
  virtual void refreshStats() {}
  FrameStats stats;
};

}  // namespace outrigger::io
