// SPDX-License-Identifier: Apache-2.0
// Errors that know how a client is told of them: a Refusal rides in the code of an Error. What carries none is kSystem.
#pragma once

#include <cerrno>
#include <string>
#include <utility>

#include "base/result.h"
#include "io/nicd_client/protocol.h"

namespace outrigger::nicd {

constexpr int32_t kRefusalBase = 1000;  // above all codes of the driver's clients

inline Error refuse(Refusal refusal, std::string message, int sysErrno = 0) {
  return makeError(static_cast<ErrorCode>(kRefusalBase + static_cast<int32_t>(refusal)), std::move(message), sysErrno);
}

inline Refusal refusalOf(const Error& error) {
  const int32_t number = static_cast<int32_t>(error.code) - kRefusalBase;
  if (number >= static_cast<int32_t>(Refusal::kSystem) && number <= static_cast<int32_t>(Refusal::kUnavailable)) {
    return static_cast<Refusal>(number);
  }
  if (error.code == ErrorCode::kNotSupported) return Refusal::kUnsupported;
  return error.sysErrno == EBUSY || error.sysErrno == EADDRINUSE ? Refusal::kBusy : Refusal::kSystem;
}

}  // namespace outrigger::nicd
