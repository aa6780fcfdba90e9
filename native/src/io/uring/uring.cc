// SPDX-License-Identifier: Apache-2.0
// See the header. Mapping and memory order: io_uring(7).
#include "io/uring/uring.h"

#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>
#include <utility>

namespace outrigger::io {
namespace {

constexpr int kCapSysAdmin = 21;  // linux/capability.h

std::optional<int64_t> sysctl(const std::string& name) {
  std::ifstream file("/proc/sys/kernel/" + name);
  int64_t value = 0;
  return file >> value ? std::optional(value) : std::nullopt;
}

// Capabilities over the node are those of its first user namespace, which alone maps every id.
bool inFirstUserNamespace() {
  std::ifstream file("/proc/thread-self/uid_map");
  int64_t inside = -1;
  int64_t outside = -1;
  uint32_t count = 0;
  return (file >> inside >> outside >> count) && inside == 0 && outside == 0 && count == UINT32_MAX;
}

// By proc(5). "Seccomp:" 2 is a filter; the last number of "Gid:" is the one that counts for permissions, with those of "Groups:".
void readStatus(UringLimits& limits) {
  const std::optional<int64_t> group = sysctl("io_uring_group");
  std::ifstream file("/proc/thread-self/status");
  bool member = false;
  bool administers = false;
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string key;
    words >> key;
    if (key == "Seccomp:") {
      int mode = 0;
      limits.seccompFilter = (words >> mode) && mode == 2;
    } else if (key == "CapEff:") {
      uint64_t set = 0;
      administers = (words >> std::hex >> set) && (set >> kCapSysAdmin & 1) != 0;
    } else if (key == "Gid:" || key == "Groups:") {
      int64_t id = -1;
      for (int i = 0; words >> id; ++i) member = member || (id == group && (key == "Groups:" || i == 3));
    }
  }
  limits.exempt = (administers || member) && inFirstUserNamespace();
}

constexpr const char* kSeccompFix =
    "run with a seccomp profile that allows io_uring_setup, io_uring_enter and io_uring_register, or use mmsg";

}  // namespace

UringLimits readUringLimits() {
  UringLimits limits;
  limits.disabledSysctl = static_cast<int>(sysctl("io_uring_disabled").value_or(-1));
  readStatus(limits);
  return limits;
}

UringRefusal explainUringRefusal(int err, const UringLimits& limits) {
  const int disabled = limits.disabledSysctl;
  const bool filtered = limits.seccompFilter;
  // Whether the filter lets io_uring through shows only when the sysctl does.
  const std::string alsoFilter = filtered ? ", see that the process' seccomp profile allows io_uring" : "";
  switch (err) {
    case EPERM:
    case EACCES:
      if (disabled == 2) {
        return {"io_uring is switched off on this node: the sysctl kernel.io_uring_disabled is 2",
                "set the sysctl to 0" + alsoFilter + ", or use mmsg"};
      }
      if (disabled == 1 && !limits.exempt) {
        return {
            "the sysctl kernel.io_uring_disabled is 1, and the process is neither in the group of kernel.io_uring_group nor has "
            "CAP_SYS_ADMIN",
            "add the process to that group or set the sysctl to 0" + alsoFilter + ", or use mmsg"};
      }
      if (filtered) return {"a seccomp filter forbids io_uring (EPERM), as most container runtimes' default profile does", kSeccompFix};
      return {
          "the kernel refuses io_uring (EPERM), though neither the sysctl kernel.io_uring_disabled nor a seccomp filter does: "
          "a security module (SELinux, AppArmor) may",
          "allow it in the security module's policy, or use mmsg"};
    case ENOSYS:
      if (disabled >= 0 && filtered) return {"a seccomp filter hides io_uring (ENOSYS): the kernel itself has it", kSeccompFix};
      if (filtered) {
        return {"there is no io_uring (ENOSYS): this kernel is built without it, or the process' seccomp filter hides it",
                "use a kernel with CONFIG_IO_URING and a seccomp profile that allows it, or use mmsg"};
      }
      return {"this kernel is built without io_uring (ENOSYS)", "use a kernel with CONFIG_IO_URING, or use mmsg"};
    case EINVAL:
      return {"this kernel's io_uring lacks what the backend needs (EINVAL): SINGLE_ISSUER and DEFER_TASKRUN came with Linux 6.1",
              "use a kernel from 6.1 on, or use mmsg"};
    case ENOMEM:
      return {
          "there is no memory for the rings (ENOMEM): they count against RLIMIT_MEMLOCK, of all processes of the user, or the memory "
          "cgroup",
          "raise the limit ('ulimit -l', the container's memory), or use mmsg"};
    case EMFILE:
    case ENFILE:
      return {"no more file descriptors can be opened", "raise the limit ('ulimit -n')"};
    default:
      return {std::string("io_uring answered: ") + std::strerror(err) + " (errno " + std::to_string(err) + ")", "use mmsg"};
  }
}

#if OUTRIGGER_HAS_URING

namespace {

Error failed(const std::string& call, int err) {
  const UringRefusal refusal = explainUringRefusal(err);
  Error error = makeError(ErrorCode::kGeneric, "backend uring: " + call + ": " + refusal.cause + "; " + refusal.fix);
  error.sysErrno = err;
  return error;
}

template <typename T>
T* at(uint8_t* base, uint32_t offset) {
  return reinterpret_cast<T*>(base + offset);
}

}  // namespace

Uring::~Uring() { unmap(); }

void Uring::unmap() {
  if (rings_ != nullptr) ::munmap(rings_, ringsLength_);
  if (submissions_ != nullptr) ::munmap(submissions_, submissionsLength_);
  rings_ = nullptr;
  submissions_ = nullptr;
}

Result<void> Uring::open(uint32_t submissions, uint32_t completions) {
  io_uring_params params{};
  params.flags = IORING_SETUP_R_DISABLED | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
                 IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE;
  params.cq_entries = completions;
  const long fd = ::syscall(__NR_io_uring_setup, submissions, &params);
  if (fd < 0) return failed("io_uring_setup", errno);
  fd_ = UniqueFd(static_cast<int>(fd));
  // Both rings lie in one mapping since 5.4 (IORING_FEAT_SINGLE_MMAP); a kernel that took the flags above has that.
  ringsLength_ = std::max<size_t>(params.sq_off.array + params.sq_entries * sizeof(uint32_t),
                                  params.cq_off.cqes + params.cq_entries * sizeof(io_uring_cqe));
  void* rings = ::mmap(nullptr, ringsLength_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd_.get(), IORING_OFF_SQ_RING);
  if (rings == MAP_FAILED) return failed("mmap of the rings", errno);
  rings_ = static_cast<uint8_t*>(rings);
  submissionsLength_ = params.sq_entries * sizeof(io_uring_sqe);
  void* entries = ::mmap(nullptr, submissionsLength_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd_.get(), IORING_OFF_SQES);
  if (entries == MAP_FAILED) return failed("mmap of the submissions", errno);
  submissions_ = static_cast<io_uring_sqe*>(entries);
  submissionTail_ = at<uint32_t>(rings_, params.sq_off.tail);
  submissionFlags_ = at<uint32_t>(rings_, params.sq_off.flags);
  submissionEntries_ = params.sq_entries;
  submissionMask_ = params.sq_entries - 1;
  tail_ = *submissionTail_;
  // Entry n is always in place n: the indirection stays as it is.
  for (uint32_t i = 0; i < params.sq_entries; ++i) at<uint32_t>(rings_, params.sq_off.array)[i] = i;
  completionHead_ = at<uint32_t>(rings_, params.cq_off.head);
  completionTail_ = at<uint32_t>(rings_, params.cq_off.tail);
  completionFlags_ = at<uint32_t>(rings_, params.cq_off.flags);
  completions_ = at<const io_uring_cqe>(rings_, params.cq_off.cqes);
  completionMask_ = params.cq_entries - 1;
  head_ = *completionHead_;
  return {};
}

bool Uring::enable() {
  if (enabled_) return true;
  const int err = control(IORING_REGISTER_ENABLE_RINGS, nullptr, 0);
  enabled_ = err == 0;
  return enabled_;
}

Result<void> Uring::openBell() {
  bell_ = UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (bell_.get() < 0) return failed("eventfd", errno);
  __atomic_store_n(completionFlags_, IORING_CQ_EVENTFD_DISABLED, __ATOMIC_RELAXED);
  int fd = bell_.get();
  if (const int err = control(IORING_REGISTER_EVENTFD, &fd, 1); err != 0) return failed("io_uring_register of an eventfd", err);
  return {};
}

bool Uring::armBell() {
  __atomic_store_n(completionFlags_, 0U, __ATOMIC_SEQ_CST);
  bellArmed_ = true;
  // The kernel queues work and then looks whether it is to ring.
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  return !hasCompletion() && !hasWork();
}

void Uring::disarmBell() {
  if (!std::exchange(bellArmed_, false)) return;
  __atomic_store_n(completionFlags_, IORING_CQ_EVENTFD_DISABLED, __ATOMIC_RELAXED);
  uint64_t rings = 0;
  [[maybe_unused]] const ssize_t ignored = ::read(bell_.get(), &rings, sizeof(rings));
}

io_uring_sqe* Uring::next() {
  if (queued_ == submissionEntries_) return nullptr;
  io_uring_sqe* entry = &submissions_[tail_ & submissionMask_];
  *entry = io_uring_sqe{};
  ++tail_;
  ++queued_;
  return entry;
}

int Uring::enter(uint32_t wait) {
  __atomic_store_n(submissionTail_, tail_, __ATOMIC_RELEASE);
  for (;;) {
    const long submitted = ::syscall(__NR_io_uring_enter, fd_.get(), queued_, wait, IORING_ENTER_GETEVENTS, nullptr, 0);
    if (submitted >= 0) {
      queued_ -= static_cast<uint32_t>(submitted);
      if (queued_ == 0) return 0;
      continue;
    }
    if (errno != EINTR) return errno;
  }
}

void Uring::drop() {
  tail_ -= queued_;
  queued_ = 0;
  __atomic_store_n(submissionTail_, tail_, __ATOMIC_RELEASE);
}

bool Uring::hasCompletion() const { return __atomic_load_n(completionTail_, __ATOMIC_ACQUIRE) != head_; }

bool Uring::hasWork() const {
  return (__atomic_load_n(submissionFlags_, __ATOMIC_ACQUIRE) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
}

const io_uring_cqe* Uring::peek() const { return hasCompletion() ? &completions_[head_ & completionMask_] : nullptr; }

int Uring::control(unsigned operation, void* argument, unsigned count) {
  return ::syscall(__NR_io_uring_register, fd_.get(), operation, argument, count) < 0 ? errno : 0;
}

#endif

}  // namespace outrigger::io
