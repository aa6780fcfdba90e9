// SPDX-License-Identifier: Apache-2.0
// See the header.
#include "io/uring/zero_copy.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "io/uring/uring.h"

namespace outrigger::io {
namespace {

void count(std::atomic<int64_t>& counter) { counter.fetch_add(1, std::memory_order_relaxed); }

// For this message: no memory to lock, memory that can't be pinned, more pages than a frame holds (EMSGSIZE), or a rule that met this packet and not
// the next (netfilter's DROP on output is EPERM, and may be for one in ten). What is forbidden altogether was found by probeZeroCopy.
bool isPassing(int err) { return err == ENOBUFS || err == ENOMEM || err == EFAULT || err == EMSGSIZE || err == EPERM || err == EACCES; }

}  // namespace

uint64_t ZeroCopySends::add(const NextHop& to, const void* data, size_t length) {
  Pending& one = pending_[pendingCount_++];
  one = {};
  one.number = ++lastNumber_;
  one.data = static_cast<const uint8_t*>(data);
  one.length = length;
  one.route = routeOf(to);
  return one.number;
}

ZeroCopySends::Pending* ZeroCopySends::find(uint64_t number) {
  const auto end = pending_.begin() + pendingCount_;
  const auto found = std::find_if(pending_.begin(), end, [&](const Pending& one) { return one.number == number; });
  return found == end ? nullptr : &*found;
}

void ZeroCopySends::settle(Pending& one) {
  if (one.copied) count(copied_);
  // One that kept somebody waiting, and was dropped at last, does not speak for its path.
  if (!one.late) routes_[one.route].onNotification(one.copied);
  remove(one);
}

// A send that failed has let go of its memory: its notification, if any, finds nothing.
void ZeroCopySends::onEnd(uint64_t number, int32_t result, bool more) {
  Pending* one = find(number);
  if (one == nullptr) return;
  if (result >= 0) count(sent_);
  if (result < 0 || !more) {
    remove(*one);
  } else if (one->notified) {
    settle(*one);
  } else {
    one->ended = true;
  }
}

void ZeroCopySends::onNotification(uint64_t number, bool copied) {
  Pending* one = find(number);
  if (one == nullptr) return;
  one->notified = true;
  one->copied = copied;
  if (one->ended) settle(*one);
}

bool ZeroCopySends::isRefusal(int err) { return isPassing(err) || err == EINVAL || err == EOPNOTSUPP || err == ENOSYS; }

void ZeroCopySends::onRefused(const NextHop& to, int err) {
  count(refused_);
  if (!isPassing(err)) return forbid(err);
  routes_[routeOf(to)].pause();
}

bool ZeroCopySends::stillReads(const uint8_t* data, size_t length) {
  if (data == nullptr) return pendingCount_ > 0;
  const auto begin = reinterpret_cast<uintptr_t>(data);
  bool any = false;
  for (uint32_t i = 0; i < pendingCount_; ++i) {
    Pending& one = pending_[i];
    const auto at = reinterpret_cast<uintptr_t>(one.data);
    if (at >= begin + length || at + one.length <= begin) continue;
    any = true;
    if (one.late) continue;
    one.late = true;
    count(late_);
    routes_[one.route].pause();
  }
  return any;
}

std::string ZeroCopySends::describe() const {
  if (const int err = forbidden_.load(std::memory_order_relaxed); err != 0) return "off: " + explainZeroCopyRefusal(err);
  switch (mode_) {
    case ZeroCopyMode::kOff:
      return "off";
    case ZeroCopyMode::kOn:
      return "on, for all messages";
    case ZeroCopyMode::kAuto:
      break;
  }
  return "auto, messages from " + std::to_string(kMinLength / 1024) + " KiB on where the kernel does not copy them after all";
}

std::string explainZeroCopyRefusal(int err) {
  if (err == EINVAL) return "this kernel does not report whether it copied after all (EINVAL): that came with Linux 6.2";
  if (err == EOPNOTSUPP) return "this kernel's UDP sockets can't send without a copy (EOPNOTSUPP)";
  if (err == EPERM || err == EACCES) return "it is forbidden here (" + std::string(std::strerror(err)) + "): a security module may";
  return std::string("the kernel refuses it: ") + std::strerror(err);
}

#if OUTRIGGER_HAS_URING

// To a UNIX socket: no network is needed, which may not be up yet. That it can't be done there (EOPNOTSUPP) is said after all flags were understood.
int probeZeroCopy() {
  static char byte = 0;
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends) != 0) return errno;
  const UniqueFd from(ends[0]);
  const UniqueFd to(ends[1]);
  Uring uring;
  if (auto r = uring.open(1, 4); !r) return r.error().sysErrno;
  if (!uring.enable()) return EPERM;
  iovec vector{&byte, 1};
  msghdr message{};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  io_uring_sqe* entry = uring.next();
  entry->opcode = IORING_OP_SENDMSG_ZC;
  entry->fd = from.get();
  entry->addr = reinterpret_cast<uintptr_t>(&message);
  entry->len = 1;
  entry->msg_flags = MSG_DONTWAIT | MSG_NOSIGNAL;
  entry->ioprio = IORING_SEND_ZC_REPORT_USAGE;
  for (;;) {
    if (const int err = uring.enter(1); err != 0 && !uring.hasCompletion()) return err;
    for (; const io_uring_cqe* completion = uring.peek(); uring.advance()) {
      if ((completion->flags & IORING_CQE_F_NOTIF) != 0) continue;
      return completion->res >= 0 || completion->res == -EOPNOTSUPP ? 0 : -completion->res;
    }
  }
}

#else

int probeZeroCopy() { return ENOSYS; }

#endif

}  // namespace outrigger::io
