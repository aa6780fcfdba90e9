// SPDX-License-Identifier: Apache-2.0
// Channel URI text: what parses, what does not and how it says so.
#include "net/channel_uri.h"

#include <gtest/gtest.h>

namespace outrigger::net {
namespace {

ChannelUri parsed(std::string_view text) {
  auto uri = ChannelUri::parse(text);
  EXPECT_TRUE(uri.ok()) << uri.error().message;
  return uri.ok() ? uri.take() : ChannelUri();
}

TEST(ChannelUri, readsMediaAndParameters) {
  const ChannelUri uri = parsed("aeron:udp?endpoint=localhost:40123|term-length=64k|alias=a=b");
  EXPECT_EQ(uri.media(), ChannelUri::Media::kUdp);
  EXPECT_FALSE(uri.isSpy());
  EXPECT_EQ(uri.get("endpoint"), "localhost:40123");
  EXPECT_EQ(uri.get("term-length"), "64k");
  EXPECT_EQ(uri.get("alias"), "a=b") << "only the first '=' separates";
  EXPECT_FALSE(uri.has("mtu"));
  EXPECT_EQ(uri.get("mtu"), "");
  EXPECT_EQ(uri.text(), "aeron:udp?endpoint=localhost:40123|term-length=64k|alias=a=b");
}

TEST(ChannelUri, tellsAnEmptyParameterFromAnAbsentOne) {
  const ChannelUri uri = parsed("aeron:udp?alias=");
  EXPECT_TRUE(uri.has("alias"));
  EXPECT_EQ(uri.get("alias"), "");
}

TEST(ChannelUri, readsIpcWithAndWithoutParameters) {
  EXPECT_EQ(parsed("aeron:ipc").media(), ChannelUri::Media::kIpc);
  EXPECT_EQ(parsed("aeron:ipc?").media(), ChannelUri::Media::kIpc);
  EXPECT_EQ(parsed("aeron:ipc?term-length=1m").get("term-length"), "1m");
}

TEST(ChannelUri, readsSpiesInBothForms) {
  for (const char* text : {"aeron-spy:aeron:udp?endpoint=localhost:1", "aeron-spy:udp?endpoint=localhost:1"}) {
    const ChannelUri uri = parsed(text);
    EXPECT_TRUE(uri.isSpy());
    EXPECT_EQ(uri.get("endpoint"), "localhost:1");
    EXPECT_EQ(uri.toString(), "aeron-spy:aeron:udp?endpoint=localhost:1");
  }
}

struct BadUri {
  std::string text;
  std::string part;  // of the message
};

TEST(ChannelUri, saysWhatIsWrong) {
  const std::string tooLong = "aeron:udp?alias=" + std::string(4095, 'x');
  const std::vector<BadUri> bad = {
      {"", "must start with 'aeron:'"},
      {"udp?endpoint=localhost:1", "must start with 'aeron:'"},
      {"AERON:udp", "must start with 'aeron:'"},
      {"aeron:", "unknown media ''"},
      {"aeron:tcp?endpoint=localhost:1", "unknown media 'tcp', allowed are udp, ipc"},
      {"aeron:udpx", "unknown media 'udpx'"},
      {"aeron:udp?endpoint", "'endpoint' without '='"},
      {"aeron:udp?=value", "without a name"},
      {"aeron:udp?a=1||b=2", "empty parameter"},
      {"aeron:udp?a=1|", "empty parameter"},
      {"aeron:udp?a=1|a=2", "'a' twice"},
      {"aeron:udp?alias=a\nb", "control character"},
      {std::string("aeron:udp?alias=a\0b", 19), "control character"},
      {tooLong, "at most 4095"},
  };
  for (const BadUri& one : bad) {
    const auto uri = ChannelUri::parse(one.text);
    ASSERT_FALSE(uri.ok()) << one.text;
    EXPECT_EQ(uri.error().code, ErrorCode::kInvalidChannel);
    EXPECT_NE(uri.error().message.find(one.part), std::string::npos) << uri.error().message;
    EXPECT_LT(uri.error().message.size(), 600U) << "a hostile URI is not repeated whole";
  }
}

TEST(ChannelUri, takesTheLongestAllowedText) {
  const std::string prefix = "aeron:udp?alias=";
  EXPECT_TRUE(ChannelUri::parse(prefix + std::string(kMaxChannelUriLength - prefix.size(), 'x')).ok());
}

TEST(ChannelUri, readsTypedParameters) {
  const ChannelUri uri = parsed("aeron:udp?session-id=-7|reliable=false|mtu=8k|nak-delay=100us");
  EXPECT_EQ(uri.getInt64("session-id", 0, INT32_MIN, INT32_MAX).value(), -7);
  EXPECT_FALSE(uri.getBool("reliable", true).value());
  EXPECT_EQ(uri.getSizeBytes("mtu", 0, 0, 65504).value(), 8192);
  EXPECT_EQ(uri.getDurationNs("nak-delay", 0).value(), 100'000);
  EXPECT_EQ(uri.getInt64("absent", 42, 0, 100).value(), 42);
  EXPECT_TRUE(uri.getBool("absent", true).value());
  EXPECT_EQ(uri.getSizeBytes("absent", 43, 0, 100).value(), 43);
  EXPECT_EQ(uri.getDurationNs("absent", 44).value(), 44);
}

TEST(ChannelUri, namesKeyValueAndRangeOfABadParameter) {
  const ChannelUri uri = parsed("aeron:udp?n=12x|range=300|b=yes|size=64q|big=1g|t=5m|empty=");
  const auto expect = [](const Error& error, const std::string& parameter, const std::string& rest) {
    EXPECT_EQ(error.code, ErrorCode::kInvalidChannel);
    EXPECT_NE(error.message.find("parameter " + parameter), std::string::npos) << error.message;
    EXPECT_NE(error.message.find(rest), std::string::npos) << error.message;
  };
  expect(uri.getInt64("n", 0, 0, 100).error(), "n=12x", "not a whole number");
  expect(uri.getInt64("range", 0, 0, 255).error(), "range=300", "allowed is 0 to 255");
  expect(uri.getInt64("empty", 0, 0, 255).error(), "empty=", "not a whole number");
  expect(uri.getBool("b", false).error(), "b=yes", "'true' nor 'false'");
  expect(uri.getSizeBytes("size", 0, 0, 100).error(), "size=64q", "not a size");
  expect(uri.getSizeBytes("big", 0, 0, 65504).error(), "big=1g", "allowed is 0 to 65504 bytes");
  expect(uri.getDurationNs("t", 0).error(), "t=5m", "not a duration");
}

TEST(ChannelUri, setsAndReplacesParameters) {
  ChannelUri uri = parsed("aeron:udp?endpoint=a:1|mtu=1408");
  uri.set("mtu", "8192");
  uri.set("linger", "0");
  EXPECT_EQ(uri.toString(), "aeron:udp?endpoint=a:1|mtu=8192|linger=0");
  EXPECT_EQ(uri.text(), uri.toString());
  EXPECT_EQ(parsed(uri.toString()).get("linger"), "0");
}

TEST(SizeText, readsUnitsInEitherCase) {
  int64_t value = 0;
  for (const auto& [text, expected] : {std::pair<std::string_view, int64_t>{"0", 0},
                                       {"1408", 1408},
                                       {"64k", 65536},
                                       {"64K", 65536},
                                       {"16m", 16 << 20},
                                       {"1G", 1 << 30},
                                       {"8589934591g", INT64_C(8589934591) << 30}}) {
    EXPECT_TRUE(parseSizeText(text, value)) << text;
    EXPECT_EQ(value, expected) << text;
  }
  for (const std::string_view text :
       {"", "k", "-1", "-1k", "1.5k", "1kb", " 1", "1 ", "0x10", "+1", "8589934592g", "9223372036854775808"}) {
    EXPECT_FALSE(parseSizeText(text, value)) << text;
  }
}

TEST(DurationText, readsUnitsDownToPlainNanoseconds) {
  int64_t value = 0;
  for (const auto& [text, expected] : {std::pair<std::string_view, int64_t>{"0", 0},
                                       {"7", 7},
                                       {"7ns", 7},
                                       {"10us", 10'000},
                                       {"100ms", 100'000'000},
                                       {"5s", 5'000'000'000}}) {
    EXPECT_TRUE(parseDurationText(text, value)) << text;
    EXPECT_EQ(value, expected) << text;
  }
  for (const std::string_view text : {"", "s", "ms", "-1s", "1.5s", "1h", "1 s", "5S", "9223372037s"}) {
    EXPECT_FALSE(parseDurationText(text, value)) << text;
  }
}

}  // namespace
}  // namespace outrigger::net
