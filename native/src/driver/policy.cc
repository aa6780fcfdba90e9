// SPDX-License-Identifier: Apache-2.0
// The parser of policies, and how a channel is compared with a rule's.
#include "driver/policy.h"

#include <algorithm>
#include <charconv>

#include "net/udp_channel.h"

namespace outrigger::driver {
namespace {

constexpr std::string_view kHeader = "outrigger-policy 1";
constexpr size_t kQuotedLength = 160;

// What decides where datagrams go and come from, whose socket is used, and on which interface. Other parameters change how, not where.
constexpr std::string_view kRouting[] = {"endpoint", "control",           "control-mode",           "interface",
                                         "tags",     "response-endpoint", "response-correlation-id"};
constexpr std::string_view kAddresses[] = {"endpoint", "control"};

bool isAddress(std::string_view key) { return std::find(std::begin(kAddresses), std::end(kAddresses), key) != std::end(kAddresses); }

Result<io::SockAddr> numericOf(std::string_view hostAndPort) {
  auto split = net::splitHostPort(hostAndPort);
  if (!split) return split.error();
  return io::SockAddr::parseNumeric(split->first, split->second);
}

bool sameAddress(std::string_view a, std::string_view b) {
  if (a == b) return true;
  const auto first = numericOf(a);
  const auto second = numericOf(b);
  return first.ok() && second.ok() && *first == *second;
}

bool sameRoute(const net::ChannelUri& rule, const net::ChannelUri& channel) {
  return std::all_of(std::begin(kRouting), std::end(kRouting), [&](std::string_view key) {
    if (rule.has(key) != channel.has(key)) return false;
    return isAddress(key) ? sameAddress(rule.get(key), channel.get(key)) : rule.get(key) == channel.get(key);
  });
}

bool needsRule(const net::ChannelUri& channel) { return channel.media() != net::ChannelUri::Media::kIpc && !channel.isSpy(); }

// The word up to the next blank; `rest` becomes what follows it.
std::string_view word(std::string_view& rest) {
  const size_t blank = rest.find(' ');
  const std::string_view first = rest.substr(0, blank);
  rest = blank == std::string_view::npos ? std::string_view() : rest.substr(blank + 1);
  return first;
}

template <typename Number>
bool parseWhole(std::string_view text, Number& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size();
}

// "10.0.0.9", "10.0.0.9:40200", "fd00::9", "[fd00::9]:40200".
Result<io::SockAddr> parseSource(std::string_view text) {
  auto alone = io::SockAddr::parseNumeric(std::string(text), 0);
  if (alone) return alone;
  auto withPort = numericOf(text);
  if (withPort && withPort->port() != 0) return withPort;
  return makeError(ErrorCode::kGeneric, "names a source that is neither \"any\" nor a numeric address");
}

}  // namespace

Result<Policy> Policy::parse(std::string_view text) {
  Policy policy;
  size_t number = 0;
  size_t between = 0;
  bool ended = false;
  Rule* subscription = nullptr;  // of the source lines
  const auto fail = [&](std::string_view line, const std::string& what) {
    return makeError(ErrorCode::kGeneric,
                     "line " + std::to_string(number) + " '" + std::string(line.substr(0, kQuotedLength)) + "' " + what);
  };
  while (!text.empty()) {
    const size_t newline = text.find('\n');
    const std::string_view line = text.substr(0, newline);
    if (newline == std::string_view::npos) {
      ++number;
      return fail(line, "has no end: the file is cut off");
    }
    text.remove_prefix(newline + 1);
    ++number;
    if (number == 1) {
      if (line != kHeader) return fail(line, "is not '" + std::string(kHeader) + "': the file is of another version, or something else");
      continue;
    }
    if (ended) return fail(line, "stands behind the end");
    std::string_view rest = line;
    const std::string_view kind = word(rest);
    if (kind == "end") {
      size_t count = 0;
      if (!parseWhole(rest, count) || count != between)
        return fail(line, "does not name the " + std::to_string(between) + " lines above it");
      ended = true;
      continue;
    }
    ++between;
    if (line.empty() || line.front() == '#') continue;
    if (kind == "source") {
      if (subscription == nullptr) return fail(line, "stands behind no subscribe");
      if (rest == "any") {
        subscription->sources.addAny();
        continue;
      }
      auto source = parseSource(rest);
      if (!source) return fail(line, source.error().message);
      subscription->sources.add(*source);
      continue;
    }
    Rule rule;
    if (kind == "publish") {
      rule.action = PolicyAction::kPublish;
    } else if (kind == "destination") {
      rule.action = PolicyAction::kDestination;
    } else if (kind == "subscribe") {
      rule.action = PolicyAction::kSubscribe;
    } else {
      return fail(line, "is none of publish, destination, subscribe, source, end");
    }
    if (!parseWhole(word(rest), rule.streamId)) return fail(line, "names no stream: a whole number of 32 bits");
    auto channel = net::ChannelUri::parse(rest);
    if (!channel) return fail(line, "names no channel: " + channel.error().message);
    rule.channel = channel.take();
    policy.rules_.push_back(std::move(rule));
    Rule& added = policy.rules_.back();
    subscription = added.action == PolicyAction::kSubscribe ? &added : nullptr;
  }
  if (!ended) return makeError(ErrorCode::kGeneric, "has no line 'end': it is empty or cut off");
  for (Rule& rule : policy.rules_) rule.sources.seal();
  return policy;
}

bool Policy::allows(PolicyAction action, int32_t streamId, const net::ChannelUri& channel) const {
  if (!needsRule(channel)) return true;
  return std::any_of(rules_.begin(), rules_.end(), [&](const Rule& rule) {
    return rule.action == action && rule.streamId == streamId && needsRule(rule.channel) && sameRoute(rule.channel, channel);
  });
}

SourceList Policy::sourcesOf(int32_t streamId, const net::ChannelUri& channel) const {
  SourceList sources;
  for (const Rule& rule : rules_) {
    const bool same =
        rule.action == PolicyAction::kSubscribe && rule.streamId == streamId && needsRule(rule.channel) && sameRoute(rule.channel, channel);
    if (same) sources.addAll(rule.sources);
  }
  sources.seal();
  return sources;
}

}  // namespace outrigger::driver
