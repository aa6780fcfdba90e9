// SPDX-License-Identifier: Apache-2.0
// The driver's directory: whose it is, who may use it, what is removed and what never is.
#include "driver/driver_directory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "base/clock.h"
#include "cnc/cnc_file.h"
#include "cnc/doorbells.h"
#include "cnc/mpsc_ring.h"
#include "temp_directory.h"

namespace outrigger::driver {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr int64_t kNowMs = 1'700'000'000'000;

class DirectoryTest : public ::testing::Test {
 protected:
  DriverConfig config() {
    DriverConfig config;
    config.directory = parent_ / "driver";
    return config;
  }
  Result<DriverDirectory> take(const DriverConfig& config) {
    notices_.clear();
    return DriverDirectory::take(config, kNowMs, notices_);
  }
  // What a driver leaves: cnc.dat with this heartbeat, a log of each kind, a loss report.
  MappedFile leaveDriver(const DriverConfig& config, int64_t heartbeatMs) {
    for (const char* name : {"publications", "images"}) {
      fs::create_directories(config.directory + "/" + name);
      std::ofstream(config.directory + "/" + name + "/17.logbuffer") << "x";
    }
    std::ofstream(config.directory + "/loss-report.dat") << "x";
    auto file = cnc::createCnc(config.directory + "/cnc.dat", {}, kSecondNs, kNowMs, 4711, 4096, 0600);
    EXPECT_TRUE(file.ok());
    cnc::publishCnc(*file);
    cnc::MpscRing(cnc::mapRegions(*file, "cnc.dat")->toDriver).consumerHeartbeatMs(heartbeatMs);
    return file.take();
  }

  test::TempDirectory parent_;
  std::vector<std::string> notices_;
};

TEST_F(DirectoryTest, IsMadeWithItsParentsAndTheModePastTheUmask) {
  DriverConfig config = this->config();
  config.directory = parent_ / "a/b/driver";
  const mode_t umask = ::umask(077);
  auto taken = take(config);
  ::umask(umask);
  ASSERT_TRUE(taken.ok()) << taken.error().message;
  for (const char* name : {"", "/publications", "/images"}) {
    struct stat st {};
    ASSERT_EQ(::stat((config.directory + name).c_str(), &st), 0);
    EXPECT_EQ(st.st_mode & 07777, 02770u) << name;
  }
  EXPECT_TRUE(taken->remove(false));
  EXPECT_FALSE(fs::exists(config.directory));
}

TEST_F(DirectoryTest, OfALiveDriverIsRefusedWithItsPidAndTheWaysOut) {
  const DriverConfig config = this->config();
  const MappedFile file = leaveDriver(config, kNowMs - 9'999);
  const auto taken = take(config);
  ASSERT_FALSE(taken.ok());
  EXPECT_THAT(taken.error().message,
              AllOf(HasSubstr(config.directory), HasSubstr("pid 4711"), HasSubstr("9999 ms"), HasSubstr("AERON_DIR")));
  EXPECT_TRUE(fs::exists(config.directory + "/publications/17.logbuffer"));
}

TEST_F(DirectoryTest, OfADeadDriverIsTakenOverAndCleaned) {
  const DriverConfig config = this->config();
  for (const int64_t heartbeatMs : {kNowMs - 10'000, int64_t{-1}, int64_t{0}}) {
    { const MappedFile file = leaveDriver(config, heartbeatMs); }
    auto taken = take(config);
    ASSERT_TRUE(taken.ok()) << taken.error().message;
    EXPECT_THAT(notices_, Contains(HasSubstr("taken over")));
    EXPECT_FALSE(fs::exists(config.directory + "/cnc.dat"));
    EXPECT_FALSE(fs::exists(config.directory + "/publications/17.logbuffer"));
    EXPECT_TRUE(taken->remove(false));
  }
}

TEST_F(DirectoryTest, OfADriverWhoseDoorbellsNobodyReadsIsTakenOverWhateverItsHeartbeat) {
  const DriverConfig config = this->config();
  const MappedFile file = leaveDriver(config, kNowMs);
  {
    const int32_t fifoOf[cnc::Doorbells::kAgentCount] = {0, 0, 0};
    auto bells = cnc::Doorbells::create(config.directory, fifoOf, 0600);
    ASSERT_TRUE(bells.ok());
    EXPECT_FALSE(take(config).ok()) << "somebody reads them";
  }
  auto taken = take(config);
  ASSERT_TRUE(taken.ok()) << taken.error().message;
  EXPECT_FALSE(fs::exists(config.directory + "/doorbell-0"));
}

TEST_F(DirectoryTest, WithDeleteOnStartALiveDriversDirectoryIsReplaced) {
  DriverConfig config = this->config();
  const MappedFile file = leaveDriver(config, kNowMs);
  config.deleteDirectoryOnStart = true;
  auto taken = take(config);
  ASSERT_TRUE(taken.ok()) << taken.error().message;
  EXPECT_FALSE(fs::exists(config.directory + "/cnc.dat"));
}

TEST_F(DirectoryTest, OfAnUnfinishedCncFileIsRefusedWhileTheFileIsYoung) {
  const DriverConfig config = this->config();
  fs::create_directories(config.directory);
  auto file = cnc::createCnc(config.directory + "/cnc.dat", {}, kSecondNs, kNowMs, 4711, 4096, 0600);
  ASSERT_TRUE(file.ok());
  std::vector<std::string> notices;
  const int64_t madeMs = SystemClock().epochMillis();
  EXPECT_FALSE(DriverDirectory::take(config, madeMs, notices).ok());
  EXPECT_TRUE(DriverDirectory::take(config, madeMs + 12'000, notices).ok());
}

TEST_F(DirectoryTest, TwoDriversNeverHoldOne) {
  const DriverConfig config = this->config();
  auto first = take(config);
  ASSERT_TRUE(first.ok());
  const auto second = take(config);
  ASSERT_FALSE(second.ok());
  EXPECT_THAT(second.error().message, HasSubstr("another driver"));
  EXPECT_TRUE(first->remove(false));
  EXPECT_TRUE(take(config).ok());
}

TEST_F(DirectoryTest, OnlyWhatDriversMakeIsEverRemoved) {
  DriverConfig config = this->config();
  fs::create_directories(config.directory + "/publications");
  std::ofstream(config.directory + "/letter.txt") << "dear";
  std::ofstream(config.directory + "/publications/photo.jpg") << "x";
  config.deleteDirectoryOnStart = true;
  auto taken = take(config);
  ASSERT_TRUE(taken.ok()) << taken.error().message;
  EXPECT_TRUE(taken->remove(true));
  EXPECT_TRUE(fs::exists(config.directory + "/letter.txt"));
  EXPECT_TRUE(fs::exists(config.directory + "/publications/photo.jpg"));
}

TEST_F(DirectoryTest, OneThatExistedStaysAtTheEndUnlessItShallGo) {
  DriverConfig config = this->config();
  // A file of somebody else's stands for the mount point that cannot be removed at start.
  fs::create_directories(config.directory);
  std::ofstream(config.directory + "/keep") << "x";
  auto taken = take(config);
  ASSERT_TRUE(taken.ok());
  fs::remove(config.directory + "/keep");
  EXPECT_TRUE(taken->remove(false));
  EXPECT_TRUE(fs::exists(config.directory));
  std::ofstream(config.directory + "/keep") << "x";
  auto again = take(config);
  ASSERT_TRUE(again.ok());
  fs::remove(config.directory + "/keep");
  EXPECT_TRUE(again->remove(true));
  EXPECT_FALSE(fs::exists(config.directory));
}

TEST_F(DirectoryTest, OfASuccessorIsLeftAlone) {
  const DriverConfig config = this->config();
  auto first = take(config);
  ASSERT_TRUE(first.ok());
  fs::rename(config.directory, config.directory + ".old");
  fs::create_directories(config.directory);
  std::ofstream(config.directory + "/cnc.dat") << "a successor's";
  EXPECT_FALSE(first->remove(true));
  EXPECT_TRUE(fs::exists(config.directory + "/cnc.dat"));
}

TEST_F(DirectoryTest, ThatIsAFileOrCannotBeMadeIsNamed) {
  DriverConfig config = this->config();
  std::ofstream(config.directory) << "x";
  EXPECT_THAT(take(config).error().message, AllOf(HasSubstr(config.directory), HasSubstr("is a file")));
  config.directory += "/below";
  EXPECT_THAT(take(config).error().message, HasSubstr(config.directory));
  config.directory.clear();
  EXPECT_THAT(take(config).error().message, HasSubstr("AERON_DIR"));
}

TEST_F(DirectoryTest, ThatExistsIsMentionedWhenAskedFor) {
  DriverConfig config = this->config();
  fs::create_directories(config.directory);
  EXPECT_TRUE(take(config).ok());
  EXPECT_THAT(notices_, IsEmpty());
  config.warnIfDirectoryExists = true;
  EXPECT_TRUE(take(config).ok());
  EXPECT_THAT(notices_, Contains(HasSubstr("exists")));
}

}  // namespace
}  // namespace outrigger::driver
