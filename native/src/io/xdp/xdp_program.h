// SPDX-License-Identifier: Apache-2.0
// The steering program (bpf/steer.bpf.c) on one interface: loaded, attached by a bpf_link, and its maps. Control part only: whoever
// polls an XDP socket never comes here.
// Needs CAP_BPF and CAP_NET_ADMIN to attach and to change a map; the process that owns the link keeps it alive, so it goes with the
// process, unless pinned.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "io/datagram_io.h"

namespace outrigger::io::xdp {

enum class AttachMode : uint8_t {
  kNative,   // in the driver, before the kernel makes a packet of the frame
  kGeneric,  // behind it: any device, slower
};

// Whether this program was built with clang and libbpf.
bool programsAreBuilt();

// Whatever XDP program is on the interface: "program 42 'xdp_dispatcher' (tag 0123456789abcdef, native)". Name and tag need CAP_SYS_ADMIN.
Result<std::optional<std::string>> describeAttachedProgram(uint32_t interfaceIndex);

// Frames by what the program did with them, summed over CPUs: index is enum steer_reason, names beside them.
struct SteerCounter {
  const char* name;
  int64_t frames;
};
constexpr size_t kSteerReasons = 12;

class XdpProgram {
 public:
  struct Options {
    uint32_t interfaceIndex = 0;
    AttachMode mode = AttachMode::kNative;
    bool multiBuffer = false;  // frames longer than a page: BPF_F_XDP_HAS_FRAGS, 5.18
    uint32_t queues = 1;
    uint32_t mtu = 0;   // longer IP packets stay the kernel's; 0: no limit
    uint32_t vlan = 0;  // id of the frames that are ours; 0: untagged
  };

  // Loads and attaches. Never replaces another program: that is EBUSY, and the message names it. EOPNOTSUPP or EINVAL: the device's
  // driver runs no program in this mode, or not with this MTU.
  static Result<XdpProgram> attach(const Options& options);

  // Whether this process may load the program and the kernel takes it; nothing is attached.
  static Result<void> tryLoad(bool multiBuffer);

  // Keeps link and maps beyond this process as files of `directory`, which must exist on a bpffs; and takes them up again there.
  Result<void> pin(const std::string& directory) const;
  static Result<XdpProgram> adopt(const std::string& directory);
  // Removes the files; the program stays attached as long as this object lives.
  static void unpin(const std::string& directory);

  // Sockets of several owners may share the interface: a rule then steers only to queues of its owner, kAnyone's to all.
  static constexpr uint32_t kAnyone = 1;
  Result<void> setSocket(uint32_t queue, int socket, uint32_t owner = kAnyone);
  Result<void> removeSocket(uint32_t queue);                                // idempotent
  Result<void> addRule(const SockAddr& address, uint32_t owner = kAnyone);  // idempotent
  Result<void> removeRule(const SockAddr& address);                         // idempotent
  std::vector<SockAddr> rules() const;
  Result<void> setMtu(uint32_t mtu);
  std::array<SteerCounter, kSteerReasons> counters() const;
  // Frames that a rule would have steered and that only the kernel can take: too long, or perhaps a train. No allocation.
  int64_t framesLeftToKernel() const;

  // False once the interface is gone or someone detached the link.
  bool attached() const;
  // Takes the program off now: what is pinned would keep it, and a removed pin lets go only some time later.
  void detach();

 private:
  Result<void> configure(const Options& options);

  UniqueFd link_;
  UniqueFd rules_;
  UniqueFd owners_;
  UniqueFd sockets_;
  UniqueFd config_;
  UniqueFd counters_;
};

// The XDP link of one of the programs of bpf/echo.bpf.c.
class EchoProgram {
 public:
  // "echo" reflects probes to `port`; "pass" only makes the other end of a veth pair able to reflect.
  static Result<EchoProgram> attach(uint32_t interfaceIndex, AttachMode mode, bool echo, uint16_t port);
  bool attached() const;
  // In the order of enum echo_reason.
  static constexpr size_t kReasons = 5;
  std::array<SteerCounter, kReasons> counters() const;

 private:
  UniqueFd link_;
  UniqueFd counters_;
};

}  // namespace outrigger::io::xdp
