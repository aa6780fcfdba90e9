// SPDX-License-Identifier: Apache-2.0
// Socket backends copy no payload in user space: what is to be sent goes to the kernel from where it lies (a term), and what has arrived is handed over
// where the kernel put it. Shown by looking at the calls of this test program on their way to the kernel.
#include <sys/syscall.h>
#include <unistd.h>

#include "conformance_world.h"

namespace {

// Memory that calls named while they were looked at.
struct Look {
  bool on = false;
  std::vector<iovec> sent;
  std::vector<iovec> received;
};
thread_local Look look;

void note(std::vector<iovec>& to, const msghdr& message) {
  if (look.on) to.insert(to.end(), message.msg_iov, message.msg_iov + message.msg_iovlen);
}

}  // namespace

extern "C" {
ssize_t sendto(int fd, const void* data, size_t length, int flags, const sockaddr* to, socklen_t toLength) {
  if (look.on) look.sent.push_back({const_cast<void*>(data), length});
  return ::syscall(SYS_sendto, fd, data, length, flags, to, toLength);
}
ssize_t sendmsg(int fd, const msghdr* message, int flags) {
  note(look.sent, *message);
  return ::syscall(SYS_sendmsg, fd, message, flags);
}
int sendmmsg(int fd, mmsghdr* messages, unsigned count, int flags) {
  for (unsigned i = 0; i < count; ++i) note(look.sent, messages[i].msg_hdr);
  return static_cast<int>(::syscall(SYS_sendmmsg, fd, messages, count, flags));
}
ssize_t recvmsg(int fd, msghdr* message, int flags) {
  note(look.received, *message);
  return ::syscall(SYS_recvmsg, fd, message, flags);
}
int recvmmsg(int fd, mmsghdr* messages, unsigned count, int flags, timespec* timeout) {
  for (unsigned i = 0; i < count; ++i) note(look.received, messages[i].msg_hdr);
  return static_cast<int>(::syscall(SYS_recvmmsg, fd, messages, count, flags, timeout));
}
}

namespace outrigger::io::testing {
namespace {

bool within(const uint8_t* data, size_t length, const iovec& memory) {
  const auto* base = static_cast<const uint8_t*>(memory.iov_base);
  return data >= base && data + length <= base + memory.iov_len;
}

class Copies : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    auto made = makeBackend(GetParam(), BackendOptions{});
    if (!made.ok()) GTEST_SKIP() << made.error().message;
    io_ = made.take();
    to_ = openAt(*io_, address("127.0.0.1"), 1 << 20);
    next_ = hop(*io_, *to_, to_->localAddress());
  }
  void TearDown() override { look = Look{}; }

  std::unique_ptr<DatagramIo> io_;
  std::unique_ptr<Endpoint> to_;
  std::unique_ptr<NextHop> next_;
};

TEST_P(Copies, areNoneOnTheWayOut) {
  const Bytes term = pattern(40 * 500 + 20, 1);
  for (const uint32_t segment : {0U, 500U}) {
    const uint32_t length = segment == 0 ? 500 : static_cast<uint32_t>(term.size());
    TxItem one = item(*next_, term, segment);
    one.length = length;
    look = Look{true, {}, {}};
    ASSERT_EQ(io_->transmit(*to_, {&one, 1}), 1U);
    look.on = false;
    size_t bytes = 0;
    for (const iovec& memory : look.sent) {
      EXPECT_TRUE(within(static_cast<const uint8_t*>(memory.iov_base), memory.iov_len, {const_cast<uint8_t*>(term.data()), term.size()}))
          << "the kernel was given memory that is not the sender's";
      bytes += memory.iov_len;
    }
    EXPECT_EQ(bytes, length) << "each byte once";
  }
}

TEST_P(Copies, areNoneOnTheWayIn) {
  if (GetParam() == "uring") GTEST_SKIP() << "the kernel picks from a ring of buffers, no call names them";
  const Bytes datagram = pattern(700, 2);
  TxItem one = item(*next_, datagram, 0);
  ASSERT_EQ(io_->transmit(*to_, {&one, 1}), 1U);
  pollfd handle{io_->waitHandle(), POLLIN, 0};
  if (io_->arm()) {
    ASSERT_GT(::poll(&handle, 1, kPatienceMs), 0);
  }
  RxBurst burst;
  look = Look{true, {}, {}};
  ASSERT_EQ(io_->poll(burst, 0), 1U);
  look.on = false;
  const RxPacket& packet = burst.packets[0];
  ASSERT_EQ(packet.length, datagram.size());
  EXPECT_TRUE(std::any_of(look.received.begin(), look.received.end(), [&](const iovec& memory) {
    return within(packet.data, packet.length, memory);
  })) << "the view is not of memory that the kernel wrote";
}

INSTANTIATE_TEST_SUITE_P(Backends, Copies, ::testing::Values("socket", "mmsg", "uring"), [](const auto& one) { return one.param; });

}  // namespace
}  // namespace outrigger::io::testing
