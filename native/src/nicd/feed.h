// SPDX-License-Identifier: Apache-2.0
// What clients are told of the NIC's namespace: links, local addresses, and for each destination that a client watches the route and the
// neighbour. The kernel's tables are read once for all of them (net::NetlinkTables); here is who was told what.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "io/frame/netdev.h"
#include "io/nicd_client/protocol.h"
#include "net/netlink_tables.h"

namespace outrigger::nicd {

// Of one session. One thread, besides the tables' own, which writes the cells' answers.
class SessionFeed {
 public:
  SessionFeed(std::shared_ptr<net::NetlinkTables> tables, io::Netdev netdev) : tables_(std::move(tables)), netdev_(std::move(netdev)) {}
  ~SessionFeed();

  void watch(const Watch& request);
  void unwatch(uint32_t cell);
  size_t watched() const { return cells_.size(); }

  // Adds what changed since the last call; everything at first, and after forgetTold.
  void collect(std::vector<FeedEntry>& entries);
  void forgetTold();

 private:
  struct Watched {
    net::RouteCell cell;
    uint64_t toldVersion = 0;
  };
  void collectLink(std::vector<FeedEntry>& entries);
  void collectAddresses(std::vector<FeedEntry>& entries);

  std::shared_ptr<net::NetlinkTables> tables_;
  io::Netdev netdev_;
  std::unique_ptr<io::LinkReader> link_;
  bool linkTold_ = false;
  uint64_t toldLinkGeneration_ = 0;
  uint64_t toldAddresses_ = 0;  // version; 0: none
  std::map<uint32_t, std::unique_ptr<Watched>> cells_;
};

}  // namespace outrigger::nicd
