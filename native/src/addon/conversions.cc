// SPDX-License-Identifier: Apache-2.0
// See conversions.h.
#include "addon/conversions.h"

#include <limits>

#include "base/clock.h"

namespace outrigger::addon {
namespace {

const char* codeOf(client::CommandStatus::Failure failure) {
  using Failure = client::CommandStatus::Failure;
  switch (failure) {
    case Failure::kRefused:
      return "DRIVER_REFUSED";
    case Failure::kTimeout:
      return "TIMEOUT";
    case Failure::kClosed:
      return "CLOSED";
    case Failure::kInvalid:
      return "INVALID_ARGUMENT";
    default:
      return "DRIVER_UNAVAILABLE";
  }
}

Napi::Value number(Napi::Env env, int64_t value) { return Napi::Number::New(env, static_cast<double>(value)); }

}  // namespace

Napi::Error makeJsError(Napi::Env env, const char* code, const std::string& message, int32_t driverErrorCode) {
  Napi::Error error = Napi::Error::New(env, message);
  error.Set("code", Napi::String::New(env, code));
  if (driverErrorCode != 0) error.Set("driverErrorCode", Napi::Number::New(env, driverErrorCode));
  return error;
}

Napi::Error makeJsError(Napi::Env env, const client::CommandStatus& failed) {
  const bool refused = failed.failure == client::CommandStatus::Failure::kRefused;
  return makeJsError(env, codeOf(failed.failure), failed.error.message, refused ? static_cast<int32_t>(failed.error.code) : 0);
}

void throwJsError(Napi::Env env, const char* code, const std::string& message) {
  makeJsError(env, code, message).ThrowAsJavaScriptException();
}

std::string textOf(const Napi::Value& value) {
  size_t length = 0;
  if (napi_get_value_string_utf8(value.Env(), value, nullptr, 0, &length) != napi_ok) return {};
  std::string text(length, '\0');
  napi_get_value_string_utf8(value.Env(), value, text.data(), length + 1, &length);
  return text;
}

int64_t integerOf(const Napi::Value& value) {
  int64_t integer = 0;
  napi_get_value_int64(value.Env(), value, &integer);
  return integer;
}

bool flagOf(const Napi::Value& value) {
  bool flag = false;
  napi_get_value_bool(value.Env(), value, &flag);
  return flag;
}

bool bytesOf(const Napi::Value& value, const uint8_t*& data, size_t& length) {
  napi_typedarray_type type = napi_int8_array;
  void* begin = nullptr;
  if (!value.IsTypedArray() || napi_get_typedarray_info(value.Env(), value, &type, &length, &begin, nullptr, nullptr) != napi_ok ||
      type != napi_uint8_array) {
    return false;
  }
  data = static_cast<const uint8_t*>(begin);
  return true;
}

int64_t* wordsOf(const Napi::Value& value, size_t count) {
  napi_typedarray_type type = napi_int8_array;
  size_t length = 0;
  void* begin = nullptr;
  if (!value.IsTypedArray() || napi_get_typedarray_info(value.Env(), value, &type, &length, &begin, nullptr, nullptr) != napi_ok ||
      type != napi_bigint64_array || length < count) {
    return nullptr;
  }
  return static_cast<int64_t*>(begin);
}

Napi::Array toJs(Napi::Env env, const std::vector<cnc::CounterSnapshot>& counters) {
  Napi::Array array = Napi::Array::New(env, counters.size());
  uint32_t index = 0;
  for (const auto& counter : counters) {
    Napi::HandleScope scope(env);
    Napi::Object object = Napi::Object::New(env);
    object.Set("id", Napi::Number::New(env, counter.id));
    object.Set("typeId", Napi::Number::New(env, counter.typeId));
    object.Set("value", Napi::BigInt::New(env, counter.value));
    object.Set("registrationId", Napi::BigInt::New(env, counter.registrationId));
    object.Set("ownerId", Napi::BigInt::New(env, counter.ownerId));
    object.Set("label", Napi::String::New(env, counter.label));
    object.Set("key", Napi::Buffer<uint8_t>::Copy(env, counter.key.data(), counter.key.size()));
    array.Set(index++, object);
  }
  return array;
}

Napi::Array toJs(Napi::Env env, const std::vector<cnc::ErrorObservation>& errors) {
  Napi::Array array = Napi::Array::New(env, errors.size());
  uint32_t index = 0;
  for (const auto& error : errors) {
    Napi::Object object = Napi::Object::New(env);
    object.Set("count", Napi::Number::New(env, error.count));
    object.Set("firstMs", number(env, error.firstMs));
    object.Set("lastMs", number(env, error.lastMs));
    object.Set("text", Napi::String::New(env, error.text));
    array.Set(index++, object);
  }
  return array;
}

Napi::Array toJs(Napi::Env env, const std::vector<cnc::LossEntry>& losses) {
  Napi::Array array = Napi::Array::New(env, losses.size());
  uint32_t index = 0;
  for (const auto& loss : losses) {
    Napi::Object object = Napi::Object::New(env);
    object.Set("observations", Napi::BigInt::New(env, loss.observations));
    object.Set("bytesLost", Napi::BigInt::New(env, loss.bytesLost));
    object.Set("firstMs", number(env, loss.firstMs));
    object.Set("lastMs", number(env, loss.lastMs));
    object.Set("sessionId", Napi::Number::New(env, loss.sessionId));
    object.Set("streamId", Napi::Number::New(env, loss.streamId));
    object.Set("channel", Napi::String::New(env, loss.channel));
    object.Set("source", Napi::String::New(env, loss.source));
    array.Set(index++, object);
  }
  return array;
}

Napi::Object driverToJs(Napi::Env env, int64_t pid, int64_t startMs, int64_t heartbeatMs) {
  SystemClock clock;
  Napi::Object object = Napi::Object::New(env);
  object.Set("pid", number(env, pid));
  object.Set("startMs", number(env, startMs));
  // A driver that closed has no heartbeat any more.
  const double age = heartbeatMs < 0 ? std::numeric_limits<double>::infinity() : static_cast<double>(clock.epochMillis() - heartbeatMs);
  object.Set("heartbeatAgeMs", Napi::Number::New(env, age));
  return object;
}

std::vector<cnc::LossEntry> readLosses(const std::string& directory) {
  const auto file = MappedFile::open(directory + "/" + cnc::kLossReportFileName, false);
  if (!file) return {};
  return cnc::LossReport::read({file->data(), file->length()});
}

}  // namespace outrigger::addon
