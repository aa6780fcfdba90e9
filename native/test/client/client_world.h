// SPDX-License-Identifier: Apache-2.0
// A driver directory made by hand, and the driver's side of it under the control of a test: what it answers, when, and how wrongly.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "client/media_client.h"
#include "cnc/broadcast.h"
#include "cnc/commands.h"
#include "cnc/counters.h"
#include "cnc/mpsc_ring.h"

namespace outrigger::client {

constexpr int32_t kTestTermLength = 64 * 1024;
constexpr int32_t kTestMtu = 1408;
constexpr int32_t kTestStreamId = 1001;
constexpr int32_t kTestSessionId = 77;
constexpr int64_t kMs = 1'000'000;

class TempDirectory {
 public:
  TempDirectory() {
    std::string pattern = "/dev/shm/outrigger-client-test-XXXXXX";
    if (!std::filesystem::exists("/dev/shm")) pattern = "/tmp/outrigger-client-test-XXXXXX";
    path_ = ::mkdtemp(pattern.data()) == nullptr ? std::string() : pattern;
  }
  ~TempDirectory() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  TempDirectory(const TempDirectory&) = delete;
  TempDirectory& operator=(const TempDirectory&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// A log buffer file as a driver makes it, mapped by the "driver" and by the client.
struct TestLog {
  std::string path;
  MappedFile file;
  logbuffer::LogBuffer log;

  static TestLog create(const std::string& path, int32_t initialTermId, int64_t position = 0, int32_t termLength = kTestTermLength,
                        int32_t mtu = kTestMtu) {
    using namespace logbuffer;
    TestLog made;
    made.path = path;
    auto file = MappedFile::create(path, logFileLength(termLength, 4096), 0600);
    EXPECT_TRUE(file.ok());
    made.file = file.take();
    made.log = LogBuffer(made.file.data(), termLength, made.file.length());
    made.log.put<int32_t>(meta::kTermLength, termLength);
    made.log.put<int32_t>(meta::kPageSize, 4096);
    made.log.put<int32_t>(meta::kMtu, mtu);
    made.log.put<int32_t>(meta::kInitialTermId, initialTermId);
    made.log.put<int64_t>(meta::kEndOfStreamPosition, INT64_MAX);
    made.log.put<int32_t>(meta::kIsConnected, 1);
    made.log.initialiseTails(initialTermId, termIdFromPosition(position, made.log.bits(), initialTermId),
                             termOffsetFromPosition(position, termLength));
    return made;
  }
  std::shared_ptr<LogMapping> map() const {
    auto mapping = LogMapping::open(path, "/nowhere");
    EXPECT_TRUE(mapping.ok()) << mapping.error().message;
    return mapping.take();
  }
};

class ClientWorld {
 public:
  struct Command {
    cnc::Command type;
    std::vector<uint8_t> bytes;
    template <typename Record>
    Record as() const {
      Record record{};
      EXPECT_GE(bytes.size(), sizeof(Record));
      std::memcpy(&record, bytes.data(), std::min(bytes.size(), sizeof(Record)));
      return record;
    }
  };

  ClientWorld() {
    auto file = cnc::createCnc(cncPath(), sizes_, 5'000'000'000, clock.epochMillis(), 4711, 4096, 0600);
    EXPECT_TRUE(file.ok());
    cnc_ = file.take();
    cnc::publishCnc(cnc_);
    auto mapped = cnc::mapRegions(cnc_, cncPath());
    EXPECT_TRUE(mapped.ok());
    regions = mapped.take();
    ring = cnc::MpscRing(regions.toDriver);
    broadcast = cnc::BroadcastTransmitter(regions.toClients);
    counters = cnc::CountersManager(regions.countersMetadata, regions.countersValues);
    std::filesystem::create_directory(directory.path() + "/publications");
    std::filesystem::create_directory(directory.path() + "/images");
    beat();
  }

  std::string cncPath() const { return directory.path() + "/cnc.dat"; }
  void beat() { ring.consumerHeartbeatMs(clock.epochMillis()); }

  std::unique_ptr<MediaClient> connect(MediaClientOptions options = {}) {
    options.directory = directory.path();
    auto client = MediaClient::connect(std::move(options), clock.nanoTime(), clock.epochMillis());
    EXPECT_TRUE(client.ok()) << client.error().message;
    return client ? client.take() : nullptr;
  }
  int32_t step(MediaClient& client) { return client.doWork(clock.nanoTime(), clock.epochMillis()); }

  // Everything that was sent since the last call, keepalives left out.
  std::vector<Command> commands() {
    std::vector<Command> taken;
    int64_t corrupted = 0;
    const auto take = [&](int32_t type, const uint8_t* message, int32_t length) {
      if (static_cast<cnc::Command>(type) == cnc::Command::kClientKeepalive) return;
      taken.push_back({static_cast<cnc::Command>(type), {message, message + length}});
    };
    while (ring.read(take, 100, corrupted) > 0) {
    }
    EXPECT_EQ(corrupted, 0);
    return taken;
  }

  template <typename Record>
  void respond(cnc::Response type, const Record& record, const std::string& tail = {}) {
    std::string bytes(reinterpret_cast<const char*>(&record), sizeof(record));
    bytes += tail;
    EXPECT_TRUE(broadcast.transmit(static_cast<int32_t>(type), bytes.data(), static_cast<int32_t>(bytes.size())));
  }
  void refuse(int64_t correlationId, ErrorCode code, const std::string& text) {
    respond(cnc::Response::kError, cnc::ErrorResponse{correlationId, static_cast<int32_t>(code), static_cast<int32_t>(text.size())}, text);
  }

  TestLog& makeLog(const std::string& folder, int32_t initialTermId = 5, int64_t position = 0) {
    logs.push_back(std::make_unique<TestLog>(
        TestLog::create(directory.path() + "/" + folder + "/" + std::to_string(logs.size()) + ".logbuffer", initialTermId, position)));
    return *logs.back();
  }
  cnc::Counter makeCounter(int32_t typeId, int64_t value = 0) {
    cnc::Counter counter = counters.allocate(typeId, "key", "label", clock.epochMillis());
    counter.set(value);
    return counter;
  }

  void publicationReady(int64_t correlationId, const TestLog& log, int32_t limitId, bool exclusive) {
    const cnc::PublicationReady record{
        correlationId, correlationId, kTestSessionId, kTestStreamId, limitId, -1, static_cast<int32_t>(log.path.size())};
    respond(exclusive ? cnc::Response::kExclusivePublicationReady : cnc::Response::kPublicationReady, record, log.path);
  }
  void imageReady(int64_t imageId, int64_t subscriptionId, const TestLog& log, int32_t positionId,
                  const std::string& source = "10.0.0.1:40123") {
    const auto text = [](const std::string& value, bool pad) {
      const auto length = static_cast<int32_t>(value.size());
      std::string out(reinterpret_cast<const char*>(&length), sizeof(length));
      out += value;
      if (pad) out.resize(alignUp<size_t>(out.size(), 4), '\0');
      return out;
    };
    respond(cnc::Response::kAvailableImage, cnc::ImageReady{imageId, kTestSessionId, kTestStreamId, subscriptionId, positionId},
            text(log.path, true) + text(source, false));
  }
  void imageGone(int64_t imageId, int64_t subscriptionId) {
    respond(cnc::Response::kUnavailableImage, cnc::ImageUnavailable{imageId, subscriptionId, kTestStreamId, 0});
  }

  TempDirectory directory;
  ManualClock clock;
  cnc::CncRegions regions;
  cnc::MpscRing ring;
  cnc::BroadcastTransmitter broadcast;
  cnc::CountersManager counters;
  std::vector<std::unique_ptr<TestLog>> logs;

 private:
  cnc::CncSizes sizes_;
  MappedFile cnc_;
};

// A publication on a log of its own, without a driver in between.
struct PublicationBench {
  explicit PublicationBench(int32_t initialTermId = 5, int64_t position = 0, const std::string& channel = "aeron:udp?endpoint=h:1")
      : log(world.makeLog("publications", initialTermId, position)),
        limit(world.makeCounter(cnc::counter_type::kPublisherLimit, INT64_MAX)) {
    params.memory = DriverMemory::open(world.directory.path(), false).take();
    params.mapping = log.map();
    params.channel = channel;
    params.sessionId = kTestSessionId;
    params.streamId = kTestStreamId;
    params.positionLimit = limit.value;
  }
  std::unique_ptr<Publication> concurrent() { return std::make_unique<Publication>(params); }
  std::unique_ptr<ExclusivePublication> exclusive() { return std::make_unique<ExclusivePublication>(params); }

  // An image of the same log, from `position` on.
  std::shared_ptr<Image> image(int64_t position = 0, bool reliable = true) {
    subscriberPosition = world.makeCounter(cnc::counter_type::kSubscriberPosition, position);
    ImageParams image;
    image.memory = params.memory;
    // The mapping of the publication, so that a race detector sees both sides at one address.
    image.mapping = params.mapping;
    image.correlationId = ++images;
    image.sessionId = kTestSessionId;
    image.streamId = kTestStreamId;
    image.subscriberPosition = subscriberPosition.value;
    image.sourceIdentity = "10.0.0.1:40123";
    image.reliable = reliable;
    return std::make_shared<Image>(std::move(image));
  }
  // What a driver does long before a term comes round again.
  void cleanTerm(int32_t index) { std::memset(params.mapping->log().term(index), 0, static_cast<size_t>(params.mapping->termLength())); }

  ClientWorld world;
  TestLog& log;
  cnc::Counter limit;
  cnc::Counter subscriberPosition;
  PublicationParams params;
  int64_t images = 0;
};

}  // namespace outrigger::client
