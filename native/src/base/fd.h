// SPDX-License-Identifier: Apache-2.0
// RAII for descriptors and mappings.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <string>
#include <utility>

#include "base/result.h"

namespace outrigger {

class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) {
      reset();
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }
  UniqueFd(const UniqueFd&) = delete;
  UniqueFd& operator=(const UniqueFd&) = delete;
  ~UniqueFd() { reset(); }

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  int release() { return std::exchange(fd_, -1); }
  void reset() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }

 private:
  int fd_ = -1;
};

// A shared file mapping. The file is never truncated while mapped: a reader in another process would get SIGBUS.
class MappedFile {
 public:
  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept
      : address_(std::exchange(other.address_, nullptr)), length_(std::exchange(other.length_, 0)), fd_(std::move(other.fd_)) {}
  MappedFile& operator=(MappedFile&& other) noexcept {
    if (this != &other) {
      reset();
      address_ = std::exchange(other.address_, nullptr);
      length_ = std::exchange(other.length_, 0);
      fd_ = std::move(other.fd_);
    }
    return *this;
  }
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile() { reset(); }

  // Creates `path` exclusively with `lengthBytes` (sparse) and maps it read-write. mode is set by fchmod, past the umask.
  static Result<MappedFile> create(const std::string& path, uint64_t lengthBytes, mode_t mode) {
    UniqueFd fd(::open(path.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, mode));
    if (!fd.valid()) return makeError(ErrorCode::kGeneric, "cannot create file '" + path + "'", errno);
    if (::fchmod(fd.get(), mode) != 0 || ::ftruncate(fd.get(), static_cast<off_t>(lengthBytes)) != 0) {
      const int err = errno;
      ::unlink(path.c_str());
      return makeError(err == ENOSPC ? ErrorCode::kStorageSpace : ErrorCode::kGeneric,
                       "cannot size file '" + path + "' to " + std::to_string(lengthBytes) + " bytes", err);
    }
    return mapFd(std::move(fd), path, lengthBytes, PROT_READ | PROT_WRITE);
  }

  // Maps an existing file whole. Fails when the file is empty.
  static Result<MappedFile> open(const std::string& path, bool writable) {
    UniqueFd fd(::open(path.c_str(), (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC));
    if (!fd.valid()) return makeError(ErrorCode::kGeneric, "cannot open file '" + path + "'", errno);
    struct stat st {};
    if (::fstat(fd.get(), &st) != 0) return makeError(ErrorCode::kGeneric, "cannot stat file '" + path + "'", errno);
    if (st.st_size <= 0) return makeError(ErrorCode::kGeneric, "file '" + path + "' is empty");
    return mapFd(std::move(fd), path, static_cast<uint64_t>(st.st_size), writable ? PROT_READ | PROT_WRITE : PROT_READ);
  }

  uint8_t* data() const { return address_; }
  uint64_t length() const { return length_; }
  int fd() const { return fd_.get(); }
  bool valid() const { return address_ != nullptr; }

  // Backs [offset, offset+length) with real memory; returns 0 or the errno (ENOSPC: the volume is full).
  int allocate(uint64_t offset, uint64_t lengthBytes) const {
    return ::posix_fallocate(fd_.get(), static_cast<off_t>(offset), static_cast<off_t>(lengthBytes));
  }

  void reset() {
    if (address_ != nullptr) ::munmap(address_, length_);
    address_ = nullptr;
    length_ = 0;
    fd_.reset();
  }

 private:
  static Result<MappedFile> mapFd(UniqueFd fd, const std::string& path, uint64_t lengthBytes, int protection) {
    void* address = ::mmap(nullptr, lengthBytes, protection, MAP_SHARED, fd.get(), 0);
    if (address == MAP_FAILED) {
      return makeError(ErrorCode::kGeneric, "cannot map file '" + path + "' of " + std::to_string(lengthBytes) + " bytes", errno);
    }
    MappedFile file;
    file.address_ = static_cast<uint8_t*>(address);
    file.length_ = lengthBytes;
    file.fd_ = std::move(fd);
    return file;
  }

  uint8_t* address_ = nullptr;
  uint64_t length_ = 0;
  UniqueFd fd_;
};

}  // namespace outrigger
