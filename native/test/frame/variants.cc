// SPDX-License-Identifier: Apache-2.0
// The FrameIos that the conformance suite runs over.
#include "frame_world.h"
#include "io/packet/packet_io.h"
#include "io/tap/tap_io.h"

namespace outrigger::io::testing {
namespace {

class PacketWorld final : public VethWorld {
 public:
  PacketWorld(const WorldOptions& options, PacketOptions packet) : VethWorld(options), packet_(std::move(packet)) {
    packet_.interface = kInterface;
    // Small, so that the rings come around often.
    packet_.receiveBytes = 1 << 20;
    packet_.transmitBytes = 1 << 20;
    io_ = open();
  }

 protected:
  std::unique_ptr<FrameIo> open() override {
    const Inside inside(near_);
    auto io = PacketIo::open(packet_);
    EXPECT_TRUE(io.ok()) << io.error().message;
    return io.ok() ? io.take() : nullptr;
  }

 private:
  PacketOptions packet_;
};

FrameVariant packet(const std::string& name, const PacketOptions& options) {
  return {name, [options](const WorldOptions& world, std::string&) { return std::make_unique<PacketWorld>(world, options); }};
}

// The far end is the kernel's side of the interface.
class TapWorld final : public FrameWorld {
 public:
  TapWorld(const WorldOptions& options, TapOptions tap) : tap_(std::move(tap)), mtu_(options.mtu) {
    tap_.name = "tap0";
    io_ = open();
  }
  bool setLink(bool up) override { return command(near_, std::string("ip link set tap0 ") + (up ? "up" : "down")); }
  bool setMtu(uint32_t mtu) override { return command(near_, "ip link set tap0 mtu " + std::to_string(mtu)); }
  bool removeInterface() override { return command(near_, "ip link del tap0"); }
  // The interface counts them, together with what the filter leaves out.
  bool countsOverflow() const override { return false; }

 protected:
  std::unique_ptr<FrameIo> open() override {
    const Inside inside(near_);
    auto io = TapIo::open(tap_);
    EXPECT_TRUE(io.ok()) << io.error().message;
    if (!io.ok()) return nullptr;
    setMtu(mtu_);
    setLink(true);
    far_ = std::make_unique<FarEnd>(near_, "tap0");
    return io.take();
  }

 private:
  const Namespace near_;
  TapOptions tap_;
  uint32_t mtu_;
};

FrameVariant tap(const std::string& name, const TapOptions& options) {
  return {name, [options](const WorldOptions& world, std::string&) { return std::make_unique<TapWorld>(world, options); }};
}

}  // namespace

std::vector<FrameVariant> frameVariants() {
  std::vector<FrameVariant> all;
  PacketOptions options;
  all.push_back(packet("packetV2", options));
  options.segmentation = false;
  all.push_back(packet("packetV2WithoutSegmentation", options));
  options.segmentation = true;
  options.receiveSockets = 2;
  all.push_back(packet("packetV2Fanout", options));
  options.receiveSockets = 1;
  options.lowLatency = false;
  all.push_back(packet("packetV3", options));
  options.lowLatency = true;
  options.vnetHeader = false;
  all.push_back(packet("packetV2WithoutVnetHeader", options));
  TapOptions tapOptions;
  all.push_back(tap("tap", tapOptions));
  tapOptions.vnetHeader = false;
  all.push_back(tap("tapWithoutVnetHeader", tapOptions));
  return all;
}

}  // namespace outrigger::io::testing
