// SPDX-License-Identifier: Apache-2.0
// What the conductor is built on: log files and the resource agent.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <atomic>
#include <thread>

#include "driver/log_buffer_factory.h"
#include "driver/resource_agent.h"
#include "driver_world.h"

namespace outrigger::driver::testing {
namespace {

constexpr int32_t kTerm = 64 * 1024;

class LogFiles : public ::testing::Test {
 protected:
  TempDirectory directory;
  LogSpec spec = [this] {
    LogSpec made;
    made.path = directory.path() + "/1.logbuffer";
    made.registrationId = 1;
    made.sessionId = 2;
    made.streamId = 3;
    made.initialTermId = 4;
    made.startTermId = 6;
    made.startTermOffset = 64;
    made.termLength = kTerm;
    made.mtu = 1408;
    return made;
  }();
};

TEST_F(LogFiles, HaveTheLengthAndMetadataThatClientsExpect) {
  spec.lingerNs = 5;
  spec.untetheredLingerNs = 7;
  auto log = createLog(spec, allocateFile);
  ASSERT_TRUE(log.ok()) << log.error().message;
  EXPECT_EQ(log->file.length(), 3U * kTerm + 4096U);
  namespace meta = logbuffer::meta;
  const logbuffer::LogBuffer view(log->file.data(), kTerm, log->file.length());
  EXPECT_EQ(view.get<int64_t>(meta::kCorrelationId), 1);
  EXPECT_EQ(view.get<int32_t>(meta::kInitialTermId), 4);
  EXPECT_EQ(view.get<int32_t>(meta::kTermLength), kTerm);
  EXPECT_EQ(view.get<int32_t>(meta::kPageSize), 4096);
  EXPECT_EQ(view.get<int64_t>(meta::kEndOfStreamPosition), INT64_MAX);
  EXPECT_EQ(view.get<int64_t>(meta::kLingerNs), 5);
  EXPECT_EQ(readAt<int64_t>(view.metadata(), meta::kUntetheredLingerNs), 7);
  EXPECT_EQ(view.producerPosition(4), 2 * kTerm + 64);
  EXPECT_EQ(log->backedPosition, 3 * kTerm) << "the term it starts in, which is the third";
  struct stat st {};
  ASSERT_EQ(::stat(spec.path.c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0660U);
  EXPECT_LT(st.st_blocks * 512, 2 * kTerm) << "sparse: one term has memory, and the first pages of the others";
}

TEST_F(LogFiles, AreNeverMadeOverAnExistingOne) {
  ASSERT_TRUE(createLog(spec, allocateFile).ok());
  const auto second = createLog(spec, allocateFile);
  ASSERT_FALSE(second.ok());
  EXPECT_NE(second.error().message.find(spec.path), std::string::npos);
}

TEST_F(LogFiles, ThatFindNoRoomLeaveNothingWhereverItEnds) {
  for (int allowed = 0; allowed < 5; ++allowed) {
    int calls = 0;
    auto log = createLog(spec, [&](int, uint64_t, uint64_t) { return calls++ < allowed ? 0 : ENOSPC; });
    ASSERT_FALSE(log.ok()) << allowed;
    EXPECT_EQ(log.error().code, ErrorCode::kStorageSpace);
    EXPECT_FALSE(std::filesystem::exists(spec.path));
  }
}

TEST_F(LogFiles, ThatAreNotSparseHaveAllTheirMemoryAtOnce) {
  spec.sparse = false;
  auto log = createLog(spec, allocateFile);
  ASSERT_TRUE(log.ok());
  EXPECT_EQ(log->backedPosition, logbuffer::maxPossiblePosition(kTerm));
  struct stat st {};
  ASSERT_EQ(::stat(spec.path.c_str(), &st), 0);
  EXPECT_GE(st.st_blocks * 512, 3 * kTerm);
}

TEST_F(LogFiles, TermsAreBackedWholeAndNoMoreThanThreeOfThem) {
  std::vector<uint64_t> offsets;
  const FileAllocator record = [&](int, uint64_t offset, uint64_t length) {
    EXPECT_EQ(length, static_cast<uint64_t>(kTerm));
    offsets.push_back(offset / kTerm);
    return 0;
  };
  EXPECT_EQ(backTerms(-1, kTerm, kTerm, 3 * kTerm, record), 0);
  EXPECT_EQ(offsets, (std::vector<uint64_t>{1, 2}));
  offsets.clear();
  EXPECT_EQ(backTerms(-1, kTerm, 5 * kTerm, 100 * int64_t{kTerm}, record), 0);
  EXPECT_EQ(offsets, (std::vector<uint64_t>{2, 0, 1}));
  EXPECT_EQ(backTerms(-1, kTerm, 0, kTerm, [](int, uint64_t, uint64_t) { return ENOSPC; }), ENOSPC);
}

TEST(ResourceAgentTest, WithoutAThreadTasksRunAndAnswerInOrderWhenPolled) {
  ResourceAgent agent("test", [] {});
  std::vector<int> order;
  for (int i = 0; i < 3000; ++i) agent.submit({[&order, i] { order.push_back(i); }, [&order, i] { order.push_back(-i); }});
  EXPECT_TRUE(order.empty());
  EXPECT_FALSE(agent.idle());
  while (!agent.idle()) ASSERT_GT(agent.pollAnswers(64), 0);
  EXPECT_EQ(order.size(), 6000U) << "also those that did not fit the ring";
  int next = 0;
  for (const int each : order) {
    if (each > 0 || (each == 0 && next == 0)) {
      if (each >= next) next = each;
    }
  }
  EXPECT_EQ(next, 2999);
}

TEST(ResourceAgentTest, WithAThreadTasksRunOnItAndAnswersOnTheCallers) {
  std::atomic<int> rung{0};
  ResourceAgent agent("test", [&] { ++rung; });
  agent.useThread(true);
  const auto caller = std::this_thread::get_id();
  int answered = 0;
  for (int i = 0; i < 3000; ++i) {
    agent.submit({[caller] { EXPECT_NE(std::this_thread::get_id(), caller); },
                  [&answered, caller, i] {
                    EXPECT_EQ(std::this_thread::get_id(), caller);
                    EXPECT_EQ(answered++, i) << "answers come in the order of the tasks";
                  }});
  }
  while (!agent.idle()) {
    agent.pollAnswers(64);
    std::this_thread::yield();
  }
  EXPECT_EQ(answered, 3000);
  agent.stop();
  EXPECT_EQ(rung.load(), 3000);
}

TEST(ResourceAgentTest, StoppingWithTasksLeftDropsThem) {
  auto held = std::make_shared<int>(1);
  {
    ResourceAgent agent("test", [] {});
    for (int i = 0; i < 2000; ++i) agent.submit({[held] {}, [held] {}});
    EXPECT_GT(held.use_count(), 2000);
  }
  EXPECT_EQ(held.use_count(), 1);
}

}  // namespace
}  // namespace outrigger::driver::testing
