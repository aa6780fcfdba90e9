// SPDX-License-Identifier: Apache-2.0
// XdpFrameIo on a veth pair in each of its modes: what comes in and goes out, what is counted, and what is said when the link, the program or
// the interface goes.
#include "io/xdp/xdp_frame_io.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/if_packet.h>
#include <netinet/udp.h>
#include <poll.h>

#include <array>
#include <cstdlib>
#include <memory>
#include <set>

#include "frames.h"
#include "io/xdp/xdp_program.h"
#include "open_io.h"
#include "veth_world.h"

namespace outrigger::io::xdp {
namespace {

using io::testing::FrameBuilder;
using io::testing::FrameSender;
using io::testing::openIo;
using io::testing::optionsFor;
using io::testing::payloadOf;
using io::testing::VethWorld;
using io::testing::waitUntil;
using ::testing::Contains;
using ::testing::HasSubstr;

SockAddr address(const char* host, uint16_t port) { return SockAddr::parseNumeric(host, port).take(); }

struct Received {
  std::vector<uint8_t> bytes;  // of all buffers
  uint32_t buffers = 0;
  RxChecksum checksum = RxChecksum::kUnknown;
};

// Whole frames that come until there are `count`, each buffer given back.
std::vector<Received> receive(XdpFrameIo& io, size_t count) {
  std::vector<Received> all;
  std::array<RxFrame, 64> frames;
  for (int idle = 0; all.size() < count && idle < 5;) {
    const uint32_t got = io.receive(frames);
    bool starts = true;
    for (uint32_t i = 0; i < got; ++i) {
      if (starts) all.push_back({{}, 0, frames[i].checksum});
      all.back().bytes.insert(all.back().bytes.end(), frames[i].data, frames[i].data + frames[i].length);
      ++all.back().buffers;
      starts = !frames[i].more;
    }
    io.giveBack({frames.data(), got});
    if (got != 0) continue;
    pollfd handle{io.waitHandle(), POLLIN, 0};
    if (io.arm() && ::poll(&handle, 1, 1'000) == 0) ++idle;
  }
  return all;
}

void send(XdpFrameIo& io, const std::vector<uint8_t>& frame) {
  const uint32_t capacity = io.caps().transmitBufferLength;
  std::array<TxFrame, kMaxBuffersOfFrame> pieces;
  const auto wanted = static_cast<uint32_t>((frame.size() + capacity - 1) / capacity);
  ASSERT_EQ(io.reserve({pieces.data(), wanted}), wanted);
  for (uint32_t i = 0; i < wanted; ++i) {
    pieces[i].length = static_cast<uint32_t>(std::min<size_t>(capacity, frame.size() - static_cast<size_t>(i) * capacity));
    pieces[i].more = i + 1 < wanted;
    std::memcpy(pieces[i].data, frame.data() + static_cast<size_t>(i) * capacity, pieces[i].length);
  }
  io.commit({pieces.data(), wanted});
  EXPECT_TRUE(io.flush());
}

// A raw socket in the far namespace that sees what arrives there.
UniqueFd listenFar(VethWorld& world) {
  UniqueFd fd;
  world.inFar([&] {
    fd = UniqueFd(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0));
    sockaddr_ll at{};
    at.sll_family = AF_PACKET;
    at.sll_protocol = htons(0x0800);
    at.sll_ifindex = static_cast<int>(::if_nametoindex("vb"));
    ASSERT_EQ(::bind(fd.get(), reinterpret_cast<sockaddr*>(&at), sizeof(at)), 0);
  });
  return fd;
}

std::vector<uint8_t> nextFrame(int fd) {
  std::vector<uint8_t> frame(65536);
  pollfd handle{fd, POLLIN, 0};
  if (::poll(&handle, 1, 5'000) != 1) return {};
  const ssize_t length = ::recv(fd, frame.data(), frame.size(), 0);
  frame.resize(length > 0 ? static_cast<size_t>(length) : 0);
  return frame;
}

UniqueFd udpFar(VethWorld& world, int family = AF_INET) {
  UniqueFd fd;
  world.inFar([&] { fd = UniqueFd(::socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0)); });
  return fd;
}

class XdpFrameIoTest : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (!VethWorld::possible()) GTEST_SKIP() << "needs root for network namespaces";
    if (!programsAreBuilt()) GTEST_SKIP() << "built without clang or libbpf";
  }
};

TEST_P(XdpFrameIoTest, FramesGoOutAsTheyAreAndComeInAsTheyWere) {
  VethWorld::run([mode = std::string(GetParam())](VethWorld& world) {
    auto io = openIo(optionsFor(mode));
    ASSERT_NE(io, nullptr);
    EXPECT_EQ(io->caps().mode, mode == "native" ? "native copy" : mode);
    EXPECT_TRUE(io->caps().singleOwner);
    ASSERT_TRUE(io->steer({address("10.77.0.1", 40001)}));
    FrameSender wire;
    world.inFar([&] { wire.open("vb"); });
    const UniqueFd listener = listenFar(world);

    const auto incoming = FrameBuilder().to("10.77.0.1", 40001).payload("in").build();
    wire.send(incoming);
    auto frames = receive(*io, 1);
    ASSERT_EQ(frames.size(), 1U);
    EXPECT_EQ(frames[0].bytes, incoming);
    EXPECT_EQ(frames[0].checksum, RxChecksum::kUnknown) << "its checksum is there to be verified";

    const auto outgoing = FrameBuilder().to("10.77.0.2", 40001).payload("out").build();
    send(*io, outgoing);
    EXPECT_EQ(nextFrame(listener.get()), outgoing);
    EXPECT_EQ(io->stats.receivedFrames.load(), 1);
    EXPECT_EQ(io->stats.transmittedFrames.load(), 1);
    EXPECT_TRUE(waitUntil([&] { return io->flush() && io->transmitChunksOut() == 0; }));
    EXPECT_EQ(io->receiveChunksHeld(), 0U);
  });
}

TEST_P(XdpFrameIoTest, EveryRingWrapsManyTimesWithoutLosingAFrameOrAChunk) {
  VethWorld::run([mode = std::string(GetParam())](VethWorld& world) {
    auto options = optionsFor(mode);
    options.umemBytes = 2u * 32 * 2048;  // the smallest: rings of 32
    auto io = openIo(options);
    ASSERT_NE(io, nullptr);
    ASSERT_TRUE(io->steer({address("10.77.0.1", 40001)}));
    FrameSender wire;
    world.inFar([&] { wire.open("vb"); });
    const UniqueFd listener = listenFar(world);
    constexpr int kRounds = 20;
    constexpr int kBurst = 24;
    for (int round = 0; round < kRounds; ++round) {
      for (int i = 0; i < kBurst; ++i) wire.send(FrameBuilder().to("10.77.0.1", 40001).payload(std::to_string(round * kBurst + i)).build());
      const auto frames = receive(*io, kBurst);
      ASSERT_EQ(frames.size(), static_cast<size_t>(kBurst));
      for (int i = 0; i < kBurst; ++i) {
        EXPECT_EQ(payloadOf(frames[static_cast<size_t>(i)].bytes), std::to_string(round * kBurst + i));
        send(*io, FrameBuilder().to("10.77.0.2", 40001).payload(std::to_string(i)).build());
      }
      for (int i = 0; i < kBurst; ++i) EXPECT_EQ(payloadOf(nextFrame(listener.get())), std::to_string(i));
    }
    EXPECT_TRUE(waitUntil([&] { return io->flush() && io->transmitChunksOut() == 0; }));
    io->refreshStats();
    EXPECT_EQ(io->stats.ringFullDrops.load(), 0);
    EXPECT_EQ(io->stats.invalidDescriptors.load(), 0);
  });
}

TEST_P(XdpFrameIoTest, WhatAHeldOrFullRingLosesIsCountedAndTheRestArrivesAfterwards) {
  VethWorld::run([mode = std::string(GetParam())](VethWorld& world) {
    auto options = optionsFor(mode);
    options.umemBytes = 2u * 32 * 2048;
    auto io = openIo(options);
    ASSERT_NE(io, nullptr);
    ASSERT_TRUE(io->steer({address("10.77.0.1", 40001)}));
    FrameSender wire;
    world.inFar([&] { wire.open("vb"); });
    const auto frame = FrameBuilder().to("10.77.0.1", 40001).build();
    for (int i = 0; i < 40; ++i) wire.send(frame);  // eight more than there are chunks
    ASSERT_TRUE(waitUntil([&] {
      io->refreshStats();
      return io->stats.fillRingEmpty.load() == 8;
    })) << io->stats.fillRingEmpty.load();
    EXPECT_EQ(io->stats.ringFullDrops.load(), 0) << "each loss has one reason";
    EXPECT_EQ(receive(*io, 32).size(), 32U);
    wire.send(frame);
    EXPECT_EQ(receive(*io, 1).size(), 1U);
  });
}

TEST_P(XdpFrameIoTest, AFrameInAChunkThatTheKernelDoesNotHaveIsRefusedAndItsChunkNotLentOnceMore) {
  VethWorld::run([mode = std::string(GetParam())](VethWorld& world) {
    auto options = optionsFor(mode);
    options.umemBytes = 2u * 32 * 2048;
    auto io = openIo(options);
    ASSERT_NE(io, nullptr);
    ASSERT_TRUE(io->steer({address("10.77.0.1", 40001)}));
    FrameSender wire;
    world.inFar([&] { wire.open("vb"); });
    const auto frame = FrameBuilder().to("10.77.0.1", 40001).build();
    // As a kernel does that takes old frames for new ones: one chunk is in the fill ring twice, in the place of another.
    wire.send(frame);
    wire.send(frame);
    std::array<RxFrame, 2> held;
    uint32_t count = 0;
    ASSERT_TRUE(waitUntil([&] { return (count += io->receive(std::span(held).subspan(count))) == held.size(); }));
    io->giveBack({held.data(), 1});
    io->giveBack({held.data(), 1});
    for (int i = 0; i < 30; ++i) {
      wire.send(frame);
      ASSERT_EQ(receive(*io, 1).size(), 1U);
    }
    wire.send(frame);
    wire.send(frame);
    std::array<RxFrame, 2> last;
    ASSERT_TRUE(waitUntil([&] { return io->receive(last) == 1; }));
    ASSERT_TRUE(waitUntil([&] { return io->receive(std::span(last).subspan(1)) == 0 && io->stats.invalidDescriptors.load() == 1; }))
        << "the second frame in the chunk that is held now";
    io->giveBack({last.data(), 1});
    wire.send(frame);
    EXPECT_EQ(receive(*io, 1).size(), 1U);
  });
}

TEST_P(XdpFrameIoTest, ReservedBuffersRunOutAreCountedAndComeBackWhenAborted) {
  VethWorld::run([mode = std::string(GetParam())](VethWorld&) {
    auto options = optionsFor(mode);
    options.umemBytes = 2u * 32 * 2048;
    auto io = openIo(options);
    ASSERT_NE(io, nullptr);
    std::array<TxFrame, 100> frames;
    const uint32_t got = io->reserve(frames);
    EXPECT_EQ(got, 32U);
    std::set<uint8_t*> distinct;
    for (uint32_t i = 0; i < got; ++i) distinct.insert(frames[i].data);
    EXPECT_EQ(distinct.size(), got);
    EXPECT_FALSE(io->flush()) << "full";
    std::array<TxFrame, 1> more;
    EXPECT_EQ(io->reserve(more), 0U);
    EXPECT_EQ(io->stats.noBuffer.load(), 1);
    io->abort({frames.data(), got});
    EXPECT_EQ(io->reserve(more), 1U);
    io->abort(more);
    EXPECT_EQ(io->transmitChunksOut(), 0U);
  });
}

TEST_P(XdpFrameIoTest, AChecksumThatALocalSenderLeftOpenIsMarkedOrTheKernelsAndACompleteOneIsNeither) {
  VethWorld::run([mode = std::string(GetParam())](VethWorld& world) {
    auto io = openIo(optionsFor(mode));
    ASSERT_NE(io, nullptr);
    for (const char* host : {"10.77.0.1", "fd77::1"}) {
      const SockAddr local = address(host, 40001);
      ASSERT_TRUE(io->steer({local}));
      const UniqueFd sender = udpFar(world, local.family());
      const int64_t before = io->stats.leftToKernel.load();
      ASSERT_EQ(::sendto(sender.get(), "left", 4, 0, local.get(), local.length), 4);
      if (mode == "generic") {
        // It could be a train.
        ASSERT_TRUE(waitUntil([&] {
          io->refreshStats();
          return io->stats.leftToKernel.load() == before + 1;
        }));
        continue;
      }
      auto frames = receive(*io, 1);
      ASSERT_EQ(frames.size(), 1U);
      EXPECT_EQ(payloadOf(frames[0].bytes), "left");
      EXPECT_EQ(frames[0].checksum, RxChecksum::kPartial) << host;
    }
    ASSERT_TRUE(world.far("ethtool -K vb tx off >/dev/null"));
    const UniqueFd sender = udpFar(world);
    const SockAddr local = address("10.77.0.1", 40001);
    ASSERT_EQ(::sendto(sender.get(), "whole", 5, 0, local.get(), local.length), 5);
    auto frames = receive(*io, 1);
    ASSERT_EQ(frames.size(), 1U);
    EXPECT_EQ(frames[0].checksum, RxChecksum::kUnknown);
  });
}

TEST_P(XdpFrameIoTest, AFrameOfNineThousandBytesGoesThroughSeveralBuffersBothWays) {
  VethWorld::run({.mtu = 9000, .queues = 1}, [mode = std::string(GetParam())](VethWorld& world) {
    auto io = openIo(optionsFor(mode));
    ASSERT_NE(io, nullptr);
    EXPECT_THAT(io->caps().offloads, Contains("multi-buffer"));
    EXPECT_GE(io->caps().maxTransmitPieces, 3U);
    ASSERT_TRUE(io->steer({address("10.77.0.1", 40001)}));
    FrameSender wire;
    world.inFar([&] { wire.open("vb"); });
    const UniqueFd listener = listenFar(world);
    std::string text(9000 - 28, ' ');
    for (size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>('a' + i % 23);
    for (int round = 0; round < 100; ++round) {
      text[0] = static_cast<char>(round);
      wire.send(FrameBuilder().to("10.77.0.1", 40001).payload(text).build());
      auto frames = receive(*io, 1);
      ASSERT_EQ(frames.size(), 1U) << round;
      EXPECT_GE(frames[0].buffers, 3U);
      EXPECT_EQ(payloadOf(frames[0].bytes), text);
      send(*io, FrameBuilder().to("10.77.0.2", 40001).payload(text).build());
      ASSERT_EQ(payloadOf(nextFrame(listener.get())), text) << round;
    }
    EXPECT_TRUE(waitUntil([&] { return io->flush() && io->transmitChunksOut() == 0; }));
    EXPECT_EQ(io->receiveChunksHeld(), 0U);

    // A reader with room for fewer buffers than the frame has: dropped whole, counted, and the next one is right.
    wire.send(FrameBuilder().to("10.77.0.1", 40001).payload(text).build());
    std::array<RxFrame, 2> few;
    ASSERT_TRUE(waitUntil([&] { return io->receive(few) == 0 && io->stats.oversizedFrames.load() == 1; }));
    wire.send(FrameBuilder().to("10.77.0.1", 40001).payload("short").build());
    auto frames = receive(*io, 1);
    ASSERT_EQ(frames.size(), 1U);
    EXPECT_EQ(payloadOf(frames[0].bytes), "short");
  });
}

TEST_P(XdpFrameIoTest, QueuesOfOneInterfaceArePolledTogetherFromOneMemory) {
  VethWorld::run({.mtu = 1500, .queues = 4}, [mode = std::string(GetParam())](VethWorld& world) {
    auto io = openIo(optionsFor(mode));
    ASSERT_NE(io, nullptr);
    EXPECT_EQ(io->caps().queues, 4U);
    const SockAddr local = address("10.77.0.1", 40001);
    ASSERT_TRUE(io->steer({local}));
    ASSERT_TRUE(world.far("ethtool -K vb tx off >/dev/null"));
    // Many flows, so that the veth spreads them over its queues.
    std::vector<UniqueFd> senders;
    constexpr size_t kSenders = 64;
    for (size_t i = 0; i < kSenders; ++i) senders.push_back(udpFar(world));
    for (int round = 0; round < 5; ++round) {
      for (size_t i = 0; i < kSenders; ++i) {
        const std::string text = std::to_string(i);
        ASSERT_GT(::sendto(senders[i].get(), text.data(), text.size(), 0, local.get(), local.length), 0);
      }
      const auto frames = receive(*io, kSenders);
      std::set<std::string> texts;
      for (const Received& frame : frames) texts.insert(payloadOf(frame.bytes));
      EXPECT_EQ(texts.size(), kSenders);
    }
    // Also who was awake for long, and so is woken no more until it asks for that, sleeps on all of them.
    std::array<RxFrame, 64> none;
    for (int look = 0; look < 10'000; ++look) EXPECT_EQ(io->receive(none), 0U);
    ASSERT_TRUE(io->arm());
    for (size_t i = 0; i < kSenders; ++i) ASSERT_GT(::sendto(senders[i].get(), "x", 1, 0, local.get(), local.length), 0);
    pollfd handle{io->waitHandle(), POLLIN, 0};
    EXPECT_GT(::poll(&handle, 1, 10'000), 0);
    EXPECT_EQ(receive(*io, kSenders).size(), kSenders);
    EXPECT_EQ(io->receiveChunksHeld(), 0U);
  });
}

TEST_P(XdpFrameIoTest, TheKernelFillsTheChecksumThatAFrameAsksFor) {
  VethWorld::run([mode = std::string(GetParam())](VethWorld& world) {
    auto io = openIo(optionsFor(mode), Offload::kOn);
    ASSERT_NE(io, nullptr);
    if (!io->caps().transmitChecksum) GTEST_SKIP() << io->caps().reason;
    // Without the offload on the device the kernel computes it before the frame leaves.
    ASSERT_TRUE(world.near("ethtool -K va tx off >/dev/null"));
    const UniqueFd listener = listenFar(world);
    const auto complete = FrameBuilder().to("10.77.0.2", 40001).payload("summed by the kernel").build();
    std::array<TxFrame, 1> frame;
    ASSERT_EQ(io->reserve(frame), 1U);
    std::memcpy(frame[0].data, complete.data(), complete.size());
    uint32_t pseudo = 17 + 8 + 20;
    for (size_t at = 26; at < 34; at += 2) pseudo += static_cast<uint32_t>(complete[at] << 8 | complete[at + 1]);
    pseudo = (pseudo & 0xFFFF) + (pseudo >> 16);
    frame[0].data[40] = static_cast<uint8_t>(pseudo >> 8);
    frame[0].data[41] = static_cast<uint8_t>(pseudo);
    frame[0].length = static_cast<uint32_t>(complete.size());
    frame[0].checksumStart = 34;
    frame[0].checksumOffset = 6;
    io->commit(frame);
    io->flush();
    EXPECT_EQ(nextFrame(listener.get()), complete);
  });
}

TEST_P(XdpFrameIoTest, ALinkThatGoesDownSaysSoAndCarriesFramesAgainOnceItIsUp) {
  VethWorld::run([mode = std::string(GetParam())](VethWorld& world) {
    auto io = openIo(optionsFor(mode));
    ASSERT_NE(io, nullptr);
    ASSERT_TRUE(io->steer({address("10.77.0.1", 40001)}));
    EXPECT_TRUE(waitUntil([&] { return io->link().up; })) << "carrier comes a moment after the flag";
    const LinkState first = io->link();
    EXPECT_EQ(first.mtu, 1500U);
    ASSERT_TRUE(world.near("ip link set va down"));
    const LinkState down = io->link();
    EXPECT_FALSE(down.up);
    EXPECT_FALSE(down.gone);
    EXPECT_THAT(down.reason, HasSubstr("interface va is down"));
    EXPECT_GT(down.generation, first.generation);
    std::array<TxFrame, 1> frame;
    ASSERT_EQ(io->reserve(frame), 1U);
    frame[0].length = 60;
    io->commit(frame);
    io->flush();
    EXPECT_TRUE(io->arm()) << "nothing to wait for busily";
    ASSERT_TRUE(world.near("ip link set va up"));
    ASSERT_TRUE(waitUntil([&] { return world.carries(); }));
    EXPECT_TRUE(io->link().up);
    FrameSender wire;
    world.inFar([&] { wire.open("vb"); });
    wire.send(FrameBuilder().to("10.77.0.1", 40001).payload("again").build());
    auto frames = receive(*io, 1);
    ASSERT_EQ(frames.size(), 1U);
    EXPECT_EQ(payloadOf(frames[0].bytes), "again");
    EXPECT_TRUE(waitUntil([&] {
      io->flush();
      return io->transmitChunksOut() == 0;
    })) << "what was waiting went out";
  });
}

// A control part that notices nothing: what is said then is what the socket itself tells.
class BlindControl final : public DeviceControl {
 public:
  explicit BlindControl(std::unique_ptr<DeviceControl> inner) : inner_(std::move(inner)), link_(inner_->link()) {}
  Result<void> steer(const SteerRule& rule) override { return inner_->steer(rule); }
  Result<void> unsteer(const SteerRule& rule) override { return inner_->unsteer(rule); }
  LinkState link() override { return link_; }

 private:
  std::unique_ptr<DeviceControl> inner_;
  LinkState link_;
};

TEST_P(XdpFrameIoTest, ASocketThatTheKernelTookFromItsQueueIsGoneWhateverTheLinkSays) {
  VethWorld::run([mode = std::string(GetParam())](VethWorld& world) {
    XdpAttempt attempt;
    auto parts = openXdp(optionsFor(mode), attempt);
    ASSERT_TRUE(parts) << parts.error().message;
    parts->device = std::make_unique<BlindControl>(std::move(parts->device));
    auto io = XdpFrameIo::create(parts.take());
    ASSERT_TRUE(io) << io.error().message;
    const LinkState before = (*io)->link();
    ASSERT_FALSE(before.gone);
    ASSERT_TRUE(world.near("ip link del va"));
    ASSERT_TRUE(waitUntil([&] {
      std::array<TxFrame, 1> frame;
      if ((*io)->reserve(frame) == 1) {
        std::memset(frame[0].data, 0xFF, 64);
        frame[0].length = 64;
        (*io)->commit(frame);
      }
      (*io)->flush();
      return (*io)->link().gone;
    }));
    const LinkState after = (*io)->link();
    EXPECT_FALSE(after.up);
    EXPECT_GT(after.generation, before.generation);
    EXPECT_THAT(after.reason, HasSubstr("the kernel took the AF_XDP socket of interface va from its queue: No such device or address"));
  });
}

TEST_P(XdpFrameIoTest, ADetachedProgramIsGoneAndSoIsARemovedInterfaceEachWithItsReason) {
  VethWorld::run([mode = std::string(GetParam())](VethWorld& world) {
    auto io = openIo(optionsFor(mode));
    ASSERT_NE(io, nullptr);
    const uint64_t before = io->link().generation;
    const std::string holder = describeAttachedProgram(io->caps().interfaceIndex)->value();  // "program 42 …"
    const std::string id = std::to_string(std::atoi(holder.c_str() + std::strlen("program ")));
    ASSERT_TRUE(
        world.near("bpftool link detach id $(bpftool link list | sed -nE 's/^([0-9]+): xdp +prog " + id + " *$/\\1/p') >/dev/null"));
    const LinkState pulled = io->link();
    EXPECT_TRUE(pulled.gone);
    EXPECT_FALSE(pulled.up);
    EXPECT_THAT(pulled.reason, HasSubstr("the XDP program of interface va was detached"));
    EXPECT_GT(pulled.generation, before);
    io.reset();

    auto second = openIo(optionsFor(mode));
    ASSERT_NE(second, nullptr);
    ASSERT_TRUE(world.near("ip link del va"));
    const LinkState removed = second->link();
    EXPECT_TRUE(removed.gone);
    EXPECT_THAT(removed.reason, HasSubstr("interface va"));
    std::array<TxFrame, 1> frame;
    if (second->reserve(frame) == 1) {
      frame[0].length = 60;
      second->commit(frame);
    }
    second->flush();
    std::array<RxFrame, 4> frames;
    EXPECT_EQ(second->receive(frames), 0U);
  });
}

TEST_P(XdpFrameIoTest, WhenTheMtuOutgrowsItsBuffersTheKernelGetsTheLongerFrames) {
  VethWorld::run([mode = std::string(GetParam())](VethWorld& world) {
    auto io = openIo(optionsFor(mode));
    ASSERT_NE(io, nullptr);
    const SockAddr local = address("10.77.0.1", 40001);
    ASSERT_TRUE(io->steer({local}));
    UniqueFd listener(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(::bind(listener.get(), local.get(), local.length), 0);
    ASSERT_TRUE(world.near("ip link set va mtu 3000"));
    ASSERT_TRUE(world.far("ip link set vb mtu 3000"));
    ASSERT_TRUE(world.far("ethtool -K vb tx off >/dev/null"));
    EXPECT_EQ(io->link().mtu, 3000U);
    const UniqueFd sender = udpFar(world);
    const std::string longer(2'900, 'x');
    ASSERT_EQ(::sendto(sender.get(), longer.data(), longer.size(), 0, local.get(), local.length), 2'900);
    ASSERT_EQ(::sendto(sender.get(), "fits", 4, 0, local.get(), local.length), 4);
    auto frames = receive(*io, 1);
    ASSERT_EQ(frames.size(), 1U);
    EXPECT_EQ(payloadOf(frames[0].bytes), "fits");
    std::array<char, 4096> datagram{};
    pollfd handle{listener.get(), POLLIN, 0};
    ASSERT_EQ(::poll(&handle, 1, 5'000), 1);
    EXPECT_EQ(::recv(listener.get(), datagram.data(), datagram.size(), 0), 2'900);
  });
}

INSTANTIATE_TEST_SUITE_P(Modes, XdpFrameIoTest, ::testing::Values("native", "generic"),
                         [](const auto& mode) { return std::string(mode.param); });

}  // namespace
}  // namespace outrigger::io::xdp
