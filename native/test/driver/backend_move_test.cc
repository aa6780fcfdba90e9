// SPDX-License-Identifier: Apache-2.0
// Streams that outlive the backend they run on: what a driver does when its device goes, comes back, or lacks an address. The backends are
// mortal ones around mmsg, or real ones that a test breaks; devices are pulled in test/backends.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "cnc/error_log.h"
#include "driver_world.h"
#include "io/backend.h"
#include "io/rdma_fabric.h"
#include "io/verbs/verbs_io.h"
#include "mortal_io.h"

namespace outrigger::test {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using State = io::Health::State;

class BackendMove : public ::testing::TestWithParam<ThreadingMode> {
 protected:
  // "first" and "second" are mortal, "last" is an ordinary one.
  static driver::MediaDriverParts parts(const std::shared_ptr<Fates>& fates, bool oneThread = false) {
    driver::MediaDriverParts made;
    made.openBackend = [fates, oneThread](const std::string& name) -> Result<io::IoPair> {
      if (name == "last") return io::openPair("socket", {});
      auto pair = openMortal(name, fates, [] { return io::makeBackend("mmsg", {}); });
      if (pair && oneThread && name == "first") {
        pair->sameThread = true;
        pair->reason = "it has one queue";
      }
      return pair;
    };
    return made;
  }
  static DriverConfig config(ThreadingMode mode, std::vector<std::string> backends = {"first", "second", "last"}) {
    DriverConfig made = DriverWorld::smallConfig(mode, "");
    made.backends = std::move(backends);
    return made;
  }

  struct Stream {
    std::shared_ptr<ExclusivePublication> publication;
    std::shared_ptr<Subscription> subscription;
    MessageCheck check;
    std::vector<uint8_t> message;
    uint64_t sent = 0;
    std::shared_ptr<int> unavailable = std::make_shared<int>(0);
  };

  static Stream stream(DriverWorld& world, MediaClient& client, const std::string& publicationChannel, const std::string& channel,
                       int32_t streamId, bool manual = false) {
    Stream made;
    made.subscription = world.addSubscription(client, channel, streamId, {}, [count = made.unavailable](auto&, const auto&) { ++*count; });
    made.publication = world.addExclusive(client, publicationChannel, streamId);
    if (manual) {
      EXPECT_TRUE(world.await(client, client.addDestination(*made.publication, channel)).succeeded());
    }
    return made;
  }

  static void close(MediaClient& client, const Stream& stream) {
    client.closeSubscription(stream.subscription);
    client.closePublication(stream.publication);
  }

  static void read(Stream& stream) {
    stream.subscription->pollMessages([&](const uint8_t* data, int32_t length, const auto&) { stream.check.onMessage(data, length); }, 64);
  }

  // Offers and reads on every stream; each message arrives once and in order.
  static void pump(std::vector<Stream>& streams) {
    for (Stream& each : streams) {
      for (int burst = 0; burst < 8; ++burst) {
        makeMessage(each.message, each.sent, static_cast<int32_t>(kMessageHeader + (each.sent * 37) % 1000));
        if (each.publication->offer(each.message.data(), static_cast<int32_t>(each.message.size())) < 0) break;
        ++each.sent;
      }
      read(each);
      ASSERT_EQ(each.check.error, "");
    }
  }
  static void exchange(DriverWorld& world, std::vector<Stream>& streams, uint64_t count) {
    std::vector<uint64_t> ends;
    for (const Stream& each : streams) ends.push_back(each.check.next + count);
    world.until(
        [&] {
          pump(streams);
          for (size_t i = 0; i < streams.size(); ++i) {
            if (streams[i].check.next < ends[i] && !HasFatalFailure()) return false;
          }
          return true;
        },
        "messages on every stream");
  }

  std::vector<Stream> streamsOfBothFamilies(DriverWorld& world, MediaClient& client) {
    std::vector<Stream> streams;
    for (const char* host : {"127.0.0.1", "[::1]"}) {
      const std::string channel = std::string("aeron:udp?endpoint=") + host + ":" + std::to_string(freePort());
      streams.push_back(stream(world, client, channel, channel, 1));
    }
    return streams;
  }
  static void awaitBackend(DriverWorld& world, MediaClient& client, std::vector<Stream>& streams, const std::string& name) {
    world.until(
        [&] {
          pump(streams);
          return HasFatalFailure() || backendLabel(client).starts_with("outrigger: backend=" + name);
        },
        "the next backend");
  }
  static void expectNothingLost(const std::vector<Stream>& streams) {
    for (const Stream& each : streams) {
      EXPECT_EQ(*each.unavailable, 0) << "no session was lost";
      EXPECT_EQ(each.check.received, each.check.next);
    }
  }
  static std::string backendLabel(MediaClient& client) {
    std::string label;
    for (const auto& each : cnc::readCounters(client.memory().regions())) {
      if (each.typeId == cnc::counter_type::kOutriggerBackendInfo) label += each.label;
    }
    return label;
  }
  static std::vector<std::string> errors(MediaClient& client) {
    std::vector<std::string> texts;
    for (const auto& each : cnc::ErrorLog::read(client.memory().regions().errorLog)) texts.push_back(each.text);
    return texts;
  }
  static std::string note(DriverWorld& world) {
    std::stringstream text;
    text << std::ifstream(world.directory() + "/backend.json").rdbuf();
    return text.str();
  }
};

TEST_P(BackendMove, StreamsOfEveryKindGoOnWhenTheirBackendIsLost) {
  const auto fates = std::make_shared<Fates>();
  DriverWorld world(config(GetParam()), parts(fates));
  MediaClient& client = world.addClient();
  const auto port = [] { return std::to_string(freePort()); };
  const std::string unicast = "aeron:udp?endpoint=127.0.0.1:" + port();
  const std::string six = "aeron:udp?endpoint=[::1]:" + port();
  const std::string control = "127.0.0.1:" + port();
  const std::string manual = "aeron:udp?endpoint=127.0.0.1:" + port();
  std::vector<Stream> streams;
  streams.push_back(stream(world, client, unicast, unicast, 1));
  streams.push_back(stream(world, client, unicast, unicast, 2));
  streams.push_back(stream(world, client, six, six, 3));
  streams.push_back(stream(world, client, "aeron:udp?control-mode=dynamic|control=" + control,
                           "aeron:udp?control-mode=dynamic|control=" + control + "|endpoint=127.0.0.1:" + port(), 4));
  streams.push_back(stream(world, client, "aeron:udp?control-mode=manual", manual, 5, true));
  exchange(world, streams, 500);
  EXPECT_THAT(backendLabel(client), HasSubstr(R"(backend=first mode="mortal" interface="first")"));

  // Lost twice, each time in the midst of traffic: to the next one, and then to one that is never lost.
  for (const char* name : {"first", "second"}) {
    fates->set(name, State::kGone);
    const std::string next = name == std::string("first") ? "second" : "last";
    awaitBackend(world, client, streams, next);
    exchange(world, streams, 500);
  }
  expectNothingLost(streams);
  EXPECT_EQ(world.counter(cnc::OutriggerCounter::kBackendChanges), 2);
  EXPECT_THAT(
      backendLabel(client),
      HasSubstr(R"(backend=last mode="kernel" not better because: first: first has no device; second: lost: second was taken away)"))
      << "why they can't be had now";
  EXPECT_THAT(errors(client),
              AllOf(Contains(HasSubstr("network backend first is lost (first was taken away): all streams go on with second")),
                    Contains(HasSubstr("network backend second is lost (second was taken away): all streams go on with last"))));
  EXPECT_THAT(world.driver().takeEvents(), Contains("network backend changed from first to second: first was taken away"));
  EXPECT_THAT(note(world), AllOf(HasSubstr("\"backend\":\"last\""), HasSubstr("\"from\":\"first\",\"to\":\"second\"")));

  // What is opened afterwards is opened there.
  std::vector<Stream> later;
  const std::string channel = "aeron:udp?endpoint=127.0.0.1:" + port();
  later.push_back(stream(world, client, channel, channel, 6));
  exchange(world, later, 100);
}

// Puts another file under the number of each ring of this process: what the kernel answers from then on, it answers to any ring that is no more.
int breakRings() {
  const UniqueFd other(::open("/dev/null", O_RDWR | O_CLOEXEC));
  int broken = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    if (std::filesystem::read_symlink(entry.path(), gone).string() != "anon_inode:[io_uring]") continue;
    // Not by dup3(3): ThreadSanitizer would take it for our own use of a descriptor that another thread closes, as the fault is meant to be.
    if (::syscall(SYS_dup3, other.get(), std::stoi(entry.path().filename()), O_CLOEXEC) >= 0) ++broken;
  }
  return broken;
}

TEST_P(BackendMove, ARingThatBreaksInTheMidstOfTrafficLosesNoMessage) {
  if (!io::makeBackend("uring", {})) GTEST_SKIP() << "io_uring can't be had here";
  DriverWorld world(config(GetParam(), {"uring", "mmsg"}));
  MediaClient& client = world.addClient();
  std::vector<Stream> streams = streamsOfBothFamilies(world, client);
  exchange(world, streams, 500);
  EXPECT_THAT(backendLabel(client), HasSubstr("backend=uring"));
  EXPECT_EQ(breakRings(), 4) << "one to receive and one to send, of the sender and of the receiver";
  awaitBackend(world, client, streams, "mmsg");
  exchange(world, streams, 500);
  expectNothingLost(streams);
  EXPECT_THAT(errors(client), Contains(HasSubstr("network backend uring is lost (its ring is broken: io_uring_enter: ")));
}

// Verbs over a fabric in memory.
struct Rdma {
  io::testing::Fabric fabric;
  io::testing::FabricQueue* receiving = nullptr;  // the receiver's, as long as the backend is open

  Result<io::IoPair> open() {
    const auto port = std::make_shared<io::testing::FabricPort>(fabric, std::vector<std::string>{"127.0.0.1", "::1"});
    auto directory = io::verbs::PeerDirectory::create(port);
    if (!directory) return directory.error();
    auto sender = io::verbs::VerbsIo::create(*directory, {});
    if (!sender) return sender.error();
    auto receiver = io::verbs::VerbsIo::create(*directory, {});
    if (!receiver) return receiver.error();
    receiving = port->lastQueue;
    io::IoPair pair;
    pair.sender = sender.take();
    pair.receiver = receiver.take();
    return pair;
  }
  int handles() {
    const std::lock_guard lock(fabric.mutex);
    return fabric.handlesMade;
  }
};

TEST_P(BackendMove, AQueuePairThatBreaksInTheMidstOfTrafficLosesNoMessage) {
  const auto rdma = std::make_shared<Rdma>();
  driver::MediaDriverParts made;
  made.openBackend = [rdma](const std::string& name) { return name == "verbs" ? rdma->open() : io::openPair(name, {}); };
  DriverWorld world(config(GetParam(), {"verbs", "mmsg"}), made);
  MediaClient& client = world.addClient();
  std::vector<Stream> streams = streamsOfBothFamilies(world, client);
  exchange(world, streams, 500);
  EXPECT_THAT(backendLabel(client), HasSubstr("backend=verbs"));
  // A machine that stood still for a moment sent the first ones through the kernel.
  world.until(
      [&] {
        pump(streams);
        return HasFatalFailure() || rdma->handles() >= 2;
      },
      "one peer of each family to go by RDMA");
  exchange(world, streams, 500);
  ASSERT_NE(rdma->receiving, nullptr);
  rdma->receiving->breakDown("cannot post receive buffers", EIO);
  awaitBackend(world, client, streams, "mmsg");
  exchange(world, streams, 500);
  expectNothingLost(streams);
  EXPECT_THAT(errors(client), Contains(HasSubstr("network backend verbs is lost (its queue pair on fabric0 is broken: cannot post receive "
                                                 "buffers: Input/output error): all streams go on with mmsg")));
}

TEST_P(BackendMove, AddsAndRemovesInTheMidstOfAMoveAreServed) {
  const auto fates = std::make_shared<Fates>();
  DriverConfig roomy = config(GetParam());
  roomy.cncSizes.countersValuesLength *= 16;  // closed streams linger, and each holds counters
  DriverWorld world(roomy, parts(fates));
  MediaClient& client = world.addClient();
  for (int round = 0; round < 3; ++round) {
    const std::string a = "aeron:udp?endpoint=127.0.0.1:" + std::to_string(freePort());
    const std::string b = "aeron:udp?endpoint=127.0.0.1:" + std::to_string(freePort());
    std::vector<Stream> streams;
    streams.push_back(stream(world, client, a, a, 1));
    exchange(world, streams, 50);
    fates->set(round % 2 == 0 ? "first" : "second", State::kGone);
    fates->set(round % 2 == 0 ? "second" : "first", State::kOk);
    const int64_t changes = world.counter(cnc::OutriggerCounter::kBackendChanges);
    // Some of this comes before the loss is noticed, some while streams move, some after.
    std::vector<Stream> kept;
    while (world.counter(cnc::OutriggerCounter::kBackendChanges) == changes && !HasFailure()) {
      for (const Stream& each : kept) close(client, each);
      kept.clear();
      kept.push_back(stream(world, client, b, b, 2));
    }
    exchange(world, kept, 50);
    exchange(world, streams, 50);
    close(client, kept[0]);
    close(client, streams[0]);
  }
}

TEST_P(BackendMove, ALinkThatIsDownForAMomentMovesNothing) {
  const auto fates = std::make_shared<Fates>();
  DriverWorld world(config(GetParam()), parts(fates));
  MediaClient& client = world.addClient();
  const std::string channel = "aeron:udp?endpoint=127.0.0.1:" + std::to_string(freePort());
  std::vector<Stream> streams;
  streams.push_back(stream(world, client, channel, channel, 1));
  exchange(world, streams, 50);
  fates->set("first", State::kDown);
  world.stepFor(150 * driver::kMilliNs);
  fates->set("first", State::kOk);
  exchange(world, streams, 50);
  EXPECT_EQ(world.counter(cnc::OutriggerCounter::kBackendChanges), 0);
  fates->set("first", State::kDown);
  exchange(world, streams, 50);
  // What was on its way may have arrived before the loss counts as one.
  for (int i = 0; i < 1000 && world.counter(cnc::OutriggerCounter::kBackendChanges) == 0; ++i) world.stepFor(10 * driver::kMilliNs);
  EXPECT_EQ(world.counter(cnc::OutriggerCounter::kBackendChanges), 1) << "one that stays down is lost";
  exchange(world, streams, 50);
  EXPECT_EQ(*streams[0].unavailable, 0);
}

TEST_P(BackendMove, WhatTheRunningBackendSaysOfItselfIsTold) {
  const auto fates = std::make_shared<Fates>();
  fates->say("first", "1500", "");
  DriverWorld world(config(GetParam()), parts(fates));
  MediaClient& client = world.addClient();
  EXPECT_THAT(note(world), HasSubstr("\"mtu\":\"1500\""));
  for (const char* setting : {"ADDRESSES", "GATEWAYS", "INTERFACE", "MTU"}) {
    EXPECT_THAT(note(world), HasSubstr(std::string("\"OUTRIGGER_DPDK_") + setting)) << "`explain` probes with the driver's own";
  }
  const auto becomes = [&](const std::string& text) {
    world.until([&] { return note(world).find(text) != std::string::npos; }, ("the note to say " + text).c_str());
  };
  fates->say("first", "1300", "");
  becomes("\"mtu\":\"1300\"");
  EXPECT_THAT(world.driver().takeEvents(), ::testing::Not(Contains(HasSubstr("first")))) << "an MTU is no event";
  fates->say("first", "1300", "its helper is away");
  becomes("\"reason\":\"its helper is away\"");
  EXPECT_THAT(world.driver().takeEvents(), Contains("network backend first: its helper is away"));
  fates->say("first", "1300", "");
  becomes("\"reason\":\"\"");
  EXPECT_THAT(world.driver().takeEvents(), Contains("network backend first: all is as it should be again"));
  EXPECT_EQ(world.counter(cnc::OutriggerCounter::kBackendChanges), 0);
  EXPECT_THAT(backendLabel(client), HasSubstr("backend=first"));
}

TEST_P(BackendMove, ABetterBackendIsTakenAgainWhereThatIsConfigured) {
  const auto fates = std::make_shared<Fates>();
  DriverConfig retrying = config(GetParam());
  retrying.backendRetryNs = 50 * driver::kMilliNs;
  DriverWorld world(retrying, parts(fates));
  MediaClient& client = world.addClient();
  const std::string channel = "aeron:udp?endpoint=127.0.0.1:" + std::to_string(freePort());
  std::vector<Stream> streams;
  streams.push_back(stream(world, client, channel, channel, 1));
  exchange(world, streams, 50);
  fates->set("first", State::kGone);
  world.until([&] { return backendLabel(client).starts_with("outrigger: backend=second"); }, "the second one");
  exchange(world, streams, 50);
  fates->set("first", State::kOk);
  world.until([&] { return backendLabel(client).starts_with("outrigger: backend=first"); }, "the first one again");
  exchange(world, streams, 50);
  EXPECT_EQ(*streams[0].unavailable, 0);
  EXPECT_THAT(backendLabel(client), Not(HasSubstr("not better"))) << "none is";
}

TEST_P(BackendMove, AnAddressThatTheNextBackendLacksIsSaidSoAndComesBack) {
  const auto fates = std::make_shared<Fates>();
  DriverConfig quick = config(GetParam(), {"first", "second"});
  quick.imageLivenessTimeoutNs = driver::kSecondNs;
  quick.publicationConnectionTimeoutNs = driver::kSecondNs;
  DriverWorld world(quick, parts(fates));
  MediaClient& client = world.addClient();
  const std::string port = std::to_string(freePort());
  const std::string here = "aeron:udp?endpoint=127.0.0.1:" + std::to_string(freePort());
  const std::string there = "aeron:udp?endpoint=127.0.0.2:" + port;
  std::vector<Stream> kept;
  kept.push_back(stream(world, client, here, here, 1));
  std::vector<Stream> moved;
  moved.push_back(stream(world, client, there, there, 2));
  exchange(world, kept, 50);
  exchange(world, moved, 50);

  fates->withholdAddress("second", "127.0.0.2", true);
  fates->set("first", State::kGone);
  world.until([&] { return world.counter(cnc::OutriggerCounter::kBackendChanges) == 1; }, "a move");
  EXPECT_THAT(errors(client),
              Contains(HasSubstr("the streams of an endpoint must rejoin, backend second does not have its address: second does "
                                 "not have 127.0.0.2:" +
                                 port)));
  const auto statusOf = [&](const std::string& channel) {
    int64_t status = 0;
    for (const auto& each : cnc::readCounters(client.memory().regions())) {
      if (each.typeId == cnc::counter_type::kReceiveChannelStatus && each.label.ends_with(channel)) status = each.value;
    }
    return status;
  };
  EXPECT_EQ(statusOf(there), cnc::kChannelStatusErrored);
  EXPECT_EQ(statusOf(here), cnc::kChannelStatusActive);
  world.until(
      [&] {
        pump(kept);
        read(moved[0]);  // an image stays until its subscribers have read what it has
        return *moved[0].unavailable == 1;
      },
      "the image that nobody feeds any more to be announced as gone");
  exchange(world, kept, 50);
  EXPECT_EQ(*kept[0].unavailable, 0);

  fates->withholdAddress("second", "127.0.0.2", false);
  world.until(
      [&] {
        pump(kept);
        return statusOf(there) == cnc::kChannelStatusActive;
      },
      "the address to come back");
  moved[0].check.expectGap();
  const uint64_t before = moved[0].check.received;
  world.until(
      [&] {
        pump(moved);
        return moved[0].check.received > before + 50;
      },
      "the stream to rejoin");
}

TEST_P(BackendMove, WithoutAnotherBackendTheLossIsSaidAndItIsTriedOn) {
  const auto fates = std::make_shared<Fates>();
  DriverWorld world(config(GetParam(), {"first", "second"}), parts(fates));
  MediaClient& client = world.addClient();
  const std::string channel = "aeron:udp?endpoint=127.0.0.1:" + std::to_string(freePort());
  std::vector<Stream> streams;
  streams.push_back(stream(world, client, channel, channel, 1));
  exchange(world, streams, 50);
  fates->set("second", State::kGone);
  fates->set("first", State::kGone);
  const std::string expected =
      "network backend first is lost (first was taken away) and no other can take its streams; second: second has no device";
  world.until([&] { return !errors(client).empty(); }, "an entry in the error log");
  EXPECT_THAT(errors(client), Contains(expected));
  fates->set("second", State::kOk);
  exchange(world, streams, 50);
  EXPECT_EQ(*streams[0].unavailable, 0) << "it was back before the stream timed out";
}

TEST_P(BackendMove, ABackendWithOneQueueMergesSenderAndReceiver) {
  const auto fates = std::make_shared<Fates>();
  DriverWorld world(config(GetParam()), parts(fates, true));
  const bool merged = GetParam() == ThreadingMode::kDedicated;
  EXPECT_EQ(world.driver().config().threadingMode, merged ? ThreadingMode::kSharedNetwork : GetParam());
  const auto notice = HasSubstr(
      "AERON_THREADING_MODE=DEDICATED becomes SHARED_NETWORK: backend first needs one thread for sender and receiver (it has one queue)");
  if (merged) {
    EXPECT_THAT(world.driver().notices(), Contains(notice));
  } else {
    EXPECT_THAT(world.driver().notices(), Not(Contains(notice)));
  }
  EXPECT_THAT(note(world), HasSubstr("\"one thread for sender and receiver\":\"it has one queue\""));
  MediaClient& client = world.addClient();
  const std::string channel = "aeron:udp?endpoint=127.0.0.1:" + std::to_string(freePort());
  std::vector<Stream> streams;
  streams.push_back(stream(world, client, channel, channel, 1));
  exchange(world, streams, 50);
}

TEST_P(BackendMove, EndsInTheMidstOfAMove) {
  for (int round = 0; round < 8; ++round) {
    const auto fates = std::make_shared<Fates>();
    DriverWorld world(config(GetParam()), parts(fates));
    MediaClient& client = world.addClient();
    const std::string channel = "aeron:udp?endpoint=127.0.0.1:" + std::to_string(freePort());
    std::vector<Stream> streams;
    streams.push_back(stream(world, client, channel, channel, 1));
    exchange(world, streams, 10);
    fates->set("first", State::kGone);
    world.stepFor((85 + 5 * round) * driver::kMilliNs);
  }
}

INSTANTIATE_TEST_SUITE_P(Modes, BackendMove,
                         ::testing::Values(ThreadingMode::kDedicated, ThreadingMode::kSharedNetwork, ThreadingMode::kShared,
                                           ThreadingMode::kInvoker),
                         [](const auto& mode) { return nameOf(mode.param); });

}  // namespace
}  // namespace outrigger::test
