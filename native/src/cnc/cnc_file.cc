// SPDX-License-Identifier: Apache-2.0
// Creating and opening cnc.dat.
#include "cnc/cnc_file.h"

namespace outrigger::cnc {

Result<MappedFile> createCnc(const std::string& path, const CncSizes& sizes, int64_t clientLivenessTimeoutNs, int64_t startTimestampMs,
                             int64_t pid, int32_t filePageSize, mode_t mode) {
  const uint64_t sum = kHeaderLength + static_cast<uint64_t>(sizes.toDriverLength) + static_cast<uint64_t>(sizes.toClientsLength) +
                       static_cast<uint64_t>(sizes.countersMetadataLength()) + static_cast<uint64_t>(sizes.countersValuesLength) +
                       static_cast<uint64_t>(sizes.errorLogLength);
  const uint64_t length = alignUp<uint64_t>(sum, static_cast<uint64_t>(filePageSize));
  auto file = MappedFile::create(path, length, mode);
  if (!file) return file;
  // Clients write here without asking: every page must exist before the first of them maps it, or a full volume is SIGBUS.
  if (const int err = file->allocate(0, length); err != 0) {
    ::unlink(path.c_str());
    return makeError(ErrorCode::kStorageSpace,
                     "no room for '" + path + "' (" + std::to_string(length) + " bytes); enlarge the memory volume", err);
  }
  uint8_t* base = file->data();
  writeAt<int32_t>(base, field::kToDriverLength, sizes.toDriverLength);
  writeAt<int32_t>(base, field::kToClientsLength, sizes.toClientsLength);
  writeAt<int32_t>(base, field::kCountersMetadataLength, sizes.countersMetadataLength());
  writeAt<int32_t>(base, field::kCountersValuesLength, sizes.countersValuesLength);
  writeAt<int32_t>(base, field::kErrorLogLength, sizes.errorLogLength);
  writeAt<int64_t>(base, field::kClientLivenessTimeoutNs, clientLivenessTimeoutNs);
  writeAt<int64_t>(base, field::kStartTimestampMs, startTimestampMs);
  writeAt<int64_t>(base, field::kPid, pid);
  writeAt<int32_t>(base, field::kFilePageSize, filePageSize);
  return file;
}

void publishCnc(const MappedFile& file) { storeRelease<int32_t>(file.data() + field::kVersion, kCncVersion); }

Result<CncRegions> mapRegions(const MappedFile& file, const std::string& path) {
  if (file.length() < kHeaderLength) {
    return makeError(ErrorCode::kResourceTemporarilyUnavailable, "'" + path + "' is shorter than its header");
  }
  const uint8_t* base = file.data();
  const auto version = loadAcquire<int32_t>(base + field::kVersion);
  if (version == 0) return makeError(ErrorCode::kResourceTemporarilyUnavailable, "'" + path + "' is not initialised yet");
  if ((version & ~0xFF) != (kCncVersion & ~0xFF)) {
    return makeError(ErrorCode::kNotSupported, "'" + path + "' has CnC version " + std::to_string(version >> 16) + "." +
                                                   std::to_string((version >> 8) & 0xFF) + "." + std::to_string(version & 0xFF) +
                                                   ", this client speaks 0.2.x");
  }
  return mapOwnRegions(file, path);
}

Result<CncRegions> mapOwnRegions(const MappedFile& file, const std::string& path) {
  const uint8_t* base = file.data();
  CncRegions regions;
  uint64_t offset = kHeaderLength;
  const auto take = [&](size_t lengthField, Region& region) {
    const auto length = readAt<int32_t>(base, lengthField);
    if (length <= 0 || offset + static_cast<uint64_t>(length) > file.length()) return false;
    region = {file.data() + offset, static_cast<size_t>(length)};
    offset += static_cast<uint64_t>(length);
    return true;
  };
  if (!take(field::kToDriverLength, regions.toDriver) || !take(field::kToClientsLength, regions.toClients) ||
      !take(field::kCountersMetadataLength, regions.countersMetadata) || !take(field::kCountersValuesLength, regions.countersValues) ||
      !take(field::kErrorLogLength, regions.errorLog)) {
    return makeError(ErrorCode::kGeneric,
                     "'" + path + "' names a buffer that does not fit its " + std::to_string(file.length()) + " bytes");
  }
  if (!isPowerOfTwo(static_cast<int64_t>(regions.toDriver.length - kRingTrailerLength)) ||
      !isPowerOfTwo(static_cast<int64_t>(regions.toClients.length - kBroadcastTrailerLength))) {
    return makeError(ErrorCode::kGeneric, "'" + path + "' names a ring whose capacity is no power of two");
  }
  regions.clientLivenessTimeoutNs = readAt<int64_t>(base, field::kClientLivenessTimeoutNs);
  regions.startTimestampMs = readAt<int64_t>(base, field::kStartTimestampMs);
  regions.pid = readAt<int64_t>(base, field::kPid);
  regions.filePageSize = readAt<int32_t>(base, field::kFilePageSize);
  return regions;
}

}  // namespace outrigger::cnc
