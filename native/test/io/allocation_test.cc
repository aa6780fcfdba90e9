// SPDX-License-Identifier: Apache-2.0
// The data path allocates nothing once endpoints are attached. Counts every operator new of this test program.
#include "conformance_world.h"
#include "counted_allocation.h"
#include "veth_world.h"

namespace outrigger::io::testing {
namespace {

struct Case {
  std::string name;
  std::string backend;
  std::string impair;
  std::string xdpMode = "auto";
};
std::ostream& operator<<(std::ostream& out, const Case& one) { return out << one.name; }

class DataPath : public ::testing::TestWithParam<Case> {};

TEST_P(DataPath, allocatesNothing) {
  BackendOptions options;
  options.impair = GetParam().impair;
  auto io = makeBackend(GetParam().backend, options).take();
  std::vector<std::unique_ptr<Endpoint>> endpoints;
  std::vector<std::unique_ptr<NextHop>> hops;
  for (int i = 0; i < 6; ++i) endpoints.push_back(openAt(*io, address("127.0.0.1"), 1 << 20));
  for (const auto& endpoint : endpoints) hops.push_back(hop(*io, *endpoints[0], endpoint->localAddress()));
  const Bytes train = pattern(40 * 500 + 20, 1);  // long enough for `uring` to send it without a copy
  std::array<TxItem, 12> items;
  RxBurst burst;
  uint32_t received = 0;

  const int64_t before = outrigger::testing::allocations.load();
  for (int round = 0; round < 50; ++round) {
    for (size_t i = 0; i < items.size(); ++i) items[i] = item(*hops[i % hops.size()], train, i % 2 == 0 ? 500 : 0);
    for (TxItem& one : items) one.lent = true;
    for (size_t done = 0; done < items.size();) done += io->transmit(*endpoints[0], std::span<TxItem>(items).subspan(done));
    TxSlot slot;
    if (io->reserve(*endpoints[0], hops[1]->address(), 36, slot) == TxStatus::kPending) {
      std::memset(slot.data, 0, 36);
      io->commit(*endpoints[0], hops[1]->address(), slot, 36);
    }
    io->arm();
    while (const uint32_t count = io->poll(burst, 0)) received += count;
  }
  EXPECT_EQ(outrigger::testing::allocations.load() - before, 0);
  EXPECT_GT(received, 1000U);
}

INSTANTIATE_TEST_SUITE_P(Backends, DataPath,
                         ::testing::Values(Case{"socket", "socket", ""}, Case{"mmsg", "mmsg", ""}, Case{"uring", "uring", ""},
                                           Case{"impair", "mmsg", "loss=0.1,dup=0.1,corrupt=0.1,reorder=0.1"}),
                         [](const auto& one) { return one.param.name; });

// The same for a backend with an interface of its own: what it sends arrives at the other host. Of `dpdk` the module's code counts too, whose
// operator new is this program's; DPDK's own buffers come from its pools.
class RawDataPath : public ::testing::TestWithParam<Case> {};

TEST_P(RawDataPath, allocatesNothing) {
  BackendOptions options;
  options.hugepages = false;  // another test's may be taken
  options.xdpMode = GetParam().xdpMode;
  VethWorld world(GetParam().backend, options);
  if (!world.refusal().empty()) GTEST_SKIP() << world.refusal();
  const auto sender = world.makeIo(Side::kSender);
  const auto receiver = world.makeIo(Side::kReceiver);
  ASSERT_TRUE(sender && receiver);
  const auto to = openAt(*receiver, address(world.host(Side::kReceiver, false)), 1 << 20);
  const auto from = openAt(*sender, address(world.host(Side::kSender, false)));
  ASSERT_TRUE(to && from);
  const auto next = hop(*sender, *from, to->localAddress());
  const Bytes train = pattern(30 * 500 + 20, 1);
  std::array<TxItem, 8> items;
  RxBurst burst;
  uint32_t received = 0;

  const int64_t before = outrigger::testing::allocations.load();
  for (int round = 0; round < 50; ++round) {
    for (size_t i = 0; i < items.size(); ++i) items[i] = item(*next, train, 500);
    for (size_t done = 0; done < items.size();) done += sender->transmit(*from, std::span<TxItem>(items).subspan(done));
    TxSlot slot;
    if (sender->reserve(*from, next->address(), 36, slot) == TxStatus::kPending) {
      std::memset(slot.data, 0, 36);
      sender->commit(*from, next->address(), slot, 36);
    }
    receiver->arm();
    while (const uint32_t count = receiver->poll(burst, world.nowNs())) received += count;
    sender->poll(burst, world.nowNs());
  }
  EXPECT_EQ(outrigger::testing::allocations.load() - before, 0);
  EXPECT_GT(received, 1000U);
  receiver->detach(*to);
  sender->detach(*from);
}

INSTANTIATE_TEST_SUITE_P(Backends, RawDataPath,
                         ::testing::Values(Case{"packet", "packet", ""}, Case{"xdpNative", "xdp", "", "native"},
                                           Case{"xdpGeneric", "xdp", "", "generic"}, Case{"dpdk", "dpdk", ""}),
                         [](const auto& one) { return one.param.name; });

}  // namespace
}  // namespace outrigger::io::testing
