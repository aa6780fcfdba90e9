// SPDX-License-Identifier: Apache-2.0
// What a link message says of a VLAN's interface.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>

#include <cstring>
#include <string>

#include "net/netlink_message.h"

namespace outrigger::net {
namespace {

std::string attribute(uint16_t type, const std::string& value) {
  const rtattr header{static_cast<uint16_t>(sizeof(rtattr) + value.size()), type};
  std::string out(reinterpret_cast<const char*>(&header), sizeof(header));
  out += value;
  out.resize(RTA_ALIGN(out.size()));
  return out;
}

template <typename T>
std::string bytesOf(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof(value)};
}

NetlinkLink parsedLink(const std::string& attributes) {
  ifinfomsg fixed{};
  fixed.ifi_index = 7;
  const std::string body = bytesOf(fixed) + attributes;
  nlmsghdr header{};
  header.nlmsg_len = static_cast<uint32_t>(NLMSG_LENGTH(body.size()));
  header.nlmsg_type = RTM_NEWLINK;
  alignas(nlmsghdr) char message[512] = {};
  std::memcpy(message, &header, sizeof(header));
  std::memcpy(message + NLMSG_HDRLEN, body.data(), body.size());
  NetlinkLink link;
  EXPECT_TRUE(parseLink(reinterpret_cast<const nlmsghdr*>(message), link));
  return link;
}

std::string infoOf(const std::string& kind, uint16_t id, uint16_t protocol) {
  const std::string data = attribute(IFLA_VLAN_ID, bytesOf(id)) + attribute(IFLA_VLAN_PROTOCOL, bytesOf(htons(protocol)));
  return attribute(IFLA_LINKINFO, attribute(IFLA_INFO_KIND, kind + '\0') + attribute(IFLA_INFO_DATA, data));
}

TEST(NetlinkLinks, ofAVlanHaveItsIdAndTheInterfaceBeneath) {
  const std::string name = attribute(IFLA_IFNAME, std::string("eth0.42") + '\0');
  const NetlinkLink link = parsedLink(name + attribute(IFLA_LINK, bytesOf(3U)) + infoOf("vlan", 42, ETH_P_8021Q));
  EXPECT_EQ(link.name, "eth0.42");
  EXPECT_EQ(link.index, 7U);
  EXPECT_EQ(link.lower, 3U);
  EXPECT_EQ(link.vlan, 42);
}

TEST(NetlinkLinks, ofAnotherKindOrWithAServiceTagAreNoVlan) {
  EXPECT_EQ(parsedLink(infoOf("vlan", 42, ETH_P_8021AD)).vlan, 0);
  EXPECT_EQ(parsedLink(infoOf("macvlan", 42, ETH_P_8021Q)).vlan, 0);
  EXPECT_EQ(parsedLink(attribute(IFLA_LINKINFO, "x")).vlan, 0);
  EXPECT_EQ(parsedLink(infoOf("vlan", 42, ETH_P_8021Q).substr(0, 20)).vlan, 0) << "cut short";
}

TEST(NetlinkLinks, overAnInterfaceOfAnotherNamespaceHaveNoneBeneathHere) {
  EXPECT_EQ(parsedLink(attribute(IFLA_LINK, bytesOf(3U)) + attribute(IFLA_LINK_NETNSID, bytesOf(0))).lower, 0U);
}

}  // namespace
}  // namespace outrigger::net
