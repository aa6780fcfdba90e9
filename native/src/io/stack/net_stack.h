// SPDX-License-Identifier: Apache-2.0
// NetStack: a FrameIo as DatagramIo. UDP over IPv4 and IPv6 in Ethernet frames; everything else stays the kernel's, except where the kernel does
// not own the device. One instance has one device and one owning thread; the agents of that thread each have a face of it (stack_face.h).
//
// Received: a frame is taken apart where it lies, its payload handed out as a view, the buffer given back with the next poll. Each endpoint has
// its turn: what comes for the other face, or above an endpoint's share, waits in a bounded queue of the endpoint (held, then copied).
// Sent: headers are prebuilt a path, the payload copied and summed in one pass into the device's buffer. What the device can't send (another
// interface, a neighbour that is not known yet, a datagram longer than the path takes) goes through the kernel socket that reserves the port.
// Every frame that is not delivered and every datagram that takes another way is counted (stack_stats.h).
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include "base/rate_limit.h"
#include "io/capture/capture_tap.h"
#include "io/frame/frame_io.h"
#include "io/posix/receive_slots.h"
#include "io/stack/copy_pool.h"
#include "io/stack/frame_parser.h"
#include "io/stack/icmp_messages.h"
#include "io/stack/neighbour_table.h"
#include "io/stack/path.h"
#include "io/stack/path_mtus.h"
#include "io/stack/queue_spread.h"
#include "io/stack/stack_endpoint.h"
#include "io/stack/stack_stats.h"
#include "io/wake_watch.h"
#include "net/kernel_tables.h"

namespace outrigger::io {

struct StackOptions {
  uint32_t faces = 1;
  uint16_t vlan = 0;           // 802.1Q tag of all traffic, 0: none
  uint32_t receiveSlots = 16;  // of the reserved sockets: BackendOptions::receiveSlots
};

class NetStack : public std::enable_shared_from_this<NetStack> {
 public:
  static constexpr uint32_t kMaxTrainSegments = 64;  // UDP_MAX_SEGMENTS of kernels before 6.9

  static Result<std::shared_ptr<NetStack>> create(std::unique_ptr<FrameIo> device, std::shared_ptr<net::KernelTables> tables,
                                                  const StackOptions& options);
  ~NetStack();

  const Caps& caps() const { return caps_; }
  FrameIo& device() { return *device_; }
  net::KernelTables& tables() { return *tables_; }
  QueueSpread& queues() { return queues_; }
  const StackStats& stats() const { return stats_; }

  // --- control threads ---
  Result<std::unique_ptr<Endpoint>> openEndpoint(uint32_t face, const EndpointConfig& config);
  Result<std::unique_ptr<NextHop>> resolve(Endpoint& endpoint, const SockAddr& destination);
  // Looks at the device's link, and lets the owner know what changed.
  Health health();
  // Any thread.
  uint32_t longestDatagram(const net::RouteAnswer& answer) const;
  uint32_t longestReceivable(bool v6) const;
  std::vector<std::pair<std::string, std::string>> facts() const;
  const std::shared_ptr<CaptureTap>& captureTap() const { return tap_; }

  // --- owner thread: as in DatagramIo ---
  void attach(Endpoint& endpoint);
  void detach(Endpoint& endpoint);
  uint32_t poll(uint32_t face, RxBurst& burst, int64_t nowNs);
  void release(uint32_t face, RxBurst& burst);
  uint32_t transmit(Endpoint& endpoint, std::span<TxItem> items);
  TxStatus reserve(Endpoint& endpoint, const SockAddr& destination, uint32_t length, TxSlot& slot);
  TxStatus commit(Endpoint& endpoint, const SockAddr& destination, TxSlot& slot, uint32_t length);
  void abort(TxSlot& slot);
  IoTotals totals(uint32_t face) const;
  int waitHandle(uint32_t face) const { return device_->waitHandle() < 0 ? -1 : faces_[face].wakes.fd(); }
  bool arm(uint32_t face);

 private:
  friend class StackNextHop;
  static constexpr uint32_t kMaxBatch = 64;
  static constexpr uint32_t kControlPaths = 512;
  static constexpr uint32_t kControlSlots = 16;
  static constexpr uint32_t kControlSlotLength = 2048;  // the longest control frame is an error frame of 40 bytes and 1023 of text
  static constexpr uint32_t kPortBuckets = 1024;

  // What one agent sees: its endpoints, and the burst that it was given.
  struct Face {
    std::vector<StackEndpoint*> attached;
    size_t nextWaiting = 0;
    uint32_t waiting = 0;  // datagrams that wait, over all its endpoints
    struct Slot {
      SockAddr source;
      SockAddr destination;
      Held held;
    };
    std::array<Slot, RxBurst::kMaxPackets> slots;
    uint32_t used = 0;
    std::unique_ptr<ReceiveSlots> kernelSlots;
    uint32_t kernelSlotsUsed = 0;
    UniqueFd kernelEpoll;               // the reserved sockets
    WakeWatch wakes;                    // those, and the device
    uint32_t busyPollsSinceKernel = 0;  // polls since the last look at the reserved sockets: that found frames, that found none
    uint32_t idlePollsSinceKernel = 0;
    bool kernelReady = false;
    int64_t nextKernelLookNs = 0;  // while nothing else comes
    int64_t kernelQuietNs = 0;     // from when on the reserved sockets count as unused
    IoTotals detachedTotals;
  };

  struct ControlSlot {
    bool inUse = false;
    bool viaDevice = false;
    TxFrame frame;
    Path* path = nullptr;  // null: through the kernel
    std::array<uint8_t, kControlSlotLength> bytes;
  };

  // The link as the owner sees it: published by health().
  struct Link {
    MacAddress mac{};
    uint32_t mtu = 0;
    uint64_t generation = 0;
  };

  // Transmit buffers of one call, reserved and committed many at once.
  struct TxBank {
    std::array<TxFrame, kMaxBatch> frames;
    uint32_t reserved = 0;
    uint32_t used = 0;
    uint32_t wanted = 0;  // datagrams that are still to come in this call
  };

  NetStack(std::unique_ptr<FrameIo> device, std::shared_ptr<net::KernelTables> tables, const StackOptions& options);
  Result<void> open();

  // net_stack_receive.cc
  uint32_t readDevice(Face& face, uint32_t faceIndex, RxBurst& burst);
  bool readBatch(Face& face, uint32_t faceIndex, RxBurst& burst, uint32_t& datagrams);
  bool ringOverflows();
  void deliverLocally(const StackEndpoint& from, const Path& path, const uint8_t* data, uint32_t length, uint32_t segmentLength);
  void onFrame(Face& face, uint32_t faceIndex, RxBurst& burst, const Held& held, const RxFrame& frame, uint32_t& datagrams);
  void onDatagram(Face& face, uint32_t faceIndex, RxBurst& burst, const Held& held, const ParsedFrame& parsed, const RxFrame& frame,
                  uint32_t& datagrams);
  bool linearise(std::span<const RxFrame> pieces, int32_t& block, RxFrame& whole);
  StackEndpoint* findEndpoint(const net::IpAddress& destination, uint16_t port);
  bool isLocal(const net::IpAddress& address);
  void refreshAddresses();
  void wait(StackEndpoint& endpoint, const Waiting& entry);
  uint32_t serveWaiting(Face& face, RxBurst& burst);
  uint32_t appendPacket(Face& face, RxBurst& burst, StackEndpoint& endpoint, const Waiting& entry);
  uint32_t readKernel(Face& face, RxBurst& burst);
  bool isSecondCopy(const ReceiveSlots::Arrival& arrival, const SockAddr& source, uint32_t length);
  void drop(const Held& held);
  void giveBackDropped();

  // net_stack_control.cc
  void onOther(const ParsedFrame& parsed, const RxFrame& frame);
  void onNeighbourPacket(const ParsedFrame& parsed);
  void onIcmp(const ParsedFrame& parsed, const RxFrame& frame);
  template <typename Write>
  void sendControlFrame(uint32_t room, Write&& write);
  net::IpAddress ownAddressFor(const net::IpAddress& other) const;
  void askForNeighbours(int64_t nowNs);
  void announce();

  // net_stack_errors.cc
  void readErrors(StackEndpoint& endpoint);
  void onIcmpError(const IcmpError& error);
  void onError(StackEndpoint& endpoint, const net::IpAddress& destination, bool tooBig, uint32_t mtu);

  // net_stack_transmit.cc
  TxStatus sendItem(StackEndpoint& endpoint, TxItem& item);
  TxStatus sendByDevice(Path& path, TxItem& item);
  TxStatus refuseTooLong(StackEndpoint& endpoint, TxItem& item);
  TxStatus sendByKernel(StackEndpoint& endpoint, const SockAddr& destination, TxItem& item);
  TxStatus kernelSend(StackEndpoint& endpoint, const SockAddr& destination, const uint8_t* data, uint32_t length);
  bool reserveFrames(uint32_t pieces);
  void commitFrames();
  void endFrames();
  uint32_t piecesOf(uint32_t frameLength) const;
  void buildFrame(const Path& path, std::span<TxFrame> pieces, const uint8_t* data, uint32_t length, uint32_t segmentLength);
  bool mayAskKernel(Path& path, int64_t intervalNs) const;

  // net_stack_paths.cc
  net::RouteQuestion questionOf(const SockAddr& destination, const net::IpAddress& source) const;
  // The address that an endpoint sends from to its peer: its own, or the route's; unspecified without one.
  net::IpAddress sourceOf(const EndpointConfig& config);
  void ask(Path& path, const StackEndpoint& endpoint, const SockAddr& destination) const;
  void refreshPath(Path& path, const StackEndpoint& endpoint);
  void rebuildPath(Path& path, const StackEndpoint& endpoint, const net::RouteAnswer& answer);
  Path* controlPath(StackEndpoint& endpoint, const SockAddr& destination);
  void forgetControlPaths(const StackEndpoint& endpoint);
  // Of a next hop, before and after the tables watch it. Control threads.
  void enlist(Path& path);
  void delist(Path& path);
  // Has the tables look again; false where nothing is sent to it.
  bool refreshRoutesTo(const net::IpAddress& destination);

  void upkeep(int64_t nowNs);
  void countReservedDrops();
  bool hasAddress(const SockAddr& address) const;

  // To the device, and past whoever captures.
  void commit(std::span<const TxFrame> frames) {
    if (tap_->active()) tap_->transmitted(frames);
    device_->commit(frames);
  }

  std::unique_ptr<FrameIo> device_;
  std::shared_ptr<CaptureTap> tap_;
  std::shared_ptr<net::KernelTables> tables_;
  StackOptions options_;
  Caps caps_;
  StackStats stats_;
  FrameRules rules_;
  mutable std::mutex linkMutex_;  // control threads among themselves
  Seqlock<Link> publishedLink_;
  uint64_t linkVersion_ = 0;  // of publishedLink_ that link_ is
  Link link_;                 // owner's copy
  uint64_t version_ = 1;      // grows when all headers must be built again
  int64_t nowNs_ = 0;
  int64_t lastUpkeepNs_ = 0;
  QueueSpread queues_;
  std::vector<Face> faces_;
  CopyPool copies_;
  uint32_t heldFrames_ = 0;  // device buffers in waiting queues
  uint32_t attached_ = 0;    // endpoints, over all faces
  int64_t lastOverflowLookNs_ = 0;
  int64_t isolateUntilNs_ = 0;
  int64_t lastRingDrops_ = 0;
  uint64_t framesSinceEmpty_ = 0;  // read since the device last had less than was asked for
  std::array<StackEndpoint*, kPortBuckets> ports_{};
  std::vector<net::LocalAddress> addresses_;
  uint64_t addressVersion_ = 0;
  std::array<RxFrame, kMaxBatch> received_;
  std::array<RxFrame, 2 * kMaxBatch> returning_;  // buffers of frames that were dropped or copied, given back all at once
  uint32_t returningCount_ = 0;
  TxBank bank_;
  std::unique_ptr<Path[]> controlPaths_;
  // Next hops are made and go on control threads. The owner only tries the lock.
  struct Hop {
    net::IpAddress destination;
    net::RouteCell* cell;
  };
  std::mutex hopsMutex_;
  std::vector<Hop> hops_;
  PathMtus pathMtus_;
  // As many errors are looked at: a thousand a second, as many as a Linux host sends. What is above is forged, or says the same again.
  RateLimit errorLimit_{64, 1'000'000};
  // Where the kernel does not own the device.
  NeighbourTable neighbours_;
  bool neighbourWanted_ = false;
  int64_t lastNeighbourNs_ = 0;
  uint64_t announcedVersion_ = 0;
  uint64_t announcedLink_ = 0;
  RateLimit neighbourLimit_{128, 1'000'000};  // a thousand a second: a link of some hundred hosts that all start at once
  RateLimit echoLimit_{64, 1'000'000};        // as Linux's icmp_msgs_per_sec
  std::array<ControlSlot, kControlSlots> controlSlots_;
  bool controlInPlace_ = false;  // one control frame is being written in a buffer of the device
};

}  // namespace outrigger::io
