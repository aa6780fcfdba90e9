// SPDX-License-Identifier: Apache-2.0
// The floor over AF_PACKET: a V2 transmit ring past the queueing discipline, and to receive a V2 ring (mode "latency") or V3 blocks ("bulk"). With
// segmentation a slot of the transmit ring holds a train behind a virtio-net header, which also the receive ring then has.
#pragma once

#include <string>

#include "base/fd.h"
#include "floor/frame.h"
#include "io/frame/vnet_header.h"

namespace outrigger::bench {

class PacketWire {
 public:
  explicit PacketWire(const Plan& plan);
  PacketWire(const PacketWire&) = delete;
  ~PacketWire();

  uint32_t room();
  uint8_t* slot(uint32_t i) {
    const uint64_t datagram = i;
    return transmitSlot(next_ + datagram / perSlot_) + dataOffset_ + kHeaderBytes + datagram % perSlot_ * length_;
  }
  void send(uint32_t count);
  void poll(Sink& sink) { bulk_ ? pollBlocks(sink) : pollSlots(sink); }
  std::string facts() const { return ",\"train\":" + std::to_string(perSlot_); }

 private:
  static constexpr uint32_t kBatch = 64;  // slots to a call
  static constexpr uint32_t kRingBytes = 8 << 20;
  static constexpr uint32_t kBlockBytes = 1 << 20;

  void openTransmit(const Netdevice& device);
  void openReceive(const Netdevice& device);
  uint8_t* transmitSlot(uint64_t position) { return transmit_ + position % slots_ * slotBytes_; }
  void take(const uint8_t* frame, uint32_t length, const uint8_t* vnet, Sink& sink);
  void pollSlots(Sink& sink);
  void pollBlocks(Sink& sink);

  const Plan plan_;
  const uint32_t length_;
  const bool bulk_;
  const uint32_t perSlot_;
  const uint32_t vnetBytes_;
  UniqueFd reserved_;
  UniqueFd transmitFd_;
  UniqueFd receiveFd_;
  uint8_t* transmit_ = nullptr;
  uint8_t* receive_ = nullptr;
  uint32_t slotBytes_ = 0;
  uint32_t slots_ = 0;
  uint32_t dataOffset_ = 0;
  uint64_t next_ = 0;
  uint32_t receiveSlotBytes_ = 0;
  uint32_t receiveSlots_ = 0;
  uint64_t read_ = 0;
};

}  // namespace outrigger::bench
