// SPDX-License-Identifier: Apache-2.0
// memfds: hugepages first, then ordinary pages; sealed once they have their length.
#include "io/xdp/umem_memory.h"

#include <sys/vfs.h>

#include <cstring>

namespace outrigger::io::xdp {
namespace {

constexpr uint64_t kPageBytes = 4096;
constexpr uint64_t kHugePageBytes = 2u << 20;  // also where the default is 1 GiB: MFD_HUGE_2MB asks for these
constexpr long kHugetlbfsMagic = 0x958458f6;   // linux/magic.h
constexpr unsigned kMemfdHuge2Mb = 21U << 26;  // MFD_HUGE_2MB, linux/memfd.h
constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

uint64_t roundUp(uint64_t value, uint64_t unit) { return (value + unit - 1) / unit * unit; }

struct Mapping {
  UniqueFd fd;
  uint8_t* address = nullptr;
};

Result<Mapping> makeMapping(uint64_t lengthBytes, bool huge) {
  const std::string what = "UMEM of " + std::to_string(lengthBytes) + " bytes" + (huge ? " on 2 MiB hugepages" : "");
  Mapping mapping;
  mapping.fd = UniqueFd(::memfd_create("outrigger-umem", MFD_CLOEXEC | MFD_ALLOW_SEALING | (huge ? MFD_HUGETLB | kMemfdHuge2Mb : 0U)));
  if (!mapping.fd.valid()) return makeError(ErrorCode::kGeneric, what + ": memfd_create", errno);
  if (::ftruncate(mapping.fd.get(), static_cast<off_t>(lengthBytes)) != 0)
    return makeError(ErrorCode::kGeneric, what + ": ftruncate", errno);
  // Hugepages are reserved by mmap, so a lack of them shows here. fallocate backs ordinary pages now: a memory limit is then an error
  // instead of a signal at the first touch.
  void* address = ::mmap(nullptr, lengthBytes, PROT_READ | PROT_WRITE, MAP_SHARED, mapping.fd.get(), 0);
  if (address == MAP_FAILED) return makeError(ErrorCode::kGeneric, what + ": mmap", errno);
  mapping.address = static_cast<uint8_t*>(address);
  if (::fallocate(mapping.fd.get(), 0, 0, static_cast<off_t>(lengthBytes)) != 0 || ::fcntl(mapping.fd.get(), F_ADD_SEALS, kSeals) != 0) {
    const int error = errno;
    ::munmap(address, lengthBytes);
    return makeError(ErrorCode::kGeneric, what + ": fallocate", error);
  }
  return mapping;
}

}  // namespace

UmemMemory& UmemMemory::operator=(UmemMemory&& other) noexcept {
  if (this != &other) {
    reset();
    fd_ = std::move(other.fd_);
    address_ = std::exchange(other.address_, nullptr);
    lengthBytes_ = std::exchange(other.lengthBytes_, 0);
    hugepages_ = other.hugepages_;
  }
  return *this;
}

void UmemMemory::reset() {
  if (address_ != nullptr) ::munmap(address_, lengthBytes_);
  address_ = nullptr;
  lengthBytes_ = 0;
  fd_.reset();
}

Result<UmemMemory> UmemMemory::allocate(uint64_t lengthBytes, bool hugepages, std::string& reason) {
  UmemMemory memory;
  if (hugepages) {
    auto huge = makeMapping(roundUp(lengthBytes, kHugePageBytes), true);
    if (huge) {
      memory.fd_ = std::move(huge->fd);
      memory.address_ = huge->address;
      memory.lengthBytes_ = roundUp(lengthBytes, kHugePageBytes);
      memory.hugepages_ = true;
      return memory;
    }
    reason = huge.error().message;
  }
  auto ordinary = makeMapping(roundUp(lengthBytes, kPageBytes), false);
  if (!ordinary) return ordinary.error();
  memory.fd_ = std::move(ordinary->fd);
  memory.address_ = ordinary->address;
  memory.lengthBytes_ = roundUp(lengthBytes, kPageBytes);
  return memory;
}

Result<UmemMemory> UmemMemory::adopt(UniqueFd fd, uint64_t maxBytes) {
  const int seals = ::fcntl(fd.get(), F_GET_SEALS);
  if (seals < 0) return makeError(ErrorCode::kGeneric, "UMEM: the descriptor is no memfd that can be sealed: F_GET_SEALS", errno);
  if ((seals & (F_SEAL_SHRINK | F_SEAL_GROW)) != (F_SEAL_SHRINK | F_SEAL_GROW)) {
    return makeError(ErrorCode::kGeneric, "UMEM: the memfd is not sealed (seals " + std::to_string(seals) +
                                              "): add F_SEAL_SHRINK and F_SEAL_GROW before passing it");
  }
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0) return makeError(ErrorCode::kGeneric, "UMEM: fstat", errno);
  const auto lengthBytes = static_cast<uint64_t>(status.st_size);
  if (lengthBytes == 0 || lengthBytes > maxBytes || lengthBytes % kPageBytes != 0) {
    return makeError(ErrorCode::kGeneric, "UMEM of " + std::to_string(lengthBytes) + " bytes: allowed are whole pages up to " +
                                              std::to_string(maxBytes) + " bytes");
  }
  void* address = ::mmap(nullptr, lengthBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (address == MAP_FAILED) return makeError(ErrorCode::kGeneric, "UMEM of " + std::to_string(lengthBytes) + " bytes: mmap", errno);
  struct statfs volume {};
  UmemMemory memory;
  memory.hugepages_ = ::fstatfs(fd.get(), &volume) == 0 && volume.f_type == kHugetlbfsMagic;
  memory.fd_ = std::move(fd);
  memory.address_ = static_cast<uint8_t*>(address);
  memory.lengthBytes_ = lengthBytes;
  return memory;
}

}  // namespace outrigger::io::xdp
