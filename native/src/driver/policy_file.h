// SPDX-License-Identifier: Apache-2.0
// Reads the policy file: who may have written it, and whether it is another one than before. Blocking: the resource agent's.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "base/result.h"
#include "driver/policy.h"

namespace outrigger::driver {

struct PolicyReading {
  std::shared_ptr<const Policy> policy;  // null: as before, or not usable
  std::string text;                      // of that policy
  std::optional<Error> error;            // why it is not usable
  bool absent = false;                   // because there is none
};

// `trustedUser`: may own the file and its folder, beside root; -1 for the user of this process. Refused is whatever others could have written
// or put there: a folder or a file that group or others may write, a link, anything but an ordinary file.
// `before`: text of the policy that is known. By its text, since times of files are coarse and inodes are used again.
PolicyReading readPolicyFile(const std::string& path, int64_t trustedUser, const std::string& before);

}  // namespace outrigger::driver
