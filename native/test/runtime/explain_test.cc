// SPDX-License-Identifier: Apache-2.0
// What `outrigger-driver --explain` says of each backend, and that preloaded socket libraries are found.
#include "driver/explain.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "driver/config_parser.h"

namespace outrigger::driver {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

io::BackendReport impossible(const io::BackendOptions& options) {
  io::BackendReport report;
  report.availability = io::Availability::kImpossible;
  report.causes.push_back({"open AF_XDP socket", "interface '" + options.interface + "': EPERM", "add CAP_NET_RAW"});
  return report;
}
io::BackendReport degraded(const io::BackendOptions&) {
  io::BackendReport report;
  report.availability = io::Availability::kDegraded;
  report.causes.push_back({"zero-copy", "driver \"veth\" has none", "use another NIC"});
  report.facts = {{"mode", "native copy"}, {"mtu", "1500"}};
  return report;
}
io::BackendReport notBuilt(const io::BackendOptions&) {
  io::BackendReport report;
  report.availability = io::Availability::kNotBuilt;
  return report;
}
const std::vector<io::Backend> kTable = {{"dpdk", nullptr, notBuilt}, {"xdp", nullptr, impossible}, {"packet", nullptr, degraded}};

TEST(Explain, SaysOfEachBackendWhatItCanDoAndWhyNotMore) {
  DriverConfig config;
  config.backends = {"xdp", "packet"};
  config.raw.interface = "eth7";
  const Explanation explanation = explain(config, kTable);
  ASSERT_EQ(explanation.reports.size(), 3u);
  EXPECT_EQ(explanation.wouldUse, "packet") << "the first of the configured ones that opens";
  const std::string text = explanationText(explanation);
  EXPECT_THAT(text, AllOf(HasSubstr("dpdk      not built"), HasSubstr("xdp       impossible"), HasSubstr("interface 'eth7': EPERM"),
                          HasSubstr("fix: add CAP_NET_RAW"), HasSubstr("packet    degraded    mode: native copy, mtu: 1500"),
                          HasSubstr("OUTRIGGER_BACKENDS=xdp,packet: a driver would use packet")));
  const std::string json = explanationJson(explanation);
  EXPECT_THAT(json, AllOf(HasSubstr(R"("wouldUse":"packet","order":["xdp","packet"])"),
                          HasSubstr(R"({"name":"packet","availability":"degraded","causes":[{"what":"zero-copy",)"
                                    R"("cause":"driver \"veth\" has none","fix":"use another NIC"}],)"
                                    R"("facts":{"mode":"native copy","mtu":"1500"}})")));
}

TEST(Explain, OfAVlanThatOnlyDpdkTagsSaysWhatToOpenInstead) {
  DriverConfig config;
  config.backends = {"packet", "dpdk"};
  config.raw.interface = "eth7";
  config.raw.vlan = 42;
  const std::string text = explanationText(explain(config, {{"dpdk", nullptr, degraded}, {"packet", nullptr, degraded}}));
  EXPECT_THAT(text, AllOf(HasSubstr("packet    impossible"), HasSubstr("OUTRIGGER_VLAN=42"), HasSubstr("OUTRIGGER_INTERFACE=eth7.42"),
                          HasSubstr("a driver would use dpdk")));
  io::BackendOptions options;
  options.vlan = 42;
  for (const char* name : {"packet", "xdp", "verbs"}) {
    const auto pair = io::openPair(name, options);
    ASSERT_FALSE(pair.ok()) << name;
    EXPECT_THAT(pair.error().message, AllOf(HasSubstr(std::string("backend ") + name), HasSubstr("OUTRIGGER_INTERFACE=eth0.42")));
  }
}

TEST(Explain, SaysWhenNoConfiguredBackendOpens) {
  DriverConfig config;
  config.backends = {"dpdk", "xdp"};
  const Explanation explanation = explain(config, kTable);
  EXPECT_EQ(explanation.wouldUse, "");
  EXPECT_THAT(explanationText(explanation), HasSubstr("OUTRIGGER_BACKENDS=dpdk,xdp: none of them opens here, a driver would not start"));
}

TEST(Explain, EveryBackendOfThisProgramHasAReport) {
  const Explanation explanation = explain(DriverConfig{});
  ASSERT_EQ(explanation.reports.size(), io::backends().size());
  for (size_t i = 0; i < explanation.reports.size(); ++i) {
    const io::BackendReport& report = explanation.reports[i];
    EXPECT_EQ(report.name, io::backends()[i].name);
    // What is not fully there says why, and what to do.
    EXPECT_TRUE(report.availability == io::Availability::kAvailable || !report.causes.empty()) << report.name;
    for (const io::BackendCause& cause : report.causes) {
      EXPECT_NE(cause.what, "") << report.name;
      EXPECT_NE(cause.cause, "") << report.name;
      EXPECT_NE(cause.fix, "") << report.name;
    }
  }
}

TEST(Explain, AnOffloadThatIsSwitchedOffNamesItsVariable) {
  DriverConfig config;
  config.segmentationOffload = false;
  for (const io::BackendReport& report : explain(config).reports) {
    if (report.name == "socket") {
      EXPECT_EQ(report.availability, io::Availability::kAvailable) << "it needs none";
    }
    if (report.name != "mmsg") continue;
    EXPECT_EQ(report.availability, io::Availability::kDegraded);
    ASSERT_FALSE(report.causes.empty());
    EXPECT_EQ(report.causes[0].what, "UDP_SEGMENT");
    EXPECT_EQ(report.causes[0].fix, "unset OUTRIGGER_UDP_SEGMENT");
  }
}

TEST(Explain, IsAskedForByAFlagAndJsonGoesWithItOnly) {
  auto parsed = parseConfig({"--explain", "--json", "--backends=socket"}, {});
  ASSERT_TRUE(parsed.ok()) << parsed.error().message;
  EXPECT_TRUE(parsed->explain);
  EXPECT_TRUE(parsed->json);
  EXPECT_THAT(parsed->config.backends, ElementsAre("socket"));
  EXPECT_THAT(parseConfig({"--json"}, {}).error().message, HasSubstr("--json goes with --explain"));
}

TEST(Preload, IsFoundWhereItIsMapped) {
  constexpr const char* kMaps =
      "55d0c0a00000-55d0c0a02000 r--p 00000000 08:01 131 /opt/outrigger-driver\n"
      "7f00c0a00000-7f00c0a02000 r-xp 00000000 08:01 132 /usr/lib/x86_64-linux-gnu/libvma.so.9.8.51\n"
      "7f00c0b00000-7f00c0b02000 r-xp 00000000 08:01 133 /usr/lib/notlibonload.so\n"
      "7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0 [stack]\n";
  const auto found = io::preloadsIn(kMaps, "/usr/lib/libxlio.so:libvma.so other.so");
  ASSERT_EQ(found.size(), 3u);
  EXPECT_EQ(found[0].name, "onload");
  EXPECT_FALSE(found[0].loaded);
  EXPECT_FALSE(found[0].asked);
  EXPECT_TRUE(found[1].loaded);
  EXPECT_TRUE(found[1].asked);
  EXPECT_FALSE(found[2].loaded);
  EXPECT_TRUE(found[2].asked);

  Explanation explanation = explain(DriverConfig{}, kTable);
  explanation.preloads = found;
  const std::string text = explanationText(explanation);
  EXPECT_THAT(text, AllOf(HasSubstr("vma       active      libvma.so is loaded: socket and mmsg run on it"),
                          HasSubstr("LD_PRELOAD names libxlio.so, but it is not loaded"),
                          HasSubstr("start the driver with LD_PRELOAD=libonload.so")));
}

}  // namespace
}  // namespace outrigger::driver
