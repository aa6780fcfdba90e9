// SPDX-License-Identifier: Apache-2.0
// What a client has mapped of its driver: cnc.dat, doorbells, and log buffers. Publications, images and counters share ownership, so
// memory stays mapped until the last of them is gone, also when the driver has died. No protocol here.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>

#include "base/fd.h"
#include "cnc/cnc_file.h"
#include "cnc/counters.h"
#include "cnc/doorbells.h"
#include "logbuffer/descriptor.h"

namespace outrigger::client {

// One driver incarnation. Immutable after open() except for the memory itself.
class DriverMemory {
 public:
  // Fails with kResourceTemporarilyUnavailable while the driver is starting, kGeneric when there is none.
  static Result<std::shared_ptr<DriverMemory>> open(const std::string& directory, bool useDoorbells);

  const std::string& directory() const { return directory_; }
  const cnc::CncRegions& regions() const { return regions_; }
  const cnc::Doorbells& bells() const { return bells_; }

  // Address of a counter's value, nullptr when the id is outside the values buffer.
  int64_t* counterValue(int32_t counterId) const;
  // The directory still holds the cnc.dat that is mapped here (same inode), with the same driver in it.
  bool isCurrent() const;
  // No process reads the driver's doorbell FIFOs any more: it died. Always false with a driver that has none.
  bool driverHungUp() const;

 private:
  std::string directory_;
  std::string cncPath_;
  MappedFile cnc_;
  cnc::CncRegions regions_;
  cnc::Doorbells bells_;
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

// A mapped log buffer file with its immutable parameters, each read once and validated against the file.
class LogMapping {
 public:
  // path as the driver named it. When it can't be opened there, `directory` (the driver directory as this process sees it, which may
  // be mounted elsewhere) is tried with the last two components of path.
  static Result<std::shared_ptr<LogMapping>> open(const std::string& path, const std::string& directory);

  const logbuffer::LogBuffer& log() const { return log_; }
  int32_t termLength() const { return log_.termLength(); }
  int32_t initialTermId() const { return initialTermId_; }
  int32_t mtu() const { return mtu_; }
  const std::string& path() const { return path_; }

  // First frame length of the term that starts at `position`, read through the file: a sparse term that has no memory yet must not be
  // touched through the mapping, since a read fault allocates and a full volume makes that SIGBUS.
  int32_t firstFrameLength(int64_t position) const;

 private:
  std::string path_;
  MappedFile file_;
  logbuffer::LogBuffer log_;
  int32_t initialTermId_ = 0;
  int32_t mtu_ = 0;
};

}  // namespace outrigger::client
