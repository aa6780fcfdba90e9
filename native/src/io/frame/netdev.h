// SPDX-License-Identifier: Apache-2.0
// A network interface of the kernel as raw backends need it: which one to open, what it can do, how its link is. Nothing is opened for
// traffic here, and no privilege is needed.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>

#include "base/fd.h"
#include "base/result.h"
#include "io/frame/frame_io.h"

namespace outrigger::io {

struct Netdev {
  std::string name;
  uint32_t index = 0;
};

// The interface that a raw backend opens: `interface` when given; else the one that has `address` (numeric) when that is given; else
// that of the IPv4 or IPv6 default route; else the only one there is besides loopback. Fails naming what was looked for and what there is.
Result<Netdev> chooseNetdev(const std::string& interface, const std::string& address);

// A device feature by the name that ethtool prints ("tx-udp-segmentation"). False also when the device has never heard of it.
bool netdevFeature(const Netdev& netdev, const std::string& feature);

// Reads the link of one interface, and counts its changes. Follows a rename; an interface that left this network namespace is gone.
// Any thread.
class LinkReader {
 public:
  static Result<std::unique_ptr<LinkReader>> open(const Netdev& netdev);
  // Of another network namespace: through a socket that was made there, of any kind. Needs no right in it.
  static Result<std::unique_ptr<LinkReader>> through(int socket, const Netdev& netdev);

  LinkState read();
  // As it is now, without counting a change: `generation` is 0.
  LinkState peek() const { return query(); }
  // As netdevFeature.
  bool feature(const std::string& feature) const;

 private:
  LinkReader(const Netdev& netdev, UniqueFd control) : netdev_(netdev), control_(std::move(control)) {}
  LinkState query() const;

  Netdev netdev_;
  UniqueFd control_;  // of the namespace in which it was opened, whichever the caller is in
  std::mutex mutex_;
  LinkState last_;
};

}  // namespace outrigger::io
