// SPDX-License-Identifier: Apache-2.0
// The distinct error log of cnc.dat and the loss report file, in Aeron's layouts: one record per distinct observation, with counts.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/shared_memory.h"
#include "cnc/cnc_file.h"

namespace outrigger::cnc {

struct ErrorObservation {
  int32_t count = 0;
  int64_t firstMs = 0;
  int64_t lastMs = 0;
  std::string text;
};

// Record: int32 length, int32 observation count, int64 last ms, int64 first ms, text; 8-aligned. One writer thread (the conductor: other
// agents send it their errors).
class ErrorLog {
 public:
  ErrorLog() = default;
  explicit ErrorLog(Region region) : region_(region) {}

  // False when the log is full and the text is new: the caller's kErrors counter still counts it.
  bool record(std::string_view text, int64_t nowMs);
  static std::vector<ErrorObservation> read(Region region);

 private:
  Region region_;
  size_t nextOffset_ = 0;
  struct Known {
    std::string text;
    size_t offset;
  };
  std::vector<Known> known_;
};

struct LossEntry {
  int64_t observations = 0;
  int64_t bytesLost = 0;
  int64_t firstMs = 0;
  int64_t lastMs = 0;
  int32_t sessionId = 0;
  int32_t streamId = 0;
  std::string channel;
  std::string source;
};

// Record: int64 observations, int64 bytes, int64 first ms, int64 last ms, int32 session, int32 stream, int32-prefixed channel and
// source; 64-aligned. Entries are created by the conductor or receiver (one thread) and updated in place.
class LossReport {
 public:
  LossReport() = default;
  explicit LossReport(Region region) : region_(region) {}

  // Offset of a new entry with one observation, or -1 when full.
  int64_t create(int64_t bytesLost, int64_t nowMs, int32_t sessionId, int32_t streamId, std::string_view channel, std::string_view source);
  void update(int64_t offset, int64_t bytesLost, int64_t nowMs) const;
  static std::vector<LossEntry> read(Region region);

 private:
  Region region_;
  size_t nextOffset_ = 0;
};

constexpr size_t kLossReportLength = 1024 * 1024;

}  // namespace outrigger::cnc
