// SPDX-License-Identifier: Apache-2.0
// How two of our drivers find each other's queue pairs: a datagram to the UDP address and port of a stream's endpoint asks, and its owner answers
// with GID, queue pair number, queue key and MTU, or why it can't. A protocol of our own (docs/backends.md); verbs has none for UD without a
// connection manager. It wears an Aeron frame header of the type that Aeron reserves for extensions and its drivers pass over, so to ask a stock
// driver does no harm.
//
// Version 1, little-endian like the frames around it, 64 bytes:
//    0 i32 frame length, 64      12 u8  exchange version      24 u8[16] GID
//    4 u8  frame version, 0      13 u8  kind                  40 u32    queue pair number
//    5 u8  flags, 0              14 u8  reason                44 u32    queue key
//    6 u16 frame type, 0xFFFF    15 u8  0                     48 u32    longest datagram, bytes
//    8 u32 magic "ORVX"          16 u64 nonce                 52 u8[12] 0
// All versions begin with the first 24 bytes, so that each can tell the other which one it speaks.
#pragma once

#include <cstddef>
#include <span>

#include "io/verbs/rdma_port.h"

namespace outrigger::io::verbs {

constexpr uint8_t kExchangeVersion = 1;
constexpr size_t kExchangeLength = 64;
constexpr size_t kExchangePrefixLength = 24;

enum class ExchangeKind : uint8_t {
  kAsk = 1,     // nothing but the nonce. As long as the answer, so that an asker with a forged address gains nothing by it
  kAnswer = 2,  // to the ask with this nonce
  kRefusal = 3,
};

enum class RefusalReason : uint8_t {
  kNone = 0,
  kNoGid = 1,     // the address that was asked has no GID on the device in use
  kVersion = 2,   // the asker's version is not spoken; the message is of the newest that is
  kPortDown = 3,  // the device's port is down
};

struct ExchangeMessage {
  ExchangeKind kind = ExchangeKind::kAsk;
  uint8_t version = kExchangeVersion;
  RefusalReason reason = RefusalReason::kNone;
  uint64_t nonce = 0;
  Gid gid{};
  uint32_t queueNumber = 0;
  uint32_t queueKey = 0;
  uint32_t mtu = 0;
};

enum class ExchangeVerdict : uint8_t {
  kOk,
  kNotExchange,   // a frame of a stream
  kOtherVersion,  // kind, version and nonce are read, nothing else
  kMalformed,
};

// Writes all kExchangeLength bytes.
void writeExchange(const ExchangeMessage& message, std::span<uint8_t, kExchangeLength> to);
// Everything of an answer is checked but what only the reader can know: that the nonce is its own and the GID the sender's.
ExchangeVerdict readExchange(std::span<const uint8_t> from, ExchangeMessage& message);

const char* refusalText(RefusalReason reason);

}  // namespace outrigger::io::verbs
