// SPDX-License-Identifier: Apache-2.0
#include "io/dpdk_loader/dpdk_host.h"

#include <dirent.h>
#include <linux/capability.h>
#include <net/if.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <string_view>

#include "net/vlan_interface.h"

namespace outrigger::io {
namespace {

// Drivers that stay the kernel's while DPDK works beside them, through verbs.
constexpr std::array<std::string_view, 3> kBifurcated{"mlx5_core", "mlx4_core", "mana"};

bool isBifurcated(const std::string& driver) { return std::find(kBifurcated.begin(), kBifurcated.end(), driver) != kBifurcated.end(); }

struct DirCloser {
  void operator()(DIR* dir) const { ::closedir(dir); }
};

std::vector<std::string> entries(const std::string& folder) {
  std::vector<std::string> names;
  const std::unique_ptr<DIR, DirCloser> dir(::opendir(folder.c_str()));
  if (!dir) return names;
  while (const dirent* entry = ::readdir(dir.get())) {
    if (entry->d_name[0] != '.') names.emplace_back(entry->d_name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

uint64_t readNumber(const std::string& path) {
  std::ifstream file(path);
  uint64_t value = 0;
  file >> value;
  return file ? value : 0;
}

// The last part of what a link points to; empty when it is none.
std::string linkName(const std::string& path) {
  std::array<char, 512> target{};
  const ssize_t length = ::readlink(path.c_str(), target.data(), target.size() - 1);
  if (length <= 0) return {};
  const std::string text(target.data(), static_cast<size_t>(length));
  return text.substr(text.rfind('/') + 1);
}

std::string sizeText(uint64_t bytes) {
  return bytes >= 1024 * kMiB ? std::to_string(bytes / (1024 * kMiB)) + " GiB" : std::to_string(bytes / kMiB) + " MiB";
}

bool exists(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

void checkNode(std::vector<BackendCause>& causes, const std::string& what, const std::string& path, const std::string& missingFix) {
  if (::access(path.c_str(), R_OK | W_OK) == 0) return;
  const int error = errno;
  if (error == ENOENT) {
    causes.push_back({what, path + " does not exist", missingFix});
  } else {
    causes.push_back({what,
                      path + " can't be opened for reading and writing: " + std::strerror(error) + " (errno " + std::to_string(error) +
                          "), uid is " + std::to_string(::geteuid()),
                      "give this user the device: chown it, or let the device plugin or DRA driver hand it to the container"});
  }
}

// As traitsOf() in dpdk/dpdk_port.cc, of what can be told before the device is opened.
bool kernelKeeps(const EalDevice& device, const HostPaths& paths) {
  if (device.name.starts_with("net_af_packet")) return true;
  if (device.name.starts_with("net_af_xdp")) return !device.argument("xdp_prog").empty();
  return device.pci && isBifurcated(linkName(paths.sys + "/bus/pci/devices/" + device.name + "/driver"));
}

bool hasNetAdmin() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3] = {};
  return ::syscall(SYS_capget, &header, sets) == 0 && (sets[0].effective & (1u << CAP_NET_ADMIN)) != 0;
}

}  // namespace

BackendCause noAddressesCause(const EalDevice& device) {
  return {"addresses", "the kernel does not own " + device.name + ", so it needs addresses of its own",
          "give them with their prefix lengths (OUTRIGGER_DPDK_ADDRESSES=10.9.0.1/24)"};
}

std::vector<BackendCause> exceptionCauses(const EalPlan& plan, const HostPaths& paths) {
  if (kernelKeeps(plan.device, paths)) return {};
  if (plan.addresses.empty()) return {noAddressesCause(plan.device)};
  std::vector<BackendCause> causes;
  checkNode(causes, "exception interface", paths.dev + "/net/tun", "give the container /dev/net/tun, or load the module tun");
  const std::string& name = plan.exceptionInterface;
  // One that is there may be a running driver's, or made for this user: only to open it would tell, and would disturb the one who has it.
  if (::if_nametoindex(name.c_str()) == 0 && !hasNetAdmin()) {
    causes.push_back(
        {"exception interface",
         "there is no interface " + name + " in this network namespace, and to make it takes CAP_NET_ADMIN, which this process lacks",
         "give the process CAP_NET_ADMIN, or make the interface beforehand (`ip tuntap add " + name +
             " mode tap user <uid>`, the device's MAC address, its addresses, up)"});
  }
  return causes;
}

std::vector<HugepageSize> hugepages(const HostPaths& paths) {
  std::vector<HugepageSize> sizes;
  const std::string folder = paths.sys + "/kernel/mm/hugepages";
  for (const std::string& name : entries(folder)) {
    // "hugepages-2048kB"
    if (!name.starts_with("hugepages-")) continue;
    HugepageSize size;
    size.bytes = std::strtoull(name.c_str() + std::strlen("hugepages-"), nullptr, 10) * 1024;
    size.total = readNumber(folder + "/" + name + "/nr_hugepages");
    size.free = readNumber(folder + "/" + name + "/free_hugepages");
    if (size.bytes > 0) sizes.push_back(size);
  }
  std::sort(sizes.begin(), sizes.end(), [](const HugepageSize& a, const HugepageSize& b) { return a.bytes < b.bytes; });
  return sizes;
}

std::vector<BackendCause> hugepageCauses(const EalPlan& plan, const HostPaths& paths) {
  if (!plan.hugepages) return {};
  const std::vector<HugepageSize> sizes = hugepages(paths);
  const std::string fix = "or open the backend without hugepages";
  if (sizes.empty())
    return {{"hugepages", "this kernel has none (no " + paths.sys + "/kernel/mm/hugepages)", "use a kernel with hugetlbfs, " + fix}};
  std::string found;
  for (const HugepageSize& size : sizes) {
    if (size.free * size.bytes >= plan.memoryBytes) return {};
    found += (found.empty() ? "" : ", ") + std::to_string(size.free) + " of " + std::to_string(size.total) + " of " + sizeText(size.bytes) +
             " are free";
  }
  const HugepageSize& small = sizes.front();
  const uint64_t needed = (plan.memoryBytes + small.bytes - 1) / small.bytes;
  const uint64_t kilobytes = small.bytes / 1024;
  return {{"hugepages",
           found + "; " + std::to_string(needed) + " of " + sizeText(small.bytes) + " are needed for " + sizeText(plan.bufferBytes) +
               " of buffers and " + sizeText(plan.memoryBytes - plan.bufferBytes) + " of DPDK's own",
           "echo " + std::to_string(small.total - small.free + needed) + " > /sys/kernel/mm/hugepages/hugepages-" +
               std::to_string(kilobytes) + "kB/nr_hugepages (in a pod: a limit of hugepages-" + std::to_string(small.bytes / kMiB) +
               "Mi: " + std::to_string(needed * small.bytes / kMiB) + "Mi), " + fix}};
}

std::vector<BackendCause> pciCauses(const std::string& address, const HostPaths& paths) {
  std::vector<BackendCause> causes;
  const std::string device = paths.sys + "/bus/pci/devices/" + address;
  if (!exists(device)) {
    causes.push_back({"PCI device", "there is no PCI device " + address + " (" + device + ")",
                      "see `ls /sys/bus/pci/devices`; VFs are made by writing their number to the physical function's sriov_numvfs"});
    return causes;
  }
  const std::string driver = linkName(device + "/driver");
  if (isBifurcated(driver)) {
    if (entries(device + "/infiniband").empty()) {
      causes.push_back({"verbs",
                        address + " is bound to " + driver + " and has no InfiniBand device, through which DPDK works beside that driver",
                        "load mlx5_ib (mlx4_ib), and give the container /dev/infiniband"});
    }
    return causes;
  }
  if (driver != "vfio-pci") {
    causes.push_back({"vfio-pci",
                      driver.empty() ? address + " is bound to no driver" : address + " is bound to " + driver + ", so it is the kernel's",
                      "echo vfio-pci > " + device + "/driver_override" +
                          (driver.empty() ? "" : "; echo " + address + " > " + device + "/driver/unbind") + "; echo " + address +
                          " > /sys/bus/pci/drivers_probe (module vfio-pci loaded)"});
  }
  const std::string group = linkName(device + "/iommu_group");
  if (group.empty()) {
    causes.push_back({"IOMMU", address + " is in no IOMMU group: the IOMMU is off or absent",
                      "boot with intel_iommu=on or amd_iommu=on and switch VT-d or AMD-Vi on in the firmware"});
    return causes;
  }
  if (driver != "vfio-pci") return causes;
  for (const std::string& other : entries(device + "/iommu_group/devices")) {
    const std::string holder = linkName(paths.sys + "/bus/pci/devices/" + other + "/driver");
    // Bridges of the group are no obstacle, and a device without a driver is none.
    if (other == address || holder.empty() || holder == "vfio-pci" || holder == "pcieport") continue;
    causes.push_back(
        {"IOMMU group", "group " + group + " of " + address + " also holds " + other + ", which is bound to " + holder,
         "bind " + other +
             " to vfio-pci as well, or use a slot (or a PF) with access control services, where each VF has a group of its own"});
  }
  checkNode(causes, "vfio device node", paths.dev + "/vfio/vfio",
            "load the modules vfio and vfio_iommu_type1, and give the container /dev/vfio/vfio");
  checkNode(causes, "vfio device node", paths.dev + "/vfio/" + group, "give the container /dev/vfio/" + group);
  return causes;
}

BackendCause noVlanInterfaceCause(const std::string& interface, uint16_t vlan) {
  const std::string id = std::to_string(vlan);
  return {"VLAN",
          "OUTRIGGER_VLAN=" + id + ": the kernel keeps " + interface + " and has no interface of this VLAN over it, whose addresses and " +
              "routes would be taken",
          "make it (`ip link add link " + interface + " name " + interface + "." + id + " type vlan id " + id +
              "`, its addresses, up), or open such a one as any interface, without OUTRIGGER_VLAN"};
}

std::vector<BackendCause> vdevCauses(const EalDevice& device, uint16_t vlan) {
  const bool overKernel = device.name.starts_with("net_af_packet") || device.name.starts_with("net_af_xdp");
  if (!overKernel) return {};
  const std::string interface = device.argument("iface");
  if (interface.empty()) {
    return {{"interface", "virtual device " + device.name + " names none", "write --vdev=" + device.name + ",iface=eth0"}};
  }
  // Not by /sys, which shows the network namespace that it was mounted in.
  if (::if_nametoindex(interface.c_str()) == 0) {
    return {{"interface", "there is no interface " + interface + " in this network namespace", "see `ip link`"}};
  }
  if (vlan != 0 && kernelKeeps(device, {})) {
    const auto found = net::vlanInterface(::if_nametoindex(interface.c_str()), vlan);
    if (!found) return {{"VLAN", found.error().message, "allow the process a netlink socket"}};
    if (found->index == 0) return {noVlanInterfaceCause(interface, vlan)};
  }
  return {};
}

}  // namespace outrigger::io
