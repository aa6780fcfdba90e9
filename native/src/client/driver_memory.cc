// SPDX-License-Identifier: Apache-2.0
// Mapping and validating the files of a driver directory.
#include "client/driver_memory.h"

#include <poll.h>

namespace outrigger::client {
namespace {

std::string lastTwoComponents(const std::string& path) {
  const size_t last = path.rfind('/');
  if (last == std::string::npos || last == 0) return path;
  const size_t before = path.rfind('/', last - 1);
  return before == std::string::npos ? path : path.substr(before + 1);
}

}  // namespace

Result<std::shared_ptr<DriverMemory>> DriverMemory::open(const std::string& directory, bool useDoorbells) {
  auto memory = std::make_shared<DriverMemory>();
  memory->directory_ = directory;
  memory->cncPath_ = directory + "/" + cnc::kCncFileName;
  auto file = MappedFile::open(memory->cncPath_, true);
  if (!file) return file.error();
  memory->cnc_ = file.take();
  auto regions = cnc::mapRegions(memory->cnc_, memory->cncPath_);
  if (!regions) return regions.error();
  memory->regions_ = regions.take();
  struct stat st {};
  if (::fstat(memory->cnc_.fd(), &st) != 0) {
    return makeError(ErrorCode::kGeneric, "cannot stat '" + memory->cncPath_ + "'", errno);
  }
  memory->device_ = st.st_dev;
  memory->inode_ = st.st_ino;
  if (useDoorbells) {
    // A stock driver has none and is polled. ENXIO: ours has them, but it is dead, since nobody reads them.
    auto bells = cnc::Doorbells::open(directory);
    if (bells) memory->bells_ = bells.take();
    if (!bells && bells.error().sysErrno == ENXIO) {
      return makeError(ErrorCode::kResourceTemporarilyUnavailable, "the driver of '" + directory + "' has died; start it again");
    }
  }
  // Between opening the one and the other, a new driver may have come: doorbells and rings must be of the same.
  if (!memory->isCurrent()) {
    return makeError(ErrorCode::kResourceTemporarilyUnavailable, "the driver of '" + directory + "' is being replaced");
  }
  return memory;
}

int64_t* DriverMemory::counterValue(int32_t counterId) const {
  if (counterId < 0) return nullptr;
  const size_t offset = static_cast<size_t>(counterId) * cnc::kCounterValueLength;
  if (offset + cnc::kCounterValueLength > regions_.countersValues.length) return nullptr;
  return reinterpret_cast<int64_t*>(regions_.countersValues.data + offset + cnc::counter_value::kValue);
}

bool DriverMemory::isCurrent() const {
  struct stat st {};
  if (::stat(cncPath_.c_str(), &st) != 0 || st.st_dev != device_ || st.st_ino != inode_) return false;
  const uint8_t* base = cnc_.data();
  return readAt<int64_t>(base, cnc::field::kPid) == regions_.pid &&
         readAt<int64_t>(base, cnc::field::kStartTimestampMs) == regions_.startTimestampMs;
}

bool DriverMemory::driverHungUp() const {
  if (!bells_.valid()) return false;
  for (int32_t fifo = 0; fifo < cnc::Doorbells::kAgentCount; ++fifo) {
    const int fd = bells_.fifoFd(fifo);
    if (fd < 0) continue;
    // The write end of a FIFO reports an error as soon as the last reader is gone, across PID namespaces.
    pollfd entry{fd, 0, 0};
    return ::poll(&entry, 1, 0) > 0 && (entry.revents & (POLLERR | POLLHUP)) != 0;
  }
  return false;
}

Result<std::shared_ptr<LogMapping>> LogMapping::open(const std::string& path, const std::string& directory) {
  auto mapping = std::make_shared<LogMapping>();
  mapping->path_ = path;
  auto file = MappedFile::open(path, true);
  if (!file) {
    const std::string here = directory + "/" + lastTwoComponents(path);
    auto second = MappedFile::open(here, true);
    if (!second) return file.error();
    mapping->path_ = here;
    mapping->file_ = second.take();
  } else {
    mapping->file_ = file.take();
  }
  const uint64_t length = mapping->file_.length();
  constexpr auto kMetadata = static_cast<uint64_t>(logbuffer::kMetadataLength);
  const auto bad = [&](const std::string& what) {
    return makeError(ErrorCode::kGeneric, "log buffer '" + mapping->path_ + "' of " + std::to_string(length) + " bytes " + what);
  };
  if (length < kMetadata + 3 * static_cast<uint64_t>(logbuffer::kMinTermLength)) return bad("is too short");
  const uint8_t* metadata = mapping->file_.data() + (length - kMetadata);
  const auto termLength = loadAcquire<int32_t>(metadata + logbuffer::meta::kTermLength);
  const auto pageSize = loadRelaxed<int32_t>(metadata + logbuffer::meta::kPageSize);
  const auto mtu = loadRelaxed<int32_t>(metadata + logbuffer::meta::kMtu);
  if (!logbuffer::isValidTermLength(termLength)) {
    return bad("has term length " + std::to_string(termLength) + ", which is no power of two in 65536..1073741824");
  }
  if (pageSize < logbuffer::kMinPageSize || pageSize > logbuffer::kMaxPageSize || !isPowerOfTwo(pageSize)) {
    return bad("has page size " + std::to_string(pageSize) + ", which is no power of two in 4096..1073741824");
  }
  if (logbuffer::logFileLength(termLength, pageSize) != length) {
    return bad("does not match its term length " + std::to_string(termLength) + " and page size " + std::to_string(pageSize));
  }
  if (!logbuffer::isValidMtu(mtu)) return bad("has MTU " + std::to_string(mtu) + ", which is no multiple of 32 in 64..65504");
  mapping->log_ = logbuffer::LogBuffer(mapping->file_.data(), termLength, length);
  mapping->mtu_ = mtu;
  mapping->initialTermId_ = mapping->log_.get<int32_t>(logbuffer::meta::kInitialTermId);
  return mapping;
}

int32_t LogMapping::firstFrameLength(int64_t position) const {
  const auto index = static_cast<off_t>(logbuffer::indexByPosition(position, log_.bits()));
  int32_t length = 0;
  const ssize_t got = ::pread(file_.fd(), &length, sizeof(length), index * static_cast<off_t>(log_.termLength()));
  return got == static_cast<ssize_t>(sizeof(length)) ? length : 0;
}

}  // namespace outrigger::client
