// SPDX-License-Identifier: Apache-2.0
// Any bytes as a policy: parsed to the end or refused with a line; never taken in part; what a rule names it allows, and nothing else of
// another stream.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "driver/policy.h"

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

using outrigger::driver::Policy;
using outrigger::driver::PolicyAction;

struct ReadRule {
  PolicyAction action{};
  int32_t streamId = 0;
  std::string_view channel;
};

// The rules again, by the plainest reading of a text that was taken.
std::vector<ReadRule> rulesOf(std::string_view text) {
  std::vector<ReadRule> rules;
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(line.size() + 1);
    ReadRule rule;
    if (line.starts_with("publish ")) {
      rule.action = PolicyAction::kPublish;
    } else if (line.starts_with("destination ")) {
      rule.action = PolicyAction::kDestination;
    } else if (line.starts_with("subscribe ")) {
      rule.action = PolicyAction::kSubscribe;
    } else {
      continue;
    }
    const std::string_view rest = line.substr(line.find(' ') + 1);
    const size_t blank = rest.find(' ');
    rule.streamId = static_cast<int32_t>(std::strtol(std::string(rest.substr(0, blank)).c_str(), nullptr, 10));
    rule.channel = rest.substr(blank + 1);
    rules.push_back(rule);
  }
  return rules;
}

// Each is allowed, on its stream and in its role; no other stream is.
void check(const Policy& policy, std::string_view text) {
  const auto rules = rulesOf(text);
  require(policy.size() == rules.size());
  std::set<int32_t> streams;
  for (const ReadRule& rule : rules) streams.insert(rule.streamId);
  int32_t unused = 0;
  while (streams.contains(unused)) ++unused;
  const auto stranger = outrigger::io::SockAddr::parseNumeric("192.0.2.77", 1).take();
  for (const ReadRule& rule : rules) {
    auto channel = outrigger::net::ChannelUri::parse(rule.channel);
    require(channel.ok());
    require(policy.allows(rule.action, rule.streamId, *channel));
    require(!policy.sourcesOf(unused, *channel).admits(stranger));
    // What stays in this host's memory needs no rule.
    if (channel->media() == outrigger::net::ChannelUri::Media::kIpc || channel->isSpy()) continue;
    for (const auto action : {PolicyAction::kPublish, PolicyAction::kDestination, PolicyAction::kSubscribe}) {
      require(!policy.allows(action, unused, *channel));
      const bool inRole = std::any_of(rules.begin(), rules.end(),
                                      [&](const ReadRule& each) { return each.action == action && each.streamId == rule.streamId; });
      if (!inRole) require(!policy.allows(action, rule.streamId, *channel));
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto policy = Policy::parse(text);
  if (!policy) {
    require(!policy.error().message.empty());
  } else {
    check(*policy, text);
  }
  // The same as the lines of a well-formed file, which mere chance rarely makes.
  std::string framed = "outrigger-policy 1\n";
  framed += text;
  if (!text.empty() && text.back() != '\n') framed += '\n';
  size_t lines = 0;
  for (size_t i = framed.find('\n') + 1; i < framed.size(); ++i) lines += framed[i] == '\n' ? 1 : 0;
  framed += "end " + std::to_string(lines) + "\n";
  const auto whole = Policy::parse(framed);
  if (whole) check(*whole, framed);
  return 0;
}
