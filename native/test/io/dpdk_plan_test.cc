// SPDX-License-Identifier: Apache-2.0
// From the configuration to EAL's arguments, and what of the machine stands in DPDK's way: no DPDK needed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

#include "io/dpdk_loader/dpdk_host.h"
#include "io/dpdk_loader/dpdk_loader.h"
#include "io/dpdk_loader/eal_plan.h"
#include "io/dpdk_loader/port_filter.h"

namespace outrigger::io {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

EalPlan planned(const BackendOptions& options) {
  auto plan = planEal(options, {2, 5});
  EXPECT_TRUE(plan.ok()) << plan.error().message;
  return plan ? plan.take() : EalPlan{};
}

std::string refusal(const BackendOptions& options) {
  const auto plan = planEal(options, {0});
  EXPECT_FALSE(plan.ok());
  return plan.ok() ? "" : plan.error().message;
}

TEST(EalPlan, AVfIsAllowedByItsAddressOnHugepagesInMemoryOnTheCoresOfTheProcess) {
  BackendOptions options;
  options.dpdkDevice = "01:10.2";
  const EalPlan plan = planned(options);
  EXPECT_THAT(plan.arguments,
              ElementsAre("--lcores=0@(2,5)", "--no-telemetry", "--no-shconf", "--log-level=4", "--in-memory", "-a", "0000:01:10.2"));
  EXPECT_TRUE(plan.device.pci);
  EXPECT_EQ(plan.device.name, "0000:01:10.2");
}

TEST(EalPlan, WithoutHugepagesThereIsNoInMemoryAndTheMemoryHoldsTheBuffers) {
  BackendOptions options;
  options.hugepages = false;
  options.umemBytes = 64u << 20;
  options.dpdkArguments = {"--vdev=net_af_packet0,iface=eth0,qpairs=2"};
  const EalPlan plan = planned(options);
  EXPECT_THAT(plan.arguments, Not(Contains("--in-memory")));
  EXPECT_THAT(plan.arguments, Contains("--no-huge"));
  EXPECT_THAT(plan.arguments, Contains("--no-pci"));
  EXPECT_THAT(plan.arguments, Contains("96"));
  // Devices that are no PCI devices are plugged later, so that they can be opened again.
  EXPECT_THAT(plan.arguments, Not(Contains(HasSubstr("vdev"))));
  EXPECT_EQ(plan.device.name, "net_af_packet0");
  EXPECT_EQ(plan.device.argument("iface"), "eth0");
  EXPECT_EQ(plan.device.argument("qpairs"), "2");
  EXPECT_EQ(plan.device.argument("face"), "");
}

TEST(EalPlan, ArgumentsOfTheConfigurationComeThroughWhateverTheirForm) {
  BackendOptions options;
  options.dpdkArguments = {"-a",           "0000:0A:00.1,representor=0", "--iova-mode=va", "-m", "64", "--no-huge", "--log-level", "7",
                           "-d/opt/pmd.so"};
  const EalPlan plan = planned(options);
  EXPECT_THAT(plan.arguments, ElementsAre("--lcores=0@(2,5)", "--no-telemetry", "--no-shconf", "--log-level=7", "--no-huge", "-a",
                                          "0000:0a:00.1,representor=0", "--iova-mode=va", "-m", "64", "-d", "/opt/pmd.so"));
  EXPECT_FALSE(plan.hugepages);
}

TEST(EalPlan, WhatTheDriverDecidesIsRefusedByName) {
  for (const char* argument :
       {"-l", "--lcores=0", "--proc-type=secondary", "--file-prefix=x", "--in-memory", "--no-shconf", "--no-telemetry"}) {
    BackendOptions options;
    options.dpdkArguments = {argument};
    EXPECT_THAT(refusal(options), HasSubstr("is set by the driver")) << argument;
    EXPECT_THAT(refusal(options), HasSubstr(argument));
  }
}

TEST(EalPlan, BadInputIsNamedWithItsFix) {
  const auto with = [](std::vector<std::string> arguments, const std::string& device = "") {
    BackendOptions options;
    options.dpdkArguments = std::move(arguments);
    options.dpdkDevice = device;
    return refusal(options);
  };
  EXPECT_THAT(with({"net_ring0"}), HasSubstr("'net_ring0' does not start with '-'"));
  EXPECT_THAT(with({"--vdev"}), HasSubstr("'--vdev' has no value"));
  EXPECT_THAT(with({"-a", "eth0"}), HasSubstr("names no PCI address"));
  EXPECT_THAT(with({}), HasSubstr("no device is configured"));
  EXPECT_THAT(with({"--vdev=net_ring0", "--vdev=net_ring1"}), HasSubstr("(net_ring0, net_ring1): say which one"));
  EXPECT_THAT(with({"--no-pci"}, "0000:01:10.0"), HasSubstr("contradicts the PCI device 0000:01:10.0"));

  BackendOptions options;
  options.dpdkDevice = "0000:01:10.0";
  options.umemBytes = 1024;
  EXPECT_THAT(refusal(options), HasSubstr("1024 bytes of buffers are too few"));
  options.umemBytes = 16u << 20;
  options.queues = {1};
  EXPECT_THAT(refusal(options), HasSubstr("queue 1 can't be opened alone"));
  options.queues.clear();
  options.dpdkAddresses = "10.0.0.1/33";
  EXPECT_THAT(refusal(options), HasSubstr("prefix length '33' is not valid, allowed is 1 to 32"));
  options.dpdkAddresses = "10.0.0.1/24";
  options.dpdkGateways = "10.0.0.254,10.0.0.253";
  EXPECT_THAT(refusal(options), HasSubstr("allowed is one of IPv4 and one of IPv6"));
}

TEST(EalPlan, AddressesAndGatewaysOfADeviceThatTheKernelDoesNotOwn) {
  BackendOptions options;
  options.dpdkDevice = "0000:01:10.0";
  options.dpdkAddresses = "10.9.0.1/24,fd00::1/64,10.9.1.1";
  options.dpdkGateways = "10.9.0.254,fd00::ff";
  const EalPlan plan = planned(options);
  ASSERT_EQ(plan.addresses.size(), 3u);
  EXPECT_EQ(plan.addresses[0].address.toString(), "10.9.0.1:0");
  EXPECT_EQ(plan.addresses[0].prefixLength, 24);
  EXPECT_EQ(plan.addresses[1].prefixLength, 64);
  EXPECT_EQ(plan.addresses[2].prefixLength, 32);
  EXPECT_EQ(plan.gateways.size(), 2u);
  EXPECT_EQ(plan.exceptionInterface, "outrigger0");
}

TEST(EalPlan, PciAddressesInEveryForm) {
  EXPECT_EQ(pciAddress("0000:01:10.0"), "0000:01:10.0");
  EXPECT_EQ(pciAddress("1:1f.7"), "0000:01:1f.7");
  EXPECT_EQ(pciAddress("000A:Ff:00.1"), "000a:ff:00.1");
  for (const char* text : {"", "eth0", "0000:01:10", "0000:01:10.8", "01:20.0", "0000:01:10.0x", "net_ring0"})
    EXPECT_EQ(pciAddress(text), "") << text;
}

// A machine as sysfs and /dev show it.
class FakeHost : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "outrigger-dpdk-XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    root_ = pattern;
    paths_.sys = root_ / "sys";
    paths_.dev = root_ / "dev";
    std::filesystem::create_directories(root_ / "dev/vfio");
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  void write(const std::string& path, const std::string& text) {
    std::filesystem::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }
  void hugepages(int kilobytes, int total, int free) {
    const std::string folder = "sys/kernel/mm/hugepages/hugepages-" + std::to_string(kilobytes) + "kB/";
    write(folder + "nr_hugepages", std::to_string(total) + "\n");
    write(folder + "free_hugepages", std::to_string(free) + "\n");
  }
  void device(const std::string& address, const std::string& driver, const std::string& group) {
    const auto folder = root_ / "sys/bus/pci/devices" / address;
    std::filesystem::create_directories(folder);
    if (!driver.empty()) std::filesystem::create_symlink("../../drivers/" + driver, folder / "driver");
    if (group.empty()) return;
    const auto groupFolder = root_ / "sys/kernel/iommu_groups" / group;
    std::filesystem::create_directories(groupFolder / "devices" / address);
    std::filesystem::create_symlink(groupFolder, folder / "iommu_group");
  }
  std::string causes(const std::string& address) {
    std::string out;
    for (const BackendCause& cause : pciCauses(address, paths_)) out += cause.what + ": " + cause.cause + " => " + cause.fix + "\n";
    return out;
  }

  std::filesystem::path root_;
  HostPaths paths_;
};

TEST_F(FakeHost, HugepagesThatAreMissingAreCountedAndTheCommandIsGiven) {
  BackendOptions options;
  options.dpdkDevice = "0000:01:10.0";
  const EalPlan plan = planned(options);
  hugepages(1048576, 0, 0);
  hugepages(2048, 10, 4);
  const auto found = hugepageCauses(plan, paths_);
  ASSERT_EQ(found.size(), 1u);
  EXPECT_THAT(found[0].cause,
              HasSubstr("4 of 10 of 2 MiB are free, 0 of 0 of 1 GiB are free; 24 of 2 MiB are needed for 16 MiB of buffers"));
  EXPECT_THAT(found[0].fix, HasSubstr("echo 30 > /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"));
  EXPECT_THAT(found[0].fix, HasSubstr("hugepages-2Mi: 48Mi"));

  hugepages(2048, 30, 24);
  EXPECT_TRUE(hugepageCauses(plan, paths_).empty());
  hugepages(2048, 30, 23);
  EXPECT_EQ(hugepageCauses(plan, paths_).size(), 1u);
  hugepages(1048576, 1, 1);
  EXPECT_TRUE(hugepageCauses(plan, paths_).empty());
}

TEST_F(FakeHost, HugepagesAreNoMatterWhereNoneAreAskedFor) {
  BackendOptions options;
  options.dpdkDevice = "0000:01:10.0";
  options.hugepages = false;
  EXPECT_TRUE(hugepageCauses(planned(options), paths_).empty());
  options.hugepages = true;
  ASSERT_EQ(hugepageCauses(planned(options), paths_).size(), 1u);
  EXPECT_THAT(hugepageCauses(planned(options), paths_)[0].cause, HasSubstr("this kernel has none"));
}

TEST_F(FakeHost, AVfThatIsReadyHasNoCauses) {
  device("0000:01:10.0", "vfio-pci", "7");
  device("0000:00:01.0", "pcieport", "7");
  std::filesystem::create_directories(root_ / "sys/kernel/iommu_groups/7/devices/0000:00:01.0");
  write("dev/vfio/vfio", "");
  write("dev/vfio/7", "");
  EXPECT_EQ(causes("0000:01:10.0"), "");
}

TEST_F(FakeHost, EachObstacleOfAVfIsNamedWithItsFix) {
  EXPECT_THAT(causes("0000:09:00.0"), HasSubstr("there is no PCI device 0000:09:00.0"));

  device("0000:01:10.0", "igbvf", "7");
  EXPECT_THAT(causes("0000:01:10.0"), HasSubstr("0000:01:10.0 is bound to igbvf, so it is the kernel's => echo vfio-pci > "));

  device("0000:01:10.1", "", "8");
  EXPECT_THAT(causes("0000:01:10.1"), HasSubstr("is bound to no driver"));

  device("0000:01:10.2", "vfio-pci", "");
  EXPECT_THAT(causes("0000:01:10.2"), HasSubstr("is in no IOMMU group: the IOMMU is off or absent => boot with intel_iommu=on"));

  device("0000:01:10.3", "vfio-pci", "9");
  EXPECT_THAT(causes("0000:01:10.3"), HasSubstr("dev/vfio/vfio does not exist"));
  write("dev/vfio/vfio", "");
  EXPECT_THAT(causes("0000:01:10.3"), HasSubstr("dev/vfio/9 does not exist"));
  write("dev/vfio/9", "");
  EXPECT_EQ(causes("0000:01:10.3"), "");

  device("0000:01:10.4", "igbvf", "9");
  EXPECT_THAT(causes("0000:01:10.3"), HasSubstr("group 9 of 0000:01:10.3 also holds 0000:01:10.4, which is bound to igbvf"));
}

TEST_F(FakeHost, ABifurcatedDeviceStaysWithItsDriverAndNeedsVerbs) {
  device("0000:02:00.0", "mlx5_core", "3");
  EXPECT_THAT(causes("0000:02:00.0"), HasSubstr("has no InfiniBand device"));
  std::filesystem::create_directories(root_ / "sys/bus/pci/devices/0000:02:00.0/infiniband/mlx5_0");
  EXPECT_EQ(causes("0000:02:00.0"), "");
}

TEST_F(FakeHost, ADeviceThatTheKernelDoesNotOwnNeedsAddressesAndAnExceptionInterface) {
  const auto lacks = [&](BackendOptions options) {
    options.hugepages = false;
    std::string out;
    for (const BackendCause& cause : exceptionCauses(planned(options), paths_)) out += cause.what + ": " + cause.cause + " => " + cause.fix;
    return out;
  };
  device("0000:01:10.0", "vfio-pci", "7");
  device("0000:02:00.0", "mlx5_core", "3");
  BackendOptions vf;
  vf.dpdkDevice = "0000:01:10.0";
  EXPECT_THAT(lacks(vf), HasSubstr("the kernel does not own 0000:01:10.0, so it needs addresses of its own => give them with their prefix "
                                   "lengths (OUTRIGGER_DPDK_ADDRESSES="));
  BackendOptions ring;
  ring.dpdkArguments = {"--vdev=net_ring0"};
  EXPECT_THAT(lacks(ring), HasSubstr("does not own net_ring0"));
  vf.dpdkAddresses = "10.9.0.1/24";
  EXPECT_THAT(lacks(vf), HasSubstr("dev/net/tun does not exist => give the container /dev/net/tun"));
  write("dev/net/tun", "");
  vf.dpdkInterface = "lo";  // one that is there
  EXPECT_EQ(lacks(vf), "");
  // The kernel keeps these, and answers for them.
  BackendOptions kept;
  kept.dpdkDevice = "0000:02:00.0";
  EXPECT_EQ(lacks(kept), "");
  kept.dpdkDevice.clear();
  kept.dpdkArguments = {"--vdev=net_af_packet0,iface=lo"};
  EXPECT_EQ(lacks(kept), "");
  kept.dpdkArguments = {"--vdev=net_af_xdp0,iface=lo,xdp_prog=/opt/steer.o"};
  EXPECT_EQ(lacks(kept), "");
  kept.dpdkArguments = {"--vdev=net_af_xdp0,iface=lo"};
  EXPECT_THAT(lacks(kept), HasSubstr("does not own net_af_xdp0"));
}

TEST_F(FakeHost, AnExceptionInterfaceCanNotBeMadeWithoutThePrivilege) {
  write("dev/net/tun", "");
  BackendOptions options;
  options.hugepages = false;
  options.dpdkArguments = {"--vdev=net_ring0"};
  options.dpdkAddresses = "10.9.0.1/24";
  options.dpdkInterface = "og-none";
  const EalPlan plan = planned(options);
  // Capabilities are a thread's.
  std::vector<BackendCause> found;
  std::thread([&] {
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3] = {};
    EXPECT_EQ(::syscall(SYS_capset, &header, sets), 0);
    found = exceptionCauses(plan, paths_);
  }).join();
  ASSERT_FALSE(found.empty());
  EXPECT_THAT(found.back().cause, HasSubstr("there is no interface og-none in this network namespace, and to make it takes CAP_NET_ADMIN"));
  EXPECT_THAT(found.back().fix, HasSubstr("ip tuntap add og-none mode tap"));
}

TEST(DpdkHost, AVirtualDeviceOverAnInterfaceNeedsThatInterface) {
  EalDevice device{"net_af_packet0", "iface=og-none", false};
  ASSERT_EQ(vdevCauses(device).size(), 1u);
  EXPECT_THAT(vdevCauses(device)[0].cause, HasSubstr("there is no interface og-none"));
  device.arguments = "iface=lo";
  EXPECT_TRUE(vdevCauses(device).empty());
  // And where the kernel keeps it, that of the VLAN.
  ASSERT_EQ(vdevCauses(device, 42).size(), 1u);
  EXPECT_THAT(vdevCauses(device, 42)[0].cause, HasSubstr("OUTRIGGER_VLAN=42: the kernel keeps lo"));
  EXPECT_THAT(vdevCauses(device, 42)[0].fix, HasSubstr("ip link add link lo name lo.42 type vlan id 42"));
  device.arguments.clear();
  EXPECT_THAT(vdevCauses(device)[0].fix, HasSubstr("--vdev=net_af_packet0,iface=eth0"));
}

TEST(DpdkLoader, AModuleThatIsMissingOrOfAnotherKindIsNamed) {
  ::setenv("OUTRIGGER_DPDK_LIBRARY", "/nonexistent/outrigger-dpdk.so", 1);
  auto module = loadDpdk();
  ASSERT_FALSE(module.ok());
  EXPECT_THAT(module.error().message, HasSubstr("/nonexistent/outrigger-dpdk.so"));
  EXPECT_THAT(module.error().message, HasSubstr("OUTRIGGER_DPDK_LIBRARY"));
  ::setenv("OUTRIGGER_DPDK_LIBRARY", "libm.so.6", 1);
  module = loadDpdk();
  ASSERT_FALSE(module.ok());
  EXPECT_THAT(module.error().message, HasSubstr("has no function outriggerDpdkModule"));
  ::unsetenv("OUTRIGGER_DPDK_LIBRARY");
}

TEST(DpdkLoader, WhatTheDriverRefusesIsNotCalledAvailable) {
  BackendOptions options;
  options.hugepages = false;
  options.dpdkArguments = {"--vdev=net_ring0"};
  const BackendReport report = probeDpdk(options);
  EXPECT_TRUE(report.availability == Availability::kImpossible || report.availability == Availability::kNotBuilt);
  EXPECT_THAT(report.causes, Contains(::testing::Field(&BackendCause::what, "addresses")));
}

constexpr MacAddress kMac{0x02, 0, 0, 0, 0, 2};

std::vector<uint8_t> ipv4Udp(uint16_t port) {
  std::vector<uint8_t> frame{0x02, 0,  0, 0, 0, 2,  0x02, 0, 0, 0,    0,    1, 0x08, 0x00, 0x45, 0, 0, 36, 0, 0, 0x40, 0, 64, 17, 0,
                             0,    10, 0, 0, 1, 10, 0,    0, 2, 0x0f, 0xa0, 0, 0,    0,    16,   0, 0, 1,  2, 3, 4,    5, 6,  7,  8};
  frame[36] = static_cast<uint8_t>(port >> 8);
  frame[37] = static_cast<uint8_t>(port);
  return frame;
}

bool wants(PortFilter& filter, const std::vector<uint8_t>& frame) {
  filter.refresh();
  return filter.wants(frame, findUdp(frame), kMac);
}

TEST(PortFilter, OnlyWholeUdpToASteeredPortOfThisDeviceIsOurs) {
  PortFilter filter;
  filter.add(SockAddr::parseNumeric("0.0.0.0", 5000).take());
  EXPECT_TRUE(wants(filter, ipv4Udp(5000)));
  EXPECT_FALSE(wants(filter, ipv4Udp(5001)));
  std::vector<uint8_t> frame = ipv4Udp(5000);
  frame[0] = 0x04;  // another's MAC address: what this host sends to its peer's port of the same number
  EXPECT_FALSE(wants(filter, frame));
  frame[0] = 0x33;  // a multicast group
  EXPECT_TRUE(wants(filter, frame));
  frame = ipv4Udp(5000);
  frame[20] = 0x20;  // more fragments
  EXPECT_FALSE(wants(filter, frame));
  frame = ipv4Udp(5000);
  frame[21] = 1;  // a later fragment
  EXPECT_FALSE(wants(filter, frame));
  frame = ipv4Udp(5000);
  frame[14] = 0x46;  // options
  EXPECT_FALSE(wants(filter, frame));
  frame = ipv4Udp(5000);
  frame[23] = 6;  // TCP
  EXPECT_FALSE(wants(filter, frame));
  frame = ipv4Udp(5000);
  for (size_t length = 0; length < 42; length++)
    EXPECT_FALSE(wants(filter, {frame.begin(), frame.begin() + static_cast<long>(length)})) << length;
  frame.insert(frame.begin() + 12, {0x81, 0x00, 0x00, 0x64});  // 802.1Q
  EXPECT_TRUE(wants(filter, frame));
  filter.remove(SockAddr::parseNumeric("0.0.0.0", 5000).take());
  EXPECT_FALSE(wants(filter, ipv4Udp(5000)));
}

TEST(PortFilter, AnAddressAlsoCountsAndEachFamilyStandsAlone) {
  PortFilter filter;
  filter.add(SockAddr::parseNumeric("10.0.0.3", 5000).take());
  filter.add(SockAddr::parseNumeric("::", 5000).take());
  EXPECT_FALSE(wants(filter, ipv4Udp(5000)));
  filter.add(SockAddr::parseNumeric("10.0.0.2", 5000).take());
  filter.add(SockAddr::parseNumeric("10.0.0.2", 5000).take());
  EXPECT_TRUE(wants(filter, ipv4Udp(5000)));
  filter.remove(SockAddr::parseNumeric("10.0.0.2", 5000).take());
  EXPECT_FALSE(wants(filter, ipv4Udp(5000)));
}

TEST(PortFilter, RulesChangeWhileTheOwnerLooksAtThem) {
  PortFilter filter;
  std::atomic<bool> end{false};
  std::thread control([&] {
    for (uint32_t i = 0; i < 2000; i++) {
      const SockAddr address = SockAddr::parseNumeric("10.0.0.2", static_cast<uint16_t>(6000 + i % 50)).take();
      if (i % 100 < 50) {
        filter.add(address);
      } else {
        filter.remove(address);
      }
    }
    end = true;
  });
  filter.add(SockAddr::parseNumeric("10.0.0.2", 5000).take());
  uint64_t looks = 0;
  while (!end) {
    ASSERT_TRUE(wants(filter, ipv4Udp(5000)));
    looks++;
  }
  control.join();
  EXPECT_TRUE(wants(filter, ipv4Udp(5000)));
  EXPECT_FALSE(wants(filter, ipv4Udp(5001)));
}

}  // namespace
}  // namespace outrigger::io
