// SPDX-License-Identifier: Apache-2.0
// bpf(2), as much of it as nicd needs beside loading object files: maps, socket filters, pins. No libbpf, so that packet sessions work in a
// build without it.
#pragma once

#include <linux/bpf.h>

#include <cstdint>
#include <span>
#include <string>

#include "base/fd.h"
#include "base/result.h"

namespace outrigger::nicd {

Result<UniqueFd> createHashMap(const char* name, uint32_t keyLength, uint32_t valueLength, uint32_t maxEntries);
// Adds or replaces; removing what is not there is no error. `what` is for the message.
Result<void> setElement(int map, const void* key, const void* value, const std::string& what);
Result<void> removeElement(int map, const void* key, const std::string& what);
bool hasElement(int map, const void* key, void* value);

// A program of type SOCKET_FILTER. The error carries the end of the verifier's log.
Result<UniqueFd> loadSocketFilter(const char* name, std::span<const bpf_insn> instructions);

Result<void> pin(int object, const std::string& path);
Result<UniqueFd> openPinned(const std::string& path);

// Makes `directory` one that pins can go to: creates it and mounts a bpffs on it unless it is on one already.
Result<void> prepareBpfDirectory(const std::string& directory);

}  // namespace outrigger::nicd
