// SPDX-License-Identifier: Apache-2.0
// Creates log buffer files: sized sparse, backed where bytes may land first, metadata written. Blocking; runs on the resource agent.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "base/fd.h"
#include "logbuffer/descriptor.h"

namespace outrigger::driver {

// Everything a log's metadata says.
struct LogSpec {
  std::string path;
  int64_t registrationId = 0;
  int32_t sessionId = 0;
  int32_t streamId = 0;
  int32_t initialTermId = 0;
  int32_t startTermId = 0;
  int32_t startTermOffset = 0;
  int32_t termLength = 0;
  int32_t mtu = 0;
  int32_t pageSize = 4096;
  int32_t publicationWindow = 0;
  int32_t receiverWindow = 0;
  int32_t socketSendBuffer = 0;
  int32_t socketReceiveBuffer = 0;
  int32_t maxResend = 0;
  int64_t entityTag = -1;
  int64_t lingerNs = 0;
  int64_t untetheredWindowLimitNs = 0;
  int64_t untetheredLingerNs = 0;
  int64_t untetheredRestingNs = 0;
  bool group = false;
  bool rejoin = true;
  bool reliable = true;
  bool sparse = true;
  bool signalEos = true;
  bool spiesSimulateConnection = false;
  bool tether = true;
  bool zeroed = true;
  logbuffer::LogType type = logbuffer::LogType::kConcurrentPublication;
  mode_t mode = 0660;
};

// Backs a range of a file with memory: 0 or an errno. The default is posix_fallocate; tests inject a full volume.
using FileAllocator = std::function<int(int fd, uint64_t offset, uint64_t lengthBytes)>;
int allocateFile(int fd, uint64_t offset, uint64_t lengthBytes);

struct CreatedLog {
  MappedFile file;
  int64_t backedPosition = 0;  // memory exists up to here
};

// kStorageSpace when the volume is full; nothing is left behind then.
Result<CreatedLog> createLog(const LogSpec& spec, const FileAllocator& allocator);

// Backs whole terms so that every position below `toPosition` has memory; `fromPosition` is what exists. 0 or an errno.
int backTerms(int fd, int32_t termLength, int64_t fromPosition, int64_t toPosition, const FileAllocator& allocator);

}  // namespace outrigger::driver
