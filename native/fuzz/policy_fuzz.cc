// SPDX-License-Identifier: Apache-2.0
// Any bytes as a policy: parsed to the end or refused with a line; never taken in part; what a rule names it allows, and nothing else of
// another stream.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "driver/policy.h"

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

using outrigger::driver::Policy;
using outrigger::driver::PolicyAction;

// The rules again, by the plainest reading of a text that was taken: each is allowed, on its stream.
void check(const Policy& policy, std::string_view text) {
  size_t rules = 0;
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(line.size() + 1);
    PolicyAction action{};
    if (line.starts_with("publish ")) {
      action = PolicyAction::kPublish;
    } else if (line.starts_with("destination ")) {
      action = PolicyAction::kDestination;
    } else if (line.starts_with("subscribe ")) {
      action = PolicyAction::kSubscribe;
    } else {
      continue;
    }
    ++rules;
    const std::string_view rest = line.substr(line.find(' ') + 1);
    const size_t blank = rest.find(' ');
    const auto streamId = static_cast<int32_t>(std::strtol(std::string(rest.substr(0, blank)).c_str(), nullptr, 10));
    auto channel = outrigger::net::ChannelUri::parse(rest.substr(blank + 1));
    require(channel.ok());
    require(policy.allows(action, streamId, *channel));
    // Sources come from subscribe rules alone.
    const auto sources = policy.sourcesOf(streamId, *channel);
    const auto stranger = outrigger::io::SockAddr::parseNumeric("192.0.2.77", 1).take();
    require(action == PolicyAction::kSubscribe || !sources.any() || policy.allows(PolicyAction::kSubscribe, streamId, *channel));
    static_cast<void>(sources.admits(stranger));
  }
  require(policy.size() == rules);
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
