// SPDX-License-Identifier: Apache-2.0
// Whole drivers in invoker mode on a simulated network, with real clients on their directories, all on one virtual clock and one thread.
#pragma once

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "client/media_client.h"
#include "cnc/broadcast.h"
#include "cnc/counters.h"
#include "cnc/error_log.h"
#include "cnc/mpsc_ring.h"
#include "driver/media_driver.h"
#include "io/sim/sim_network.h"

namespace outrigger::driver::testing {

constexpr int64_t kStepNs = 100 * kMicroNs;
constexpr int32_t kStream = 10;

// A directory of the test's own, gone at its end.
class TempDirectory {
 public:
  TempDirectory() {
    char path[] = "/tmp/outrigger-conductor-XXXXXX";
    if (::mkdtemp(path) != nullptr) path_ = path;
  }
  ~TempDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempDirectory(const TempDirectory&) = delete;
  TempDirectory& operator=(const TempDirectory&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// Speaks the client protocol by hand: any bytes in, every response out.
class RawClient {
 public:
  struct Response {
    cnc::Response type{};
    std::vector<uint8_t> bytes;

    template <typename Record>
    Record as() const {
      Record record{};
      if (bytes.size() >= sizeof(Record)) std::memcpy(&record, bytes.data(), sizeof(Record));
      return record;
    }
    // Text that follows the fixed part.
    template <typename Record>
    std::string textAfter(int32_t length) const {
      if (length < 0 || bytes.size() < sizeof(Record) + static_cast<size_t>(length)) return {};
      return {reinterpret_cast<const char*>(bytes.data()) + sizeof(Record), static_cast<size_t>(length)};
    }
  };

  explicit RawClient(const std::string& directory) {
    auto file = MappedFile::open(directory + "/" + cnc::kCncFileName, true);
    if (!file) return;
    file_ = file.take();
    auto regions = cnc::mapRegions(file_, directory);
    if (!regions) return;
    regions_ = regions.take();
    ring_ = cnc::MpscRing(regions_.toDriver);
    receiver_ = cnc::BroadcastReceiver(regions_.toClients);
    id_ = ring_.nextCorrelationId();
  }

  bool connected() const { return regions_.toDriver.data != nullptr; }
  int64_t id() const { return id_; }
  const cnc::CncRegions& regions() const { return regions_; }
  cnc::MpscRing& ring() { return ring_; }
  int64_t nextId() { return ring_.nextCorrelationId(); }

  bool send(int32_t type, const std::string& bytes) { return ring_.write(type, bytes.data(), static_cast<int32_t>(bytes.size())); }
  bool send(cnc::Command type, const std::string& bytes) { return send(static_cast<int32_t>(type), bytes); }

  template <typename... Parts>
  static std::string bytesOf(Parts... parts) {
    std::string out;
    (append(out, parts), ...);
    return out;
  }

  int64_t add(cnc::Command type, const std::string& channel, int32_t streamId) {
    const int64_t correlation = nextId();
    const auto length = static_cast<int32_t>(channel.size());
    if (type == cnc::Command::kAddSubscription) {
      send(type, bytesOf(id_, correlation, int64_t{-1}, streamId, length) + channel);
    } else {
      send(type, bytesOf(id_, correlation, streamId, length) + channel);
    }
    return correlation;
  }
  int64_t remove(cnc::Command type, int64_t registrationId, uint64_t flags = 0) {
    const int64_t correlation = nextId();
    std::string bytes = bytesOf(id_, correlation, registrationId);
    if (type == cnc::Command::kRemovePublication) bytes += bytesOf(flags);
    send(type, bytes);
    return correlation;
  }
  int64_t destination(cnc::Command type, int64_t registrationId, const std::string& channel) {
    const int64_t correlation = nextId();
    send(type, bytesOf(id_, correlation, registrationId, static_cast<int32_t>(channel.size())) + channel);
    return correlation;
  }

  // Takes what the driver said since the last call into `all`.
  void receive() {
    std::vector<uint8_t> scratch(64 * 1024);
    for (;;) {
      int32_t type = 0;
      int32_t length = 0;
      const auto status = receiver_.receive(type, scratch.data(), static_cast<int32_t>(scratch.size()), length);
      if (status == cnc::BroadcastReceiver::Status::kNothing) return;
      ASSERT_EQ(status, cnc::BroadcastReceiver::Status::kMessage) << "lapped";
      all.push_back({static_cast<cnc::Response>(type), {scratch.begin(), scratch.begin() + length}});
    }
  }
  std::vector<Response> of(cnc::Response type) {
    receive();
    std::vector<Response> out;
    for (const Response& response : all) {
      if (response.type == type) out.push_back(response);
    }
    return out;
  }
  // The response whose first field is this id, null when none came yet.
  const Response* about(int64_t correlationId) {
    receive();
    for (const Response& response : all) {
      if (response.bytes.size() >= 8 && readAt<int64_t>(response.bytes.data(), 0) == correlationId) return &response;
    }
    return nullptr;
  }
  const Response* about(int64_t correlationId, cnc::Response type) {
    receive();
    for (const Response& response : all) {
      if (response.type == type && response.bytes.size() >= 8 && readAt<int64_t>(response.bytes.data(), 0) == correlationId) {
        return &response;
      }
    }
    return nullptr;
  }

  std::vector<Response> all;

 private:
  template <typename T>
  static void append(std::string& out, T value) {
    out.append(reinterpret_cast<const char*>(&value), sizeof(value));
  }

  MappedFile file_;
  cnc::CncRegions regions_;
  cnc::MpscRing ring_;
  cnc::BroadcastReceiver receiver_;
  int64_t id_ = 0;
};

// One driver on one host of the network.
class DriverHost {
 public:
  DriverHost(io::SimNetwork& network, Clock& clock, const std::string& host, DriverConfig config, FileAllocator allocator,
             net::HostResolver resolver)
      : DriverHost([&network, host] { return network.createIo(host); }, clock, host, std::move(config), std::move(allocator),
                   std::move(resolver)) {}

  // Over whatever `makeIo` makes, which is asked for the sender's instance first.
  DriverHost(std::function<Result<std::unique_ptr<io::DatagramIo>>()> makeIo, Clock& clock, const std::string& host, DriverConfig config,
             FileAllocator allocator = {}, net::HostResolver resolver = {})
      : directory_(temp_.path() + "/aeron") {
    config.directory = directory_;
    config.threadingMode = ThreadingMode::kInvoker;
    if (config.randomSeed == 0) config.randomSeed = std::hash<std::string>{}(host) | 1;  // ids differ from host to host
    MediaDriverParts parts;
    parts.makeIo = std::move(makeIo);
    parts.clock = &clock;
    parts.allocator = std::move(allocator);
    parts.resolver = std::move(resolver);
    auto launched = MediaDriver::launch(config, std::move(parts));
    EXPECT_TRUE(launched.ok()) << (launched.ok() ? "" : launched.error().message);
    if (launched) driver_ = launched.take();
  }

  const std::string& directory() const { return directory_; }
  MediaDriver& driver() { return *driver_; }
  void stop() { driver_.reset(); }
  bool running() const { return driver_ != nullptr; }

 private:
  TempDirectory temp_;
  std::string directory_;
  std::unique_ptr<MediaDriver> driver_;
};

class DriverWorld : public ::testing::Test {
 public:
  using ClientPtr = std::unique_ptr<client::MediaClient>;

  DriverWorld() : network_(simOptions()) { network_.setNow(clock_.nanoTime()); }

  static io::SimOptions simOptions() {
    io::SimOptions options;
    options.seed = 42;
    return options;
  }
  static DriverConfig smallConfig() {
    DriverConfig config;
    config.termBufferLength = 64 * 1024;
    config.ipcTermBufferLength = 64 * 1024;
    config.initialWindowLength = 32 * 1024;
    return config;
  }

  DriverHost& host(const std::string& address = "10.0.0.1", DriverConfig config = smallConfig(), FileAllocator allocator = {},
                   net::HostResolver resolver = {}) {
    hosts_.push_back(std::make_unique<DriverHost>(network_, clock_, address, std::move(config), std::move(allocator), std::move(resolver)));
    return *hosts_.back();
  }
  // The client is stepped with the world; silence() stops that, as if its process hung or died.
  client::MediaClient& connect(DriverHost& host, std::function<void(const Error&)> onError = {}) {
    client::MediaClientOptions options;
    options.directory = host.directory();
    options.useDoorbells = false;
    options.onError = std::move(onError);
    auto connected = client::MediaClient::connect(options, clock_.nanoTime(), clock_.epochMillis());
    EXPECT_TRUE(connected.ok()) << (connected.ok() ? "" : connected.error().message);
    clients_.push_back(connected.take());
    return *clients_.back();
  }
  void silence(client::MediaClient& client) { silenced_.push_back(&client); }

  void step(int64_t deltaNs = kStepNs) {
    for (const auto& host : hosts_) {
      if (host->running()) host->driver().doWork();
    }
    for (const auto& client : clients_) {
      if (std::find(silenced_.begin(), silenced_.end(), client.get()) == silenced_.end()) {
        client->doWork(clock_.nanoTime(), clock_.epochMillis());
      }
    }
    clock_.advance(deltaNs);
    network_.setNow(clock_.nanoTime());
    if (onClock_) onClock_(clock_.nanoTime());
  }
  // Steps until the condition holds; false when it does not within the (virtual) time.
  bool until(const std::function<bool()>& condition, int64_t withinNs = 5 * kSecondNs, int64_t deltaNs = kStepNs) {
    const int64_t end = clock_.nanoTime() + withinNs;
    while (clock_.nanoTime() < end) {
      if (condition()) return true;
      step(deltaNs);
    }
    return condition();
  }
  void run(int64_t durationNs, int64_t deltaNs = kStepNs) {
    until([] { return false; }, durationNs, deltaNs);
  }

  std::shared_ptr<client::Publication> publication(client::MediaClient& client, const std::string& channel, int32_t streamId) {
    const int64_t id = client.addPublication(channel, streamId);
    std::shared_ptr<client::Publication> made;
    until([&] { return (made = client.publication(id)) != nullptr; });
    EXPECT_NE(made, nullptr) << client.status(id).error.message;
    return made;
  }
  std::shared_ptr<client::ExclusivePublication> exclusive(client::MediaClient& client, const std::string& channel, int32_t streamId) {
    const int64_t id = client.addExclusivePublication(channel, streamId);
    std::shared_ptr<client::ExclusivePublication> made;
    until([&] { return (made = client.exclusivePublication(id)) != nullptr; });
    EXPECT_NE(made, nullptr) << client.status(id).error.message;
    return made;
  }
  std::shared_ptr<client::Subscription> subscription(client::MediaClient& client, const std::string& channel, int32_t streamId) {
    const int64_t id = client.addSubscription(channel, streamId);
    std::shared_ptr<client::Subscription> made;
    until([&] { return (made = client.subscription(id)) != nullptr; });
    EXPECT_NE(made, nullptr) << client.status(id).error.message;
    return made;
  }
  // The status of a command once it is decided.
  client::CommandStatus decided(client::MediaClient& client, int64_t id) {
    client::CommandStatus status;
    until([&] { return (status = client.status(id)).done(); }, 20 * kSecondNs);
    return status;
  }
  bool awaitResponse(RawClient& raw, int64_t correlationId) {
    return until([&] { return raw.about(correlationId) != nullptr; });
  }

  static std::vector<cnc::CounterSnapshot> counters(const DriverHost& host) {
    auto file = MappedFile::open(host.directory() + "/" + cnc::kCncFileName, false);
    if (!file) return {};
    auto regions = cnc::mapRegions(*file, host.directory());
    return regions ? cnc::readCounters(*regions) : std::vector<cnc::CounterSnapshot>{};
  }
  static std::vector<cnc::CounterSnapshot> countersOf(const DriverHost& host, int32_t typeId) {
    std::vector<cnc::CounterSnapshot> out;
    for (auto& each : counters(host)) {
      if (each.typeId == typeId) out.push_back(std::move(each));
    }
    return out;
  }
  static int64_t systemCounter(const DriverHost& host, cnc::SystemCounter id) {
    for (const auto& each : countersOf(host, cnc::counter_type::kSystem)) {
      if (readAt<int32_t>(each.key.data(), 0) == static_cast<int32_t>(id)) return each.value;
    }
    return -1;
  }
  static int64_t ownCounter(const DriverHost& host, cnc::OutriggerCounter id) {
    for (const auto& each : countersOf(host, cnc::counter_type::kOutriggerSystem)) {
      if (readAt<int32_t>(each.key.data(), 0) == static_cast<int32_t>(id)) return each.value;
    }
    return -1;
  }
  static std::vector<std::string> errors(const DriverHost& host) {
    std::vector<std::string> out;
    auto file = MappedFile::open(host.directory() + "/" + cnc::kCncFileName, false);
    if (!file) return out;
    auto regions = cnc::mapRegions(*file, host.directory());
    if (!regions) return out;
    for (const auto& each : cnc::ErrorLog::read(regions->errorLog)) out.push_back(each.text);
    return out;
  }
  static size_t files(const DriverHost& host, const char* folder) {
    size_t count = 0;
    std::error_code ignored;
    for ([[maybe_unused]] const auto& each : std::filesystem::directory_iterator(host.directory() + "/" + folder, ignored)) ++count;
    return count;
  }

  ManualClock clock_;
  io::SimNetwork network_;
  std::function<void(int64_t nowNs)> onClock_;  // another network, which goes by the same clock
  std::vector<std::unique_ptr<DriverHost>> hosts_;
  std::vector<ClientPtr> clients_;
  std::vector<client::MediaClient*> silenced_;
};

// Offers until it is taken, stepping the world; the position, or the last refusal.
template <typename World, typename Publication>
int64_t offerWithin(World& world, Publication& publication, const std::string& message, int64_t steps = 50'000) {
  int64_t result = 0;
  for (int64_t i = 0; i < steps; ++i) {
    result = publication.offer(message.data(), static_cast<int32_t>(message.size()));
    if (result >= 0) return result;
    world.step();
  }
  return result;
}

}  // namespace outrigger::driver::testing
