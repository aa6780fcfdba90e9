// SPDX-License-Identifier: Apache-2.0
// See the header.
#include "io/packet/packet_io.h"

#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <sys/socket.h>

#include <algorithm>

#include "io/frame/vnet_header.h"
#include "io/packet/packet_filter.h"

#ifndef PACKET_FANOUT_FLAG_UNIQUEID
#define PACKET_FANOUT_FLAG_UNIQUEID 0x2000
#endif

namespace outrigger::io {
namespace {

void addReason(std::string& reason, const std::string& text) { reason += (reason.empty() ? "" : "; ") + text; }

}  // namespace

Result<std::unique_ptr<PacketIo>> PacketIo::open(const PacketOptions& options) {
  std::unique_ptr<PacketIo> io(new PacketIo());
  auto netdev = chooseNetdev(options.interface, "");
  if (!netdev) return netdev.error();
  io->netdev_ = netdev.take();
  auto link = LinkReader::open(io->netdev_);
  if (!link) return link.error();
  io->link_ = link.take();
  const bool cutsTrains = io->link_->feature("tx-udp-segmentation");
  io->describe(options, cutsTrains);
  auto ring = TransmitRing::open(io->netdev_, transmitOptions(options, io->link_->read().mtu, cutsTrains), *io->link_);
  if (!ring) return ring.error();
  io->transmit_ = ring.take();
  io->caps_.transmitBufferLength = io->transmit_->capacity();
  if (auto r = io->openReceivers(options); !r) return r.error();
  io->describeMemory();
  return io;
}

Result<std::unique_ptr<PacketIo>> PacketIo::over(HandedPacket handed, const PacketOptions& options) {
  std::unique_ptr<PacketIo> io(new PacketIo());
  io->netdev_ = handed.netdev;
  io->control_ = std::move(handed.control);
  auto link = LinkReader::through(handed.transmit.get(), io->netdev_);
  if (!link) return link.error();
  io->link_ = link.take();
  io->describe(options, handed.deviceCutsTrains);
  io->caps_.openedBy = handed.by;
  auto ring =
      TransmitRing::map(std::move(handed.transmit), io->netdev_, transmitOptions(options, handed.mtu, handed.deviceCutsTrains), *io->link_);
  if (!ring) return ring.error();
  io->transmit_ = ring.take();
  io->caps_.transmitBufferLength = io->transmit_->capacity();
  auto receiver = mapReceiveRing(std::move(handed.receive), receiveOptions(options, handed.mtu));
  if (!receiver) return receiver.error();
  io->receive_.push_back(receiver.take());
  io->describeMemory();
  return io;
}

TransmitRingOptions PacketIo::transmitOptions(const PacketOptions& options, uint32_t mtu, bool deviceCutsTrains) {
  TransmitRingOptions ring;
  ring.vnetHeader = options.vnetHeader;
  ring.trains = options.vnetHeader && options.segmentation && deviceCutsTrains && vnetTrainRefusal().empty();
  ring.mtu = mtu;
  ring.bytes = options.transmitBytes;
  return ring;
}

ReceiveRingOptions PacketIo::receiveOptions(const PacketOptions& options, uint32_t mtu) {
  ReceiveRingOptions ring;
  ring.blocks = !options.lowLatency;
  ring.vnetHeader = options.vnetHeader;
  ring.mtu = mtu;
  ring.bytes = options.receiveBytes / std::max(1U, options.receiveSockets);
  return ring;
}

void PacketIo::describe(const PacketOptions& options, bool deviceCutsTrains) {
  caps_.name = "packet";
  caps_.interface = netdev_.name;
  caps_.interfaceIndex = netdev_.index;
  caps_.queues = std::max(1U, options.receiveSockets);
  caps_.mode = options.lowLatency ? "V2 ring" : "V3 ring";
  caps_.mode += caps_.queues > 1 ? " x " + std::to_string(caps_.queues) + " + V2 ring" : " + V2 ring";
  caps_.transmitChecksum = options.vnetHeader;
  caps_.receiveChecksum = true;
  caps_.kernelSeesFrames = true;
  const std::string refusal = vnetTrainRefusal();
  caps_.receiveTrains = options.vnetHeader && refusal.empty();
  caps_.arrivalTimes = true;
  caps_.transmitSegmentation = transmitOptions(options, 0, deviceCutsTrains).trains;
  if (!options.vnetHeader) {
    addReason(caps_.reason, "checksum offload and trains: off, they need PACKET_VNET_HDR");
    return;
  }
  caps_.offloads.emplace_back("transmit checksum");
  caps_.offloads.emplace_back("receive checksum");
  if (!refusal.empty()) {
    addReason(caps_.reason, "trains: " + refusal);
    return;
  }
  caps_.offloads.emplace_back("receive trains");
  if (!options.segmentation) {
    addReason(caps_.reason, "transmit segmentation: switched off by configuration");
  } else if (!deviceCutsTrains) {
    addReason(caps_.reason, "transmit segmentation: tx-udp-segmentation is off or fixed off on " + netdev_.name + " ('ethtool -k')");
  } else {
    caps_.offloads.emplace_back("transmit segmentation");
  }
}

void PacketIo::describeMemory() {
  std::string unlocked = transmit_->unlocked();
  for (const auto& ring : receive_) {
    if (unlocked.empty()) unlocked = ring->unlocked();
  }
  caps_.memory = unlocked.empty() ? "locked" : "not locked: " + unlocked;
}

Result<void> PacketIo::openReceivers(const PacketOptions& options) {
  const ReceiveRingOptions ring = receiveOptions(options, link_->read().mtu);
  for (uint32_t i = 0; i < caps_.queues; ++i) {
    auto receiver = openReceiveRing(netdev_, ring);
    if (!receiver) return receiver.error();
    if (auto r = bindPacketSocket((*receiver)->fd(), netdev_, ETH_P_ALL); !r) return r;
    (*receiver)->setTag(i);
    receive_.push_back(receiver.take());
  }
  return caps_.queues > 1 ? joinFanout() : Result<void>();
}

// One group for the rings of this instance only: the kernel finds a number that no other group has. By hash of the flow, so that a
// sender's datagrams stay in order.
Result<void> PacketIo::joinFanout() {
  wakes_ = std::make_unique<WakeWatch>();
  if (wakes_->error() != 0) return makeError(ErrorCode::kGeneric, "backend packet: cannot create an epoll descriptor", wakes_->error());
  int group = 0;
  for (const auto& ring : receive_) {
    const bool first = ring == receive_.front();
    const int mode = PACKET_FANOUT_HASH | (first ? PACKET_FANOUT_FLAG_UNIQUEID : 0);
    if (auto r = setPacketOption(ring->fd(), PACKET_FANOUT, group | (mode << 16), "PACKET_FANOUT", netdev_); !r) {
      // Only running sockets can join, so not on an interface that is down.
      const LinkState link = link_->read();
      return link.up ? r.error() : makeError(ErrorCode::kGeneric, r.error().message + "; " + link.reason, 0);
    }
    if (first) {
      socklen_t length = sizeof(group);
      if (::getsockopt(ring->fd(), SOL_PACKET, PACKET_FANOUT, &group, &length) != 0) {
        return makeError(ErrorCode::kGeneric, "backend packet on " + netdev_.name + ": cannot read the fanout group", errno);
      }
      group &= 0xFFFF;
    }
    wakes_->add(ring->fd());
  }
  if (!wakes_->watch()) return makeError(ErrorCode::kGeneric, "backend packet: cannot wait for several sockets", errno);
  return {};
}

Result<void> PacketIo::replaceFilter(const std::vector<SteerRule>& rules) {
  const auto program = buildPacketFilter(rules, FilterView::kPacketSocket);
  if (!program) return program.error();
  // The kernel swaps old for new at once: no frame is seen by neither or both.
  for (const auto& ring : receive_) {
    if (auto r = attachFilter(ring->fd(), *program, netdev_); !r) return r;
  }
  return {};
}

Result<UniqueFd> PacketIo::openPort(const SockAddr& address, int32_t receiveBufferBytes) {
  return control_ != nullptr ? control_->openPort(address, receiveBufferBytes) : UniqueFd();
}

Result<void> PacketIo::steer(const SteerRule& rule) {
  if (control_ != nullptr) return control_->steer(rule);
  const std::lock_guard<std::mutex> lock(rulesMutex_);
  const auto known = std::find_if(rules_.begin(), rules_.end(), [&](const SteerRule& one) { return one.address == rule.address; });
  if (known != rules_.end()) return {};
  std::vector<SteerRule> rules = rules_;
  rules.push_back(rule);
  if (auto r = replaceFilter(rules); !r) {
    return makeError(r.error().code, "cannot steer " + rule.address.toString() + " to us: " + r.error().message);
  }
  rules_ = std::move(rules);
  return {};
}

Result<void> PacketIo::unsteer(const SteerRule& rule) {
  if (control_ != nullptr) return control_->unsteer(rule);
  const std::lock_guard<std::mutex> lock(rulesMutex_);
  std::vector<SteerRule> rules = rules_;
  if (std::erase_if(rules, [&](const SteerRule& one) { return one.address == rule.address; }) == 0) return {};
  if (auto r = replaceFilter(rules); !r) {
    return makeError(r.error().code, "cannot stop steering " + rule.address.toString() + " to us: " + r.error().message);
  }
  rules_ = std::move(rules);
  return {};
}

LinkState PacketIo::link() {
  LinkState state = link_->read();
  if (control_ != nullptr) {
    LinkState given = control_->link();
    if (given.gone) return given;
    if (state.reason.empty()) state.reason = std::move(given.reason);
  }
  if (state.reason.empty() && transmit_->lostBypass()) {
    state.reason = "tx-udp-segmentation of " + netdev_.name + " was switched off: trains go through the kernel's queueing and segmentation";
  }
  return state;
}

uint32_t PacketIo::receive(std::span<RxFrame> frames) {
  // What a full device left behind must not wait for the next thing to be sent.
  if (transmit_->hasUnsent()) transmit_->flush(stats);
  uint32_t count = 0;
  // Each call starts one ring further, so that a full one can't starve the next.
  const auto rings = static_cast<uint32_t>(receive_.size());
  for (uint32_t i = 0; i < rings && count < frames.size(); ++i) {
    if (nextRing_ >= rings) nextRing_ = 0;
    count = receive_[nextRing_++]->receive(frames, count, stats);
  }
  if (wakes_) wakes_->polled();
  int64_t bytes = 0;
  for (uint32_t i = 0; i < count; ++i) bytes += frames[i].length;
  if (count != 0) {
    stats.receivedFrames.fetch_add(count, std::memory_order_relaxed);
    stats.receivedBytes.fetch_add(bytes, std::memory_order_relaxed);
  }
  return count;
}

void PacketIo::giveBack(std::span<const RxFrame> frames) {
  for (const RxFrame& frame : frames) receive_[frame.cookie >> 32]->giveBack(frame);
}

bool PacketIo::arm() {
  // Nothing wakes a sleeper when the device has room again.
  if (transmit_->hasUnsent() && !transmit_->flush(stats)) return false;
  if (wakes_ && !wakes_->watch()) return false;
  for (const auto& ring : receive_) {
    // A socket whose interface went down polls as failed until the error is fetched: the sleeper would spin.
    int error = 0;
    socklen_t length = sizeof(error);
    ::getsockopt(ring->fd(), SOL_SOCKET, SO_ERROR, &error, &length);
    if (ring->hasFrame()) return false;
  }
  return true;
}

void PacketIo::refreshStats() {
  for (const auto& ring : receive_) {
    tpacket_stats_v3 read{};  // begins as the shorter tpacket_stats does; reading clears the kernel's
    socklen_t length = sizeof(read);
    if (::getsockopt(ring->fd(), SOL_PACKET, PACKET_STATISTICS, &read, &length) != 0) continue;
    if (read.tp_drops != 0) stats.ringFullDrops.fetch_add(read.tp_drops, std::memory_order_relaxed);
  }
}

uint32_t PacketIo::framesHeld() const {
  uint32_t held = 0;
  for (const auto& ring : receive_) held += ring->held();
  return held;
}

}  // namespace outrigger::io
