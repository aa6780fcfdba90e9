// SPDX-License-Identifier: Apache-2.0
// Commands that no honest client sends: each is refused, answered where it can be, counted, and costs nobody else anything.
#include "driver_world.h"

namespace outrigger::driver::testing {
namespace {

constexpr const char* kHostileChannel = "aeron:udp?endpoint=10.0.0.1:4000";

class Hostile : public DriverWorld {
 public:
  DriverHost& a = host();
  client::MediaClient& honest = connect(a);
  std::shared_ptr<client::Subscription> sub = subscription(honest, kHostileChannel, kStream);
  std::shared_ptr<client::Publication> pub = publication(honest, kHostileChannel, kStream);

  void expectHonestUnharmed() {
    ASSERT_TRUE(until([&] { return pub->isConnected() && sub->isConnected(); }));
    ASSERT_GT(offerWithin(*this, *pub, "unharmed"), 0);
    size_t got = 0;
    EXPECT_TRUE(until([&] {
      got += static_cast<size_t>(sub->poll([](const uint8_t*, int32_t, const client::FragmentHeader&) {}, 10));
      return got == 1;
    }));
    EXPECT_FALSE(honest.isDriverLost());
  }
  int64_t rejected() const { return ownCounter(a, cnc::OutriggerCounter::kCommandsRejected); }
};

TEST_F(Hostile, EveryCommandCutShortIsMalformedAndAnsweredWhereItsIdIsReadable) {
  RawClient raw(a.directory());
  int64_t expected = 0;
  for (int32_t type = 1; type <= 0x12; ++type) {
    const auto command = static_cast<cnc::Command>(type);
    if (command == cnc::Command::kClientKeepalive || command == cnc::Command::kClientClose) continue;  // nothing follows the ids
    for (const size_t length : {size_t{0}, size_t{8}, size_t{15}, size_t{16}, size_t{18}}) {
      const int64_t id = raw.nextId();
      std::string bytes = RawClient::bytesOf(raw.id(), id) + std::string(8, '\1');
      bytes.resize(length);
      const int64_t before = rejected();
      ASSERT_TRUE(raw.send(type, bytes));
      ASSERT_TRUE(until([&] { return rejected() > before; })) << "type " << type << " length " << length;
      ++expected;
      const auto* answer = raw.about(id, cnc::Response::kError);
      ASSERT_EQ(answer != nullptr, length >= 16) << "type " << type << " length " << length;
      if (answer != nullptr) {
        EXPECT_EQ(answer->as<cnc::ErrorResponse>().errorCode, static_cast<int32_t>(ErrorCode::kMalformedCommand));
      }
    }
  }
  EXPECT_EQ(rejected(), expected);
  expectHonestUnharmed();
}

TEST_F(Hostile, UnknownTypesAreAnsweredAsSuch) {
  RawClient raw(a.directory());
  for (const int32_t type : {0x13, 0x7F, 0x0F01, INT32_MAX}) {
    const int64_t id = raw.nextId();
    ASSERT_TRUE(raw.send(type, RawClient::bytesOf(raw.id(), id)));
    ASSERT_TRUE(awaitResponse(raw, id));
    EXPECT_EQ(raw.about(id)->as<cnc::ErrorResponse>().errorCode, static_cast<int32_t>(ErrorCode::kUnknownCommandTypeId));
  }
  expectHonestUnharmed();
}

TEST_F(Hostile, LengthsThatPointOutsideAreMalformed) {
  RawClient raw(a.directory());
  for (const int32_t length : {-1, INT32_MIN, INT32_MAX, 100, 5000}) {
    const int64_t pubId = raw.nextId();
    raw.send(cnc::Command::kAddPublication, RawClient::bytesOf(raw.id(), pubId, kStream, length) + "aeron:ipc");
    const int64_t subId = raw.nextId();
    raw.send(cnc::Command::kAddSubscription, RawClient::bytesOf(raw.id(), subId, int64_t{-1}, kStream, length) + "aeron:ipc");
    const int64_t keyId = raw.nextId();
    raw.send(cnc::Command::kAddCounter, RawClient::bytesOf(raw.id(), keyId, int32_t{1}, length) + "key!");
    const int64_t labelId = raw.nextId();
    raw.send(cnc::Command::kAddCounter,
             RawClient::bytesOf(raw.id(), labelId, int32_t{1}, int32_t{3}) + "key!" + RawClient::bytesOf(length) + "label");
    const int64_t reasonId = raw.nextId();
    raw.send(cnc::Command::kRejectImage, RawClient::bytesOf(raw.id(), reasonId, int64_t{1}, int64_t{0}, length) + "x");
    const int64_t tokenId = raw.nextId();
    raw.send(cnc::Command::kTerminateDriver, RawClient::bytesOf(raw.id(), tokenId, length) + "x");
    const int64_t destinationId = raw.destination(cnc::Command::kAddDestination, 1, "");
    ASSERT_TRUE(awaitResponse(raw, destinationId));
    for (const int64_t id : {pubId, subId, keyId, labelId, reasonId, tokenId}) {
      const auto* answer = raw.about(id, cnc::Response::kError);
      ASSERT_NE(answer, nullptr) << length;
      EXPECT_EQ(answer->as<cnc::ErrorResponse>().errorCode, static_cast<int32_t>(ErrorCode::kMalformedCommand)) << length;
    }
  }
  expectHonestUnharmed();
}

TEST_F(Hostile, AChannelOverTheMaximumIsMalformed) {
  RawClient raw(a.directory());
  const int64_t id = raw.add(cnc::Command::kAddPublication, "aeron:udp?endpoint=10.0.0.1:4000|alias=" + std::string(5000, 'x'), kStream);
  ASSERT_TRUE(awaitResponse(raw, id));
  EXPECT_EQ(raw.about(id)->as<cnc::ErrorResponse>().errorCode, static_cast<int32_t>(ErrorCode::kMalformedCommand));
}

TEST_F(Hostile, ACorrelationIdInUseIsRefusedAndHarmsNobody) {
  RawClient raw(a.directory());
  for (const int64_t taken : {pub->registrationId(), sub->registrationId()}) {
    const size_t before = raw.of(cnc::Response::kError).size();
    const std::string channel = "aeron:ipc";
    raw.send(cnc::Command::kAddPublication, RawClient::bytesOf(raw.id(), taken, kStream, static_cast<int32_t>(channel.size())) + channel);
    raw.send(cnc::Command::kAddSubscription,
             RawClient::bytesOf(raw.id(), taken, int64_t{-1}, kStream, static_cast<int32_t>(channel.size())) + channel);
    ASSERT_TRUE(until([&] { return raw.of(cnc::Response::kError).size() == before + 2; }));
  }
  expectHonestUnharmed();
}

TEST_F(Hostile, SeededGarbageNeverStopsTheDriver) {
  RawClient raw(a.directory());
  Random random(99);
  for (int i = 0; i < 5000; ++i) {
    std::string bytes(random.below(200), '\0');
    for (char& byte : bytes) byte = static_cast<char>(random.next());
    if (bytes.size() >= 16 && random.chance(0.8)) bytes.replace(0, 16, RawClient::bytesOf(raw.id(), raw.nextId()));
    // Plausible lengths reach deeper.
    if (bytes.size() >= 24 && random.chance(0.5)) bytes.replace(20, 4, RawClient::bytesOf(static_cast<int32_t>(bytes.size() - 24)));
    const auto type = static_cast<int32_t>(1 + random.below(0x13));
    if (type == static_cast<int32_t>(cnc::Command::kClientClose)) continue;
    raw.send(type, bytes);
    if (i % 16 == 0) step(kMicroNs);
  }
  expectHonestUnharmed();
}

TEST_F(Hostile, MutatedAddsNeverStopTheDriver) {
  RawClient raw(a.directory());
  Random random(7);
  const std::string seeds[] = {"aeron:udp?endpoint=10.0.0.1:4000|term-length=64k|mtu=1408|session-id=5",
                               "aeron:udp?control=10.0.0.1:5000|control-mode=dynamic|fc=min,g:/2,t:5s", "aeron:ipc?term-length=64k",
                               "aeron-spy:aeron:udp?endpoint=10.0.0.1:4000", "aeron:udp?control-mode=manual|tags=4,5"};
  for (int i = 0; i < 2000; ++i) {
    std::string channel = seeds[random.below(std::size(seeds))];
    for (uint64_t change = 0; change < random.below(4); ++change) channel[random.below(channel.size())] = static_cast<char>(random.next());
    const auto command = random.chance(0.5)   ? cnc::Command::kAddSubscription
                         : random.chance(0.5) ? cnc::Command::kAddPublication
                                              : cnc::Command::kAddExclusivePublication;
    const int64_t id = raw.add(command, channel, kStream + static_cast<int32_t>(random.below(3)));
    if (random.chance(0.9)) {
      raw.remove(command == cnc::Command::kAddSubscription ? cnc::Command::kRemoveSubscription : cnc::Command::kRemovePublication, id);
    }
    if (i % 8 == 0) step();
  }
  raw.send(cnc::Command::kClientClose, RawClient::bytesOf(raw.id(), raw.nextId()));
  expectHonestUnharmed();
  EXPECT_TRUE(until([&] { return files(a, "publications") == 1; }, 20 * kSecondNs, 10 * kMilliNs)) << files(a, "publications");
}

TEST_F(Hostile, ADeadClientsClaimInTheRingIsUnblocked) {
  RawClient raw(a.directory());
  // Claims room by moving the tail, then dies: what a client does between its two writes.
  uint8_t* tail = raw.regions().toDriver.data + raw.ring().capacity() + 128;
  fetchAdd<int64_t>(tail, 64);
  const int64_t id = raw.add(cnc::Command::kAddSubscription, "aeron:ipc", kStream);
  run(2 * kSecondNs, 10 * kMilliNs);
  EXPECT_EQ(raw.about(id), nullptr);
  EXPECT_TRUE(until([&] { return raw.about(id, cnc::Response::kSubscriptionReady) != nullptr; }, 20 * kSecondNs, 10 * kMilliNs));
  EXPECT_EQ(systemCounter(a, cnc::SystemCounter::kUnblockedCommands), 1);
  EXPECT_FALSE(honest.isDriverLost());
}

TEST_F(Hostile, AScribbledRingRecovers) {
  RawClient raw(a.directory());
  uint8_t* base = raw.regions().toDriver.data;
  const int64_t capacity = raw.ring().capacity();
  Random random(3);
  for (int round = 0; round < 20; ++round) {
    const int64_t head = raw.ring().consumerPosition();
    // A record of impossible length at the head, and a tail that makes it visible.
    writeAt<int32_t>(base + (head & (capacity - 1)), 4, 3);
    storeRelease<int32_t>(base + (head & (capacity - 1)), static_cast<int32_t>(random.below(INT32_MAX)) | 1 << 29);
    fetchAdd<int64_t>(base + capacity + 128, 64);
    const int64_t before = rejected();
    ASSERT_TRUE(until([&] { return rejected() > before; }));
    step();
  }
  // Even a tail that lies.
  storeRelease<int64_t>(base + capacity + 128, int64_t{0x1234567800});
  writeAt<int32_t>(base + (raw.ring().consumerPosition() & (capacity - 1)), 4, 3);
  storeRelease<int32_t>(base + (raw.ring().consumerPosition() & (capacity - 1)), INT32_MAX);
  run(10 * kMilliNs);
  const int64_t id = raw.add(cnc::Command::kAddSubscription, "aeron:ipc", kStream);
  EXPECT_TRUE(until([&] { return raw.about(id, cnc::Response::kSubscriptionReady) != nullptr; }));
  expectHonestUnharmed();
}

}  // namespace
}  // namespace outrigger::driver::testing
