// SPDX-License-Identifier: Apache-2.0
// Client sessions, their counters, and what is left of a client that dies.
#include "cnc/doorbells.h"
#include "driver_world.h"

namespace outrigger::driver::testing {
namespace {

constexpr const char* kChannel = "aeron:udp?endpoint=10.0.0.1:4000";

class Clients : public DriverWorld {
 public:
  DriverHost& a = host();

  static std::string counterCommand(const RawClient& raw, int64_t id, int32_t type, const std::string& key, const std::string& label) {
    std::string bytes = RawClient::bytesOf(raw.id(), id, type, static_cast<int32_t>(key.size())) + key;
    bytes.resize(alignUp<size_t>(bytes.size(), 4));
    return bytes + RawClient::bytesOf(static_cast<int32_t>(label.size())) + label;
  }
};

TEST_F(Clients, TheFirstCommandMakesASessionWithAHeartbeatCounter) {
  RawClient raw(a.directory());
  raw.send(cnc::Command::kClientKeepalive, RawClient::bytesOf(raw.id(), int64_t{0}));
  ASSERT_TRUE(until([&] { return !raw.of(cnc::Response::kCounterReady).empty(); }));
  const auto ready = raw.of(cnc::Response::kCounterReady)[0].as<cnc::CounterUpdate>();
  const auto heartbeats = countersOf(a, cnc::counter_type::kClientHeartbeat);
  ASSERT_EQ(heartbeats.size(), 1U);
  EXPECT_EQ(ready.correlationId, raw.id());
  EXPECT_EQ(ready.counterId, heartbeats[0].id);
  EXPECT_EQ(heartbeats[0].registrationId, raw.id());
  EXPECT_EQ(readAt<int64_t>(heartbeats[0].key.data(), 0), raw.id());
  EXPECT_NEAR(static_cast<double>(heartbeats[0].value), static_cast<double>(clock_.epochMillis()), 100.0);
}

TEST_F(Clients, AClientThatKeepsItsHeartbeatLivesForAnyTime) {
  auto& client = connect(a);
  const auto pub = publication(client, kChannel, kStream);
  run(60 * kSecondNs, 50 * kMilliNs);
  EXPECT_FALSE(client.isDriverLost()) << client.lostReason();
  EXPECT_EQ(files(a, "publications"), 1U);
}

TEST_F(Clients, ASilentClientIsTimedOutAndEverythingItHadIsTakenBack) {
  auto& dead = connect(a);
  auto& alive = connect(a);
  const auto sub = subscription(alive, kChannel, kStream);
  ASSERT_NE(publication(dead, kChannel, kStream), nullptr);
  ASSERT_NE(subscription(dead, "aeron:ipc", kStream), nullptr);
  ASSERT_TRUE(decided(dead, dead.addCounter(5000, "key", "a counter")).succeeded());
  ASSERT_TRUE(until([&] { return sub->isConnected(); }));
  RawClient observer(a.directory());
  silence(dead);
  ASSERT_TRUE(until([&] { return !observer.of(cnc::Response::kClientTimeout).empty(); }, 12 * kSecondNs, 10 * kMilliNs));
  EXPECT_EQ(observer.of(cnc::Response::kClientTimeout)[0].as<cnc::ClientTimeout>().clientId, dead.clientId());
  EXPECT_EQ(systemCounter(a, cnc::SystemCounter::kClientTimeouts), 1);
  EXPECT_TRUE(countersOf(a, 5000).empty());
  EXPECT_EQ(countersOf(a, cnc::counter_type::kClientHeartbeat).size(), 1U);
  EXPECT_TRUE(until([&] { return files(a, "publications") == 0 && !sub->isConnected(); }, 10 * kSecondNs, 10 * kMilliNs));
  EXPECT_FALSE(alive.isDriverLost());
}

TEST_F(Clients, AClosedClientLeavesNothing) {
  auto& client = connect(a);
  ASSERT_NE(publication(client, std::string(kChannel) + "|linger=0", kStream), nullptr);
  ASSERT_NE(exclusive(client, "aeron:ipc", kStream), nullptr);
  ASSERT_NE(subscription(client, kChannel, kStream), nullptr);
  ASSERT_TRUE(decided(client, client.addCounter(5000, "key", "a counter")).succeeded());
  client.close();
  EXPECT_TRUE(until([&] { return files(a, "publications") == 0 && files(a, "images") == 0; }, 20 * kSecondNs, 10 * kMilliNs));
  for (const auto& counter : counters(a)) {
    EXPECT_TRUE(counter.typeId == cnc::counter_type::kSystem || counter.typeId >= cnc::counter_type::kOutriggerBase) << counter.label;
  }
  EXPECT_EQ(systemCounter(a, cnc::SystemCounter::kBytesCurrentlyMapped), 0);
  EXPECT_EQ(systemCounter(a, cnc::SystemCounter::kClientTimeouts), 0);
}

TEST_F(Clients, AHeartbeatFromTheFutureDoesNotMakeAClientImmortal) {
  RawClient raw(a.directory());
  raw.send(cnc::Command::kClientKeepalive, RawClient::bytesOf(raw.id(), int64_t{0}));
  ASSERT_TRUE(until([&] { return !countersOf(a, cnc::counter_type::kClientHeartbeat).empty(); }));
  for (const int64_t value : {INT64_MAX, INT64_MIN}) {
    const auto heartbeats = countersOf(a, cnc::counter_type::kClientHeartbeat);
    ASSERT_EQ(heartbeats.size(), 1U);
    storeRelease<int64_t>(raw.regions().countersValues.data + static_cast<size_t>(heartbeats[0].id) * cnc::kCounterValueLength, value);
    EXPECT_TRUE(until([&] { return countersOf(a, cnc::counter_type::kClientHeartbeat).empty(); }, 15 * kSecondNs, 10 * kMilliNs));
    raw.send(cnc::Command::kClientKeepalive, RawClient::bytesOf(raw.id(), int64_t{0}));
    ASSERT_TRUE(until([&] { return !countersOf(a, cnc::counter_type::kClientHeartbeat).empty(); }));
  }
}

TEST_F(Clients, ADeadClientsDoorbellSlotIsFree) {
  auto bells = cnc::Doorbells::open(a.directory());
  ASSERT_TRUE(bells.ok());
  RawClient raw(a.directory());
  ASSERT_GE(bells->claimSlot(raw.id()), 0);
  raw.send(cnc::Command::kClientKeepalive, RawClient::bytesOf(raw.id(), int64_t{0}));
  run(kSecondNs, 10 * kMilliNs);
  EXPECT_TRUE(bells->hasSlot(raw.id()));
  EXPECT_TRUE(until([&] { return !bells->hasSlot(raw.id()); }, 15 * kSecondNs, 10 * kMilliNs));
}

TEST_F(Clients, CountersAreAddedFoundAndRemoved) {
  RawClient raw(a.directory());
  const int64_t id = raw.nextId();
  raw.send(cnc::Command::kAddCounter, counterCommand(raw, id, 5000, "12345", "my label"));
  ASSERT_TRUE(awaitResponse(raw, id));
  const auto ready = raw.about(id, cnc::Response::kCounterReady)->as<cnc::CounterUpdate>();
  const auto found = countersOf(a, 5000);
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].id, ready.counterId);
  EXPECT_EQ(found[0].label, "my label");
  EXPECT_EQ(std::string(found[0].key.begin(), found[0].key.begin() + 5), "12345");
  EXPECT_EQ(found[0].registrationId, id);
  EXPECT_EQ(found[0].ownerId, raw.id());
  const int64_t removal = raw.remove(cnc::Command::kRemoveCounter, id);
  ASSERT_TRUE(awaitResponse(raw, removal));
  EXPECT_EQ(raw.about(removal)->type, cnc::Response::kOperationSuccess);
  const auto* gone = raw.about(id, cnc::Response::kUnavailableCounter);
  ASSERT_NE(gone, nullptr);
  EXPECT_EQ(gone->as<cnc::CounterUpdate>().counterId, ready.counterId);
  EXPECT_TRUE(countersOf(a, 5000).empty());
  const int64_t again = raw.remove(cnc::Command::kRemoveCounter, id);
  ASSERT_TRUE(awaitResponse(raw, again));
  EXPECT_EQ(raw.about(again)->as<cnc::ErrorResponse>().errorCode, static_cast<int32_t>(ErrorCode::kUnknownCounter));
}

TEST_F(Clients, KeysAndLabelsThatAreTooLongAreCut) {
  RawClient raw(a.directory());
  const int64_t id = raw.nextId();
  raw.send(cnc::Command::kAddCounter, counterCommand(raw, id, 5000, std::string(500, 'k'), std::string(1000, 'l')));
  ASSERT_TRUE(awaitResponse(raw, id));
  const auto found = countersOf(a, 5000);
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].label, std::string(cnc::kMaxCounterLabelLength, 'l'));
}

TEST_F(Clients, AStaticCounterOutlivesItsClientAndIsFoundAgain) {
  const auto command = [&](RawClient& raw, int64_t id, int64_t registrationId) {
    std::string bytes = RawClient::bytesOf(raw.id(), id, registrationId, int32_t{6000}, int32_t{4}) + "key4";
    return bytes + RawClient::bytesOf(int32_t{6}) + "static";
  };
  RawClient first(a.directory());
  const int64_t id = first.nextId();
  first.send(cnc::Command::kAddStaticCounter, command(first, id, 42));
  ASSERT_TRUE(awaitResponse(first, id));
  const int32_t counterId = first.about(id, cnc::Response::kStaticCounter)->as<cnc::CounterUpdate>().counterId;
  first.send(cnc::Command::kClientClose, RawClient::bytesOf(first.id(), first.nextId()));
  ASSERT_TRUE(until([&] { return countersOf(a, cnc::counter_type::kClientHeartbeat).empty(); }));
  RawClient second(a.directory());
  const int64_t again = second.nextId();
  second.send(cnc::Command::kAddStaticCounter, command(second, again, 42));
  ASSERT_TRUE(awaitResponse(second, again));
  EXPECT_EQ(second.about(again, cnc::Response::kStaticCounter)->as<cnc::CounterUpdate>().counterId, counterId);
  EXPECT_EQ(countersOf(a, 6000)[0].ownerId, -1);
}

TEST_F(Clients, WhenNoCounterIsLeftCommandsFailAndStreamsThatRunGoOn) {
  DriverConfig config = smallConfig();
  config.cncSizes.countersValuesLength = 96 * static_cast<int32_t>(cnc::kCounterValueLength);
  DriverHost& small = host("10.0.0.7", config);
  const std::string channel = "aeron:udp?endpoint=10.0.0.7:4000";
  auto& client = connect(small);
  const auto sub = subscription(client, channel, kStream);
  const auto pub = publication(client, channel, kStream);
  ASSERT_TRUE(until([&] { return pub->isConnected() && sub->isConnected(); }));
  client::CommandStatus status;
  for (int i = 0; i < 200 && !status.done(); ++i) {
    const auto each = decided(client, client.addCounter(5000, "", "filler"));
    if (!each.succeeded()) status = each;
  }
  EXPECT_EQ(status.error.code, ErrorCode::kResourceTemporarilyUnavailable);
  EXPECT_EQ(decided(client, client.addExclusivePublication(channel, kStream)).error.code, ErrorCode::kResourceTemporarilyUnavailable);
  EXPECT_EQ(decided(client, client.addPublication("aeron:ipc", kStream)).error.code, ErrorCode::kResourceTemporarilyUnavailable);
  RawClient stranger(small.directory());
  const int64_t id = stranger.add(cnc::Command::kAddSubscription, "aeron:ipc", kStream);
  ASSERT_TRUE(awaitResponse(stranger, id));
  EXPECT_EQ(stranger.about(id)->type, cnc::Response::kError);
  EXPECT_TRUE(until([&] { return files(small, "publications") == 1; })) << "only the one that runs";
  ASSERT_GT(offerWithin(*this, *pub, "still"), 0);
  EXPECT_TRUE(until([&] { return sub->poll([](const uint8_t*, int32_t, const client::FragmentHeader&) {}, 10) == 1; }));
}

TEST_F(Clients, TheHeartbeatOfTheDriverIsKeptWithoutCommands) {
  RawClient raw(a.directory());
  run(5 * kSecondNs, 100 * kMilliNs);
  EXPECT_LE(clock_.epochMillis() - raw.ring().consumerHeartbeatMs(), 1200);
}

TEST_F(Clients, TerminationIsRefusedUnlessAllowed) {
  auto& client = connect(a);
  client.terminateDriver("token");
  run(10 * kMilliNs);
  EXPECT_FALSE(a.driver().terminationRequested());
  EXPECT_EQ(errors(a).size(), 1U);
  DriverConfig config = smallConfig();
  config.terminationAllowed = true;
  DriverHost& obedient = host("10.0.0.8", config);
  connect(obedient).terminateDriver("token");
  EXPECT_TRUE(until([&] { return obedient.driver().terminationRequested(); }));
}

TEST_F(Clients, ADriverThatCloses_TakesEverythingBackFirst) {
  auto& client = connect(a);
  const auto sub = subscription(client, kChannel, kStream);
  const auto pub = publication(client, kChannel, kStream);
  ASSERT_NE(exclusive(client, "aeron:ipc", kStream), nullptr);
  ASSERT_TRUE(until([&] { return pub->isConnected() && sub->isConnected(); }));
  a.stop();
  run(kSecondNs, 100 * kMilliNs);
  EXPECT_TRUE(client.isDriverLost());
  EXPECT_FALSE(std::filesystem::exists(a.directory() + "/cnc.dat"));
}

}  // namespace
}  // namespace outrigger::driver::testing
