// SPDX-License-Identifier: Apache-2.0
// What steer.bpf.c and who loads it (native/src/io/xdp) both know: keys, values and counters of its maps. C, for both compilers.
#pragma once

#include <linux/types.h>

#define STEER_MAX_RULES 1024  // ports of one driver on one interface; a sidecar has a handful
#define STEER_ANYONE 1        // owner of rules that count on every queue
#define STEER_MAX_QUEUES 256  // more receive queues than current NICs have; the loader lowers it to what the device has

struct steer_key {
  __u8 address[16];  // network order; IPv4 in the first four bytes, the rest zero; all zero: any
  __be16 port;
  __u8 family;  // 4 or 6
  __u8 zero;
};

struct steer_config {
  __u32 mtu;  // longest IP packet that is steered, bytes; 0: no limit
  // 1 in generic mode: a datagram whose checksum is still open (CHECKSUM_PARTIAL) stays the kernel's. It comes from a sender on this
  // machine and may be a train of many in one piece; nothing that the program sees tells. Natively the kernel has cut it before.
  __u32 pass_partial;
  __u32 vlan;  // VLAN id of the frames that are steered; 0: untagged, or tagged with a priority only
};

enum steer_reason {
  STEER_STEERED = 0,
  STEER_NO_RULE = 1,    // UDP to other addresses and ports
  STEER_NO_SOCKET = 2,  // ours, but its receive queue has no socket, or another owner's
  STEER_FRAGMENT = 3,
  STEER_OPTIONS = 4,  // IPv4 options or IPv6 extension headers
  STEER_TOO_LONG = 5,
  STEER_ICMP = 6,
  STEER_OTHER_IP = 7,
  STEER_NOT_IP = 8,
  STEER_TRUNCATED = 9,
  STEER_OTHER_VLAN = 10,
  STEER_PARTIAL = 11,  // ours, see pass_partial
  STEER_REASONS = 12,
};
