// SPDX-License-Identifier: Apache-2.0
// The driver's directory: taking it over from a dead driver, never from a live one; making it usable by other users of its group; removing
// what was put there. Only names that a driver makes are ever removed: a directory named by mistake loses nothing else.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "driver/driver_config.h"

namespace outrigger::driver {

class DriverDirectory {
 public:
  // The directory, empty of driver files, with publications/ and images/ in it. Fails naming it when an active driver is in it or when it
  // cannot be made. `notices` gets a line for each thing an operator may want to know.
  static Result<DriverDirectory> take(const DriverConfig& config, int64_t nowMs, std::vector<std::string>& notices);

  DriverDirectory() = default;
  DriverDirectory(DriverDirectory&&) = default;
  DriverDirectory& operator=(DriverDirectory&&) = default;

  const std::string& path() const { return path_; }
  // Removes driver files, and the directory when this driver made it or `evenIfOlder`. False when somebody else has taken it over since.
  bool remove(bool evenIfOlder);

 private:
  std::string path_;
  UniqueFd lock_;  // flock: two drivers never start in one directory at once
  bool created_ = false;
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

// What a directory holds, as far as its files tell.
struct DriverActivity {
  bool active = false;
  std::string why;  // "its heartbeat is 120 ms old (pid 17)"
};
// `timeoutMs`: a heartbeat at least this old is a dead driver's. A driver with doorbells whose FIFOs nobody reads is dead at once.
DriverActivity driverActivity(const std::string& directory, int64_t nowMs, int64_t timeoutMs);

// Removes cnc.dat, loss report, doorbells and log buffers. Returns false when something could not be removed (errno says why).
bool removeDriverFiles(const std::string& directory);

}  // namespace outrigger::driver
