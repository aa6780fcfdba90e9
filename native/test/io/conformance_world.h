// SPDX-License-Identifier: Apache-2.0
// What the conformance suite needs around a backend: instances that can reach each other, a clock, a way to await arrival.
// Helpers to open endpoints, send, and collect what arrives. No test stands here.
#pragma once

#include <gtest/gtest.h>
#include <poll.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "io/backend.h"
#include "io/datagram_io.h"
#include "io/impair/impair_io.h"
#include "io/sim/sim_network.h"

namespace outrigger::io::testing {

using Bytes = std::vector<uint8_t>;

// Long enough for a loaded machine: reaching it is a failure, not a measurement.
constexpr int kPatienceMs = 20'000;

// Where an instance stands. In a world of one host both sides are the same.
enum class Side { kSender, kReceiver };

class World {
 public:
  virtual ~World() = default;
  // Why this world can't be had here, or empty.
  virtual std::string refusal() const { return ""; }
  virtual std::unique_ptr<DatagramIo> makeIo(Side side) = 0;
  // A further instance beside one of makeIo.
  virtual std::unique_ptr<DatagramIo> makeAnother(Side side) { return makeIo(side); }
  virtual std::string host(Side, bool v6) const { return v6 ? "::1" : "127.0.0.1"; }
  virtual int64_t nowNs() = 0;
  // Returns when something may have arrived; false when nothing will.
  virtual bool await(DatagramIo& io) = 0;
  virtual bool isSimulated() const { return false; }
  // Whether each endpoint has a receive buffer of its own, of the size that it asks for.
  virtual bool hasSocketBuffers() const { return true; }
  // Whether a datagram of 65507 bytes gets there: in IP fragments that a kernel makes and puts together.
  virtual bool takesLongDatagrams() const { return true; }
};

class RealWorld final : public World {
 public:
  RealWorld(std::string backend, BackendOptions options) : backend_(std::move(backend)), options_(std::move(options)) {}
  std::unique_ptr<DatagramIo> makeIo(Side) override {
    auto io = makeBackend(backend_, options_);
    EXPECT_TRUE(io.ok()) << io.error().message;
    return io.ok() ? io.take() : nullptr;
  }
  int64_t nowNs() override { return 0; }
  bool await(DatagramIo& io) override {
    if (!io.arm()) return true;
    pollfd handle{io.waitHandle(), POLLIN, 0};
    return ::poll(&handle, 1, kPatienceMs) > 0;
  }

 private:
  std::string backend_;
  BackendOptions options_;
};

class SimWorld final : public World {
 public:
  SimWorld() : network_(SimOptions{}) {}
  std::unique_ptr<DatagramIo> makeIo(Side) override { return network_.createIo("10.0.0.1,fd00::1").take(); }
  int64_t nowNs() override { return network_.nowNs(); }
  bool await(DatagramIo& io) override {
    if (!io.arm()) return true;
    if (network_.nextEventNs() == INT64_MAX) return false;
    network_.setNow(network_.nextEventNs());
    return true;
  }
  bool isSimulated() const override { return true; }
  SimNetwork& network() { return network_; }

 private:
  SimNetwork network_;
};

struct Arrival {
  Bytes bytes;
  SockAddr source;
  SockAddr destination;
  Endpoint* endpoint = nullptr;
  int64_t arrivedNs = 0;
};

inline SockAddr address(const std::string& host, uint16_t port = 0) {
  auto parsed = SockAddr::parseNumeric(host, port);
  EXPECT_TRUE(parsed.ok()) << parsed.error().message;
  return parsed.take();
}

inline std::unique_ptr<Endpoint> openAt(DatagramIo& io, const SockAddr& bind, int32_t receiveBufferBytes = 0, int32_t sendBufferBytes = 0,
                                        bool arrivalTimes = false) {
  EndpointConfig config;
  config.bindAddress = bind;
  config.receiveBufferBytes = receiveBufferBytes;
  config.sendBufferBytes = sendBufferBytes;
  config.arrivalTimes = arrivalTimes;
  auto endpoint = io.openEndpoint(config);
  EXPECT_TRUE(endpoint.ok()) << endpoint.error().message;
  if (!endpoint.ok()) return nullptr;
  io.attach(**endpoint);
  return endpoint.take();
}

inline std::unique_ptr<NextHop> hop(DatagramIo& io, Endpoint& from, const SockAddr& to) {
  auto resolved = io.resolve(from, to);
  EXPECT_TRUE(resolved.ok()) << resolved.error().message;
  return resolved.ok() ? resolved.take() : nullptr;
}

// Bytes that differ by position and by seed, so that a swapped or torn datagram shows.
inline Bytes pattern(size_t length, uint32_t seed) {
  Bytes bytes(length);
  for (size_t i = 0; i < length; ++i) bytes[i] = static_cast<uint8_t>((i * 31 + (i >> 8) * 7 + seed * 101 + 13) & 0xFF);
  return bytes;
}

inline TxItem item(NextHop& to, const Bytes& bytes, uint32_t segmentLength = 0) {
  TxItem tx;
  tx.nextHop = &to;
  tx.data = bytes.data();
  tx.length = static_cast<uint32_t>(bytes.size());
  tx.segmentLength = segmentLength;
  return tx;
}

// One poll, trains taken apart.
inline std::vector<Arrival> pollOnce(DatagramIo& io, int64_t nowNs) {
  RxBurst burst;
  const uint32_t announced = io.poll(burst, nowNs);
  std::vector<Arrival> arrivals;
  for (size_t i = 0; i < burst.count; ++i) {
    const RxPacket& packet = burst.packets[i];
    EXPECT_GT(packet.segmentLength, 0U);
    for (uint32_t offset = 0; offset < packet.length; offset += packet.segmentLength) {
      const uint32_t length = std::min(packet.segmentLength, packet.length - offset);
      arrivals.push_back({Bytes(packet.data + offset, packet.data + offset + length), *packet.source, *packet.destination, packet.endpoint,
                          packet.arrivedNs});
    }
  }
  EXPECT_EQ(announced, arrivals.size()) << "poll counts the datagrams of trains";
  return arrivals;
}

// Collects until `count` datagrams have come, or none will any more.
inline std::vector<Arrival> collect(World& world, DatagramIo& io, size_t count) {
  std::vector<Arrival> all;
  while (all.size() < count) {
    auto some = pollOnce(io, world.nowNs());
    if (some.empty() && !world.await(io)) break;
    all.insert(all.end(), some.begin(), some.end());
  }
  return all;
}

// Sends items to the end, draining `receiver` into `arrivals` between calls; every item must end as kSent.
inline void sendAll(World& world, DatagramIo& sender, Endpoint& from, std::vector<TxItem> items, DatagramIo& receiver,
                    std::vector<Arrival>& arrivals) {
  size_t done = 0;
  while (done < items.size()) {
    const uint32_t finished = sender.transmit(from, std::span<TxItem>(items).subspan(done));
    for (size_t i = done; i < done + finished; ++i) {
      ASSERT_EQ(items[i].status, TxStatus::kSent);
      ASSERT_EQ(items[i].sentBytes, items[i].length);
    }
    done += finished;
    if (done < items.size()) {
      ASSERT_EQ(items[done].status, TxStatus::kWouldBlock);
      TxItem& rest = items[done];
      rest.data += rest.sentBytes;
      rest.length -= rest.sentBytes;
    }
    auto some = pollOnce(receiver, world.nowNs());
    arrivals.insert(arrivals.end(), some.begin(), some.end());
  }
}

}  // namespace outrigger::io::testing
