// SPDX-License-Identifier: Apache-2.0
// Which queue a port's hash picks: the hash itself, and that of a device (in the lab VM, whose NICs have one).
#include "io/dpdk/rss_map.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <map>
#include <memory>
#include <numeric>
#include <string>

#include "frame/far_end.h"
#include "io/dpdk_loader/dpdk_loader.h"

namespace outrigger::io {
namespace {

using testing::Bytes;
using testing::command;
using testing::FarEnd;
using testing::Flow;
using testing::frameOf;
using testing::Namespace;
using testing::pattern;

constexpr uint16_t kPort = 41000;
constexpr uint32_t kFlows = 64;

SockAddr at(const std::string& host, uint16_t port) { return SockAddr::parseNumeric(host, port).take(); }

// Of the hash, its low 16 bits.
dpdk::RssMap wholeTable(bool v4 = true, bool v6 = true) {
  // The key and the figures below are those with which Microsoft has drivers verified ("Verifying the RSS Hash Calculation").
  const std::vector<uint8_t> key = {0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3,
                                    0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3,
                                    0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa};
  std::vector<uint16_t> table(1 << 16);
  std::iota(table.begin(), table.end(), uint16_t{0});
  return {key, table, v4, v6};
}

TEST(DpdkRss, hashesAsDriversAreVerified) {
  const dpdk::RssMap map = wholeTable();
  EXPECT_EQ(map.queueOf(at("66.9.149.187", 2794), at("161.142.100.80", 1766)), 0x51ccc178 & 0xffff);
  EXPECT_EQ(map.queueOf(at("199.92.111.2", 14230), at("65.69.140.83", 4739)), 0xc626b0ea & 0xffff);
  EXPECT_EQ(map.queueOf(at("24.19.198.95", 12898), at("12.22.207.184", 38024)), 0x5c2b394a & 0xffff);
  EXPECT_EQ(map.queueOf(at("3ffe:2501:200:1fff::7", 2794), at("3ffe:2501:200:3::1", 1766)), 0x40207d3d & 0xffff);
  EXPECT_EQ(map.queueOf(at("3ffe:501:8::260:97ff:fe40:efab", 14230), at("ff02::1", 4739)), 0xdde51bbf & 0xffff);
}

TEST(DpdkRss, saysNothingOfAFamilyWhosePortsAreNoPartOfTheHash) {
  EXPECT_FALSE(wholeTable(false, true).queueOf(at("10.0.0.1", 1), at("10.0.0.2", 2)).has_value());
  EXPECT_FALSE(wholeTable(true, false).queueOf(at("fd00::1", 1), at("fd00::2", 2)).has_value());
  EXPECT_FALSE(wholeTable().queueOf(at("fd00::1", 1), at("10.0.0.2", 2)).has_value());
}

// OUTRIGGER_TEST_RSS=pci-address,interface,queues: a device under vfio-pci, and the interface at the other end of its wire.
TEST(DpdkRss, picksTheQueueThatTheDeviceDoes) {
  const char* named = std::getenv("OUTRIGGER_TEST_RSS");
  if (named == nullptr) GTEST_SKIP() << "OUTRIGGER_TEST_RSS names no device";
  std::string text = named;
  const size_t first = text.find(',');
  const size_t second = text.find(',', first + 1);
  ASSERT_NE(second, std::string::npos) << text;
  const std::string device = text.substr(0, first);
  const std::string interface = text.substr(first + 1, second - first - 1);
  const auto queues = static_cast<uint32_t>(std::atoi(text.c_str() + second + 1));
  ASSERT_GT(queues, 1U);

  BackendOptions options;
  options.dpdkDevice = device;
  options.dpdkAddresses = "10.77.0.1/24,fd77::1/64";
  options.dpdkInterface = "rss0";
  options.queues.resize(queues);
  std::iota(options.queues.begin(), options.queues.end(), 0U);
  auto opened = openDpdkFrames(options);
  ASSERT_TRUE(opened.ok()) << opened.error().message;
  const std::unique_ptr<FrameIo> io = opened.take();
  uint16_t port = 0;
  ASSERT_EQ(rte_eth_dev_get_port_by_name(device.c_str(), &port), 0);
  const Namespace far;
  ASSERT_EQ(std::system(("ip link set " + interface + " netns " + far.path()).c_str()), 0);
  ASSERT_TRUE(command(far, "ip link set " + interface + " up"));
  ASSERT_TRUE(testing::awaitSending(far, interface));
  FarEnd wire(far, interface);

  for (const bool v6 : {false, true}) {
    Flow flow;
    flow.v6 = v6;
    flow.sourceMac = wire.mac();
    flow.destinationMac = io->link().mac;
    flow.source = v6 ? "fd77::2" : "10.77.0.2";
    flow.destination = v6 ? "fd77::1" : "10.77.0.1";
    flow.destinationPort = kPort;
    std::map<uint16_t, uint32_t> expected;
    for (uint32_t i = 0; i < kFlows; ++i) {
      flow.sourcePort = static_cast<uint16_t>(50000 + i);
      const auto queue = io->queueOf(at(flow.source, flow.sourcePort), at(flow.destination, kPort));
      ASSERT_TRUE(queue.has_value()) << "the device tells no hash: " << io->caps().reason;
      expected[flow.sourcePort] = *queue;
      ASSERT_TRUE(wire.send(frameOf(flow, pattern(100, i))));
    }
    std::map<uint16_t, uint32_t> found;
    for (int waited = 0; waited < testing::kPatienceMs && found.size() < kFlows; ++waited) {
      for (uint16_t queue = 0; queue < queues; ++queue) {
        std::array<rte_mbuf*, 32> burst;
        const uint16_t count = rte_eth_rx_burst(port, queue, burst.data(), static_cast<uint16_t>(burst.size()));
        for (uint16_t i = 0; i < count; ++i) {
          const auto* bytes = rte_pktmbuf_mtod(burst[i], const uint8_t*);
          const testing::Datagram datagram = testing::datagramOf(Bytes(bytes, bytes + burst[i]->data_len));
          if (datagram.valid && datagram.destinationPort == kPort) found[datagram.sourcePort] = queue;
          rte_pktmbuf_free(burst[i]);
        }
      }
      ::poll(nullptr, 0, 1);
    }
    EXPECT_EQ(found, expected) << (v6 ? "IPv6" : "IPv4");
    std::vector<uint32_t> perQueue(queues);
    for (const auto& [source, queue] : found) ++perQueue[queue];
    for (uint32_t queue = 0; queue < queues; ++queue) EXPECT_GT(perQueue[queue], 0U) << "on queue " << queue << " of " << queues;
  }
  EXPECT_EQ(std::count(io->caps().offloads.begin(), io->caps().offloads.end(), "answers spread over the queues by source ports (RSS)"), 1);
}

}  // namespace
}  // namespace outrigger::io
