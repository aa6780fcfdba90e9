// SPDX-License-Identifier: Apache-2.0
// outrigger-driver as a process: how it starts, ends, dies and is restarted, and what its clients and its directory see of that.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <atomic>
#include <filesystem>
#include <thread>

#include "driver_process.h"
#include "driver_world.h"

namespace outrigger::test {
namespace {

namespace fs = std::filesystem;
using client::MediaClientOptions;
using ::testing::AllOf;
using ::testing::HasSubstr;

class DriverProcessTest : public ::testing::Test {
 protected:
  std::string directory() const { return parent_ / "driver"; }
  std::string log(const char* name = "log") const { return parent_ / name; }

  // Waits for a condition of another process; a hang is a failure with a name.
  template <typename Condition>
  static bool until(Condition condition, const char* what) {
    SystemClock clock;
    const int64_t deadlineNs = clock.nanoTime() + DriverWorld::kGiveUpNs;
    while (!condition()) {
      std::this_thread::yield();
      if (clock.nanoTime() > deadlineNs) {
        ADD_FAILURE() << "waited in vain: " << what;
        return false;
      }
    }
    return true;
  }

  TempDirectory parent_;
};

// Publishes `count` messages on IPC and reads them back.
void exchangeIpc(client::MediaClient& client, uint64_t count) {
  const auto subscription = client.awaitSubscription(client.addSubscription("aeron:ipc?term-length=64k", 3));
  ASSERT_TRUE(subscription.ok()) << subscription.error().message;
  const auto publication = client.awaitExclusivePublication(client.addExclusivePublication("aeron:ipc?term-length=64k", 3));
  ASSERT_TRUE(publication.ok()) << publication.error().message;
  MessageCheck check;
  std::vector<uint8_t> message;
  uint64_t number = 0;
  SystemClock clock;
  const int64_t deadlineNs = clock.nanoTime() + DriverWorld::kGiveUpNs;
  while (check.next < count && clock.nanoTime() < deadlineNs) {
    client.doWork(clock.nanoTime(), clock.epochMillis());
    if (number < count) {
      makeMessage(message, number, 100);
      if ((*publication)->offer(message.data(), 100) > 0) ++number;
    }
    (*subscription)->pollMessages([&](const uint8_t* data, int32_t length, const auto&) { check.onMessage(data, length); }, 64);
  }
  EXPECT_EQ(check.next, count);
  EXPECT_EQ(check.error, "");
}

TEST_F(DriverProcessTest, EndsCleanlyOnSigtermAndSigintAndLeavesNothingBehind) {
  for (const int number : {SIGTERM, SIGINT}) {
    DriverProcess driver(directory(), log());
    std::atomic<int> lost{0};
    MediaClientOptions options;
    options.onDriverLost = [&](const std::string&) { lost.fetch_add(1); };
    const auto client = driver.connect(options);
    ASSERT_NE(client, nullptr);
    exchangeIpc(*client, 1'000);
    driver.signal(number);
    EXPECT_EQ(driver.wait(), 0) << driver.log();
    EXPECT_FALSE(fs::exists(directory()));
    EXPECT_THAT(driver.log(), HasSubstr(number == SIGTERM ? "SIGTERM" : "SIGINT"));
    // The closed heartbeat tells the client at once, long before its driver timeout.
    SystemClock clock;
    EXPECT_TRUE(until(
        [&] {
          client->doWork(clock.nanoTime(), clock.epochMillis());
          return client->isDriverLost();
        },
        "the client noticing"));
    EXPECT_EQ(lost.load(), 1);
  }
}

TEST_F(DriverProcessTest, KilledIsNoticedByClientsAndRestartedInTheSameDirectoryAtOnce) {
  std::unique_ptr<client::MediaClient> previous;
  for (int life = 0; life < 3; ++life) {
    DriverProcess driver(directory(), log());
    const auto client = driver.connect();
    ASSERT_NE(client, nullptr);
    exchangeIpc(*client, 500);
    const auto subscription = client->awaitSubscription(client->addSubscription("aeron:ipc", 4));
    const auto publication = client->awaitPublication(client->addPublication("aeron:ipc", 4));
    ASSERT_TRUE(subscription.ok() && publication.ok());
    driver.signal(SIGKILL);
    EXPECT_EQ(driver.wait(), -SIGKILL);
    EXPECT_TRUE(fs::exists(directory() + "/cnc.dat")) << "a killed driver tidies nothing";
    SystemClock clock;
    EXPECT_TRUE(until(
        [&] {
          client->doWork(clock.nanoTime(), clock.epochMillis());
          return client->isDriverLost();
        },
        "the client noticing"));
    EXPECT_TRUE((*publication)->isClosed());
    EXPECT_EQ((*publication)->offer("x", 1), client::kOfferClosed);
    EXPECT_EQ((*subscription)->imageCount(), 0);
    EXPECT_FALSE(client->lostReason().empty());
  }
  DriverProcess last(directory(), log());
  ASSERT_NE(last.connect(), nullptr);
  last.signal(SIGTERM);
  EXPECT_EQ(last.wait(), 0);
  EXPECT_THAT(last.log(), HasSubstr("taken over"));
  EXPECT_FALSE(fs::exists(directory()));
}

TEST_F(DriverProcessTest, ASecondOneIsRefusedWhileTheFirstGoesOn) {
  DriverProcess first(directory(), log("first"));
  const auto client = first.connect();
  ASSERT_NE(client, nullptr);
  DriverProcess second(directory(), log("second"));
  EXPECT_EQ(second.wait(), 1);
  EXPECT_THAT(second.log(), AllOf(HasSubstr(directory()), HasSubstr("an active driver is in it"), HasSubstr(std::to_string(first.pid()))));
  exchangeIpc(*client, 500);
}

TEST_F(DriverProcessTest, TerminateIsObeyedOnlyWhereTheValidatorAllowsIt) {
  {
    DriverProcess driver(directory(), log());
    const auto client = driver.connect();
    ASSERT_NE(client, nullptr);
    EXPECT_TRUE(client->terminateDriver("token"));
    exchangeIpc(*client, 500);  // commands are answered in order: it was refused
    driver.signal(SIGTERM);
    EXPECT_EQ(driver.wait(), 0);
    EXPECT_THAT(driver.log(), HasSubstr("SIGTERM"));
  }
  DriverProcess driver(directory(), log(), {"AERON_DRIVER_TERMINATION_VALIDATOR=allow"});
  const auto client = driver.connect();
  ASSERT_NE(client, nullptr);
  EXPECT_TRUE(client->terminateDriver("token"));
  EXPECT_EQ(driver.wait(), 0);
  EXPECT_THAT(driver.log(), HasSubstr("TERMINATE_DRIVER"));
  EXPECT_FALSE(fs::exists(directory()));
}

TEST_F(DriverProcessTest, ABadConfigurationEndsItBeforeAnythingIsMade) {
  DriverProcess driver(directory(), log(), {"AERON_TERM_BUFFER_LENGTH=12345"});
  EXPECT_EQ(driver.wait(), 78);  // EX_CONFIG of sysexits.h: a restart would not mend it
  EXPECT_THAT(driver.log(), AllOf(HasSubstr("AERON_TERM_BUFFER_LENGTH=12345"), HasSubstr("power of two")));
  EXPECT_FALSE(fs::exists(directory()));
}

TEST_F(DriverProcessTest, EveryThreadingModeServesAndSaysWhichBackendItHas) {
  for (const char* mode : {"DEDICATED", "SHARED_NETWORK", "SHARED", "INVOKER"}) {
    DriverProcess driver(directory(), log(), {"AERON_THREADING_MODE=" + std::string(mode), "OUTRIGGER_BACKENDS=socket"});
    const auto client = driver.connect();
    ASSERT_NE(client, nullptr);
    exchangeIpc(*client, 300);
    std::string label;
    for (const auto& counter : cnc::readCounters(client->memory().regions())) {
      if (counter.typeId == cnc::counter_type::kOutriggerBackendInfo) label = counter.label;
    }
    EXPECT_THAT(label, HasSubstr("backend=socket"));
    driver.signal(SIGTERM);
    EXPECT_EQ(driver.wait(), 0) << mode;
  }
}

TEST_F(DriverProcessTest, AeronsIdleStrategiesServeToo) {
  for (const char* strategy : {"noop", "yield", "sleep-ns", "backoff"}) {
    DriverProcess driver(directory(), log(), {"AERON_SHARED_IDLE_STRATEGY=" + std::string(strategy)});
    const auto client = driver.connect();
    ASSERT_NE(client, nullptr);
    exchangeIpc(*client, 300);
    driver.signal(SIGTERM);
    EXPECT_EQ(driver.wait(), 0) << strategy;
  }
}

TEST_F(DriverProcessTest, AClientWithoutDoorbellsIsServedByPolling) {
  DriverProcess driver(directory(), log());
  MediaClientOptions options;
  options.useDoorbells = false;
  const auto client = driver.connect(options);
  ASSERT_NE(client, nullptr);
  EXPECT_FALSE(client->hasDoorbells());
  exchangeIpc(*client, 2'000);
}

// As a thread that has nothing else to do: spins a little, then sleeps on the doorbell.
class PingPong : public ::testing::TestWithParam<const char*> {};

TEST_P(PingPong, NoWakeIsLostInManyThousandRoundTripsOfParkedThreads) {
  const TempDirectory parent;
  DriverProcess driver(parent / "driver", parent / "log", {"AERON_THREADING_MODE=" + std::string(GetParam())});
  const std::string pingChannel = "aeron:udp?endpoint=127.0.0.1:" + std::to_string(freePort()) + "|term-length=64k";
  const std::string pongChannel = "aeron:udp?endpoint=127.0.0.1:" + std::to_string(freePort()) + "|term-length=64k";
  constexpr uint64_t kRoundTrips = 5'000;
  constexpr int64_t kLongestWaitNs = 1'000'000'000;
  std::atomic<bool> stop{false};
  std::atomic<int> lostWakes{0};

  const auto run = [&](const std::string& sendOn, const std::string& receiveOn, bool starts) {
    const auto client = driver.connect();
    ASSERT_NE(client, nullptr);
    client->start();
    const auto subscription = client->awaitSubscription(client->addSubscription(receiveOn, 1));
    const auto publication = client->awaitExclusivePublication(client->addExclusivePublication(sendOn, 1));
    ASSERT_TRUE(subscription.ok() && publication.ok());
    while (!(*subscription)->isConnected() || !(*publication)->isConnected()) std::this_thread::yield();
    SystemClock clock;
    client::ClientIdle idle(*client);
    uint64_t received = 0;
    uint64_t sent = 0;
    const auto send = [&] {
      while (!stop.load() && (*publication)->offer(&sent, sizeof(sent)) < 0) std::this_thread::yield();
      ++sent;
    };
    if (starts) send();
    while (!stop.load() && (received < kRoundTrips || !starts)) {
      const int32_t work = (*subscription)
                               ->poll(
                                   [&](const uint8_t* data, int32_t, const auto&) {
                                     EXPECT_EQ(readAt<uint64_t>(data, 0), received);
                                     ++received;
                                     // Now and then long enough for everybody to be asleep.
                                     if (starts && received % 100 == 0) {
                                       const timespec nap{0, 300'000};
                                       ::nanosleep(&nap, nullptr);
                                     }
                                     if (!starts || received < kRoundTrips) send();
                                   },
                                   8);
      const int64_t beginNs = clock.nanoTime();
      idle.idle(work, beginNs, kLongestWaitNs, [&] { return (*subscription)->hasWork() || stop.load(); });
      // A wait that ran its full length although there was something to read: nobody rang.
      if (clock.nanoTime() - beginNs >= kLongestWaitNs && (*subscription)->hasWork()) lostWakes.fetch_add(1);
    }
    if (starts) {
      EXPECT_EQ(received, kRoundTrips);
      stop.store(true);
    }
  };
  std::thread echo([&] { run(pongChannel, pingChannel, false); });
  run(pingChannel, pongChannel, true);
  stop.store(true);
  echo.join();
  EXPECT_EQ(lostWakes.load(), 0);
}

INSTANTIATE_TEST_SUITE_P(Modes, PingPong, ::testing::Values("SHARED", "SHARED_NETWORK", "DEDICATED"),
                         [](const auto& each) { return std::string(each.param); });

}  // namespace
}  // namespace outrigger::test
