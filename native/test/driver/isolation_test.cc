// SPDX-License-Identifier: Apache-2.0
// What a driver shares its machine with: other users, and a memory volume that is full.
#include <gmock/gmock.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>

#include "cnc/error_log.h"
#include "driver_process.h"
#include "driver_world.h"

namespace outrigger::test {
namespace {

using client::kOfferBackPressured;
using ::testing::HasSubstr;

// Runs `body` in a child process; its failed expectations fail the test, a signal is named.
pid_t inChild(const std::function<void()>& body) {
  const pid_t pid = ::fork();
  if (pid != 0) return pid;
  body();
  std::fflush(stdout);
  ::_exit(::testing::Test::HasFailure() ? 1 : 0);
}

void expectSuccess(pid_t pid, const char* who) {
  int status = 0;
  ASSERT_EQ(::waitpid(pid, &status, 0), pid);
  EXPECT_FALSE(WIFSIGNALED(status)) << who << " was ended by signal " << WTERMSIG(status);
  EXPECT_EQ(WEXITSTATUS(status), 0) << who;
}

void become(uint32_t userId, uint32_t groupId) {
  ASSERT_EQ(::setgroups(0, nullptr), 0);
  ASSERT_EQ(::setgid(groupId), 0);
  ASSERT_EQ(::setuid(userId), 0);
}

constexpr uint32_t kGroup = 51'000;
constexpr uint32_t kDriverUser = 51'001;
constexpr uint32_t kPublisherUser = 51'002;
constexpr uint32_t kSubscriberUser = 51'003;
constexpr uint32_t kStranger = 51'004;
constexpr uint64_t kMessages = 3'000;

class Clock60s {
 public:
  bool over() { return clock_.nanoTime() > deadlineNs_; }

 private:
  SystemClock clock_;
  int64_t deadlineNs_ = clock_.nanoTime() + DriverWorld::kGiveUpNs;
};

void publish(const DriverProcess& driver, const std::string& channel) {
  const auto client = driver.connect();
  ASSERT_NE(client, nullptr);
  const auto publication = client->awaitExclusivePublication(client->addExclusivePublication(channel, 1));
  ASSERT_TRUE(publication.ok()) << publication.error().message;
  client->start();
  std::vector<uint8_t> message;
  Clock60s clock;
  for (uint64_t number = 0; number < kMessages && !clock.over();) {
    makeMessage(message, number, 300);
    if ((*publication)->offer(message.data(), 300) > 0) ++number;
  }
  // Until the subscriber has all and leaves.
  while ((*publication)->isConnected() && !clock.over()) std::this_thread::yield();
  EXPECT_FALSE(clock.over());
}

void subscribe(const DriverProcess& driver, const std::string& channel) {
  const auto client = driver.connect();
  ASSERT_NE(client, nullptr);
  const auto subscription = client->awaitSubscription(client->addSubscription(channel, 1));
  ASSERT_TRUE(subscription.ok()) << subscription.error().message;
  client->start();
  MessageCheck check;
  Clock60s clock;
  while (check.next < kMessages && !clock.over()) {
    (*subscription)->pollMessages([&](const uint8_t* data, int32_t length, const auto&) { check.onMessage(data, length); }, 64);
  }
  EXPECT_EQ(check.next, kMessages);
  EXPECT_EQ(check.error, "");
}

TEST(OtherUsers, DriverPublisherAndSubscriberMayBeThreeUsersOfOneGroup) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to become other users";
  const TempDirectory parent;
  // As a pod's shared volume with fsGroup: what is made in it gets the group.
  ASSERT_EQ(::chown(parent.path().c_str(), kDriverUser, kGroup), 0);
  ASSERT_EQ(::chmod(parent.path().c_str(), 02770), 0);
  const std::string channels[] = {"aeron:ipc?term-length=64k",
                                  "aeron:udp?endpoint=127.0.0.1:" + std::to_string(freePort()) + "|term-length=64k"};
  for (const std::string& channel : channels) {
    DriverProcess driver(parent / "driver", parent / "log", {}, kDriverUser, kGroup);
    ASSERT_NE(driver.connect(), nullptr) << driver.log();
    const pid_t subscriber = inChild([&] {
      become(kSubscriberUser, kGroup);
      subscribe(driver, channel);
    });
    const pid_t publisher = inChild([&] {
      become(kPublisherUser, kGroup);
      publish(driver, channel);
    });
    const pid_t stranger = inChild([&] {
      become(kStranger, kStranger);
      client::MediaClientOptions options;
      options.directory = parent / "driver";
      EXPECT_FALSE(client::MediaClient::connect(options, 0, 0).ok());
    });
    expectSuccess(stranger, "a user of another group");
    expectSuccess(subscriber, "subscriber");
    expectSuccess(publisher, "publisher");
    driver.signal(SIGTERM);
    EXPECT_EQ(driver.wait(), 0);
    EXPECT_NE(::access((parent / "driver").c_str(), F_OK), 0) << "something was left behind";
  }
}

class FullVolume : public ::testing::TestWithParam<const char*> {};

// Takes all free memory of the volume.
std::string fillVolume(const std::string& directory) {
  const std::string path = directory + "/filler";
  const UniqueFd fd(::open(path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  const std::vector<char> page(4096, 'x');
  while (::write(fd.get(), page.data(), page.size()) > 0) {
  }
  return path;
}

void streamThroughAFullVolume(const std::string& volume, const std::string& kind) {
  ASSERT_EQ(::unshare(CLONE_NEWNS), 0);
  ASSERT_EQ(::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
  ASSERT_EQ(::mount("tmpfs", volume.c_str(), "tmpfs", 0, "size=24m"), 0);
  DriverConfig config = DriverWorld::smallConfig(ThreadingMode::kShared, "mmsg");
  config.directory = volume + "/driver";
  auto launched = MediaDriver::launch(config);
  ASSERT_TRUE(launched.ok()) << launched.error().message;
  client::MediaClientOptions options;
  options.directory = config.directory;
  const auto client = client::MediaClient::connectWithin(options, DriverWorld::kGiveUpNs).take();
  const std::string channel = (kind == "ipc" ? "aeron:ipc" : "aeron:udp?endpoint=127.0.0.1:" + std::to_string(freePort()));
  const std::string publishing = channel + (kind == "ipc" ? "?" : "|") + "term-length=1m";
  const auto subscription = client->awaitSubscription(client->addSubscription(channel, 1)).take();
  const auto publication = client->awaitExclusivePublication(client->addExclusivePublication(publishing, 1)).take();
  SystemClock clock;
  const auto step = [&] { client->doWork(clock.nanoTime(), clock.epochMillis()); };
  Clock60s patience;
  while (!(publication->isConnected() && subscription->isConnected()) && !patience.over()) step();
  ASSERT_FALSE(patience.over()) << "no connection";

  const std::string filler = fillVolume(volume);
  MessageCheck check;
  std::vector<uint8_t> message;
  uint64_t number = 0;
  int refusals = 0;
  const auto exchange = [&] {
    step();
    makeMessage(message, number, 1'000);
    const int64_t result = publication->offer(message.data(), 1'000);
    if (result > 0) ++number;
    refusals = result == kOfferBackPressured ? refusals + 1 : 0;
    subscription->pollMessages([&](const uint8_t* data, int32_t length, const auto&) { check.onMessage(data, length); }, 64);
  };
  const auto storageError = [&] {
    for (const auto& error : cnc::ErrorLog::read(client->memory().regions().errorLog)) {
      if (error.text.find("No space left") != std::string::npos) return error.text;
    }
    return std::string();
  };
  // Everything written is read, and still the publisher is held back: there is no memory for the next term.
  while (!patience.over() && (refusals < 20'000 || check.next < number || storageError().empty())) exchange();
  EXPECT_FALSE(patience.over()) << "no back pressure, after " << number << " messages; " << check.next << " read";
  EXPECT_GE(refusals, 20'000);
  EXPECT_EQ(check.error, "");
  EXPECT_THAT(storageError(), HasSubstr("No space left"));
  const uint64_t stoppedAt = number;

  // A new stream is refused with a reason, and costs the others nothing.
  const auto refused = client->awaitExclusivePublication(client->addExclusivePublication("aeron:ipc?term-length=1m", 2));
  EXPECT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kStorageSpace) << refused.error().message;

  ::unlink(filler.c_str());
  while (!patience.over() && check.next < stoppedAt + 6'000) exchange();
  EXPECT_GE(check.next, stoppedAt + 6'000) << "it goes on once there is room";
  EXPECT_EQ(check.error, "");
}

TEST_P(FullVolume, IsBackPressureAndAnErrorNeverASignal) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to mount a volume of its own";
  const TempDirectory parent;
  const std::string kind = GetParam();
  expectSuccess(inChild([&] { streamThroughAFullVolume(parent.path(), kind); }), kind.c_str());
}

INSTANTIATE_TEST_SUITE_P(Streams, FullVolume, ::testing::Values("ipc", "udp"), [](const auto& each) { return std::string(each.param); });

}  // namespace
}  // namespace outrigger::test
