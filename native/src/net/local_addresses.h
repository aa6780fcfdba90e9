// SPDX-License-Identifier: Apache-2.0
// The local addresses as KernelTables publish them: whole lists only, and never behind the lock under which tables are read from the kernel. An
// owner thread that finds it can't copy the list drops what comes to a wildcard port, so only the copying of a change may keep it from that.
#pragma once

#include <algorithm>
#include <array>
#include <memory>
#include <span>
#include <vector>

#include "base/seqlock.h"
#include "net/kernel_tables.h"

namespace outrigger::net {

class LocalAddresses {
 public:
  // Writers exclude each other. What is beyond kMaxLocalAddresses is left out.
  void publish(std::span<const LocalAddress> addresses) {
    List list;
    list.count = static_cast<uint32_t>(std::min(addresses.size(), list.addresses.size()));
    std::copy_n(addresses.begin(), list.count, list.addresses.begin());
    list_->store(list);
  }
  // Any thread. Never 0, which stands for a list that was never read.
  uint64_t version() const { return list_->version() + 1; }
  bool copy(std::vector<LocalAddress>& out) const {
    List list;
    uint64_t version = 0;
    if (!list_->tryLoad(list, version)) return false;
    const size_t count = std::min<size_t>(out.capacity(), list.count);
    out.assign(list.addresses.begin(), list.addresses.begin() + static_cast<ptrdiff_t>(count));
    return true;
  }

 private:
  struct List {
    uint32_t count = 0;
    std::array<LocalAddress, KernelTables::kMaxLocalAddresses> addresses{};
  };
  std::unique_ptr<Seqlock<List>> list_ = std::make_unique<Seqlock<List>>();
};

}  // namespace outrigger::net
