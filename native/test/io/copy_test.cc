// SPDX-License-Identifier: Apache-2.0
// Socket backends copy no payload in user space: what is to be sent goes to the kernel from where it lies (a term), and what has arrived is handed over
// where the kernel put it. Shown by looking at the calls of this test program on their way to the kernel, and at what a ring holds when it is given to it.
#include <dlfcn.h>
#include <linux/io_uring.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdarg>
#include <filesystem>
#include <map>

#include "conformance_world.h"

namespace {

// Memory that calls named while they were looked at.
struct Look {
  bool wanted = false;  // a test of this file runs: rings that are made belong to it
  bool on = false;
  std::vector<iovec> sent;
  std::vector<iovec> received;
};
thread_local Look look;

void note(std::vector<iovec>& to, const msghdr& message) {
  if (look.on) to.insert(to.end(), message.msg_iov, message.msg_iov + message.msg_iovlen);
}

// A ring of this program (io_uring_setup(2)), mapped once more: its submissions, and the buffers that the kernel picks from.
struct Ring {
  explicit Ring(int fd, const io_uring_params& given) : params(given) {
    indexesLength = params.sq_off.array + params.sq_entries * sizeof(uint32_t);
    indexes = static_cast<const uint8_t*>(::mmap(nullptr, indexesLength, PROT_READ, MAP_SHARED, fd, IORING_OFF_SQ_RING));
    submissions = static_cast<const io_uring_sqe*>(
        ::mmap(nullptr, params.sq_entries * sizeof(io_uring_sqe), PROT_READ, MAP_SHARED, fd, IORING_OFF_SQES));
  }
  ~Ring() {
    ::munmap(const_cast<uint8_t*>(indexes), indexesLength);
    ::munmap(const_cast<io_uring_sqe*>(submissions), params.sq_entries * sizeof(io_uring_sqe));
  }
  Ring(const Ring&) = delete;

  io_uring_params params;
  size_t indexesLength = 0;
  const uint8_t* indexes = nullptr;
  const io_uring_sqe* submissions = nullptr;
  const io_uring_buf* buffers = nullptr;
  uint32_t bufferCount = 0;
};
std::map<int, std::unique_ptr<Ring>> rings;  // by file descriptor, of this test
uint32_t ringSends = 0;                      // messages that a ring was given while they were looked at

// What the next `count` submissions send.
void noteSubmissions(const Ring& ring, uint32_t count) {
  const uint32_t tail = *reinterpret_cast<const uint32_t*>(ring.indexes + ring.params.sq_off.tail);
  for (uint32_t i = tail - count; i != tail; ++i) {
    const io_uring_sqe& entry = ring.submissions[i & (ring.params.sq_entries - 1)];
    if (entry.opcode == IORING_OP_SEND) {
      if (look.on) look.sent.push_back({reinterpret_cast<void*>(entry.addr), entry.len});
    } else if (entry.opcode == IORING_OP_SENDMSG || entry.opcode == IORING_OP_SENDMSG_ZC) {
      note(look.sent, *reinterpret_cast<const msghdr*>(entry.addr));
    } else {
      continue;
    }
    ++ringSends;
  }
}

// Whether a ring's kernel may have written there: the buffers that it was given to pick from.
bool isOfARing(const uint8_t* data, size_t length) {
  for (const auto& [fd, ring] : rings) {
    std::error_code closed;
    if (std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(fd), closed) != "anon_inode:[io_uring]") continue;  // of a probe
    for (uint32_t i = 0; i < ring->bufferCount; ++i) {
      const auto* buffer = reinterpret_cast<const uint8_t*>(ring->buffers[i].addr);
      if (data >= buffer && data + length <= buffer + ring->buffers[i].len) return true;
    }
  }
  return false;
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
// How rings are made, told of their buffers, and run: no function of libc's does it.
long syscall(long number, ...) {
  va_list list;
  va_start(list, number);
  std::array<long, 6> a;
  for (long& each : a) each = va_arg(list, long);
  va_end(list);
  static const auto real = reinterpret_cast<long (*)(long, ...)>(::dlsym(RTLD_NEXT, "syscall"));
  if (number == __NR_io_uring_enter && look.on && rings.contains(static_cast<int>(a[0]))) {
    noteSubmissions(*rings[static_cast<int>(a[0])], static_cast<uint32_t>(a[1]));
  }
  const long result = real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
  if (number == __NR_io_uring_setup && look.wanted && result >= 0) {
    const auto fd = static_cast<int>(result);
    rings[fd] = std::make_unique<Ring>(fd, *reinterpret_cast<const io_uring_params*>(a[1]));
  }
  if (number == __NR_io_uring_register && result >= 0 && a[1] == IORING_REGISTER_PBUF_RING && rings.contains(static_cast<int>(a[0]))) {
    const auto& registration = *reinterpret_cast<const io_uring_buf_reg*>(a[2]);
    Ring& ring = *rings[static_cast<int>(a[0])];
    ring.buffers = reinterpret_cast<const io_uring_buf*>(registration.ring_addr);
    ring.bufferCount = registration.ring_entries;
  }
  return result;
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
    look.wanted = true;
    auto made = makeBackend(GetParam(), BackendOptions{});
    if (!made.ok()) GTEST_SKIP() << made.error().message;
    io_ = made.take();
    to_ = openAt(*io_, address("127.0.0.1"), 1 << 20);
    next_ = hop(*io_, *to_, to_->localAddress());
  }
  void TearDown() override {
    look = Look{};
    rings.clear();
    ringSends = 0;
  }

  std::unique_ptr<DatagramIo> io_;
  std::unique_ptr<Endpoint> to_;
  std::unique_ptr<NextHop> next_;
};

TEST_P(Copies, areNoneOnTheWayOut) {
  const Bytes term = pattern(40 * 500 + 20, 1);
  for (const uint32_t segment : {0U, 500U}) {
    // Several, each of bytes of its own: for one alone a ring saves nothing, and it goes by a call.
    const uint32_t length = segment == 0 ? 500 : 4 * 500;
    std::array<TxItem, 4> items;
    for (uint32_t i = 0; i < items.size(); ++i) {
      items[i] = item(*next_, term, segment);
      items[i].data = term.data() + i * length;
      items[i].length = length;
    }
    look = Look{true, true, {}, {}};
    ASSERT_EQ(io_->transmit(*to_, items), items.size());
    look.on = false;
    size_t bytes = 0;
    for (const iovec& memory : look.sent) {
      EXPECT_TRUE(within(static_cast<const uint8_t*>(memory.iov_base), memory.iov_len, {const_cast<uint8_t*>(term.data()), term.size()}))
          << "the kernel was given memory that is not the sender's";
      bytes += memory.iov_len;
    }
    EXPECT_EQ(bytes, items.size() * length) << "each byte once";
    const size_t byRing = GetParam() == "uring" ? items.size() : 0;
    EXPECT_EQ(std::exchange(ringSends, 0U), byRing) << "they did not go the way that is looked at";
  }
}

TEST_P(Copies, areNoneOnTheWayIn) {
  const Bytes datagram = pattern(700, 2);
  TxItem one = item(*next_, datagram, 0);
  ASSERT_EQ(io_->transmit(*to_, {&one, 1}), 1U);
  pollfd handle{io_->waitHandle(), POLLIN, 0};
  if (io_->arm()) {
    ASSERT_GT(::poll(&handle, 1, kPatienceMs), 0);
  }
  RxBurst burst;
  look = Look{true, true, {}, {}};
  ASSERT_EQ(io_->poll(burst, 0), 1U);
  look.on = false;
  const RxPacket& packet = burst.packets[0];
  ASSERT_EQ(packet.length, datagram.size());
  const bool named = std::any_of(look.received.begin(), look.received.end(),
                                 [&](const iovec& memory) { return within(packet.data, packet.length, memory); });
  EXPECT_EQ(named, GetParam() != "uring");
  EXPECT_TRUE(named || isOfARing(packet.data, packet.length)) << "the view is not of memory that the kernel wrote";
}

INSTANTIATE_TEST_SUITE_P(Backends, Copies, ::testing::Values("socket", "mmsg", "uring"), [](const auto& one) { return one.param; });

}  // namespace
}  // namespace outrigger::io::testing
