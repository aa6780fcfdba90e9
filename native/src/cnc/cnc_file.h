// SPDX-License-Identifier: Apache-2.0
// Layout of cnc.dat, the command-and-control file between driver and clients (Aeron CnC version 0.2.0), and views of its buffers.
#pragma once

#include <cstdint>
#include <string>

#include "base/fd.h"
#include "base/shared_memory.h"

namespace outrigger::cnc {

constexpr int32_t kCncVersion = 0x000200;  // 0.2.0, written last with release: the file is ready
constexpr size_t kHeaderLength = 128;

namespace field {
constexpr size_t kVersion = 0;
constexpr size_t kToDriverLength = 4;
constexpr size_t kToClientsLength = 8;
constexpr size_t kCountersMetadataLength = 12;
constexpr size_t kCountersValuesLength = 16;
constexpr size_t kErrorLogLength = 20;
constexpr size_t kClientLivenessTimeoutNs = 24;
constexpr size_t kStartTimestampMs = 32;
constexpr size_t kPid = 40;
constexpr size_t kFilePageSize = 48;
}  // namespace field

constexpr size_t kRingTrailerLength = 768;
constexpr size_t kBroadcastTrailerLength = 128;
constexpr const char* kCncFileName = "cnc.dat";
constexpr const char* kLossReportFileName = "loss-report.dat";
constexpr const char* kPublicationsDirName = "publications";
constexpr const char* kImagesDirName = "images";

struct Region {
  uint8_t* data = nullptr;
  size_t length = 0;
};

// Buffer sizes. toDriver and toClients include their trailers. Defaults are far below Aeron's 46 MiB: a driver of a pod has
// hundreds of streams, not tens of thousands, and tmpfs pages count against the pod. Counter metadata is 4 x the values.
struct CncSizes {
  int32_t toDriverLength = 256 * 1024 + static_cast<int32_t>(kRingTrailerLength);
  int32_t toClientsLength = 256 * 1024 + static_cast<int32_t>(kBroadcastTrailerLength);
  int32_t countersValuesLength = 512 * 1024;
  int32_t errorLogLength = 256 * 1024;
  int32_t countersMetadataLength() const { return countersValuesLength * 4; }
};

struct CncRegions {
  Region toDriver;
  Region toClients;
  Region countersMetadata;
  Region countersValues;
  Region errorLog;
  int64_t clientLivenessTimeoutNs = 0;
  int64_t startTimestampMs = 0;
  int64_t pid = 0;
  int32_t filePageSize = 0;
};

// Driver: creates and fills cnc.dat (version still 0), every page backed by memory. publishCnc() writes the version at the end.
Result<MappedFile> createCnc(const std::string& path, const CncSizes& sizes, int64_t clientLivenessTimeoutNs, int64_t startTimestampMs,
                             int64_t pid, int32_t filePageSize, mode_t mode);
void publishCnc(const MappedFile& file);

// Client or tool: validates version and that all lengths fit the file. Errors name the file, the field and the value.
// kResourceTemporarilyUnavailable while the driver has not written the version yet.
Result<CncRegions> mapRegions(const MappedFile& file, const std::string& path);
// Driver: the same of its own file, before the version is written.
Result<CncRegions> mapOwnRegions(const MappedFile& file, const std::string& path);

}  // namespace outrigger::cnc
