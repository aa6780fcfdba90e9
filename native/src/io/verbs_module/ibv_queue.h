// SPDX-License-Identifier: Apache-2.0
// A UD queue pair of libibverbs with its registered buffers.
#pragma once

#include "io/verbs_module/ibv_port.h"

namespace outrigger::io::verbs {

class IbvAddress : public AddressHandle {
 public:
  ibv_ah* handle = nullptr;
};

Result<std::unique_ptr<DatagramQueue>> openIbvQueue(std::shared_ptr<IbvDevice> device, const PortFacts& facts, const QueueOptions& options);

}  // namespace outrigger::io::verbs
