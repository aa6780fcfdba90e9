// SPDX-License-Identifier: Apache-2.0
// Messages as bytes: what is well-formed, and what each wrong value is called.
#include "io/nicd_client/protocol.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace outrigger::nicd {
namespace {

using ::testing::HasSubstr;

template <typename Body>
std::string problemOf(MessageType type, const Body& body) {
  uint64_t id = 0;
  auto request = decodeRequest(encode(type, 7, body), id);
  EXPECT_EQ(id, 7U);
  return request ? "" : request.error().message;
}

OpenXdp goodXdp() {
  OpenXdp open;
  EXPECT_TRUE(setName(open.interface, "eth0"));
  open.umemLength = 1 << 20;
  open.chunkLength = 2048;
  open.fillEntries = open.completionEntries = open.receiveEntries = open.transmitEntries = 64;
  return open;
}

TEST(NicdProtocol, ARequestComesBackAsItWasWritten) {
  OpenXdp open = goodXdp();
  open.queue = 3;
  open.flags = kXdpNeedWakeup;
  uint64_t id = 0;
  auto request = decodeRequest(encode(MessageType::kOpenXdp, 42, open), id);
  ASSERT_TRUE(request) << request.error().message;
  EXPECT_EQ(request->requestId, 42U);
  const auto* decoded = std::get_if<OpenXdp>(&request->body);
  ASSERT_NE(decoded, nullptr);
  EXPECT_EQ(nameOf(decoded->interface), "eth0");
  EXPECT_EQ(decoded->queue, 3U);
  EXPECT_TRUE(mayCarry(request->body, 1));
  EXPECT_FALSE(mayCarry(request->body, 0));
}

TEST(NicdProtocol, WhatIsTooShortTooLongOrOfAnotherLengthThanItSaysIsRefused) {
  uint64_t id = 0;
  const Message whole = encode(MessageType::kOpenXdp, 1, goodXdp());
  for (size_t length = 0; length < whole.size(); ++length) {
    EXPECT_FALSE(decodeRequest({whole.data(), length}, id)) << length;
  }
  Message longer = whole;
  longer.push_back(0);
  EXPECT_FALSE(decodeRequest(longer, id));
  EXPECT_FALSE(decodeRequest(Message(kMaxMessageLength + 1), id));
}

TEST(NicdProtocol, EachWrongValueIsNamedWithWhatIsAllowed) {
  OpenXdp open = goodXdp();
  open.fillEntries = 100;
  EXPECT_THAT(problemOf(MessageType::kOpenXdp, open), HasSubstr("fill ring is 100, allowed is a power of two"));
  open = goodXdp();
  open.chunkLength = 1024;
  EXPECT_THAT(problemOf(MessageType::kOpenXdp, open), HasSubstr("chunk length is 1024"));
  open = goodXdp();
  open.umemLength = 5000;
  EXPECT_THAT(problemOf(MessageType::kOpenXdp, open), HasSubstr("UMEM length is 5000"));
  open = goodXdp();
  std::fill(std::begin(open.interface), std::end(open.interface), 'x');
  EXPECT_THAT(problemOf(MessageType::kOpenXdp, open), HasSubstr("interface does not end inside its field"));
  open = goodXdp();
  open.interface[10] = 'x';  // behind the end
  EXPECT_THAT(problemOf(MessageType::kOpenXdp, open), HasSubstr("interface does not end inside its field"));
  open = goodXdp();
  open.interface[1] = '/';
  EXPECT_THAT(problemOf(MessageType::kOpenXdp, open), HasSubstr("interface is no name"));
  OpenPort port;
  port.address.family = 5;
  EXPECT_THAT(problemOf(MessageType::kOpenPort, port), HasSubstr("address family is 5, allowed is 4 or 6"));
  port.address.family = 4;
  port.address.bytes[9] = 1;
  EXPECT_THAT(problemOf(MessageType::kOpenPort, port), HasSubstr("behind its fourth"));
  OpenPacket packet;
  ASSERT_TRUE(setName(packet.interface, "eth0"));
  packet.role = 9;
  EXPECT_THAT(problemOf(MessageType::kOpenPacket, packet), HasSubstr("role is 9"));
  packet.role = static_cast<uint32_t>(PacketRole::kTransmit);
  packet.blockLength = 4000;
  EXPECT_THAT(problemOf(MessageType::kOpenPacket, packet), HasSubstr("block length is 4000, allowed is a multiple of 4096"));
  packet.blockLength = 1 << 20;
  packet.slotLength = 1 << 21;
  EXPECT_THAT(problemOf(MessageType::kOpenPacket, packet), HasSubstr("slot length is 2097152"));
  packet.slotLength = 2048;
  packet.blocks = 1025;
  EXPECT_THAT(problemOf(MessageType::kOpenPacket, packet), HasSubstr("number of blocks is 1025"));
  Hello hello;
  hello.minVersion = 3;
  hello.maxVersion = 2;
  EXPECT_THAT(problemOf(MessageType::kHello, hello), HasSubstr("lowest version is 3"));
  hello = Hello();
  hello.claim[0] = '.';
  hello.claim[1] = '.';
  EXPECT_THAT(problemOf(MessageType::kHello, hello), HasSubstr("claim is no name"));
  EXPECT_EQ(problemOf(static_cast<MessageType>(99), Hello()), "request type is 99, allowed is 1 to 13");
}

TEST(NicdProtocol, AnAnswerCarriesItsTextAndNoMoreThanThat) {
  const Message message = encodeRefused(9, Refusal::kBusy, EBUSY, "queue 0 is held");
  auto answer = decodeAnswer(message);
  ASSERT_TRUE(answer) << answer.error().message;
  const auto* refused = std::get_if<RefusedText>(&answer->body);
  ASSERT_NE(refused, nullptr);
  EXPECT_EQ(refused->text, "queue 0 is held");
  EXPECT_EQ(refused->refusal, Refusal::kBusy);
  Message wrong = message;
  wrong[sizeof(Header) + offsetof(Refused, textLength)] = 0xFF;
  EXPECT_FALSE(decodeAnswer(wrong));
}

TEST(NicdProtocol, AddressesOfBothFamiliesSurviveTheWay) {
  for (const char* host : {"10.1.2.3", "fd00::17", "0.0.0.0"}) {
    auto address = io::SockAddr::parseNumeric(host, 40123);
    ASSERT_TRUE(address);
    EXPECT_EQ(sockAddrOf(addressOf(*address)), *address) << host;
  }
}

}  // namespace
}  // namespace outrigger::nicd
