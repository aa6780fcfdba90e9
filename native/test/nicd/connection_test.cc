// SPDX-License-Identifier: Apache-2.0
// A driver's connection, against a nicd that says things in an order which the real one leaves to chance.
#include <gmock/gmock.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "io/nicd_client/nicd_open.h"
#include "io/nicd_client/nicd_tables.h"

namespace outrigger::nicd {
namespace {

constexpr int kGuardMs = 30'000;  // for a test that would otherwise hang
constexpr uint64_t kSession = 7;

// Serves one connection: welcomes it, and answers the first request for a packet socket after the feed of the session that it opens.
class HastyNicd {
 public:
  HastyNicd() {
    char name[] = "/tmp/outrigger-hasty-nicd-XXXXXX";
    EXPECT_NE(::mkdtemp(name), nullptr);
    directory_ = name;
    listener_ = UniqueFd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path().c_str(), sizeof(address.sun_path) - 1);
    EXPECT_EQ(::bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0) << std::strerror(errno);
    EXPECT_EQ(::listen(listener_.get(), 1), 0);
    thread_ = std::thread([this] { serve(); });
  }
  ~HastyNicd() {
    thread_.join();
    ::unlink(path().c_str());
    ::rmdir(directory_.c_str());
  }

  std::string path() const { return directory_ + "/nicd.sock"; }
  int statisticsAsked() const { return statisticsAsked_; }

 private:
  static bool awaitInput(int fd) {
    pollfd polled{fd, POLLIN, 0};
    return ::poll(&polled, 1, kGuardMs) == 1;
  }

  void serve() {
    if (!awaitInput(listener_.get())) return;
    const UniqueFd client(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    Received received;
    while (awaitInput(client.get()) && receiveMessage(client.get(), received) == Transfer::kDone) {
      uint64_t id = 0;
      const auto request = decodeRequest(received.bytes, id);
      ASSERT_TRUE(request) << request.error().message;
      if (std::holds_alternative<Hello>(request->body)) {
        sendMessage(client.get(), encode(MessageType::kWelcome, id, Welcome{kMaxVersion}), {});
      } else if (std::holds_alternative<OpenPacket>(request->body)) {
        open(client.get(), id);
      } else if (std::holds_alternative<Statistics>(request->body)) {
        ++statisticsAsked_;
        sendMessage(client.get(), encode(MessageType::kStatisticsAnswer, id, StatisticsAnswer{}), {});
      } else {
        sendMessage(client.get(), encodeBytes(MessageType::kDone, id, {}), {});
      }
    }
  }

  static void open(int client, uint64_t id) {
    FeedEntry link;
    link.kind = static_cast<uint8_t>(FeedKind::kLink);
    link.flags = kFeedUp;
    link.mtu = 9000;
    FeedEntry none;
    none.kind = static_cast<uint8_t>(FeedKind::kAddresses);
    FeedEntry address;
    address.kind = static_cast<uint8_t>(FeedKind::kAddress);
    address.flags = kFeedLast;
    address.address = addressOf(*io::SockAddr::parseNumeric("10.77.0.1", 0));
    address.prefixLength = 24;
    sendMessage(client, encodeFeed(kSession, std::vector<FeedEntry>{link, none, address}), {});
    Opened opened;
    opened.session = kSession;
    opened.mtu = 1500;
    const UniqueFd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    const int fd = socket.get();
    sendMessage(client, encode(MessageType::kOpened, id, opened), {&fd, 1});
  }

  std::string directory_;
  UniqueFd listener_;
  std::atomic<int> statisticsAsked_{0};
  std::thread thread_;
};

std::shared_ptr<Connection> connect(const HastyNicd& nicd) {
  Connection::Options options;
  options.socket = nicd.path();
  auto connection = Connection::open(options);
  EXPECT_TRUE(connection) << connection.error().message;
  return connection ? connection.take() : nullptr;
}

std::optional<OpenSession> openPacketSession(Connection& connection) {
  OpenPacket request;
  EXPECT_TRUE(setName(request.interface, "eth0"));
  request.role = static_cast<uint32_t>(PacketRole::kTransmit);
  request.slotLength = 2048;
  request.blockLength = 4096;
  request.blocks = 1;
  auto session = openSession(connection, MessageType::kOpenPacket, request, {});
  EXPECT_TRUE(session) << session.error().message;
  if (!session) return std::nullopt;
  return session.take();
}

TEST(NicdConnection, WhatTheFeedSaidBeforeAnyoneListenedIsHeardByTheFirstWhoDoes) {
  HastyNicd nicd;
  const auto connection = connect(nicd);
  ASSERT_NE(connection, nullptr);
  const auto session = openPacketSession(*connection);
  ASSERT_TRUE(session);
  const auto tables = NicdTables::create(connection, session->answer.opened, "eth0");
  EXPECT_EQ(tables->link().mtu, 9000U);
  EXPECT_TRUE(tables->link().up);
  std::vector<net::LocalAddress> addresses;
  addresses.reserve(net::KernelTables::kMaxLocalAddresses);
  ASSERT_TRUE(tables->copyAddresses(addresses));
  ASSERT_EQ(addresses.size(), 1U);
  EXPECT_EQ(addresses[0].prefixLength, 24);
}

// An overflowing ring is looked at a thousand times a second, and each request is of the budget that routes and ports need.
TEST(NicdConnection, AsksForCountsOnceAnIntervalHoweverOftenTheyAreLookedAt) {
  HastyNicd nicd;
  const auto connection = connect(nicd);
  ASSERT_NE(connection, nullptr);
  const auto session = openPacketSession(*connection);
  ASSERT_TRUE(session);
  const auto clock = std::make_shared<ManualClock>();
  const auto tables = NicdTables::create(connection, session->answer.opened, "eth0", clock);
  const auto look = [&](int times) {
    for (int i = 0; i < times; ++i) {
      tables->framesLeftToKernel();
      // What the connection's thread does when it is woken, without the chance that it is woken once for many.
      tables->onWake();
    }
  };
  const auto asked = [&](int times) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(kGuardMs);
    while (nicd.statisticsAsked() < times && std::chrono::steady_clock::now() < until) std::this_thread::yield();
    return nicd.statisticsAsked();
  };
  look(200);
  EXPECT_EQ(asked(1), 1) << "when the session began";
  clock->advance(NicdTables::kStatisticsIntervalNs);
  look(200);
  EXPECT_EQ(asked(2), 2);
  clock->advance(NicdTables::kStatisticsIntervalNs - 1);
  look(200);
  clock->advance(1);
  look(200);
  EXPECT_EQ(asked(3), 3);
}

}  // namespace
}  // namespace outrigger::nicd
