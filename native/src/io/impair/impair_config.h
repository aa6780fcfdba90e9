// SPDX-License-Identifier: Apache-2.0
// What an ImpairIo does to traffic, and its text form: "rx-loss=0.1,tx-dup=0.01,corrupt=0.001,reorder=0.02,mask=0x2,seed=7".
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace outrigger::io {

// Chances per datagram, each 0 to 1, drawn one after the other in this order: a lost datagram is not also duplicated.
struct ImpairProfile {
  double loss = 0;
  double duplicate = 0;
  double corrupt = 0;  // one bit of the payload flipped: past the UDP checksum, as faulty memory would
  double reorder = 0;  // changes place with the next datagram

  bool active() const { return loss > 0 || duplicate > 0 || corrupt > 0 || reorder > 0; }
};

struct ImpairConfig {
  static constexpr uint32_t kAllFrames = UINT32_MAX;

  ImpairProfile receive;
  ImpairProfile transmit;
  uint32_t frameMask = kAllFrames;  // bit 1 << frame type; others pass untouched. kAllFrames: also what is no frame
  uint64_t seed = 1;

  // Parameters separated by ','. loss, dup, corrupt and reorder stand for both directions, with rx- or tx- before them for
  // one; mask and seed are whole numbers, decimal or 0x hexadecimal. Or just "none". Errors name the parameter, its value and what is allowed.
  static Result<ImpairConfig> parse(std::string_view text);

  // Aeron's loss arguments, "rate=0.01|seed=1|recv-msg-mask=0x2": loss on receive. Without a mask nothing is lost, as there.
  static Result<ImpairConfig> parseAeronLoss(std::string_view text);

  // The specification that parse reads back, without what is at its default; "none" when nothing is impaired.
  std::string toString() const;
};

}  // namespace outrigger::io
