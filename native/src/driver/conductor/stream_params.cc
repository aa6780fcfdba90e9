// SPDX-License-Identifier: Apache-2.0
// URI parameters of streams and the rules between them, as Aeron's drivers have them.
#include "driver/conductor/stream_params.h"

#include <algorithm>
#include <limits>

#include "logbuffer/descriptor.h"

namespace outrigger::driver {
namespace {

constexpr int64_t kInt32Min = std::numeric_limits<int32_t>::min();
constexpr int64_t kInt32Max = std::numeric_limits<int32_t>::max();
constexpr int32_t kMaxResendLimit = 256;

Error invalid(const net::ChannelUri& uri, const std::string& what) {
  constexpr size_t kShown = 160;
  return makeError(ErrorCode::kInvalidChannel, "channel '" + uri.text().substr(0, kShown) + "': " + what);
}

Result<void> checkSupported(const net::ChannelUri& uri) {
  if (uri.get("control-mode") == "response" || uri.has("response-correlation-id") || uri.has("response-endpoint")) {
    return makeError(ErrorCode::kNotSupported,
                     "channel '" + uri.text().substr(0, 160) + "': response channels are not supported by this driver yet");
  }
  return {};
}

Result<void> checkStreamId(const net::ChannelUri& uri, int32_t streamId) {
  if (!uri.has("stream-id")) return {};
  auto stated = uri.getInt64("stream-id", streamId, kInt32Min, kInt32Max);
  if (!stated) return stated.error();
  if (*stated != streamId) {
    return invalid(uri, "stream-id=" + std::to_string(*stated) + " is not the stream id of the command, " + std::to_string(streamId));
  }
  return {};
}

Result<void> parsePosition(const net::ChannelUri& uri, PublicationStreamParams& params) {
  const int count = uri.has("init-term-id") + uri.has("term-id") + uri.has("term-offset");
  if (count == 0) return {};
  if (count < 3) return invalid(uri, "init-term-id, term-id and term-offset go together: give all three or none");
  auto initial = uri.getInt64("init-term-id", 0, kInt32Min, kInt32Max);
  if (!initial) return initial.error();
  auto term = uri.getInt64("term-id", 0, kInt32Min, kInt32Max);
  if (!term) return term.error();
  auto offset = uri.getInt64("term-offset", 0, 0, params.termLength);
  if (!offset) return offset.error();
  if (*offset % wire::kFrameAlignment != 0) {
    return invalid(uri, "term-offset=" + std::to_string(*offset) + " must be a multiple of " + std::to_string(wire::kFrameAlignment));
  }
  params.initialTermId = static_cast<int32_t>(*initial);
  params.termId = static_cast<int32_t>(*term);
  params.termOffset = static_cast<int32_t>(*offset);
  if (logbuffer::termDelta(params.termId, params.initialTermId) < 0) {
    return invalid(uri, "term-id=" + std::to_string(params.termId) + " is before init-term-id=" + std::to_string(params.initialTermId));
  }
  if (params.termOffset == params.termLength) {
    // The end of a term is the start of the next one.
    params.termId = logbuffer::termAdd(params.termId, 1);
    params.termOffset = 0;
    if (logbuffer::termDelta(params.termId, params.initialTermId) < 0) return invalid(uri, "starts at the last position of the stream");
  }
  params.hasPosition = true;
  return {};
}

Result<void> parseSession(const net::ChannelUri& uri, PublicationStreamParams& params) {
  if (!uri.has("session-id")) return {};
  constexpr std::string_view kTagPrefix = "tag:";
  const std::string_view text = uri.get("session-id");
  if (text.starts_with(kTagPrefix)) {
    net::ChannelUri tagUri;
    tagUri.set("tag", text.substr(kTagPrefix.size()));
    auto tag = tagUri.getInt64("tag", 0, std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max());
    if (!tag) return invalid(uri, "session-id=" + std::string(text) + " must be a number or tag:NUMBER");
    params.sessionIdTag = *tag;
    return {};
  }
  auto session = uri.getInt64("session-id", 0, kInt32Min, kInt32Max);
  if (!session) return session.error();
  params.sessionId = static_cast<int32_t>(*session);
  return {};
}

Result<void> parseLengths(const net::ChannelUri& uri, const DriverConfig& config, PublicationStreamParams& params) {
  const bool ipc = uri.media() == net::ChannelUri::Media::kIpc;
  auto term = uri.getSizeBytes("term-length", ipc ? config.ipcTermBufferLength : config.termBufferLength, 0, kInt32Max);
  if (!term) return term.error();
  if (!logbuffer::isValidTermLength(*term)) {
    return invalid(uri, "term-length=" + std::to_string(*term) + " must be a power of two from " +
                            std::to_string(logbuffer::kMinTermLength) + " to " + std::to_string(logbuffer::kMaxTermLength));
  }
  params.termLength = static_cast<int32_t>(*term);
  auto mtu = uri.getSizeBytes("mtu", ipc ? config.ipcMtuLength : config.mtuLength, 0, kInt32Max);
  if (!mtu) return mtu.error();
  if (!logbuffer::isValidMtu(*mtu)) {
    return invalid(uri, "mtu=" + std::to_string(*mtu) + " must be a multiple of " + std::to_string(wire::kFrameAlignment) + " over " +
                            std::to_string(wire::kDataHeaderLength) + " and at most " + std::to_string(wire::kMaxUdpPayloadLength));
  }
  params.mtu = static_cast<int32_t>(*mtu);
  params.mtuGiven = uri.has("mtu");
  if (params.mtu > logbuffer::maxMessageLength(params.termLength)) {
    return invalid(uri, "mtu=" + std::to_string(params.mtu) + " is more than the longest message of term-length=" +
                            std::to_string(params.termLength) + ", " + std::to_string(logbuffer::maxMessageLength(params.termLength)));
  }
  const int32_t half = params.termLength / 2;
  const int32_t configured = ipc ? config.ipcPublicationWindowLength : config.publicationWindowLength;
  params.windowLength = configured > 0 ? std::min(configured, half) : half;
  if (uri.has("pub-wnd")) {
    auto window = uri.getSizeBytes("pub-wnd", 0, 0, kInt32Max);
    if (!window) return window.error();
    if (*window < params.mtu || *window > half) {
      return invalid(uri, "pub-wnd=" + std::to_string(*window) + " must be from mtu=" + std::to_string(params.mtu) +
                              " to half of the term length, " + std::to_string(half));
    }
    params.windowLength = static_cast<int32_t>(*window);
  }
  return {};
}

Result<void> parseBool(const net::ChannelUri& uri, const char* key, bool fallback, bool& out) {
  auto value = uri.getBool(key, fallback);
  if (!value) return value.error();
  out = *value;
  return {};
}

Result<void> parseOptionalDuration(const net::ChannelUri& uri, const char* key, std::optional<int64_t>& out) {
  if (!uri.has(key)) return {};
  auto value = uri.getDurationNs(key, 0);
  if (!value) return value.error();
  out = *value;
  return {};
}

}  // namespace

UntetheredTimeouts defaultUntethered(const DriverConfig& config) {
  const int64_t windowLimit = config.untetheredWindowLimitTimeoutNs;
  return {windowLimit, config.untetheredLingerTimeoutNs >= 0 ? config.untetheredLingerTimeoutNs : windowLimit,
          config.untetheredRestingTimeoutNs};
}

Error timestampClash(const char* what, const char* key, const net::UdpChannel& asked, const net::UdpChannel& existing) {
  constexpr size_t kShown = 160;
  const auto stated = [&](const net::ChannelUri& uri) { return uri.has(key) ? std::string(uri.get(key)) : std::string("none"); };
  return makeError(ErrorCode::kInvalidChannel, "option conflicts with existing " + std::string(what) + ": " + key + "=" +
                                                   stated(asked.uri) + " of channel '" + asked.uri.text().substr(0, kShown) +
                                                   "', existing " + stated(existing.uri) + " of channel '" +
                                                   existing.uri.text().substr(0, kShown) + "': say the same, or use another port");
}

Result<PublicationStreamParams> parsePublicationParams(const net::ChannelUri& uri, int32_t streamId, const DriverConfig& config) {
  if (uri.isSpy()) return invalid(uri, "a spy can only subscribe");
  PublicationStreamParams params;
  if (auto r = checkSupported(uri); !r) return r.error();
  if (auto r = checkStreamId(uri, streamId); !r) return r.error();
  if (auto r = parseLengths(uri, config, params); !r) return r.error();
  if (auto r = parsePosition(uri, params); !r) return r.error();
  if (auto r = parseSession(uri, params); !r) return r.error();
  auto linger = uri.getDurationNs("linger", config.publicationLingerTimeoutNs);
  if (!linger) return linger.error();
  params.lingerNs = *linger;
  auto maxResend = uri.getInt64("max-resend", config.maxResend, 1, kMaxResendLimit);
  if (!maxResend) return maxResend.error();
  params.maxResend = static_cast<int32_t>(*maxResend);
  if (auto r = parseBool(uri, "eos", true, params.signalEos); !r) return r.error();
  if (auto r = parseBool(uri, "sparse", config.termBufferSparse, params.sparse); !r) return r.error();
  if (auto r = parseBool(uri, "ssc", config.spiesSimulateConnection, params.spiesSimulateConnection); !r) return r.error();
  std::optional<int64_t> windowLimit;
  std::optional<int64_t> untetheredLinger;
  std::optional<int64_t> resting;
  if (auto r = parseOptionalDuration(uri, "untethered-window-limit-timeout", windowLimit); !r) return r.error();
  if (auto r = parseOptionalDuration(uri, "untethered-linger-timeout", untetheredLinger); !r) return r.error();
  if (auto r = parseOptionalDuration(uri, "untethered-resting-timeout", resting); !r) return r.error();
  const UntetheredTimeouts defaults = defaultUntethered(config);
  params.untethered = {windowLimit.value_or(defaults.windowLimitNs), untetheredLinger.value_or(defaults.lingerNs),
                       resting.value_or(defaults.restingNs)};
  return params;
}

Result<void> confirmSameStream(const net::ChannelUri& uri, const PublicationStreamParams& asked, const PublicationStreamParams& existing,
                               int32_t existingSessionId) {
  // Aeron's drivers answer a mismatch with a generic error: the channel is fine, the publication that exists is another one.
  const auto check = [&](const char* key, int64_t existingValue, int64_t askedValue) -> Result<void> {
    if (!uri.has(key) || existingValue == askedValue) return {};
    return makeError(ErrorCode::kGeneric, "existing publication has different '" + std::string(key) +
                                              "': existing=" + std::to_string(existingValue) + " requested=" + std::to_string(askedValue) +
                                              " channel=" + uri.text().substr(0, 160));
  };
  if (auto r = check("mtu", existing.mtu, asked.mtu); !r) return r;
  if (auto r = check("term-length", existing.termLength, asked.termLength); !r) return r;
  if (asked.sessionId) {
    if (auto r = check("session-id", existingSessionId, *asked.sessionId); !r) return r;
  }
  if (auto r = check("init-term-id", existing.initialTermId, asked.initialTermId); !r) return r;
  if (auto r = check("term-id", existing.termId, asked.termId); !r) return r;
  if (auto r = check("term-offset", existing.termOffset, asked.termOffset); !r) return r;
  if (auto r = check("pub-wnd", existing.windowLength, asked.windowLength); !r) return r;
  if (auto r = check("max-resend", existing.maxResend, asked.maxResend); !r) return r;
  if (auto r = check("eos", existing.signalEos, asked.signalEos); !r) return r;
  if (auto r = check("ssc", existing.spiesSimulateConnection, asked.spiesSimulateConnection); !r) return r;
  if (auto r = check("linger", existing.lingerNs, asked.lingerNs); !r) return r;
  if (auto r = check("untethered-window-limit-timeout", existing.untethered.windowLimitNs, asked.untethered.windowLimitNs); !r) return r;
  if (auto r = check("untethered-linger-timeout", existing.untethered.lingerNs, asked.untethered.lingerNs); !r) return r;
  return check("untethered-resting-timeout", existing.untethered.restingNs, asked.untethered.restingNs);
}

Result<SubscriptionStreamParams> parseSubscriptionParams(const net::ChannelUri& uri, int32_t streamId, const DriverConfig& config) {
  SubscriptionStreamParams params;
  if (auto r = checkSupported(uri); !r) return r.error();
  if (auto r = checkStreamId(uri, streamId); !r) return r.error();
  if (uri.get("control-mode") == "manual") {
    return makeError(ErrorCode::kNotSupported, "channel '" + uri.text().substr(0, 160) +
                                                   "': multi-destination subscriptions (control-mode=manual) are not supported by this "
                                                   "driver yet");
  }
  if (uri.has("session-id")) {
    auto session = uri.getInt64("session-id", 0, kInt32Min, kInt32Max);
    if (!session) return session.error();
    params.sessionId = static_cast<int32_t>(*session);
  }
  if (auto r = parseBool(uri, "reliable", config.reliableStream, params.reliable); !r) return r.error();
  if (auto r = parseBool(uri, "rejoin", config.rejoinStream, params.rejoin); !r) return r.error();
  if (auto r = parseBool(uri, "tether", config.tetherSubscriptions, params.tether); !r) return r.error();
  if (auto r = parseBool(uri, "sparse", config.termBufferSparse, params.sparse); !r) return r.error();
  params.group = config.receiverGroupConsideration;
  if (uri.has("group") && uri.get("group") != "infer") {
    bool group = false;
    if (auto r = parseBool(uri, "group", false, group); !r) return r.error();
    params.group = group ? InferableBoolean::kTrue : InferableBoolean::kFalse;
  } else if (uri.get("group") == "infer") {
    params.group = InferableBoolean::kInfer;
  }
  auto nakDelay = uri.getDurationNs("nak-delay", -1);
  if (!nakDelay) return nakDelay.error();
  params.nakDelayNs = *nakDelay;
  auto window = uri.getSizeBytes("rcv-wnd", config.initialWindowLength, 1, kInt32Max);
  if (!window) return window.error();
  params.receiverWindow = static_cast<int32_t>(*window);
  params.congestionControl = config.congestionControl;
  if (uri.get("cc") == "cubic") params.congestionControl = CongestionControlKind::kCubic;
  if (uri.get("cc") == "static") params.congestionControl = CongestionControlKind::kStatic;
  if (auto r = parseOptionalDuration(uri, "untethered-window-limit-timeout", params.untetheredWindowLimitNs); !r) return r.error();
  if (auto r = parseOptionalDuration(uri, "untethered-linger-timeout", params.untetheredLingerNs); !r) return r.error();
  if (auto r = parseOptionalDuration(uri, "untethered-resting-timeout", params.untetheredRestingNs); !r) return r.error();
  return params;
}

}  // namespace outrigger::driver
