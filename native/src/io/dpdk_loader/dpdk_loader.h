// SPDX-License-Identifier: Apache-2.0
// The `dpdk` row of the table of backends: finds outrigger-dpdk.so, loads it, and opens or explains.
#pragma once

#include <memory>
#include <string>

#include "base/result.h"
#include "io/backend.h"
#include "io/dpdk_loader/dpdk_module.h"
#include "io/frame/frame_io.h"

namespace outrigger::io {

// Loads the module (OUTRIGGER_DPDK_LIBRARY, else outrigger-dpdk.so beside the running program), once in a process; it is never unloaded, since
// EAL has threads. Fails naming the file, the cause and the fix.
Result<const DpdkModule*> loadDpdk();

// The layer-2 device alone.
Result<std::unique_ptr<FrameIo>> openDpdkFrames(const BackendOptions& options);

Result<IoPair> openDpdk(const BackendOptions& options);
BackendReport probeDpdk(const BackendOptions& options);

}  // namespace outrigger::io
