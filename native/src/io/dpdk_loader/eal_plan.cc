// SPDX-License-Identifier: Apache-2.0
#include "io/dpdk_loader/eal_plan.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <optional>
#include <string_view>

namespace outrigger::io {
namespace {

// Less holds no receive ring of 512 descriptors, no transmit ring, and what is on its way between them.
constexpr uint32_t kMinBufferBytes = 4u << 20;
// Queue structures, rings, EAL's own tables, the heap's fragmentation: measured 18 MiB with one port of 22.11.
constexpr uint64_t kOverheadBytes = 32ull << 20;

// What this process decides itself: one primary process, nothing shared, cores as the container got them.
constexpr std::array<std::string_view, 13> kOurs{"-c",
                                                 "-l",
                                                 "-s",
                                                 "--lcores",
                                                 "--main-lcore",
                                                 "--proc-type",
                                                 "--file-prefix",
                                                 "--in-memory",
                                                 "--no-shconf",
                                                 "--no-telemetry",
                                                 "--telemetry",
                                                 "--huge-unlink",
                                                 "--legacy-mem"};
// Arguments whose value may be the next word.
constexpr std::array<std::string_view, 12> kWithValue{"-a",     "-b",          "-m",          "-d",      "-n",      "-r",
                                                      "--vdev", "--log-level", "--iova-mode", "--allow", "--block", "--socket-mem"};

template <size_t N>
bool contains(const std::array<std::string_view, N>& all, std::string_view name) {
  return std::find(all.begin(), all.end(), name) != all.end();
}

struct Argument {
  std::string name;                  // "-a", "--vdev"
  std::optional<std::string> value;  // of "--name=value", "-avalue" or the word after
};

Error refused(const std::string& argument, const std::string& why) {
  return makeError(ErrorCode::kGeneric, "dpdk: EAL argument '" + argument + "' " + why);
}

Result<std::vector<Argument>> split(const std::vector<std::string>& words) {
  std::vector<Argument> out;
  for (size_t i = 0; i < words.size(); i++) {
    const std::string& word = words[i];
    Argument argument;
    if (word.starts_with("--") && word.size() > 2) {
      const size_t equals = word.find('=');
      argument.name = word.substr(0, equals);
      if (equals != std::string::npos) argument.value = word.substr(equals + 1);
    } else if (word.size() >= 2 && word[0] == '-') {
      argument.name = word.substr(0, 2);
      if (word.size() > 2) argument.value = word.substr(word[2] == '=' ? 3 : 2);
    } else {
      return refused(word, "does not start with '-': write one argument an entry, as '--vdev=net_af_packet0,iface=eth0'");
    }
    if (!argument.value && contains(kWithValue, argument.name)) {
      if (i + 1 == words.size()) return refused(word, "has no value");
      argument.value = words[++i];
    }
    out.push_back(std::move(argument));
  }
  return out;
}

EalDevice parseDevice(const std::string& text) {
  const size_t comma = text.find(',');
  EalDevice device;
  device.name = text.substr(0, comma);
  if (comma != std::string::npos) device.arguments = text.substr(comma + 1);
  if (const std::string address = pciAddress(device.name); !address.empty()) {
    device.name = address;
    device.pci = true;
  }
  return device;
}

// One lcore that may run on all of `cpus`: EAL then changes nobody's affinity, and the driver's threads are placed by the driver.
std::string lcoreMap(const std::vector<int>& cpus) {
  std::string set;
  for (const int cpu : cpus) set += (set.empty() ? "" : ",") + std::to_string(cpu);
  return "--lcores=0@(" + (set.empty() ? "0" : set) + ")";
}

Result<void> chooseDevice(EalPlan& plan, const std::string& wanted) {
  std::string names;
  for (const EalDevice& device : plan.devices) names += (names.empty() ? "" : ", ") + device.name;
  if (!wanted.empty()) {
    EalDevice asked = parseDevice(wanted);
    const auto known =
        std::find_if(plan.devices.begin(), plan.devices.end(), [&](const EalDevice& device) { return device.name == asked.name; });
    if (known != plan.devices.end()) {
      plan.device = *known;
      return {};
    }
    // One that was made before, as by rte_eth_from_rings, has a name only.
    plan.device = asked;
    plan.devices.push_back(asked);
    return {};
  }
  if (plan.devices.empty()) {
    return makeError(ErrorCode::kGeneric,
                     "dpdk: no device is configured: name the PCI address of a VF ('0000:01:10.0'), or add an EAL argument '--vdev=…'");
  }
  if (plan.devices.size() > 1) {
    return makeError(ErrorCode::kGeneric, "dpdk: several devices are configured (" + names + "): say which one to use");
  }
  plan.device = plan.devices.front();
  return {};
}

}  // namespace

std::string EalDevice::argument(const std::string& key) const {
  size_t at = 0;
  while (at < arguments.size()) {
    const size_t end = std::min(arguments.find(',', at), arguments.size());
    const std::string pair = arguments.substr(at, end - at);
    if (pair.starts_with(key + "=")) return pair.substr(key.size() + 1);
    at = end + 1;
  }
  return {};
}

std::string pciAddress(const std::string& text) {
  unsigned domain = 0;
  unsigned bus = 0;
  unsigned device = 0;
  unsigned function = 0;
  int end = 0;
  const int length = static_cast<int>(text.size());
  const bool isLong = std::sscanf(text.c_str(), "%4x:%2x:%2x.%1x%n", &domain, &bus, &device, &function, &end) == 4 && end == length;
  if (!isLong) {
    domain = 0;
    if (std::sscanf(text.c_str(), "%2x:%2x.%1x%n", &bus, &device, &function, &end) != 3 || end != length) return {};
  }
  if (device > 0x1f || function > 7) return {};
  char out[16];
  std::snprintf(out, sizeof(out), "%04x:%02x:%02x.%x", domain & 0xffff, bus & 0xff, device & 0x1f, function & 7);
  return out;
}

Result<EalPlan> planEal(const BackendOptions& options, const std::vector<int>& cpus) {
  if (options.umemBytes < kMinBufferBytes) {
    return makeError(ErrorCode::kGeneric, "dpdk: " + std::to_string(options.umemBytes) + " bytes of buffers are too few: at least " +
                                              std::to_string(kMinBufferBytes) + " hold a receive and a transmit ring");
  }
  auto given = split(options.dpdkArguments);
  if (!given) return given.error();

  auto addresses = parseAddressList(options.dpdkAddresses);
  if (!addresses) return makeError(ErrorCode::kGeneric, "dpdk: " + addresses.error().message);
  auto gateways = parseGateways(options.dpdkGateways);
  if (!gateways) return makeError(ErrorCode::kGeneric, "dpdk: " + gateways.error().message);

  EalPlan plan;
  plan.addresses = addresses.take();
  plan.gateways = gateways.take();
  plan.exceptionInterface = options.dpdkInterface;
  plan.hugepages = options.hugepages;
  plan.bufferBytes = options.umemBytes;
  plan.memoryBytes = options.umemBytes + kOverheadBytes;
  plan.mtu = options.dpdkMtu;
  plan.vlan = options.vlan;
  if (!options.queues.empty()) plan.queues = static_cast<uint32_t>(options.queues.size());
  for (size_t i = 0; i < options.queues.size(); i++) {
    if (options.queues[i] != i) {
      return makeError(ErrorCode::kGeneric,
                       "dpdk: queue " + std::to_string(options.queues[i]) +
                           " can't be opened alone: a DPDK port belongs to one process, which opens its queues from 0 on");
    }
  }
  std::vector<std::string> rest;
  bool memoryGiven = false;
  bool forbidPci = false;
  for (const Argument& argument : *given) {
    const std::string word =
        argument.value ? argument.name + (argument.name.starts_with("--") ? "=" : " ") + *argument.value : argument.name;
    if (contains(kOurs, argument.name)) return refused(word, "is set by the driver: leave it out");
    if (argument.name == "--no-huge") {
      plan.hugepages = false;
    } else if (argument.name == "--vdev") {
      plan.devices.push_back(parseDevice(*argument.value));
    } else if (argument.name == "-a" || argument.name == "--allow") {
      EalDevice device = parseDevice(*argument.value);
      if (!device.pci) return refused(word, "names no PCI address, as 0000:01:10.0");
      plan.devices.push_back(std::move(device));
    } else if (argument.name == "--no-pci") {
      forbidPci = true;
    } else if (argument.name == "--log-level" && argument.value->find_first_not_of("0123456789") == std::string::npos &&
               !argument.value->empty()) {
      plan.logLevel = static_cast<uint32_t>(std::min(8, std::atoi(argument.value->c_str())));
    } else {
      memoryGiven = memoryGiven || argument.name == "-m";
      if (argument.name.starts_with("--")) {
        rest.push_back(word);
      } else {
        rest.push_back(argument.name);
        if (argument.value) rest.push_back(*argument.value);
      }
    }
  }
  if (auto chosen = chooseDevice(plan, options.dpdkDevice); !chosen) return chosen.error();
  for (const EalDevice& device : plan.devices) plan.usesPci = plan.usesPci || device.pci;
  if (forbidPci && plan.usesPci) return refused("--no-pci", "contradicts the PCI device " + plan.device.name + ": leave one of them out");

  plan.arguments = {lcoreMap(cpus), "--no-telemetry", "--no-shconf", "--log-level=" + std::to_string(plan.logLevel)};
  if (plan.hugepages) {
    // Anonymous hugepages: no hugetlbfs mount, no file that could be left behind.
    plan.arguments.push_back("--in-memory");
  } else {
    // Together with --in-memory this is EINVAL in 22.11.
    plan.arguments.push_back("--no-huge");
    if (!memoryGiven) {
      plan.arguments.push_back("-m");
      plan.arguments.push_back(std::to_string((plan.memoryBytes + kMiB - 1) / kMiB));
    }
  }
  if (!plan.usesPci) plan.arguments.push_back("--no-pci");
  for (const EalDevice& device : plan.devices) {
    if (!device.pci) continue;
    plan.arguments.push_back("-a");
    plan.arguments.push_back(device.text());
  }
  plan.arguments.insert(plan.arguments.end(), rest.begin(), rest.end());
  return plan;
}

}  // namespace outrigger::io
