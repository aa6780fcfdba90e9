// SPDX-License-Identifier: Apache-2.0
// Fuzzes NetStack with frames: of any bytes, in one buffer or several, with any of the device's marks, into a stack whose device the kernel owns
// and into one that resolves by itself. Nothing is read outside a frame, no buffer is lost, what is delivered lies in the frame.
#include <cstdlib>
#include <vector>

#include "io/sim/sim_wire.h"
#include "io/stack/header_template.h"
#include "io/stack/stack_face.h"
#include "net/fixed_tables.h"

using namespace outrigger;

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

struct World {
  World(bool kernelOwnsDevice, uint32_t receiveBufferLength) : tables(std::make_shared<net::FixedTables>(7)) {
    io::SimStationOptions station;
    station.mac = {0x02, 0, 0, 0, 0, 0x0A};
    station.interfaceIndex = 7;
    station.promiscuous = true;
    station.kernelOwnsDevice = kernelOwnsDevice;
    station.receiveBufferLength = receiveBufferLength;
    require(tables->addAddress("127.88.0.1/24").ok() && tables->addAddress("fd88::1/64").ok());
    stack = io::NetStack::create(wire.createStation(station), tables, {}).take();
    face = std::make_unique<io::StackFace>(stack, 0);
    io::EndpointConfig config;
    config.bindAddress = io::SockAddr::parseNumeric("0.0.0.0", 0).take();
    v4 = face->openEndpoint(config).take();
    face->attach(*v4);
    config.bindAddress = io::SockAddr::parseNumeric("::", 0).take();
    v6 = face->openEndpoint(config).take();
    face->attach(*v6);
  }

  io::SimWire wire{io::SimWireOptions{}};
  std::shared_ptr<net::FixedTables> tables;
  std::shared_ptr<io::NetStack> stack;
  std::unique_ptr<io::StackFace> face;
  std::unique_ptr<io::Endpoint> v4;
  std::unique_ptr<io::Endpoint> v6;
};

// Ports are ephemeral: the fuzzer names them by a mark, so that its frames reach an endpoint in every run.
void patchPort(std::vector<uint8_t>& frame, const World& world) {
  for (size_t i = 0; i + 1 < frame.size(); ++i) {
    if (frame[i] != 0xFE || (frame[i + 1] != 4 && frame[i + 1] != 6)) continue;
    const uint16_t port = (frame[i + 1] == 4 ? world.v4 : world.v6)->localAddress().port();
    frame[i] = static_cast<uint8_t>(port >> 8);
    frame[i + 1] = static_cast<uint8_t>(port);
    return;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static World kernels(true, 0);
  static World own(false, 64);
  if (size < 3) return 0;
  World& world = (data[0] & 1) != 0 ? own : kernels;
  const auto checksum = static_cast<io::RxChecksum>(data[0] >> 1 & 3);
  const bool vlan = (data[0] & 8) != 0;
  const auto tci = static_cast<uint16_t>(data[1] << 8 | data[2]);
  std::vector<uint8_t> frame(data + 3, data + size);
  patchPort(frame, world);
  const io::MacAddress mac{0x02, 0, 0, 0, 0, 0x0A};
  if ((data[0] & 16) != 0 && frame.size() >= mac.size()) std::copy(mac.begin(), mac.end(), frame.begin());
  world.wire.setNow(world.wire.nowNs() + 1'000'000);
  const auto mark = checksum > io::RxChecksum::kPartial ? io::RxChecksum::kUnknown : checksum;
  if ((data[0] & 32) != 0) {
    world.wire.inject(frame, tci, mark);  // a train, with datagrams of that length
    world.wire.setNow(world.wire.nowNs() + 1'000'000);
  } else {
    world.wire.deliver(0, frame, mark, vlan, tci);
  }
  io::RxBurst burst;
  world.face->poll(burst, world.wire.nowNs());
  for (size_t i = 0; i < burst.count; ++i) {
    const io::RxPacket& packet = burst.packets[i];
    require(packet.length > 0 && packet.length <= size && packet.segmentLength > 0 && packet.segmentLength <= packet.length);
    // Each byte is read: the sanitizer sees what lies outside.
    volatile uint8_t sum = 0;
    for (uint32_t at = 0; at < packet.length; ++at) sum = static_cast<uint8_t>(sum ^ packet.data[at]);
    require(packet.source->family() == packet.destination->family());
  }
  world.face->release(burst);
  require(world.wire.outstanding(0) == 0);
  return 0;
}
