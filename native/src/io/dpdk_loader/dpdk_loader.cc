// SPDX-License-Identifier: Apache-2.0
#include "io/dpdk_loader/dpdk_loader.h"

#include <mutex>

#include "base/cpus.h"
#include "io/dpdk_loader/dpdk_host.h"
#include "io/module_library.h"
#include "io/stack/raw_backend.h"
#include "net/netlink_tables.h"

namespace outrigger::io {
namespace {

#ifdef OUTRIGGER_DPDK
constexpr bool kBuilt = true;
#else
constexpr bool kBuilt = false;
#endif

constexpr ModuleLibrary kLibrary{"outrigger-dpdk.so", "OUTRIGGER_DPDK_LIBRARY", kDpdkModuleSymbol, kDpdkModuleVersion, kDpdkModuleLayout};

BackendCause notBuilt() {
  return {"DPDK", "this build left it out: pkg-config found no libdpdk when it was made",
          "install libdpdk-dev (22.11 or newer) and build again, or set OUTRIGGER_DPDK_LIBRARY to the outrigger-dpdk.so of a build of this "
          "version"};
}

BackendCause libraryCause(const std::string& error) {
  if (error.find("librte_") != std::string::npos) {
    return {"DPDK libraries", error,
            "install the DPDK that this was built with (Debian 12: librte-meta-net, librte-mempool-ring23, librte-mempool-stack23)"};
  }
  return {"outrigger-dpdk.so", error, "put it beside the driver, or set OUTRIGGER_DPDK_LIBRARY (now " + libraryPath(kLibrary) + ")"};
}

Error errorOf(const BackendCause& cause) {
  return makeError(ErrorCode::kGeneric, "dpdk: " + cause.what + ": " + cause.cause + "; " + cause.fix);
}

struct Loaded {
  const DpdkModule* module = nullptr;
  BackendCause cause;  // when there is none
};

Loaded load() {
  Loaded loaded;
  if (!kBuilt && !libraryGiven(kLibrary)) {
    loaded.cause = notBuilt();
    return loaded;
  }
  std::string error;
  loaded.module = loadModule<DpdkModule>(kLibrary, error);
  if (loaded.module == nullptr) loaded.cause = libraryCause(error);
  return loaded;
}

const Loaded& loadedOnce() {
  static std::mutex mutex;
  static Loaded loaded;
  const std::lock_guard lock(mutex);
  if (loaded.module == nullptr) loaded = load();  // what failed may be repaired by the next try
  return loaded;
}

std::vector<BackendCause> causesOf(const EalPlan& plan) {
  std::vector<BackendCause> causes = hugepageCauses(plan);
  const std::vector<BackendCause> device = plan.device.pci ? pciCauses(plan.device.name) : vdevCauses(plan.device, plan.vlan);
  causes.insert(causes.end(), device.begin(), device.end());
  return causes;
}

}  // namespace

Result<const DpdkModule*> loadDpdk() {
  const Loaded& loaded = loadedOnce();
  if (loaded.module == nullptr) return errorOf(loaded.cause);
  return loaded.module;
}

Result<std::unique_ptr<FrameIo>> openDpdkFrames(const BackendOptions& options) {
  auto plan = planEal(options, allowedCpus());
  if (!plan) return plan.error();
  auto module = loadDpdk();
  if (!module) return module.error();
  // What can be seen from outside is said in full; of the rest EAL's log says what it knows.
  if (const std::vector<BackendCause> causes = causesOf(*plan); !causes.empty()) return errorOf(causes.front());
  return (*module)->open(*plan);
}

Result<IoPair> openDpdk(const BackendOptions& options) {
  if (auto plan = planEal(options, allowedCpus()); plan && loadDpdk()) {
    if (const std::vector<BackendCause> causes = exceptionCauses(*plan); causesOf(*plan).empty() && !causes.empty()) {
      return errorOf(causes.front());
    }
  }
  auto device = openDpdkFrames(options);
  if (!device) return device.error();
  if (!(*device)->caps().kernelOwnsDevice) {
    // A driver that could not be told from outside.
    return errorOf(noAddressesCause(planEal(options, allowedCpus())->device));
  }
  auto tables = net::NetlinkTables::create();
  if (!tables) return tables.error();
  return makeRawPair(device.take(), nullptr, tables.take(), options);
}

BackendReport probeDpdk(const BackendOptions& options) {
  BackendReport report;
  report.name = "dpdk";
  report.availability = Availability::kImpossible;
  const Loaded& loaded = loadedOnce();
  if (loaded.module == nullptr) {
    if (!kBuilt && !libraryGiven(kLibrary)) report.availability = Availability::kNotBuilt;
    report.causes.push_back(loaded.cause);
  } else {
    report.facts.emplace_back("library", loaded.module->dpdkVersion());
  }
  for (const HugepageSize& size : hugepages({})) {
    report.facts.emplace_back("hugepages of " + std::to_string(size.bytes >> 10) + " kB",
                              std::to_string(size.free) + " of " + std::to_string(size.total) + " free");
  }
  auto plan = planEal(options, allowedCpus());
  if (!plan) {
    report.causes.push_back({"device", plan.error().message, "bind a VF to vfio-pci and name its PCI address"});
    return report;
  }
  report.facts.emplace_back("device", plan->device.text());
  if (plan->vlan != 0) report.facts.emplace_back("vlan", std::to_string(plan->vlan));
  report.facts.emplace_back("timestamps", kTimestampsWhenRead);
  const std::vector<BackendCause> causes = causesOf(*plan);
  report.causes.insert(report.causes.end(), causes.begin(), causes.end());
  const std::vector<BackendCause> exception = exceptionCauses(*plan);
  report.causes.insert(report.causes.end(), exception.begin(), exception.end());
  if (!report.causes.empty()) return report;
  report.availability = Availability::kAvailable;
  if (!plan->hugepages) {
    report.availability = Availability::kDegraded;
    report.causes.push_back({"hugepages", "switched off: buffers are on 4 KiB pages", "switch them on where the machine has some"});
  }
  if (plan->device.name.starts_with("net_af_packet")) {
    report.availability = Availability::kDegraded;
    report.causes.push_back(
        {"net_af_packet",
         "frames go through the kernel one by one, and trains of datagrams that a local sender left unsegmented (over veth) are cut "
         "short by this driver: they are counted as oversized and lost. Its start makes the kernel forget the interface's neighbours, "
         "permanent entries too",
         "use it for tests only; there, switch tx-udp-segmentation off at the sender's interface, or its UDP_SEGMENT, and enter permanent "
         "neighbours once the driver runs"});
  }
  return report;
}

}  // namespace outrigger::io
