// SPDX-License-Identifier: Apache-2.0
// The dpdk backend over DPDK's software ports: net_ring, whose frames come back to the sender, and two ports cabled to each other. On 4 KiB
// pages; one EAL serves all tests of the process, as it would a driver's.
#include <gtest/gtest.h>
#include <rte_eth_ring.h>
#include <rte_ethdev.h>
#include <rte_ring.h>

#include <cstring>
#include <memory>
#include <numeric>
#include <set>
#include <vector>

#include "dpdk_frames.h"
#include "io/dpdk_loader/dpdk_loader.h"

namespace outrigger::io {
namespace {

using testing::receiveAll;
using testing::send;
using testing::udpFrame;

std::unique_ptr<FrameIo> openRing(const std::string& name, uint32_t bytes = 16u << 20) {
  BackendOptions options;
  options.hugepages = false;
  options.umemBytes = bytes;
  // The same for all tests of the process: EAL starts once. 256 MiB hold the largest of them.
  options.dpdkArguments = {"-m", "256", "--vdev=" + name};
  auto io = openDpdkFrames(options);
  EXPECT_TRUE(io.ok()) << io.error().message;
  return io ? io.take() : nullptr;
}

TEST(DpdkRing, FramesComeBackWholeAndInOrder) {
  const auto io = openRing("net_ring0");
  ASSERT_NE(io, nullptr);
  for (uint32_t round = 0; round < 200; round++) {
    std::vector<std::vector<uint8_t>> sent;
    for (uint32_t i = 0; i < 40; i++) sent.push_back(udpFrame(60 + (round * 40 + i) % 1440, round * 40 + i));
    ASSERT_EQ(send(*io, sent), sent.size());
    ASSERT_TRUE(receiveAll(*io, sent.size()) == sent) << "round " << round;
  }
  EXPECT_EQ(io->stats.transmittedFrames.load(), 200 * 40);
  EXPECT_EQ(io->stats.receivedFrames.load(), 200 * 40);
  EXPECT_EQ(io->stats.receivedBytes.load(), io->stats.transmittedBytes.load());
}

TEST(DpdkRing, NoBufferIsLeakedByAbortGiveBackOrAFullDevice) {
  const auto io = openRing("net_ring0");
  ASSERT_NE(io, nullptr);
  std::vector<TxFrame> frames(64);
  for (uint32_t round = 0; round < 2000; round++) {
    const uint32_t count = io->reserve(frames);
    ASSERT_EQ(count, frames.size()) << "round " << round;
    io->abort(frames);
  }
  // Nobody reads: the ring fills, then the queue behind it, and reserve says so.
  uint32_t taken = 0;
  for (uint32_t round = 0; round < 1000; round++) {
    const uint32_t count = io->reserve(frames);
    for (uint32_t i = 0; i < count; i++) {
      std::memset(frames[i].data, 0xff, 64);
      frames[i].length = 64;
    }
    io->commit(std::span(frames).first(count));
    taken += count;
    if (!io->flush() && count == 0) break;
  }
  EXPECT_FALSE(io->flush());
  EXPECT_GT(io->stats.noBuffer.load(), 0);
  uint32_t received = 0;
  std::vector<RxFrame> burst(64);
  for (uint32_t idle = 0; idle < 10;) {
    const uint32_t count = io->receive(burst);
    io->giveBack(std::span(burst).first(count));
    received += count;
    io->flush();
    idle = count == 0 ? idle + 1 : 0;
  }
  EXPECT_EQ(received, taken);
  EXPECT_TRUE(io->flush());
  EXPECT_EQ(io->reserve(frames), frames.size());
  io->abort(frames);
}

TEST(DpdkRing, ACloseWithFramesInFlightAndASecondOpenInTheSameProcess) {
  for (uint32_t round = 0; round < 5; round++) {
    const auto io = openRing("net_ring0");
    ASSERT_NE(io, nullptr) << "round " << round;
    std::vector<std::vector<uint8_t>> sent(32, udpFrame(200, round));
    ASSERT_EQ(send(*io, sent), sent.size());
    if (round % 2 == 0) {
      ASSERT_TRUE(receiveAll(*io, sent.size()) == sent);
    }
  }
}

TEST(DpdkRing, AFrameInSeveralBuffersArrivesInSeveralAndIsNeverSplitBetweenTwoCalls) {
  const auto io = openRing("net_ring0");
  ASSERT_NE(io, nullptr);
  if (io->caps().maxTransmitPieces < 3) GTEST_SKIP() << "this DPDK's net_ring takes one buffer a frame";
  const std::vector<uint8_t> whole = udpFrame(600, 7);
  std::vector<TxFrame> pieces(3);
  ASSERT_EQ(io->reserve(pieces), 3u);
  for (uint32_t i = 0; i < 3; i++) {
    std::memcpy(pieces[i].data, whole.data() + i * 200, 200);
    pieces[i].length = 200;
    pieces[i].more = i < 2;
  }
  io->commit(pieces);
  ASSERT_EQ(send(*io, {udpFrame(64, 8), whole}), 2u);
  std::vector<RxFrame> burst(4);
  ASSERT_EQ(io->receive(burst), 4u);
  EXPECT_TRUE(burst[0].more);
  EXPECT_TRUE(burst[1].more);
  EXPECT_FALSE(burst[2].more);
  std::vector<uint8_t> joined;
  for (uint32_t i = 0; i < 3; i++) joined.insert(joined.end(), burst[i].data, burst[i].data + burst[i].length);
  EXPECT_EQ(joined, whole);
  io->giveBack(burst);
  EXPECT_EQ(receiveAll(*io, 1).size(), 1u);

  // One with more buffers than there is room for is dropped and counted.
  ASSERT_EQ(io->reserve(pieces), 3u);
  for (uint32_t i = 0; i < 3; i++) {
    pieces[i].length = 100;
    pieces[i].more = i < 2;
  }
  io->commit(pieces);
  io->flush();
  std::vector<RxFrame> two(2);
  EXPECT_EQ(io->receive(two), 0u);
  EXPECT_EQ(io->stats.oversizedFrames.load(), 1);
}

TEST(DpdkRing, ItSaysWhatItRunsWith) {
  const auto io = openRing("net_ring0");
  ASSERT_NE(io, nullptr);
  const FrameCaps& caps = io->caps();
  EXPECT_EQ(caps.name, "dpdk");
  EXPECT_EQ(caps.mode, "net_ring, no hugepages");
  EXPECT_FALSE(caps.kernelOwnsDevice);
  EXPECT_TRUE(caps.singleOwner);
  // One receive queue: whatever a device's hash says, a reply comes to the one who polls it.
  EXPECT_EQ(caps.queues, 1u);
  EXPECT_NE(caps.reason.find("checksums are computed in software"), std::string::npos) << caps.reason;
  EXPECT_EQ(io->waitHandle(), -1);
  const LinkState link = io->link();
  EXPECT_TRUE(link.up) << link.reason;
  EXPECT_EQ(link.mtu, 1500u);
  EXPECT_FALSE(link.gone);
  // A ring has no address, so it gets a local one.
  EXPECT_EQ(link.mac[0], 0x02);
}

TEST(DpdkRing, ALinkThatGoesDownIsSeenWithAHigherGeneration) {
  const auto io = openRing("net_ring0");
  ASSERT_NE(io, nullptr);
  uint16_t port = 0;
  ASSERT_EQ(rte_eth_dev_get_port_by_name("net_ring0", &port), 0);
  const LinkState before = io->link();
  ASSERT_EQ(rte_eth_dev_set_link_down(port), 0);
  const LinkState down = io->link();
  EXPECT_FALSE(down.up);
  EXPECT_NE(down.reason.find("net_ring0 is down"), std::string::npos) << down.reason;
  EXPECT_GT(down.generation, before.generation);
  ASSERT_EQ(rte_eth_dev_set_link_up(port), 0);
  EXPECT_TRUE(io->link().up);
  EXPECT_EQ(io->link().generation, down.generation + 1);
}

TEST(DpdkRing, TwoPortsCabledTogetherCarryFramesBothWays) {
  // EAL must run before rings can be made.
  openRing("net_ring0").reset();
  rte_ring* ab = rte_ring_create("ab", 1024, SOCKET_ID_ANY, RING_F_SP_ENQ | RING_F_SC_DEQ);
  rte_ring* ba = rte_ring_create("ba", 1024, SOCKET_ID_ANY, RING_F_SP_ENQ | RING_F_SC_DEQ);
  ASSERT_NE(ab, nullptr);
  ASSERT_NE(ba, nullptr);
  ASSERT_GE(rte_eth_from_rings("a", &ba, 1, &ab, 1, 0), 0);
  ASSERT_GE(rte_eth_from_rings("b", &ab, 1, &ba, 1, 0), 0);
  {
    BackendOptions options;
    options.hugepages = false;
    options.dpdkArguments = {"-m", "256"};
    options.dpdkDevice = "net_ring_a";
    auto a = openDpdkFrames(options);
    ASSERT_TRUE(a.ok()) << a.error().message;
    options.dpdkDevice = "net_ring_b";
    auto b = openDpdkFrames(options);
    ASSERT_TRUE(b.ok()) << b.error().message;
    EXPECT_NE((*a)->link().mac, (*b)->link().mac);
    const std::vector<std::vector<uint8_t>> there(30, udpFrame(300, 1));
    const std::vector<std::vector<uint8_t>> back(20, udpFrame(400, 2));
    ASSERT_EQ(send(**a, there), there.size());
    ASSERT_EQ(send(**b, back), back.size());
    EXPECT_TRUE(receiveAll(**b, there.size()) == there);
    EXPECT_TRUE(receiveAll(**a, back.size()) == back);
  }
  for (const char* name : {"net_ring_a", "net_ring_b"}) {
    uint16_t port = 0;
    ASSERT_EQ(rte_eth_dev_get_port_by_name(name, &port), 0);
    rte_eth_dev_close(port);
  }
  rte_ring_free(ab);
  rte_ring_free(ba);
}

TEST(DpdkRing, WhatCanNotBeOpenedSaysWhy) {
  openRing("net_ring0").reset();
  BackendOptions options;
  options.hugepages = false;
  options.dpdkArguments = {"--vdev=net_nosuch0"};
  auto io = openDpdkFrames(options);
  ASSERT_FALSE(io.ok());
  EXPECT_NE(io.error().message.find("net_nosuch0"), std::string::npos) << io.error().message;

  options.dpdkArguments = {"--vdev=net_ring0"};
  options.queues = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17};
  options.umemBytes = 64u << 20;
  io = openDpdkFrames(options);
  ASSERT_FALSE(io.ok());
  EXPECT_NE(io.error().message.find("configure fewer"), std::string::npos) << io.error().message;

  options.queues.clear();
  options.umemBytes = 16u << 20;
  options.dpdkMtu = 20;
  io = openDpdkFrames(options);
  ASSERT_FALSE(io.ok());
  EXPECT_NE(io.error().message.find("MTU 20 is out of range"), std::string::npos) << io.error().message;

  // EAL runs without PCI and can't be started anew.
  options.dpdkMtu = 0;
  options.hugepages = true;
  options.dpdkArguments = {"--vdev=net_ring0", "-m", "1"};
  io = openDpdkFrames(options);
  ASSERT_FALSE(io.ok());
  EXPECT_TRUE(io.error().message.find("restart the driver") != std::string::npos ||
              io.error().message.find("hugepages") != std::string::npos)
      << io.error().message;
}

}  // namespace
}  // namespace outrigger::io
