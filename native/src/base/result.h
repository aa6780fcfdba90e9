// SPDX-License-Identifier: Apache-2.0
// Result<T> and Error: how every fallible control-path call of the driver and client answers.
// Nothing here throws. Data-path code uses status enums instead, since an Error owns a string.
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <utility>

namespace outrigger {

// Error codes of the Aeron control protocol (the client sees these numbers in ERROR responses).
enum class ErrorCode : int32_t {
  kInvalidChannel = 1,
  kUnknownSubscription = 2,
  kUnknownPublication = 3,
  kChannelEndpointError = 4,
  kUnknownCounter = 5,
  kUnknownCommandTypeId = 6,
  kMalformedCommand = 7,
  kNotSupported = 8,
  kUnknownHost = 9,
  kResourceTemporarilyUnavailable = 10,
  kGeneric = 11,
  kStorageSpace = 12,
  kImageRejected = 13,
  kPublicationRevoked = 14,
};

// What failed, where, and the value that made it fail. `message` is a whole sentence with the fix where one is known.
struct Error {
  ErrorCode code = ErrorCode::kGeneric;
  int sysErrno = 0;  // errno of the failed system call, 0 when none was involved
  std::string message;
};

inline Error makeError(ErrorCode code, std::string message, int sysErrno = 0) {
  if (sysErrno != 0) {
    message += ": ";
    message += std::strerror(sysErrno);
    message += " (errno " + std::to_string(sysErrno) + ")";
  }
  return Error{code, sysErrno, std::move(message)};
}

template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}      // NOLINT(google-explicit-constructor): reads as `return value`
  Result(Error error) : error_(std::move(error)) {}  // NOLINT(google-explicit-constructor)

  bool ok() const { return value_.has_value(); }
  explicit operator bool() const { return ok(); }
  T& value() { return *value_; }
  const T& value() const { return *value_; }
  T& operator*() { return *value_; }
  const T& operator*() const { return *value_; }
  T* operator->() { return &*value_; }
  const T* operator->() const { return &*value_; }
  T take() { return std::move(*value_); }
  const Error& error() const { return error_; }

 private:
  std::optional<T> value_;
  Error error_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : failed_(true), error_(std::move(error)) {}  // NOLINT(google-explicit-constructor)

  bool ok() const { return !failed_; }
  explicit operator bool() const { return ok(); }
  const Error& error() const { return error_; }

 private:
  bool failed_ = false;
  Error error_;
};

}  // namespace outrigger
