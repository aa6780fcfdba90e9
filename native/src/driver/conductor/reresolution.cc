// SPDX-License-Identifier: Apache-2.0
// Host names of receivers are looked up again: a pod that was replaced has the name of the old one and another address.
#include <algorithm>

#include "driver/conductor/state.h"

namespace outrigger::driver {

namespace {
// As long as a publication waits for a receiver until it counts as not connected.
constexpr int64_t kNameCheckIntervalNs = 5 * kSecondNs;
}  // namespace

void ConductorState::checkNames() {
  if (closing_ || moving() || nowNs_ < nextNameCheckNs_) return;
  nextNameCheckNs_ = nowNs_ + kNameCheckIntervalNs;
  for (const auto& entry : sendEndpoints_) {
    if (entry->removing || entry->lookUps > 0) continue;
    const bool connected = std::any_of(networks_.begin(), networks_.end(), [&](const auto& network) {
      return network->endpoint == entry.get() && network->publication->isConnected();
    });
    if (entry->named && !connected) lookUpAgain(*entry, entry->endpoint.channel.uri.text(), std::nullopt);
    // Which of the destinations answers is the sender's knowledge: all of them are looked at.
    for (const auto& destination : entry->manualDestinations) {
      if (destination.named) lookUpAgain(*entry, destination.channel, destination.registrationId);
    }
  }
}

void ConductorState::lookUpAgain(SendEndpointEntry& entry, const std::string& channel, std::optional<int64_t> destinationId) {
  ++entry.pendingTasks;
  ++entry.lookUps;
  auto result = std::make_shared<std::optional<Result<net::UdpChannel>>>();
  const auto done = [this, owner = &entry] {
    --owner->pendingTasks;
    --owner->lookUps;
    destroySendEndpoint(*owner);
  };
  ResourceTask task;
  task.run = [result, channel, resolver = parts_.resolver] { result->emplace(net::UdpChannel::parse(channel, resolver)); };
  task.complete = [this, result, destinationId, owner = &entry, done] {
    if (!**result) {
      recordError((**result).error().message);
      return done();
    }
    const io::SockAddr address = *(**result)->endpoint;
    const io::SockAddr* known = destinationId ? nullptr : &owner->current;
    for (const auto& each : owner->manualDestinations) {
      if (destinationId && each.registrationId == *destinationId) known = &each.destination->address;
    }
    if (owner->removing || closing_ || moving() || known == nullptr || *known == address) return done();
    auto nextHop = std::make_shared<std::optional<Result<std::unique_ptr<io::NextHop>>>>();
    ++resolves_;
    ResourceTask resolve;
    resolve.run = [nextHop, io = senderIo_, socket = owner->endpoint.socket.get(), address] {
      nextHop->emplace(io->resolve(*socket, address));
    };
    resolve.complete = [this, nextHop, owner, address, destinationId, done] {
      --resolves_;
      if (!**nextHop) {
        recordError((**nextHop).error().message);
      } else if (!owner->removing) {
        moveTo(*owner, address, destinationId, (**nextHop).take());
      }
      done();
    };
    parts_.resources.submit(std::move(resolve));
  };
  names_.submit(std::move(task));
}

void ConductorState::moveTo(SendEndpointEntry& entry, const io::SockAddr& address, std::optional<int64_t> destinationId,
                            std::unique_ptr<io::NextHop> nextHop) {
  auto destination = std::make_unique<MdcDestination>();
  destination->nextHop = std::move(nextHop);
  destination->address = address;
  SenderCommand command;
  command.endpoint = &entry.endpoint;
  command.destination = destination.get();
  if (!destinationId) {
    command.type = SenderCommand::Type::kReplaceNextHop;
    entry.current = address;
  } else {
    const auto found = std::find_if(entry.manualDestinations.begin(), entry.manualDestinations.end(),
                                    [&](const auto& each) { return each.registrationId == *destinationId; });
    if (found == entry.manualDestinations.end()) return;  // removed meanwhile
    destination->manual = true;
    destination->registrationId = *destinationId;
    command.type = SenderCommand::Type::kAddDestination;
    countDestination(*destination, found->channel);
    removeDestination(entry, found->destination);
    found->destination = destination.get();
  }
  parts_.counters.add(cnc::SystemCounter::kResolutionChanges, 1);
  entry.endpoint.ownedDestinations.push_back(std::move(destination));
  sendToSender(command);
}

}  // namespace outrigger::driver
