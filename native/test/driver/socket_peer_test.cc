// SPDX-License-Identifier: Apache-2.0
// What the driver tells a backend of a socket's peer, which a device with several queues chooses source ports by (io/stack/queue_spread.h).
#include <gtest/gtest.h>

#include <memory>
#include <mutex>
#include <vector>

#include "driver_world.h"
#include "io/backend.h"
#include "mortal_io.h"

namespace outrigger::test {
namespace {

struct Opened {
  std::mutex mutex;
  std::vector<io::EndpointConfig> configs;
};

class WatchedSockets final : public outrigger::testing::ForwardingIo {
 public:
  WatchedSockets(std::shared_ptr<Opened> opened, std::unique_ptr<io::DatagramIo> inner)
      : ForwardingIo(std::move(inner)), opened_(std::move(opened)) {}
  Result<std::unique_ptr<io::Endpoint>> openEndpoint(const io::EndpointConfig& config) override {
    const std::lock_guard lock(opened_->mutex);
    opened_->configs.push_back(config);
    return inner().openEndpoint(config);
  }

 private:
  std::shared_ptr<Opened> opened_;
};

TEST(SocketPeer, isToldOfAPublicationWithOneDestinationAndOfNothingElse) {
  DriverConfig config = DriverWorld::smallConfig(ThreadingMode::kShared, "");
  config.backends = {"watched"};
  auto fates = std::make_shared<Fates>();
  auto opened = std::make_shared<Opened>();
  driver::MediaDriverParts parts;
  parts.openBackend = [fates, opened](const std::string& name) -> Result<io::IoPair> {
    return openMortal(name, fates, [&]() -> Result<std::unique_ptr<io::DatagramIo>> {
      auto inner = io::makeBackend("mmsg", {});
      if (!inner) return inner.error();
      return std::unique_ptr<io::DatagramIo>(std::make_unique<WatchedSockets>(opened, inner.take()));
    });
  };
  DriverWorld world(config, std::move(parts));
  auto& client = world.addClient();
  const auto last = [&] {
    const std::lock_guard lock(opened->mutex);
    EXPECT_FALSE(opened->configs.empty());
    return opened->configs.empty() ? io::EndpointConfig{} : opened->configs.back();
  };
  const uint16_t port = freePort();
  const std::string address = "127.0.0.1:" + std::to_string(port);
  const auto publication = world.addExclusive(client, "aeron:udp?endpoint=" + address, 1);
  EXPECT_EQ(last().peer.toString(), address);
  EXPECT_EQ(last().bindAddress.port(), 0);
  const auto subscription = world.addSubscription(client, "aeron:udp?endpoint=" + address, 1);
  EXPECT_EQ(last().bindAddress.port(), port);
  EXPECT_EQ(last().peer.port(), 0) << "anybody may send to it";
  const auto many = world.addExclusive(client, "aeron:udp?control-mode=manual", 1);
  EXPECT_EQ(last().peer.port(), 0) << "it sends to whoever is added";
}

}  // namespace
}  // namespace outrigger::test
