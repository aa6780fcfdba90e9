// SPDX-License-Identifier: Apache-2.0
// A session: one queue or packet socket that a driver holds, and the ports steered into it. What of it must outlive this process is noted
// in a file, so that a successor knows what the pinned maps belong to.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "nicd/claims.h"

namespace outrigger::nicd {

enum class SessionKind : uint8_t { kXdp, kPacket };

// What is written down.
struct SessionRecord {
  uint64_t id = 0;
  SessionKind kind = SessionKind::kXdp;
  Token token{};
  std::string interface;
  uint32_t interfaceIndex = 0;
  uint32_t queue = 0;
  uint32_t mode = 0;          // XdpMode
  uint32_t group = 0;         // the same for sessions of one owner on one interface: its rules steer to its queues only
  uint64_t memoryBytes = 0;   // UMEM or rings
  bool deaf = false;          // packet: its filter lets nothing through, since it only sends
  uint64_t socketCookie = 0;  // SO_COOKIE of its socket: unique as long as the machine is up
  std::string claim;          // empty: none was needed
  uint32_t uid = 0;
  int64_t pid = 0;            // 0: not to be seen from here
  uint64_t processStart = 0;  // of /proc/<pid>/stat: tells the process from a later one of the same number
  std::vector<Address> ports;

  bool holds(const Address& port) const;
};

std::string formatRecord(const SessionRecord& record, std::string_view bootId);
// Fails on a record of another boot, one that is cut short, and on anything else that formatRecord would not write.
Result<SessionRecord> parseRecord(std::string_view text, std::string_view bootId);

// The directory of records. A record appears and vanishes whole.
class SessionStore {
 public:
  // Makes the directory (mode 0700) when it is not there.
  static Result<SessionStore> open(const std::string& directory);

  Result<void> save(const SessionRecord& record) const;
  void remove(uint64_t id) const;
  // What can be read; the rest is removed, `problems` says why.
  std::vector<SessionRecord> load(std::vector<std::string>& problems) const;

 private:
  std::string pathOf(uint64_t id) const;

  std::string directory_;
  std::string bootId_;
};

// Becomes readable when the process ends. From SO_PEERPIDFD where the kernel has it, else by number; invalid when neither works.
UniqueFd watchPeer(int socket, pid_t pid);
// The same for a process noted earlier; invalid when it has ended (`ended`) or can't be seen.
UniqueFd watchProcess(int64_t pid, uint64_t processStart, bool& ended);
// 0 when it can't be seen.
uint64_t processStartOf(int64_t pid);
bool hasEnded(const UniqueFd& process);

uint64_t cookieOf(int socket);
Token randomToken();
uint64_t randomId();

}  // namespace outrigger::nicd
