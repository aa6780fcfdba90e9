// SPDX-License-Identifier: Apache-2.0
// A UDP channel URI with its addresses resolved and its parameters typed (contract): what endpoints are made from and shared by.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "base/result.h"
#include "io/datagram_io.h"
#include "net/channel_uri.h"

namespace outrigger::net {

enum class ControlMode : uint8_t { kNone, kDynamic, kManual, kResponse };
enum class FlowControlKind : uint8_t { kDefault, kMax, kMin, kTagged };

// `fc=` of a URI. Durations 0 and group size 0 mean "driver default".
struct FlowControlParams {
  FlowControlKind kind = FlowControlKind::kDefault;
  int64_t receiverTimeoutNs = 0;  // t:
  int32_t groupMinSize = 0;       // g:/N
  bool hasGroupTag = false;
  int64_t groupTag = 0;                          // g:TAG
  int32_t retransmitReceiverWindowMultiple = 0;  // rrwm:
};

// host, port -> addresses. Blocking look-ups happen on the resource agent; tests inject a table.
using HostResolver = std::function<Result<io::SockAddr>(const std::string& host, uint16_t port, bool preferV6)>;
// getaddrinfo, IPv4 first; also [v6] literals. kUnknownHost naming the host.
Result<io::SockAddr> resolveHost(const std::string& host, uint16_t port, bool preferV6);

// Splits "host:port", "[v6]:port"; the port is required. kInvalidChannel naming the value.
Result<std::pair<std::string, uint16_t>> splitHostPort(std::string_view text);

// Where times are written into messages: from the end of the data header on, or one of the two constants (logbuffer/frame_stamps.h has them too,
// which this folder does not know).
struct TimestampOffsets {
  static constexpr int32_t kNone = -1;
  static constexpr int32_t kReservedValue = -8;    // the last 8 bytes of the header
  static constexpr int32_t kMax = 65504 - 32 - 8;  // of the longest datagram, behind its header

  int32_t mediaReceive = kNone;    // media-rcv-ts-offset=: when it arrived
  int32_t channelReceive = kNone;  // channel-rcv-ts-offset=: when the driver read it
  int32_t channelSend = kNone;     // channel-snd-ts-offset=: when the driver sent it

  bool receives() const { return mediaReceive != kNone || channelReceive != kNone; }
};

struct UdpChannel {
  ChannelUri uri;
  // Receive side: where to bind (endpoint=, or the wildcard/ephemeral for MDC with control=). Send side: where data goes.
  std::optional<io::SockAddr> endpoint;  // endpoint=host:port
  std::optional<io::SockAddr> control;   // control=host:port (MDC)
  ControlMode controlMode = ControlMode::kNone;
  bool multicast = false;
  std::string interfaceSpec;  // interface=, verbatim
  io::SockAddr localBind;     // interface= resolved, or the wildcard of the right family; port 0
  std::string interfaceName;  // netdev name of the interface when known
  int32_t ttl = 0;
  int32_t socketSendBufferBytes = 0;     // so-sndbuf, 0 = driver default
  int32_t socketReceiveBufferBytes = 0;  // so-rcvbuf
  int32_t receiverWindowBytes = 0;       // rcv-wnd
  std::optional<int64_t> tag;            // tags=<channel tag>[,<entity tag>]
  std::optional<int64_t> entityTag;
  std::optional<int64_t> groupTag;  // gtag=
  TimestampOffsets timestamps;
  FlowControlParams flowControl;  // fc=
  std::string congestionControl;  // cc=, empty = default
  // Two channels with the same canonical form share one endpoint: addresses, control mode, interface (and tag).
  std::string canonicalForm;

  // A publication with control= and no mode is dynamic: that is how stock drivers read it.
  bool isMdcSender() const {
    return controlMode == ControlMode::kDynamic || controlMode == ControlMode::kManual ||
           (controlMode == ControlMode::kNone && control.has_value());
  }

  // Fails with kInvalidChannel or kUnknownHost. Validates cross-parameter rules: endpoint or control required (control-mode=manual
  // publications need neither), control-mode=dynamic needs control, ttl range 0..255, multicast data address odd in its last byte.
  static Result<UdpChannel> parse(const std::string& uriText, const HostResolver& resolver);
};

}  // namespace outrigger::net
