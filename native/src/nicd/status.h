// SPDX-License-Identifier: Apache-2.0
// What `outrigger-nicd --status` prints. Tokens are in none of it.
#pragma once

#include <string>
#include <vector>

#include "nicd/options.h"
#include "nicd/registry.h"

namespace outrigger::nicd {

struct StatusClient {
  std::string name;
  uint32_t uid = 0;
  int64_t pid = 0;
  std::string claim;
  int64_t requests = 0;
  int64_t feedResyncs = 0;
  std::vector<uint64_t> sessions;
};

struct StatusView {
  const Registry& registry;
  std::vector<StatusClient> clients;
  int64_t uptimeMs = 0;
  int64_t refusedConnections = 0;
  int64_t malformed = 0;
  const Options& options;
};

std::string statusJson(const StatusView& view);
std::string statusText(const StatusView& view);

// "zero-copy", "native copy", "generic"; empty for a packet session.
std::string modeName(const SessionRecord& record);

}  // namespace outrigger::nicd
