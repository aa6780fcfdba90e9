// SPDX-License-Identifier: Apache-2.0
// ethtool ioctls and two generic netlink requests. Numbers of the netdev family as in the kernel's Documentation/netlink/specs/netdev.yaml,
// which Debian 12's headers do not have.
#include "io/xdp/interface_facts.h"

#include <linux/ethtool.h>
#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>

#include "base/fd.h"

namespace outrigger::io::xdp {
namespace {

constexpr uint8_t kNetdevDevGet = 1;
constexpr uint16_t kAttributeInterfaceIndex = 1;
constexpr uint16_t kAttributeXdpFeatures = 3;
constexpr uint16_t kAttributeZeroCopyBuffers = 4;
constexpr uint16_t kAttributeXskFeatures = 6;
constexpr uint64_t kBasic = 1, kRedirect = 2, kZeroCopy = 8, kReceiveBuffers = 32;
constexpr uint64_t kXskTransmitChecksum = 2;
constexpr timeval kAnswerTime{1, 0};  // the kernel answers before sendto returns; a bound against what we do not know

using Attributes = std::function<void(uint16_t type, const uint8_t* data, uint16_t length)>;

// One request with one attribute, one answer.
bool ask(int fd, uint16_t family, uint8_t command, uint16_t attribute, const void* value, uint16_t length, const Attributes& each) {
  struct {
    nlmsghdr header;
    genlmsghdr generic;
    nlattr attribute;
    std::array<uint8_t, 32> value;
  } request{};
  request.header.nlmsg_len = static_cast<uint32_t>(NLMSG_LENGTH(GENL_HDRLEN) + NLA_HDRLEN + NLA_ALIGN(length));
  request.header.nlmsg_type = family;
  request.header.nlmsg_flags = NLM_F_REQUEST;
  request.generic.cmd = command;
  request.generic.version = 1;
  request.attribute.nla_type = attribute;
  request.attribute.nla_len = static_cast<uint16_t>(NLA_HDRLEN + length);
  std::memcpy(request.value.data(), value, length);
  if (::send(fd, &request, request.header.nlmsg_len, 0) < 0) return false;
  alignas(nlmsghdr) std::array<uint8_t, 8192> answer{};
  const ssize_t received = ::recv(fd, answer.data(), answer.size(), 0);
  if (received < static_cast<ssize_t>(NLMSG_LENGTH(GENL_HDRLEN))) return false;
  const auto* header = reinterpret_cast<const nlmsghdr*>(answer.data());
  if (header->nlmsg_type != family) return false;  // NLMSG_ERROR
  const size_t end = std::min<size_t>(header->nlmsg_len, static_cast<size_t>(received));
  size_t at = NLMSG_LENGTH(GENL_HDRLEN);
  while (at + NLA_HDRLEN <= end) {
    nlattr found{};
    std::memcpy(&found, answer.data() + at, sizeof(found));
    if (found.nla_len < NLA_HDRLEN || at + found.nla_len > end) break;
    each(static_cast<uint16_t>(found.nla_type & NLA_TYPE_MASK), answer.data() + at + NLA_HDRLEN,
         static_cast<uint16_t>(found.nla_len - NLA_HDRLEN));
    at += NLA_ALIGN(found.nla_len);
  }
  return true;
}

std::optional<InterfaceFacts::Features> readFeatures(uint32_t interfaceIndex) {
  const UniqueFd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC));
  if (!fd.valid() || ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &kAnswerTime, sizeof(kAnswerTime)) != 0) return std::nullopt;
  uint16_t family = 0;
  constexpr char kName[] = "netdev";
  const bool known = ask(fd.get(), GENL_ID_CTRL, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_NAME, kName, sizeof(kName),
                         [&](uint16_t type, const uint8_t* data, uint16_t length) {
                           if (type == CTRL_ATTR_FAMILY_ID && length == sizeof(family)) std::memcpy(&family, data, length);
                         });
  if (!known || family == 0) return std::nullopt;
  InterfaceFacts::Features features;
  const auto readNumber = [](const uint8_t* data, uint16_t length) {
    uint64_t value = 0;
    std::memcpy(&value, data, std::min<size_t>(length, sizeof(value)));
    return value;
  };
  const bool answered = ask(fd.get(), family, kNetdevDevGet, kAttributeInterfaceIndex, &interfaceIndex, sizeof(interfaceIndex),
                            [&](uint16_t type, const uint8_t* data, uint16_t length) {
                              const uint64_t value = readNumber(data, length);
                              if (type == kAttributeXdpFeatures) {
                                features.native = (value & (kBasic | kRedirect)) == (kBasic | kRedirect);
                                features.zeroCopy = (value & kZeroCopy) != 0;
                                features.multiBuffer = (value & kReceiveBuffers) != 0;
                              } else if (type == kAttributeZeroCopyBuffers) {
                                features.zeroCopyBuffers = static_cast<uint32_t>(value);
                              } else if (type == kAttributeXskFeatures) {
                                features.transmitChecksum = (value & kXskTransmitChecksum) != 0;
                              }
                            });
  if (!answered) return std::nullopt;
  return features;
}

}  // namespace

InterfaceFacts readInterfaceFacts(const Netdev& netdev) {
  InterfaceFacts facts;
  facts.features = readFeatures(netdev.index);
  const UniqueFd control(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!control.valid()) return facts;
  const auto request = [&](unsigned long command, void* data) {
    ifreq query{};
    std::memcpy(query.ifr_name, netdev.name.data(), std::min<size_t>(netdev.name.size(), IFNAMSIZ - 1));
    query.ifr_data = static_cast<char*>(data);
    return ::ioctl(control.get(), command, &query) == 0;
  };
  ethtool_drvinfo driver{};
  driver.cmd = ETHTOOL_GDRVINFO;
  if (request(SIOCETHTOOL, &driver)) {
    facts.driver.assign(driver.driver, ::strnlen(driver.driver, sizeof(driver.driver)));
    facts.hardware =
        driver.bus_info[0] != '\0' && std::strncmp(driver.bus_info, "tap", 3) != 0 && std::strncmp(driver.bus_info, "tun", 3) != 0;
  }
  ethtool_channels channels{};
  channels.cmd = ETHTOOL_GCHANNELS;
  if (request(SIOCETHTOOL, &channels)) facts.queues = std::max(channels.combined_count + channels.rx_count, 1U);
  ethtool_ringparam rings{};
  rings.cmd = ETHTOOL_GRINGPARAM;
  if (request(SIOCETHTOOL, &rings)) facts.receiveDescriptors = rings.rx_pending;
  ifreq query{};
  std::memcpy(query.ifr_name, netdev.name.data(), std::min<size_t>(netdev.name.size(), IFNAMSIZ - 1));
  if (::ioctl(control.get(), SIOCGIFMTU, &query) == 0) facts.mtu = static_cast<uint32_t>(query.ifr_mtu);
  return facts;
}

}  // namespace outrigger::io::xdp
