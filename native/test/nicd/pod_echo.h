// SPDX-License-Identifier: Apache-2.0
// What runs in a pod in these tests: the driver's side of nicd under the stack, sending back what it receives; and the far host's side, which
// notices each datagram that does not come back.
#pragma once

#include <arpa/inet.h>

#include <atomic>
#include <thread>

#include "base/clock.h"
#include "io/nicd_client/nicd_xdp.h"
#include "nicd_world.h"

namespace outrigger::nicd::testing {

class PodEcho {
 public:
  explicit PodEcho(Result<io::IoPair> pair) {
    EXPECT_TRUE(pair) << pair.error().message;
    if (pair) pair_ = pair.take();
  }
  ~PodEcho() {
    for (auto& endpoint : endpoints_) pair_.receiver->detach(*endpoint);
  }

  bool valid() const { return pair_.receiver != nullptr; }
  io::DatagramIo& io() { return *pair_.receiver; }

  // Where nicd was started again it knows a session before this side has read so: until then the driver is told that nicd is away.
  Result<std::unique_ptr<io::Endpoint>> tryOpen(const std::string& host, uint16_t port) {
    io::EndpointConfig config;
    config.bindAddress = *io::SockAddr::parseNumeric(host, port);
    const int64_t giveUpNs = SystemClock().nanoTime() + kGuardMs * 1'000'000LL;
    for (;;) {
      auto endpoint = io().openEndpoint(config);
      const bool away = !endpoint && endpoint.error().message.find("is away") != std::string::npos;
      if (!away || SystemClock().nanoTime() > giveUpNs) return endpoint;
      ::poll(nullptr, 0, 10);
    }
  }
  void open(const std::string& host, uint16_t port) {
    auto endpoint = tryOpen(host, port);
    ASSERT_TRUE(endpoint) << endpoint.error().message;
    io().attach(**endpoint);
    endpoints_.push_back(endpoint.take());
  }
  void close() {
    io().detach(*endpoints_.back());
    endpoints_.pop_back();
  }

  // Sends everything back to where it came from until the test says something.
  void serve(PodProcess& pod) {
    io::RxBurst burst;
    while (!pod.saysAnything()) step(burst);
  }

  // Until `wanted` holds; false when it does not come to that.
  bool serveUntil(const std::function<bool()>& wanted) {
    io::RxBurst burst;
    const int64_t giveUpNs = SystemClock().nanoTime() + kGuardMs * 1'000'000LL;
    while (!wanted()) {
      if (SystemClock().nanoTime() > giveUpNs) return false;
      step(burst);
    }
    return true;
  }

  // The stack tells what it counts to the first of its two instances.
  int64_t counted(io::DeviceCounter counter) const { return pair_.sender->totals().network[io::networkIndex(counter)]; }

  int64_t received = 0;

 private:
  void step(io::RxBurst& burst) {
    io().poll(burst, SystemClock().nanoTime());
    for (size_t i = 0; i < burst.count; ++i) {
      const io::RxPacket& packet = burst.packets[i];
      for (uint32_t at = 0; at < packet.length; at += packet.segmentLength) {
        ++received;
        answer(packet, at, std::min(packet.segmentLength, packet.length - at));
      }
    }
  }
  void answer(const io::RxPacket& packet, uint32_t at, uint32_t length) {
    io::TxSlot slot;
    // A neighbour that is not known yet is asked for by the first try; its answer takes as long as this machine is busy.
    const int64_t giveUpNs = SystemClock().nanoTime() + kGuardMs * 1'000'000LL;
    while (SystemClock().nanoTime() < giveUpNs) {
      if (io().reserve(*packet.endpoint, *packet.source, length, slot) == io::TxStatus::kPending) {
        std::memcpy(slot.data, packet.data + at, length);
        if (io().commit(*packet.endpoint, *packet.source, slot, length) == io::TxStatus::kSent) return;
      }
      std::this_thread::yield();
    }
    ADD_FAILURE() << "an answer of " << length << " bytes could not be sent";
  }

  io::IoPair pair_;
  std::vector<std::unique_ptr<io::Endpoint>> endpoints_;
};

inline io::BackendOptions podOptions(const NicdWorld& world) {
  io::BackendOptions options;
  options.nicdSocket = world.socket();
  options.interface = "va";
  options.umemBytes = 16u << 20;
  options.hugepages = false;
  return options;
}

// Sends numbered datagrams with a bounded number on their way and takes the answers; nothing is sent twice.
class FarCounter {
 public:
  FarCounter(UniqueFd socket, const std::string& host, uint16_t port)
      : socket_(std::move(socket)), to_(*io::SockAddr::parseNumeric(host, port)) {}

  // Until `total` were sent and all came back, or none comes any more. `at` is called with the number of those that are back.
  void run(uint32_t total, const std::function<void(uint32_t)>& at = {}) {
    constexpr uint32_t kWindow = 32;
    std::vector<bool> seen(total);
    uint32_t sent = 0;
    while (back < total) {
      while (sent < total && sent - back < kWindow) {
        ASSERT_EQ(::sendto(socket_.get(), &sent, sizeof(sent), 0, to_.get(), to_.length), static_cast<ssize_t>(sizeof(sent)))
            << std::strerror(errno);
        ++sent;
      }
      pollfd polled{socket_.get(), POLLIN, 0};
      ASSERT_EQ(::poll(&polled, 1, kGuardMs), 1) << back << " of " << sent << " came back, then nothing";
      uint32_t number = 0;
      ASSERT_EQ(::recv(socket_.get(), &number, sizeof(number), 0), static_cast<ssize_t>(sizeof(number)));
      ASSERT_LT(number, sent);
      ASSERT_FALSE(seen[number]) << number << " came back twice";
      seen[number] = true;
      ++back;
      if (at) at(back);
    }
  }

  uint32_t back = 0;

 private:
  UniqueFd socket_;
  io::SockAddr to_;
};

}  // namespace outrigger::nicd::testing
