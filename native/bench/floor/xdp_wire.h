// SPDX-License-Identifier: Apache-2.0
// The floor over AF_XDP: one socket on queue 0 in copy mode, behind a program of four instructions that redirects whatever arrives, attached natively
// or generically (by the plan's mode). A datagram longer than a chunk takes chunks that lie one behind the other.
#pragma once

#include <string>
#include <vector>

#include "base/fd.h"
#include "floor/frame.h"
#include "io/xdp/umem_memory.h"
#include "io/xdp/xsk.h"

namespace outrigger::bench {

class XdpWire {
 public:
  explicit XdpWire(const Plan& plan);

  uint32_t room();
  uint8_t* slot(uint32_t i) { return frameAt(next_ + i) + kHeaderBytes; }
  void send(uint32_t count);
  void poll(Sink& sink);
  std::string facts() const { return ",\"chunk\":" + std::to_string(chunkBytes_); }

 private:
  static constexpr uint32_t kBatch = 64;
  static constexpr uint64_t kUmemBytes = 16 << 20;
  static constexpr uint32_t kRing = 2048;

  void attachProgram(unsigned interfaceIndex);
  uint8_t* frameAt(uint64_t position) { return memory_.data() + transmitStart_ + position % frames_ * chunksPerFrame_ * chunkBytes_; }
  void giveBack();

  const Plan plan_;
  const uint32_t frameBytes_;
  uint32_t chunkBytes_ = 2048;
  uint32_t chunksPerFrame_ = 1;
  bool multiBuffer_ = false;
  UniqueFd reserved_;
  io::xdp::UmemMemory memory_;
  UniqueFd socket_;
  io::xdp::XskRings rings_;
  UniqueFd map_;
  UniqueFd program_;
  UniqueFd link_;
  uint64_t transmitStart_ = 0;
  uint64_t frames_ = 0;  // that the transmit half holds
  uint64_t next_ = 0;
  uint64_t chunksUnderWay_ = 0;
  std::vector<uint64_t> used_;  // receive chunks to give back
};

}  // namespace outrigger::bench
