// SPDX-License-Identifier: Apache-2.0
// FrameIo over AF_PACKET: one socket that sends through a ring, and one or several that receive through rings of their own (a fanout
// group, a flow always to the same one). The kernel's stack goes on seeing every frame.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "io/frame/device_control.h"
#include "io/frame/frame_io.h"
#include "io/packet/receive_ring.h"
#include "io/packet/transmit_ring.h"
#include "io/wake_watch.h"

namespace outrigger::io {

struct PacketOptions {
  std::string interface;
  bool lowLatency = true;       // slots (V2) for receiving, else blocks (V3)
  bool vnetHeader = true;       // false: without offloads, as kernels that refuse PACKET_VNET_HDR
  bool segmentation = true;     // trains out, where kernel and device take them
  uint32_t receiveSockets = 1;  // over one: a fanout group
  uint32_t receiveBytes = 4u << 20;
  uint32_t transmitBytes = 4u << 20;
};

// Sockets that another process opened, made for the rings that `options` give with `mtu`, one of each kind; with a filter that its maker keeps.
struct HandedPacket {
  Netdev netdev;  // in the other one's network namespace
  uint32_t mtu = 0;
  bool deviceCutsTrains = false;  // tx-udp-segmentation
  std::string by;                 // who opened it
  UniqueFd transmit;
  UniqueFd receive;
  std::unique_ptr<DeviceControl> control;
};

class PacketIo final : public FrameIo {
 public:
  // Errors name interface, call and fix; a missing CAP_NET_RAW has errno EPERM.
  static Result<std::unique_ptr<PacketIo>> open(const PacketOptions& options);
  // Needs no right, and no interface in this network namespace.
  static Result<std::unique_ptr<PacketIo>> over(HandedPacket handed, const PacketOptions& options);
  // What of `options` decides about the rings.
  static TransmitRingOptions transmitOptions(const PacketOptions& options, uint32_t mtu, bool deviceCutsTrains);
  static ReceiveRingOptions receiveOptions(const PacketOptions& options, uint32_t mtu);

  const FrameCaps& caps() const override { return caps_; }
  Result<void> steer(const SteerRule& rule) override;
  Result<void> unsteer(const SteerRule& rule) override;
  Result<UniqueFd> openPort(const SockAddr& address, int32_t receiveBufferBytes) override;
  LinkState link() override;
  uint32_t receive(std::span<RxFrame> frames) override;
  void giveBack(std::span<const RxFrame> frames) override;
  uint32_t reserve(std::span<TxFrame> frames) override { return transmit_->reserve(frames, stats); }
  void commit(std::span<const TxFrame> frames) override { transmit_->commit(frames); }
  void abort(std::span<const TxFrame> frames) override { transmit_->abort(frames); }
  bool flush() override { return transmit_->flush(stats); }
  int waitHandle() const override { return wakes_ ? wakes_->fd() : receive_[0]->fd(); }
  bool arm() override;
  void refreshStats() override;

  // For tests: what has not come back.
  uint32_t framesHeld() const;
  uint32_t transmitSlotsInUse() { return transmit_->inUse(); }
  uint32_t transmitSlots() const { return transmit_->slots(); }

 private:
  PacketIo() = default;
  Result<void> openReceivers(const PacketOptions& options);
  Result<void> joinFanout();
  void describe(const PacketOptions& options, bool deviceCutsTrains);
  void describeMemory();
  Result<void> replaceFilter(const std::vector<SteerRule>& rules);

  Netdev netdev_;
  FrameCaps caps_;
  std::unique_ptr<LinkReader> link_;
  std::unique_ptr<DeviceControl> control_;  // of a handed device
  std::vector<std::unique_ptr<ReceiveRing>> receive_;
  std::unique_ptr<TransmitRing> transmit_;
  std::unique_ptr<WakeWatch> wakes_;  // over several receive sockets
  uint32_t nextRing_ = 0;
  std::mutex rulesMutex_;
  std::vector<SteerRule> rules_;
};

}  // namespace outrigger::io
