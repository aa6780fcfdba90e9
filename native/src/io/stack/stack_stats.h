// SPDX-License-Identifier: Apache-2.0
// What NetStack counts: every frame that it does not deliver has one reason here. Monotonic; written by the owner thread, read by anyone.
// `verbs` counts with the same names what is alike: its neighbours are its peers, a neighbour packet is a message of the exchange between them.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace outrigger::io {

enum class StackCounter : uint8_t {
  // Received and delivered.
  kDatagramsReceived,
  kTrainsReceived,
  kLinearisedFrames,  // came in several buffers and were put together
  kKernelDatagrams,   // came through the reserved socket: fragments that the kernel put together, other interfaces
  kStashedDatagrams,  // waited for their endpoint's turn
  // Received and dropped: malformed.
  kShortFrames,
  kTruncatedFrames,  // the IP or UDP length says more than the frame has
  kBadIpHeaders,
  kBadIpChecksums,
  kBadUdpLengths,
  kBadUdpChecksums,
  kZeroUdpChecksums,  // IPv6, RFC 8200 section 8.1
  kDoubleTaggedFrames,
  kOwnMacFrames,     // claim to come from our own MAC address: a loop, or spoofed
  kOversizedFrames,  // in several buffers, and longer than an IP packet can be or more than can be put together at once
  // Received and not for us: the kernel has its own copy where it owns the device.
  kOtherMacFrames,
  kOtherVlanFrames,
  kFragments,
  kIpOptionPackets,
  kExtensionHeaderPackets,
  kOtherProtocolPackets,
  kOtherPortDatagrams,
  kOtherAddressDatagrams,
  kDuplicateKernelCopies,  // the kernel's copy of a datagram that the device delivered
  // Received and dropped: no room.
  kQueueFullDrops,       // the endpoint has too much waiting
  kReservedSocketDrops,  // what the kernel counts for the reserved sockets: the copies that their filter keeps away, and what found no room
  kIsolationPolls,       // polls that read ahead since the device's ring overflowed, so that one flooded endpoint can't starve others
  // Own ARP, NDP, ICMP.
  kNeighbourPackets,
  kNeighbourPacketsLimited,  // more than the rate limit, or than there is room for: not looked at
  kNeighbourRequestsSent,
  kEchoRequests,
  kEchoRequestsLimited,
  kIcmpErrors,
  kIcmpErrorsIgnored,  // not about a datagram of ours
  kBadControlPackets,  // ARP, NDP, ICMP or a message of verbs' exchange that is malformed or not to be believed
  kAddressConflicts,   // another station claims an address of ours
  // Sent.
  kFramesSent,
  kTrainsSent,
  kKernelSends,       // through the reserved socket: routed elsewhere, or the neighbour to be asked for
  kFragmentedSends,   // longer than the path takes now: through the reserved socket, as IP fragments
  kTooLongSends,      // longer than the path takes, and no kernel that would send fragments: refused
  kNeighbourWaits,    // refused since the neighbour is not known (yet)
  kRingFull,          // refused since the device had no room
  kUnreachableSends,  // no route, or ICMP said so. verbs: peers that fell silent
  kPathChanges,       // headers built again: route, neighbour or MTU changed. verbs: another way to a peer
  kPathTableFull,     // a destination of control frames found no room and went through the kernel
  kCount,
};

class StackStats {
 public:
  void add(StackCounter counter, int64_t delta = 1) {
    // One writer: no locked instruction on the data path.
    std::atomic<int64_t>& value = values_[static_cast<size_t>(counter)];
    value.store(value.load(std::memory_order_relaxed) + delta, std::memory_order_relaxed);
  }
  int64_t operator[](StackCounter counter) const { return values_[static_cast<size_t>(counter)].load(std::memory_order_relaxed); }

 private:
  std::array<std::atomic<int64_t>, static_cast<size_t>(StackCounter::kCount)> values_{};
};

}  // namespace outrigger::io
