// SPDX-License-Identifier: Apache-2.0
// Sessions without a connection: leases, what their end means, and the restart of this process.
#include <dirent.h>
#include <net/if.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <limits>

#include "base/json_log.h"
#include "nicd/numbers.h"
#include "nicd/refusal.h"
#include "nicd/registry.h"
#include "nicd/steer_key.h"

namespace outrigger::nicd {
namespace {

bool interfaceIs(const SessionRecord& record) { return ::if_nametoindex(record.interface.c_str()) == record.interfaceIndex; }

}  // namespace

void Registry::detach(uint64_t id, int64_t nowNs) {
  Session* session = find(id);
  if (session == nullptr) return;
  session->attached = false;
  session->leaseEndNs = nowNs + options_.leaseMs * kMillisecond;
}

Result<Session*> Registry::resume(const Owner& owner, const Resume& request, const UniqueFd& socket) {
  Session* session = find(request.session);
  Token token{};
  std::copy(std::begin(request.token), std::end(request.token), token.begin());
  if (session == nullptr || session->expired || !sameToken(session->record.token, token) || session->record.uid != owner.uid) {
    return refuse(Refusal::kUnknown, "the session is unknown: its lease is over, or it was never opened here");
  }
  SessionRecord& record = session->record;
  if ((owner.claim ? owner.claim->name : std::string()) != record.claim) {
    return refuse(Refusal::kNotAllowed, "the session was opened with claim '" + record.claim + "'");
  }
  if (cookieOf(socket.get()) != record.socketCookie) {
    return refuse(Refusal::kNotAllowed, "the socket that came along is not that of the session");
  }
  if (!interfaceIs(record)) return refuse(Refusal::kUnavailable, "interface '" + record.interface + "' is gone");
  if (record.kind == SessionKind::kXdp) {
    OpenXdp again;
    again.mode = record.mode == static_cast<uint32_t>(XdpMode::kGeneric) ? record.mode : static_cast<uint32_t>(XdpMode::kAuto);
    auto device = obtainDevice({record.interface, record.interfaceIndex}, again);
    if (!device) return device.error();
    if (auto r = (*device)->program().setSocket(record.queue, socket.get(), record.group); !r) return r.error();
  }
  // Rules of a packet socket are in the map of its filter, which no restart changes.
  for (const Address& port : record.ports) {
    if (record.kind == SessionKind::kPacket && !session->filterRules.valid()) break;
    if (auto r = steer(*session, port); !r) return r.error();
  }
  session->signs.clear();
  for (const Address& port : record.ports) sign(*session, port, socket.get());
  record.pid = owner.pid;
  record.processStart = owner.processStart;
  if (auto r = store_.save(record); !r) return r.error();
  session->attached = true;
  session->leaseEndNs = 0;
  ++totals.resumed;
  return session;
}

void Registry::collect(int64_t nowNs, const std::function<void(const Session&, const std::string& why)>& lost) {
  for (auto at = sessions_.begin(); at != sessions_.end();) {
    const auto next = std::next(at);
    Session& session = *at->second;
    const Device* device = deviceOf(session);
    std::string why;
    // Looked at first: an interface that goes takes its program with it after its name.
    const bool detached = !session.expired && device != nullptr && !const_cast<Device*>(device)->program().attached();
    if (hasEnded(session.process)) {
      why = "its process ended";
    } else if (!session.expired && !interfaceIs(session.record)) {
      why = "interface '" + session.record.interface + "' is gone";
    } else if (detached) {
      why = "the program on interface '" + session.record.interface + "' was detached";
    } else if (!session.attached && !session.expired && nowNs >= session.leaseEndNs) {
      if (session.process.valid()) {
        // Its memory stays pinned as long as the process holds the socket: it counts until then.
        withdraw(session);
        session.expired = true;
        ++totals.collected;
        LogLine(LogLevel::kWarn)
            .add("interface", session.record.interface)
            .add("queue", static_cast<int64_t>(session.record.queue))
            .write("a session's lease is over, nothing is steered to it any more");
        releaseDevice(session.record.interfaceIndex);
      } else {
        why = "its lease is over";
      }
    }
    if (!why.empty()) {
      lost(session, why);
      if (!session.expired) ++totals.collected;
      erase(at, why);
    }
    at = next;
  }
}

int64_t Registry::nextDueNs() const {
  int64_t due = std::numeric_limits<int64_t>::max();
  for (const auto& [id, session] : sessions_) {
    if (!session->attached && !session->expired) due = std::min(due, session->leaseEndNs);
  }
  return due;
}

void Registry::linksChanged() {
  for (const auto& [index, device] : devices_) {
    auto reader = io::LinkReader::open(device->netdev());
    if (!reader) continue;
    const io::LinkState link = (*reader)->read();
    if (!link.gone && link.mtu != 0) static_cast<void>(device->program().setMtu(link.mtu));
  }
}

void Registry::restoreSession(SessionRecord record, int64_t nowNs) {
  const auto giveUp = [&](const std::string& why) {
    store_.remove(record.id);
    if (!options_.bpfDirectory.empty()) ::unlink(filterPin(record.id).c_str());
    ++totals.collected;
    LogLine(LogLevel::kWarn).add("interface", record.interface).add("why", why).write("collected a session of an earlier process");
  };
  bool ended = false;
  auto session = std::make_unique<Session>();
  session->process = watchProcess(record.pid, record.processStart, ended);
  if (ended) return giveUp("its process ended");
  if (!interfaceIs(record)) return giveUp("the interface is gone");
  if (!options_.bpfDirectory.empty()) {
    if (record.kind == SessionKind::kXdp && !devices_.contains(record.interfaceIndex)) {
      const bool generic = record.mode == static_cast<uint32_t>(XdpMode::kGeneric);
      auto device = Device::adopt({record.interface, record.interfaceIndex}, options_.bpfDirectory, generic);
      if (device) {
        devices_.emplace(record.interfaceIndex, device.take());
      } else {
        // The driver brings its socket when it comes back, and a new program gets it.
        LogLine(LogLevel::kWarn).add("interface", record.interface).add("why", device.error().message).write("no program to take up");
      }
    } else if (record.kind == SessionKind::kPacket) {
      if (auto rules = openPinned(filterPin(record.id)); rules) session->filterRules = rules.take();
    }
  }
  session->leaseEndNs = nowNs + options_.leaseMs * kMillisecond;
  session->record = std::move(record);
  const uint64_t id = session->record.id;
  sessions_.emplace(id, std::move(session));
}

// Pins and rules that no session explains: their process died between two steps.
void Registry::removeStrangers() {
  for (const auto& [index, device] : devices_) {
    for (const io::SockAddr& rule : device->program().rules()) {
      const bool known = std::any_of(sessions_.begin(), sessions_.end(), [&, i = index](const auto& each) {
        return each.second->record.interfaceIndex == i && each.second->record.kind == SessionKind::kXdp &&
               each.second->record.holds(addressOf(rule));
      });
      if (!known) static_cast<void>(device->program().removeRule(rule));
    }
  }
  if (options_.bpfDirectory.empty()) return;
  DIR* directory = ::opendir(options_.bpfDirectory.c_str());
  if (directory == nullptr) return;
  std::vector<std::string> strangers;
  while (const dirent* entry = ::readdir(directory)) {
    const std::string name = entry->d_name;
    if (name.starts_with("if")) {
      const auto index = static_cast<uint32_t>(std::strtoul(name.c_str() + 2, nullptr, 10));
      if (!devices_.contains(index)) strangers.push_back(name);
    } else if (name.starts_with("packet-") && find(std::strtoull(name.c_str() + 7, nullptr, 10)) == nullptr) {
      strangers.push_back(name);
    }
  }
  ::closedir(directory);
  for (const std::string& name : strangers) {
    const std::string path = options_.bpfDirectory + "/" + name;
    if (name.starts_with("if")) {
      Device::unpin(path);
    } else {
      ::unlink(path.c_str());
    }
    LogLine(LogLevel::kWarn).add("pin", path).write("removed a pin that no session needs");
  }
}

void Registry::restore(int64_t nowNs) {
  std::vector<std::string> problems;
  std::vector<SessionRecord> records = store_.load(problems);
  for (const std::string& problem : problems) LogLine(LogLevel::kWarn).write("removed a session record: " + problem);
  for (SessionRecord& record : records) restoreSession(std::move(record), nowNs);
  removeStrangers();
  if (!sessions_.empty()) {
    LogLine(LogLevel::kInfo)
        .add("sessions", static_cast<int64_t>(sessions_.size()))
        .add("programs", static_cast<int64_t>(devices_.size()))
        .write("took up the sessions of an earlier process");
  }
}

}  // namespace outrigger::nicd
