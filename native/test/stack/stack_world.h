// SPDX-License-Identifier: Apache-2.0
// Two hosts on a simulated wire, each a NetStack over a station, and the bytes of frames for them. The reserved sockets are real: addresses of
// 127/8 can be bound without any set-up, and what takes the kernel's way really goes there.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "io/sim/sim_wire.h"
#include "io/stack/checksum.h"
#include "io/stack/header_template.h"
#include "io/stack/stack_face.h"
#include "net/fixed_tables.h"

namespace outrigger::io::testing {

using Bytes = std::vector<uint8_t>;

constexpr uint32_t kInterface = 4242;  // of both stations; no interface of this machine
constexpr MacAddress kMacA{0x02, 0, 0, 0, 0, 0x0A};
constexpr MacAddress kMacB{0x02, 0, 0, 0, 0, 0x0B};
constexpr const char* kHostA = "127.66.0.1";
constexpr const char* kHostB = "127.66.0.2";
constexpr int64_t kMs = 1'000'000;

inline SockAddr at(const std::string& host, uint16_t port = 0) {
  auto parsed = SockAddr::parseNumeric(host, port);
  EXPECT_TRUE(parsed.ok()) << parsed.error().message;
  return parsed.take();
}

inline Bytes pattern(size_t length, uint32_t seed) {
  Bytes bytes(length);
  for (size_t i = 0; i < length; ++i) bytes[i] = static_cast<uint8_t>((i * 31 + (i >> 8) * 7 + seed * 101 + 13) & 0xFF);
  return bytes;
}

struct Arrival {
  Bytes bytes;
  SockAddr source;
  SockAddr destination;
  Endpoint* endpoint = nullptr;
  bool train = false;
  int64_t arrivedNs = 0;
};

struct HostOptions {
  std::string address = kHostA;
  std::string peer = kHostB;
  MacAddress mac = kMacA;
  MacAddress peerMac = kMacB;
  SimStationOptions station;
  uint32_t faces = 1;
  uint16_t vlan = 0;
  bool kernelOwnsDevice = true;  // else the stack resolves, and any address can be used
  std::vector<std::string> moreAddresses;
};

// One host. `faces` are its DatagramIo instances.
class Host {
 public:
  Host(SimWire& wire, HostOptions options) : tables(std::make_shared<net::FixedTables>(kInterface, options.station.mtu)) {
    options.station.mac = options.mac;
    options.station.interfaceIndex = kInterface;
    options.station.kernelOwnsDevice = options.kernelOwnsDevice;
    options.moreAddresses.push_back(options.address);
    for (const std::string& address : options.moreAddresses) {
      EXPECT_TRUE(tables->addAddress(address + (address.find(':') == std::string::npos ? "/24" : "/64")).ok());
    }
    if (options.kernelOwnsDevice) {
      EXPECT_TRUE(tables->setNeighbour(options.peer, options.peerMac, net::NeighbourState::kUsable).ok());
    }
    StackOptions stackOptions;
    stackOptions.faces = options.faces;
    stackOptions.vlan = options.vlan;
    auto device = wire.createStation(options.station);
    station = device.get();
    auto created = NetStack::create(std::move(device), tables, stackOptions);
    EXPECT_TRUE(created.ok()) << created.error().message;
    stack = created.take();
    for (uint32_t i = 0; i < options.faces; ++i) faces.push_back(std::make_unique<StackFace>(stack, i));
  }

  DatagramIo& io(size_t face = 0) { return *faces[face]; }
  int64_t count(StackCounter counter) const { return stack->stats()[counter]; }

  std::unique_ptr<Endpoint> open(const std::string& address, uint16_t port = 0, size_t face = 0, int32_t receiveBufferBytes = 0) {
    EndpointConfig config;
    config.bindAddress = at(address, port);
    config.receiveBufferBytes = receiveBufferBytes;
    auto endpoint = io(face).openEndpoint(config);
    EXPECT_TRUE(endpoint.ok()) << endpoint.error().message;
    if (!endpoint.ok()) return nullptr;
    io(face).attach(**endpoint);
    return endpoint.take();
  }
  std::unique_ptr<NextHop> hop(Endpoint& from, const SockAddr& to) {
    auto resolved = io().resolve(from, to);
    EXPECT_TRUE(resolved.ok()) << resolved.error().message;
    return resolved.take();
  }
  TxItem send(Endpoint& from, NextHop& to, const Bytes& bytes, uint32_t segmentLength = 0) {
    TxItem item;
    item.nextHop = &to;
    item.data = bytes.data();
    item.length = static_cast<uint32_t>(bytes.size());
    item.segmentLength = segmentLength;
    io().transmit(from, {&item, 1});
    return item;
  }
  TxStatus sendControl(Endpoint& from, const SockAddr& to, const Bytes& bytes) {
    TxSlot slot;
    const TxStatus status = io().reserve(from, to, static_cast<uint32_t>(bytes.size()), slot);
    if (status != TxStatus::kPending) return status;
    std::memcpy(slot.data, bytes.data(), bytes.size());
    return io().commit(from, to, slot, static_cast<uint32_t>(bytes.size()));
  }
  std::vector<Arrival> poll(int64_t nowNs, size_t face = 0) {
    RxBurst burst;
    const uint32_t announced = io(face).poll(burst, nowNs);
    std::vector<Arrival> arrivals;
    for (size_t i = 0; i < burst.count; ++i) {
      const RxPacket& packet = burst.packets[i];
      for (uint32_t offset = 0; offset < packet.length; offset += packet.segmentLength) {
        const uint32_t length = std::min(packet.segmentLength, packet.length - offset);
        arrivals.push_back({Bytes(packet.data + offset, packet.data + offset + length), *packet.source, *packet.destination,
                            packet.endpoint, packet.segmentLength < packet.length, packet.arrivedNs});
      }
    }
    EXPECT_EQ(announced, arrivals.size()) << "poll counts the datagrams of trains";
    return arrivals;
  }

  std::shared_ptr<net::FixedTables> tables;
  FrameIo* station = nullptr;
  std::shared_ptr<NetStack> stack;
  std::vector<std::unique_ptr<StackFace>> faces;
};

// The wire with host A (station 0) and host B (station 1).
class StackWorld : public ::testing::Test {
 protected:
  void makeHosts(HostOptions a = {}, HostOptions b = {}) {
    if (b.address == kHostA) {
      b.address = kHostB;
      b.peer = kHostA;
      b.mac = kMacB;
      b.peerMac = kMacA;
    }
    hostA = std::make_unique<Host>(wire, a);
    hostB = std::make_unique<Host>(wire, b);
  }
  // Lets everything on the wire arrive.
  void settle() {
    while (wire.nextEventNs() != INT64_MAX) wire.setNow(wire.nextEventNs());
  }
  std::vector<Arrival> pollAll(Host& host, size_t face = 0) {
    settle();
    std::vector<Arrival> all;
    while (true) {
      auto some = host.poll(wire.nowNs(), face);
      if (some.empty()) return all;
      all.insert(all.end(), some.begin(), some.end());
    }
  }
  // A frame as a third station would send it to `to`.
  static Bytes udpFrame(const MacAddress& to, const SockAddr& source, const SockAddr& destination, const Bytes& payload,
                        uint16_t vlan = 0) {
    FlowAddresses flow;
    flow.sourceMac = {0x02, 0, 0, 0, 0, 0x0C};
    flow.destinationMac = to;
    flow.vlan = vlan;
    flow.source = net::IpAddress::of(source);
    flow.destination = net::IpAddress::of(destination);
    flow.sourcePort = source.port();
    flow.destinationPort = destination.port();
    HeaderTemplate header;
    header.build(flow);
    Bytes frame(header.length() + payload.size());
    std::copy(payload.begin(), payload.end(), frame.begin() + header.length());
    header.write(frame.data(), static_cast<uint32_t>(payload.size()), sumBytes(payload.data(), payload.size()));
    return frame;
  }

  SimWire wire{SimWireOptions{}};
  std::unique_ptr<Host> hostA;
  std::unique_ptr<Host> hostB;
};

}  // namespace outrigger::io::testing
