// SPDX-License-Identifier: Apache-2.0
// Memory for a UMEM: a sealed memfd, on hugepages where there are any, so that whoever registers it (this process or outrigger-nicd) can
// be handed its descriptor. Chunks of it are given out by XdpFrameIo.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "base/fd.h"
#include "base/result.h"

namespace outrigger::io::xdp {

class UmemMemory {
 public:
  UmemMemory() = default;
  UmemMemory(UmemMemory&& other) noexcept
      : fd_(std::move(other.fd_)),
        address_(std::exchange(other.address_, nullptr)),
        lengthBytes_(std::exchange(other.lengthBytes_, 0)),
        hugepages_(other.hugepages_) {}
  UmemMemory& operator=(UmemMemory&& other) noexcept;
  UmemMemory(const UmemMemory&) = delete;
  UmemMemory& operator=(const UmemMemory&) = delete;
  ~UmemMemory() { reset(); }

  // `lengthBytes` rounded up to whole pages of the kind used, zeroed and backed. With `hugepages`, 2 MiB pages where they can be had;
  // when not, ordinary ones, and `reason` says why. The file can neither grow nor shrink any more.
  static Result<UmemMemory> allocate(uint64_t lengthBytes, bool hugepages, std::string& reason);

  // Maps memory that another process allocated. Fails unless the file is sealed against shrinking and growing and is of 1 to
  // `maxBytes` bytes: its owner could otherwise pull pages from under whoever reads it (SIGBUS).
  static Result<UmemMemory> adopt(UniqueFd fd, uint64_t maxBytes);

  uint8_t* data() const { return address_; }
  uint64_t lengthBytes() const { return lengthBytes_; }
  bool hugepages() const { return hugepages_; }
  int fd() const { return fd_.get(); }
  bool valid() const { return address_ != nullptr; }

 private:
  void reset();

  UniqueFd fd_;
  uint8_t* address_ = nullptr;
  uint64_t lengthBytes_ = 0;
  bool hugepages_ = false;
};

}  // namespace outrigger::io::xdp
