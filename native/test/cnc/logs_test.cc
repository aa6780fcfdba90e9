// SPDX-License-Identifier: Apache-2.0
// Error log, loss report, the CnC file itself, and doorbells.
#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <thread>
#include <vector>

#include "cnc/cnc_file.h"
#include "cnc/doorbells.h"
#include "cnc/error_log.h"

namespace outrigger::cnc {
namespace {

class Memory {
 public:
  explicit Memory(size_t length) : words_(length / 8) {}
  Region region() { return {reinterpret_cast<uint8_t*>(words_.data()), words_.size() * 8}; }

 private:
  std::vector<int64_t> words_;
};

TEST(ErrorLogTest, EqualErrorsAreOneEntryWithACount) {
  Memory memory(4096);
  ErrorLog log(memory.region());
  EXPECT_TRUE(log.record("disk full", 10));
  EXPECT_TRUE(log.record("other", 11));
  EXPECT_TRUE(log.record("disk full", 12));
  const auto all = ErrorLog::read(memory.region());
  ASSERT_EQ(all.size(), 2U);
  EXPECT_EQ(all[0].text, "disk full");
  EXPECT_EQ(all[0].count, 2);
  EXPECT_EQ(all[0].firstMs, 10);
  EXPECT_EQ(all[0].lastMs, 12);
  EXPECT_EQ(all[1].text, "other");
}

TEST(ErrorLogTest, AFullLogKeepsWhatItHasAndStillCountsIt) {
  Memory memory(256);
  ErrorLog log(memory.region());
  int written = 0;
  while (log.record("error number " + std::to_string(written), 1)) ++written;
  EXPECT_GT(written, 2);
  EXPECT_TRUE(log.record("error number 0", 2));
  EXPECT_FALSE(log.record("one more", 2));
  const auto all = ErrorLog::read(memory.region());
  EXPECT_EQ(all.size(), static_cast<size_t>(written));
  EXPECT_EQ(all[0].count, 2);
}

TEST(ErrorLogTest, ReadersStopAtALengthThatDoesNotFit) {
  Memory memory(1024);
  ErrorLog log(memory.region());
  log.record("good", 1);
  const auto next = static_cast<size_t>(alignUp<int32_t>(24 + 4, 8));
  for (const int32_t length : {-1, 1, 23, 5000, INT32_MAX}) {
    writeAt<int32_t>(memory.region().data, next, length);
    EXPECT_EQ(ErrorLog::read(memory.region()).size(), 1U) << length;
  }
}

TEST(LossReportTest, AnEntryIsUpdatedInPlace) {
  Memory memory(4096);
  LossReport report(memory.region());
  const int64_t entry = report.create(100, 10, 1, 2, "aeron:udp?endpoint=x:1", "10.0.0.1:5");
  ASSERT_GE(entry, 0);
  const int64_t other = report.create(7, 11, 3, 4, "c", "s");
  EXPECT_EQ(other % 64, 0);
  report.update(entry, 50, 20);
  report.update(-1, 50, 20);  // an entry that found no room
  const auto all = LossReport::read(memory.region());
  ASSERT_EQ(all.size(), 2U);
  EXPECT_EQ(all[0].observations, 2);
  EXPECT_EQ(all[0].bytesLost, 150);
  EXPECT_EQ(all[0].firstMs, 10);
  EXPECT_EQ(all[0].lastMs, 20);
  EXPECT_EQ(all[0].sessionId, 1);
  EXPECT_EQ(all[0].streamId, 2);
  EXPECT_EQ(all[0].channel, "aeron:udp?endpoint=x:1");
  EXPECT_EQ(all[0].source, "10.0.0.1:5");
  EXPECT_EQ(all[1].source, "s");
}

TEST(LossReportTest, AFullReportSaysSoAndReadersSurviveHostileLengths) {
  Memory memory(256);
  LossReport report(memory.region());
  ASSERT_GE(report.create(1, 1, 1, 1, "channel", "source"), 0);
  while (report.create(1, 1, 1, 1, "channel", "source") >= 0) {
  }
  EXPECT_EQ(report.create(1, 1, 1, 1, "channel", "source"), -1);
  for (const int32_t length : {-1, INT32_MAX, 300}) {
    writeAt<int32_t>(memory.region().data, 40, length);
    EXPECT_TRUE(LossReport::read(memory.region()).empty()) << length;
  }
  EXPECT_EQ(LossReport().create(1, 1, 1, 1, "c", "s"), -1) << "no report: nothing to write to";
}

class Directory : public ::testing::Test {
 protected:
  Directory() {
    char path[] = "/tmp/outrigger-cnc-XXXXXX";
    if (::mkdtemp(path) != nullptr) directory = path;
  }
  ~Directory() override {
    std::error_code ignored;
    std::filesystem::remove_all(directory, ignored);
  }
  std::string directory;
};

using CncFile = Directory;

TEST_F(CncFile, IsNotReadyBeforeItIsPublishedAndValidAfter) {
  const std::string path = directory + "/cnc.dat";
  auto file = createCnc(path, CncSizes{}, 5'000, 77, 42, 4096, 0600);
  ASSERT_TRUE(file.ok());
  auto early = mapRegions(*file, path);
  ASSERT_FALSE(early.ok());
  EXPECT_EQ(early.error().code, ErrorCode::kResourceTemporarilyUnavailable);
  publishCnc(*file);
  auto regions = mapRegions(*file, path);
  ASSERT_TRUE(regions.ok()) << regions.error().message;
  EXPECT_EQ(regions->toDriver.length, static_cast<size_t>(CncSizes{}.toDriverLength));
  EXPECT_EQ(regions->countersMetadata.length, regions->countersValues.length * 4);
  EXPECT_EQ(regions->pid, 42);
  EXPECT_EQ(regions->startTimestampMs, 77);
  EXPECT_EQ(regions->clientLivenessTimeoutNs, 5'000);
  EXPECT_FALSE(createCnc(path, CncSizes{}, 1, 1, 1, 4096, 0600).ok()) << "never over an existing one";
}

TEST_F(CncFile, LengthsThatDoNotFitTheFileAreRefusedNamingTheField) {
  const std::string path = directory + "/cnc.dat";
  auto file = createCnc(path, CncSizes{}, 1, 1, 1, 4096, 0600);
  ASSERT_TRUE(file.ok());
  publishCnc(*file);
  for (const size_t offset : {field::kToDriverLength, field::kToClientsLength, field::kCountersMetadataLength, field::kCountersValuesLength,
                              field::kErrorLogLength}) {
    const auto good = readAt<int32_t>(file->data(), offset);
    for (const int32_t bad : {-1, INT32_MIN, INT32_MAX}) {
      writeAt<int32_t>(file->data(), offset, bad);
      auto regions = mapRegions(*file, path);
      ASSERT_FALSE(regions.ok()) << offset << " " << bad;
      EXPECT_NE(regions.error().message.find(path), std::string::npos);
    }
    writeAt<int32_t>(file->data(), offset, good);
  }
  EXPECT_TRUE(mapRegions(*file, path).ok());
}

class Bells : public Directory {
 protected:
  static bool readable(int fd) {
    pollfd polled{fd, POLLIN, 0};
    return ::poll(&polled, 1, 0) == 1;
  }
};

TEST_F(Bells, AnAgentIsRungOnlyWhenItSleeps) {
  auto driver = Doorbells::create(directory, {0, 1, 1}, 0600);
  ASSERT_TRUE(driver.ok()) << driver.error().message;
  auto client = Doorbells::open(directory);
  ASSERT_TRUE(client.ok()) << client.error().message;
  client->ringAgent(AgentId::kConductor);
  EXPECT_FALSE(readable(driver->fifoFd(0))) << "it is awake";
  driver->prepareSleep(0);
  client->ringAgent(AgentId::kSender);
  EXPECT_FALSE(readable(driver->fifoFd(0))) << "that was for another";
  client->ringAgent(AgentId::kConductor);
  EXPECT_TRUE(readable(driver->fifoFd(0)));
  driver->awake(0);
  EXPECT_FALSE(readable(driver->fifoFd(0)));
  driver->prepareSleep(1);
  client->ringAgent(AgentId::kReceiver);
  EXPECT_TRUE(readable(driver->fifoFd(1))) << "sender and receiver share a FIFO";
}

TEST_F(Bells, SlotsAreClaimedReleasedAndTakenFromTheDead) {
  auto bells = Doorbells::create(directory, {0, 0, 0}, 0600);
  ASSERT_TRUE(bells.ok());
  const int32_t first = bells->claimSlot(101);
  const int32_t second = bells->claimSlot(102);
  EXPECT_NE(first, second);
  EXPECT_TRUE(bells->hasSlot(101));
  EXPECT_FALSE(bells->hasSlot(103));
  bells->releaseSlotsOf(101);
  EXPECT_FALSE(bells->hasSlot(101));
  EXPECT_TRUE(bells->hasSlot(102));
  EXPECT_EQ(bells->claimSlot(103), first);
  for (int32_t i = 2; i < Doorbells::kSlotCount; ++i) ASSERT_GE(bells->claimSlot(1000 + i), 0);
  EXPECT_EQ(bells->claimSlot(5), -1);
}

TEST_F(Bells, ASleepingClientIsWokenByARing) {
  auto driver = Doorbells::create(directory, {0, 0, 0}, 0600);
  auto client = Doorbells::open(directory);
  ASSERT_TRUE(driver.ok() && client.ok());
  const int32_t slot = client->claimSlot(7);
  EXPECT_EQ(driver->ringClients(), 0) << "it is awake";
  client->prepareWait(slot);
  std::thread sleeper([&] { client->wait(slot, 1'000'000'000); });
  int32_t rung = 0;
  while (rung == 0) rung = driver->ringClients();
  sleeper.join();
  EXPECT_EQ(rung, 1);
  EXPECT_EQ(driver->ringClients(), 0);
}

TEST_F(Bells, AClientOfADriverWithoutDoorbellsIsToldSo) { EXPECT_FALSE(Doorbells::open(directory).ok()); }

}  // namespace
}  // namespace outrigger::cnc
