// SPDX-License-Identifier: Apache-2.0
// Channel URI text: splitting, typed parameters, printing. Which parameters make sense together is not decided here.
#include "net/channel_uri.h"

#include <algorithm>
#include <charconv>
#include <limits>

namespace outrigger::net {
namespace {

constexpr std::string_view kPrefix = "aeron:";
constexpr std::string_view kSpyPrefix = "aeron-spy:";
constexpr size_t kQuotedLength = 160;  // of a rejected URI that an error message repeats

// The URI as an error message shows it: shortened, control bytes masked, since it comes from a client and lands in logs.
std::string quoted(std::string_view text) {
  std::string out = "'";
  for (const char c : text.substr(0, kQuotedLength)) {
    const auto byte = static_cast<unsigned char>(c);
    out += byte < 0x20 || byte == 0x7F ? '?' : c;
  }
  out += text.size() > kQuotedLength ? "...'" : "'";
  return out;
}

Error invalid(std::string_view text, const std::string& what) {
  return makeError(ErrorCode::kInvalidChannel, "channel " + quoted(text) + ": " + what);
}

Error invalidParameter(const ChannelUri& uri, std::string_view key, const std::string& what) {
  return invalid(uri.text(), "parameter " + std::string(key) + "=" + std::string(uri.get(key).substr(0, kQuotedLength)) + " " + what);
}

bool parseInteger(std::string_view text, int64_t& out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc() && end == text.data() + text.size() && !text.empty();
}

bool parseScaled(std::string_view digits, int64_t unit, int64_t& out) {
  int64_t value = 0;
  if (digits.empty() || digits.front() == '-' || !parseInteger(digits, value)) return false;
  if (value > std::numeric_limits<int64_t>::max() / unit) return false;
  out = value * unit;
  return true;
}

std::string rangeText(int64_t minimum, int64_t maximum) {
  return "is out of range: allowed is " + std::to_string(minimum) + " to " + std::to_string(maximum);
}

}  // namespace

bool parseSizeText(std::string_view text, int64_t& bytes) {
  int64_t unit = 1;
  switch (text.empty() ? '\0' : text.back()) {
    case 'k':
    case 'K':
      unit = int64_t{1} << 10;
      break;
    case 'm':
    case 'M':
      unit = int64_t{1} << 20;
      break;
    case 'g':
    case 'G':
      unit = int64_t{1} << 30;
      break;
    default:
      break;
  }
  if (unit != 1) text.remove_suffix(1);
  return parseScaled(text, unit, bytes);
}

bool parseDurationText(std::string_view text, int64_t& ns) {
  int64_t unit = 1;
  if (text.ends_with("ns")) {
    text.remove_suffix(2);
  } else if (text.ends_with("us")) {
    unit = 1'000;
    text.remove_suffix(2);
  } else if (text.ends_with("ms")) {
    unit = 1'000'000;
    text.remove_suffix(2);
  } else if (text.ends_with("s")) {
    unit = 1'000'000'000;
    text.remove_suffix(1);
  }
  return parseScaled(text, unit, ns);
}

Result<ChannelUri> ChannelUri::parse(std::string_view text) {
  if (text.size() > kMaxChannelUriLength) {
    return invalid(text,
                   "is " + std::to_string(text.size()) + " bytes long, at most " + std::to_string(kMaxChannelUriLength) + " are allowed");
  }
  if (std::any_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; })) {
    return invalid(text, "contains a control character");
  }
  ChannelUri uri;
  uri.text_ = std::string(text);
  std::string_view rest = text;
  if (rest.starts_with(kSpyPrefix)) {
    uri.spy_ = true;
    rest.remove_prefix(kSpyPrefix.size());
    // Clients write "aeron-spy:aeron:udp?...": the qualifier stands before a whole URI. The short form is taken too.
    if (rest.starts_with(kPrefix)) rest.remove_prefix(kPrefix.size());
  } else if (rest.starts_with(kPrefix)) {
    rest.remove_prefix(kPrefix.size());
  } else {
    return invalid(text, "must start with 'aeron:' or 'aeron-spy:'");
  }

  const size_t question = rest.find('?');
  const std::string_view media = rest.substr(0, question);
  if (media == "udp") {
    uri.media_ = Media::kUdp;
  } else if (media == "ipc") {
    uri.media_ = Media::kIpc;
  } else {
    return invalid(text, "has the unknown media '" + std::string(media.substr(0, kQuotedLength)) + "', allowed are udp, ipc");
  }
  if (question == std::string_view::npos) return uri;
  rest.remove_prefix(question + 1);
  if (rest.empty()) return uri;

  while (true) {
    const size_t bar = rest.find('|');
    const std::string_view param = rest.substr(0, bar);
    const size_t equals = param.find('=');
    if (param.empty()) return invalid(text, "has an empty parameter: write key=value, separated by '|'");
    if (equals == std::string_view::npos) {
      return invalid(text, "has the parameter '" + std::string(param.substr(0, kQuotedLength)) + "' without '=': write key=value");
    }
    if (equals == 0) {
      return invalid(text, "has a parameter without a name: '" + std::string(param.substr(0, kQuotedLength)) + "'");
    }
    const std::string_view key = param.substr(0, equals);
    if (uri.has(key)) return invalid(text, "has the parameter '" + std::string(key.substr(0, kQuotedLength)) + "' twice");
    uri.params_.emplace_back(std::string(key), std::string(param.substr(equals + 1)));
    if (bar == std::string_view::npos) return uri;
    rest.remove_prefix(bar + 1);
  }
}

std::string_view ChannelUri::get(std::string_view key) const {
  for (const auto& [name, value] : params_) {
    if (name == key) return value;
  }
  return {};
}

bool ChannelUri::has(std::string_view key) const {
  return std::any_of(params_.begin(), params_.end(), [key](const auto& param) { return param.first == key; });
}

Result<int64_t> ChannelUri::getInt64(std::string_view key, int64_t fallback, int64_t minimum, int64_t maximum) const {
  if (!has(key)) return fallback;
  int64_t value = 0;
  if (!parseInteger(get(key), value)) return invalidParameter(*this, key, "is not a whole number");
  if (value < minimum || value > maximum) return invalidParameter(*this, key, rangeText(minimum, maximum));
  return value;
}

Result<bool> ChannelUri::getBool(std::string_view key, bool fallback) const {
  if (!has(key)) return fallback;
  if (get(key) == "true") return true;
  if (get(key) == "false") return false;
  return invalidParameter(*this, key, "is neither 'true' nor 'false'");
}

Result<int64_t> ChannelUri::getSizeBytes(std::string_view key, int64_t fallback, int64_t minimum, int64_t maximum) const {
  if (!has(key)) return fallback;
  int64_t value = 0;
  if (!parseSizeText(get(key), value)) {
    return invalidParameter(*this, key, "is not a size: write bytes, or a number with k, m or g, as in 64k");
  }
  if (value < minimum || value > maximum) return invalidParameter(*this, key, rangeText(minimum, maximum) + " bytes");
  return value;
}

Result<int64_t> ChannelUri::getDurationNs(std::string_view key, int64_t fallback) const {
  if (!has(key)) return fallback;
  int64_t value = 0;
  if (!parseDurationText(get(key), value)) {
    return invalidParameter(*this, key, "is not a duration: write nanoseconds, or a number with ns, us, ms or s, as in 5s");
  }
  return value;
}

void ChannelUri::set(std::string_view key, std::string_view value) {
  const auto found = std::find_if(params_.begin(), params_.end(), [key](const auto& param) { return param.first == key; });
  if (found != params_.end()) {
    found->second = std::string(value);
  } else {
    params_.emplace_back(std::string(key), std::string(value));
  }
  text_ = toString();
}

std::string ChannelUri::toString() const {
  std::string out = spy_ ? "aeron-spy:aeron:" : "aeron:";
  out += media_ == Media::kUdp ? "udp" : "ipc";
  char separator = '?';
  for (const auto& [key, value] : params_) {
    out += separator;
    out += key;
    out += '=';
    out += value;
    separator = '|';
  }
  return out;
}

}  // namespace outrigger::net
