// SPDX-License-Identifier: Apache-2.0
// Devices, ports and addresses; the queue pair is in ibv_queue.cc.
#include "io/verbs_module/ibv_port.h"

#include <net/if.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>

#include "io/verbs_module/ibv_queue.h"

namespace outrigger::io::verbs {
namespace {

constexpr uint8_t kHopLimit = 64;  // as IP's
// GIDs for which there is room where a port does not say how many it has: the devices' tables are of 16 to 256.
constexpr size_t kMostGids = 256;

class DeviceList {
 public:
  DeviceList() : list_(::ibv_get_device_list(&count_)), errno_(errno) {}
  ~DeviceList() {
    if (list_ != nullptr) ::ibv_free_device_list(list_);
  }
  DeviceList(const DeviceList&) = delete;
  DeviceList& operator=(const DeviceList&) = delete;
  bool valid() const { return list_ != nullptr; }
  int error() const { return errno_; }
  int count() const { return count_; }
  ibv_device* operator[](int index) const { return list_[index]; }

 private:
  int count_ = 0;
  ibv_device** list_;
  int errno_;
};

struct CloseContext {
  void operator()(ibv_context* context) const { ::ibv_close_device(context); }
};
using ContextPtr = std::unique_ptr<ibv_context, CloseContext>;

// 256 to 4096; enum ibv_mtu counts from 1.
uint32_t bytesOf(ibv_mtu mtu) { return 128U << static_cast<uint32_t>(mtu); }

// `most`: of all ports of the device, which answers nothing when its GIDs have no room.
void readGids(ibv_context* context, size_t most, PortFacts& facts) {
  if (most == 0) return;  // it has none, and would call that an error
  std::vector<ibv_gid_entry> entries(most);
  const ssize_t count = ::ibv_query_gid_table(context, entries.data(), entries.size(), 0);
  if (count < 0) facts.trouble = std::string("cannot read its GIDs: ") + std::strerror(static_cast<int>(-count));
  for (ssize_t i = 0; i < count; ++i) {
    const ibv_gid_entry& entry = entries[static_cast<size_t>(i)];
    if (entry.port_num != facts.port || entry.gid_type != IBV_GID_TYPE_ROCE_V2) continue;
    GidEntry gid;
    std::memcpy(gid.gid.data(), entry.gid.raw, gid.gid.size());
    gid.index = entry.gid_index;
    facts.gids.push_back(gid);
    std::array<char, IF_NAMESIZE> name{};
    if (facts.interface.empty() && entry.ndev_ifindex != 0 && ::if_indextoname(entry.ndev_ifindex, name.data()) != nullptr) {
      facts.interface = name.data();
    }
  }
}

void listDevice(ibv_device* device, std::vector<PortFacts>& all) {
  PortFacts facts;
  facts.device = ::ibv_get_device_name(device);
  facts.node = std::string("/dev/infiniband/") + device->dev_name;
  const ContextPtr context(::ibv_open_device(device));
  if (context == nullptr) {
    facts.trouble = std::string("cannot open it: ") + std::strerror(errno);
    facts.unopened = true;
    all.push_back(facts);
    return;
  }
  ibv_device_attr attributes{};
  if (const int err = ::ibv_query_device(context.get(), &attributes); err != 0) {
    facts.trouble = std::string("cannot ask for what it can do: ") + std::strerror(err);
    all.push_back(facts);
    return;
  }
  size_t gids = 0;
  const size_t first = all.size();
  for (uint32_t port = 1; port <= attributes.phys_port_cnt; ++port) {
    PortFacts each = facts;
    each.port = port;
    ibv_port_attr state{};
    if (const int err = ibv_query_port(context.get(), static_cast<uint8_t>(port), &state); err != 0) {
      each.trouble = std::string("cannot ask for the state of the port: ") + std::strerror(err);
      gids += kMostGids;  // the other ports' are read with its own
    } else {
      each.ethernet = state.link_layer == IBV_LINK_LAYER_ETHERNET;
      each.active = state.state == IBV_PORT_ACTIVE;
      each.state = ::ibv_port_state_str(state.state);
      each.mtu = bytesOf(state.active_mtu);
      gids += static_cast<size_t>(std::max(0, state.gid_tbl_len));
    }
    all.push_back(each);
  }
  for (size_t i = first; i < all.size(); ++i) {
    if (all[i].trouble.empty()) readGids(context.get(), gids, all[i]);
  }
}

class IbvHandle final : public IbvAddress {
 public:
  IbvHandle(std::shared_ptr<IbvDevice> device, ibv_ah* made) : device_(std::move(device)) { handle = made; }
  ~IbvHandle() override { ::ibv_destroy_ah(handle); }

 private:
  std::shared_ptr<IbvDevice> device_;
};

class IbvPort final : public RdmaPort {
 public:
  IbvPort(std::shared_ptr<IbvDevice> device, const PortFacts& facts)
      : device_(std::move(device)),
        facts_(facts),
        counter_("/sys/class/infiniband/" + facts.device + "/ports/" + std::to_string(facts.port) + "/hw_counters/out_of_buffer") {}

  const PortFacts& facts() const override { return facts_; }
  Result<std::unique_ptr<DatagramQueue>> openQueue(const QueueOptions& options) override { return openIbvQueue(device_, facts_, options); }

  Result<std::unique_ptr<AddressHandle>> createAddress(const Gid& destination, uint32_t ownGidIndex) override {
    ibv_ah_attr attributes{};
    attributes.is_global = 1;
    std::memcpy(attributes.grh.dgid.raw, destination.data(), destination.size());
    attributes.grh.sgid_index = static_cast<uint8_t>(ownGidIndex);
    attributes.grh.hop_limit = kHopLimit;
    attributes.port_num = static_cast<uint8_t>(facts_.port);
    ibv_ah* handle = ::ibv_create_ah(device_->domain, &attributes);
    if (handle == nullptr) return ibvError(facts_, "make an address handle", errno);
    return std::unique_ptr<AddressHandle>(std::make_unique<IbvHandle>(device_, handle));
  }

  std::string trouble(bool& gone) override {
    ibv_port_attr state{};
    if (const int err = ibv_query_port(device_->context, static_cast<uint8_t>(facts_.port), &state); err != 0) {
      gone = err == ENODEV || err == EIO || err == EBADF;
      return "device " + facts_.device + " does not answer: " + std::strerror(err);
    }
    if (state.state == IBV_PORT_ACTIVE) return "";
    return "port " + std::to_string(facts_.port) + " of " + facts_.device + " is " + ::ibv_port_state_str(state.state);
  }

  int64_t outOfBuffers() override {
    std::ifstream file(counter_);
    int64_t value = -1;
    return file >> value ? value : -1;
  }

 private:
  std::shared_ptr<IbvDevice> device_;
  PortFacts facts_;
  std::string counter_;
};

}  // namespace

IbvDevice::~IbvDevice() {
  if (domain != nullptr) ::ibv_dealloc_pd(domain);
  if (context != nullptr) ::ibv_close_device(context);
}

Error ibvError(const PortFacts& facts, const std::string& what, int err) {
  return makeError(ErrorCode::kGeneric, "backend verbs: cannot " + what + " on " + facts.device, err);
}

Result<std::vector<PortFacts>> listIbvPorts() {
  const DeviceList devices;
  if (!devices.valid()) return makeError(ErrorCode::kGeneric, "ibv_get_device_list", devices.error());
  std::vector<PortFacts> all;
  for (int i = 0; i < devices.count(); ++i) listDevice(devices[i], all);
  return all;
}

Result<std::shared_ptr<RdmaPort>> openIbvPort(const PortFacts& facts) {
  const DeviceList devices;
  if (!devices.valid()) return ibvError(facts, "list devices", devices.error());
  for (int i = 0; i < devices.count(); ++i) {
    if (facts.device != ::ibv_get_device_name(devices[i])) continue;
    auto device = std::make_shared<IbvDevice>();
    device->context = ::ibv_open_device(devices[i]);
    if (device->context == nullptr) return ibvError(facts, "open " + facts.node, errno);
    device->domain = ::ibv_alloc_pd(device->context);
    if (device->domain == nullptr) return ibvError(facts, "make a protection domain", errno);
    return std::shared_ptr<RdmaPort>(std::make_shared<IbvPort>(std::move(device), facts));
  }
  return ibvError(facts, "find the device", ENODEV);
}

}  // namespace outrigger::io::verbs
