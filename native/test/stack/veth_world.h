// SPDX-License-Identifier: Apache-2.0
// A NetStack over AF_PACKET (or what a test derives) in one network namespace, plain kernel sockets in another, a veth pair between: what only a real kernel shows.
#pragma once

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <functional>

#include "frame/net_world.h"
#include "io/packet/packet_io.h"
#include "net/netlink_tables.h"
#include "stack_world.h"

namespace outrigger::io::testing {

constexpr int kPatienceMs = 20'000;  // reaching it is a failure, not a measurement

inline int64_t monotonicNs() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<int64_t>(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
}

// A kernel UDP socket of the far host.
class FarSocket {
 public:
  FarSocket(const Namespace& where, const SockAddr& bind) {
    const Inside inside(where);
    fd_ = UniqueFd(::socket(bind.family(), SOCK_DGRAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(::bind(fd_.get(), bind.get(), bind.length), 0) << std::strerror(errno);
    address.length = sizeof(address.storage);
    ::getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&address.storage), &address.length);
  }
  int fd() const { return fd_.get(); }
  void set(int level, int option, int value) { EXPECT_EQ(::setsockopt(fd_.get(), level, option, &value, sizeof(value)), 0); }
  void send(const SockAddr& to, const Bytes& bytes) {
    EXPECT_EQ(::sendto(fd_.get(), bytes.data(), bytes.size(), 0, to.get(), to.length), static_cast<ssize_t>(bytes.size()))
        << std::strerror(errno);
  }
  // The next datagram; empty when none comes.
  Bytes receive() {
    pollfd handle{fd_.get(), POLLIN, 0};
    if (::poll(&handle, 1, kPatienceMs) <= 0) return {};
    Bytes bytes(65536);
    const ssize_t length = ::recv(fd_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    bytes.resize(length > 0 ? static_cast<size_t>(length) : 0);
    return bytes;
  }

  SockAddr address;

 private:
  UniqueFd fd_;
};

class StackOverVeth : public ::testing::Test {
 protected:
  static constexpr const char* kNear = "10.92.0.1";
  static constexpr const char* kFar = "10.92.0.2";
  static constexpr const char* kNearV6 = "fd92::1";
  static constexpr const char* kFarV6 = "fd92::2";

  void SetUp() override {
    if (const std::string refusal = namespaceRefusal(); !refusal.empty()) GTEST_SKIP() << refusal;
    near_ = std::make_unique<Namespace>();
    far_ = std::make_unique<Namespace>();
    withoutDad(*near_);
    withoutDad(*far_);
    near("ip link add near0 type veth peer name far0 netns " + far_->path());
    for (const char* device : {"lo", "near0"}) near(std::string("ip link set ") + device + " up");
    for (const char* device : {"lo", "far0"}) far(std::string("ip link set ") + device + " up");
    prepareLinks();
    if (IsSkipped() || HasFatalFailure()) return;
    near("ip addr add 10.92.0.1/24 dev " + nearDevice_);
    near("ip addr add fd92::1/64 dev " + nearDevice_ + " nodad");
    far("ip addr add 10.92.0.2/24 dev " + farDevice_);
    far("ip addr add fd92::2/64 dev " + farDevice_ + " nodad");
    openStack();
  }
  // The ends of the pair are up, and have no addresses yet.
  virtual void prepareLinks() {}

  // Addresses of links that are made there are good at once, and no notification comes of it two seconds later.
  static void withoutDad(const Namespace& where) {
    const Inside inside(where);
    for (const char* scope : {"all", "default"}) writeFile(("/proc/sys/net/ipv6/conf/" + std::string(scope) + "/accept_dad").c_str(), "0");
  }

  // On nearDevice_.
  virtual Result<std::unique_ptr<FrameIo>> openDevice() {
    PacketOptions packetOptions;
    packetOptions.interface = nearDevice_;
    auto device = PacketIo::open(packetOptions);
    if (!device) return device.error();
    return std::unique_ptr<FrameIo>(device.take());
  }

  void openStack(uint32_t faces = 1) {
    const Inside inside(*near_);
    auto device = openDevice();
    ASSERT_TRUE(device.ok()) << device.error().message;
    auto netlink = net::NetlinkTables::create();
    ASSERT_TRUE(netlink.ok()) << netlink.error().message;
    tables_ = netlink.take();
    StackOptions options;
    options.faces = faces;
    auto created = NetStack::create(device.take(), tables_, options);
    ASSERT_TRUE(created.ok()) << created.error().message;
    stack_ = created.take();
    io_ = std::make_unique<StackFace>(stack_, 0);
  }

  bool near(const std::string& line) { return command(*near_, line); }
  bool far(const std::string& line) { return command(*far_, line); }

  std::unique_ptr<Endpoint> open(const std::string& address, uint16_t port = 0) {
    const Inside inside(*near_);
    EndpointConfig config;
    config.bindAddress = at(address, port);
    auto endpoint = io_->openEndpoint(config);
    EXPECT_TRUE(endpoint.ok()) << endpoint.error().message;
    if (!endpoint.ok()) return nullptr;
    io_->attach(**endpoint);
    return endpoint.take();
  }
  std::unique_ptr<NextHop> hop(Endpoint& from, const SockAddr& to) {
    auto resolved = io_->resolve(from, to);
    EXPECT_TRUE(resolved.ok()) << resolved.error().message;
    return resolved.take();
  }
  TxItem send(Endpoint& from, NextHop& to, const Bytes& bytes, uint32_t segmentLength = 0) {
    TxItem item;
    item.nextHop = &to;
    item.data = bytes.data();
    item.length = static_cast<uint32_t>(bytes.size());
    item.segmentLength = segmentLength;
    io_->transmit(from, {&item, 1});
    return item;
  }
  TxStatus sendControl(Endpoint& from, const SockAddr& to, const Bytes& bytes) {
    TxSlot slot;
    const TxStatus status = io_->reserve(from, to, static_cast<uint32_t>(bytes.size()), slot);
    if (status != TxStatus::kPending) return status;
    std::memcpy(slot.data, bytes.data(), bytes.size());
    return io_->commit(from, to, slot, static_cast<uint32_t>(bytes.size()));
  }
  std::vector<Arrival> poll() {
    RxBurst burst;
    io_->poll(burst, monotonicNs());
    std::vector<Arrival> arrivals;
    for (size_t i = 0; i < burst.count; ++i) {
      const RxPacket& packet = burst.packets[i];
      for (uint32_t offset = 0; offset < packet.length; offset += packet.segmentLength) {
        const uint32_t length = std::min(packet.segmentLength, packet.length - offset);
        arrivals.push_back({Bytes(packet.data + offset, packet.data + offset + length), *packet.source, *packet.destination,
                            packet.endpoint, packet.segmentLength < packet.length});
      }
    }
    return arrivals;
  }
  // Sleeps on the stack's own handle between polls; a device without one is polled.
  std::vector<Arrival> collect(size_t count) {
    std::vector<Arrival> all;
    const int64_t deadline = monotonicNs() + kPatienceMs * kMs;
    while (all.size() < count) {
      auto some = poll();
      all.insert(all.end(), some.begin(), some.end());
      if (!some.empty() || !io_->arm()) continue;
      if (io_->waitHandle() < 0) {
        if (monotonicNs() > deadline) break;
        ::poll(nullptr, 0, 1);
        continue;
      }
      pollfd handle{io_->waitHandle(), POLLIN, 0};
      if (::poll(&handle, 1, kPatienceMs) <= 0) break;
    }
    return all;
  }
  // Polls the stack until `wanted` holds.
  bool await(const std::function<bool()>& wanted) {
    const int64_t deadline = monotonicNs() + kPatienceMs * kMs;
    while (!wanted()) {
      if (monotonicNs() > deadline) return false;
      poll();
      ::poll(nullptr, 0, 1);
    }
    return true;
  }
  // What `peer` gets next. The stack is polled meanwhile: an exception interface carries the kernel's frames no other way.
  Bytes receiveAt(FarSocket& peer) {
    pollfd handle{peer.fd(), POLLIN, 0};
    return await([&] { return ::poll(&handle, 1, 0) == 1; }) ? peer.receive() : Bytes{};
  }
  // `bytes` there, and back.
  void exchange(Endpoint& endpoint, NextHop& next, FarSocket& peer, const Bytes& bytes) {
    ASSERT_EQ(send(endpoint, next, bytes).status, TxStatus::kSent);
    Bytes received;
    while (received != bytes) {
      received = peer.receive();
      ASSERT_FALSE(received.empty());
    }
    peer.send(endpoint.localAddress(), bytes);
    const auto arrivals = collect(1);
    ASSERT_EQ(arrivals.size(), 1U);
    ASSERT_EQ(arrivals[0].bytes, bytes);
    ASSERT_EQ(arrivals[0].source, peer.address);
  }
  // The MAC address of a destination is known, and frames go there by the device.
  void connect(Endpoint& from, const SockAddr& to) {
    EXPECT_TRUE(await([&] {
      const int64_t before = count(StackCounter::kFramesSent);
      sendControl(from, to, pattern(20, 99));
      return count(StackCounter::kFramesSent) > before;
    }));
  }
  int64_t count(StackCounter counter) const { return stack_->stats()[counter]; }

  std::unique_ptr<Namespace> near_;
  std::unique_ptr<Namespace> far_;
  std::string nearDevice_ = "near0";  // with the addresses
  std::string farDevice_ = "far0";
  std::shared_ptr<net::NetlinkTables> tables_;
  std::shared_ptr<NetStack> stack_;
  std::unique_ptr<StackFace> io_;
};

}  // namespace outrigger::io::testing
