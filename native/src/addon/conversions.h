// SPDX-License-Identifier: Apache-2.0
// Values between C++ and JavaScript: errors with a code, bytes, counters and logs as objects. No state.
#pragma once

#include <napi.h>

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "client/media_client.h"
#include "cnc/counters.h"
#include "cnc/error_log.h"

namespace outrigger::addon {

// An Error with `code` (a NativeErrorCode of types.ts) and, when the driver answered, `driverErrorCode`.
Napi::Error makeJsError(Napi::Env env, const char* code, const std::string& message, int32_t driverErrorCode = 0);
Napi::Error makeJsError(Napi::Env env, const client::CommandStatus& failed);
void throwJsError(Napi::Env env, const char* code, const std::string& message);

// Arguments as the facade passes them; what is of another type reads as empty, 0 or false. Nothing is coerced: that runs JavaScript, which
// a worker that is being ended can't, and what comes of it then is fatal at its first use.
std::string textOf(const Napi::Value& value);
int64_t integerOf(const Napi::Value& value);
bool flagOf(const Napi::Value& value);

// False when the value is no Uint8Array. The bytes are valid until control goes back to JavaScript.
bool bytesOf(const Napi::Value& value, const uint8_t*& data, size_t& length);
// `count` words of a BigInt64Array, nullptr when the value is none or shorter. Valid as above.
int64_t* wordsOf(const Napi::Value& value, size_t count);

Napi::Array toJs(Napi::Env env, const std::vector<cnc::CounterSnapshot>& counters);
Napi::Array toJs(Napi::Env env, const std::vector<cnc::ErrorObservation>& errors);
Napi::Array toJs(Napi::Env env, const std::vector<cnc::LossEntry>& losses);
Napi::Object driverToJs(Napi::Env env, int64_t pid, int64_t startMs, int64_t heartbeatMs);

// Losses of the driver in `directory`; none when it has no loss report.
std::vector<cnc::LossEntry> readLosses(const std::string& directory);

}  // namespace outrigger::addon
