// SPDX-License-Identifier: Apache-2.0
#include "nicd/device.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "io/xdp/interface_facts.h"
#include "io/xdp/xdp_plan.h"

namespace outrigger::nicd {

Result<std::unique_ptr<Device>> Device::attach(const Options& options) {
  io::xdp::XdpProgram::Options program;
  program.interfaceIndex = options.netdev.index;
  // In generic mode the kernel makes one buffer of each packet before the program.
  program.multiBuffer = options.mode != XdpMode::kGeneric && options.mtu > io::xdp::kLongestNativeSingle;
  program.queues = io::xdp::readInterfaceFacts(options.netdev).queues;
  program.mtu = options.mtu;
  program.mode = options.mode == XdpMode::kGeneric ? io::xdp::AttachMode::kGeneric : io::xdp::AttachMode::kNative;
  auto attached = io::xdp::XdpProgram::attach(program);
  std::string reason;
  if (!attached && options.mode == XdpMode::kAuto && attached.error().sysErrno != EBUSY && attached.error().sysErrno != EPERM) {
    reason = attached.error().message;
    program.mode = io::xdp::AttachMode::kGeneric;
    program.multiBuffer = false;
    attached = io::xdp::XdpProgram::attach(program);
  }
  if (!attached) return attached.error();
  std::unique_ptr<Device> device(new Device(options.netdev, attached.take()));
  device->generic_ = program.mode == io::xdp::AttachMode::kGeneric;
  device->reason_ = reason;
  if (options.bpfDirectory.empty()) return device;
  const std::string directory = options.bpfDirectory + "/" + entryOf(options.netdev.index);
  unpin(directory);  // of an interface of the same number that is gone
  if (::mkdir(directory.c_str(), 0700) != 0) return makeError(ErrorCode::kGeneric, "cannot make the directory '" + directory + "'", errno);
  if (auto r = device->program_.pin(directory); !r) {
    ::rmdir(directory.c_str());
    return r.error();
  }
  device->pinned_ = directory;
  return device;
}

Result<std::unique_ptr<Device>> Device::adopt(const io::Netdev& netdev, const std::string& bpfDirectory, bool generic) {
  const std::string directory = bpfDirectory + "/" + entryOf(netdev.index);
  auto program = io::xdp::XdpProgram::adopt(directory);
  if (!program) return program.error();
  if (!program->attached()) {
    return makeError(ErrorCode::kGeneric, "the program pinned in '" + directory + "' is no longer attached to an interface");
  }
  std::unique_ptr<Device> device(new Device(netdev, program.take()));
  device->pinned_ = directory;
  device->generic_ = generic;
  return device;
}

void Device::unpin(const std::string& entry) {
  if (auto program = io::xdp::XdpProgram::adopt(entry); program) program->detach();
  io::xdp::XdpProgram::unpin(entry);
  ::rmdir(entry.c_str());
}

void Device::discard() {
  program_.detach();
  if (!pinned_.empty()) unpin(pinned_);
  pinned_.clear();
}

}  // namespace outrigger::nicd
