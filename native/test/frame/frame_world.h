// SPDX-License-Identifier: Apache-2.0
// A FrameIo under test with the wire and the far end around it. To bring a backend in: derive from VethWorld (or FrameWorld), say how
// it opens, and add a line to frameVariants() in variants.cc.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "far_end.h"
#include "io/frame/frame_io.h"

namespace outrigger::io::testing {

struct WorldOptions {
  uint32_t mtu = 1500;
};

class FrameWorld {
 public:
  virtual ~FrameWorld() = default;
  FrameIo& io() { return *io_; }
  bool isOpen() const { return io_ != nullptr; }
  FarEnd& far() { return *far_; }

  // Closes the instance and opens it again, with whatever was under way.
  void reopen() {
    io_.reset();
    io_ = open();
    ASSERT_NE(io_, nullptr);
  }
  void close() { io_.reset(); }

  virtual bool setLink(bool up) = 0;
  virtual bool setMtu(uint32_t mtu) = 0;
  virtual bool removeInterface() = 0;
  // The kernel's interface for what is not ours, where caps().exceptionPath says that there is one.
  virtual bool setExceptionLink(bool) { return false; }
  // Whether frames that find no room on the way in show in the statistics.
  virtual bool countsOverflow() const { return true; }
  // Whether frames of any VLAN come up to the stack; if not, those of other VLANs stay the kernel's.
  virtual bool takesEveryVlan() const { return true; }
  // Whether datagrams come up whose checksum a sender on this machine left open; if not, the kernel's socket gets them.
  virtual bool takesOpenChecksums() const { return true; }
  // Whether the first frame after the link came up needs no second one behind it to get out.
  virtual bool sendsAtOnceAfterLinkUp() const { return true; }
  // Why a process can't open it a second time, empty when it can.
  virtual std::string opensOnce() const { return {}; }

 protected:
  virtual std::unique_ptr<FrameIo> open() = 0;
  std::unique_ptr<FarEnd> far_;
  std::unique_ptr<FrameIo> io_;
};

// Two namespaces and a veth pair: "near0", where the backend opens, and "far0".
class VethWorld : public FrameWorld {
 public:
  static constexpr const char* kInterface = "near0";

  explicit VethWorld(const WorldOptions& options) {
    const std::string mtu = std::to_string(options.mtu);
    if (!command(near_, "ip link add near0 mtu " + mtu + " type veth peer name far0 mtu " + mtu + " netns " + farSpace_.path())) return;
    prepare();
    command(near_, "ip link set near0 up");
    command(farSpace_, "ip link set far0 up");
    far_ = std::make_unique<FarEnd>(farSpace_, "far0");
  }

  // Up: once the far end sends again.
  bool setLink(bool up) override {
    return command(near_, std::string("ip link set near0 ") + (up ? "up" : "down")) && (!up || awaitSending(farSpace_, "far0"));
  }
  bool setMtu(uint32_t mtu) override { return command(near_, "ip link set near0 mtu " + std::to_string(mtu)); }
  bool removeInterface() override { return command(near_, "ip link del near0"); }

 protected:
  // Between the making of the pair and its start.
  virtual void prepare() {}

  const Namespace near_;
  const Namespace farSpace_;
};

struct FrameVariant {
  std::string name;
  // A world whose io() is open. Null with `why` when the backend can't be had here.
  std::function<std::unique_ptr<FrameWorld>(const WorldOptions& options, std::string& why)> make;
};
inline std::ostream& operator<<(std::ostream& out, const FrameVariant& variant) { return out << variant.name; }

std::vector<FrameVariant> frameVariants();

}  // namespace outrigger::io::testing
