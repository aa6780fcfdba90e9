// SPDX-License-Identifier: Apache-2.0
// The dpdk backend's data path: bursts of mbufs as FrameIo's frames. Opening and closing the device is Port's.
//
// One owner polls every queue, so replies come back to it whatever queue the device's hash picks, and the buffer pools see one thread.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "io/dpdk/dpdk_port.h"
#include "io/dpdk/exception_tap.h"
#include "io/dpdk/flow_rules.h"
#include "io/dpdk_loader/port_filter.h"
#include "io/frame/frame_io.h"

namespace outrigger::io::dpdk {

class DpdkIo final : public FrameIo {
 public:
  // Opens the device of `plan`, and its exception interface where it gets one.
  static Result<std::unique_ptr<DpdkIo>> open(const EalPlan& plan);
  ~DpdkIo() override;

  const FrameCaps& caps() const override { return caps_; }
  Result<void> steer(const SteerRule& rule) override;
  Result<void> unsteer(const SteerRule& rule) override;
  std::optional<uint32_t> queueOf(const SockAddr& source, const SockAddr& destination) const override;
  LinkState link() override;

  uint32_t receive(std::span<RxFrame> frames) override;
  void giveBack(std::span<const RxFrame> frames) override;
  uint32_t reserve(std::span<TxFrame> frames) override;
  void commit(std::span<const TxFrame> frames) override;
  void abort(std::span<const TxFrame> frames) override;
  bool flush() override;
  void kernelSent() override;
  int waitHandle() const override { return waitFd_.get(); }
  bool arm() override;
  void refreshStats() override;

 private:
  static constexpr uint32_t kBurst = 64;
  // The kernel speaks seldom on the exception interface; a read costs as much as a burst.
  static constexpr uint32_t kReceivesPerExceptionRead = 32;
  static constexpr uint32_t kMaxExceptionFrames = 16;
  // Of four fragments each they are what is read at a time: a burst of them must not overrun the interface's queue (500 frames).
  static constexpr uint32_t kKernelSendsPerRead = 4;

  DpdkIo(std::unique_ptr<Port> port, std::optional<ExceptionTap> tap, uint16_t vlan);
  Result<void> makeWaitHandle();
  void setAside(rte_mbuf* packet);
  void readExceptions();
  void queueForTransmit(rte_mbuf* packet);
  bool fetch();
  bool isOurs(rte_mbuf* packet);
  bool isOfOtherVlan(const rte_mbuf* packet) const;
  bool hasArrivals();
  void disarm();
  uint32_t deliver(rte_mbuf* packet, std::span<RxFrame> frames);
  RxChecksum checksumOf(const rte_mbuf* packet) const;
  void transmitPending();

  std::unique_ptr<Port> port_;
  std::optional<ExceptionTap> tap_;
  const uint16_t vlan_;  // of the frames that are taken, 0: untagged ones; the exception interface has them without the tag
  FrameCaps caps_;
  bool filtered_ = false;  // only what `steer` named is the stack's
  UniqueFd waitFd_;        // the device's interrupts and the exception interface
  uint32_t receivesSinceRead_ = 0;
  uint32_t kernelSends_ = 0;  // since they were last read for
  PortFilter filter_;
  FlowRules flows_;
  std::atomic<uint32_t> mtu_{0};
  std::mutex linkMutex_;  // link() may be called by conductor and resource agent
  LinkState lastLink_;

  // Received and not delivered yet.
  std::array<rte_mbuf*, kBurst> received_{};
  uint32_t receivedCount_ = 0;
  uint32_t receivedNext_ = 0;
  uint16_t nextQueue_ = 0;
  bool armed_ = false;

  // Committed and not taken by the device yet, from pendingNext_ on. Reserved buffers count against its length.
  std::vector<rte_mbuf*> pending_;
  uint32_t pendingNext_ = 0;
  uint32_t reserved_ = 0;
  rte_mbuf* chainHead_ = nullptr;  // of a frame in several buffers whose last is still to come
  rte_mbuf* chainTail_ = nullptr;

  rte_eth_stats base_{};  // of the device when it was opened
};

}  // namespace outrigger::io::dpdk
