// SPDX-License-Identifier: Apache-2.0
// The checks of the policy file. See the header.
#include "driver/policy_file.h"

#include "base/fd.h"

namespace outrigger::driver {
namespace {

// A rule is some 60 bytes: a hundred thousand of them, far more than the streams of a driver.
constexpr int64_t kMaxFileLength = 8 * 1024 * 1024;
constexpr mode_t kOthersMayWrite = S_IWGRP | S_IWOTH;

std::optional<Error> othersMayWrite(const struct stat& st, const std::string& what, int64_t trustedUser) {
  const int64_t trusted = trustedUser < 0 ? static_cast<int64_t>(::geteuid()) : trustedUser;
  if (st.st_uid != 0 && static_cast<int64_t>(st.st_uid) != trusted) {
    return makeError(ErrorCode::kGeneric,
                     what + " belongs to user " + std::to_string(st.st_uid) + ", not to user " + std::to_string(trusted) +
                         ", whose policy is obeyed: let the sidecar make it, or name its user with OUTRIGGER_POLICY_OWNER");
  }
  if ((st.st_mode & kOthersMayWrite) != 0) {
    return makeError(ErrorCode::kGeneric,
                     what + " may be written by others than its owner: take the right from group and others (chmod go-w)");
  }
  return std::nullopt;
}

Result<std::string> readWhole(const UniqueFd& fd, int64_t size, const std::string& what) {
  std::string text(static_cast<size_t>(size), '\0');
  size_t at = 0;
  while (at < text.size()) {
    const ssize_t got = ::read(fd.get(), text.data() + at, text.size() - at);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return makeError(ErrorCode::kGeneric, what + " can't be read", errno);
    if (got == 0) return makeError(ErrorCode::kGeneric, what + " became shorter while it was read: put a new file in its place instead");
    at += static_cast<size_t>(got);
  }
  return text;
}

}  // namespace

PolicyReading readPolicyFile(const std::string& path, int64_t trustedUser, const std::string& before) {
  PolicyReading reading;
  const size_t slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
  const std::string name = slash == std::string::npos ? path : path.substr(slash + 1);
  const std::string file = "policy file '" + path + "'";
  const auto fail = [&](Error error) {
    reading.absent = error.sysErrno == ENOENT;
    reading.error = std::move(error);
    return reading;
  };
  struct stat st {};
  const UniqueFd directory(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory.valid() || ::fstat(directory.get(), &st) != 0) {
    return fail(makeError(ErrorCode::kGeneric, "the folder of " + file + " can't be opened", errno));
  }
  if (auto problem = othersMayWrite(st, "the folder of " + file, trustedUser)) return fail(std::move(*problem));
  // Not through a link, and without waiting for the other end of a FIFO.
  const UniqueFd fd(::openat(directory.get(), name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (!fd.valid() || ::fstat(fd.get(), &st) != 0) return fail(makeError(ErrorCode::kGeneric, file + " can't be opened", errno));
  if (!S_ISREG(st.st_mode)) return fail(makeError(ErrorCode::kGeneric, file + " is no ordinary file"));
  if (auto problem = othersMayWrite(st, file, trustedUser)) return fail(std::move(*problem));
  if (st.st_size > kMaxFileLength) {
    return fail(makeError(ErrorCode::kGeneric,
                          file + " has " + std::to_string(st.st_size) + " bytes, at most " + std::to_string(kMaxFileLength) + " are read"));
  }
  auto text = readWhole(fd, st.st_size, file);
  if (!text) return fail(text.error());
  if (*text == before) return reading;
  auto policy = Policy::parse(*text);
  if (!policy) return fail(makeError(ErrorCode::kGeneric, file + ": " + policy.error().message));
  reading.policy = std::make_shared<const Policy>(policy.take());
  reading.text = text.take();
  return reading;
}

}  // namespace outrigger::driver
