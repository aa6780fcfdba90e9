// SPDX-License-Identifier: Apache-2.0
// Captured frames: what a tap sees, what becomes of trains and of checksums that a device would make, and the blocks of the file.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <numeric>
#include <thread>

#include "base/random.h"
#include "driver/capture_service.h"
#include "io/capture/capture_tap.h"
#include "io/capture/frame_expander.h"
#include "io/capture/pcapng.h"
#include "io/stack/frame_parser.h"
#include "runtime/temp_directory.h"

namespace outrigger::io {
namespace {

using Bytes = std::vector<uint8_t>;

constexpr MacAddress kOurs = {2, 0, 0, 0, 0, 1};

// A UDP datagram without checksums in an Ethernet frame, from 10.0.0.2:1000 to 10.0.0.1:2000, or the like in IPv6.
Bytes frameOf(bool v6, const Bytes& payload) {
  Bytes frame(kOurs.begin(), kOurs.end());
  for (const int byte : {2, 0, 0, 0, 0, 2}) frame.push_back(static_cast<uint8_t>(byte));
  const auto put16 = [&](size_t value) {
    frame.push_back(static_cast<uint8_t>(value >> 8));
    frame.push_back(static_cast<uint8_t>(value));
  };
  put16(v6 ? 0x86DD : 0x0800);
  const size_t udpLength = 8 + payload.size();
  if (v6) {
    put16(0x6000);
    put16(0);
    put16(udpLength & 0xFFFF);
    frame.push_back(17);
    frame.push_back(64);
    for (const int last : {2, 1}) {
      frame.push_back(0xFD);
      frame.insert(frame.end(), 14, 0);
      frame.push_back(static_cast<uint8_t>(last));
    }
  } else {
    put16(0x4500);
    put16((20 + udpLength) & 0xFFFF);
    put16(7);
    put16(0x4000);
    frame.push_back(64);
    frame.push_back(17);
    put16(0);
    for (const int byte : {10, 0, 0, 2, 10, 0, 0, 1}) frame.push_back(static_cast<uint8_t>(byte));
  }
  put16(1000);
  put16(2000);
  put16(udpLength & 0xFFFF);
  put16(0);
  frame.insert(frame.end(), payload.begin(), payload.end());
  return frame;
}

Bytes payloadOf(size_t length) {
  Bytes payload(length);
  std::iota(payload.begin(), payload.end(), uint8_t{1});
  return payload;
}

CapturedFrame captured(const Bytes& frame) {
  CapturedFrame out;
  out.data = frame.data();
  out.length = out.originalLength = static_cast<uint32_t>(frame.size());
  return out;
}

std::vector<Bytes> expand(const CapturedFrame& frame) {
  std::vector<Bytes> out;
  FrameExpander().expand(frame, [&](std::span<const uint8_t> data, uint32_t) { out.emplace_back(data.begin(), data.end()); });
  return out;
}

// Whether the stack would take it: lengths and both checksums are right.
ParsedFrame parsed(const Bytes& frame) {
  RxFrame rx;
  rx.data = frame.data();
  rx.length = static_cast<uint32_t>(frame.size());
  ParsedFrame out;
  parseFrame(rx, FrameRules{kOurs, 0}, out);
  return out;
}

class Expander : public ::testing::TestWithParam<bool> {};

TEST_P(Expander, TakesATrainApartIntoDatagramsWithTheirOwnHeaders) {
  const Bytes payload = payloadOf(3'000);
  const Bytes train = frameOf(GetParam(), payload);
  CapturedFrame frame = captured(train);
  frame.segmentLength = 1'408;
  const auto frames = expand(frame);
  ASSERT_EQ(frames.size(), 3u);
  Bytes joined;
  for (size_t i = 0; i < frames.size(); ++i) {
    const ParsedFrame datagram = parsed(frames[i]);
    ASSERT_EQ(datagram.kind, FrameKind::kDatagram) << static_cast<int>(datagram.reason);
    EXPECT_EQ(datagram.length, i < 2 ? 1'408u : 184u);
    EXPECT_EQ(datagram.sourcePort, 1000);
    joined.insert(joined.end(), datagram.body, datagram.body + datagram.length);
  }
  EXPECT_EQ(joined, payload);
}

TEST_P(Expander, FillsInTheChecksumThatADeviceWouldMake) {
  for (const size_t length : {0, 1, 17, 1'400}) {
    const Bytes bare = frameOf(GetParam(), payloadOf(length));
    CapturedFrame frame = captured(bare);
    frame.checksumMissing = true;
    const auto frames = expand(frame);
    ASSERT_EQ(frames.size(), 1u);
    EXPECT_EQ(parsed(frames[0]).kind, FrameKind::kDatagram) << length << ": " << static_cast<int>(parsed(frames[0]).reason);
    EXPECT_EQ(frames[0].size(), bare.size());
  }
}

TEST_P(Expander, LeavesAWrongChecksumAsItCame) {
  Bytes wrong = frameOf(GetParam(), payloadOf(100));
  wrong[wrong.size() - 101] = 0xAB;
  EXPECT_EQ(expand(captured(wrong)), std::vector<Bytes>{wrong});
}

INSTANTIATE_TEST_SUITE_P(Families, Expander, ::testing::Values(false, true),
                         [](const auto& v6) { return std::string(v6.param ? "IPv6" : "IPv4"); });

TEST(FrameExpander, PutsATagBackThatTheDeviceTookOut) {
  const Bytes bare = frameOf(false, payloadOf(100));
  CapturedFrame frame = captured(bare);
  frame.checksumMissing = true;
  frame.vlanPresent = true;
  frame.vlanTci = 42;
  const auto frames = expand(frame);
  ASSERT_EQ(frames.size(), 1u);
  RxFrame rx;
  rx.data = frames[0].data();
  rx.length = static_cast<uint32_t>(frames[0].size());
  ParsedFrame out;
  parseFrame(rx, FrameRules{kOurs, 42}, out);
  EXPECT_EQ(out.kind, FrameKind::kDatagram) << static_cast<int>(out.reason);
}

TEST(FrameExpander, PassesOnWhateverItCannotRead) {
  Random random(7);
  for (int i = 0; i < 20'000; ++i) {
    Bytes frame = frameOf(random.chance(0.5), payloadOf(random.below(60)));
    for (uint64_t flips = random.below(4); flips > 0; --flips) frame[random.below(frame.size())] = static_cast<uint8_t>(random.next());
    frame.resize(random.below(frame.size() + 1));
    CapturedFrame cut = captured(frame);
    cut.originalLength += static_cast<uint32_t>(random.below(3));
    cut.checksumMissing = random.chance(0.5);
    cut.vlanPresent = random.chance(0.3);
    cut.segmentLength = static_cast<uint16_t>(random.below(40));
    EXPECT_GE(expand(cut).size(), 1u);
  }
}

TEST(CaptureTap, SeesNothingUntilItIsStartedAndCutsAtTheSnapLength) {
  CaptureTap tap("eth0", "test");
  const Bytes bytes = payloadOf(1'000);
  Bytes writable = bytes;
  RxFrame received;
  received.data = bytes.data();
  received.length = 1'000;
  received.checksum = RxChecksum::kPartial;
  EXPECT_FALSE(tap.active());
  tap.received({&received, 1});
  tap.start(64);
  EXPECT_TRUE(tap.active());
  tap.received({&received, 1});
  // A frame in two pieces is one.
  TxFrame sent[2];
  sent[0].data = writable.data();
  sent[0].length = 40;
  sent[0].more = true;
  sent[0].segmentLength = 9;
  sent[1].data = writable.data() + 40;
  sent[1].length = 10;
  tap.transmitted(sent);

  CapturedFrame frame;
  ASSERT_TRUE(tap.ring().peek(frame));
  EXPECT_EQ(frame.length, 64u);
  EXPECT_EQ(frame.originalLength, 1'000u);
  EXPECT_TRUE(frame.checksumMissing);
  EXPECT_FALSE(frame.outbound);
  EXPECT_EQ(Bytes(frame.data, frame.data + 64), Bytes(bytes.begin(), bytes.begin() + 64));
  tap.ring().pop();
  ASSERT_TRUE(tap.ring().peek(frame));
  EXPECT_EQ(frame.length, 50u);
  EXPECT_EQ(frame.segmentLength, 9);
  EXPECT_TRUE(frame.outbound);
  EXPECT_EQ(Bytes(frame.data, frame.data + 50), Bytes(bytes.begin(), bytes.begin() + 50));
  tap.ring().pop();
  EXPECT_FALSE(tap.ring().peek(frame));
}

TEST(CaptureTap, CountsWhatFindsNoRoomAndGoesOn) {
  CaptureTap tap("eth0", "test");
  tap.start(262'144);
  const Bytes bytes = payloadOf(60'000);
  RxFrame received;
  received.data = bytes.data();
  received.length = 60'000;
  for (int i = 0; i < 200; ++i) tap.received({&received, 1});
  EXPECT_GT(tap.ring().seen(), 100);
  EXPECT_EQ(tap.ring().seen() + tap.ring().dropped(), 200);
  EXPECT_GT(tap.ring().dropped(), 0);
  CapturedFrame frame;
  int64_t read = 0;
  while (tap.ring().peek(frame)) {
    EXPECT_EQ(frame.length, 60'000u);
    tap.ring().pop();
    ++read;
  }
  EXPECT_EQ(read, tap.ring().seen());
  tap.received({&received, 1});
  EXPECT_TRUE(tap.ring().peek(frame)) << "there is room again";
}

TEST(CaptureTap, AWriterAndAReaderOnTwoThreadsAgree) {
  CaptureTap tap("eth0", "test");
  tap.start(262'144);
  constexpr int kFrames = 50'000;
  std::thread writer([&] {
    Random random(3);
    Bytes bytes(3'000);
    for (uint32_t i = 0; i < kFrames; ++i) {
      RxFrame frame;
      frame.data = bytes.data();
      frame.length = static_cast<uint32_t>(8 + random.below(2'900));
      std::memset(bytes.data(), static_cast<int>(i & 0xFF), frame.length);
      std::memcpy(bytes.data(), &i, sizeof(i));
      tap.received({&frame, 1});
    }
  });
  int64_t read = 0;
  uint32_t next = 0;
  while (read + tap.ring().dropped() < kFrames) {
    CapturedFrame frame;
    if (!tap.ring().peek(frame)) continue;
    uint32_t number = 0;
    std::memcpy(&number, frame.data, sizeof(number));
    ASSERT_GE(number, next);
    next = number + 1;
    ASSERT_EQ(frame.data[frame.length - 1], static_cast<uint8_t>(number)) << "whole";
    tap.ring().pop();
    ++read;
  }
  writer.join();
}

class Service : public ::testing::Test {
 protected:
  void SetUp() override {
    auto started = driver::CaptureService::start(directory_.path(), 0660);
    ASSERT_TRUE(started.ok()) << started.error().message;
    service_ = started.take();
  }
  UniqueFd ask(const std::string& line) const {
    UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string path = directory_ / driver::CaptureService::kSocketName;
    std::copy(path.begin(), path.end(), address.sun_path);
    EXPECT_EQ(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
    // Who comes second may be refused, and the connection closed, before it has said a word.
    const ssize_t sent = ::send(fd.get(), line.data(), line.size(), MSG_NOSIGNAL);
    EXPECT_TRUE(sent == static_cast<ssize_t>(line.size()) || errno == EPIPE) << std::strerror(errno);
    return fd;
  }
  static std::string readLine(int fd) {
    std::string line;
    for (char c = 0; ::recv(fd, &c, 1, 0) == 1 && c != '\n';) line += c;
    return line;
  }
  static Bytes readAll(int fd) {
    Bytes all;
    uint8_t part[4096];
    for (ssize_t got = 0; (got = ::recv(fd, part, sizeof(part), 0)) > 0;) all.insert(all.end(), part, part + got);
    return all;
  }
  // Types of the blocks, whose lengths stand at both ends.
  static std::vector<uint32_t> blocks(const Bytes& file) {
    std::vector<uint32_t> types;
    for (size_t at = 0; at + 12 <= file.size();) {
      uint32_t head[2];
      std::memcpy(head, file.data() + at, sizeof(head));
      uint32_t trailer = 0;
      if (head[1] < 12 || head[1] % 4 != 0 || at + head[1] > file.size()) {
        ADD_FAILURE() << "block of " << head[1] << " bytes at " << at;
        break;
      }
      std::memcpy(&trailer, file.data() + at + head[1] - 4, sizeof(trailer));
      EXPECT_EQ(trailer, head[1]);
      types.push_back(head[0]);
      at += head[1];
    }
    return types;
  }

  test::TempDirectory directory_;
  std::unique_ptr<driver::CaptureService> service_;
};

constexpr uint32_t kSection = 0x0A0D0D0A;
constexpr uint32_t kInterface = 1;
constexpr uint32_t kStatistics = 5;
constexpr uint32_t kPacket = 6;

TEST_F(Service, HandsOutWhatIsSeenUntilItsClientHasEnough) {
  const auto tap = std::make_shared<CaptureTap>("eth0", "backend test");
  service_->show("test", {tap});
  const UniqueFd client = ask("capture snaplen=65535\n");
  ASSERT_EQ(readLine(client.get()), "ok");
  while (!tap->active()) std::this_thread::yield();
  const Bytes bytes = frameOf(false, payloadOf(100));
  RxFrame frame;
  frame.data = bytes.data();
  frame.length = static_cast<uint32_t>(bytes.size());
  tap->received({&frame, 1});
  tap->received({&frame, 1});
  ::shutdown(client.get(), SHUT_WR);
  const Bytes file = readAll(client.get());
  EXPECT_THAT(blocks(file), ::testing::ElementsAre(kSection, kInterface, kPacket, kPacket, kStatistics));
  EXPECT_FALSE(tap->active()) << "nobody looks any more";
}

TEST_F(Service, FollowsTheDriverToAnotherBackendAndEndsWhereTheKernelSees) {
  const auto first = std::make_shared<CaptureTap>("eth0", "first");
  const auto second = std::make_shared<CaptureTap>("eth1", "second");
  service_->show("first", {first});
  const UniqueFd client = ask("capture snaplen=65535\n");
  ASSERT_EQ(readLine(client.get()), "ok");
  while (!first->active()) std::this_thread::yield();
  service_->show("second", {second});
  while (!second->active()) std::this_thread::yield();
  EXPECT_FALSE(first->active());
  service_->show("mmsg", {});
  EXPECT_THAT(blocks(readAll(client.get())), ::testing::ElementsAre(kSection, kInterface, kStatistics, kInterface, kStatistics));
}

TEST_F(Service, RefusesWhatItCanNotDoWithAReason) {
  service_->show("mmsg", {});
  EXPECT_THAT(readLine(ask("capture snaplen=100\n").get()),
              ::testing::HasSubstr("error: the driver runs mmsg, whose datagrams go through the kernel: tcpdump sees them"));
  service_->show("verbs", {});
  EXPECT_THAT(readLine(ask("capture snaplen=100\n").get()),
              ::testing::AllOf(::testing::HasSubstr("error: the driver runs verbs, whose RDMA datagrams neither this command sees nor"),
                               ::testing::HasSubstr("UDP port 4791"), ::testing::Not(::testing::HasSubstr("as they are"))));
  EXPECT_THAT(readLine(ask("capture everything\n").get()), ::testing::HasSubstr("error: asked for 'capture everything', allowed is"));
  EXPECT_THAT(readLine(ask("capture snaplen=0\n").get()), ::testing::HasSubstr("allowed is"));
  const auto tap = std::make_shared<CaptureTap>("eth0", "test");
  service_->show("test", {tap});
  const UniqueFd one = ask("capture snaplen=100\n");
  ASSERT_EQ(readLine(one.get()), "ok");
  EXPECT_THAT(readLine(ask("capture snaplen=100\n").get()), ::testing::HasSubstr("another capture of this driver is running"));
}

TEST_F(Service, EndsWithAClientInTheMidstOfACapture) {
  const auto tap = std::make_shared<CaptureTap>("eth0", "test");
  service_->show("test", {tap});
  const UniqueFd client = ask("capture snaplen=100\n");
  ASSERT_EQ(readLine(client.get()), "ok");
  service_.reset();
  EXPECT_THAT(blocks(readAll(client.get())), ::testing::ElementsAre(kSection, kInterface, kStatistics));
}

}  // namespace
}  // namespace outrigger::io
