// SPDX-License-Identifier: Apache-2.0
// The socket alone: who may set it up, who may use it, and what is said when it can't be had.
#include "io/xdp/xsk.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <sys/resource.h>

#include <array>

#include "capabilities.h"
#include "io/xdp/umem_memory.h"
#include "veth_world.h"

namespace outrigger::io::xdp {
namespace {

using io::testing::keepCapabilities;
using io::testing::VethWorld;
using ::testing::HasSubstr;

constexpr RingSizes kRingSizes{64, 64, 64, 64};
constexpr uint64_t kUmemBytes = 1u << 20;
constexpr uint16_t kLocalExperiment = 0x88B5;  // IEEE 802, local experimental ethertype

UniqueFd rawListener(const char* interface) {
  UniqueFd fd(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(kLocalExperiment)));
  sockaddr_ll address{};
  address.sll_family = AF_PACKET;
  address.sll_protocol = htons(kLocalExperiment);
  address.sll_ifindex = static_cast<int>(::if_nametoindex(interface));
  EXPECT_EQ(::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0) << std::strerror(errno);
  return fd;
}

UniqueFd boundSocket(const UmemMemory& memory, uint32_t queue = 0) {
  auto socket = openXsk();
  EXPECT_TRUE(socket) << socket.error().message;
  auto registered = registerUmem(socket->get(), memory.data(), memory.lengthBytes(), UmemLayout{});
  EXPECT_TRUE(registered) << registered.error().message;
  auto rings = setRings(socket->get(), kRingSizes);
  EXPECT_TRUE(rings) << rings.error().message;
  XskBinding binding;
  binding.interfaceIndex = ::if_nametoindex("va");
  binding.queue = queue;
  auto bound = bindXsk(socket->get(), binding);
  EXPECT_TRUE(bound) << bound.error().message;
  return socket.take();
}

class XskTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!VethWorld::possible()) GTEST_SKIP() << "needs root for network namespaces";
  }
};

TEST_F(XskTest, AProcessWithoutAnyCapabilitySendsThroughASocketThatAnotherSetUp) {
  VethWorld::run([](VethWorld& world) {
    std::string reason;
    auto own = UmemMemory::allocate(kUmemBytes, false, reason);
    ASSERT_TRUE(own) << own.error().message;
    // As outrigger-nicd does: its own mapping of the memory is registered, and gone before anything is sent.
    UniqueFd socket;
    {
      auto adopted = UmemMemory::adopt(UniqueFd(::dup(own->fd())), kUmemBytes);
      ASSERT_TRUE(adopted) << adopted.error().message;
      socket = boundSocket(*adopted);
    }
    UniqueFd listener;
    world.inFar([&] { listener = rawListener("vb"); });
    keepCapabilities({});
    ASSERT_FALSE(openXsk()) << "this process should have no capability left";

    auto rings = XskRings::map(socket.get(), kRingSizes);
    ASSERT_TRUE(rings) << rings.error().message;
    uint8_t* frame = own->data() + 2048;
    std::memset(frame, 0xFF, 12);
    frame[12] = kLocalExperiment >> 8;
    frame[13] = kLocalExperiment & 0xFF;
    std::memcpy(frame + 14, "passed on", 9);
    ASSERT_GE(rings->transmit.room(1), 1U);
    rings->transmit.push({2048, 60, 0});
    rings->transmit.publish();
    ASSERT_EQ(::sendto(socket.get(), nullptr, 0, MSG_DONTWAIT, nullptr, 0), 0) << std::strerror(errno);
    pollfd handle{listener.get(), POLLIN, 0};
    ASSERT_EQ(::poll(&handle, 1, 5'000), 1);
    std::array<char, 128> received{};
    ASSERT_EQ(::recv(listener.get(), received.data(), received.size(), 0), 60);
    EXPECT_STREQ(received.data() + 14, "passed on");
    ASSERT_EQ(rings->completion.available(), 1U);
    EXPECT_EQ(rings->completion.peek(0), 2048U);
  });
}

TEST_F(XskTest, AQueueThatAnotherSocketHasIsRefusedByNameAndFreeAgainOnceItIsClosed) {
  VethWorld::run([](VethWorld&) {
    std::string reason;
    auto memory = UmemMemory::allocate(kUmemBytes, false, reason);
    ASSERT_TRUE(memory);
    XskBinding binding;
    binding.interfaceIndex = ::if_nametoindex("va");
    binding.busyWaitMs = 0;
    auto second = openXsk();
    ASSERT_TRUE(second);
    ASSERT_TRUE(registerUmem(second->get(), memory->data(), memory->lengthBytes(), UmemLayout{}));
    ASSERT_TRUE(setRings(second->get(), kRingSizes));
    {
      UniqueFd first = boundSocket(*memory);
      auto rings = XskRings::map(first.get(), kRingSizes);
      ASSERT_TRUE(rings);
      first.reset();  // the mapping alone holds the queue
      auto refused = bindXsk(second->get(), binding);
      ASSERT_FALSE(refused);
      EXPECT_EQ(refused.error().sysErrno, EBUSY);
      EXPECT_THAT(refused.error().message, HasSubstr("interface va queue 0, another AF_XDP socket has this queue"));
    }
    binding.busyWaitMs = 10'000;
    auto bound = bindXsk(second->get(), binding);
    EXPECT_TRUE(bound) << bound.error().message;
  });
}

TEST_F(XskTest, ZeroCopyOnAVethIsRefusedAndTheSameSocketThenBindsWithCopies) {
  VethWorld::run([](VethWorld&) {
    std::string reason;
    auto memory = UmemMemory::allocate(kUmemBytes, false, reason);
    auto socket = openXsk();
    ASSERT_TRUE(registerUmem(socket->get(), memory->data(), memory->lengthBytes(), UmemLayout{}));
    ASSERT_TRUE(setRings(socket->get(), kRingSizes));
    XskBinding binding;
    binding.interfaceIndex = ::if_nametoindex("va");
    binding.mode = XskMode::kZeroCopy;
    auto refused = bindXsk(socket->get(), binding);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().sysErrno, EOPNOTSUPP);
    binding.mode = XskMode::kCopy;
    auto bound = bindXsk(socket->get(), binding);
    ASSERT_TRUE(bound) << bound.error().message;
    auto zeroCopy = isZeroCopy(socket->get());
    ASSERT_TRUE(zeroCopy);
    EXPECT_FALSE(*zeroCopy);
  });
}

TEST_F(XskTest, QueuesOfOneInterfaceShareOneUmem) {
  VethWorld::run({.mtu = 1500, .queues = 2}, [](VethWorld&) {
    std::string reason;
    auto memory = UmemMemory::allocate(kUmemBytes, false, reason);
    UniqueFd first = boundSocket(*memory);
    auto second = openXsk();
    ASSERT_TRUE(setRings(second->get(), kRingSizes));
    XskBinding binding;
    binding.interfaceIndex = ::if_nametoindex("va");
    binding.queue = 1;
    binding.sharedUmemSocket = first.get();
    auto bound = bindXsk(second->get(), binding);
    ASSERT_TRUE(bound) << bound.error().message;
    auto rings = XskRings::map(second->get(), kRingSizes);
    EXPECT_TRUE(rings) << rings.error().message;

    auto third = openXsk();
    ASSERT_TRUE(setRings(third->get(), kRingSizes));
    binding.queue = 2;
    auto refused = bindXsk(third->get(), binding);
    ASSERT_FALSE(refused);
    EXPECT_THAT(refused.error().message, HasSubstr("no such queue"));
  });
}

TEST_F(XskTest, MoreMemoryThanMayBeLockedIsRefusedWithTheLimitAndTheFix) {
  VethWorld::run([](VethWorld&) {
    std::string reason;
    auto memory = UmemMemory::allocate(kUmemBytes, false, reason);
    auto socket = openXsk();
    const rlimit limit{65536, 65536};
    ASSERT_EQ(::setrlimit(RLIMIT_MEMLOCK, &limit), 0);
    keepCapabilities({});
    auto refused = registerUmem(socket->get(), memory->data(), memory->lengthBytes(), UmemLayout{});
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().sysErrno, ENOBUFS);
    EXPECT_THAT(refused.error().message, HasSubstr("RLIMIT_MEMLOCK, 65536 bytes"));
    EXPECT_THAT(refused.error().message, HasSubstr("CAP_IPC_LOCK"));

    auto none = openXsk();
    ASSERT_FALSE(none);
    EXPECT_EQ(none.error().sysErrno, EPERM);
    EXPECT_THAT(none.error().message, HasSubstr("CAP_NET_RAW"));
  });
}

TEST(UmemMemory, MemoryThatItsOwnerCouldShrinkIsNotAdopted) {
  UniqueFd open(::memfd_create("unsealed", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  ASSERT_EQ(::ftruncate(open.get(), 8192), 0);
  auto refused = UmemMemory::adopt(std::move(open), kUmemBytes);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("not sealed"));

  std::string reason;
  auto large = UmemMemory::allocate(2 * kUmemBytes, false, reason);
  ASSERT_TRUE(large);
  EXPECT_NE(::ftruncate(large->fd(), 4096), 0) << "allocated memory is sealed";
  auto tooLarge = UmemMemory::adopt(UniqueFd(::dup(large->fd())), kUmemBytes);
  ASSERT_FALSE(tooLarge);
  EXPECT_THAT(tooLarge.error().message, HasSubstr("2097152 bytes: allowed are whole pages up to 1048576 bytes"));
}

TEST(UmemMemory, WithoutHugepagesOrdinaryOnesAreUsedAndTheReasonIsGiven) {
  std::string reason;
  auto memory = UmemMemory::allocate(kUmemBytes, true, reason);
  ASSERT_TRUE(memory) << memory.error().message;
  if (memory->hugepages()) {
    EXPECT_EQ(memory->lengthBytes() % (2u << 20), 0U);
  } else {
    EXPECT_THAT(reason, HasSubstr("2 MiB hugepages: "));
  }
  std::memset(memory->data(), 1, memory->lengthBytes());
}

}  // namespace
}  // namespace outrigger::io::xdp
