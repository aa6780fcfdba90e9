// SPDX-License-Identifier: Apache-2.0
// What echo.bpf.c and its users (native/src/tools) both know. C, for both compilers.
#pragma once

#include <linux/types.h>

#define ECHO_MAGIC 0x4F475031U      // "OGP1", first four bytes of a probe, network order
#define ECHO_MIN_PAYLOAD_LENGTH 16  // magic, then what the sender likes: at least its sequence number and time
#define ECHO_DEFAULT_PORT 40399

struct echo_config {
  __be16 port;  // 0: reflects nothing
  __u16 zero;
};

enum echo_reason {
  ECHO_REFLECTED = 0,
  ECHO_OTHER = 1,        // not UDP to the port: passed
  ECHO_NOT_A_PROBE = 2,  // to the port, without the magic or with options, fragments: passed
  ECHO_NO_RETURN = 3,    // its source is no host (multicast, unspecified) or another reflector: dropped
  ECHO_TTL_EXPIRED = 4,  // dropped
  ECHO_REASONS = 5,
};
