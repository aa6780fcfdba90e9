// SPDX-License-Identifier: Apache-2.0
// What every raw backend's `open` ends with: its device or devices under NetStack, as the two instances of a driver.
#pragma once

#include <memory>

#include "io/backend.h"
#include "io/frame/frame_io.h"
#include "net/kernel_tables.h"

namespace outrigger::io {

// With one device (`secondOrNull` is null, or caps().singleOwner) sender and receiver are two faces of one stack, which one thread must poll:
// sameThread and its reason are set. With two, each has a stack of its own over its device: `device` the sender's, `secondOrNull` the receiver's.
// `tables`: net::NetlinkTables of the device's network namespace, or what stands in for it; `secondTables`: where the second device has its own.
Result<IoPair> makeRawPair(std::unique_ptr<FrameIo> device, std::unique_ptr<FrameIo> secondOrNull,
                           std::shared_ptr<net::KernelTables> tables, const BackendOptions& options,
                           std::shared_ptr<net::KernelTables> secondTables = nullptr);

}  // namespace outrigger::io
