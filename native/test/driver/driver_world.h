// SPDX-License-Identifier: Apache-2.0
// A driver in this process and clients of it, stepped by the test: whole streams over loopback, in every threading mode.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "client/media_client.h"
#include "cnc/counters.h"
#include "driver/media_driver.h"
#include "free_port.h"
#include "message_check.h"
#include "runtime/temp_directory.h"

namespace outrigger::test {

using client::ExclusivePublication;
using client::MediaClient;
using client::Publication;
using client::Subscription;
using driver::DriverConfig;
using driver::MediaDriver;
using driver::ThreadingMode;

class DriverWorld {
 public:
  static constexpr int64_t kGiveUpNs = 30'000'000'000;  // a hang is a failure with a name

  static DriverConfig smallConfig(ThreadingMode mode, const std::string& backend) {
    DriverConfig config;
    config.threadingMode = mode;
    config.backends = {backend};
    config.termBufferLength = 64 * 1024;
    config.ipcTermBufferLength = 64 * 1024;
    config.timerIntervalNs = 50 * driver::kMilliNs;
    config.publicationLingerTimeoutNs = 100 * driver::kMilliNs;
    return config;
  }

  explicit DriverWorld(DriverConfig config, driver::MediaDriverParts parts = {}) : parent_(std::make_unique<TempDirectory>()) {
    config.directory = *parent_ / "driver";
    directory_ = config.directory;
    auto launched = MediaDriver::launch(config, std::move(parts));
    EXPECT_TRUE(launched.ok()) << launched.error().message;
    if (launched) driver_ = launched.take();
  }
  ~DriverWorld() {
    clients_.clear();
    driver_.reset();
  }
  DriverWorld(const DriverWorld&) = delete;
  DriverWorld& operator=(const DriverWorld&) = delete;

  const std::string& directory() const { return directory_; }
  MediaDriver& driver() { return *driver_; }
  void stopDriver() { driver_.reset(); }

  MediaClient& addClient(client::MediaClientOptions options = {}) {
    options.directory = directory_;
    auto connected = MediaClient::connect(options, clock_.nanoTime(), clock_.epochMillis());
    EXPECT_TRUE(connected.ok()) << connected.error().message;
    clients_.push_back(connected.take());
    return *clients_.back();
  }
  void removeClient(MediaClient& client) {
    std::erase_if(clients_, [&](const auto& each) { return each.get() == &client; });
  }

  // What a threaded driver does on its own, and the clients' conductors.
  int32_t step() {
    int32_t work = driver_ != nullptr ? driver_->doWork() : 0;
    for (const auto& client : clients_) work += client->doWork(clock_.nanoTime(), clock_.epochMillis());
    return work;
  }

  bool until(const std::function<bool()>& condition, const char* what) {
    const int64_t deadlineNs = clock_.nanoTime() + kGiveUpNs;
    for (;;) {
      if (condition()) return true;
      if (step() == 0) std::this_thread::yield();
      if (clock_.nanoTime() > deadlineNs) {
        ADD_FAILURE() << "waited in vain: " << what;
        return false;
      }
    }
  }

  // Steps for a while: for what must not happen.
  void stepFor(int64_t ns) {
    const int64_t endNs = clock_.nanoTime() + ns;
    while (clock_.nanoTime() < endNs) {
      if (step() == 0) std::this_thread::yield();
    }
  }

  client::CommandStatus await(MediaClient& client, int64_t correlationId) {
    client::CommandStatus status;
    until(
        [&] {
          status = client.status(correlationId);
          return status.done();
        },
        "a command's answer");
    return status;
  }
  std::shared_ptr<ExclusivePublication> addExclusive(MediaClient& client, const std::string& channel, int32_t streamId) {
    const int64_t id = client.addExclusivePublication(channel, streamId);
    const auto status = await(client, id);
    EXPECT_TRUE(status.succeeded()) << status.error.message;
    return client.exclusivePublication(id);
  }
  std::shared_ptr<Publication> addPublication(MediaClient& client, const std::string& channel, int32_t streamId) {
    const int64_t id = client.addPublication(channel, streamId);
    const auto status = await(client, id);
    EXPECT_TRUE(status.succeeded()) << status.error.message;
    return client.publication(id);
  }
  std::shared_ptr<Subscription> addSubscription(MediaClient& client, const std::string& channel, int32_t streamId,
                                                client::ImageHandler onAvailable = {}, client::ImageHandler onUnavailable = {}) {
    const int64_t id = client.addSubscription(channel, streamId, std::move(onAvailable), std::move(onUnavailable));
    const auto status = await(client, id);
    EXPECT_TRUE(status.succeeded()) << status.error.message;
    return client.subscription(id);
  }

  int64_t counter(cnc::OutriggerCounter id) { return counterWithKey(cnc::counter_type::kOutriggerSystem, static_cast<int32_t>(id)); }
  int64_t counter(cnc::SystemCounter id) { return counterWithKey(cnc::counter_type::kSystem, static_cast<int32_t>(id)); }

 private:
  int64_t counterWithKey(int32_t typeId, int32_t key) {
    for (const auto& snapshot : cnc::readCounters(clients_.front()->memory().regions())) {
      if (snapshot.typeId == typeId && readAt<int32_t>(snapshot.key.data(), 0) == key) return snapshot.value;
    }
    return -1;
  }

  std::unique_ptr<TempDirectory> parent_;
  std::string directory_;
  SystemClock clock_;
  std::unique_ptr<MediaDriver> driver_;
  std::vector<std::unique_ptr<MediaClient>> clients_;
};

inline std::string nameOf(ThreadingMode mode) {
  switch (mode) {
    case ThreadingMode::kDedicated:
      return "Dedicated";
    case ThreadingMode::kSharedNetwork:
      return "SharedNetwork";
    case ThreadingMode::kShared:
      return "Shared";
    case ThreadingMode::kInvoker:
      return "Invoker";
  }
  return "";
}

using outrigger::testing::freePort;

}  // namespace outrigger::test
