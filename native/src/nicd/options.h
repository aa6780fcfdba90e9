// SPDX-License-Identifier: Apache-2.0
// Settings of outrigger-nicd, from its arguments. No behaviour.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"

namespace outrigger::nicd {

constexpr const char* kDefaultSocket = "/run/outrigger-nicd/nicd.sock";

struct Options {
  std::string socket = kDefaultSocket;
  int64_t socketMode = 0660;
  int64_t socketGroup = -1;             // -1: leave it
  std::vector<std::string> interfaces;  // that may be opened; empty: all but loopback
  std::vector<uint32_t> allowUids;
  std::vector<uint32_t> allowGids;
  std::string claims;  // directory; not empty: every client must show one
  std::string bpfDirectory;
  std::string stateDirectory = "/run/outrigger-nicd/state";
  int64_t leaseMs = 30'000;  // longer than a restart of the container with its back-off, shorter than anyone waits for a queue
  int64_t maxClients = 128;
  int64_t maxClientsOfUid = 32;
  int64_t maxSessions = 16;             // of a client
  int64_t maxPorts = 64;                // of a session
  int64_t maxUmemBytes = 256ll << 20;   // of a session
  int64_t maxRequestsPerSecond = 1000;  // of a client, beyond a burst of as many
  bool allowPacket = false;
  bool status = false;
  bool json = false;
  bool help = false;
  bool version = false;
};

// What `--help` prints.
std::string helpText();

// An error names the argument, its value and what is allowed.
Result<Options> parseOptions(int argc, const char* const* argv);

}  // namespace outrigger::nicd
