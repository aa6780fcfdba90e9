// SPDX-License-Identifier: Apache-2.0
// Devices under NetStack; see the header.
#include "io/stack/raw_backend.h"

#include "io/stack/stack_face.h"

namespace outrigger::io {

Result<IoPair> makeRawPair(std::unique_ptr<FrameIo> device, std::unique_ptr<FrameIo> secondOrNull,
                           std::shared_ptr<net::KernelTables> tables, const BackendOptions& options,
                           std::shared_ptr<net::KernelTables> secondTables) {
  const std::string name = device->caps().name;
  const bool shared = secondOrNull == nullptr || device->caps().singleOwner;
  StackOptions stackOptions;
  stackOptions.faces = shared ? 2 : 1;
  stackOptions.receiveSlots = options.receiveSlots;
  stackOptions.vlan = options.vlan;
  auto first = NetStack::create(std::move(device), tables, stackOptions);
  if (!first) return first.error();
  IoPair pair;
  pair.sender = std::make_unique<StackFace>(*first, 0);
  if (shared) {
    pair.receiver = std::make_unique<StackFace>(*first, 1);
    pair.sameThread = true;
    pair.reason = "backend " + name + " has one queue, which one thread must own: sender and receiver share a thread";
    return pair;
  }
  auto second =
      NetStack::create(std::move(secondOrNull), secondTables != nullptr ? std::move(secondTables) : std::move(tables), stackOptions);
  if (!second) return second.error();
  pair.receiver = std::make_unique<StackFace>(second.take(), 0);
  return pair;
}

}  // namespace outrigger::io
