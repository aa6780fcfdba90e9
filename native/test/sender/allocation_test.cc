// SPDX-License-Identifier: Apache-2.0
// A sender that carries a stream allocates nothing: data, status messages, NAKs and heartbeats. Counts every operator new of this program.
#include <array>

#include "counted_allocation.h"
#include "sender_world.h"

namespace outrigger::driver::testing {
namespace {

// A network that takes everything and keeps nothing; `packet` is what the next poll delivers.
class QuietIo final : public io::DatagramIo {
 public:
  io::Caps capabilities{"quiet", true, true, 65507, 64, ""};
  std::array<uint8_t, 64> packet{};
  uint32_t packetLength = 0;
  io::Endpoint* endpoint = nullptr;
  io::SockAddr source = address(kReceiverPort);
  int64_t bytes = 0;

  const io::Caps& caps() const override { return capabilities; }
  Result<std::unique_ptr<io::Endpoint>> openEndpoint(const io::EndpointConfig&) override {
    return std::unique_ptr<io::Endpoint>(std::make_unique<FakeEndpoint>());
  }
  Result<std::unique_ptr<io::NextHop>> resolve(io::Endpoint&, const io::SockAddr& to) override {
    return std::unique_ptr<io::NextHop>(std::make_unique<FakeNextHop>(to));
  }
  void attach(io::Endpoint&) override {}
  void detach(io::Endpoint&) override {}
  uint32_t poll(io::RxBurst& burst, int64_t) override {
    burst.count = 0;
    if (packetLength == 0) return 0;
    burst.packets[burst.count++] = {packet.data(), packetLength, packetLength, endpoint, &source, nullptr};
    packetLength = 0;
    return 1;
  }
  uint32_t transmit(io::Endpoint&, std::span<io::TxItem> items) override {
    for (io::TxItem& item : items) {
      item.status = io::TxStatus::kSent;
      item.sentBytes = item.length;
      bytes += item.length;
    }
    return static_cast<uint32_t>(items.size());
  }
  io::TxStatus reserve(io::Endpoint&, const io::SockAddr&, uint32_t length, io::TxSlot& slot) override {
    slot = {slot_.data(), length, 0};
    return io::TxStatus::kPending;
  }
  io::TxStatus commit(io::Endpoint&, const io::SockAddr&, io::TxSlot&, uint32_t) override { return io::TxStatus::kSent; }
  void abort(io::Endpoint&, io::TxSlot&) override {}
  int waitHandle() const override { return -1; }
  bool arm() override { return true; }

  template <typename Frame>
  void deliver(const Frame& frame) {
    static_assert(sizeof(Frame) <= 64);
    std::memcpy(packet.data(), &frame, sizeof(Frame));
    packetLength = sizeof(Frame);
  }

 private:
  std::array<uint8_t, 2048> slot_{};
};

TEST(SenderAllocation, AStreamThatIsOpenCostsNone) {
  World world;
  QuietIo quiet;
  Sender sender(quiet, world.config, world.counters, world.commands, world.events, world.doorbells, world.clock);
  SendChannelEndpoint& endpoint = world.unicast();
  endpoint.channel.timestamps.channelSend = net::TimestampOffsets::kReservedValue;
  quiet.endpoint = endpoint.socket.get();
  Stream& stream = world.publish(endpoint);
  int64_t now = kSecondNs;
  sender.doWork(now);
  quiet.deliver(World::makeStatusMessage(stream, 0, kTermLength / 2, 1, 0));
  for (int32_t i = 0; i < 3; ++i) sender.doWork(++now);
  ASSERT_TRUE(stream.publication->isConnected());

  const int64_t before = outrigger::testing::allocations.load();
  while (stream.producer < 6 * int64_t{kTermLength}) {
    stream.append(288, 20);
    for (int32_t i = 0; i < 3; ++i) sender.doWork(now += kMilliNs);
    const int64_t position = stream.publication->senderPosition();
    quiet.deliver(World::makeStatusMessage(stream, position, kTermLength / 2, 1, 0));
    sender.doWork(now += kMilliNs);
    wire::NakFrame nak{};
    nak.header = {static_cast<int32_t>(sizeof(nak)), 0, 0, static_cast<uint16_t>(wire::FrameType::kNak)};
    nak.sessionId = kSession;
    nak.streamId = kStream;
    nak.termId = logbuffer::termIdFromPosition(position - 320, stream.log().bits(), kInitialTermId);
    nak.termOffset = logbuffer::termOffsetFromPosition(position - 320, kTermLength);
    nak.length = 320;
    quiet.deliver(nak);
    sender.doWork(now += 200 * kMilliNs);
    sender.doWork(now += kMilliNs);
  }
  EXPECT_EQ(outrigger::testing::allocations.load() - before, 0);
  EXPECT_EQ(stream.publication->senderPosition(), stream.producer);
  EXPECT_GT(world.count(cnc::SystemCounter::kRetransmitsSent), 0);
  EXPECT_GT(world.count(cnc::SystemCounter::kHeartbeatsSent), 0);
  EXPECT_GT(quiet.bytes, 6 * int64_t{kTermLength});
}

}  // namespace
}  // namespace outrigger::driver::testing
