// SPDX-License-Identifier: Apache-2.0
// Two hosts of the conformance suite, network namespaces joined by a veth pair, for backends that have an interface of their own.
#pragma once

#include <sched.h>

#include <atomic>

#include "conformance_world.h"
#include "forwarding_io.h"
#include "frame/net_world.h"
#include "io/dpdk_loader/dpdk_loader.h"
#include "io/xdp/xdp_program.h"

namespace outrigger::io::testing {

// Everything in the namespace of its host: what is opened there stays there.
class HostIo final : public outrigger::testing::ForwardingIo {
 public:
  HostIo(std::unique_ptr<DatagramIo> io, const Namespace& host) : ForwardingIo(std::move(io)), host_(host) {}

  Result<std::unique_ptr<Endpoint>> openEndpoint(const EndpointConfig& config) override {
    const Inside inside(host_);
    return inner().openEndpoint(config);
  }
  Result<std::unique_ptr<NextHop>> resolve(Endpoint& endpoint, const SockAddr& destination) override {
    const Inside inside(host_);
    return inner().resolve(endpoint, destination);
  }

 private:
  const Namespace& host_;
};

class VethWorld final : public World {
 public:
  VethWorld(std::string backend, BackendOptions options)
      : backend_(std::move(backend)), options_(std::move(options)), refusal_(namespaceRefusal()) {
    if (backend_ == "xdp" && !xdp::programsAreBuilt()) refusal_ = "built without clang or libbpf";
    if (backend_ == "dpdk") {
      if (const auto module = loadDpdk(); !module) refusal_ = module.error().message;
    }
    if (!refusal_.empty()) return;
    sender_ = std::make_unique<Namespace>();
    receiver_ = std::make_unique<Namespace>();
    options_.interface = "eth0";
    command(*sender_, "ip link add eth0 address " + mac(Side::kSender) + " type veth peer name eth0 address " + mac(Side::kReceiver) +
                          " netns " + receiver_->path());
    for (const Side side : {Side::kSender, Side::kReceiver}) {
      command(at(side), "ip link set lo up");
      command(at(side), "ip link set eth0 up");
      command(at(side), "ip address add " + host(side, false) + "/24 dev eth0");
      command(at(side), "ip address add " + host(side, true) + "/64 dev eth0 nodad");
      introduce(side);
    }
  }

  std::string refusal() const override { return refusal_; }
  std::unique_ptr<DatagramIo> makeIo(Side side) override { return make(side, backend_); }
  // An interface has room for one XDP program, and two of DPDK's ports over the packet sockets of one interface in one process share out its
  // frames: what stands beside these is another backend.
  std::unique_ptr<DatagramIo> makeAnother(Side side) override {
    return make(side, backend_ == "xdp" || backend_ == "dpdk" ? "mmsg" : backend_);
  }
  std::string host(Side side, bool v6) const override {
    return std::string(v6 ? "fd88::" : "10.88.0.") + (side == Side::kSender ? "1" : "2");
  }
  int64_t nowNs() override {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<int64_t>(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
  }
  bool hasSocketBuffers() const override { return false; }
  bool await(DatagramIo& io) override {
    if (!io.arm()) return true;
    if (io.waitHandle() < 0) return spin(io);
    pollfd handle{io.waitHandle(), POLLIN, 0};
    return ::poll(&handle, 1, kPatienceMs) > 0;
  }

 private:
  // For a device without interrupts.
  bool spin(DatagramIo& io) {
    const int64_t deadline = nowNs() + int64_t{kPatienceMs} * 1'000'000;
    while (io.arm()) {
      if (nowNs() >= deadline) return false;
      ::sched_yield();
    }
    return true;
  }
  // On DPDK's port over the kernel's packet sockets, each instance on one of its own; on 4 KiB pages, since hugepages are the machine's.
  static void onPacketSockets(BackendOptions& options) {
    static std::atomic<uint32_t> devices{0};
    options.hugepages = false;
    options.umemBytes = 24 << 20;
    const std::string device = "net_af_packet" + std::to_string(devices++);
    options.dpdkArguments = {"-m", "256",
                             "--vdev=" + device + ",iface=" + options.interface + ",qdisc_bypass=1,framecnt=1024,blocksz=65536"};
  }
  static Side other(Side side) { return side == Side::kSender ? Side::kReceiver : Side::kSender; }
  // Each knows the other: how neighbours are found is not this suite's subject.
  void introduce(Side side) const {
    for (const bool v6 : {false, true}) {
      command(at(side), "ip neighbour replace " + host(other(side), v6) + " lladdr " + mac(other(side)) + " nud permanent dev eth0");
    }
  }
  // DPDK sets a port's MAC address anew when it starts it, even to the same, upon which the kernel forgets the interface's neighbours, the
  // permanent ones too. Returns once the instance has heard of them again.
  void introduceAgain(Side side, DatagramIo& io) {
    introduce(side);
    for (const bool v6 : {false, true}) {
      const auto from = openAt(io, address(host(side, v6)));
      ASSERT_NE(from, nullptr);
      const SockAddr to = address(host(other(side), v6), from->localAddress().port());
      const int64_t deadline = nowNs() + int64_t{kPatienceMs} * 1'000'000;
      // The kernel may be asked for a neighbour once in a while: what is had twice at one time goes by the device.
      const auto had = [&] {
        TxSlot slot;
        if (io.reserve(*from, to, 1, slot) != TxStatus::kPending) return false;
        io.abort(*from, slot);
        return true;
      };
      while (!(had() && had())) {
        ASSERT_LT(nowNs(), deadline) << "no neighbour " << to.toString();
        ::sched_yield();
      }
      io.detach(*from);
    }
  }
  static std::string mac(Side side) { return side == Side::kSender ? "02:00:00:00:88:01" : "02:00:00:00:88:02"; }
  std::unique_ptr<DatagramIo> make(Side side, const std::string& backend) {
    const Inside inside(at(side));
    BackendOptions options = options_;
    if (backend == "dpdk") onPacketSockets(options);
    auto pair = openPair(backend, options);
    EXPECT_TRUE(pair.ok()) << pair.error().message;
    if (!pair.ok()) return nullptr;
    auto io = std::make_unique<HostIo>(side == Side::kSender ? std::move(pair->sender) : std::move(pair->receiver), at(side));
    if (backend == "dpdk") introduceAgain(side, *io);
    return io;
  }
  const Namespace& at(Side side) const { return side == Side::kSender ? *sender_ : *receiver_; }

  std::string backend_;
  BackendOptions options_;
  std::string refusal_;
  std::unique_ptr<Namespace> sender_;
  std::unique_ptr<Namespace> receiver_;
};

}  // namespace outrigger::io::testing
