// SPDX-License-Identifier: Apache-2.0
// `outrigger capture`: hands the frames of a raw backend to whoever connects to `capture.sock` in the driver's directory, as pcapng. Costs nothing
// until then: one thread that sleeps. One capture at a time; it ends when its client closes its side, and follows the driver to another backend.
//
// The client sends a line, "capture snaplen=N\n", and is answered a line, "ok\n" or "error: why\n"; after "ok" the file follows until the end of
// the stream. Frames that find no room are counted, never waited for, and stand in the statistics at the end of the file.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "io/capture/capture_tap.h"

namespace outrigger::driver {

class CaptureService {
 public:
  static constexpr const char* kSocketName = "capture.sock";

  // Fails naming the socket, when it can't be made.
  static Result<std::unique_ptr<CaptureService>> start(const std::string& directory, mode_t mode);
  ~CaptureService();
  CaptureService(const CaptureService&) = delete;
  CaptureService& operator=(const CaptureService&) = delete;

  // Any thread. What is to be seen from now on: the taps of this backend, none when it has no frames of its own to show: those of
  // sockets are the kernel's, those of verbs the RDMA device's.
  void show(std::string backend, std::vector<std::shared_ptr<io::CaptureTap>> taps);

 private:
  struct Client;
  struct Shown {
    uint64_t generation = 0;
    std::string backend;
    std::vector<std::shared_ptr<io::CaptureTap>> taps;
  };

  CaptureService() = default;
  void run();
  void serve(UniqueFd connection);
  void refuseOthers();
  Shown shown();
  bool ending() const { return ending_.load(std::memory_order_acquire); }

  std::string path_;
  UniqueFd listening_;
  UniqueFd wake_;
  std::atomic<bool> ending_{false};
  std::mutex mutex_;
  Shown shown_;
  std::thread thread_;
};

}  // namespace outrigger::driver
