// SPDX-License-Identifier: Apache-2.0
// The dpdk backend on a port with two receive queues that flows are really spread over: DPDK's port over the kernel's packet sockets, two of
// which share out an interface's frames by flow. What is on which queue the port itself counts.
#include <gtest/gtest.h>
#include <rte_ethdev.h>

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "frame/far_end.h"
#include "io/dpdk_loader/dpdk_loader.h"

namespace outrigger::io {
namespace {

using testing::Bytes;
using testing::command;
using testing::FarEnd;
using testing::Flow;
using testing::frameOf;
using testing::Inside;
using testing::Namespace;
using testing::pattern;

constexpr uint16_t kFirstSourcePort = 50000;
constexpr uint16_t kPort = 40001;

// Received by one queue, by its count among the port's extended statistics.
uint64_t framesOf(uint16_t port, uint32_t queue) {
  const std::string name = "rx_q" + std::to_string(queue) + "_packets";
  uint64_t id = 0;
  uint64_t value = 0;
  EXPECT_EQ(rte_eth_xstats_get_id_by_name(port, name.c_str(), &id), 0) << name;
  EXPECT_EQ(rte_eth_xstats_get_by_id(port, &id, &value, 1), 1) << name;
  return value;
}

TEST(DpdkQueues, TakesEveryFlowInOrderFromTheQueueThatItIsOn) {
  if (const std::string refusal = testing::namespaceRefusal(); !refusal.empty()) GTEST_SKIP() << "no network namespaces: " << refusal;
  const Namespace near;
  const Namespace far;
  ASSERT_TRUE(command(near, "ip link add near0 type veth peer name far0 netns " + far.path()));
  ASSERT_TRUE(command(near, "ip link set near0 up"));
  ASSERT_TRUE(command(far, "ip link set far0 up"));
  ASSERT_TRUE(testing::awaitSending(far, "far0"));
  BackendOptions options;
  options.hugepages = false;
  options.umemBytes = 24 << 20;
  options.queues = {0, 1};
  const std::string device = "net_af_packet7";
  options.dpdkArguments = {"-m", "256", "--vdev=" + device + ",iface=near0,qpairs=2,framecnt=1024,blocksz=65536"};
  std::unique_ptr<FrameIo> io;
  {
    const Inside inside(near);
    auto opened = openDpdkFrames(options);
    ASSERT_TRUE(opened.ok()) << opened.error().message;
    io = opened.take();
  }
  EXPECT_EQ(io->caps().queues, 2U);
  EXPECT_NE(io->caps().reason.find("does not tell by which hash it picks a queue"), std::string::npos) << io->caps().reason;
  uint16_t port = 0;
  ASSERT_EQ(rte_eth_dev_get_port_by_name(device.c_str(), &port), 0);
  ASSERT_TRUE(io->steer({SockAddr::parseNumeric("10.77.0.1", kPort).take()}).ok());
  FarEnd wire(far, "far0");

  // So many that all are on one queue once in billions of runs.
  constexpr uint32_t kFlows = 32;
  constexpr uint32_t kEach = 16;
  for (uint32_t i = 0; i < kEach; ++i) {
    for (uint32_t flow = 0; flow < kFlows; ++flow) {
      Flow one;
      one.sourceMac = wire.mac();
      one.destinationMac = io->link().mac;
      one.sourcePort = static_cast<uint16_t>(kFirstSourcePort + flow);
      one.destinationPort = kPort;
      ASSERT_TRUE(wire.send(frameOf(one, pattern(100 + i, flow))));
    }
  }
  std::vector<uint32_t> next(kFlows, 0);
  std::array<RxFrame, 16> burst;
  uint32_t received = 0;
  for (int waited = 0; waited < testing::kPatienceMs && received < kFlows * kEach;) {
    const uint32_t count = io->receive(burst);
    for (uint32_t i = 0; i < count; ++i) {
      const testing::Datagram datagram = testing::datagramOf(Bytes(burst[i].data, burst[i].data + burst[i].length));
      const uint32_t flow = datagram.sourcePort - uint32_t{kFirstSourcePort};
      ASSERT_LT(flow, kFlows);
      EXPECT_EQ(datagram.payload, pattern(100 + next[flow], flow)) << "flow " << flow;
      ++next[flow];
    }
    io->giveBack(std::span(burst).first(count));
    received += count;
    if (count == 0) {
      ::poll(nullptr, 0, 1);
      ++waited;
    }
  }
  EXPECT_EQ(received, kFlows * kEach);
  for (const uint32_t count : next) EXPECT_EQ(count, kEach);
  // One flow's at least: more than the hosts have to say to each other.
  for (uint32_t queue = 0; queue < 2; ++queue) EXPECT_GE(framesOf(port, queue), kEach) << "on queue " << queue;
  EXPECT_GE(framesOf(port, 0) + framesOf(port, 1), uint64_t{kFlows} * kEach);
}

}  // namespace
}  // namespace outrigger::io
