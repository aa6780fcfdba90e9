// SPDX-License-Identifier: Apache-2.0
// One ethdev port: plugged, configured and started; its buffer pools; what it offers. The data path is in dpdk_io.
// Control part; takes ealMutex where it changes the device.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "base/result.h"
#include "io/dpdk/dpdk_headers.h"
#include "io/dpdk/rss_map.h"
#include "io/dpdk_loader/eal_plan.h"
#include "io/frame/frame_io.h"
#include "io/frame/netdev.h"

namespace outrigger::io::dpdk {

struct PoolDeleter {
  void operator()(rte_mempool* pool) const { rte_mempool_free(pool); }
};
using Pool = std::unique_ptr<rte_mempool, PoolDeleter>;

// Who else has a hand in the device, by driver.
struct DriverTraits {
  bool kernelOwnsDevice = false;  // the kernel answers ARP, NDP and ICMP for the interface
  bool kernelSeesFrames = false;  // it gets a copy of each frame
  bool fedByKernel = false;       // frames may come from a local socket with the checksum left out
  bool sharesBuffers = false;     // what it sends is received by another port in the very same buffers
  bool spoilsRefused = false;     // with its checksum offload, a frame that it could not send is no longer whole
  bool untoldOverflow = false;    // what found its ring full is in no figure that it gives (imissed)
  bool flowIsolation = false;     // bifurcated: takes only what a flow rule names, all else goes to the kernel
};
DriverTraits traitsOf(const std::string& driver, const EalDevice& device);

class Port {
 public:
  // Starts EAL when it does not run yet.
  static Result<std::unique_ptr<Port>> open(const EalPlan& plan);
  ~Port();
  Port(const Port&) = delete;
  Port& operator=(const Port&) = delete;

  uint16_t id() const { return id_; }
  const FrameCaps& caps() const { return caps_; }
  const MacAddress& mac() const { return mac_; }
  const DriverTraits& traits() const { return traits_; }
  rte_mempool* transmitPool() const { return transmitPool_.get(); }
  uint16_t queues() const { return queues_; }
  uint16_t transmitDescriptors() const { return transmitDescriptors_; }
  bool multiSegment() const { return caps_.maxTransmitPieces > 1; }
  // An epoll descriptor that the device's receive interrupts wake, -1 where there are none.
  int interruptFd() const { return interruptFd_; }

  const std::optional<RssMap>& rss() const { return rss_; }

  // The link as it is now, but for `generation`, which is the caller's.
  LinkState link();

 private:
  Port() = default;
  Result<void> plug(const EalPlan& plan);
  Result<void> takeVlanInterface(uint16_t vlan);
  Result<void> configure(const EalPlan& plan);
  Result<void> start(const EalPlan& plan, bool interrupts);
  Result<void> makePools(const EalPlan& plan, uint32_t bufferLength);
  void joinGroups(const EalPlan& plan);
  void addInterrupts();
  void describe(const EalPlan& plan);
  Error failed(const std::string& what, int result) const;

  std::string name_;
  uint16_t id_ = 0;
  bool plugged_ = false;  // by us: unplugged at the end
  bool configured_ = false;
  bool interrupts_ = false;
  uint16_t queues_ = 1;
  uint16_t receiveDescriptors_ = 0;
  uint16_t transmitDescriptors_ = 0;
  uint64_t receiveOffloads_ = 0;
  uint64_t transmitOffloads_ = 0;
  rte_eth_dev_info info_{};
  DriverTraits traits_;
  MacAddress mac_{};
  FrameCaps caps_;
  Pool receivePool_;
  Pool transmitPool_;
  uint32_t longestMtu_ = 0;    // of a port over the kernel
  uint16_t deviceMtu_ = 0;     // as it was found
  std::optional<RssMap> rss_;  // of several queues
  uint32_t tagRoom_ = 0;       // bytes of the port's MTU that a VLAN tag takes
  Netdev kernelInterface_;
  std::unique_ptr<LinkReader> kernelLink_;  // of the interface beneath a port over the kernel, which itself says it is always up
  int interruptFd_ = -1;
};

}  // namespace outrigger::io::dpdk
