// SPDX-License-Identifier: Apache-2.0
// All sessions and devices: opening, ports, leases, collecting what nobody holds any more, and taking up what an earlier process left.
// Knows no connection: who asks is an Owner. One thread.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "io/frame/netdev.h"
#include "nicd/device.h"
#include "nicd/options.h"
#include "nicd/session.h"

namespace outrigger::nicd {

// Who asks, as the kernel says (SO_PEERCRED) and as the claim says.
struct Owner {
  uint32_t uid = 0;
  int64_t pid = 0;
  uint64_t processStart = 0;
  std::optional<Claim> claim;

  // Whether a session is of the same claim, or without claims of the same process.
  bool owns(const SessionRecord& record) const;
};

struct Session {
  SessionRecord record;
  UniqueFd filterRules;                             // packet: the map of its filter
  std::vector<std::pair<Address, UniqueFd>> signs;  // io/posix/port_holder.h, of its ports
  UniqueFd process;                                 // pidfd of the holder, where it can be had
  bool attached = false;                            // a connection holds it
  bool expired = false;                             // steered to no more; kept while its process lives, since its memory is still pinned
  int64_t leaseEndNs = 0;                           // when not attached
};

class Registry {
 public:
  Registry(const Options& options, SessionStore store);
  ~Registry();

  // Takes up devices and sessions of an earlier process; what can't be is collected and logged.
  void restore(int64_t nowNs);

  struct Grant {
    Session* session = nullptr;
    UniqueFd socket;
    Opened opened;
    std::string reason;  // why nothing better
  };
  // `process` watches the holder.
  Result<Grant> openXdp(const Owner& owner, const OpenXdp& request, UniqueFd descriptor);
  Result<Grant> openPacket(const Owner& owner, const OpenPacket& request);
  Result<Described> describe(const Owner& owner, const std::string& interface) const;
  // The session that the owner's connection attaches to.
  Result<Session*> resume(const Owner& owner, const Resume& request, const UniqueFd& socket);

  struct Port {
    Address address;
    UniqueFd socket;  // invalid when the request brought one
  };
  Result<Port> openPort(const Owner& owner, Session& session, const OpenPort& request, const UniqueFd& existing);
  Result<void> closePort(Session& session, const Address& port);

  // Ends one at its holder's wish, or since it is of no use any more.
  void close(uint64_t id, const std::string& why);
  // Its connection ended: the lease begins.
  void detach(uint64_t id, int64_t nowNs);
  // Sessions whose process ended, whose lease is over, or whose interface is gone (with the reason, for their connections).
  void collect(int64_t nowNs, const std::function<void(const Session&, const std::string& why)>& lost);
  // When collect has something to do next; INT64_MAX: nothing is due.
  int64_t nextDueNs() const;
  // An interface changed.
  void linksChanged();

  Session* find(uint64_t id);
  const std::map<uint64_t, std::unique_ptr<Session>>& sessions() const { return sessions_; }
  const std::map<uint32_t, std::unique_ptr<Device>>& devices() const { return devices_; }
  Device* deviceOf(const Session& session);

  struct Totals {
    int64_t opened = 0;
    int64_t resumed = 0;
    int64_t closed = 0;
    int64_t collected = 0;  // without their holder's wish
    int64_t refused = 0;    // counted by who answers
  };
  Totals totals;

 private:
  Result<io::Netdev> permittedInterface(const Owner& owner, const std::string& name) const;
  bool mayHavePackets(const Owner& owner) const;
  Result<void> checkRoom(const Owner& owner, uint64_t memoryBytes);
  Result<Device*> obtainDevice(const io::Netdev& netdev, const OpenXdp& request);
  Result<void> checkPort(const Owner& owner, const Session& session, const Address& address) const;
  Result<UniqueFd> bindQueue(const OpenXdp& request, const Device& device, UniqueFd memory, const UniqueFd& shared, Grant& grant);
  Session& add(const Owner& owner, SessionRecord record);
  uint32_t groupOf(const Owner& owner, uint32_t interfaceIndex) const;
  Result<void> steer(Session& session, const Address& port);
  void unsteer(Session& session, const Address& port);
  static void sign(Session& session, const Address& port, int socket);
  bool portHeldBesides(const Session& session, const Address& port) const;
  void withdraw(Session& session);  // no frame comes to it any more
  void erase(std::map<uint64_t, std::unique_ptr<Session>>::iterator at, const std::string& why);
  void releaseDevice(uint32_t interfaceIndex);
  void restoreSession(SessionRecord record, int64_t nowNs);
  void removeStrangers();
  void describeOpened(const io::Netdev& netdev, Opened& opened) const;
  std::string filterPin(uint64_t id) const;

  Options options_;
  SessionStore store_;
  std::map<uint64_t, std::unique_ptr<Session>> sessions_;
  std::map<uint32_t, std::unique_ptr<Device>> devices_;  // by interface index
};

}  // namespace outrigger::nicd
