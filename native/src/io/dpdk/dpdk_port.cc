// SPDX-License-Identifier: Apache-2.0
#include "io/dpdk/dpdk_port.h"

#include <net/if.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <mutex>
#include <string_view>
#include <vector>

#include "io/dpdk/eal.h"
#include "io/dpdk_loader/dpdk_host.h"
#include "net/vlan_interface.h"

namespace outrigger::io::dpdk {
namespace {

// Bursts of 64 frames come in while the stack holds another: a thousand descriptors are 100 µs at 10 Mpps, longer than a burst takes.
constexpr uint16_t kReceiveDescriptors = 1024;
constexpr uint16_t kTransmitDescriptors = 512;
constexpr uint16_t kMinDescriptors = 128;
// Received and at the stack, or being looked at: four bursts. As many at least to send with.
constexpr uint32_t kSpareBuffers = 256;
// The PMDs' habit: a power of two that holds a full frame at MTU 1500.
constexpr uint32_t kBufferLength = 2048;
constexpr uint32_t kTagLength = 4;
// Ethernet header and two 802.1Q tags.
constexpr uint32_t kFrameOverhead = 14 + 2 * kTagLength;
constexpr uint32_t kMaxMtu = 9216;
// A frame of 9216 bytes in buffers of 2048.
constexpr uint32_t kMaxPieces = 5;

constexpr uint64_t kWantedReceive = RTE_ETH_RX_OFFLOAD_IPV4_CKSUM | RTE_ETH_RX_OFFLOAD_UDP_CKSUM | RTE_ETH_RX_OFFLOAD_VLAN_STRIP;
constexpr uint64_t kWantedTransmit = RTE_ETH_TX_OFFLOAD_UDP_CKSUM | RTE_ETH_TX_OFFLOAD_MULTI_SEGS;

constexpr std::string_view kBifurcated[] = {"mlx5_pci", "mlx4_pci", "net_mlx4", "net_mana"};

// af_packet's ring has slots of one length (argument framesz, its default is 2048), each with the kernel's headers before the packet:
// TPACKET2_HDRLEN, 16 bytes for the link's header, alignment; and 4 for a tag. It has so many of them (framecnt, 512).
constexpr uint32_t kSlotLength = 2048;
constexpr uint32_t kSlotOverhead = 84;
constexpr uint32_t kSlotCount = 512;

uint32_t slotOf(const EalDevice& device) {
  const std::string text = device.argument("framesz");
  const int length = text.empty() ? 0 : std::atoi(text.c_str());
  return length > 256 ? static_cast<uint32_t>(std::min(length, 65536)) : kSlotLength;
}

uint32_t slotCountOf(const EalDevice& device) {
  const std::string text = device.argument("framecnt");
  const int count = text.empty() ? 0 : std::atoi(text.c_str());
  return count > 0 ? static_cast<uint32_t>(count) : kSlotCount;
}

// Of memory, for one buffer that holds `length`.
uint32_t bytesOf(uint32_t length) { return RTE_PKTMBUF_HEADROOM + length + static_cast<uint32_t>(sizeof(rte_mbuf)); }

bool isZero(const MacAddress& mac) {
  return std::all_of(mac.begin(), mac.end(), [](uint8_t byte) { return byte == 0; });
}

// A ring has no address; one from its name is the same in each run. Bit 1 of the first byte: locally administered.
MacAddress madeUp(const std::string& name) {
  uint64_t hash = 1469598103934665603ull;  // FNV-1a
  for (const char c : name) hash = (hash ^ static_cast<uint8_t>(c)) * 1099511628211ull;
  MacAddress mac{0x02};
  for (size_t i = 1; i < mac.size(); i++) mac[i] = static_cast<uint8_t>(hash >> (8 * i));
  return mac;
}

std::string offloadText(uint64_t receive, uint64_t transmit) {
  std::string out;
  const auto add = [&](bool on, const char* text) {
    if (on) out += (out.empty() ? "" : ", ") + std::string(text);
  };
  add(receive & RTE_ETH_RX_OFFLOAD_UDP_CKSUM, "receive checksum");
  add(receive & RTE_ETH_RX_OFFLOAD_VLAN_STRIP, "VLAN strip");
  add(receive & RTE_ETH_RX_OFFLOAD_VLAN_FILTER, "VLAN filter");
  add(receive & RTE_ETH_RX_OFFLOAD_SCATTER, "scatter");
  add(transmit & RTE_ETH_TX_OFFLOAD_UDP_CKSUM, "transmit checksum");
  add(transmit & RTE_ETH_TX_OFFLOAD_MULTI_SEGS, "multi-segment transmit");
  return out;
}

uint16_t portOf(const std::string& name) {
  uint16_t id = RTE_MAX_ETHPORTS;
  return rte_eth_dev_get_port_by_name(name.c_str(), &id) == 0 ? id : static_cast<uint16_t>(RTE_MAX_ETHPORTS);
}

// Kept until the port at the far end of a ring has given all buffers back.
void retire(Pool pool) {
  static std::mutex mutex;
  static std::vector<Pool> retired;
  const std::lock_guard lock(mutex);
  if (pool) retired.push_back(std::move(pool));
  std::erase_if(retired, [](const Pool& each) { return rte_mempool_in_use_count(each.get()) == 0; });
}

// As rte_pktmbuf_pool_create, but that buffers on ordinary pages may lie across two of them. Such memory is of no use to a device that needs
// physical addresses; a device with an IOMMU sees it as the process does; and net_af_xdp takes a pool for one piece, which it is not when every
// buffer has a page of its own. `ops`: what keeps the free ones, null for DPDK's choice.
rte_mempool* makePool(const std::string& name, uint32_t count, uint16_t room, int socket, const char* ops, bool hugepages) {
  const uint32_t flags = hugepages ? 0 : RTE_MEMPOOL_F_NO_IOVA_CONTIG;
  const auto element = static_cast<uint32_t>(sizeof(rte_mbuf)) + room;
  rte_mempool* pool = rte_mempool_create_empty(name.c_str(), count, element, 0, sizeof(rte_pktmbuf_pool_private), socket, flags);
  if (pool == nullptr) return nullptr;
  rte_pktmbuf_pool_private layout{};
  layout.mbuf_data_room_size = room;
  int result = rte_mempool_set_ops_byname(pool, ops == nullptr ? rte_mbuf_best_mempool_ops() : ops, nullptr);
  if (result == 0) {
    rte_pktmbuf_pool_init(pool, &layout);
    result = rte_mempool_populate_default(pool);
  }
  if (result < 0) {
    rte_mempool_free(pool);
    rte_errno = -result;
    return nullptr;
  }
  rte_mempool_obj_iter(pool, rte_pktmbuf_init, nullptr);
  return pool;
}

}  // namespace

DriverTraits traitsOf(const std::string& driver, const EalDevice& device) {
  DriverTraits traits;
  if (driver == "net_af_packet") {
    traits.kernelOwnsDevice = true;
    traits.kernelSeesFrames = true;
    traits.fedByKernel = true;
    traits.untoldOverflow = true;
  } else if (driver == "net_af_xdp") {
    // The PMD's own program redirects every frame to us; one that is given decides itself what stays with the kernel.
    traits.kernelOwnsDevice = !device.argument("xdp_prog").empty();
    traits.fedByKernel = true;
    traits.untoldOverflow = true;
  } else if (driver == "net_ring") {
    traits.sharesBuffers = true;
  } else if (driver == "net_tap" || driver == "net_virtio_user") {
    traits.fedByKernel = true;
    traits.untoldOverflow = true;
    // Seen in 25.11: it cuts the headers off for the checksum, and leaves them off when the interface is down and the frame stays ours.
    traits.spoilsRefused = driver == "net_tap";
  } else if (std::find(std::begin(kBifurcated), std::end(kBifurcated), driver) != std::end(kBifurcated)) {
    traits.kernelOwnsDevice = true;
    traits.flowIsolation = true;
  }
  return traits;
}

Error Port::failed(const std::string& what, int result) const {
  const std::string log = takeEalErrors();
  std::string message = "dpdk: device " + name_ + ": " + what + ": " + rte_strerror(result < 0 ? -result : result);
  if (!log.empty()) message += " (" + log + ")";
  return makeError(ErrorCode::kGeneric, std::move(message));
}

Result<std::unique_ptr<Port>> Port::open(const EalPlan& plan) {
  std::unique_ptr<Port> port(new Port());
  Result<void> done;
  {
    const std::lock_guard lock(ealMutex());
    done = startEal(plan);
    if (done) done = port->plug(plan);
    if (done) done = port->configure(plan);
  }
  // Only now: a port that failed half way takes the lock when it goes.
  if (!done) return done.error();
  port->addInterrupts();
  port->describe(plan);
  return port;
}

Port::~Port() {
  if (interruptFd_ >= 0) {
    for (uint16_t queue = 0; queue < queues_; queue++) {
      rte_eth_dev_rx_intr_ctl_q(id_, queue, interruptFd_, RTE_INTR_EVENT_DEL, nullptr);
    }
    ::close(interruptFd_);
  }
  const std::lock_guard lock(ealMutex());
  if (configured_) rte_eth_dev_stop(id_);
  if (plugged_) {
    rte_device* device = info_.device;
    rte_eth_dev_close(id_);
    if (device != nullptr) rte_dev_remove(device);
  }
  if (traits_.sharesBuffers) {
    retire(std::move(transmitPool_));
    retire(std::move(receivePool_));
  }
}

Result<void> Port::plug(const EalPlan& plan) {
  name_ = plan.device.name;
  takeEalErrors();
  id_ = portOf(name_);
  if (id_ == RTE_MAX_ETHPORTS) {
    if (const int result = rte_dev_probe(plan.device.text().c_str()); result != 0) {
      return failed("'" + plan.device.text() + "' can't be probed", result);
    }
    id_ = portOf(name_);
    plugged_ = id_ != RTE_MAX_ETHPORTS;
  } else {
    // EAL probes the allowed PCI devices when it starts; they are given back like the rest.
    plugged_ = plan.device.pci;
  }
  if (id_ == RTE_MAX_ETHPORTS) {
    return makeError(ErrorCode::kGeneric,
                     "dpdk: device " + name_ + " has no driver in this DPDK, or the driver made no port of it: install " +
                         "its poll mode driver (Debian: librte-meta-net), and see that the device is bound to vfio-pci");
  }
  if (const int result = rte_eth_dev_info_get(id_, &info_); result != 0) return failed("no device information", result);
  if (const int result = rte_eth_dev_get_mtu(id_, &deviceMtu_); result != 0) return failed("the MTU can't be read", result);
  caps_.mode = info_.driver_name == nullptr ? "" : info_.driver_name;
  traits_ = traitsOf(caps_.mode, plan.device);
  if (const uint32_t index = info_.if_index; index != 0 && (traits_.kernelOwnsDevice || !plan.device.argument("iface").empty())) {
    char name[IF_NAMESIZE] = {};
    if (::if_indextoname(index, name) == nullptr) return failed("its interface is not in this network namespace", errno);
    auto reader = LinkReader::open({name, index});
    if (!reader) return reader.error();
    kernelLink_ = reader.take();
    longestMtu_ = info_.max_mtu == 0 ? kMaxMtu : std::min<uint32_t>(info_.max_mtu, kMaxMtu);
    if (caps_.mode == "net_af_packet") longestMtu_ = slotOf(plan.device) - kSlotOverhead;
    kernelInterface_ = {name, index};
    if (plan.vlan != 0 && traits_.kernelOwnsDevice) return takeVlanInterface(plan.vlan);
  }
  return {};
}

// Where the kernel owns the device, addresses and routes of a VLAN are those of its interface for it.
Result<void> Port::takeVlanInterface(uint16_t vlan) {
  auto found = net::vlanInterface(kernelInterface_.index, vlan);
  if (!found) return found.error();
  if (found->index == 0) {
    const BackendCause cause = noVlanInterfaceCause(kernelInterface_.name, vlan);
    return makeError(ErrorCode::kGeneric, "dpdk: device " + name_ + ": " + cause.cause + ": " + cause.fix);
  }
  kernelInterface_ = {found->name, found->index};
  auto reader = LinkReader::open(kernelInterface_);
  if (!reader) return reader.error();
  kernelLink_ = reader.take();
  return {};
}

Result<void> Port::configure(const EalPlan& plan) {
  queues_ = static_cast<uint16_t>(plan.queues);
  if (queues_ > info_.max_rx_queues || queues_ > info_.max_tx_queues) {
    return makeError(ErrorCode::kGeneric, "dpdk: device " + name_ + " has " +
                                              std::to_string(std::min(info_.max_rx_queues, info_.max_tx_queues)) + " queues, " +
                                              std::to_string(queues_) + " are configured: configure fewer");
  }
  // Receive interrupts let an idle driver sleep. Not every driver has them, and some say so only at the start.
  if (plan.device.pci && !traits_.flowIsolation) {
    if (start(plan, true)) return {};
    takeEalErrors();
    rte_eth_dev_stop(id_);
  }
  return start(plan, false);
}

Result<void> Port::start(const EalPlan& plan, bool interrupts) {
  uint32_t wanted = plan.mtu != 0 ? plan.mtu : deviceMtu_;
  // The kernel's figure is the right one; that of a port over the kernel is a constant, which says nothing.
  if (kernelLink_ && (traits_.kernelOwnsDevice || plan.mtu == 0)) wanted = std::min(kernelLink_->read().mtu, longestMtu_);
  if (plan.mtu != 0 && plan.mtu != wanted) {
    return makeError(ErrorCode::kGeneric, "dpdk: MTU " + std::to_string(plan.mtu) + " is configured, that of " + kernelInterface_.name +
                                              " is " + std::to_string(wanted) + ": leave it out, or set it with `ip link set " +
                                              kernelInterface_.name + " mtu " + std::to_string(plan.mtu) + "`");
  }
  const uint32_t whole = info_.max_rx_pktlen - RTE_ETHER_HDR_LEN - RTE_ETHER_CRC_LEN;
  uint32_t longest = traits_.kernelOwnsDevice ? longestMtu_ : std::min({uint32_t{info_.max_mtu}, whole, kMaxMtu});
  if (plan.vlan != 0 && !kernelLink_) {
    // What the driver allows beyond its MTU, as ethdev finds it; the kernel always has room for a tag.
    const bool known = info_.max_mtu != UINT16_MAX && info_.max_rx_pktlen > info_.max_mtu;
    const uint32_t overhead = known ? info_.max_rx_pktlen - info_.max_mtu : RTE_ETHER_HDR_LEN + RTE_ETHER_CRC_LEN;
    tagRoom_ = overhead < RTE_ETHER_HDR_LEN + RTE_ETHER_CRC_LEN + kTagLength ? kTagLength : 0;
    longest -= tagRoom_;
    if (plan.mtu == 0) wanted = std::min(wanted, longest);
  }
  if (wanted < RTE_ETHER_MIN_MTU || wanted > longest) {
    return makeError(ErrorCode::kGeneric, "dpdk: device " + name_ + ": MTU " + std::to_string(wanted) + " is out of range: allowed is " +
                                              std::to_string(RTE_ETHER_MIN_MTU) + " to " + std::to_string(longest));
  }
  receiveOffloads_ = info_.rx_offload_capa & kWantedReceive;
  // A function may get no frame of a VLAN that it did not ask for.
  if (plan.vlan != 0) receiveOffloads_ |= info_.rx_offload_capa & RTE_ETH_RX_OFFLOAD_VLAN_FILTER;
  transmitOffloads_ = info_.tx_offload_capa & kWantedTransmit;
  if (traits_.spoilsRefused) transmitOffloads_ &= ~uint64_t{RTE_ETH_TX_OFFLOAD_UDP_CKSUM};
  // Buffers hold a whole frame, unless the device can spread a long one over several both ways.
  const bool spread =
      (info_.rx_offload_capa & RTE_ETH_RX_OFFLOAD_SCATTER) != 0 && (info_.tx_offload_capa & RTE_ETH_TX_OFFLOAD_MULTI_SEGS) != 0;
  uint32_t bufferLength = std::max(kBufferLength, info_.min_rx_bufsize);
  if (wanted + kFrameOverhead > bufferLength) {
    if (spread) {
      receiveOffloads_ |= RTE_ETH_RX_OFFLOAD_SCATTER;
    } else {
      bufferLength = RTE_ALIGN_CEIL(wanted + kFrameOverhead, 64u);
    }
  }
  // It copies a slot of its ring into one buffer and refuses buffers that are shorter than a slot.
  if (caps_.mode == "net_af_packet") bufferLength = std::max(bufferLength, slotOf(plan.device));

  rte_eth_conf configuration{};
  configuration.rxmode.mtu = std::min(wanted + tagRoom_, whole);
  configuration.rxmode.offloads = receiveOffloads_;
  configuration.txmode.offloads = transmitOffloads_;
  configuration.intr_conf.rxq = interrupts ? 1 : 0;
  if (queues_ > 1) {
    configuration.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
    configuration.rx_adv_conf.rss_conf.rss_hf =
        info_.flow_type_rss_offloads & (RTE_ETH_RSS_IP | RTE_ETH_RSS_NONFRAG_IPV4_UDP | RTE_ETH_RSS_NONFRAG_IPV6_UDP);
  }
  if (traits_.flowIsolation) {
    // Before configure, so that no frame of the kernel's goes astray even for a moment.
    rte_flow_error error{};
    if (const int result = rte_flow_isolate(id_, 1, &error); result != 0) {
      return failed(std::string("the kernel's traffic can't be left to it (rte_flow_isolate: ") +
                        (error.message ? error.message : "no reason given") + ")",
                    result);
    }
  }
  if (const int result = rte_eth_dev_configure(id_, queues_, queues_, &configuration); result != 0) return failed("configure", result);
  configured_ = true;
  if (plan.mtu != 0 && !traits_.kernelOwnsDevice) {
    if (const int result = rte_eth_dev_set_mtu(id_, static_cast<uint16_t>(wanted + tagRoom_)); result != 0) {
      return failed("MTU " + std::to_string(wanted) + " can't be set", result);
    }
  }
  interrupts_ = interrupts;
  receiveDescriptors_ = kReceiveDescriptors;
  transmitDescriptors_ = kTransmitDescriptors;
  // Long buffers are few: then a shorter ring rather than none.
  const uint32_t total = plan.bufferBytes / bytesOf(bufferLength);
  while (receiveDescriptors_ > kMinDescriptors && queues_ * receiveDescriptors_ + 2 * kSpareBuffers > total) receiveDescriptors_ /= 2;
  if (const int result = rte_eth_dev_adjust_nb_rx_tx_desc(id_, &receiveDescriptors_, &transmitDescriptors_); result != 0) {
    return failed("descriptor counts", result);
  }
  if (auto made = makePools(plan, bufferLength); !made) return made;
  const int socket = rte_eth_dev_socket_id(id_);
  const auto node = socket < 0 ? static_cast<unsigned>(SOCKET_ID_ANY) : static_cast<unsigned>(socket);
  for (uint16_t queue = 0; queue < queues_; queue++) {
    if (const int result = rte_eth_rx_queue_setup(id_, queue, receiveDescriptors_, node, nullptr, receivePool_.get()); result != 0) {
      return failed("receive queue " + std::to_string(queue), result);
    }
    if (const int result = rte_eth_tx_queue_setup(id_, queue, transmitDescriptors_, node, nullptr); result != 0) {
      return failed("transmit queue " + std::to_string(queue), result);
    }
  }
  if (const int result = rte_eth_dev_start(id_); result != 0) return failed("start", result);
  rte_ether_addr address{};
  if (rte_eth_macaddr_get(id_, &address) == 0) std::copy(std::begin(address.addr_bytes), std::end(address.addr_bytes), mac_.begin());
  if (isZero(mac_)) mac_ = madeUp(name_);
  if (plan.vlan != 0 && traits_.kernelOwnsDevice && kernelLink_) mac_ = kernelLink_->read().mac;  // which may be another
  if ((receiveOffloads_ & RTE_ETH_RX_OFFLOAD_VLAN_FILTER) != 0) {
    if (const int result = rte_eth_dev_vlan_filter(id_, plan.vlan, 1); result != 0) {
      return failed("the device does not let VLAN " + std::to_string(plan.vlan) + " in", result);
    }
  }
  if (!traits_.kernelOwnsDevice) joinGroups(plan);
  // Flow rules lead to a queue past the hash.
  if (queues_ > 1 && !traits_.flowIsolation) rss_ = RssMap::of(id_, info_);
  caps_.transmitBufferLength = bufferLength;
  return {};
}

// Neighbour discovery asks through multicast: the group of each address and of the link-local one, which the kernel makes of the MAC address
// (RFC 4291, 2.7.1), and that of all nodes. All multicast only where there is no list: igb's physical function, for one, forgets the list
// of a function that then asks for all.
void Port::joinGroups(const EalPlan& plan) {
  std::vector<rte_ether_addr> groups{{{0x33, 0x33, 0, 0, 0, 1}}, {{0x33, 0x33, 0xff, mac_[3], mac_[4], mac_[5]}}};
  for (const InterfaceAddress& entry : plan.addresses) {
    if (!entry.address.isV6()) continue;
    const uint8_t* bytes = reinterpret_cast<const sockaddr_in6*>(&entry.address.storage)->sin6_addr.s6_addr;
    groups.push_back({{0x33, 0x33, 0xff, bytes[13], bytes[14], bytes[15]}});
  }
  if (rte_eth_dev_set_mc_addr_list(id_, groups.data(), static_cast<uint32_t>(groups.size())) != 0) rte_eth_allmulticast_enable(id_);
}

Result<void> Port::makePools(const EalPlan& plan, uint32_t bufferLength) {
  receivePool_.reset();
  transmitPool_.reset();
  const uint32_t room = RTE_PKTMBUF_HEADROOM + bufferLength;
  const uint32_t total = plan.bufferBytes / bytesOf(bufferLength);
  const uint32_t receive = queues_ * receiveDescriptors_ + kSpareBuffers;
  if (total < receive + kSpareBuffers) {
    return makeError(ErrorCode::kGeneric, "dpdk: " + std::to_string(plan.bufferBytes) + " bytes hold " + std::to_string(total) +
                                              " buffers of " + std::to_string(bytesOf(bufferLength)) + " bytes; " + name_ + " needs " +
                                              std::to_string(receive + kSpareBuffers) + ": configure at least " +
                                              std::to_string((receive + kSpareBuffers) * bytesOf(bufferLength)) + " bytes");
  }
  static std::atomic<uint32_t> serial{0};
  const std::string suffix = std::to_string(serial.fetch_add(1));
  const int socket = rte_eth_dev_socket_id(id_);
  const auto make = [&](const std::string& name, uint32_t count) {
    // Last in, first out keeps the buffers in use few and warm; no per-core caches, since the driver's threads are not EAL's.
    rte_mempool* pool = makePool(name, count, static_cast<uint16_t>(room), socket, "stack", plan.hugepages);
    if (pool == nullptr) pool = makePool(name, count, static_cast<uint16_t>(room), socket, nullptr, plan.hugepages);
    return Pool(pool);
  };
  receivePool_ = make("outrigger_rx" + suffix, receive + (total - receive - kSpareBuffers) / 2);
  if (receivePool_) transmitPool_ = make("outrigger_tx" + suffix, total - receivePool_->size);
  if (!receivePool_ || !transmitPool_) {
    const int error = rte_errno;
    if (error == EINVAL) return failed("DPDK found no driver for buffer pools: install it (Debian: librte-mempool-ring23)", error);
    return failed("no memory for " + std::to_string(total) + " buffers: give EAL more (" + (plan.hugepages ? "hugepages" : "-m") + ")",
                  error);
  }
  return {};
}

void Port::addInterrupts() {
  if (!interrupts_) return;
  const int fd = ::epoll_create1(EPOLL_CLOEXEC);
  if (fd < 0) return;
  for (uint16_t queue = 0; queue < queues_; queue++) {
    if (rte_eth_dev_rx_intr_ctl_q(id_, queue, fd, RTE_INTR_EVENT_ADD, nullptr) == 0) continue;
    while (queue-- > 0) rte_eth_dev_rx_intr_ctl_q(id_, queue, fd, RTE_INTR_EVENT_DEL, nullptr);
    ::close(fd);
    takeEalErrors();
    return;
  }
  interruptFd_ = fd;
}

void Port::describe(const EalPlan& plan) {
  caps_.name = "dpdk";
  const std::string driver = caps_.mode;
  if (plan.device.pci && !traits_.flowIsolation) caps_.mode += " under vfio";
  if (!plan.hugepages) caps_.mode += ", no hugepages";
  if (traits_.kernelOwnsDevice) {
    caps_.interface = kernelInterface_.name;
    caps_.interfaceIndex = kernelInterface_.index;
  }
  caps_.queues = queues_;
  if ((transmitOffloads_ & RTE_ETH_TX_OFFLOAD_MULTI_SEGS) != 0) {
    const uint32_t limit = info_.tx_desc_lim.nb_mtu_seg_max;
    caps_.maxTransmitPieces = limit == 0 ? kMaxPieces : std::min<uint32_t>(limit, kMaxPieces);
  }
  caps_.transmitChecksum = (transmitOffloads_ & RTE_ETH_TX_OFFLOAD_UDP_CKSUM) != 0;
  caps_.receiveChecksum = (receiveOffloads_ & RTE_ETH_RX_OFFLOAD_UDP_CKSUM) != 0;
  caps_.kernelOwnsDevice = traits_.kernelOwnsDevice;
  caps_.kernelSeesFrames = traits_.kernelSeesFrames;
  // Its sockets are a fanout group, which has the kernel join IPv4 fragments before it picks a socket (PACKET_FANOUT_FLAG_DEFRAG).
  caps_.joinsFragments = driver == "net_af_packet";
  if (traits_.untoldOverflow) caps_.untoldRing = driver == "net_af_packet" ? slotCountOf(plan.device) : receiveDescriptors_;
  caps_.singleOwner = true;
  if (const std::string text = offloadText(receiveOffloads_, transmitOffloads_); !text.empty()) caps_.offloads.push_back(text);
  if (rss_) caps_.offloads.push_back("answers spread over the queues by source ports (RSS)");
  if (!caps_.transmitChecksum || !caps_.receiveChecksum) {
    caps_.reason = "driver " + driver + (traits_.spoilsRefused ? " spoils the frames that it can't send when it has a " : " offers no ") +
                   (caps_.transmitChecksum  ? "receive"
                    : caps_.receiveChecksum ? "transmit"
                                            : "") +
                   std::string(!caps_.transmitChecksum && !caps_.receiveChecksum ? "checksum offload" : " checksum offload") +
                   ": checksums are computed in software";
  }
  if (driver == "net_af_packet")
    caps_.reason += "; it cuts trains of datagrams that were not segmented, and does not tell what its ring lost";
  if (queues_ > 1 && !rss_) {
    caps_.reason +=
        (caps_.reason.empty() ? "driver " + driver : "; it") +
        std::string(traits_.flowIsolation ? " has flow rules that lead to the first queue: the others get nothing"
                                          : " does not tell by which hash it picks a queue: source ports are the kernel's choice");
  }
  if (interruptFd_ < 0) {
    caps_.reason +=
        (caps_.reason.empty() ? "" : "; ") + std::string("it has no receive interrupts: the driver's thread polls even when idle");
  }
}

LinkState Port::link() {
  LinkState state;
  state.mac = mac_;
  rte_eth_link link{};
  uint16_t mtu = 0;
  if (rte_eth_dev_is_removed(id_) != 0) {
    state.gone = true;
    state.reason = "device " + name_ + " was removed";
    return state;
  }
  if (rte_eth_dev_get_mtu(id_, &mtu) == 0) state.mtu = mtu > tagRoom_ ? mtu - tagRoom_ : 0;
  state.up = rte_eth_link_get_nowait(id_, &link) == 0 && link.link_status == RTE_ETH_LINK_UP;
  if (!state.up) state.reason = "device " + name_ + " is down: it has no link";
  if (kernelLink_) {
    const LinkState kernel = kernelLink_->read();
    state.gone = kernel.gone;
    if (kernel.mtu != 0) state.mtu = std::min(kernel.mtu, longestMtu_);
    if (!kernel.up || kernel.gone) {
      state.up = false;
      state.reason = kernel.reason;
    }
  }
  return state;
}

}  // namespace outrigger::io::dpdk
