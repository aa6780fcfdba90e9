// SPDX-License-Identifier: Apache-2.0
// Opening and ending of sessions, and their ports. Leases and restarts are in registry_lease.cc.
#include "nicd/registry.h"

#include <fcntl.h>
#include <net/if.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/json_log.h"
#include "io/posix/port_holder.h"
#include "io/xdp/interface_facts.h"
#include "io/xdp/umem_memory.h"
#include "io/xdp/xdp_plan.h"
#include "io/xdp/xsk.h"
#include "nicd/packet_session.h"
#include "nicd/refusal.h"
#include "nicd/steer_key.h"
#include "nicd/udp_port.h"

namespace outrigger::nicd {
namespace {

constexpr int kNetnsCookie = 71;  // SO_NETNS_COOKIE, Linux 5.14
// The driver's poll is what lasts: the kernel only looks whether it is above 0.
constexpr int32_t kBusyPollUs = 20;

uint64_t netnsOf(int socket) {
  uint64_t cookie = 0;
  socklen_t length = sizeof(cookie);
  return ::getsockopt(socket, SOL_SOCKET, kNetnsCookie, &cookie, &length) == 0 ? cookie : 0;
}

// A UDP socket of this namespace, bound to exactly this address: it can only have come from here.
Result<void> checkPortSocket(const UniqueFd& socket, const Address& address) {
  const UniqueFd own(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  int type = 0;
  int protocol = 0;
  socklen_t length = sizeof(type);
  const bool isUdp = ::getsockopt(socket.get(), SOL_SOCKET, SO_TYPE, &type, &length) == 0 && type == SOCK_DGRAM &&
                     ::getsockopt(socket.get(), SOL_SOCKET, SO_PROTOCOL, &protocol, &length) == 0 && protocol == IPPROTO_UDP;
  io::SockAddr bound;
  bound.length = sizeof(bound.storage);
  if (!isUdp || ::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&bound.storage), &bound.length) != 0 ||
      !(addressOf(bound) == address) || netnsOf(socket.get()) != netnsOf(own.get())) {
    return refuse(Refusal::kNotAllowed,
                  "the socket that came along is no UDP socket of the NIC's namespace bound to " + sockAddrOf(address).toString());
  }
  return {};
}

// Memory that the client did not allocate would be charged to nicd when it is pinned.
Result<void> checkAllocated(const UniqueFd& memory) {
  struct stat status {};
  if (::fstat(memory.get(), &status) != 0) return makeError(ErrorCode::kGeneric, "UMEM: fstat", errno);
  constexpr int64_t kStatBlock = 512;
  if (static_cast<int64_t>(status.st_blocks) * kStatBlock < static_cast<int64_t>(status.st_size)) {
    return refuse(Refusal::kNotAllowed, "UMEM: only " + std::to_string(static_cast<int64_t>(status.st_blocks) * kStatBlock) + " of " +
                                            std::to_string(status.st_size) + " bytes are allocated: use fallocate before passing it");
  }
  return {};
}

std::string holderText(const SessionRecord& record) {
  return record.claim.empty() ? "process " + std::to_string(record.pid) + " of user " + std::to_string(record.uid)
                              : "claim " + record.claim;
}

}  // namespace

bool Owner::owns(const SessionRecord& record) const {
  if (claim || !record.claim.empty()) return claim && claim->name == record.claim;
  return record.uid == uid && record.pid == pid && record.processStart == processStart;
}

Registry::Registry(const Options& options, SessionStore store) : options_(options), store_(std::move(store)) {}

// What is pinned stays for the next process; without pins it ends here.
Registry::~Registry() = default;

Session* Registry::find(uint64_t id) {
  const auto found = sessions_.find(id);
  return found == sessions_.end() ? nullptr : found->second.get();
}

Device* Registry::deviceOf(const Session& session) {
  const auto found = devices_.find(session.record.interfaceIndex);
  return session.record.kind != SessionKind::kXdp || found == devices_.end() ? nullptr : found->second.get();
}

Result<io::Netdev> Registry::permittedInterface(const Owner& owner, const std::string& name) const {
  const auto& allowed = options_.interfaces;
  const bool byOptions = allowed.empty() ? name != "lo" : std::find(allowed.begin(), allowed.end(), name) != allowed.end();
  if (!byOptions) return refuse(Refusal::kNotAllowed, "interface '" + name + "' is not among those of outrigger-nicd --interface");
  if (owner.claim && owner.claim->interface != name) {
    return refuse(Refusal::kNotAllowed,
                  "claim '" + owner.claim->name + "' is for interface '" + owner.claim->interface + "', not '" + name + "'");
  }
  const uint32_t index = ::if_nametoindex(name.c_str());
  if (index == 0) return refuse(Refusal::kUnknown, "interface '" + name + "' does not exist in outrigger-nicd's network namespace", errno);
  return io::Netdev{name, index};
}

Result<void> Registry::checkRoom(const Owner& owner, uint64_t memoryBytes) {
  // All of them would be one, with each other's queues.
  if (!owner.claim && owner.pid == 0) {
    return refuse(Refusal::kNotAllowed,
                  "the process that asks can't be seen from outrigger-nicd's PID namespace, so it can't be told from others: run "
                  "outrigger-nicd in the "
                  "node's PID namespace (hostPID: true), or give it --claims");
  }
  if (memoryBytes > static_cast<uint64_t>(options_.maxUmemBytes)) {
    return refuse(Refusal::kLimit, std::to_string(memoryBytes) + " bytes are more than one session may have, " +
                                       std::to_string(options_.maxUmemBytes) + ": ask for less, or raise outrigger-nicd --max-umem");
  }
  // Expired ones count while their process lives, or holding on to sockets would be a way around the limit.
  const auto mine = std::count_if(sessions_.begin(), sessions_.end(), [&](const auto& each) { return owner.owns(each.second->record); });
  if (mine >= options_.maxSessions) {
    return refuse(Refusal::kLimit,
                  "this client has " + std::to_string(mine) + " sessions, as many as outrigger-nicd --max-sessions allows");
  }
  return {};
}

Result<Device*> Registry::obtainDevice(const io::Netdev& netdev, const OpenXdp& request) {
  if (const auto found = devices_.find(netdev.index); found != devices_.end()) {
    if (found->second->program().attached()) return found->second.get();
    return refuse(Refusal::kUnavailable, "the program on interface '" + netdev.name + "' was detached");
  }
  Device::Options wanted;
  wanted.netdev = netdev;
  wanted.mode = static_cast<XdpMode>(request.mode);
  wanted.bpfDirectory = options_.bpfDirectory;
  auto link = io::LinkReader::open(netdev);
  if (!link) return link.error();
  wanted.mtu = (*link)->read().mtu;
  auto device = Device::attach(wanted);
  if (!device) return device.error();
  LogLine(LogLevel::kInfo)
      .add("interface", netdev.name)
      .add("mode", (*device)->generic() ? "generic" : "native")
      .add("reason", (*device)->reason())
      .write("attached the steering program");
  return devices_.emplace(netdev.index, device.take()).first->second.get();
}

void Registry::releaseDevice(uint32_t interfaceIndex) {
  const auto found = devices_.find(interfaceIndex);
  if (found == devices_.end()) return;
  const bool used = std::any_of(sessions_.begin(), sessions_.end(), [&](const auto& each) {
    return each.second->record.kind == SessionKind::kXdp && each.second->record.interfaceIndex == interfaceIndex && !each.second->expired;
  });
  if (used) return;
  found->second->discard();
  LogLine(LogLevel::kInfo).add("interface", found->second->netdev().name).write("detached the steering program, no session needs it");
  devices_.erase(found);
}

Session& Registry::add(const Owner& owner, SessionRecord record) {
  auto session = std::make_unique<Session>();
  record.id = randomId();
  record.token = randomToken();
  record.uid = owner.uid;
  record.pid = owner.pid;
  record.processStart = owner.processStart;
  if (owner.claim) record.claim = owner.claim->name;
  session->record = std::move(record);
  session->attached = true;
  Session& added = *session;
  sessions_.emplace(added.record.id, std::move(session));
  ++totals.opened;
  return added;
}

uint32_t Registry::groupOf(const Owner& owner, uint32_t interfaceIndex) const {
  uint32_t fresh = io::xdp::XdpProgram::kAnyone + 1;
  for (const auto& [id, session] : sessions_) {
    const SessionRecord& record = session->record;
    if (record.kind != SessionKind::kXdp || record.interfaceIndex != interfaceIndex || session->expired) continue;
    if (owner.owns(record)) return record.group;
    fresh = std::max(fresh, record.group + 1);
  }
  return fresh;
}

Result<Described> Registry::describe(const Owner& owner, const std::string& interface) const {
  std::string name = interface;
  if (name.empty() && owner.claim) name = owner.claim->interface;
  if (name.empty() && options_.interfaces.size() == 1) name = options_.interfaces.front();
  if (name.empty()) {
    return refuse(Refusal::kUnknown, "which interface is meant is unclear: name one, or give outrigger-nicd a single --interface");
  }
  auto netdev = permittedInterface(owner, name);
  if (!netdev) return netdev.error();
  auto reader = io::LinkReader::open(*netdev);
  if (!reader) return reader.error();
  const io::LinkState link = (*reader)->read();
  const io::xdp::InterfaceFacts facts = io::xdp::readInterfaceFacts(*netdev);
  Described described;
  static_cast<void>(setName(described.interface, netdev->name));
  static_cast<void>(setName(described.driver, facts.driver));
  described.interfaceIndex = netdev->index;
  described.mtu = link.mtu;
  described.queues = facts.queues;
  described.up = link.up ? 1 : 0;
  std::copy(link.mac.begin(), link.mac.end(), described.mac);
  for (uint32_t queue = 0; queue < facts.queues && queue < kDescribedQueues; ++queue) {
    if (!owner.claim || owner.claim->allowsQueue(queue)) described.queueMask[queue / 8] |= static_cast<uint8_t>(1U << (queue % 8));
  }
  if (facts.hardware) described.features |= kFeatureHardware;
  if (mayHavePackets(owner)) described.features |= kFeaturePacket;
  // Kernels before 6.3 don't tell: it may.
  if (!facts.features || facts.features->zeroCopy) described.features |= kFeatureZeroCopy;
  if (io::netdevFeature(*netdev, "tx-udp-segmentation")) described.features |= kFeatureUdpSegmentation;
  if (facts.hardware && io::netdevFeature(*netdev, "tx-checksum-ip-generic")) described.features |= kFeatureChecksum;
  return described;
}

void Registry::describeOpened(const io::Netdev& netdev, Opened& opened) const {
  opened.interfaceIndex = netdev.index;
  opened.queues = io::xdp::readInterfaceFacts(netdev).queues;
  auto reader = io::LinkReader::open(netdev);
  if (!reader) return;
  const io::LinkState link = (*reader)->read();
  opened.mtu = link.mtu;
  opened.up = link.up ? 1 : 0;
  std::copy(link.mac.begin(), link.mac.end(), opened.mac);
}

// The memory, or for a further queue the socket that has it, becomes a bound socket.
Result<UniqueFd> Registry::bindQueue(const OpenXdp& request, const Device& device, UniqueFd memory, const UniqueFd& shared, Grant& grant) {
  auto socket = io::xdp::openXsk();
  if (!socket) return socket.error();
  if (!shared.valid()) {
    if (auto r = checkAllocated(memory); !r) return r.error();
    auto umem = io::xdp::UmemMemory::adopt(std::move(memory), static_cast<uint64_t>(options_.maxUmemBytes));
    if (!umem) return umem.error();
    if (umem->lengthBytes() != request.umemLength) {
      return refuse(Refusal::kMalformed, "the memfd is " + std::to_string(umem->lengthBytes()) + " bytes long, not " +
                                             std::to_string(request.umemLength) + " as the request says");
    }
    // The pages stay pinned when our mapping goes with `umem`.
    const io::xdp::UmemLayout layout{request.chunkLength, request.headroom, request.txMetadataLength};
    if (auto r = io::xdp::registerUmem(socket->get(), umem->data(), umem->lengthBytes(), layout); !r) return r.error();
  }
  const io::xdp::RingSizes sizes{request.receiveEntries, request.transmitEntries, request.fillEntries, request.completionEntries};
  if (auto r = io::xdp::setRings(socket->get(), sizes); !r) return r.error();
  io::xdp::XskBinding binding;
  binding.interfaceIndex = device.netdev().index;
  binding.queue = request.queue;
  binding.needWakeup = (request.flags & kXdpNeedWakeup) != 0;
  binding.multiBuffer = (request.flags & kXdpMultiBuffer) != 0;
  binding.busyWaitMs = 100;  // others wait meanwhile; who asks tries again
  if (shared.valid()) binding.sharedUmemSocket = shared.get();
  const auto wanted = static_cast<XdpMode>(request.mode);
  bool mayZeroCopy = !device.generic() && (wanted == XdpMode::kAuto || wanted == XdpMode::kZeroCopy) && !shared.valid();
  if (mayZeroCopy) {
    const auto facts = io::xdp::readInterfaceFacts(device.netdev());
    auto fits = io::xdp::checkZeroCopyRings(facts, device.netdev().name, sizes, 1, request.chunkLength);
    if (!fits && wanted == XdpMode::kZeroCopy) return fits.error();
    mayZeroCopy = fits.ok();
    if (!fits) grant.reason = fits.error().message;
  }
  binding.mode = mayZeroCopy ? io::xdp::XskMode::kZeroCopy : io::xdp::XskMode::kCopy;
  auto bound = io::xdp::bindXsk(socket->get(), binding);
  if (!bound && mayZeroCopy && wanted == XdpMode::kAuto && bound.error().sysErrno != EBUSY) {
    grant.reason = bound.error().message;
    binding.mode = io::xdp::XskMode::kCopy;
    bound = io::xdp::bindXsk(socket->get(), binding);
  }
  if (!bound) return bound.error();
  if (device.generic() && !device.reason().empty()) grant.reason = device.reason();
  const auto zeroCopy = io::xdp::isZeroCopy(socket->get());
  grant.opened.mode = static_cast<uint32_t>(device.generic()        ? XdpMode::kGeneric
                                            : zeroCopy && *zeroCopy ? XdpMode::kZeroCopy
                                                                    : XdpMode::kNativeCopy);
  grant.opened.flags = request.flags;
  if ((request.flags & kXdpBusyPoll) == 0) return socket;
  if (const auto refused = io::xdp::preferBusyPoll(socket->get(), device.netdev().name, kBusyPollUs)) {
    grant.opened.flags &= ~kXdpBusyPoll;
    LogLine(LogLevel::kWarn)
        .add("interface", device.netdev().name)
        .add("queue", static_cast<int64_t>(request.queue))
        .add("why", refused->cause)
        .add("fix", refused->fix)
        .write("a session goes without busy polling");
  }
  return socket;
}

Result<Registry::Grant> Registry::openXdp(const Owner& owner, const OpenXdp& request, UniqueFd descriptor) {
  auto netdev = permittedInterface(owner, nameOf(request.interface));
  if (!netdev) return netdev.error();
  if (owner.claim && !owner.claim->allowsQueue(request.queue)) {
    return refuse(Refusal::kNotAllowed, "claim '" + owner.claim->name + "' is not for queue " + std::to_string(request.queue));
  }
  if (auto r = checkRoom(owner, request.umemLength); !r) return r.error();
  UniqueFd shared;
  if (request.sharedSession != 0) {
    const Session* first = find(request.sharedSession);
    if (first == nullptr || !owner.owns(first->record) || cookieOf(descriptor.get()) != first->record.socketCookie) {
      return refuse(Refusal::kUnknown, "the session whose memory is to be shared is not this client's, or the socket beside is not its");
    }
    shared = std::move(descriptor);
  }
  for (auto at = sessions_.begin(); at != sessions_.end(); ++at) {
    const SessionRecord& other = at->second->record;
    if (other.kind != SessionKind::kXdp || other.interfaceIndex != netdev->index || other.queue != request.queue || at->second->expired)
      continue;
    if (hasEnded(at->second->process)) {
      erase(at, "its process ended");
      break;
    }
    return refuse(Refusal::kBusy, "queue " + std::to_string(request.queue) + " of " + netdev->name + " is held by " + holderText(other));
  }
  auto device = obtainDevice(*netdev, request);
  if (!device) return device.error();
  Grant grant;
  const uint32_t group = groupOf(owner, netdev->index);
  auto socket = bindQueue(request, **device, std::move(descriptor), shared, grant);
  auto entered = socket ? (*device)->program().setSocket(request.queue, socket->get(), group) : Result<void>(socket.error());
  if (!entered) {
    releaseDevice(netdev->index);
    return entered.error();
  }
  SessionRecord record;
  record.kind = SessionKind::kXdp;
  record.interface = netdev->name;
  record.interfaceIndex = netdev->index;
  record.queue = request.queue;
  record.mode = grant.opened.mode;
  record.group = group;
  record.memoryBytes = request.umemLength;
  record.socketCookie = cookieOf(socket->get());
  grant.session = &add(owner, std::move(record));
  grant.socket = socket.take();
  if (auto saved = store_.save(grant.session->record); !saved) {
    close(grant.session->record.id, "it can't be noted");
    return saved.error();
  }
  grant.opened.session = grant.session->record.id;
  std::copy(grant.session->record.token.begin(), grant.session->record.token.end(), grant.opened.token);
  describeOpened(*netdev, grant.opened);
  return grant;
}

bool Registry::mayHavePackets(const Owner& owner) const { return options_.allowPacket && (!owner.claim || owner.claim->packet); }

Result<Registry::Grant> Registry::openPacket(const Owner& owner, const OpenPacket& request) {
  if (!mayHavePackets(owner)) {
    return refuse(Refusal::kNotAllowed,
                  "packet sockets are not handed out: start outrigger-nicd with --allow-packet, and put packet = yes into the claim");
  }
  auto netdev = permittedInterface(owner, nameOf(request.interface));
  if (!netdev) return netdev.error();
  const uint64_t ringBytes = static_cast<uint64_t>(request.blockLength) * request.blocks;
  if (auto r = checkRoom(owner, ringBytes); !r) return r.error();
  auto opened = openPacketSession(*netdev, request, static_cast<uint32_t>(options_.maxPorts));
  if (!opened) return opened.error();
  SessionRecord record;
  record.kind = SessionKind::kPacket;
  record.interface = netdev->name;
  record.interfaceIndex = netdev->index;
  record.memoryBytes = ringBytes;
  record.deaf = request.role == static_cast<uint32_t>(PacketRole::kTransmit);
  record.socketCookie = cookieOf(opened->socket.get());
  Grant grant;
  grant.session = &add(owner, std::move(record));
  grant.session->filterRules = std::move(opened->rules);
  grant.socket = std::move(opened->socket);
  const uint64_t id = grant.session->record.id;
  Result<void> kept = store_.save(grant.session->record);
  if (kept && grant.session->filterRules.valid() && !options_.bpfDirectory.empty())
    kept = pin(grant.session->filterRules.get(), filterPin(id));
  if (!kept) {
    close(id, "it can't be noted");
    return kept.error();
  }
  grant.opened.session = id;
  grant.opened.flags = request.flags;
  std::copy(grant.session->record.token.begin(), grant.session->record.token.end(), grant.opened.token);
  describeOpened(*netdev, grant.opened);
  return grant;
}

Result<void> Registry::checkPort(const Owner& owner, const Session& session, const Address& address) const {
  const std::string text = sockAddrOf(address).toString();
  if (owner.claim && !owner.claim->allowsAddress(address)) {
    return refuse(Refusal::kNotAllowed, "claim '" + owner.claim->name + "' is not for the address of " + text);
  }
  if (!isWildcard(address) && !isLocalAddress(session.record.interface, address)) {
    return refuse(Refusal::kNotAllowed, session.record.interface + " does not have the address of " + text + ": give it to the interface");
  }
  if (address.port != 0) {
    const bool ordinary = owner.claim ? owner.claim->allowsPort(address.port) : Claim().allowsPort(address.port) || owner.uid == 0;
    if (!ordinary)
      return refuse(Refusal::kNotAllowed, "port " + std::to_string(address.port) + " is not among those that this client may use");
  }
  if (session.record.ports.size() >= static_cast<size_t>(options_.maxPorts)) {
    return refuse(Refusal::kLimit, "the session has " + std::to_string(session.record.ports.size()) +
                                       " ports, as many as outrigger-nicd --max-ports allows");
  }
  for (const auto& [id, other] : sessions_) {
    if (other->record.interfaceIndex == session.record.interfaceIndex && !owner.owns(other->record) && other->record.holds(address)) {
      return refuse(Refusal::kBusy, text + " is steered to " + holderText(other->record));
    }
  }
  return {};
}

Result<Registry::Port> Registry::openPort(const Owner& owner, Session& session, const OpenPort& request, const UniqueFd& existing) {
  if (auto r = checkPort(owner, session, request.address); !r) return r.error();
  if (session.record.kind == SessionKind::kPacket && !session.filterRules.valid()) {
    return session.record.deaf
               ? refuse(Refusal::kUnsupported, "a packet socket that sends has no ports: open one that receives")
               : refuse(Refusal::kUnavailable,
                        "the filter of this packet socket was made by an earlier outrigger-nicd that ran without --bpf-dir, so "
                        "no port can be added: give it --bpf-dir, and start the driver again");
  }
  Port port{request.address, {}};
  if (existing.valid()) {
    if (auto r = checkPortSocket(existing, request.address); !r) return r.error();
  } else {
    static const std::vector<PortRange> kAny;
    auto opened =
        openUdpPort(session.record.interface, request.address, owner.claim ? owner.claim->ports : kAny, request.receiveBufferBytes);
    if (!opened) return opened.error();
    port.address = opened->address;
    port.socket = std::move(opened->socket);
  }
  if (session.record.holds(port.address)) return port;
  // Noted first: a rule that no record explains is removed by a successor, and the other way round it is set again.
  session.record.ports.push_back(port.address);
  auto done = store_.save(session.record);
  if (done) done = steer(session, port.address);
  if (!done) {
    static_cast<void>(closePort(session, port.address));
    return done.error();
  }
  sign(session, port.address, existing.valid() ? existing.get() : port.socket.get());
  return port;
}

Result<void> Registry::closePort(Session& session, const Address& port) {
  if (std::erase(session.record.ports, port) == 0) return {};
  std::erase_if(session.signs, [&](const auto& each) { return each.first == port; });
  unsteer(session, port);
  return store_.save(session.record);
}

void Registry::sign(Session& session, const Address& port, int socket) {
  session.signs.emplace_back(port, io::putPortSign(socket, sockAddrOf(port), "outrigger-nicd for " + holderText(session.record)));
}

Result<void> Registry::steer(Session& session, const Address& port) {
  if (Device* device = deviceOf(session)) return device->program().addRule(sockAddrOf(port), session.record.group);
  const SteerKey key = steerKeyOf(port);
  const uint32_t on = 1;
  return setElement(session.filterRules.get(), &key, &on, "port " + std::to_string(port.port) + " into the filter");
}

bool Registry::portHeldBesides(const Session& session, const Address& port) const {
  return std::any_of(sessions_.begin(), sessions_.end(), [&](const auto& each) {
    const Session& other = *each.second;
    return &other != &session && !other.expired && other.record.kind == SessionKind::kXdp &&
           other.record.interfaceIndex == session.record.interfaceIndex && other.record.holds(port);
  });
}

void Registry::unsteer(Session& session, const Address& port) {
  if (session.record.kind == SessionKind::kXdp) {
    if (portHeldBesides(session, port)) return;
    if (Device* device = deviceOf(session)) static_cast<void>(device->program().removeRule(sockAddrOf(port)));
  } else if (session.filterRules.valid()) {
    const SteerKey key = steerKeyOf(port);
    static_cast<void>(removeElement(session.filterRules.get(), &key, "a port from the filter"));
  }
}

void Registry::withdraw(Session& session) {
  session.signs.clear();
  for (const Address& port : session.record.ports) unsteer(session, port);
  if (Device* device = deviceOf(session)) static_cast<void>(device->program().removeSocket(session.record.queue));
}

void Registry::erase(std::map<uint64_t, std::unique_ptr<Session>>::iterator at, const std::string& why) {
  const std::unique_ptr<Session> session = std::move(at->second);
  sessions_.erase(at);
  const SessionRecord& record = session->record;
  if (!session->expired) withdraw(*session);
  store_.remove(record.id);
  if (record.kind == SessionKind::kPacket && !options_.bpfDirectory.empty()) ::unlink(filterPin(record.id).c_str());
  LogLine(LogLevel::kInfo)
      .add("interface", record.interface)
      .add("queue", static_cast<int64_t>(record.queue))
      .add("holder", holderText(record))
      .add("why", why)
      .write("closed a session");
  if (record.kind == SessionKind::kXdp) releaseDevice(record.interfaceIndex);
}

void Registry::close(uint64_t id, const std::string& why) {
  const auto found = sessions_.find(id);
  if (found == sessions_.end()) return;
  ++totals.closed;
  erase(found, why);
}

std::string Registry::filterPin(uint64_t id) const { return options_.bpfDirectory + "/packet-" + std::to_string(id); }

}  // namespace outrigger::nicd
