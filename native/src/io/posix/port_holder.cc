// SPDX-License-Identifier: Apache-2.0
// Formats: proc(5), /proc/net/unix and /proc/net/udp; abstract names: unix(7).
#include "io/posix/port_holder.h"

#include <dirent.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <cstring>
#include <fstream>
#include <mutex>
#include <optional>
#include <sstream>

namespace outrigger::io {
namespace {

constexpr std::string_view kSignPrefix = "outrigger/udp/";

constexpr int kNetnsCookie = 71;  // SO_NETNS_COOKIE, Linux 5.14

// 0 where the kernel does not say.
uint64_t namespaceOf(int socket) {
  uint64_t cookie = 0;
  socklen_t length = sizeof(cookie);
  return ::getsockopt(socket, SOL_SOCKET, kNetnsCookie, &cookie, &length) == 0 ? cookie : 0;
}

// 4-in-6 apart: the kernel's tables are of one family each.
struct Bound {
  sa_family_t family = AF_UNSPEC;
  std::array<uint8_t, 16> bytes{};
  uint16_t port = 0;

  bool wildcard() const {
    return std::all_of(bytes.begin(), bytes.end(), [](uint8_t byte) { return byte == 0; });
  }
};

Bound boundOf(const SockAddr& address) {
  Bound bound;
  bound.family = address.family();
  bound.port = address.port();
  if (bound.family == AF_INET) {
    std::memcpy(bound.bytes.data(), &reinterpret_cast<const sockaddr_in*>(&address.storage)->sin_addr, 4);
  } else {
    std::memcpy(bound.bytes.data(), &reinterpret_cast<const sockaddr_in6*>(&address.storage)->sin6_addr, 16);
  }
  return bound;
}

// Whether one of two sockets keeps the other from its address. A wildcard of IPv6 may hold the IPv4 port too.
bool conflict(const Bound& wanted, const Bound& held) {
  if (wanted.port != held.port) return false;
  if (wanted.family == held.family) return wanted.bytes == held.bytes || wanted.wildcard() || held.wildcard();
  return (held.family == AF_INET6 ? held : wanted).wildcard();
}

// "0100007F:1F90": words of the address as this machine has them, then the port.
std::optional<Bound> parseTableAddress(std::string_view text, sa_family_t family) {
  const size_t colon = text.find(':');
  const size_t words = family == AF_INET ? 1 : 4;
  if (colon != words * 8) return std::nullopt;
  Bound bound;
  bound.family = family;
  for (size_t i = 0; i < words; ++i) {
    uint32_t word = 0;
    if (std::from_chars(text.data() + i * 8, text.data() + i * 8 + 8, word, 16).ec != std::errc()) return std::nullopt;
    std::memcpy(bound.bytes.data() + i * 4, &word, 4);
  }
  if (std::from_chars(text.data() + colon + 1, text.data() + text.size(), bound.port, 16).ec != std::errc()) return std::nullopt;
  return bound;
}

struct TableEntry {
  uint32_t uid = 0;
  uint64_t inode = 0;
};

std::optional<TableEntry> findInTable(const char* path, sa_family_t family, const Bound& wanted) {
  std::ifstream table(path);
  std::string line;
  std::getline(table, line);  // headings
  while (std::getline(table, line)) {
    std::istringstream fields(line);
    std::string slot, local, remote, state, queues, timer, retransmits, timeout;
    TableEntry entry;
    if (!(fields >> slot >> local >> remote >> state >> queues >> timer >> retransmits >> entry.uid >> timeout >> entry.inode)) continue;
    const auto held = parseTableAddress(local, family);
    if (held && conflict(wanted, *held)) return entry;
  }
  return std::nullopt;
}

bool holdsInode(const std::string& process, const std::string& target) {
  const std::string folder = "/proc/" + process + "/fd";
  DIR* directory = ::opendir(folder.c_str());
  if (directory == nullptr) return false;
  bool found = false;
  while (const dirent* entry = found ? nullptr : ::readdir(directory)) {
    char link[64];
    const ssize_t length = ::readlink((folder + "/" + entry->d_name).c_str(), link, sizeof(link));
    found = length > 0 && target == std::string_view(link, static_cast<size_t>(length));
  }
  ::closedir(directory);
  return found;
}

std::string printable(std::string_view text) {
  std::string out(text);
  std::replace_if(
      out.begin(), out.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
  return out;
}

// "4242 (name)", of the first process that has the socket and lets us look.
std::string findProcess(uint64_t inode) {
  const std::string target = "socket:[" + std::to_string(inode) + "]";
  DIR* directory = ::opendir("/proc");
  if (directory == nullptr) return {};
  std::string found;
  while (const dirent* entry = found.empty() ? ::readdir(directory) : nullptr) {
    const std::string process = entry->d_name;
    if (process.find_first_not_of("0123456789") != std::string::npos || !holdsInode(process, target)) continue;
    std::string name;
    std::getline(std::ifstream("/proc/" + process + "/comm"), name);
    found = process + " (" + printable(name) + ")";
  }
  ::closedir(directory);
  return found;
}

// "outrigger/udp/10.0.0.1:40123/4242.7/outrigger-driver 4242 in /dev/shm/aeron": address, what makes the name unique, owner.
std::string findSign(const Bound& wanted) {
  std::ifstream table("/proc/thread-self/net/unix");
  std::string line;
  while (std::getline(table, line)) {
    const size_t at = line.find("@" + std::string(kSignPrefix));
    if (at == std::string::npos) continue;
    const std::string_view sign = std::string_view(line).substr(at + 1 + kSignPrefix.size());
    const size_t address = sign.find('/');
    const size_t unique = address == std::string_view::npos ? address : sign.find('/', address + 1);
    const size_t colon = sign.substr(0, address).rfind(':');
    if (unique == std::string_view::npos || colon == std::string_view::npos) continue;
    std::string host(sign.substr(0, colon));
    if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
    uint16_t port = 0;
    if (std::from_chars(sign.data() + colon + 1, sign.data() + address, port).ec != std::errc()) continue;
    const auto held = SockAddr::parseNumeric(host, port);
    if (held && conflict(wanted, boundOf(*held))) return printable(sign.substr(unique + 1));
  }
  return {};
}

thread_local int trials = 0;

std::mutex ownerMutex;
std::string ownerOfPorts;

}  // namespace

void namePortsAfter(std::string owner) {
  const std::lock_guard lock(ownerMutex);
  ownerOfPorts = std::move(owner);
}

std::string portOwner() {
  const std::lock_guard lock(ownerMutex);
  return ownerOfPorts;
}

UniqueFd putPortSign(int socket, const SockAddr& address, const std::string& owner) {
  if (owner.empty()) return {};
  static std::atomic<uint64_t> count{0};
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  std::string text =
      std::string(kSignPrefix) + address.toString() + "/" + std::to_string(::getpid()) + "." + std::to_string(++count) + "/" + owner;
  // The first byte is the zero of an abstract name.
  text.resize(std::min(text.size(), sizeof(name.sun_path) - 1));
  std::memcpy(name.sun_path + 1, text.data(), text.size());
  // Bound and never listening: nothing can be sent to it.
  UniqueFd sign(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  // Also where the kernel does not say it: a sign in the wrong namespace would name somebody who is in nobody's way.
  const uint64_t space = namespaceOf(socket);
  if (space == 0 || space != namespaceOf(sign.get())) return {};
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + text.size());
  if (!sign.valid() || ::bind(sign.get(), reinterpret_cast<const sockaddr*>(&name), length) != 0) return {};
  return sign;
}

PortTrial::PortTrial() { ++trials; }
PortTrial::~PortTrial() { --trials; }

std::string portHolder(const SockAddr& address, HolderLook look) {
  if (trials > 0) return {};
  const Bound wanted = boundOf(address);
  if (std::string sign = findSign(wanted); !sign.empty()) return sign;
  auto entry = findInTable("/proc/thread-self/net/udp", AF_INET, wanted);
  if (!entry) entry = findInTable("/proc/thread-self/net/udp6", AF_INET6, wanted);
  if (!entry) return {};
  const std::string user = " of user " + std::to_string(entry->uid);
  if (look == HolderLook::kUser) return "a process" + user;
  const std::string process = findProcess(entry->inode);
  return process.empty() ? "a process" + user + " that can't be seen from here" : "process " + process + user;
}

}  // namespace outrigger::io
