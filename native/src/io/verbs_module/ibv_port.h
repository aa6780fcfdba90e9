// SPDX-License-Identifier: Apache-2.0
// RdmaPort over libibverbs.
#pragma once

#include <infiniband/verbs.h>

#include <memory>
#include <vector>

#include "io/verbs/rdma_port.h"

namespace outrigger::io::verbs {

// An opened device and its protection domain: held by all that was made of it.
struct IbvDevice {
  ~IbvDevice();
  ibv_context* context = nullptr;
  ibv_pd* domain = nullptr;
};

Result<std::vector<PortFacts>> listIbvPorts();
Result<std::shared_ptr<RdmaPort>> openIbvPort(const PortFacts& facts);

// "cannot WHAT on DEVICE: errno's text".
Error ibvError(const PortFacts& facts, const std::string& what, int err);

}  // namespace outrigger::io::verbs
