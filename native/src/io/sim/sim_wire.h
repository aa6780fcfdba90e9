// SPDX-License-Identifier: Apache-2.0
// SimWire: Ethernet stations on one simulated segment, under a virtual clock; one seed replays one run exactly. FrameIo's `sim`: what NetStack is
// tested over, with the faults that a real wire won't show on demand. No kernel, thread or real clock has a part in it.
#pragma once

#include <functional>
#include <memory>
#include <queue>
#include <vector>

#include "base/random.h"
#include "io/frame/frame_io.h"

namespace outrigger::io {

struct SimWireOptions {
  uint64_t seed = 1;
  // Chances are per frame and receiver, 0 to 1.
  double loss = 0;
  double duplicate = 0;
  double corrupt = 0;  // a burst of up to 15 bits flipped behind the MAC addresses: what the Internet checksum always detects; delivered
  double reorder = 0;  // delayed by another reorderDelayNs, so that later ones overtake
  int64_t reorderDelayNs = 50'000;
  int64_t delayNs = 1'000;
  int64_t jitterNs = 0;
};

struct SimStationOptions {
  MacAddress mac{};
  uint32_t mtu = 1500;
  uint32_t interfaceIndex = 0;
  bool kernelOwnsDevice = false;
  bool singleOwner = true;
  bool promiscuous = false;          // delivers frames for other stations too
  uint32_t receiveRing = 1024;       // frames; more are dropped, counted
  uint32_t transmitRing = 1024;      // buffers between reserve and the end of the next flush
  uint32_t receiveBufferLength = 0;  // 0: a frame is one buffer; else longer frames are several
  uint32_t transmitBufferLength = 2048;
  uint32_t maxTransmitPieces = 1;
  bool transmitChecksum = false;
  bool transmitSegmentation = false;  // trains travel whole, as over veth
  bool receiveChecksum = false;       // frames arrive as verified
  bool emptyFillRingLoses = false;    // as AF_XDP with copies
  uint32_t queues = 1;                // as it says: its hash is the destination's port, and all of them are one ring
  bool arrivalTimes = false;          // frames tell when they arrived, by the virtual clock
  bool tellsOverflow = true;          // false: what the ring lost is in no figure, as of some of DPDK's devices
};

class SimStation;

class SimWire {
 public:
  explicit SimWire(const SimWireOptions& options) : options_(options), random_(options.seed) {}
  ~SimWire();
  SimWire(const SimWire&) = delete;
  SimWire& operator=(const SimWire&) = delete;

  // The wire must outlive its stations. `station` below is an index in the order of creation.
  std::unique_ptr<FrameIo> createStation(const SimStationOptions& options);

  void setOptions(const SimWireOptions& options) {
    if (options.seed != options_.seed) random_ = Random(options.seed);
    options_ = options;
  }
  // Moves the clock forward and delivers what is due.
  void setNow(int64_t nowNs);
  int64_t nowNs() const { return nowNs_; }
  // When the next frame arrives, INT64_MAX when none is under way.
  int64_t nextEventNs() const;

  // Puts a frame on the wire as if a station that nobody has had sent it; it is delivered to all.
  void inject(const std::vector<uint8_t>& bytes, uint16_t segmentLength = 0, RxChecksum checksum = RxChecksum::kUnknown);
  // The same into a station's ring at once, whatever its MAC address; with a tag that the device took out.
  void deliver(uint32_t station, const std::vector<uint8_t>& bytes, RxChecksum checksum = RxChecksum::kUnknown, bool vlanPresent = false,
               uint16_t vlanTci = 0);
  // Sees each frame that a station sends, before loss.
  void onFrame(std::function<void(uint32_t station, const std::vector<uint8_t>& bytes)> watcher) { watcher_ = std::move(watcher); }
  void setMtu(uint32_t station, uint32_t mtu);
  void setMac(uint32_t station, const MacAddress& mac);
  // Buffers that a station's stack has not given back, received or reserved.
  uint32_t outstanding(uint32_t station) const;

 private:
  friend class SimStation;
  struct Frame {
    std::vector<uint8_t> bytes;
    uint16_t segmentLength = 0;
    RxChecksum checksum = RxChecksum::kUnknown;
    bool vlanPresent = false;
    uint16_t vlanTci = 0;
  };
  struct Flight {
    int64_t arrivalNs = 0;
    uint64_t sequence = 0;
    uint32_t to = 0;
    Frame frame;
  };
  struct LaterFirst {
    bool operator()(const std::shared_ptr<Flight>& a, const std::shared_ptr<Flight>& b) const {
      return a->arrivalNs != b->arrivalNs ? a->arrivalNs > b->arrivalNs : a->sequence > b->sequence;
    }
  };

  void send(uint32_t from, const Frame& frame);
  void launch(uint32_t to, const Frame& frame);

  SimWireOptions options_;
  Random random_;
  int64_t nowNs_ = 0;
  uint64_t nextSequence_ = 0;
  std::vector<SimStation*> stations_;
  std::priority_queue<std::shared_ptr<Flight>, std::vector<std::shared_ptr<Flight>>, LaterFirst> inFlight_;
  std::function<void(uint32_t, const std::vector<uint8_t>&)> watcher_;
};

}  // namespace outrigger::io
