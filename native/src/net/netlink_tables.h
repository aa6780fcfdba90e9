// SPDX-License-Identifier: Apache-2.0
// KernelTables over rtnetlink. Links, addresses and neighbours are mirrored (dumps, then notifications); routes are asked for, one
// RTM_GETROUTE a watched destination, so that policy rules, metrics, onlink gateways and learned path MTUs are as the kernel has them, and asked
// for again when a notification says that something changed, and once a second while they are used, since a learned path MTU comes and goes without
// one. A thread of its own does all of it; destinations that are watched but idle cost nothing between notifications.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <unordered_set>
#include <utility>

#include "net/local_addresses.h"
#include "net/netlink_socket.h"

namespace outrigger::net {

class NetlinkTables final : public KernelTables {
 public:
  // Tables of the network namespace that the calling thread is in. Fails naming the call that did.
  static Result<std::shared_ptr<NetlinkTables>> create();
  ~NetlinkTables() override;

  RouteAnswer lookup(const RouteQuestion& question) override;
  void watch(RouteCell& cell) override;
  void forget(RouteCell& cell) override;
  void refresh(RouteCell& cell) override;
  uint64_t addressVersion() const override { return published_.version(); }
  bool copyAddresses(std::vector<LocalAddress>& out) const override { return published_.copy(out); }

  // Readable (an eventfd; whoever reads it takes that away) after anything may have changed: links, addresses, an answer.
  int changeHandle() const { return changed_.get(); }

  // Times that all was read again since notifications were lost, notifications taken, and times that all in use was asked for again: for tests
  // and diagnosis.
  int64_t resyncs() const { return resyncs_.load(std::memory_order_relaxed); }
  int64_t notifications() const { return notifications_.load(std::memory_order_relaxed); }
  int64_t upkeeps() const { return upkeeps_.load(std::memory_order_relaxed); }

 private:
  struct NeighbourKey {
    uint32_t interfaceIndex;
    IpAddress address;
    bool operator<(const NeighbourKey& other) const {
      if (interfaceIndex != other.interfaceIndex) return interfaceIndex < other.interfaceIndex;
      if (address.family != other.address.family) return address.family < other.address.family;
      return address.bytes < other.address.bytes;
    }
  };
  struct Neighbour {
    std::array<uint8_t, 6> mac{};
    NeighbourState state = NeighbourState::kMissing;
  };

  NetlinkTables(NetlinkSocket events, NetlinkSocket queries, UniqueFd wake, UniqueFd changed)
      : events_(std::move(events)), queries_(std::move(queries)), wake_(std::move(wake)), changed_(std::move(changed)) {}

  // All with mutex_ held.
  Result<void> resync();
  void apply(const nlmsghdr* message);
  RouteAnswer ask(const RouteQuestion& question);
  void fillNeighbour(RouteAnswer& answer) const;
  void answer(RouteCell& cell);
  void neighbourChanged(const NeighbourKey& key);
  void answerAll();
  bool answerUsed();
  void keepUp(int64_t nowNs);

  void run();
  void answerQueued();

  NetlinkSocket events_;   // notifications: the thread's
  NetlinkSocket queries_;  // mutex_
  UniqueFd wake_;
  UniqueFd changed_;
  mutable std::mutex mutex_;
  std::map<uint32_t, NetlinkLink> links_;
  std::map<NeighbourKey, Neighbour> neighbours_;
  std::vector<LocalAddress> addresses_;
  LocalAddresses published_;  // addresses_ between two changes
  std::unordered_set<RouteCell*> cells_;
  int64_t upkeepDueNs_ = 0;  // 0: nothing is in use
  bool routesChanged_ = false;
  bool addressesChanged_ = false;
  std::atomic<RouteCell*> queue_{nullptr};  // a stack of cells that refresh() was asked for
  std::atomic<int64_t> resyncs_{0};
  std::atomic<int64_t> notifications_{0};
  std::atomic<int64_t> upkeeps_{0};
  std::atomic<bool> running_{true};
  std::thread thread_;
};

}  // namespace outrigger::net
