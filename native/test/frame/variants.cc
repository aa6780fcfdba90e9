// SPDX-License-Identifier: Apache-2.0
// The FrameIos that the conformance suite runs over.
#include "frame_world.h"
#include "io/dpdk_loader/dpdk_loader.h"
#include "io/packet/packet_io.h"
#include "io/tap/tap_io.h"
#include "io/xdp/xdp_open.h"
#include "io/xdp/xdp_program.h"

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

struct XdpVariant {
  std::string mode = "native";
  uint32_t umemBytes = 4 << 20;
  xdp::Offload transmitChecksum = xdp::Offload::kAuto;
};

class XdpWorld final : public VethWorld {
 public:
  XdpWorld(const WorldOptions& options, XdpVariant variant) : VethWorld(options), variant_(std::move(variant)) { io_ = open(); }
  bool takesEveryVlan() const override { return false; }
  bool takesOpenChecksums() const override { return variant_.mode != "generic"; }

 protected:
  std::unique_ptr<FrameIo> open() override {
    const Inside inside(near_);
    BackendOptions options;
    options.interface = kInterface;
    options.xdpMode = variant_.mode;
    options.umemBytes = variant_.umemBytes;
    options.hugepages = false;  // another test's may be taken
    xdp::XdpAttempt attempt;
    auto parts = xdp::openXdp(options, attempt, variant_.transmitChecksum);
    EXPECT_TRUE(parts.ok()) << parts.error().message;
    if (!parts.ok()) return nullptr;
    auto io = xdp::XdpFrameIo::create(parts.take());
    EXPECT_TRUE(io.ok()) << io.error().message;
    return io.ok() ? io.take() : nullptr;
  }

 private:
  XdpVariant variant_;
};

FrameVariant xdpOf(const std::string& name, const XdpVariant& variant) {
  return {name, [variant](const WorldOptions& world, std::string& why) -> std::unique_ptr<FrameWorld> {
            if (!xdp::programsAreBuilt()) {
              why = "built without clang or libbpf";
              return nullptr;
            }
            return std::make_unique<XdpWorld>(world, variant);
          }};
}

FrameVariant tap(const std::string& name, const TapOptions& options) {
  return {name, [options](const WorldOptions& world, std::string&) { return std::make_unique<TapWorld>(world, options); }};
}

// DPDK's ports over the kernel. On 4 KiB pages, since hugepages are the machine's; one EAL serves all tests of the process.
BackendOptions dpdkOptions(const std::string& device) {
  BackendOptions options;
  options.hugepages = false;
  options.umemBytes = 24 << 20;
  options.dpdkArguments = {"-m", "256", "--vdev=" + device};
  return options;
}

class DpdkPacketWorld final : public VethWorld {
 public:
  DpdkPacketWorld(const WorldOptions& options, uint32_t queues) : VethWorld(options), mtu_(options.mtu), queues_(queues) { io_ = open(); }
  // This driver never asks the kernel.
  bool countsOverflow() const override { return false; }
  // It starts the kernel's sending with each burst, whose first call after the link was down only tells that it was.
  bool sendsAtOnceAfterLinkUp() const override { return false; }

 protected:
  std::unique_ptr<FrameIo> open() override {
    const Inside inside(near_);
    // One slot holds a frame, and all of them a burst that a loaded machine is late for.
    BackendOptions options =
        dpdkOptions(std::string("net_af_packet0,iface=") + kInterface + ",qdisc_bypass=1,framecnt=1024," +
                    (mtu_ > 1500 ? "framesz=16384,blocksz=65536" : "framesz=2048,blocksz=65536") + ",qpairs=" + std::to_string(queues_));
    for (uint32_t queue = 0; queue < queues_; ++queue) options.queues.push_back(queue);
    auto io = openDpdkFrames(options);
    EXPECT_TRUE(io.ok()) << io.error().message;
    if (!io.ok()) return nullptr;
    EXPECT_EQ((*io)->caps().queues, queues_);
    return io.take();
  }

 private:
  uint32_t mtu_;
  uint32_t queues_;
};

// DPDK's own AF_XDP, whose program takes every frame of the interface: one that the kernel does not own, with an exception interface.
class DpdkXdpWorld final : public VethWorld {
 public:
  explicit DpdkXdpWorld(const WorldOptions& options) : VethWorld(options), mtu_(options.mtu) { io_ = open(); }
  bool setExceptionLink(bool up) override { return command(near_, std::string("ip link set except0 ") + (up ? "up" : "down")); }
  bool countsOverflow() const override { return false; }
  // Nothing tells its driver that the link is back.
  bool sendsAtOnceAfterLinkUp() const override { return false; }
  std::string opensOnce() const override {
    return "net_af_xdp leaves the socket of a port that was closed open, and with it the queue taken";
  }

 protected:
  std::unique_ptr<FrameIo> open() override {
    const Inside inside(near_);
    BackendOptions options = dpdkOptions(std::string("net_af_xdp0,iface=") + kInterface);
    options.dpdkMtu = mtu_;
    options.dpdkAddresses = "10.77.0.1/24,fd77::1/64";
    options.dpdkInterface = "except0";
    auto io = openDpdkFrames(options);
    EXPECT_TRUE(io.ok()) << io.error().message;
    return io.ok() ? io.take() : nullptr;
  }

 private:
  uint32_t mtu_;
};

// A device that the kernel does not own, since net_tap's far end is the kernel's interface: with the exception interface that such a device
// has, as a VF under vfio would.
class DpdkTapWorld final : public FrameWorld {
 public:
  explicit DpdkTapWorld(const WorldOptions& options) : mtu_(options.mtu) { io_ = open(); }
  bool setLink(bool up) override { return command(near_, std::string("ip link set wire0 ") + (up ? "up" : "down")); }
  bool setMtu(uint32_t mtu) override { return command(near_, "ip link set wire0 mtu " + std::to_string(mtu)); }
  bool removeInterface() override { return command(near_, "ip link del wire0"); }
  bool setExceptionLink(bool up) override { return command(near_, std::string("ip link set except0 ") + (up ? "up" : "down")); }
  bool countsOverflow() const override { return false; }

 protected:
  std::unique_ptr<FrameIo> open() override {
    const Inside inside(near_);
    BackendOptions options = dpdkOptions("net_tap0,iface=wire0");
    options.dpdkMtu = mtu_;
    options.dpdkAddresses = "10.77.0.1/24,fd77::1/64";
    options.dpdkInterface = "except0";
    auto io = openDpdkFrames(options);
    EXPECT_TRUE(io.ok()) << io.error().message;
    if (!io.ok()) return nullptr;
    // The port and the kernel's side of it would share one MAC address.
    command(near_, "ip link set wire0 address 02:77:00:00:00:02");
    setLink(true);
    far_ = std::make_unique<FarEnd>(near_, "wire0");
    return io.take();
  }

 private:
  const Namespace near_;
  uint32_t mtu_;
};

FrameVariant dpdk(const std::string& name, std::function<std::unique_ptr<FrameWorld>(const WorldOptions&, std::string&)> make) {
  return {name, [make = std::move(make)](const WorldOptions& world, std::string& why) -> std::unique_ptr<FrameWorld> {
            if (const auto module = loadDpdk(); !module) {
              why = module.error().message;
              return nullptr;
            }
            return make(world, why);
          }};
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
  all.push_back(xdpOf("xdpNative", {}));
  all.push_back(xdpOf("xdpGeneric", {.mode = "generic"}));
  // Rings of 256: the suite's bursts just fit.
  all.push_back(xdpOf("xdpNativeWithLittleMemory", {.umemBytes = 1 << 20}));
  all.push_back(xdpOf("xdpNativeWithTransmitChecksum", {.transmitChecksum = xdp::Offload::kOn}));
  all.push_back(dpdk("dpdkAfPacket", [](const WorldOptions& world, std::string&) { return std::make_unique<DpdkPacketWorld>(world, 1); }));
  all.push_back(
      dpdk("dpdkAfPacketTwoQueues", [](const WorldOptions& world, std::string&) { return std::make_unique<DpdkPacketWorld>(world, 2); }));
  all.push_back(dpdk("dpdkXdp", [](const WorldOptions& world, std::string& why) -> std::unique_ptr<FrameWorld> {
    if (world.mtu <= 1500) return std::make_unique<DpdkXdpWorld>(world);
    why = "net_af_xdp takes no frame beyond a page";
    return nullptr;
  }));
  all.push_back(dpdk("dpdkTap", [](const WorldOptions& world, std::string& why) -> std::unique_ptr<FrameWorld> {
    if (world.mtu <= 1500) return std::make_unique<DpdkTapWorld>(world);
    why = "net_tap takes no frame beyond 1522 bytes";
    return nullptr;
  }));
  return all;
}

}  // namespace outrigger::io::testing

// net_af_xdp keeps the handle of each umem that it made with libxdp, which nothing else here uses.
extern "C" const char* __lsan_default_suppressions();
extern "C" const char* __lsan_default_suppressions() { return "leak:xsk_umem__create\n"; }
