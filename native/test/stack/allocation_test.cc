// SPDX-License-Identifier: Apache-2.0
// The stack's data path allocates nothing once endpoints are attached: over AF_PACKET, which allocates nothing either. Counts every operator new
// of this test program.
#include "counted_allocation.h"
#include "veth_world.h"

namespace outrigger::io::testing {
namespace {

class StackDataPath : public StackOverVeth {};

TEST_F(StackDataPath, allocatesNothing) {
  auto endpoint = open(kNear);
  auto local = open(kNear);
  FarSocket peer(*far_, at(kFar));
  auto next = hop(*endpoint, peer.address);
  auto toLocal = hop(*endpoint, local->localAddress());
  connect(*endpoint, peer.address);
  const Bytes train = pattern(30 * 500 + 20, 1);
  const Bytes datagram = pattern(300, 2);
  std::array<TxItem, 3> items;
  RxBurst burst;
  uint32_t received = 0;
  int64_t allocated = 0;
  for (int round = 0; round < 50; ++round) {
    for (int i = 0; i < 10; ++i) peer.send(endpoint->localAddress(), datagram);
    const int64_t before = outrigger::testing::allocations.load();
    items[0] = {next.get(), train.data(), static_cast<uint32_t>(train.size()), 500, false, TxStatus::kPending, 0};
    items[1] = {next.get(), datagram.data(), static_cast<uint32_t>(datagram.size()), 0, false, TxStatus::kPending, 0};
    items[2] = {toLocal.get(), datagram.data(), static_cast<uint32_t>(datagram.size()), 0, false, TxStatus::kPending, 0};
    io_->transmit(*endpoint, items);
    TxSlot slot;
    if (io_->reserve(*endpoint, peer.address, 36, slot) == TxStatus::kPending) {
      std::memset(slot.data, 0, 36);
      io_->commit(*endpoint, peer.address, slot, 36);
    }
    io_->arm();
    while (const uint32_t count = io_->poll(burst, monotonicNs())) received += count;
    // The tables' own thread may take a notification at any time: only what this thread did counts, and it did nothing that allocates.
    allocated += outrigger::testing::allocations.load() - before;
  }
  EXPECT_EQ(allocated, 0);
  EXPECT_GT(received, 300U);
}

}  // namespace
}  // namespace outrigger::io::testing
