// SPDX-License-Identifier: Apache-2.0
// KernelTables from given addresses, routes and neighbours: for a device that the kernel does not own (its configuration says what the kernel
// can't), and for simulations. Answers on the caller's thread, at once; what is set later reaches all watched cells before the setter returns.
#pragma once

#include <map>
#include <mutex>
#include <string>
#include <unordered_set>
#include <vector>

#include "net/local_addresses.h"

namespace outrigger::net {

struct FixedRoute {
  IpAddress network;
  uint8_t prefixLength = 0;
  IpAddress gateway;  // family AF_UNSPEC: on-link
  uint32_t mtu = 0;   // 0: the link's
  bool unreachable = false;
};

class FixedTables final : public KernelTables {
 public:
  explicit FixedTables(uint32_t interfaceIndex = 0, uint32_t mtu = 1500) : interfaceIndex_(interfaceIndex), mtu_(mtu) {}

  // "10.0.0.1/24", "fd00::1/64": an address of the device, and the on-link route of its prefix. Fails naming what is malformed.
  Result<void> addAddress(const std::string& addressAndPrefix);
  // "0.0.0.0/0" by gateway "10.0.0.254"; an empty gateway is on-link.
  Result<void> addRoute(const std::string& network, const std::string& gateway, uint32_t mtu = 0);
  Result<void> addUnreachable(const std::string& network);
  void setMtu(uint32_t mtu);
  // For simulations where somebody else resolves: the state of an address on the link.
  Result<void> setNeighbour(const std::string& address, const std::array<uint8_t, 6>& mac, NeighbourState state);

  RouteAnswer lookup(const RouteQuestion& question) override;
  void watch(RouteCell& cell) override;
  void forget(RouteCell& cell) override;
  void refresh(RouteCell& cell) override;
  uint64_t addressVersion() const override { return published_.version(); }
  bool copyAddresses(std::vector<LocalAddress>& out) const override { return published_.copy(out); }

 private:
  struct Neighbour {
    std::array<uint8_t, 6> mac{};
    NeighbourState state = NeighbourState::kMissing;
  };

  Result<void> add(const std::string& network, const std::string& gateway, uint32_t mtu, bool unreachable);
  RouteAnswer answer(const RouteQuestion& question) const;
  void answerAll();

  const uint32_t interfaceIndex_;
  mutable std::mutex mutex_;
  uint32_t mtu_;
  std::vector<LocalAddress> addresses_;
  LocalAddresses published_;
  std::vector<FixedRoute> routes_;
  std::map<std::string, Neighbour> neighbours_;
  std::unordered_set<RouteCell*> cells_;
};

}  // namespace outrigger::net
