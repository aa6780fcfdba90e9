// SPDX-License-Identifier: Apache-2.0
// Two hosts of the conformance suite on a simulated wire, each with a device that no kernel owns: NetStack alone between suite and wire.
#pragma once

#include "conformance_world.h"
#include "io/sim/sim_wire.h"
#include "io/stack/stack_face.h"
#include "net/fixed_tables.h"

namespace outrigger::io::testing {

class WireWorld final : public World {
 public:
  std::unique_ptr<DatagramIo> makeIo(Side side) override {
    const Side other = side == Side::kSender ? Side::kReceiver : Side::kSender;
    auto tables = std::make_shared<net::FixedTables>(1, 1500);
    SimStationOptions station;
    station.mac = mac(side);
    station.interfaceIndex = 1;
    for (const bool v6 : {false, true}) {
      EXPECT_TRUE(tables->addAddress(host(side, v6) + (v6 ? "/64" : "/24")).ok());
      // How neighbours are found is not this suite's subject.
      EXPECT_TRUE(tables->setNeighbour(host(other, v6), mac(other), net::NeighbourState::kUsable).ok());
    }
    auto stack = NetStack::create(wire_.createStation(station), tables, {});
    EXPECT_TRUE(stack.ok()) << stack.error().message;
    return stack.ok() ? std::make_unique<StackFace>(stack.take(), 0) : nullptr;
  }
  std::string host(Side side, bool v6) const override {
    return std::string(v6 ? "fd89::" : "10.89.0.") + (side == Side::kSender ? "1" : "2");
  }
  int64_t nowNs() override { return wire_.nowNs(); }
  bool await(DatagramIo& io) override {
    if (!io.arm()) return true;
    if (wire_.nextEventNs() == INT64_MAX) return false;
    wire_.setNow(wire_.nextEventNs());
    return true;
  }
  bool isSimulated() const override { return true; }
  bool hasSocketBuffers() const override { return false; }
  bool takesLongDatagrams() const override { return false; }

 private:
  static MacAddress mac(Side side) { return {0x02, 0, 0, 0, 0x89, side == Side::kSender ? uint8_t{1} : uint8_t{2}}; }

  SimWire wire_{SimWireOptions{}};
};

}  // namespace outrigger::io::testing
