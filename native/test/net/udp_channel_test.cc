// SPDX-License-Identifier: Apache-2.0
// UDP channels: addresses, rules between parameters, flow control, canonical form. Names come from a table, so that no test
// depends on a name service; one test asks the real resolver for what every host has.
#include "net/udp_channel.h"

#include <gtest/gtest.h>

#include <map>

namespace outrigger::net {
namespace {

Result<io::SockAddr> tableResolver(const std::string& host, uint16_t port, bool preferV6) {
  static const std::map<std::string, std::pair<std::string, std::string>> kTable = {
      {"localhost", {"127.0.0.1", "::1"}}, {"alpha", {"10.1.0.1", "fd00::1"}}, {"six", {"", "fd00::6"}}};
  const auto found = kTable.find(host);
  if (found == kTable.end()) {
    auto numeric = io::SockAddr::parseNumeric(host, port);
    return numeric.ok() ? numeric : makeError(ErrorCode::kUnknownHost, "cannot resolve host '" + host + "'");
  }
  const auto& [v4, v6] = found->second;
  return io::SockAddr::parseNumeric(preferV6 || v4.empty() ? v6 : v4, port);
}

UdpChannel parsedChannel(const std::string& uri) {
  auto channel = UdpChannel::parse(uri, tableResolver);
  EXPECT_TRUE(channel.ok()) << channel.error().message;
  return channel.ok() ? channel.take() : UdpChannel();
}

TEST(SplitHostPort, splitsNamesAndBracketedAddresses) {
  for (const auto& [text, host, port] : {std::tuple<std::string, std::string, uint16_t>{"localhost:40123", "localhost", 40123},
                                         {"10.0.0.1:0", "10.0.0.1", 0},
                                         {"[::1]:65535", "::1", 65535},
                                         {"[fe80::1%eth0]:7", "fe80::1%eth0", 7}}) {
    const auto split = splitHostPort(text);
    ASSERT_TRUE(split.ok()) << split.error().message;
    EXPECT_EQ(split->first, host);
    EXPECT_EQ(split->second, port);
  }
}

TEST(SplitHostPort, namesTheMalformedValue) {
  for (const auto& [text, part] : {std::pair<std::string, std::string>{"localhost", "has no port"},
                                   {"", "has no port"},
                                   {":40123", "has no host"},
                                   {"[]:1", "has no host"},
                                   {"localhost:", "port ''"},
                                   {"localhost:65536", "port '65536'"},
                                   {"localhost:-1", "port '-1'"},
                                   {"localhost:1x", "port '1x'"},
                                   {"::1:40123", "outside of brackets"},
                                   {"[::1", "'[' without ']'"},
                                   {"[::1]40123", "has no port"}}) {
    const auto split = splitHostPort(text);
    ASSERT_FALSE(split.ok()) << text;
    EXPECT_EQ(split.error().code, ErrorCode::kInvalidChannel);
    EXPECT_NE(split.error().message.find("'" + text + "'"), std::string::npos) << split.error().message;
    EXPECT_NE(split.error().message.find(part), std::string::npos) << split.error().message;
  }
}

TEST(ResolveHost, resolvesLiteralsAndLocalhostWithIpv4First) {
  EXPECT_EQ(resolveHost("127.0.0.1", 7, false)->toString(), "127.0.0.1:7");
  EXPECT_EQ(resolveHost("::1", 7, false)->toString(), "[::1]:7");
  EXPECT_EQ(resolveHost("[::1]", 7, false)->toString(), "[::1]:7");
  EXPECT_EQ(resolveHost("localhost", 7, false)->toString(), "127.0.0.1:7");
}

TEST(ResolveHost, namesTheUnknownHost) {
  for (const std::string host : {"no-such-host.invalid", "::zz"}) {  // .invalid never resolves, RFC 6761
    const auto address = resolveHost(host, 7, false);
    ASSERT_FALSE(address.ok());
    EXPECT_EQ(address.error().code, ErrorCode::kUnknownHost);
    EXPECT_NE(address.error().message.find(host), std::string::npos) << address.error().message;
  }
}

TEST(SockAddr, printsAndComparesByFamilyAddressPortAndScope) {
  const auto a = io::SockAddr::parseNumeric("10.0.0.1", 40123);
  EXPECT_EQ(a->toString(), "10.0.0.1:40123");
  EXPECT_TRUE(*a == *io::SockAddr::parseNumeric("10.0.0.1", 40123));
  EXPECT_EQ(a->hash(), io::SockAddr::parseNumeric("10.0.0.1", 40123)->hash());
  EXPECT_FALSE(*a == *io::SockAddr::parseNumeric("10.0.0.1", 40124));
  EXPECT_FALSE(*a == *io::SockAddr::parseNumeric("10.0.0.2", 40123));
  EXPECT_NE(a->hash(), io::SockAddr::parseNumeric("10.0.0.1", 40124)->hash());
  const auto scoped = io::SockAddr::parseNumeric("fe80::1%lo", 7);
  ASSERT_TRUE(scoped.ok()) << scoped.error().message;
  EXPECT_EQ(scoped->toString(), "[fe80::1%lo]:7");
  EXPECT_FALSE(*scoped == *io::SockAddr::parseNumeric("fe80::1", 7));
  EXPECT_FALSE(*io::SockAddr::parseNumeric("::", 7) == *io::SockAddr::parseNumeric("0.0.0.0", 7));
  EXPECT_FALSE(io::SockAddr::parseNumeric("localhost", 7).ok());
  EXPECT_FALSE(io::SockAddr::parseNumeric("fe80::1%nosuch0", 7).ok());
}

TEST(UdpChannel, readsAUnicastChannel) {
  const UdpChannel channel =
      parsedChannel("aeron:udp?endpoint=alpha:40123|ttl=4|so-sndbuf=1m|so-rcvbuf=2m|rcv-wnd=256k|cc=cubic|gtag=-3|tags=7,9");
  EXPECT_EQ(channel.endpoint->toString(), "10.1.0.1:40123");
  EXPECT_FALSE(channel.control.has_value());
  EXPECT_FALSE(channel.multicast);
  EXPECT_FALSE(channel.isMdcSender());
  EXPECT_EQ(channel.localBind.toString(), "0.0.0.0:0");
  EXPECT_EQ(channel.ttl, 4);
  EXPECT_EQ(channel.socketSendBufferBytes, 1 << 20);
  EXPECT_EQ(channel.socketReceiveBufferBytes, 2 << 20);
  EXPECT_EQ(channel.receiverWindowBytes, 256 << 10);
  EXPECT_EQ(channel.congestionControl, "cubic");
  EXPECT_EQ(channel.groupTag, -3);
  EXPECT_EQ(channel.tag, 7);
  EXPECT_EQ(channel.entityTag, 9);
}

TEST(UdpChannel, takesTheFamilyOfItsAddresses) {
  EXPECT_EQ(parsedChannel("aeron:udp?endpoint=[fd00::2]:1").localBind.toString(), "[::]:0");
  EXPECT_EQ(parsedChannel("aeron:udp?endpoint=six:1").localBind.toString(), "[::]:0");
  EXPECT_EQ(parsedChannel("aeron:udp?endpoint=alpha:1|interface=[::1]").endpoint->toString(), "[fd00::1]:1")
      << "an IPv6 interface asks for the host's IPv6 address";
}

TEST(UdpChannel, readsMultiDestinationModes) {
  const UdpChannel dynamic = parsedChannel("aeron:udp?control=localhost:40456|control-mode=dynamic");
  EXPECT_EQ(dynamic.controlMode, ControlMode::kDynamic);
  EXPECT_TRUE(dynamic.isMdcSender());
  EXPECT_TRUE(parsedChannel("aeron:udp?control=localhost:40456").isMdcSender()) << "control without a mode is dynamic";
  const UdpChannel manual = parsedChannel("aeron:udp?control-mode=manual");
  EXPECT_EQ(manual.controlMode, ControlMode::kManual);
  EXPECT_TRUE(manual.isMdcSender());
  const UdpChannel receiver = parsedChannel("aeron:udp?endpoint=localhost:40457|control=alpha:40456|control-mode=dynamic");
  EXPECT_EQ(receiver.endpoint->toString(), "127.0.0.1:40457");
  EXPECT_EQ(receiver.control->toString(), "10.1.0.1:40456");
  EXPECT_EQ(parsedChannel("aeron:udp?control-mode=response").controlMode, ControlMode::kResponse);
  EXPECT_EQ(parsedChannel("aeron:udp?tags=12").tag, 12) << "a tag alone refers to another channel";
}

TEST(UdpChannel, knowsMulticast) {
  EXPECT_TRUE(parsedChannel("aeron:udp?endpoint=224.20.30.39:40456").multicast);
  EXPECT_TRUE(parsedChannel("aeron:udp?endpoint=[ff02::3]:40456").multicast);
  const auto even = UdpChannel::parse("aeron:udp?endpoint=224.20.30.40:40456", tableResolver);
  ASSERT_FALSE(even.ok());
  EXPECT_NE(even.error().message.find("224.20.30.40:40456 must be odd"), std::string::npos) << even.error().message;
}

TEST(UdpChannel, readsFlowControl) {
  const FlowControlParams none = parsedChannel("aeron:udp?endpoint=alpha:1").flowControl;
  EXPECT_EQ(none.kind, FlowControlKind::kDefault);
  EXPECT_EQ(parsedChannel("aeron:udp?endpoint=alpha:1|fc=max").flowControl.kind, FlowControlKind::kMax);
  const FlowControlParams min = parsedChannel("aeron:udp?endpoint=alpha:1|fc=min,g:/3,t:2s,rrwm:4").flowControl;
  EXPECT_EQ(min.kind, FlowControlKind::kMin);
  EXPECT_EQ(min.groupMinSize, 3);
  EXPECT_FALSE(min.hasGroupTag);
  EXPECT_EQ(min.receiverTimeoutNs, 2'000'000'000);
  EXPECT_EQ(min.retransmitReceiverWindowMultiple, 4);
  const FlowControlParams tagged = parsedChannel("aeron:udp?endpoint=alpha:1|fc=tagged,t:500ms,g:-123/2").flowControl;
  EXPECT_EQ(tagged.kind, FlowControlKind::kTagged);
  EXPECT_TRUE(tagged.hasGroupTag);
  EXPECT_EQ(tagged.groupTag, -123);
  EXPECT_EQ(tagged.groupMinSize, 2);
  EXPECT_EQ(tagged.receiverTimeoutNs, 500'000'000);
  EXPECT_EQ(parsedChannel("aeron:udp?endpoint=alpha:1|fc=tagged,g:9").flowControl.groupTag, 9);
}

TEST(UdpChannel, readsWhereTimesStandInMessages) {
  const TimestampOffsets none = parsedChannel("aeron:udp?endpoint=alpha:1").timestamps;
  EXPECT_EQ(none.mediaReceive, TimestampOffsets::kNone);
  EXPECT_EQ(none.channelReceive, TimestampOffsets::kNone);
  EXPECT_EQ(none.channelSend, TimestampOffsets::kNone);
  EXPECT_FALSE(none.receives());
  const TimestampOffsets all =
      parsedChannel("aeron:udp?endpoint=alpha:1|media-rcv-ts-offset=reserved|channel-rcv-ts-offset=0|channel-snd-ts-offset=8").timestamps;
  EXPECT_EQ(all.mediaReceive, TimestampOffsets::kReservedValue);
  EXPECT_EQ(all.channelReceive, 0);
  EXPECT_EQ(all.channelSend, 8);
  EXPECT_TRUE(all.receives());
  EXPECT_FALSE(parsedChannel("aeron:udp?endpoint=alpha:1|channel-snd-ts-offset=65464").timestamps.receives());
}

TEST(UdpChannel, saysWhatIsWrong) {
  for (const auto& [uri, code, part] : {
           std::tuple<std::string, ErrorCode, std::string>{"aeron:ipc", ErrorCode::kInvalidChannel, "not a UDP channel"},
           {"aeron:udp", ErrorCode::kInvalidChannel, "names no address"},
           {"aeron:udp?mtu=1408", ErrorCode::kInvalidChannel, "names no address"},
           {"aeron:udp?endpoint=localhost", ErrorCode::kInvalidChannel, "endpoint: address 'localhost' has no port"},
           {"aeron:udp?control=localhost:x|control-mode=dynamic", ErrorCode::kInvalidChannel, "control: address 'localhost:x'"},
           {"aeron:udp?endpoint=nowhere:1", ErrorCode::kUnknownHost, "'nowhere'"},
           {"aeron:udp?endpoint=localhost:1|control-mode=dynamic", ErrorCode::kInvalidChannel, "needs control=host:port"},
           {"aeron:udp?endpoint=localhost:1|control-mode=auto", ErrorCode::kInvalidChannel, "control-mode=auto is unknown"},
           {"aeron:udp?endpoint=[::1]:1|control=10.0.0.1:2", ErrorCode::kInvalidChannel, "different address families"},
           {"aeron:udp?endpoint=localhost:1|ttl=256", ErrorCode::kInvalidChannel, "ttl=256"},
           {"aeron:udp?endpoint=localhost:1|so-rcvbuf=3g", ErrorCode::kInvalidChannel, "so-rcvbuf=3g"},
           {"aeron:udp?endpoint=localhost:1|cc=bbr", ErrorCode::kInvalidChannel, "cc=bbr is unknown"},
           {"aeron:udp?endpoint=localhost:1|tags=x", ErrorCode::kInvalidChannel, "tags=x is malformed"},
           {"aeron:udp?endpoint=localhost:1|tags=1,", ErrorCode::kInvalidChannel, "tags=1, is malformed"},
           {"aeron:udp?endpoint=localhost:1|gtag=x", ErrorCode::kInvalidChannel, "gtag=x"},
           {"aeron:udp?endpoint=localhost:1|media-rcv-ts-offset=x", ErrorCode::kInvalidChannel, "media-rcv-ts-offset=x must be 'reserved'"},
           {"aeron:udp?endpoint=localhost:1|channel-rcv-ts-offset=-8", ErrorCode::kInvalidChannel, "channel-rcv-ts-offset=-8 must be"},
           {"aeron:udp?endpoint=localhost:1|channel-snd-ts-offset=65465", ErrorCode::kInvalidChannel, "in the message, 0 to 65464"},
           {"aeron:udp?endpoint=localhost:1|channel-snd-ts-offset=", ErrorCode::kInvalidChannel, "channel-snd-ts-offset="},
           {"aeron:udp?endpoint=localhost:1|media-rcv-ts-offset=reserved|channel-snd-ts-offset=reserved", ErrorCode::kInvalidChannel,
            "media-rcv-ts-offset=reserved and channel-snd-ts-offset=reserved overlap"},
           {"aeron:udp?endpoint=localhost:1|channel-rcv-ts-offset=7|channel-snd-ts-offset=0", ErrorCode::kInvalidChannel,
            "channel-rcv-ts-offset=7 and channel-snd-ts-offset=0 overlap"},
           {"aeron:udp?endpoint=localhost:1|fc=best", ErrorCode::kInvalidChannel, "allowed are max, min, tagged"},
           {"aeron:udp?endpoint=localhost:1|fc=min,", ErrorCode::kInvalidChannel, "unknown option ''"},
           {"aeron:udp?endpoint=localhost:1|fc=min,t:0s", ErrorCode::kInvalidChannel, "malformed timeout"},
           {"aeron:udp?endpoint=localhost:1|fc=min,g:", ErrorCode::kInvalidChannel, "empty group"},
           {"aeron:udp?endpoint=localhost:1|fc=min,g:/x", ErrorCode::kInvalidChannel, "malformed group size"},
           {"aeron:udp?endpoint=localhost:1|fc=tagged,g:x/1", ErrorCode::kInvalidChannel, "malformed group tag"},
           {"aeron:udp?endpoint=localhost:1|fc=max,rrwm:0", ErrorCode::kInvalidChannel, "malformed retransmit"},
           {"aeron:udp?endpoint=localhost:1|interface={nosuch0}", ErrorCode::kInvalidChannel, "interface={nosuch0} names no local"},
           {"aeron:udp?endpoint=localhost:1|interface={lo", ErrorCode::kInvalidChannel, "is malformed"},
           {"aeron:udp?endpoint=localhost:1|interface=127.0.0.1/33", ErrorCode::kInvalidChannel, "longer than 32 bits"},
           {"aeron:udp?endpoint=localhost:1|interface=127.0.0.1/x", ErrorCode::kInvalidChannel, "prefix length 'x'"},
           {"aeron:udp?endpoint=localhost:1|interface=203.0.113.7/24", ErrorCode::kInvalidChannel, "matches no address"},
           {"aeron:udp?endpoint=[::1]:1|interface=127.0.0.1", ErrorCode::kInvalidChannel, "is IPv4 but the channel's addresses are IPv6"},
       }) {
    const auto channel = UdpChannel::parse(uri, tableResolver);
    ASSERT_FALSE(channel.ok()) << uri;
    EXPECT_EQ(channel.error().code, code) << channel.error().message;
    EXPECT_NE(channel.error().message.find(part), std::string::npos) << channel.error().message;
    EXPECT_NE(channel.error().message.find("channel '" + uri + "'"), std::string::npos) << channel.error().message;
  }
}

TEST(UdpChannel, findsTheInterfaceByNameAddressAndSubnet) {
  for (const char* spec : {"{lo}", "127.0.0.1", "127.0.0.1/8", "127.9.9.9/8", "localhost"}) {
    const UdpChannel channel = parsedChannel("aeron:udp?endpoint=alpha:1|interface=" + std::string(spec));
    EXPECT_EQ(channel.localBind.toString(), "127.0.0.1:0") << spec;
    EXPECT_EQ(channel.interfaceName, "lo") << spec;
    EXPECT_EQ(channel.interfaceSpec, spec);
  }
  EXPECT_EQ(parsedChannel("aeron:udp?endpoint=alpha:1|interface=127.0.0.1:4000").localBind.toString(), "127.0.0.1:4000");
  EXPECT_EQ(parsedChannel("aeron:udp?endpoint=alpha:1|interface=203.0.113.7").localBind.toString(), "203.0.113.7:0")
      << "an address without prefix need not exist here: binding tells";
}

TEST(UdpChannel, sharesACanonicalFormWhereTheEndpointCanBeShared) {
  const auto form = [](const std::string& uri) { return parsedChannel(uri).canonicalForm; };
  EXPECT_EQ(form("aeron:udp?endpoint=alpha:1"), form("aeron:udp?endpoint=10.1.0.1:1|mtu=1408"));
  EXPECT_NE(form("aeron:udp?endpoint=alpha:1"), form("aeron:udp?endpoint=alpha:2"));
  EXPECT_NE(form("aeron:udp?endpoint=alpha:1"), form("aeron:udp?endpoint=alpha:1|interface=127.0.0.1"));
  EXPECT_NE(form("aeron:udp?endpoint=alpha:1"), form("aeron:udp?endpoint=alpha:1|control=alpha:2|control-mode=dynamic"));
  EXPECT_NE(form("aeron:udp?endpoint=alpha:1"), form("aeron:udp?endpoint=alpha:1|tags=3"));
  EXPECT_EQ(form("aeron:udp?control=alpha:2|control-mode=dynamic"), form("aeron:udp?control=alpha:2|control-mode=dynamic"));
}

TEST(UdpChannel, sharesNoCanonicalFormWhereEachWantsAPortOfItsOwn) {
  const auto form = [](const std::string& uri) { return parsedChannel(uri).canonicalForm; };
  EXPECT_NE(form("aeron:udp?endpoint=alpha:0"), form("aeron:udp?endpoint=alpha:0"));
  EXPECT_NE(form("aeron:udp?control-mode=manual"), form("aeron:udp?control-mode=manual"));
  EXPECT_EQ(form("aeron:udp?endpoint=alpha:0|tags=5"), form("aeron:udp?endpoint=alpha:0|tags=5"));
}

}  // namespace
}  // namespace outrigger::net
