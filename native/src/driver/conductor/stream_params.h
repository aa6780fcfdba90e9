// SPDX-License-Identifier: Apache-2.0
// What a channel URI says about a publication or a subscription, with the driver's defaults filled in and the rules checked. Addresses
// are net/udp_channel's part. Pure functions.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "driver/driver_config.h"
#include "net/channel_uri.h"
#include "net/udp_channel.h"

namespace outrigger::driver {

struct UntetheredTimeouts {
  int64_t windowLimitNs = 0;
  int64_t lingerNs = 0;
  int64_t restingNs = 0;
};

struct PublicationStreamParams {
  int32_t termLength = 0;
  int32_t mtu = 0;
  bool mtuGiven = false;  // by the channel, not the driver's default
  int32_t windowLength = 0;
  int32_t maxResend = 0;
  int32_t initialTermId = 0;  // these three: only when hasPosition
  int32_t termId = 0;
  int32_t termOffset = 0;
  bool hasPosition = false;
  std::optional<int32_t> sessionId;     // session-id=N
  std::optional<int64_t> sessionIdTag;  // session-id=tag:N: the session of the publication with that entity tag
  int64_t lingerNs = 0;
  int64_t entityTag = -1;
  bool signalEos = true;
  bool sparse = true;
  bool spiesSimulateConnection = false;
  UntetheredTimeouts untethered;
};

// kInvalidChannel naming parameter, value and rule; kNotSupported for what this driver does not do.
Result<PublicationStreamParams> parsePublicationParams(const net::ChannelUri& uri, int32_t streamId, const DriverConfig& config);

// A concurrent publication exists already: what the URI of a second add says explicitly must be the same. Naming the parameter.
Result<void> confirmSameStream(const net::ChannelUri& uri, const PublicationStreamParams& asked, const PublicationStreamParams& existing,
                               int32_t existingSessionId);

struct SubscriptionStreamParams {
  std::optional<int32_t> sessionId;
  bool reliable = true;
  bool rejoin = true;
  bool tether = true;
  bool sparse = true;
  InferableBoolean group = InferableBoolean::kInfer;
  int64_t nakDelayNs = -1;
  int32_t receiverWindow = 0;
  CongestionControlKind congestionControl = CongestionControlKind::kStatic;
  std::optional<int64_t> untetheredWindowLimitNs;  // absent: the publication's (IPC, spies) or the driver's
  std::optional<int64_t> untetheredLingerNs;
  std::optional<int64_t> untetheredRestingNs;

  UntetheredTimeouts untethered(const UntetheredTimeouts& fallback) const {
    return {untetheredWindowLimitNs.value_or(fallback.windowLimitNs), untetheredLingerNs.value_or(fallback.lingerNs),
            untetheredRestingNs.value_or(fallback.restingNs)};
  }
};

Result<SubscriptionStreamParams> parseSubscriptionParams(const net::ChannelUri& uri, int32_t streamId, const DriverConfig& config);

UntetheredTimeouts defaultUntethered(const DriverConfig& config);

// A second publication or subscription (`what`) of an endpoint says of a time in its messages (`key`) something else than the first: both share
// the socket, and the place of the time is the socket's.
Error timestampClash(const char* what, const char* key, const net::UdpChannel& asked, const net::UdpChannel& existing);

}  // namespace outrigger::driver
