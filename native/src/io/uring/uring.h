// SPDX-License-Identifier: Apache-2.0
// One io_uring as the backend needs it: made disabled by whichever thread opens the backend, enabled by the one that owns it, and run
// only within its calls (SINGLE_ISSUER, DEFER_TASKRUN: io_uring_setup(2)). By the kernel's own header, without liburing.
#pragma once

#include <cstdint>
#include <string>

#if __has_include(<linux/io_uring.h>)
#include <linux/io_uring.h>
#endif
// Of kernel 6.1. What the backend needs is all there from then on: multishot recvmsg and buffer rings are older.
#ifdef IORING_SETUP_DEFER_TASKRUN
#define OUTRIGGER_HAS_URING 1
#else
#define OUTRIGGER_HAS_URING 0
#endif

// Of kernel 6.2: known by its number, tried before it is used.
#if OUTRIGGER_HAS_URING
#ifndef IORING_SEND_ZC_REPORT_USAGE
#define IORING_SEND_ZC_REPORT_USAGE (1U << 3)
#endif
#ifndef IORING_NOTIF_USAGE_ZC_COPIED
#define IORING_NOTIF_USAGE_ZC_COPIED (1U << 31)
#endif
#endif

#include "base/fd.h"
#include "base/result.h"

namespace outrigger::io {

// What of this machine and process can forbid io_uring.
struct UringLimits {
  int disabledSysctl = -1;  // kernel.io_uring_disabled; -1: no such switch, before Linux 6.6 or without io_uring
  bool seccompFilter = false;
  bool exempt = false;  // from kernel.io_uring_disabled=1: CAP_SYS_ADMIN on the node, or of the group in kernel.io_uring_group
};
UringLimits readUringLimits();

// Why io_uring can't be had, and what to do about it, from what its calls answered.
struct UringRefusal {
  std::string cause;
  std::string fix;
};
UringRefusal explainUringRefusal(int err, const UringLimits& limits = readUringLimits());

#if OUTRIGGER_HAS_URING

class Uring {
 public:
  Uring() = default;
  Uring(Uring&&) = delete;
  ~Uring();

  // Fails with the errno of the call that failed, and explainUringRefusal's sentences.
  Result<void> open(uint32_t submissions, uint32_t completions);
  int fd() const { return fd_.get(); }

  // Owner thread, before anything else; later calls do nothing. False: another thread owns the ring.
  bool enable();

  // A descriptor that a thread can sleep on while the ring waits for events. The ring's own is not one: with DEFER_TASKRUN what arrives is work for the
  // owner, and polling wakes only for completions. Before enable(). It costs nothing while it is not armed.
  Result<void> openBell();
  int bell() const { return bell_.get(); }
  // From here on what comes rings; false: something is there already, so sleeping would be wrong.
  bool armBell();
  // Awake again: nothing rings, and what has rung is forgotten.
  void disarmBell();

  // The next submission, zeroed; null when the queue is full until the next enter.
  io_uring_sqe* next();
  uint32_t queued() const { return queued_; }
  // Submits what is queued, and waits for `wait` completions. 0 or an errno.
  int enter(uint32_t wait);
  // Takes back what an enter that failed left queued.
  void drop();

  // Something is there to be read, or would be after an enter.
  bool hasCompletion() const;
  bool hasWork() const;
  // The oldest completion, null when there is none. Gone after advance().
  const io_uring_cqe* peek() const;
  void advance() { __atomic_store_n(completionHead_, ++head_, __ATOMIC_RELEASE); }

  // Whether `predicate` holds for one that has not been taken yet.
  template <typename Predicate>
  bool contains(Predicate&& predicate) const {
    const uint32_t tail = __atomic_load_n(completionTail_, __ATOMIC_ACQUIRE);
    for (uint32_t i = head_; i != tail; ++i) {
      if (predicate(completions_[i & completionMask_])) return true;
    }
    return false;
  }

  // io_uring_register(2); 0 or an errno.
  int control(unsigned operation, void* argument, unsigned count);

 private:
  void unmap();

  UniqueFd fd_;
  UniqueFd bell_;
  bool bellArmed_ = false;
  bool enabled_ = false;
  uint8_t* rings_ = nullptr;
  size_t ringsLength_ = 0;
  io_uring_sqe* submissions_ = nullptr;
  size_t submissionsLength_ = 0;
  uint32_t* submissionTail_ = nullptr;
  uint32_t* submissionFlags_ = nullptr;
  uint32_t submissionMask_ = 0;
  uint32_t submissionEntries_ = 0;
  uint32_t tail_ = 0;
  uint32_t queued_ = 0;
  uint32_t* completionHead_ = nullptr;
  uint32_t* completionTail_ = nullptr;
  uint32_t* completionFlags_ = nullptr;
  const io_uring_cqe* completions_ = nullptr;
  uint32_t completionMask_ = 0;
  uint32_t head_ = 0;
};

#endif

}  // namespace outrigger::io
