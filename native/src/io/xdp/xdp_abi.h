// SPDX-License-Identifier: Apache-2.0
// What kernels offer AF_XDP sockets and Debian 12's headers (6.1) do not know: numbers of the kernel's uapi linux/if_xdp.h, under names
// of our own so that newer headers do not collide. A kernel that lacks one refuses the call; each caller says what it does then.
#pragma once

#include <linux/if_xdp.h>
#include <sys/socket.h>

#include <cstddef>
#include <cstdint>

namespace outrigger::io::xdp {

constexpr uint16_t kUseSg = 1U << 4;               // XDP_USE_SG, bind flag, 6.6: frames of several buffers
constexpr uint32_t kPacketContinues = 1U << 0;     // XDP_PKT_CONTD, xdp_desc.options, 6.6: the next descriptor goes on with this frame
constexpr uint32_t kTxMetadata = 1U << 1;          // XDP_TX_METADATA, xdp_desc.options, 6.8: a TxMetadata stands right before the data
constexpr uint32_t kUmemTxMetadataLen = 1U << 2;   // XDP_UMEM_TX_METADATA_LEN, umem flag, 6.11 (6.8 to 6.10 took the length without it)
constexpr uint64_t kTxMetadataChecksum = 1U << 1;  // XDP_TXMD_FLAGS_CHECKSUM
constexpr int kMaxTxSkbBudget = 9;                 // XDP_MAX_TX_SKB_BUDGET, socket option, 6.17: frames sent by one call in copy mode
constexpr int kPreferBusyPoll = 69;                // SO_PREFER_BUSY_POLL, 5.11
constexpr int kBusyPollBudget = 70;                // SO_BUSY_POLL_BUDGET, 5.11
constexpr uint32_t kKernelHeadroom = 256;          // XDP_PACKET_HEADROOM: what the kernel keeps free before each received frame
constexpr uint32_t kMaxBuffersOfFrame = 18;        // MAX_SKB_FRAGS + 1: what a frame in copy mode may consist of

// struct xdp_umem_reg since 6.8. Older kernels know the first 32 bytes (with 4 of padding) and take them.
struct UmemRegistration {
  uint64_t address = 0;
  uint64_t length = 0;
  uint32_t chunkBytes = 0;
  uint32_t headroom = 0;
  uint32_t flags = 0;
  uint32_t txMetadataBytes = 0;
};
static_assert(sizeof(UmemRegistration) == 32);

// struct xsk_tx_metadata, the part that a sender fills.
struct TxMetadata {
  uint64_t flags = 0;
  uint16_t checksumStart = 0;
  uint16_t checksumOffset = 0;  // from checksumStart
  uint32_t reserved = 0;
  uint64_t launchTime = 0;
};
static_assert(sizeof(TxMetadata) == 24);

}  // namespace outrigger::io::xdp
