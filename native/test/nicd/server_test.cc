// SPDX-License-Identifier: Apache-2.0
// The socket: who may connect, what is refused, and that one client's behaviour is nobody else's trouble.
#include <gmock/gmock.h>

#include <thread>

#include "nicd_world.h"

namespace outrigger::nicd::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class NicdServer : public NicdTest {};

const std::string kToken(64, 'a');

std::string claimText(const std::string& more) { return "token = " + kToken + "\ninterface = va\n" + more; }

TEST_F(NicdServer, AVersionThatItDoesNotSpeakIsRefusedWithBothRanges) {
  NicdWorld::run([](NicdWorld& world) {
    world.start();
    RawClient client(world.socket());
    Hello hello;
    hello.minVersion = 7;
    hello.maxVersion = 9;
    const auto answer = client.ask(MessageType::kHello, hello);
    EXPECT_THAT(refusalText(answer), AllOf(HasSubstr("versions 7 to 9"), HasSubstr("1 to 1")));
    EXPECT_EQ(client.next(), std::nullopt) << "and the connection ends";
  });
}

TEST_F(NicdServer, NothingIsAnsweredBeforeHello) {
  NicdWorld::run([](NicdWorld& world) {
    world.start();
    RawClient client(world.socket());
    EXPECT_THAT(refusalText(client.ask(MessageType::kStatus, StatusRequest())), HasSubstr("the first request must be Hello"));
    EXPECT_EQ(client.next(), std::nullopt);
  });
}

TEST_F(NicdServer, AMalformedMessageEndsItsOwnConnectionAndNoOther) {
  NicdWorld::run([](NicdWorld& world) {
    world.start();
    RawClient other(world.socket());
    ASSERT_NE(bodyOf<Welcome>(other.hello()), nullptr);
    const Message whole = encode(MessageType::kStatus, 5, StatusRequest());
    const std::vector<Message> wrong{Message(3), Message(whole.begin(), whole.begin() + 20), Message(kMaxMessageLength + 100),
                                     encode(static_cast<MessageType>(77), 5, StatusRequest()),
                                     encode(MessageType::kStatus, 0, StatusRequest())};
    for (const Message& message : wrong) {
      RawClient client(world.socket());
      ASSERT_NE(bodyOf<Welcome>(client.hello()), nullptr);
      EXPECT_EQ(client.send(message), Transfer::kDone);
      EXPECT_NE(refusalText(client.next()), "");
      EXPECT_EQ(client.next(), std::nullopt);
    }
    // Descriptors that nothing asked for.
    RawClient client(world.socket());
    ASSERT_NE(bodyOf<Welcome>(client.hello()), nullptr);
    EXPECT_EQ(client.send(whole, {0, 1}), Transfer::kDone);
    EXPECT_THAT(refusalText(client.next()), HasSubstr("2 descriptors"));
    const auto status = other.ask(MessageType::kStatus, StatusRequest());
    ASSERT_NE(bodyOf<StatusText>(status), nullptr);
    EXPECT_THAT(bodyOf<StatusText>(status)->text, HasSubstr("\"malformed\":6"));
  });
}

TEST_F(NicdServer, AUserThatIsNotAllowedIsToldWhichFlagWouldAllowIt) {
  NicdWorld::run([](NicdWorld& world) {
    world.start();
    PodProcess stranger(
        [&](PodProcess&) {
          RawClient client(world.socket());
          EXPECT_THAT(refusalText(client.next()), AllOf(HasSubstr("user 4711"), HasSubstr("--allow-uid")));
        },
        4711);
    stranger.join();
    PodProcess pod([&](PodProcess&) {
      RawClient client(world.socket());
      EXPECT_NE(bodyOf<Welcome>(client.hello()), nullptr);
      EXPECT_THAT(refusalText(client.ask(MessageType::kStatus, StatusRequest())), HasSubstr("only root"));
    });
    pod.join();
  });
}

TEST_F(NicdServer, AClaimOpensWhatItNamesAndNothingElse) {
  NicdWorld::run([](NicdWorld& world) {
    world.makeDirectory("claims");
    world.write("claims/pod-1", claimText("queues = 1\naddresses = 10.77.0.1\nports = 40000-40001\npacket = yes\n"));
    world.start({"--claims", world.path("claims"), "--allow-packet"});
    EXPECT_THAT(refusalText(RawClient(world.socket()).hello("pod-1", std::string(64, 'b'))), HasSubstr("its token is another"));
    EXPECT_THAT(refusalText(RawClient(world.socket()).hello("pod-2", kToken)), HasSubstr("claim 'pod-2' is unknown"));
    PodProcess pod([&](PodProcess&) {
      EXPECT_THAT(refusalText(RawClient(world.socket()).hello()), HasSubstr("a claim is needed here"));
      RawClient client(world.socket());
      ASSERT_NE(bodyOf<Welcome>(client.hello("pod-1", kToken)), nullptr);
      OpenXdp xdp;
      ASSERT_TRUE(setName(xdp.interface, "va"));
      xdp.umemLength = 1 << 20;
      xdp.chunkLength = 2048;
      xdp.fillEntries = xdp.completionEntries = xdp.receiveEntries = xdp.transmitEntries = 64;
      EXPECT_THAT(refusalText(client.ask(MessageType::kOpenXdp, xdp, {0})), HasSubstr("is not for queue 0"));
      EXPECT_THAT(refusalText(client.ask(MessageType::kOpenPacket, packetRequest("lo", PacketRole::kReceiveSlots))), HasSubstr("'lo'"));
      const auto opened = client.ask(MessageType::kOpenPacket, packetRequest("va", PacketRole::kReceiveSlots));
      ASSERT_NE(bodyOf<OpenedText>(opened), nullptr);
      OpenPort port;
      port.session = bodyOf<OpenedText>(opened)->opened.session;
      port.address = addressOf(*io::SockAddr::parseNumeric("10.77.0.1", 40002));
      EXPECT_THAT(refusalText(client.ask(MessageType::kOpenPort, port)), HasSubstr("port 40002"));
      port.address = addressOf(*io::SockAddr::parseNumeric("0.0.0.0", 40000));
      EXPECT_THAT(refusalText(client.ask(MessageType::kOpenPort, port)), HasSubstr("is not for the address"));
      port.address = addressOf(*io::SockAddr::parseNumeric("10.77.0.1", 0));
      const auto given = client.ask(MessageType::kOpenPort, port);
      ASSERT_NE(bodyOf<PortOpened>(given), nullptr);
      EXPECT_EQ(bodyOf<PortOpened>(given)->address.port, 40000) << "a free one of the claim's";
      EXPECT_EQ(client.descriptors.size(), 1U);
    });
    pod.join();
  });
}

TEST_F(NicdServer, WhereProcessesCanNotBeToldApartASessionNeedsAClaim) {
  NicdWorld::run([](NicdWorld& world) {
    world.nicd.start(world.arguments({"--allow-packet"}), {"unshare", "--pid", "--fork", "--kill-child"});
    PodProcess pod([&](PodProcess&) {
      RawClient client(world.socket());
      ASSERT_NE(bodyOf<Welcome>(client.hello()), nullptr);
      EXPECT_THAT(refusalText(client.ask(MessageType::kOpenPacket, packetRequest("va", PacketRole::kTransmit))),
                  AllOf(HasSubstr("hostPID"), HasSubstr("--claims")));
    });
    pod.join();
    world.nicd.kill(SIGKILL);  // `unshare` does not end for less
  });
}

TEST_F(NicdServer, AFloodOfOneClientLeavesTheOthersAnswered) {
  NicdWorld::run([](NicdWorld& world) {
    world.start({"--max-requests", "100", "--max-clients-of-uid", "8"});
    PodProcess flood([&](PodProcess& pod) {
      std::vector<std::unique_ptr<RawClient>> clients;
      for (int i = 0; i < 8; ++i) {
        clients.push_back(std::make_unique<RawClient>(world.socket()));
        EXPECT_EQ(clients.back()->send(encode(MessageType::kHello, 1, Hello())), Transfer::kDone);
      }
      // Never reads an answer, and sends whenever it can.
      for (int round = 0; round < 500; ++round) {
        for (auto& client : clients) client->send(encode(MessageType::kStatistics, 2, SessionRequest{99}));
      }
      EXPECT_THAT(refusalText(RawClient(world.socket()).next()), HasSubstr("--max-clients-of-uid"));
      pod.say('f');
      for (int round = 0; !pod.saysAnything(); ++round) {
        for (auto& client : clients) client->send(encode(MessageType::kStatistics, 2, SessionRequest{99}));
      }
    });
    ASSERT_TRUE(flood.await('f'));
    RawClient other(world.socket());
    ASSERT_NE(bodyOf<Welcome>(other.hello()), nullptr);
    for (int i = 0; i < 50; ++i) ASSERT_NE(bodyOf<StatusText>(other.ask(MessageType::kStatus, StatusRequest())), nullptr);
    flood.say('e');
    flood.join();
  });
}

TEST_F(NicdServer, WhoConnectsAndSaysNothingIsDisconnected) {
  NicdWorld::run([](NicdWorld& world) {
    world.start();
    RawClient silent(world.socket());
    EXPECT_EQ(silent.next(), std::nullopt);
  });
}

TEST_F(NicdServer, ASecondOneOnTheSameSocketIsToldSoAndASocketFileLeftBehindIsNoObstacle) {
  NicdWorld::run([](NicdWorld& world) {
    world.start();
    const std::string second =
        programPath() + " --socket " + world.socket() + " --state-dir " + world.path("state2") + " 2>" + world.path("err");
    EXPECT_EQ(WEXITSTATUS(std::system(second.c_str())), 1);
    EXPECT_EQ(std::system(("grep -q 'another outrigger-nicd serves' " + world.path("err")).c_str()), 0);
    world.nicd.kill(SIGKILL);
    world.start();
    EXPECT_NE(bodyOf<Welcome>(RawClient(world.socket()).hello()), nullptr);
  });
}

TEST_F(NicdServer, StatusIsPrintedAsTextAndAsJson) {
  NicdWorld::run([](NicdWorld& world) {
    world.start();
    const std::string status = programPath() + " --status --socket " + world.socket();
    EXPECT_EQ(std::system((status + " | grep -q 'sessions opened 0'").c_str()), 0);
    EXPECT_EQ(std::system((status + " --json | grep -q '\"sessions\":\\[\\]'").c_str()), 0);
    world.nicd.stop();
    EXPECT_EQ(std::system((status + " 2>&1 | grep -q 'cannot connect'").c_str()), 0);
  });
}

}  // namespace
}  // namespace outrigger::nicd::testing
