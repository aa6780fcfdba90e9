// SPDX-License-Identifier: Apache-2.0
// Directory take-over and removal.
#include "driver/driver_directory.h"

#include <dirent.h>
#include <sys/file.h>

#include <cerrno>
#include <ctime>

#include "cnc/cnc_file.h"
#include "cnc/doorbells.h"
#include "cnc/mpsc_ring.h"
#include "driver/backend_choice.h"
#include "driver/capture_service.h"

namespace outrigger::driver {
namespace {

// mkdir -p; parents get the usual mode.
int makeDirectories(const std::string& path, mode_t mode) {
  if (::mkdir(path.c_str(), mode) == 0) return 0;
  if (errno != ENOENT) return errno;
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos || slash == 0) return ENOENT;
  if (const int err = makeDirectories(path.substr(0, slash), 0755); err != 0 && err != EEXIST) return err;
  return ::mkdir(path.c_str(), mode) == 0 ? 0 : errno;
}

bool removeFile(const std::string& path) { return ::unlink(path.c_str()) == 0 || errno == ENOENT; }

bool removeLogs(const std::string& path) {
  DIR* directory = ::opendir(path.c_str());
  if (directory == nullptr) return errno == ENOENT;
  bool removed = true;
  while (const dirent* entry = ::readdir(directory)) {
    const std::string name = entry->d_name;
    // ".tmp" and the like: logs that were being made when their driver died.
    if (name.find(".logbuffer") != std::string::npos) removed = removeFile(path + "/" + name) && removed;
  }
  ::closedir(directory);
  // Foreign files keep it, and that is as well.
  return (::rmdir(path.c_str()) == 0 || errno == ENOENT || errno == ENOTEMPTY || errno == EEXIST) && removed;
}

// A FIFO of the doorbells that nobody reads: only the driver ever opens it for reading, so its driver is gone.
bool doorbellsAreDead(const std::string& directory, bool& exist) {
  const std::string fifo = directory + "/doorbell-0";
  struct stat st {};
  exist = ::lstat(fifo.c_str(), &st) == 0 && S_ISFIFO(st.st_mode);
  if (!exist) return false;
  const UniqueFd fd(::open(fifo.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC));
  return !fd.valid() && errno == ENXIO;
}

Error inDirectory(const std::string& path, const std::string& what, int err = 0) {
  return makeError(ErrorCode::kGeneric, "driver directory '" + path + "': " + what, err);
}

}  // namespace

DriverActivity driverActivity(const std::string& directory, int64_t nowMs, int64_t timeoutMs) {
  DriverActivity activity;
  bool hasDoorbells = false;
  if (doorbellsAreDead(directory, hasDoorbells)) {
    activity.why = "nobody reads its doorbells";
    return activity;
  }
  const std::string path = directory + "/" + cnc::kCncFileName;
  auto file = MappedFile::open(path, false);
  if (!file) {
    activity.why = file.error().message;
    return activity;
  }
  auto regions = cnc::mapRegions(*file, path);
  if (!regions) {
    // Not initialised: its driver is starting, or died doing so.
    struct stat st {};
    const bool young = ::fstat(file->fd(), &st) == 0 && nowMs - static_cast<int64_t>(st.st_mtime) * 1000 < timeoutMs;
    activity.active = regions.error().code == ErrorCode::kResourceTemporarilyUnavailable ? young : true;
    activity.why = regions.error().message;
    return activity;
  }
  const int64_t heartbeatMs = cnc::MpscRing(regions->toDriver).consumerHeartbeatMs();
  const std::string pid = " (pid " + std::to_string(regions->pid) + ")";
  if (heartbeatMs <= 0) {
    activity.why = "its driver" + pid + (heartbeatMs < 0 ? " has ended" : " never had a heartbeat");
    return activity;
  }
  activity.active = nowMs - heartbeatMs < timeoutMs;
  activity.why = "its driver's last heartbeat" + pid + " is " + std::to_string(nowMs - heartbeatMs) + " ms old";
  return activity;
}

bool removeDriverFiles(const std::string& directory) {
  bool removed = removeFile(directory + "/" + cnc::kCncFileName);
  removed = removeFile(directory + "/" + cnc::kLossReportFileName) && removed;
  removed = removeFile(directory + "/" + cnc::Doorbells::kFileName) && removed;
  removed = removeFile(directory + "/" + BackendNote::kFileName) && removed;
  removed = removeFile(directory + "/" + CaptureService::kSocketName) && removed;
  removed = removeFile(directory + "/" + BackendNote::kFileName + BackendNote::kFreshSuffix) && removed;
  for (int32_t fifo = 0; fifo < cnc::Doorbells::kAgentCount; ++fifo) {
    removed = removeFile(directory + "/doorbell-" + std::to_string(fifo)) && removed;
  }
  removed = removeLogs(directory + "/" + cnc::kPublicationsDirName) && removed;
  return removeLogs(directory + "/" + cnc::kImagesDirName) && removed;
}

Result<DriverDirectory> DriverDirectory::take(const DriverConfig& config, int64_t nowMs, std::vector<std::string>& notices) {
  DriverDirectory taken;
  taken.path_ = config.directory;
  const std::string& path = taken.path_;
  if (path.empty()) return makeError(ErrorCode::kGeneric, "no driver directory is named: set AERON_DIR");

  struct stat st {};
  if (::stat(path.c_str(), &st) == 0) {
    if (!S_ISDIR(st.st_mode)) return inDirectory(path, "is a file; name a directory with AERON_DIR");
    if (config.warnIfDirectoryExists) notices.push_back("driver directory '" + path + "' exists");
    const bool hasCnc = ::access((path + "/" + cnc::kCncFileName).c_str(), F_OK) == 0;
    if (hasCnc && !config.deleteDirectoryOnStart) {
      const DriverActivity activity = driverActivity(path, nowMs, config.driverTimeoutMs);
      if (activity.active) {
        return inDirectory(path, "an active driver is in it: " + activity.why +
                                     "; stop it, or name another directory with AERON_DIR, or set AERON_DIR_DELETE_ON_START=true");
      }
      notices.push_back("driver directory '" + path + "' of a dead driver is taken over: " + activity.why);
    }
    // Without cnc.dat there was no driver, or it was tidy; leftovers of a half-made one go as well.
    UniqueFd lock(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!lock.valid()) return inDirectory(path, "cannot be opened", errno);
    const bool locked = ::flock(lock.get(), LOCK_EX | LOCK_NB) == 0;
    if (!locked && !config.deleteDirectoryOnStart) return inDirectory(path, "another driver is starting or ending in it");
    if (!removeDriverFiles(path)) return inDirectory(path, "what a dead driver left cannot be removed", errno);
    if (::rmdir(path.c_str()) != 0) {
      // A mount point, or somebody else's files in it: it stays as it is.
      if (!locked) return inDirectory(path, "another driver holds it");
      taken.lock_ = std::move(lock);
    }
  } else if (errno != ENOENT && errno != ENOTDIR) {
    return inDirectory(path, "cannot be looked at", errno);
  }

  if (!taken.lock_.valid()) {
    if (const int err = makeDirectories(path, config.directoryMode); err != 0) return inDirectory(path, "cannot be made", err);
    taken.created_ = true;
    taken.lock_ = UniqueFd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!taken.lock_.valid()) return inDirectory(path, "cannot be opened", errno);
    if (::flock(taken.lock_.get(), LOCK_EX | LOCK_NB) != 0) return inDirectory(path, "another driver is starting in it");
  }
  if (::fstat(taken.lock_.get(), &st) != 0) return inDirectory(path, "cannot be looked at", errno);
  taken.device_ = st.st_dev;
  taken.inode_ = st.st_ino;

  // Past the umask, so that clients of the group get in. A directory of somebody else (a mounted volume) keeps what it has.
  if (::fchmod(taken.lock_.get(), config.directoryMode) != 0 && errno != EPERM) {
    return inDirectory(path, "its mode cannot be set", errno);
  }
  for (const char* name : {cnc::kPublicationsDirName, cnc::kImagesDirName}) {
    const std::string child = path + "/" + name;
    if (::mkdir(child.c_str(), config.directoryMode) != 0 && errno != EEXIST) return inDirectory(child, "cannot be made", errno);
    if (::chmod(child.c_str(), config.directoryMode) != 0) return inDirectory(child, "its mode cannot be set", errno);
  }
  return taken;
}

bool DriverDirectory::remove(bool evenIfOlder) {
  if (!lock_.valid()) return false;
  struct stat st {};
  const bool ours = ::stat(path_.c_str(), &st) == 0 && st.st_dev == device_ && st.st_ino == inode_;
  if (ours) {
    removeDriverFiles(path_);
    if (created_ || evenIfOlder) ::rmdir(path_.c_str());
  }
  lock_.reset();
  return ours;
}

}  // namespace outrigger::driver
