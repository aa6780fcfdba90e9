// SPDX-License-Identifier: Apache-2.0
// Counter labels and keys.
#include "driver/counter_factory.h"

#include <algorithm>
#include <array>

namespace outrigger::driver {
namespace {

using cnc::OutriggerCounter;
using cnc::SystemCounter;

// As Aeron has them: dashboards and alerts made for it go by the label.
constexpr std::array<const char*, static_cast<size_t>(SystemCounter::kCount)> kSystemLabels = {
    "Bytes sent",
    "Bytes received",
    "Failed offers to ReceiverProxy",
    "Failed offers to SenderProxy",
    "Failed offers to DriverConductorProxy",
    "NAKs sent",
    "NAKs received",
    "Status Messages sent",
    "Status Messages received",
    "Heartbeats sent",
    "Heartbeats received",
    "Retransmits sent",
    "Flow control under runs",
    "Flow control over runs",
    "Invalid packets",
    "Errors",
    "Short sends",
    "Failed attempts to free log buffers",
    "Sender flow control limits, i.e. back-pressure events",
    "Unblocked Publications",
    "Unblocked Control Commands",
    "Possible TTL Asymmetry",
    "ControllableIdleStrategy status",
    "Loss gap fills",
    "Client liveness timeouts",
    "Resolution changes",
    "Conductor max cycle time doing its work in ns",
    "Conductor work cycle exceeded threshold count",
    "Sender max cycle time doing its work in ns",
    "Sender work cycle exceeded threshold count",
    "Receiver max cycle time doing its work in ns",
    "Receiver work cycle exceeded threshold count",
    "NameResolver max time in ns",
    "NameResolver exceeded threshold count",
    "Aeron software: Outrigger",
    "Bytes currently mapped",
    "Retransmitted bytes",
    "Retransmit Pool Overflow count",
    "Error Frames received",
    "Error Frames sent",
    "Publications Revoked",
    "Publication Images Revoked",
    "Images rejected",
    "Control protocol version",
    "Status Messages rejected",
    "Failed offers to AsyncExecutorProxy",
};

constexpr std::array<const char*, static_cast<size_t>(OutriggerCounter::kCount)> kOwnLabels = {
    "outrigger: datagrams dropped by the kernel for want of receive buffer",
    "outrigger: datagrams lost to send errors",
    "outrigger: trains sent datagram by datagram",
    "outrigger: datagrams for streams nobody subscribes to",
    "outrigger: setups refused",
    "outrigger: datagrams sent",
    "outrigger: datagrams received",
    "outrigger: send calls",
    "outrigger: NAKs held back by the repair budget",
    "outrigger: retransmits held back while one is under way",
    "outrigger: waits for memory of the volume",
    "outrigger: client commands rejected",
    "outrigger: doorbells rung",
    "outrigger: datagrams dropped by impairment",
    "outrigger: changes of the network backend",
    "outrigger: datagrams of sources that the policy does not admit",
    "outrigger: client commands that the policy forbids",
};

template <typename T>
void append(std::string& key, T value) {
  key.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

void appendText(std::string& key, std::string_view text) {
  const size_t room = cnc::kMaxCounterKeyLength - key.size() - sizeof(int32_t);
  const std::string_view cut = text.substr(0, room);
  append(key, static_cast<int32_t>(cut.size()));
  key += cut;
}

}  // namespace

bool CounterFactory::createDriverCounters(DriverCounters& counters, int64_t nowMs) {
  for (size_t i = 0; i < counters.system.size(); ++i) {
    std::string key;
    append(key, static_cast<int32_t>(i));
    counters.system[i] = manager_.allocate(cnc::counter_type::kSystem, key, kSystemLabels[i], nowMs);
    if (!counters.system[i].valid()) return false;
  }
  for (size_t i = 0; i < counters.own.size(); ++i) {
    std::string key;
    append(key, static_cast<int32_t>(i));
    counters.own[i] = manager_.allocate(cnc::counter_type::kOutriggerSystem, key, kOwnLabels[i], nowMs);
    if (!counters.own[i].valid()) return false;
  }
  return true;
}

bool CounterFactory::createNetworkCounters(DriverCounters& counters, int64_t nowMs) {
  for (size_t i = 0; i < counters.network.size(); ++i) {
    std::string key;
    append(key, static_cast<int32_t>(i));
    counters.network[i] =
        manager_.allocate(cnc::counter_type::kOutriggerNetwork, key, std::string("outrigger network: ") + io::networkCounterName(i), nowMs);
    if (!counters.network[i].valid()) return false;
  }
  return true;
}

cnc::Counter CounterFactory::stream(int32_t typeId, std::string_view name, const StreamIdentity& identity, int64_t ownerId, int64_t nowMs,
                                    int64_t joinPosition) {
  std::string key;
  append(key, identity.registrationId);
  append(key, identity.sessionId);
  append(key, identity.streamId);
  appendText(key, identity.channel);
  std::string label(name);
  label += ": " + std::to_string(identity.registrationId) + " " + std::to_string(identity.sessionId) + " " +
           std::to_string(identity.streamId) + " ";
  label += identity.channel;
  if (joinPosition >= 0) label += " @" + std::to_string(joinPosition);
  return manager_.allocate(typeId, key, label, nowMs, identity.registrationId, ownerId);
}

cnc::Counter CounterFactory::channelStatus(int32_t typeId, std::string_view name, std::string_view channel, int64_t registrationId,
                                           int64_t nowMs) {
  std::string key;
  appendText(key, channel);
  std::string label(name);
  label += ": ";
  label += channel;
  return manager_.allocate(typeId, key, label, nowMs, registrationId);
}

cnc::Counter CounterFactory::localAddress(std::string_view name, int32_t statusCounterId, std::string_view address, int64_t registrationId,
                                          int64_t nowMs) {
  std::string key;
  append(key, statusCounterId);
  appendText(key, address);
  std::string label(name);
  label += ": " + std::to_string(statusCounterId) + " ";
  label += address;
  return manager_.allocate(cnc::counter_type::kLocalSockaddr, key, label, nowMs, registrationId);
}

cnc::Counter CounterFactory::destination(std::string_view channel, int64_t registrationId, int64_t nowMs) {
  std::string key;
  append(key, registrationId);
  appendText(key, channel);
  std::string label("outrigger destination: ");
  label += channel;
  return manager_.allocate(cnc::counter_type::kOutriggerDestination, key, label, nowMs, registrationId);
}

cnc::Counter CounterFactory::clientHeartbeat(int64_t clientId, int64_t nowMs) {
  std::string key;
  append(key, clientId);
  cnc::Counter counter = manager_.allocate(cnc::counter_type::kClientHeartbeat, key, "client-heartbeat: id=" + std::to_string(clientId),
                                           nowMs, clientId, clientId);
  if (counter.valid()) counter.set(nowMs);
  return counter;
}

cnc::Counter CounterFactory::text(int32_t typeId, std::string_view label, int64_t registrationId, int64_t nowMs) {
  return manager_.allocate(typeId, {}, label, nowMs, registrationId);
}

}  // namespace outrigger::driver
