// SPDX-License-Identifier: Apache-2.0
// Policies: what their text may be, which channels they allow, whom they admit, and whose files are obeyed.
#include "driver/policy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>

#include "driver/policy_file.h"
#include "runtime/temp_directory.h"

namespace outrigger::driver {
namespace {

using ::testing::HasSubstr;

std::string textOf(const std::vector<std::string>& lines) {
  std::string text = "outrigger-policy 1\n";
  for (const std::string& line : lines) text += line + "\n";
  return text + "end " + std::to_string(lines.size()) + "\n";
}

Policy policyOf(const std::vector<std::string>& lines) {
  auto policy = Policy::parse(textOf(lines));
  EXPECT_TRUE(policy.ok()) << policy.error().message;
  return policy ? policy.take() : Policy();
}

std::string problemOf(const std::string& text) {
  const auto policy = Policy::parse(text);
  EXPECT_FALSE(policy.ok()) << text;
  return policy ? std::string() : policy.error().message;
}

net::ChannelUri channel(const std::string& text) {
  auto uri = net::ChannelUri::parse(text);
  EXPECT_TRUE(uri.ok()) << uri.error().message;
  return uri.take();
}

io::SockAddr address(const std::string& host, uint16_t port = 5000) { return io::SockAddr::parseNumeric(host, port).take(); }

const std::vector<std::string> kTopic = {
    "# shop/orders",
    "publish 1001 aeron:udp?control-mode=manual",
    "destination 1001 aeron:udp?endpoint=10.0.0.7:40200",
    "subscribe 1001 aeron:udp?endpoint=10.0.0.5:40200",
    "source 10.0.0.9",
    "source fd00::9",
    "source 10.0.0.8:7000",
};

TEST(PolicyText, AFaultAnywhereMakesItNoPolicyAndIsNamed) {
  EXPECT_THAT(problemOf(""), HasSubstr("no line 'end'"));
  EXPECT_THAT(problemOf("outrigger-policy 2\nend 0\n"), HasSubstr("another version"));
  EXPECT_THAT(problemOf("outrigger-policy 1\n"), HasSubstr("no line 'end'"));
  EXPECT_THAT(problemOf("outrigger-policy 1\nend 0"), HasSubstr("cut off"));
  EXPECT_THAT(problemOf("outrigger-policy 1\nend 1\n"), HasSubstr("does not name the 0 lines"));
  EXPECT_THAT(problemOf("outrigger-policy 1\nend 0\npublish 1 aeron:ipc\n"), HasSubstr("line 3"));
  EXPECT_THAT(problemOf(textOf({"allow 1 aeron:udp?endpoint=10.0.0.1:1"})), HasSubstr("none of publish, destination, subscribe"));
  EXPECT_THAT(problemOf(textOf({"publish x aeron:udp?endpoint=10.0.0.1:1"})), HasSubstr("no stream"));
  EXPECT_THAT(problemOf(textOf({"publish 4294967296 aeron:udp?endpoint=10.0.0.1:1"})), HasSubstr("no stream"));
  EXPECT_THAT(problemOf(textOf({"publish  1 aeron:udp?endpoint=10.0.0.1:1"})), HasSubstr("no stream"));
  EXPECT_THAT(problemOf(textOf({"publish 1"})), HasSubstr("no channel"));
  EXPECT_THAT(problemOf(textOf({"publish 1 udp://10.0.0.1:1"})), HasSubstr("no channel"));
  EXPECT_THAT(problemOf(textOf({"source 10.0.0.1"})), HasSubstr("behind no subscribe"));
  EXPECT_THAT(problemOf(textOf({"subscribe 1 aeron:udp?endpoint=10.0.0.1:1", "publish 1 aeron:udp?endpoint=10.0.0.1:1", "source any"})),
              HasSubstr("line 4"));
  EXPECT_THAT(problemOf(textOf({"subscribe 1 aeron:udp?endpoint=10.0.0.1:1", "source app.example"})), HasSubstr("numeric address"));
  EXPECT_THAT(problemOf(textOf({"subscribe 1 aeron:udp?endpoint=10.0.0.1:1", "source 10.0.0.1:0"})), HasSubstr("numeric address"));
}

TEST(PolicyText, EveryBeginningOfOneIsRefused) {
  const std::string whole = textOf(kTopic);
  for (size_t length = 0; length < whole.size(); ++length) EXPECT_FALSE(Policy::parse(whole.substr(0, length)).ok()) << length;
  EXPECT_TRUE(Policy::parse(whole).ok());
}

TEST(PolicyRules, AllowAChannelForItsStreamAndRoleAndNoOther) {
  const Policy policy = policyOf(kTopic);
  const auto manual = channel("aeron:udp?control-mode=manual|fc=min|term-length=64k|session-id=7");
  EXPECT_TRUE(policy.allows(PolicyAction::kPublish, 1001, manual));
  EXPECT_FALSE(policy.allows(PolicyAction::kPublish, 1002, manual));
  EXPECT_FALSE(policy.allows(PolicyAction::kSubscribe, 1001, manual));
  const auto there = channel("aeron:udp?endpoint=10.0.0.7:40200");
  EXPECT_TRUE(policy.allows(PolicyAction::kDestination, 1001, there));
  EXPECT_FALSE(policy.allows(PolicyAction::kPublish, 1001, there)) << "the destination of one is not a publication to it";
  EXPECT_FALSE(policy.allows(PolicyAction::kDestination, 1001, channel("aeron:udp?endpoint=10.0.0.7:40201")));
  EXPECT_TRUE(policy.allows(PolicyAction::kSubscribe, 1001, channel("aeron:udp?endpoint=10.0.0.5:40200|reliable=false|rcv-wnd=64k")));
  EXPECT_FALSE(policy.allows(PolicyAction::kSubscribe, 1001, channel("aeron:udp?endpoint=0.0.0.0:40200")));
}

TEST(PolicyRules, AreNotWidenedByAParameterThatSaysWhereDatagramsGo) {
  const Policy policy = policyOf(kTopic);
  for (const char* each : {"control=10.6.6.6:1", "control-mode=dynamic", "interface=10.6.6.6", "tags=1", "response-endpoint=10.6.6.6:1",
                           "response-correlation-id=1"}) {
    EXPECT_FALSE(policy.allows(PolicyAction::kSubscribe, 1001, channel(std::string("aeron:udp?endpoint=10.0.0.5:40200|") + each))) << each;
  }
  EXPECT_FALSE(policy.allows(PolicyAction::kPublish, 1001, channel("aeron:udp?control-mode=manual|endpoint=10.6.6.6:1")));
  EXPECT_FALSE(policy.allows(PolicyAction::kPublish, 1001, channel("aeron:udp?control-mode=manual|control=10.0.0.5:1")));
}

TEST(PolicyRules, CompareNumericAddressesAsSuchAndNamesAsText) {
  const Policy policy = policyOf({"subscribe 1 aeron:udp?endpoint=[fd00::5]:40200", "subscribe 2 aeron:udp?endpoint=me.example:40200"});
  EXPECT_TRUE(policy.allows(PolicyAction::kSubscribe, 1, channel("aeron:udp?endpoint=[fd00:0:0::5]:40200")));
  EXPECT_TRUE(policy.allows(PolicyAction::kSubscribe, 2, channel("aeron:udp?endpoint=me.example:40200")));
  EXPECT_FALSE(policy.allows(PolicyAction::kSubscribe, 2, channel("aeron:udp?endpoint=you.example:40200")));
  EXPECT_FALSE(policy.allows(PolicyAction::kSubscribe, 1, channel("aeron:udp?endpoint=[fd00::5]:4020")));
}

TEST(PolicyRules, AreNotNeededForWhatStaysInThisHostsMemory) {
  const Policy none;
  for (const PolicyAction action : {PolicyAction::kPublish, PolicyAction::kSubscribe}) {
    EXPECT_TRUE(none.allows(action, 9, channel("aeron:ipc?term-length=64k")));
    EXPECT_FALSE(none.allows(action, 9, channel("aeron:udp?endpoint=127.0.0.1:1")));
  }
  EXPECT_TRUE(none.allows(PolicyAction::kSubscribe, 9, channel("aeron-spy:aeron:udp?endpoint=10.0.0.1:1")));
}

TEST(PolicySources, AreAddressesWithAnyPortUnlessOneIsNamed) {
  const SourceList sources = policyOf(kTopic).sourcesOf(1001, channel("aeron:udp?endpoint=10.0.0.5:40200"));
  EXPECT_TRUE(sources.admits(address("10.0.0.9", 1)));
  EXPECT_TRUE(sources.admits(address("10.0.0.9", 65535)));
  EXPECT_TRUE(sources.admits(address("fd00::9")));
  EXPECT_TRUE(sources.admits(address("::ffff:10.0.0.9"))) << "as a socket of both families names it";
  EXPECT_TRUE(sources.admits(address("10.0.0.8", 7000)));
  EXPECT_FALSE(sources.admits(address("10.0.0.8", 7001)));
  EXPECT_FALSE(sources.admits(address("10.0.0.7")));
  EXPECT_FALSE(sources.admits(address("fd00::a")));
}

TEST(PolicySources, AreNobodyWhereNoRuleNamesThemAndAllThatAnyRuleNames) {
  const auto here = channel("aeron:udp?endpoint=10.0.0.5:40200");
  EXPECT_FALSE(Policy().sourcesOf(1001, here).admits(address("10.0.0.9")));
  EXPECT_FALSE(policyOf({"subscribe 1001 aeron:udp?endpoint=10.0.0.5:40200"}).sourcesOf(1001, here).admits(address("10.0.0.9")));
  const Policy two = policyOf({"subscribe 1001 aeron:udp?endpoint=10.0.0.5:40200", "source 10.0.0.1",
                               "subscribe 1001 aeron:udp?endpoint=10.0.0.5:40200", "source 10.0.0.2"});
  EXPECT_TRUE(two.sourcesOf(1001, here).admits(address("10.0.0.1")));
  EXPECT_TRUE(two.sourcesOf(1001, here).admits(address("10.0.0.2")));
  EXPECT_FALSE(two.sourcesOf(1001, here).any());
  EXPECT_TRUE(policyOf({"subscribe 1 aeron:udp?endpoint=10.0.0.5:40200", "source any"}).sourcesOf(1, here).admits(address("192.0.2.1")));
}

class PolicyFile : public ::testing::Test {
 public:
  PolicyFile() {
    // mkdtemp gives 0700; the checks want to see a folder of one's own below a shared one.
    ::mkdir((parent_ / "own").c_str(), 0700);
  }
  void write(const std::string& text, mode_t mode = 0640) const {
    std::ofstream(path()) << text;
    EXPECT_EQ(::chmod(path().c_str(), mode), 0);
  }
  std::string path() const { return parent_ / "own/policy"; }
  PolicyReading read(const std::string& before = "", int64_t owner = -1) const { return readPolicyFile(path(), owner, before); }
  std::string problem(int64_t owner = -1) const {
    const PolicyReading reading = read("", owner);
    EXPECT_EQ(reading.policy, nullptr);
    return reading.error ? reading.error->message : "";
  }

  test::TempDirectory parent_;
};

TEST_F(PolicyFile, IsTakenWhenItIsAnotherThanBefore) {
  const std::string text = textOf(kTopic);
  write(text);
  const PolicyReading first = read();
  ASSERT_NE(first.policy, nullptr) << first.error->message;
  EXPECT_EQ(first.text, text);
  const PolicyReading again = read(text);
  EXPECT_EQ(again.policy, nullptr);
  EXPECT_FALSE(again.error.has_value());
}

TEST_F(PolicyFile, ThatIsNotThereIsToldFromOneThatIsWrong) {
  EXPECT_TRUE(read().absent);
  EXPECT_TRUE(readPolicyFile(parent_ / "none/policy", -1, "").absent);
  write("nonsense\n");
  EXPECT_FALSE(read().absent);
  EXPECT_THAT(problem(), HasSubstr(path()));
}

TEST_F(PolicyFile, ThatOthersCouldHaveWrittenIsRefused) {
  for (const mode_t mode : {0660, 0602}) {
    write(textOf(kTopic), mode);
    EXPECT_THAT(problem(), HasSubstr("may be written by others")) << mode;
  }
  write(textOf(kTopic));
  ASSERT_EQ(::chmod((parent_ / "own").c_str(), 02770), 0);
  EXPECT_THAT(problem(), HasSubstr("the folder of policy file"));
}

TEST_F(PolicyFile, OfAnotherUserIsRefusedUnlessThatUserIsNamed) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to give a file away";
  constexpr uid_t kOther = 51'010;
  write(textOf(kTopic));
  ASSERT_EQ(::chown(path().c_str(), kOther, static_cast<gid_t>(-1)), 0);
  EXPECT_THAT(problem(), HasSubstr("belongs to user 51010"));
  EXPECT_NE(read("", kOther).policy, nullptr);
  EXPECT_THAT(problem(51'011), HasSubstr("not to user 51011"));
  write(textOf(kTopic));
  ASSERT_EQ(::chown((parent_ / "own").c_str(), kOther, static_cast<gid_t>(-1)), 0);
  EXPECT_THAT(problem(), HasSubstr("the folder of policy file"));
}

TEST_F(PolicyFile, ThatIsALinkOrAFifoIsRefusedWithoutWaiting) {
  std::ofstream(parent_ / "own/other") << textOf(kTopic);
  ASSERT_EQ(::symlink("other", path().c_str()), 0);
  EXPECT_THAT(problem(), HasSubstr("can't be opened"));
  ASSERT_EQ(::unlink(path().c_str()), 0);
  ASSERT_EQ(::mkfifo(path().c_str(), 0600), 0);
  EXPECT_THAT(problem(), HasSubstr("no ordinary file"));
}

TEST_F(PolicyFile, OfMoreBytesThanAnyPolicyHasIsNotRead) {
  write("");
  ASSERT_EQ(::truncate(path().c_str(), 8 * 1024 * 1024 + 1), 0);
  EXPECT_THAT(problem(), HasSubstr("8388609 bytes"));
}

}  // namespace
}  // namespace outrigger::driver
