// SPDX-License-Identifier: Apache-2.0
// Configuration: every option from every source, and what a wrong value says.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <set>

#include "driver/config_options.h"
#include "driver/config_parser.h"
#include "driver/config_values.h"
#include "temp_directory.h"

namespace outrigger::driver {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

DriverConfig configOf(const Environment& environment, const std::vector<std::string>& arguments = {}) {
  auto parsed = parseConfig(arguments, environment);
  EXPECT_TRUE(parsed.ok()) << parsed.error().message;
  return parsed ? parsed->config : DriverConfig{};
}

std::string errorOf(const Environment& environment, const std::vector<std::string>& arguments = {}) {
  auto parsed = parseConfig(arguments, environment);
  EXPECT_FALSE(parsed.ok());
  return parsed ? std::string() : parsed.error().message;
}

std::vector<std::string> noticesOf(const Environment& environment, const std::vector<std::string>& arguments = {}) {
  auto parsed = parseConfig(arguments, environment);
  EXPECT_TRUE(parsed.ok()) << parsed.error().message;
  return parsed ? parsed->notices : std::vector<std::string>();
}

// What each option shows after being set to something that is not its default.
struct Sample {
  std::string value;
  std::string shown;
};
const std::map<std::string, Sample>& samples() {
  static const std::map<std::string, Sample> all = {
      {"AERON_DIR", {"/dev/shm/some", "/dev/shm/some"}},
      {"AERON_DIR_DELETE_ON_START", {"1", "true"}},
      {"AERON_DIR_DELETE_ON_SHUTDOWN", {"true", "true"}},
      {"AERON_DIR_WARN_IF_EXISTS", {"on", "true"}},
      {"OUTRIGGER_DIR_MODE", {"0750", "0750"}},
      {"OUTRIGGER_FILE_MODE", {"600", "0600"}},
      {"OUTRIGGER_POLICY_FILE", {"/run/own/policy", "/run/own/policy"}},
      {"OUTRIGGER_POLICY_OWNER", {"65532", "65532"}},
      {"AERON_DRIVER_TIMEOUT", {"2500", "2500ms"}},
      {"AERON_FILE_PAGE_SIZE", {"2m", "2m"}},
      {"AERON_LOSS_REPORT_BUFFER_LENGTH", {"64k", "64k"}},
      {"AERON_CONDUCTOR_BUFFER_LENGTH", {"1m", "1049344"}},
      {"AERON_CLIENTS_BUFFER_LENGTH", {"1048704", "1048704"}},
      {"AERON_COUNTERS_BUFFER_LENGTH", {"1m", "1m"}},
      {"AERON_ERROR_BUFFER_LENGTH", {"1m", "1m"}},
      {"AERON_THREADING_MODE", {"DEDICATED", "dedicated"}},
      {"AERON_CONDUCTOR_IDLE_STRATEGY", {"yield", "yield"}},
      {"AERON_SENDER_IDLE_STRATEGY", {"noop", "busy-spin"}},
      {"AERON_RECEIVER_IDLE_STRATEGY", {"sleep-ns", "sleep-ns"}},
      {"AERON_SHAREDNETWORK_IDLE_STRATEGY", {"backoff", "backoff"}},
      {"AERON_SHARED_IDLE_STRATEGY", {"org.agrona.concurrent.BackoffIdleStrategy", "backoff"}},
      {"AERON_CONDUCTOR_CPU_AFFINITY", {"0", "0"}},
      {"AERON_SENDER_CPU_AFFINITY", {"1", "1"}},
      {"AERON_RECEIVER_CPU_AFFINITY", {"2", "2"}},
      {"AERON_DRIVER_CONDUCTOR_CYCLE_THRESHOLD", {"1ms", "1ms"}},
      {"AERON_DRIVER_SENDER_CYCLE_THRESHOLD", {"2ms", "2ms"}},
      {"AERON_DRIVER_RECEIVER_CYCLE_THRESHOLD", {"3ms", "3ms"}},
      {"OUTRIGGER_BACKENDS", {"socket, mmsg", "socket,mmsg"}},
      {"OUTRIGGER_BACKEND_RETRY", {"30s", "30s"}},
      {"OUTRIGGER_INTERFACE", {"eth1", "eth1"}},
      {"OUTRIGGER_INTERFACE_ADDRESS", {"10.0.0.7", "10.0.0.7"}},
      {"OUTRIGGER_QUEUES", {"3, 0-1,1", "3,0,1"}},
      {"OUTRIGGER_XDP_MODE", {"native", "native"}},
      {"OUTRIGGER_UMEM_SIZE", {"4m", "4m"}},
      {"OUTRIGGER_HUGEPAGES", {"off", "false"}},
      {"OUTRIGGER_PACKET_MODE", {"bulk", "bulk"}},
      {"OUTRIGGER_PACKET_SOCKETS", {"4", "4"}},
      {"OUTRIGGER_URING_ZERO_COPY", {"on", "on"}},
      {"OUTRIGGER_NICD_SOCKET", {"/run/outrigger/nicd.sock", "/run/outrigger/nicd.sock"}},
      {"OUTRIGGER_NICD_CLAIM", {"/etc/outrigger/claim-1", "/etc/outrigger/claim-1"}},
      {"OUTRIGGER_DPDK_ARGS", {"--no-pci  --vdev=net_af_packet0,iface=eth0", "--no-pci --vdev=net_af_packet0,iface=eth0"}},
      {"OUTRIGGER_DPDK_DEVICE", {"0000:3b:02.1", "0000:3b:02.1"}},
      {"OUTRIGGER_DPDK_ADDRESSES", {"10.9.0.1/24,fd00::1/64", "10.9.0.1/24,fd00::1/64"}},
      {"OUTRIGGER_DPDK_GATEWAYS", {"10.9.0.254", "10.9.0.254"}},
      {"OUTRIGGER_DPDK_INTERFACE", {"vf0", "vf0"}},
      {"OUTRIGGER_DPDK_MTU", {"1500", "1500"}},
      {"OUTRIGGER_UDP_SEGMENT", {"off", "false"}},
      {"OUTRIGGER_UDP_GRO", {"off", "false"}},
      {"OUTRIGGER_BUSY_POLL_US", {"50", "50"}},
      {"OUTRIGGER_IMPAIR", {"rx-loss=0.1", "rx-loss=0.1"}},
      {"AERON_UDP_CHANNEL_INCOMING_INTERCEPTORS", {"loss", "loss"}},
      {"AERON_UDP_CHANNEL_TRANSPORT_BINDINGS_LOSS_ARGS", {"rate=0.5|seed=3|recv-msg-mask=0x2", "rate=0.5|seed=3|recv-msg-mask=0x2"}},
      {"AERON_TERM_BUFFER_LENGTH", {"64k", "64k"}},
      {"AERON_IPC_TERM_BUFFER_LENGTH", {"1m", "1m"}},
      {"AERON_TERM_BUFFER_SPARSE_FILE", {"false", "false"}},
      {"AERON_MTU_LENGTH", {"8192", "8k"}},
      {"AERON_IPC_MTU_LENGTH", {"4096", "4k"}},
      {"AERON_PUBLICATION_TERM_WINDOW_LENGTH", {"32k", "32k"}},
      {"AERON_IPC_PUBLICATION_TERM_WINDOW_LENGTH", {"16k", "16k"}},
      {"AERON_RCV_INITIAL_WINDOW_LENGTH", {"64k", "64k"}},
      {"AERON_SOCKET_SO_RCVBUF", {"2m", "2m"}},
      {"AERON_SOCKET_SO_SNDBUF", {"2m", "2m"}},
      {"AERON_SOCKET_MULTICAST_TTL", {"16", "16"}},
      {"AERON_SPIES_SIMULATE_CONNECTION", {"true", "true"}},
      {"AERON_RELIABLE_STREAM", {"false", "false"}},
      {"AERON_TETHER_SUBSCRIPTIONS", {"false", "false"}},
      {"AERON_REJOIN_STREAM", {"false", "false"}},
      {"AERON_PUBLICATION_RESERVED_SESSION_ID_LOW", {"-100", "-100"}},
      {"AERON_PUBLICATION_RESERVED_SESSION_ID_HIGH", {"2000", "2000"}},
      {"AERON_SENDER_WILDCARD_PORT_RANGE", {"20000 20100", "20000 20100"}},
      {"AERON_RECEIVER_WILDCARD_PORT_RANGE", {"20200 20300", "20200 20300"}},
      {"AERON_TIMER_INTERVAL", {"100ms", "100ms"}},
      {"AERON_CLIENT_LIVENESS_TIMEOUT", {"5s", "5s"}},
      {"AERON_IMAGE_LIVENESS_TIMEOUT", {"3s", "3s"}},
      {"AERON_PUBLICATION_UNBLOCK_TIMEOUT", {"20s", "20s"}},
      {"AERON_PUBLICATION_CONNECTION_TIMEOUT", {"2s", "2s"}},
      {"AERON_PUBLICATION_LINGER_TIMEOUT", {"0", "0ns"}},
      {"AERON_RCV_STATUS_MESSAGE_TIMEOUT", {"50ms", "50ms"}},
      {"AERON_COUNTERS_FREE_TO_REUSE_TIMEOUT", {"2s", "2s"}},
      {"AERON_UNTETHERED_WINDOW_LIMIT_TIMEOUT", {"1s", "1s"}},
      {"AERON_UNTETHERED_LINGER_TIMEOUT", {"2s", "2s"}},
      {"AERON_UNTETHERED_RESTING_TIMEOUT", {"3s", "3s"}},
      {"AERON_RETRANSMIT_UNICAST_DELAY", {"1us", "1us"}},
      {"AERON_RETRANSMIT_UNICAST_LINGER", {"60ms", "60ms"}},
      {"AERON_NAK_UNICAST_DELAY", {"5us", "5us"}},
      {"AERON_NAK_MULTICAST_MAX_BACKOFF", {"60ms", "60ms"}},
      {"AERON_NAK_MULTICAST_GROUP_SIZE", {"3", "3"}},
      {"AERON_MAX_RESEND", {"8", "8"}},
      {"AERON_UNICAST_FLOWCONTROL_SUPPLIER", {"aeron_min_flow_control_strategy_supplier", "min"}},
      {"AERON_MULTICAST_FLOWCONTROL_SUPPLIER", {"aeron_tagged_flow_control_strategy_supplier", "tagged"}},
      {"AERON_FLOW_CONTROL_RECEIVER_TIMEOUT", {"1s", "1s"}},
      {"AERON_FLOW_CONTROL_GROUP_MIN_SIZE", {"2", "2"}},
      {"AERON_FLOW_CONTROL_GROUP_TAG", {"-7", "-7"}},
      {"AERON_RECEIVER_GROUP_TAG", {"9", "9"}},
      {"AERON_CONGESTIONCONTROL_SUPPLIER", {"aeron_cubic_congestion_control_strategy_supplier", "cubic"}},
      {"AERON_RECEIVER_GROUP_CONSIDERATION", {"TRUE", "true"}},
      {"AERON_DRIVER_TERMINATION_VALIDATOR", {"allow", "allow"}},
      {"AERON_PRINT_CONFIGURATION", {"yes", "true"}},
      {"OUTRIGGER_RANDOM_SEED", {"0x10", "16"}},
  };
  return all;
}

TEST(Config, EveryOptionIsTakenFromTheEnvironmentFromAFlagAndFromAProperty) {
  const DriverConfig defaults;
  std::set<std::string> untested;
  for (const ConfigOption& option : configOptions()) {
    if (!option.show) continue;
    const auto sample = samples().find(option.name);
    if (sample == samples().end()) {
      untested.insert(option.name);
      continue;
    }
    const auto& [value, shown] = sample->second;
    EXPECT_EQ(option.show(configOf({{option.name, value}})), shown) << option.name;
    EXPECT_EQ(option.show(configOf({}, {option.flag() + "=" + value})), shown) << option.flag();
    std::string property = lowerCase(option.name);
    std::replace(property.begin(), property.end(), '_', '.');
    EXPECT_EQ(option.show(configOf({}, {"-D" + property + "=" + value})), shown) << property;
    EXPECT_NE(option.show(defaults), shown) << option.name << ": the sample is the default and proves nothing";
  }
  // Some only make sense with a strategy, or a backend, beside them; those have tests of their own.
  EXPECT_THAT(untested, ::testing::Each(::testing::AnyOf(HasSubstr("_IDLE_STRATEGY_INIT_ARGS"), "OUTRIGGER_VLAN")))
      << "options without a sample";
}

TEST(Config, EveryOptionHasAMeaningAndSaysWhatIsAllowed) {
  std::set<std::string> names;
  std::set<std::string> flags;
  const std::string help = configHelp();
  for (const ConfigOption& option : configOptions()) {
    EXPECT_TRUE(names.insert(option.name).second) << option.name << " twice";
    EXPECT_TRUE(flags.insert(option.flag()).second) << option.flag() << " twice";
    EXPECT_FALSE(option.meaning.empty()) << option.name;
    EXPECT_FALSE(option.allowed.empty()) << option.name;
    EXPECT_THAT(help, AllOf(HasSubstr(option.name), HasSubstr(option.meaning), HasSubstr(option.allowed)));
  }
}

TEST(Config, ARefusedValueNamesVariableValueAndWhatIsAllowed) {
  for (const ConfigOption& option : configOptions()) {
    std::string notice;
    DriverConfig scratch;
    const std::string nonsense = "no/such value!";
    if (option.name == "AERON_DIR" || option.allowed == "anything: it has no effect") continue;
    if (option.name.ends_with("_INIT_ARGS") && option.name.find("IDLE") != std::string::npos) continue;  // meaning depends on the strategy
    const std::string message = errorOf({{option.name, nonsense}});
    EXPECT_THAT(message, AllOf(HasSubstr(option.name), HasSubstr(nonsense), HasSubstr(option.allowed))) << option.name;
  }
}

TEST(Config, ValuesOutsideTheirRangeAreRefusedAtBothEnds) {
  const std::vector<std::pair<std::string, std::string>> wrong = {
      {"AERON_TERM_BUFFER_LENGTH", "32k"},
      {"AERON_TERM_BUFFER_LENGTH", "2g"},
      {"AERON_TERM_BUFFER_LENGTH", "100000"},  // no power of two
      {"AERON_TERM_BUFFER_LENGTH", "-65536"},
      {"AERON_TERM_BUFFER_LENGTH", "64kb"},
      {"AERON_TERM_BUFFER_LENGTH", ""},
      {"AERON_MTU_LENGTH", "1400"},  // no multiple of 32
      {"AERON_MTU_LENGTH", "65536"},
      {"AERON_TIMER_INTERVAL", "0"},
      {"AERON_TIMER_INTERVAL", "61s"},
      {"AERON_TIMER_INTERVAL", "1 s"},
      {"AERON_TIMER_INTERVAL", "99999999999999999999s"},
      {"AERON_SOCKET_MULTICAST_TTL", "256"},
      {"AERON_MAX_RESEND", "0"},
      {"AERON_MAX_RESEND", "257"},
      {"AERON_CONDUCTOR_BUFFER_LENGTH", "100000"},
      {"AERON_COUNTERS_BUFFER_LENGTH", "100001"},
      {"AERON_RECEIVER_WILDCARD_PORT_RANGE", "20100 20000"},
      {"AERON_RECEIVER_WILDCARD_PORT_RANGE", "20000"},
      {"AERON_RECEIVER_WILDCARD_PORT_RANGE", "0 10"},
      {"OUTRIGGER_FILE_MODE", "0777"},  // files are not executable
      {"OUTRIGGER_FILE_MODE", "0060"},  // the owner must get in
      {"OUTRIGGER_DIR_MODE", "0778"},
      {"OUTRIGGER_BACKENDS", "mmsg,,socket"},
      {"OUTRIGGER_BACKENDS", "carrier-pigeon"},
      {"OUTRIGGER_BACKENDS", "mmsg,mmsg"},
      {"OUTRIGGER_INTERFACE", "a-name-of-16-char"},
      {"OUTRIGGER_INTERFACE", "eth0/1"},
      {"OUTRIGGER_INTERFACE_ADDRESS", "localhost"},
      {"OUTRIGGER_QUEUES", "0,-1"},
      {"OUTRIGGER_QUEUES", "3-1"},
      {"OUTRIGGER_QUEUES", "0-64"},
      {"OUTRIGGER_QUEUES", "1024"},
      {"OUTRIGGER_QUEUES", "0,,1"},
      {"OUTRIGGER_XDP_MODE", "skb"},
      {"OUTRIGGER_XDP_MODE", ""},
      {"OUTRIGGER_UMEM_SIZE", "2g"},
      {"OUTRIGGER_UMEM_SIZE", "1000000"},
      {"OUTRIGGER_HUGEPAGES", "some"},
      {"OUTRIGGER_PACKET_MODE", "fast"},
      {"OUTRIGGER_PACKET_SOCKETS", "0"},
      {"OUTRIGGER_PACKET_SOCKETS", "17"},
      {"OUTRIGGER_URING_ZERO_COPY", "maybe"},
      {"OUTRIGGER_NICD_SOCKET", "nicd.sock"},
      {"OUTRIGGER_DPDK_ARGS", "net_af_packet0"},
      {"OUTRIGGER_DPDK_DEVICE", "eth0,eth1"},
      {"OUTRIGGER_DPDK_ADDRESSES", "10.9.0.1/33"},
      {"OUTRIGGER_DPDK_GATEWAYS", "nowhere"},
      {"OUTRIGGER_DPDK_MTU", "67"},
      {"OUTRIGGER_VLAN", "4095"},
      {"OUTRIGGER_VLAN", "-1"},
      {"OUTRIGGER_NICD_CLAIM", "claim"},
      {"AERON_RECEIVER_GROUP_TAG", "1.5"},
  };
  for (const auto& [name, value] : wrong) EXPECT_THAT(errorOf({{name, value}}), HasSubstr(name + "=" + value));
}

TEST(Config, AVlanIsForDpdkAndOthersAreToldToOpenItsInterface) {
  EXPECT_EQ(configOf({{"OUTRIGGER_VLAN", "4094"}, {"OUTRIGGER_BACKENDS", "dpdk,mmsg"}}).raw.vlan, 4094);
  EXPECT_EQ(configOf({}, {"--backends=mmsg,dpdk", "--vlan=1"}).raw.vlan, 1);
  EXPECT_EQ(configOf({}, {"-Doutrigger.backends=dpdk", "-Doutrigger.vlan=42"}).raw.vlan, 42);
  EXPECT_THAT(describeConfig(configOf({}, {"--backends=dpdk", "--vlan=42"})), ::testing::Contains("OUTRIGGER_VLAN=42"));
  EXPECT_THAT(errorOf({{"OUTRIGGER_VLAN", "42"}, {"OUTRIGGER_BACKENDS", "xdp,mmsg"}}),
              AllOf(HasSubstr("OUTRIGGER_VLAN=42"), HasSubstr("OUTRIGGER_BACKENDS=xdp,mmsg"), HasSubstr("OUTRIGGER_INTERFACE=eth0.42")));
  EXPECT_THAT(errorOf({{"OUTRIGGER_VLAN", "4095"}}), HasSubstr("allowed is whole number from 0 to 4094"));
}

TEST(Config, APolicyFileThatClientsCouldReplaceIsRefused) {
  EXPECT_THAT(errorOf({{"AERON_DIR", "/dev/shm/d"}, {"OUTRIGGER_POLICY_FILE", "/dev/shm/d/policy"}}),
              AllOf(HasSubstr("/dev/shm/d/policy"), HasSubstr("is in the driver's directory")));
  EXPECT_EQ(configOf({{"AERON_DIR", "/dev/shm/d"}, {"OUTRIGGER_POLICY_FILE", "/dev/shm/d-policy/policy"}}).policyFile,
            "/dev/shm/d-policy/policy");
}

TEST(Config, ABadImpairmentSaysWhichParameterIsWrong) {
  EXPECT_THAT(errorOf({{"OUTRIGGER_IMPAIR", "rx-loss=2"}}), HasSubstr("rx-loss=2"));
  EXPECT_THAT(errorOf({{"AERON_UDP_CHANNEL_TRANSPORT_BINDINGS_LOSS_ARGS", "rat=0.1"}}), HasSubstr("rat=0.1"));
}

TEST(Config, AeronsLossBecomesAnImpairment) {
  const DriverConfig config = configOf({{"AERON_UDP_CHANNEL_INCOMING_INTERCEPTORS", "loss"},
                                        {"AERON_UDP_CHANNEL_TRANSPORT_BINDINGS_LOSS_ARGS", "rate=0.25|seed=3|recv-msg-mask=0x2"}});
  EXPECT_EQ(config.impair, "rx-loss=0.25,mask=0x2,seed=3");
  // Arguments alone switch nothing on.
  EXPECT_EQ(configOf({{"AERON_UDP_CHANNEL_TRANSPORT_BINDINGS_LOSS_ARGS", "rate=0.25|seed=3|recv-msg-mask=0x2"}}).impair, "");
}

TEST(Config, IdleStrategiesTakeTheirArguments) {
  DriverConfig config = configOf({{"AERON_SHARED_IDLE_STRATEGY", "backoff"}, {"AERON_SHARED_IDLE_STRATEGY_INIT_ARGS", "5|6|2us|3ms"}});
  EXPECT_EQ(config.sharedIdle.kind, IdleKind::kBackoff);
  EXPECT_EQ(config.sharedIdle.spins, 5);
  EXPECT_EQ(config.sharedIdle.yields, 6);
  EXPECT_EQ(config.sharedIdle.minParkNs, 2'000);
  EXPECT_EQ(config.sharedIdle.maxParkNs, 3'000'000);
  config = configOf({{"AERON_SENDER_IDLE_STRATEGY", "sleep-ns"}, {"AERON_SENDER_IDLE_STRATEGY_INIT_ARGS", "100us"}});
  EXPECT_EQ(config.senderIdle.kind, IdleKind::kSleep);
  EXPECT_EQ(config.senderIdle.minParkNs, 100'000);
  EXPECT_EQ(configOf({}).sharedIdle.kind, IdleKind::kAdaptive);
  EXPECT_THAT(errorOf({{"AERON_SHARED_IDLE_STRATEGY", "backoff"}, {"AERON_SHARED_IDLE_STRATEGY_INIT_ARGS", "5|6|3ms|2us"}}),
              HasSubstr("AERON_SHARED_IDLE_STRATEGY_INIT_ARGS=5|6|3ms|2us"));
}

TEST(Config, LaterSourcesWinOverEarlierOnes) {
  const test::TempDirectory directory;
  std::ofstream(directory / "driver.properties")
      << "# a comment\n\n! another\naeron.term.buffer.length=128k\naeron.mtu.length = \\\n  4096\n"
      << "aeron.ipc.mtu.length: 2048\n";
  const Environment environment = {{"AERON_TERM_BUFFER_LENGTH", "64k"}, {"AERON_MTU_LENGTH", "2048"}, {"AERON_DIR", "/dev/shm/x/"}};
  DriverConfig config = configOf(environment, {directory / "driver.properties"});
  EXPECT_EQ(config.termBufferLength, 128 * 1024);
  EXPECT_EQ(config.mtuLength, 4096);
  EXPECT_EQ(config.ipcMtuLength, 2048);
  EXPECT_EQ(config.directory, "/dev/shm/x") << "without the slash at the end";
  config = configOf(environment, {directory / "driver.properties", "--mtu-length=8192", "-D", "aeron.term.buffer.length=256k"});
  EXPECT_EQ(config.mtuLength, 8192);
  EXPECT_EQ(config.termBufferLength, 256 * 1024);
}

TEST(Config, AMissingPropertiesFileAndALineThatIsNoneAreNamed) {
  EXPECT_THAT(errorOf({}, {"/no/such.properties"}), HasSubstr("/no/such.properties"));
  const test::TempDirectory directory;
  std::ofstream(directory / "bad.properties") << "no value here\n";
  EXPECT_THAT(errorOf({}, {directory / "bad.properties"}), AllOf(HasSubstr("bad.properties"), HasSubstr("no value here")));
}

TEST(Config, AnUnknownFlagGetsTheNearestKnownOne) {
  EXPECT_THAT(errorOf({}, {"--term-bufer-length=64k"}), AllOf(HasSubstr("--term-bufer-length"), HasSubstr("'--term-buffer-length'")));
  EXPECT_THAT(errorOf({}, {"-x"}), HasSubstr("'-x'"));
}

TEST(Config, ASwitchNeedsNoValueAsAFlag) { EXPECT_TRUE(configOf({}, {"--dir-delete-on-start"}).deleteDirectoryOnStart); }

TEST(Config, UnknownVariablesAreIgnoredWithOneLine) {
  EXPECT_THAT(noticesOf({{"AERON_FUTURE_OPTION", "1"}, {"AERON_ARCHIVE_DIR", "/x"}}),
              ::testing::ElementsAre(AllOf(HasSubstr("AERON_FUTURE_OPTION"), HasSubstr("AERON_ARCHIVE_DIR"))));
  // The sidecar has OUTRIGGER_ variables of its own: only what looks like a typo is worth a line.
  EXPECT_THAT(noticesOf({{"OUTRIGGER_GRPC_SOCKET", "/x"}}), IsEmpty());
  EXPECT_THAT(noticesOf({{"OUTRIGGER_BACKEND", "mmsg"}}), ::testing::ElementsAre(HasSubstr("did you mean OUTRIGGER_BACKENDS")));
  EXPECT_THAT(noticesOf({}, {"-Daeron.term.bufer.length=1"}), Contains(HasSubstr("AERON_TERM_BUFFER_LENGTH")));
}

TEST(Config, WhatHasNoEffectIsSaid) {
  EXPECT_THAT(noticesOf({{"AERON_SENDER_IO_VECTOR_CAPACITY", "4"}}),
              ::testing::ElementsAre(HasSubstr("AERON_SENDER_IO_VECTOR_CAPACITY has no effect")));
}

TEST(Config, WhatComesLaterIsRefusedUnlessItAsksForNothing) {
  EXPECT_THAT(errorOf({{"AERON_NAME_RESOLVER_SUPPLIER", "csv_table"}}), AllOf(HasSubstr("csv_table"), HasSubstr("not supported")));
  EXPECT_THAT(errorOf({{"AERON_DRIVER_RESOLVER_INTERFACE", "0.0.0.0:8050"}}), HasSubstr("not supported"));
  EXPECT_THAT(noticesOf({{"AERON_NAME_RESOLVER_SUPPLIER", "default"}, {"AERON_DRIVER_RESOLVER_NAME", ""}}), IsEmpty());
}

TEST(Config, OptionsThatContradictEachOtherAreNamedTogether) {
  EXPECT_THAT(
      errorOf({{"AERON_PUBLICATION_RESERVED_SESSION_ID_LOW", "5000"}}),
      AllOf(HasSubstr("AERON_PUBLICATION_RESERVED_SESSION_ID_LOW=5000"), HasSubstr("AERON_PUBLICATION_RESERVED_SESSION_ID_HIGH=1000")));
  EXPECT_THAT(errorOf({{"AERON_MTU_LENGTH", "8192"}, {"AERON_SOCKET_SO_SNDBUF", "4096"}}),
              AllOf(HasSubstr("AERON_MTU_LENGTH=8192"), HasSubstr("AERON_SOCKET_SO_SNDBUF=4096")));
  EXPECT_THAT(noticesOf({{"AERON_RCV_INITIAL_WINDOW_LENGTH", "1m"}}), Contains(HasSubstr("AERON_SOCKET_SO_RCVBUF")));
}

TEST(Config, WithoutAnythingTheDefaultsAreAeronsAndTheDirectoryIsTheUsers) {
  auto parsed = parseConfig({}, {});
  ASSERT_TRUE(parsed.ok());
  EXPECT_THAT(parsed->notices, IsEmpty());
  EXPECT_EQ(parsed->config.directory, defaultDirectory());
  EXPECT_THAT(parsed->config.directory, HasSubstr("/dev/shm/aeron-"));
  EXPECT_EQ(parsed->config.termBufferLength, 16 * 1024 * 1024);
  EXPECT_EQ(parsed->config.ipcTermBufferLength, 64 * 1024 * 1024);
  EXPECT_EQ(parsed->config.mtuLength, 1408);
  EXPECT_EQ(parsed->config.clientLivenessTimeoutNs, 10 * kSecondNs);
  EXPECT_FALSE(parsed->config.terminationAllowed);
  EXPECT_FALSE(parsed->help);
  EXPECT_FALSE(parsed->version);
}

TEST(Config, HelpAndVersionAreFlags) {
  for (const char* flag : {"-h", "--help"}) EXPECT_TRUE(parseConfig({flag}, {})->help);
  for (const char* flag : {"-v", "--version"}) EXPECT_TRUE(parseConfig({flag}, {})->version);
}

TEST(Config, PrintedConfigurationReadsBackToItself) {
  Environment environment;
  for (const auto& [name, sample] : samples()) environment.emplace_back(name, sample.value);
  std::sort(environment.begin(), environment.end());
  const DriverConfig config = configOf(environment);
  Environment printed;
  for (const std::string& line : describeConfig(config)) {
    const size_t equals = line.find('=');
    const std::string name = line.substr(0, equals);
    if (name.ends_with("_INIT_ARGS") && line.size() == equals + 1) continue;
    printed.emplace_back(name, line.substr(equals + 1));
  }
  EXPECT_EQ(describeConfig(configOf(printed)), describeConfig(config));
}

TEST(ConfigValues, TextsOfSizesAndDurationsReadBack) {
  for (const int64_t bytes : {int64_t{0}, int64_t{1}, int64_t{1023}, int64_t{65536}, int64_t{16} << 20, int64_t{1} << 30}) {
    EXPECT_EQ(parseSize(sizeText(bytes)), bytes);
  }
  for (const int64_t ns : {int64_t{0}, int64_t{1}, int64_t{1'500}, int64_t{50'000}, int64_t{100'000'000}, int64_t{5'000'000'000}}) {
    EXPECT_EQ(parseDurationNs(durationText(ns)), ns);
  }
  EXPECT_EQ(parseInteger("-9223372036854775808"), INT64_MIN);
  EXPECT_EQ(parseInteger("9223372036854775808"), std::nullopt);
  EXPECT_EQ(parseInteger("--1"), std::nullopt);
  EXPECT_EQ(parseSize("9223372036854775807g"), std::nullopt);
}

}  // namespace
}  // namespace outrigger::driver
