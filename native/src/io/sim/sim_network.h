// SPDX-License-Identifier: Apache-2.0
// SimNetwork: hosts, links and datagrams in flight under a virtual clock; one seed replays one run exactly. Real sockets,
// threads and clocks have no part in it: everything runs on the caller's thread, time comes in through poll or setNow.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <queue>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/random.h"
#include "base/result.h"
#include "io/datagram_io.h"

namespace outrigger::io {

class SimEndpoint;

// One direction between two hosts. Chances are per datagram, 0 to 1.
struct SimLink {
  double loss = 0;
  double duplicate = 0;
  double corrupt = 0;  // one to three bits flipped, delivered
  double reorder = 0;  // delayed by another reorderDelayNs, so that later ones overtake
  int64_t reorderDelayNs = 50'000;
  int64_t delayNs = 10'000;
  int64_t jitterNs = 0;        // uniform, [0, jitterNs)
  int64_t bytesPerSecond = 0;  // 0 = infinitely fast; else sends queue in SO_SNDBUF and would-block when it is full
  bool partitioned = false;    // everything is lost
};

struct SimOptions {
  uint64_t seed = 1;
  SimLink link;                               // of every pair of hosts without one of its own
  SimLink loopback{.delayNs = 1'000};         // of a host to itself
  bool segmentationOffload = true;            // transmit takes trains
  bool coalescing = true;                     // poll may deliver trains
  uint32_t maxDatagramBytes = 65507;          // longer ones are kTooLong
  int32_t defaultSocketBufferBytes = 212992;  // net.core.[rw]mem_default of common kernels
};

// Datagrams, monotonic.
struct SimStats {
  int64_t sent = 0;
  int64_t delivered = 0;  // into a receive queue
  int64_t lost = 0;
  int64_t duplicated = 0;
  int64_t corrupted = 0;
  int64_t reordered = 0;
  int64_t queueDrops = 0;  // receive buffer full
  int64_t partitionDrops = 0;
  int64_t unroutable = 0;  // nobody has the address and port
};

class SimNetwork {
 public:
  explicit SimNetwork(const SimOptions& options);
  ~SimNetwork();
  SimNetwork(const SimNetwork&) = delete;
  SimNetwork& operator=(const SimNetwork&) = delete;

  // An instance on a host given by its addresses, "10.0.0.1" or "10.0.0.1,fd00::1"; the same text is the same host. Loopback
  // addresses belong to every host and stay on it. Fails naming a malformed address or one that another host has. The
  // network must outlive its instances, and an endpoint must be destroyed before the network.
  Result<std::unique_ptr<DatagramIo>> createIo(const std::string& host);

  // Sets one direction, or both, between two hosts named as in createIo.
  Result<void> setLink(const std::string& from, const std::string& to, const SimLink& link);
  Result<void> setLinkBoth(const std::string& a, const std::string& b, const SimLink& link);
  void setDefaultLink(const SimLink& link);

  // Moves the clock forward (never back) and delivers what is due. poll does the same.
  void setNow(int64_t nowNs);
  int64_t nowNs() const { return nowNs_; }
  // When the next datagram arrives, INT64_MAX when none is under way: how far a driver of the simulation may jump.
  int64_t nextEventNs() const;

  const SimStats& stats() const { return stats_; }
  // Digest of every delivery so far: time, addresses, bytes. Equal seeds and calls give equal digests.
  uint64_t traceDigest() const { return traceDigest_; }

 private:
  friend class SimIo;
  friend class SimEndpoint;

  struct Host {
    std::string name;
    std::vector<SockAddr> addresses;
    uint16_t nextEphemeralPort = 32768;
  };
  struct LinkState {
    SimLink config;
    Random random;
    bool isDefault = true;
  };
  struct Flight {
    int64_t arrivalNs = 0;
    uint64_t sequence = 0;  // ties arrive in the order sent
    uint32_t toHost = 0;
    SockAddr source;
    SockAddr destination;
    std::vector<uint8_t> bytes;
  };
  struct LaterFirst {
    bool operator()(const Flight* a, const Flight* b) const {
      return a->arrivalNs != b->arrivalNs ? a->arrivalNs > b->arrivalNs : a->sequence > b->sequence;
    }
  };

  Result<uint32_t> hostOf(const std::string& name);
  LinkState& link(uint32_t from, uint32_t to);
  Result<std::unique_ptr<Endpoint>> open(uint32_t host, const EndpointConfig& config);
  SimEndpoint* find(uint32_t host, const SockAddr& address) const;
  void close(SimEndpoint& endpoint);
  TxStatus send(SimEndpoint& from, const SockAddr& destination, const uint8_t* data, uint32_t length);
  void launch(LinkState& link, const SimEndpoint& from, uint32_t toHost, const SockAddr& destination, const uint8_t* data, uint32_t length,
              int64_t departureNs);
  void deliver(Flight& flight);
  void digest(const void* data, size_t length);

  SimOptions options_;
  int64_t nowNs_ = 0;
  uint64_t nextSequence_ = 0;
  SimStats stats_;
  uint64_t traceDigest_ = 0xCBF29CE484222325ULL;  // FNV-1a offset basis
  std::vector<Host> hosts_;
  std::map<std::pair<uint32_t, uint32_t>, LinkState> links_;
  std::vector<SimEndpoint*> endpoints_;
  std::vector<std::unique_ptr<Flight>> flightPool_;
  std::vector<Flight*> freeFlights_;
  std::priority_queue<Flight*, std::vector<Flight*>, LaterFirst> inFlight_;
};

}  // namespace outrigger::io
