// SPDX-License-Identifier: Apache-2.0
// UdpChannel: URI parameters to addresses and typed values, with the rules between them. May block in a name look-up, so it
// runs on the resource agent. What this driver supports of it (multicast, response channels) is the conductor's decision.
#include "net/udp_channel.h"

#include <netdb.h>

#include <array>
#include <atomic>
#include <charconv>
#include <cstdlib>
#include <limits>

#include "net/interface_search.h"

namespace outrigger::net {
namespace {

using io::SockAddr;

constexpr int64_t kMaxSocketBufferBytes = std::numeric_limits<int32_t>::max();
constexpr int64_t kMaxTtl = 255;

bool parseWhole(std::string_view text, int64_t minimum, int64_t maximum, int64_t& out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc() && end == text.data() + text.size() && out >= minimum && out <= maximum;
}

// The first bytes of a text, so that a message stays readable whatever a client sent.
std::string shortened(const std::string& text, size_t length) { return text.size() <= length ? text : text.substr(0, length) + "..."; }

Error prefixed(const ChannelUri& uri, const Error& cause) {
  constexpr size_t kUriLength = 160;
  constexpr size_t kCauseLength = 400;
  Error error = cause;
  error.message = "channel '" + shortened(uri.text(), kUriLength) + "': " + shortened(cause.message, kCauseLength);
  return error;
}

Error invalid(const ChannelUri& uri, const std::string& what) { return prefixed(uri, makeError(ErrorCode::kInvalidChannel, what)); }

bool isMulticast(const SockAddr& address) {
  if (address.family() == AF_INET) {
    return IN_MULTICAST(ntohl(reinterpret_cast<const sockaddr_in*>(&address.storage)->sin_addr.s_addr));
  }
  return IN6_IS_ADDR_MULTICAST(&reinterpret_cast<const sockaddr_in6*>(&address.storage)->sin6_addr) != 0;
}

uint8_t lastAddressByte(const SockAddr& address) {
  if (address.family() == AF_INET) {
    return static_cast<uint8_t>(ntohl(reinterpret_cast<const sockaddr_in*>(&address.storage)->sin_addr.s_addr) & 0xFF);
  }
  return reinterpret_cast<const sockaddr_in6*>(&address.storage)->sin6_addr.s6_addr[15];
}

SockAddr wildcard(bool v6) {
  SockAddr address;
  address.storage.ss_family = v6 ? AF_INET6 : AF_INET;
  address.length = v6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in);
  return address;
}

Result<void> parseControlMode(UdpChannel& channel) {
  if (!channel.uri.has("control-mode")) return {};
  const std::string_view mode = channel.uri.get("control-mode");
  if (mode == "dynamic") {
    channel.controlMode = ControlMode::kDynamic;
  } else if (mode == "manual") {
    channel.controlMode = ControlMode::kManual;
  } else if (mode == "response") {
    channel.controlMode = ControlMode::kResponse;
  } else {
    return invalid(channel.uri, "control-mode=" + std::string(mode) + " is unknown, allowed are dynamic, manual, response");
  }
  return {};
}

Result<void> parseAddress(UdpChannel& channel, const char* key, bool preferV6, const HostResolver& resolver, std::optional<SockAddr>& out) {
  if (!channel.uri.has(key)) return {};
  auto hostPort = splitHostPort(channel.uri.get(key));
  if (!hostPort) return invalid(channel.uri, std::string(key) + ": " + hostPort.error().message);
  auto address = resolver(hostPort->first, hostPort->second, preferV6);
  if (!address) return prefixed(channel.uri, address.error());
  out = address.take();
  return {};
}

// fc=max | fc=min[,t:5s][,g:/3] | fc=tagged,g:123/3[,t:5s]; rrwm:N with any.
Result<void> parseFlowControl(UdpChannel& channel) {
  if (!channel.uri.has("fc")) return {};
  const std::string_view text = channel.uri.get("fc");
  FlowControlParams& params = channel.flowControl;
  const auto fail = [&](const std::string& what) { return invalid(channel.uri, "fc=" + std::string(text) + " " + what); };
  const size_t comma = text.find(',');
  const std::string_view kind = text.substr(0, comma);
  if (kind == "max") {
    params.kind = FlowControlKind::kMax;
  } else if (kind == "min") {
    params.kind = FlowControlKind::kMin;
  } else if (kind == "tagged") {
    params.kind = FlowControlKind::kTagged;
  } else {
    return fail("names an unknown strategy, allowed are max, min, tagged");
  }
  std::string_view rest = comma == std::string_view::npos ? std::string_view() : text.substr(comma + 1);
  bool more = comma != std::string_view::npos;
  while (more) {
    const size_t next = rest.find(',');
    const std::string_view option = rest.substr(0, next);
    more = next != std::string_view::npos;
    if (more) rest.remove_prefix(next + 1);
    int64_t number = 0;
    if (option.starts_with("t:")) {
      if (!parseDurationText(option.substr(2), params.receiverTimeoutNs) || params.receiverTimeoutNs == 0) {
        return fail("has a malformed timeout: write t: and a duration, as in t:5s");
      }
    } else if (option.starts_with("g:")) {
      const std::string_view group = option.substr(2);
      const size_t slash = group.find('/');
      const std::string_view tag = group.substr(0, slash);
      if (!tag.empty()) {
        if (!parseWhole(tag, std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max(), params.groupTag)) {
          return fail("has a malformed group tag: write g:TAG, g:TAG/SIZE or g:/SIZE with whole numbers");
        }
        params.hasGroupTag = true;
      }
      if (slash != std::string_view::npos) {
        if (!parseWhole(group.substr(slash + 1), 0, std::numeric_limits<int32_t>::max(), number)) {
          return fail("has a malformed group size: write g:/SIZE with a whole number");
        }
        params.groupMinSize = static_cast<int32_t>(number);
      } else if (tag.empty()) {
        return fail("has an empty group: write g:TAG, g:TAG/SIZE or g:/SIZE");
      }
    } else if (option.starts_with("rrwm:")) {
      if (!parseWhole(option.substr(5), 1, std::numeric_limits<int32_t>::max(), number)) {
        return fail("has a malformed retransmit receiver window multiple: write rrwm: and a whole number of at least 1");
      }
      params.retransmitReceiverWindowMultiple = static_cast<int32_t>(number);
    } else {
      return fail("has the unknown option '" + std::string(option) + "', allowed are t:, g:, rrwm:");
    }
  }
  return {};
}

Result<void> parseTags(UdpChannel& channel) {
  constexpr int64_t kMin = std::numeric_limits<int64_t>::min();
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  if (channel.uri.has("tags")) {
    const std::string_view text = channel.uri.get("tags");
    const size_t comma = text.find(',');
    int64_t value = 0;
    const std::string_view first = text.substr(0, comma);
    bool good = first.empty() ? comma != std::string_view::npos : parseWhole(first, kMin, kMax, value);
    if (good && !first.empty()) channel.tag = value;
    if (good && comma != std::string_view::npos) {
      good = parseWhole(text.substr(comma + 1), kMin, kMax, value);
      channel.entityTag = value;
    }
    if (!good) {
      return invalid(channel.uri, "tags=" + std::string(text) +
                                      " is malformed: write tags=CHANNEL or tags=CHANNEL,ENTITY with "
                                      "whole numbers");
    }
  }
  if (channel.uri.has("gtag")) {
    auto tag = channel.uri.getInt64("gtag", 0, kMin, kMax);
    if (!tag) return tag.error();
    channel.groupTag = tag.take();
  }
  return {};
}

Result<void> parseNumbers(UdpChannel& channel) {
  const auto size = [&](const char* key, int32_t& out) -> Result<void> {
    auto value = channel.uri.getSizeBytes(key, 0, 0, kMaxSocketBufferBytes);
    if (!value) return value.error();
    out = static_cast<int32_t>(value.value());
    return {};
  };
  auto ttl = channel.uri.getInt64("ttl", 0, 0, kMaxTtl);
  if (!ttl) return ttl.error();
  channel.ttl = static_cast<int32_t>(ttl.value());
  if (auto r = size("so-sndbuf", channel.socketSendBufferBytes); !r) return r;
  if (auto r = size("so-rcvbuf", channel.socketReceiveBufferBytes); !r) return r;
  if (auto r = size("rcv-wnd", channel.receiverWindowBytes); !r) return r;
  channel.congestionControl = std::string(channel.uri.get("cc"));
  if (channel.uri.has("cc") && channel.congestionControl != "static" && channel.congestionControl != "cubic") {
    return invalid(channel.uri, "cc=" + channel.congestionControl + " is unknown, allowed are static, cubic");
  }
  return {};
}

// Each is "reserved" or an offset into the message. Those of the other direction mean nothing, and both may stand in one channel of a
// publication and a subscription, as with Aeron's drivers: that none is written over another holds for all three.
Result<void> parseTimestamps(UdpChannel& channel) {
  struct Parameter {
    const char* key;
    int32_t* out;
  };
  TimestampOffsets& offsets = channel.timestamps;
  const std::array<Parameter, 3> parameters = {{{"media-rcv-ts-offset", &offsets.mediaReceive},
                                                {"channel-rcv-ts-offset", &offsets.channelReceive},
                                                {"channel-snd-ts-offset", &offsets.channelSend}}};
  constexpr int32_t kTimeBytes = 8;
  for (const Parameter& parameter : parameters) {
    if (!channel.uri.has(parameter.key)) continue;
    const std::string_view text = channel.uri.get(parameter.key);
    int64_t value = TimestampOffsets::kReservedValue;
    if (text != "reserved" && !parseWhole(text, 0, TimestampOffsets::kMax, value)) {
      return invalid(channel.uri, std::string(parameter.key) + "=" + std::string(text) +
                                      " must be 'reserved', or the offset of 8 bytes in the message, 0 to " +
                                      std::to_string(TimestampOffsets::kMax));
    }
    *parameter.out = static_cast<int32_t>(value);
  }
  for (size_t i = 0; i < parameters.size(); ++i) {
    for (size_t k = i + 1; k < parameters.size(); ++k) {
      const int32_t one = *parameters[i].out;
      const int32_t other = *parameters[k].out;
      if (one == TimestampOffsets::kNone || other == TimestampOffsets::kNone || std::abs(one - other) >= kTimeBytes) continue;
      return invalid(channel.uri, std::string(parameters[i].key) + "=" + std::string(channel.uri.get(parameters[i].key)) + " and " +
                                      parameters[k].key + "=" + std::string(channel.uri.get(parameters[k].key)) +
                                      " overlap: a time takes 8 bytes");
    }
  }
  return {};
}

Result<void> checkRules(const UdpChannel& channel) {
  const bool hasAddress = channel.endpoint.has_value() || channel.control.has_value();
  const bool needsNone =
      channel.controlMode == ControlMode::kManual || channel.controlMode == ControlMode::kResponse || channel.tag.has_value();
  if (!hasAddress && !needsNone) {
    return invalid(channel.uri, "names no address: give endpoint=host:port, control=host:port, tags= or control-mode=manual");
  }
  if (channel.controlMode == ControlMode::kDynamic && !channel.control) {
    return invalid(channel.uri, "control-mode=dynamic needs control=host:port, where receivers report to");
  }
  if (channel.endpoint && channel.control && channel.endpoint->family() != channel.control->family()) {
    return invalid(channel.uri, "endpoint " + channel.endpoint->toString() + " and control " + channel.control->toString() +
                                    " are of different address families");
  }
  if (channel.multicast && (lastAddressByte(*channel.endpoint) & 1) == 0) {
    return invalid(channel.uri, "multicast data address " + channel.endpoint->toString() +
                                    " must be odd in its last byte: the even one above it carries control traffic");
  }
  return {};
}

Result<void> resolveLocal(UdpChannel& channel, const HostResolver& resolver) {
  const bool v6 = (channel.endpoint && channel.endpoint->isV6()) || (channel.control && channel.control->isV6());
  channel.interfaceSpec = std::string(channel.uri.get("interface"));
  if (channel.interfaceSpec.empty()) {
    channel.localBind = wildcard(v6);
    return {};
  }
  const bool familyKnown = channel.endpoint.has_value() || channel.control.has_value();
  auto found = searchInterface(channel.interfaceSpec, familyKnown ? (v6 ? AF_INET6 : AF_INET) : AF_UNSPEC, resolver);
  if (!found) return prefixed(channel.uri, found.error());
  channel.localBind = found->address;
  channel.interfaceName = found->name;
  return {};
}

// Nothing tells two such channels apart, yet each wants a port of its own: an ephemeral port, or manual mode without control.
bool isAnonymous(const UdpChannel& channel) {
  const bool ephemeral = (channel.endpoint && channel.endpoint->port() == 0) || (channel.control && channel.control->port() == 0);
  return !channel.tag && (ephemeral || (!channel.endpoint && !channel.control));
}

std::string makeCanonicalForm(const UdpChannel& channel) {
  static std::atomic<uint64_t> nextAnonymous{1};
  std::string form = "UDP-" + channel.localBind.toString();
  if (!channel.interfaceName.empty()) form += "%" + channel.interfaceName;
  form += channel.endpoint ? "-" + channel.endpoint->toString() : "-";
  form += channel.control ? "-" + channel.control->toString() : "-";
  switch (channel.controlMode) {
    case ControlMode::kNone:
      break;
    case ControlMode::kDynamic:
      form += "-dynamic";
      break;
    case ControlMode::kManual:
      form += "-manual";
      break;
    case ControlMode::kResponse:
      form += "-response";
      break;
  }
  if (channel.tag) form += "#" + std::to_string(*channel.tag);
  if (isAnonymous(channel)) form += "!" + std::to_string(nextAnonymous.fetch_add(1, std::memory_order_relaxed));
  return form;
}

}  // namespace

Result<std::pair<std::string, uint16_t>> splitHostPort(std::string_view text) {
  const auto fail = [&](const std::string& what) {
    return makeError(ErrorCode::kInvalidChannel, "address '" + std::string(text) + "' " + what + ": write host:port or [v6-address]:port");
  };
  std::string_view host;
  std::string_view port;
  if (text.starts_with('[')) {
    const size_t close = text.find(']');
    if (close == std::string_view::npos) return fail("has '[' without ']'");
    host = text.substr(1, close - 1);
    const std::string_view rest = text.substr(close + 1);
    if (!rest.starts_with(':')) return fail("has no port");
    port = rest.substr(1);
  } else {
    const size_t colon = text.find(':');
    if (colon == std::string_view::npos) return fail("has no port");
    if (text.find(':', colon + 1) != std::string_view::npos) return fail("has more than one ':' outside of brackets");
    host = text.substr(0, colon);
    port = text.substr(colon + 1);
  }
  if (host.empty()) return fail("has no host");
  int64_t number = 0;
  if (!parseWhole(port, 0, 65535, number)) return fail("has the port '" + std::string(port) + "', allowed is 0 to 65535");
  return std::pair<std::string, uint16_t>(std::string(host), static_cast<uint16_t>(number));
}

Result<SockAddr> resolveHost(const std::string& host, uint16_t port, bool preferV6) {
  const std::string bare = host.size() > 2 && host.front() == '[' && host.back() == ']' ? host.substr(1, host.size() - 2) : host;
  auto numeric = SockAddr::parseNumeric(bare, port);
  if (numeric) return numeric;
  if (bare.find(':') != std::string::npos) return numeric.error();  // an IPv6 literal, malformed: no name looks like that

  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_DGRAM;
  addrinfo* list = nullptr;
  const int status = ::getaddrinfo(bare.c_str(), nullptr, &hints, &list);
  if (status != 0) {
    return makeError(ErrorCode::kUnknownHost,
                     "cannot resolve host '" + bare + "': " + (status == EAI_SYSTEM ? std::strerror(errno) : ::gai_strerror(status)));
  }
  const int preferred = preferV6 ? AF_INET6 : AF_INET;
  const addrinfo* chosen = nullptr;
  for (const addrinfo* entry = list; entry != nullptr; entry = entry->ai_next) {
    if (entry->ai_family != AF_INET && entry->ai_family != AF_INET6) continue;
    if (chosen == nullptr || (entry->ai_family == preferred && chosen->ai_family != preferred)) chosen = entry;
  }
  SockAddr address;
  if (chosen != nullptr) {
    std::memcpy(&address.storage, chosen->ai_addr, chosen->ai_addrlen);
    address.length = chosen->ai_addrlen;
    address.setPort(port);
  }
  ::freeaddrinfo(list);
  if (address.length == 0) return makeError(ErrorCode::kUnknownHost, "host '" + bare + "' has no IPv4 or IPv6 address");
  return address;
}

Result<UdpChannel> UdpChannel::parse(const std::string& uriText, const HostResolver& resolver) {
  auto uri = ChannelUri::parse(uriText);
  if (!uri) return uri.error();
  UdpChannel channel;
  channel.uri = uri.take();
  if (channel.uri.media() != ChannelUri::Media::kUdp) return invalid(channel.uri, "is not a UDP channel");

  const bool preferV6 = channel.uri.get("interface").starts_with('[');
  if (auto r = parseControlMode(channel); !r) return r.error();
  if (auto r = parseNumbers(channel); !r) return r.error();
  if (auto r = parseTags(channel); !r) return r.error();
  if (auto r = parseTimestamps(channel); !r) return r.error();
  if (auto r = parseFlowControl(channel); !r) return r.error();
  if (auto r = parseAddress(channel, "endpoint", preferV6, resolver, channel.endpoint); !r) return r.error();
  if (auto r = parseAddress(channel, "control", preferV6, resolver, channel.control); !r) return r.error();
  channel.multicast = channel.endpoint && isMulticast(*channel.endpoint);
  if (auto r = checkRules(channel); !r) return r.error();
  if (auto r = resolveLocal(channel, resolver); !r) return r.error();
  channel.canonicalForm = makeCanonicalForm(channel);
  return channel;
}

}  // namespace outrigger::net
