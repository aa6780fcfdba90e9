// SPDX-License-Identifier: Apache-2.0
#include "nicd/session.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>

#include "nicd/numbers.h"

namespace outrigger::nicd {
namespace {

constexpr std::string_view kMagic = "outrigger-nicd session 1";
constexpr std::string_view kEnd = "end";
constexpr size_t kMaxRecordLength = 256 * 1024;  // 1024 ports with room to spare
constexpr int kPeerPidFd = 77;                   // SO_PEERPIDFD, Linux 6.5

std::string readAll(const std::string& path, size_t limit) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  std::string text;
  if (!fd.valid()) return text;
  char chunk[4096];
  while (text.size() <= limit) {
    const ssize_t length = ::read(fd.get(), chunk, sizeof(chunk));
    if (length <= 0) break;
    text.append(chunk, static_cast<size_t>(length));
  }
  return text;
}

std::string hexOf(uint64_t value) {
  char text[17];
  const auto [end, error] = std::to_chars(text, text + sizeof(text), value, 16);
  return {text, end};
}

// "4 0a000001000… 40123 0": family, bytes, port, scope.
std::string formatPort(const Address& port) {
  Token bytes{};
  std::copy(std::begin(port.bytes), std::end(port.bytes), bytes.begin());
  return std::to_string(port.family) + " " + toHex(bytes).substr(0, 32) + " " + std::to_string(port.port) + " " +
         std::to_string(port.scope);
}

bool parsePort(std::string_view text, Address& port) {
  std::string_view fields[4];
  for (size_t i = 0; i < 4; ++i) {
    const size_t space = text.find(' ');
    if ((space == std::string_view::npos) != (i == 3)) return false;
    fields[i] = text.substr(0, space);
    text = i == 3 ? std::string_view{} : text.substr(space + 1);
  }
  Token bytes{};
  if (!fromHex(std::string(fields[1]) + std::string(32, '0'), bytes)) return false;
  std::copy_n(bytes.begin(), sizeof(port.bytes), port.bytes);
  return parseNumber(fields[0], port.family) && (port.family == 4 || port.family == 6) && parseNumber(fields[2], port.port) &&
         port.port != 0 && parseNumber(fields[3], port.scope);
}

bool isPlain(std::string_view text) { return text.find_first_of("\n/") == std::string_view::npos; }

bool takeField(SessionRecord& record, std::string_view key, std::string_view value) {
  if (key == "id") return parseNumber(value, record.id, 16) && record.id != 0;
  if (key == "kind") {
    record.kind = value == "packet" ? SessionKind::kPacket : SessionKind::kXdp;
    return value == "packet" || value == "xdp";
  }
  if (key == "token") return fromHex(value, record.token);
  if (key == "interface") {
    record.interface = std::string(value);
    return !value.empty() && value.size() < kInterfaceNameLength && isPlain(value);
  }
  if (key == "interfaceIndex") return parseNumber(value, record.interfaceIndex) && record.interfaceIndex != 0;
  if (key == "queue") return parseNumber(value, record.queue);
  if (key == "mode") return parseNumber(value, record.mode) && record.mode <= static_cast<uint32_t>(XdpMode::kGeneric);
  if (key == "group") return parseNumber(value, record.group);
  if (key == "memoryBytes") return parseNumber(value, record.memoryBytes);
  if (key == "deaf") {
    record.deaf = value == "1";
    return value == "0" || value == "1";
  }
  if (key == "socketCookie") return parseNumber(value, record.socketCookie);
  if (key == "claim") {
    record.claim = std::string(value);
    return value.size() < kClaimNameLength && isPlain(value);
  }
  if (key == "uid") return parseNumber(value, record.uid);
  if (key == "pid") return parseNumber(value, record.pid) && record.pid >= 0;
  if (key == "processStart") return parseNumber(value, record.processStart);
  if (key == "port") return parsePort(value, record.ports.emplace_back());
  return false;
}

UniqueFd openPidFd(pid_t pid) { return UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))); }

}  // namespace

bool SessionRecord::holds(const Address& port) const { return std::find(ports.begin(), ports.end(), port) != ports.end(); }

std::string formatRecord(const SessionRecord& record, std::string_view bootId) {
  std::string text(kMagic);
  const auto add = [&](std::string_view key, std::string_view value) { text += "\n" + std::string(key) + "=" + std::string(value); };
  add("boot", bootId);
  add("id", hexOf(record.id));
  add("kind", record.kind == SessionKind::kPacket ? "packet" : "xdp");
  add("token", toHex(record.token));
  add("interface", record.interface);
  add("interfaceIndex", std::to_string(record.interfaceIndex));
  add("queue", std::to_string(record.queue));
  add("mode", std::to_string(record.mode));
  add("group", std::to_string(record.group));
  add("memoryBytes", std::to_string(record.memoryBytes));
  add("deaf", record.deaf ? "1" : "0");
  add("socketCookie", std::to_string(record.socketCookie));
  add("claim", record.claim);
  add("uid", std::to_string(record.uid));
  add("pid", std::to_string(record.pid));
  add("processStart", std::to_string(record.processStart));
  for (const Address& port : record.ports) add("port", formatPort(port));
  text += "\n" + std::string(kEnd) + "\n";
  return text;
}

Result<SessionRecord> parseRecord(std::string_view text, std::string_view bootId) {
  const auto bad = [](std::string_view what) { return makeError(ErrorCode::kGeneric, "session record: " + std::string(what)); };
  SessionRecord record;
  bool ended = false;
  bool first = true;
  bool sameBoot = false;
  while (!text.empty()) {
    const size_t newline = text.find('\n');
    if (newline == std::string_view::npos || ended) return bad("does not end where it should");
    const std::string_view line = text.substr(0, newline);
    text = text.substr(newline + 1);
    if (first) {
      if (line != kMagic) return bad("is of another format");
      first = false;
    } else if (line == kEnd) {
      ended = true;
    } else {
      const size_t equals = line.find('=');
      if (equals == std::string_view::npos) return bad("has a line without '='");
      const std::string_view key = line.substr(0, equals);
      const std::string_view value = line.substr(equals + 1);
      if (key == "boot") {
        if (value != bootId) return bad("is from before the last boot");
        sameBoot = true;
      } else if (!takeField(record, key, value)) {
        return bad("field '" + std::string(key) + "' is unknown or has a bad value");
      }
    }
  }
  if (!ended || !sameBoot) return bad("is cut short");
  if (record.id == 0 || record.interface.empty() || record.interfaceIndex == 0) return bad("lacks its id or interface");
  return record;
}

Result<SessionStore> SessionStore::open(const std::string& directory) {
  for (size_t slash = directory.find('/', 1);; slash = directory.find('/', slash + 1)) {
    const std::string part = directory.substr(0, slash);
    const mode_t mode = slash == std::string::npos ? 0700 : 0755;
    if (::mkdir(part.c_str(), mode) != 0 && errno != EEXIST) {
      return makeError(ErrorCode::kGeneric, "cannot make the directory '" + part + "' for --state-dir", errno);
    }
    if (slash == std::string::npos) break;
  }
  SessionStore store;
  store.directory_ = directory;
  store.bootId_ = readAll("/proc/sys/kernel/random/boot_id", 64);
  while (!store.bootId_.empty() && store.bootId_.back() == '\n') store.bootId_.pop_back();
  return store;
}

std::string SessionStore::pathOf(uint64_t id) const { return directory_ + "/session-" + hexOf(id); }

Result<void> SessionStore::save(const SessionRecord& record) const {
  const std::string path = pathOf(record.id);
  const std::string fresh = path + ".new";
  const std::string text = formatRecord(record, bootId_);
  {
    const UniqueFd fd(::open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!fd.valid()) return makeError(ErrorCode::kGeneric, "cannot note a session in '" + fresh + "'", errno);
    if (::write(fd.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
      return makeError(ErrorCode::kStorageSpace, "cannot note a session in '" + fresh + "'", errno);
    }
  }
  // No fsync: records are worth nothing after a crash of the machine, and a killed process loses no written byte.
  if (::rename(fresh.c_str(), path.c_str()) != 0) return makeError(ErrorCode::kGeneric, "cannot rename '" + fresh + "'", errno);
  return {};
}

void SessionStore::remove(uint64_t id) const { ::unlink(pathOf(id).c_str()); }

std::vector<SessionRecord> SessionStore::load(std::vector<std::string>& problems) const {
  std::vector<SessionRecord> records;
  DIR* directory = ::opendir(directory_.c_str());
  if (directory == nullptr) return records;
  while (const dirent* entry = ::readdir(directory)) {
    const std::string name = entry->d_name;
    if (!name.starts_with("session-")) continue;
    const std::string path = directory_ + "/" + name;
    const std::string text = readAll(path, kMaxRecordLength);
    auto record = parseRecord(text, bootId_);
    if (record && name == "session-" + hexOf(record->id)) {
      records.push_back(record.take());
      continue;
    }
    ::unlink(path.c_str());
    problems.push_back("'" + path + "': " + (record ? "the name is not that of its session" : record.error().message));
  }
  ::closedir(directory);
  return records;
}

UniqueFd watchPeer(int socket, pid_t pid) {
  int fd = -1;
  socklen_t length = sizeof(fd);
  if (::getsockopt(socket, SOL_SOCKET, kPeerPidFd, &fd, &length) == 0) return UniqueFd(fd);
  return pid > 0 ? openPidFd(pid) : UniqueFd();
}

UniqueFd watchProcess(int64_t pid, uint64_t processStart, bool& ended) {
  ended = false;
  if (pid <= 0 || processStart == 0) return {};
  UniqueFd process = openPidFd(static_cast<pid_t>(pid));
  ended = !process.valid() ? errno == ESRCH : processStartOf(pid) != processStart;
  return ended ? UniqueFd() : std::move(process);
}

uint64_t processStartOf(int64_t pid) {
  if (pid <= 0) return 0;
  const std::string text = readAll("/proc/" + std::to_string(pid) + "/stat", 4096);
  // Field 22; the second one, in parentheses, may hold anything.
  size_t at = text.rfind(')');
  if (at == std::string::npos) return 0;
  for (int field = 2; field < 22 && at != std::string::npos; ++field) at = text.find(' ', at + 1);
  if (at == std::string::npos) return 0;
  const size_t end = text.find(' ', at + 1);
  uint64_t start = 0;
  return end != std::string::npos && parseNumber(std::string_view(text).substr(at + 1, end - at - 1), start) ? start : 0;
}

bool hasEnded(const UniqueFd& process) {
  pollfd polled{process.get(), POLLIN, 0};
  return process.valid() && ::poll(&polled, 1, 0) == 1;
}

uint64_t cookieOf(int socket) {
  uint64_t cookie = 0;
  socklen_t length = sizeof(cookie);
  return ::getsockopt(socket, SOL_SOCKET, SO_COOKIE, &cookie, &length) == 0 ? cookie : 0;
}

Token randomToken() {
  Token token{};
  size_t filled = 0;
  while (filled < token.size()) {
    const ssize_t length = ::getrandom(token.data() + filled, token.size() - filled, 0);
    if (length > 0) filled += static_cast<size_t>(length);
  }
  return token;
}

uint64_t randomId() {
  uint64_t id = 0;
  while (id == 0) {
    const Token token = randomToken();
    std::memcpy(&id, token.data(), sizeof(id));
  }
  return id;
}

}  // namespace outrigger::nicd
