// SPDX-License-Identifier: Apache-2.0
// What clients of the driver may open and who may publish to it, as the sidecar writes it into the policy file. Text to rules, and the
// questions that are asked of them. Where the file is and who may write it is policy_file's.
//
//   outrigger-policy 1
//   publish 1001 aeron:udp?control-mode=manual        stream, channel: a publication may be added
//   destination 1001 aeron:udp?endpoint=10.0.0.7:40200  and may have this destination
//   subscribe 1001 aeron:udp?endpoint=10.0.0.5:40200  a subscription may be added
//   source 10.0.0.9                                   and these may publish to it: an address, with a port if it is known, or "any"
//   end 4                                             how many lines stand between: a file that was cut off is no policy
//
// Lines that begin with # and empty ones are comments, and do count. What no rule allows is refused; aeron:ipc and spies stay inside this
// host's memory, which their clients have anyway, and need none.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "driver/source_list.h"
#include "net/channel_uri.h"

namespace outrigger::driver {

enum class PolicyAction : uint8_t { kPublish, kDestination, kSubscribe };

class Policy {
 public:
  // Fails naming the line and what is wrong with it. Nothing is taken of a text with a fault.
  static Result<Policy> parse(std::string_view text);

  // True for what needs no rule, and for what a rule has: the same stream, and the same value of each parameter that says where datagrams go
  // or come from. Numeric addresses are compared as such, names as text: what a name stands for may change after it was allowed.
  bool allows(PolicyAction action, int32_t streamId, const net::ChannelUri& channel) const;
  // Who may publish to a subscription of this channel. Empty without a rule.
  SourceList sourcesOf(int32_t streamId, const net::ChannelUri& channel) const;

  size_t size() const { return rules_.size(); }

 private:
  struct Rule {
    PolicyAction action = PolicyAction::kPublish;
    int32_t streamId = 0;
    net::ChannelUri channel;
    SourceList sources;  // kSubscribe
  };
  std::vector<Rule> rules_;
};

}  // namespace outrigger::driver
