// SPDX-License-Identifier: Apache-2.0
#include "nicd/bpf.h"

#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

namespace outrigger::nicd {
namespace {

constexpr long kBpffsMagic = 0xcafe4a11;  // BPF_FS_MAGIC, linux/magic.h
constexpr size_t kVerifierLogLength = 64 * 1024;
constexpr size_t kShownLogLength = 400;

long callBpf(bpf_cmd command, bpf_attr& attributes) { return ::syscall(SYS_bpf, command, &attributes, sizeof(attributes)); }

uint64_t pointer(const void* address) { return reinterpret_cast<uintptr_t>(address); }

Error bpfError(const std::string& what, int error) {
  std::string text = "BPF: " + what;
  if (error == EPERM) text += ", give outrigger-nicd CAP_BPF and CAP_NET_ADMIN";
  return makeError(ErrorCode::kGeneric, text, error);
}

void setObjectName(char (&field)[BPF_OBJ_NAME_LEN], const char* name) { std::strncpy(field, name, sizeof(field) - 1); }

bool isOnBpffs(const std::string& directory) {
  struct statfs volume {};
  return ::statfs(directory.c_str(), &volume) == 0 && volume.f_type == kBpffsMagic;
}

}  // namespace

Result<UniqueFd> createHashMap(const char* name, uint32_t keyLength, uint32_t valueLength, uint32_t maxEntries) {
  bpf_attr attributes{};
  attributes.map_type = BPF_MAP_TYPE_HASH;
  attributes.key_size = keyLength;
  attributes.value_size = valueLength;
  attributes.max_entries = maxEntries;
  setObjectName(attributes.map_name, name);
  const long fd = callBpf(BPF_MAP_CREATE, attributes);
  if (fd < 0) return bpfError(std::string("cannot create the map ") + name, errno);
  return UniqueFd(static_cast<int>(fd));
}

Result<void> setElement(int map, const void* key, const void* value, const std::string& what) {
  bpf_attr attributes{};
  attributes.map_fd = static_cast<uint32_t>(map);
  attributes.key = pointer(key);
  attributes.value = pointer(value);
  attributes.flags = BPF_ANY;
  if (callBpf(BPF_MAP_UPDATE_ELEM, attributes) == 0) return {};
  return bpfError("cannot enter " + what + (errno == E2BIG ? ": the map is full" : ""), errno);
}

Result<void> removeElement(int map, const void* key, const std::string& what) {
  bpf_attr attributes{};
  attributes.map_fd = static_cast<uint32_t>(map);
  attributes.key = pointer(key);
  if (callBpf(BPF_MAP_DELETE_ELEM, attributes) == 0 || errno == ENOENT) return {};
  return bpfError("cannot remove " + what, errno);
}

bool hasElement(int map, const void* key, void* value) {
  bpf_attr attributes{};
  attributes.map_fd = static_cast<uint32_t>(map);
  attributes.key = pointer(key);
  attributes.value = pointer(value);
  return callBpf(BPF_MAP_LOOKUP_ELEM, attributes) == 0;
}

Result<UniqueFd> loadSocketFilter(const char* name, std::span<const bpf_insn> instructions) {
  std::vector<char> log(kVerifierLogLength);
  bpf_attr attributes{};
  attributes.prog_type = BPF_PROG_TYPE_SOCKET_FILTER;
  attributes.insns = pointer(instructions.data());
  attributes.insn_cnt = static_cast<uint32_t>(instructions.size());
  attributes.license = pointer("Apache-2.0");  // no helper used is restricted to GPL programs
  attributes.log_buf = pointer(log.data());
  attributes.log_size = static_cast<uint32_t>(log.size());
  attributes.log_level = 1;
  setObjectName(attributes.prog_name, name);
  const long fd = callBpf(BPF_PROG_LOAD, attributes);
  if (fd >= 0) return UniqueFd(static_cast<int>(fd));
  const int error = errno;
  std::string text(log.data(), ::strnlen(log.data(), log.size()));
  if (text.size() > kShownLogLength) text = text.substr(text.size() - kShownLogLength);
  return bpfError(std::string("cannot load the program ") + name + (text.empty() ? "" : " [" + text + "]"), error);
}

Result<void> pin(int object, const std::string& path) {
  bpf_attr attributes{};
  attributes.pathname = pointer(path.c_str());
  attributes.bpf_fd = static_cast<uint32_t>(object);
  if (callBpf(BPF_OBJ_PIN, attributes) == 0) return {};
  return bpfError("cannot pin '" + path + "'", errno);
}

Result<UniqueFd> openPinned(const std::string& path) {
  bpf_attr attributes{};
  attributes.pathname = pointer(path.c_str());
  const long fd = callBpf(BPF_OBJ_GET, attributes);
  if (fd < 0) return bpfError("cannot open the pin '" + path + "'", errno);
  return UniqueFd(static_cast<int>(fd));
}

Result<void> prepareBpfDirectory(const std::string& directory) {
  if (::mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST) {
    return makeError(ErrorCode::kGeneric, "cannot make the directory '" + directory + "' for --bpf-dir", errno);
  }
  if (isOnBpffs(directory)) return {};
  if (::mount("outrigger-nicd", directory.c_str(), "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RELATIME, "mode=0700") != 0) {
    return makeError(ErrorCode::kGeneric,
                     "'" + directory + "' of --bpf-dir is on no bpffs and none can be mounted there: mount one (mount -t bpf bpf " +
                         directory + "), or give outrigger-nicd CAP_SYS_ADMIN",
                     errno);
  }
  return {};
}

}  // namespace outrigger::nicd
