// SPDX-License-Identifier: Apache-2.0
// Loading, attaching and maps, by libbpf. Built without it, everything here answers NOT_SUPPORTED.
#include "io/xdp/xdp_program.h"

#include <cstring>

#include "echo_maps.h"
#include "steer_maps.h"

#ifdef OUTRIGGER_LIBBPF
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <memory>
#include <vector>
#endif

namespace outrigger::io::xdp {

static_assert(kSteerReasons == STEER_REASONS);
static_assert(EchoProgram::kReasons == ECHO_REASONS);

namespace {
constexpr std::array<const char*, STEER_REASONS> kSteerNames{"steered", "no rule",  "no socket", "fragment",  "options",    "too long",
                                                             "icmp",    "other ip", "not ip",    "truncated", "other vlan", "partial"};
constexpr std::array<const char*, ECHO_REASONS> kEchoNames{"reflected", "other", "not a probe", "no return", "ttl expired"};
}  // namespace

#ifdef OUTRIGGER_LIBBPF

extern const unsigned char kSteerObject[];
extern const size_t kSteerObjectLength;
extern const unsigned char kEchoObject[];
extern const size_t kEchoObjectLength;

namespace {

constexpr uint32_t kHasFrags = 1U << 5;  // BPF_F_XDP_HAS_FRAGS, linux/bpf.h

// What libbpf said last on this thread: its error numbers alone don't say which step failed.
thread_local std::string lastComplaint;

int keepComplaint(libbpf_print_level level, const char* format, va_list arguments) {
  if (level != LIBBPF_WARN) return 0;
  char text[512];
  const int length = std::vsnprintf(text, sizeof(text), format, arguments);
  if (length <= 0 || !lastComplaint.empty()) return 0;  // the first is the cause, the rest follows from it
  lastComplaint = text;
  while (!lastComplaint.empty() && lastComplaint.back() == '\n') lastComplaint.pop_back();
  return 0;
}

struct CloseObject {
  void operator()(bpf_object* object) const { bpf_object__close(object); }
};
using ObjectPtr = std::unique_ptr<bpf_object, CloseObject>;

Result<ObjectPtr> openObject(const unsigned char* bytes, size_t length, const char* name) {
  libbpf_set_print(keepComplaint);
  lastComplaint.clear();
  // libbpf's own macro for this is C, which clang does not take in C++.
  bpf_object_open_opts options{};
  options.sz = sizeof(options);
  options.object_name = name;
  ObjectPtr object(bpf_object__open_mem(bytes, length, &options));
  if (object == nullptr) return makeError(ErrorCode::kGeneric, std::string("XDP program ") + name + ": " + lastComplaint, errno);
  return object;
}

Error loadError(const char* name, int error) {
  std::string why = std::string("XDP program ") + name + ": cannot load";
  if (error == EPERM || error == EACCES) why += ", the process needs CAP_BPF and CAP_NET_ADMIN";
  if (!lastComplaint.empty()) why += " (" + lastComplaint + ")";
  return makeError(ErrorCode::kGeneric, why, error);
}

std::string interfaceName(uint32_t index) {
  char name[IF_NAMESIZE] = {};
  return ::if_indextoname(index, name) != nullptr ? std::string(name) : "#" + std::to_string(index);
}

Result<UniqueFd> attachLink(const bpf_object* object, const char* programName, uint32_t interfaceIndex, AttachMode mode) {
  const bpf_program* program = bpf_object__find_program_by_name(object, programName);
  const std::string what = std::string("XDP program ") + programName + ": cannot attach to interface " + interfaceName(interfaceIndex) +
                           (mode == AttachMode::kNative ? " natively" : " generically");
  if (program == nullptr) return makeError(ErrorCode::kGeneric, what + ", it is not in the object", ENOENT);
  bpf_link_create_opts options{};
  options.sz = sizeof(options);
  options.flags = mode == AttachMode::kNative ? XDP_FLAGS_DRV_MODE : XDP_FLAGS_SKB_MODE;
  UniqueFd link(bpf_link_create(bpf_program__fd(program), static_cast<int>(interfaceIndex), BPF_XDP, &options));
  if (link.valid()) return link;
  const int error = errno;
  if (error == EBUSY || error == EEXIST) {
    auto holder = describeAttachedProgram(interfaceIndex);
    const std::string who = holder && holder->has_value() ? **holder : std::string("another program");
    return makeError(ErrorCode::kGeneric, what + ", " + who + " is there and stays: remove it, or use another interface", EBUSY);
  }
  // A kernel answers ENOTSUPP, which has no name in user space, where a driver says so.
  constexpr int kEnotsupp = 524;
  return makeError(ErrorCode::kGeneric, what, error == kEnotsupp ? EOPNOTSUPP : error);
}

Result<UniqueFd> mapOf(const bpf_object* object, const char* name) {
  const int fd = bpf_object__find_map_fd_by_name(object, name);
  UniqueFd own(fd < 0 ? -1 : ::fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!own.valid()) return makeError(ErrorCode::kGeneric, std::string("XDP program: map ") + name, errno);
  return own;
}

bool linkAttached(const UniqueFd& link) {
  bpf_link_info info{};
  uint32_t length = sizeof(info);
  return link.valid() && bpf_obj_get_info_by_fd(link.get(), &info, &length) == 0 && info.xdp.ifindex != 0;
}

template <size_t kCount>
std::array<SteerCounter, kCount> readCounters(const UniqueFd& map, const std::array<const char*, kCount>& names) {
  std::array<SteerCounter, kCount> counters{};
  const int cpus = libbpf_num_possible_cpus();
  std::vector<uint64_t> perCpu(static_cast<size_t>(cpus > 0 ? cpus : 1));
  for (uint32_t reason = 0; reason < kCount; ++reason) {
    counters[reason].name = names[reason];
    if (cpus <= 0 || bpf_map_lookup_elem(map.get(), &reason, perCpu.data()) != 0) continue;
    for (const uint64_t frames : perCpu) counters[reason].frames += static_cast<int64_t>(frames);
  }
  return counters;
}

steer_key keyOf(const SockAddr& address) {
  steer_key key{};
  key.family = address.isV6() ? 6 : 4;
  key.port = htons(address.port());
  if (address.isV6()) {
    std::memcpy(key.address, &reinterpret_cast<const sockaddr_in6*>(&address.storage)->sin6_addr, 16);
  } else {
    std::memcpy(key.address, &reinterpret_cast<const sockaddr_in*>(&address.storage)->sin_addr, 4);
  }
  return key;
}

SockAddr addressOf(const steer_key& key) {
  SockAddr address;
  if (key.family == 6) {
    auto* v6 = reinterpret_cast<sockaddr_in6*>(&address.storage);
    v6->sin6_family = AF_INET6;
    std::memcpy(&v6->sin6_addr, key.address, 16);
    address.length = sizeof(*v6);
  } else {
    auto* v4 = reinterpret_cast<sockaddr_in*>(&address.storage);
    v4->sin_family = AF_INET;
    std::memcpy(&v4->sin_addr, key.address, 4);
    address.length = sizeof(*v4);
  }
  address.setPort(ntohs(key.port));
  return address;
}

}  // namespace

bool programsAreBuilt() { return true; }

Result<std::optional<std::string>> describeAttachedProgram(uint32_t interfaceIndex) {
  libbpf_set_print(keepComplaint);
  bpf_xdp_query_opts query{};
  query.sz = sizeof(query);
  if (const int error = bpf_xdp_query(static_cast<int>(interfaceIndex), 0, &query); error != 0) {
    return makeError(ErrorCode::kGeneric, "cannot ask for the XDP program of interface " + interfaceName(interfaceIndex), -error);
  }
  // With one program prog_id has it, with one a mode the fields of the modes.
  const uint32_t id = query.prog_id != 0       ? query.prog_id
                      : query.drv_prog_id != 0 ? query.drv_prog_id
                      : query.skb_prog_id != 0 ? query.skb_prog_id
                                               : query.hw_prog_id;
  if (id == 0) return std::optional<std::string>();
  const char* mode = id == query.skb_prog_id   ? "generic"
                     : id == query.hw_prog_id  ? "offloaded"
                     : id == query.drv_prog_id ? "native"
                                               : "unknown mode";
  std::string text = "program " + std::to_string(id);
  bpf_prog_info info{};
  uint32_t length = sizeof(info);
  const UniqueFd program(bpf_prog_get_fd_by_id(id));
  if (program.valid() && bpf_obj_get_info_by_fd(program.get(), &info, &length) == 0) {
    char tag[2 * BPF_TAG_SIZE + 1] = {};
    for (int i = 0; i < BPF_TAG_SIZE; ++i) std::snprintf(tag + 2 * i, 3, "%02x", info.tag[i]);
    text += std::string(" '") + info.name + "' (tag " + tag + ", " + mode + ")";
  } else {
    text += std::string(" (") + mode + ")";
  }
  return std::optional<std::string>(text);
}

namespace {

Result<ObjectPtr> loadSteer(uint32_t queues, bool multiBuffer) {
  auto object = openObject(kSteerObject, kSteerObjectLength, "steer");
  if (!object) return object;
  for (const char* map : {"steer_sockets", "steer_owners"}) {
    bpf_map__set_max_entries(bpf_object__find_map_by_name(object->get(), map), std::max(queues, 1U));
  }
  if (multiBuffer) bpf_program__set_flags(bpf_object__find_program_by_name(object->get(), "steer"), kHasFrags);
  if (const int error = bpf_object__load(object->get()); error != 0) return loadError("steer", -error);
  return object;
}

}  // namespace

Result<void> XdpProgram::tryLoad(bool multiBuffer) {
  auto object = loadSteer(1, multiBuffer);
  if (!object) return object.error();
  return {};
}

Result<XdpProgram> XdpProgram::attach(const Options& options) {
  auto object = loadSteer(options.queues, options.multiBuffer);
  if (!object) return object.error();
  XdpProgram attached;
  struct Map {
    const char* name;
    UniqueFd XdpProgram::*descriptor;
  };
  for (const Map& map :
       {Map{"steer_rules", &XdpProgram::rules_}, Map{"steer_owners", &XdpProgram::owners_}, Map{"steer_sockets", &XdpProgram::sockets_},
        Map{"steer_config", &XdpProgram::config_}, Map{"steer_counters", &XdpProgram::counters_}}) {
    auto descriptor = mapOf(object->get(), map.name);
    if (!descriptor) return descriptor.error();
    attached.*map.descriptor = descriptor.take();
  }
  if (auto r = attached.configure(options); !r) return r.error();
  auto link = attachLink(object->get(), "steer", options.interfaceIndex, options.mode);
  if (!link) return link.error();
  attached.link_ = link.take();
  return attached;
}

// The link comes last: who finds it finds the maps.
constexpr std::array<const char*, 6> kPinNames{"rules", "owners", "sockets", "config", "counters", "link"};

Result<void> XdpProgram::pin(const std::string& directory) const {
  const std::array<const UniqueFd*, 6> descriptors{&rules_, &owners_, &sockets_, &config_, &counters_, &link_};
  for (size_t i = 0; i < kPinNames.size(); ++i) {
    const std::string path = directory + "/" + kPinNames[i];
    if (bpf_obj_pin(descriptors[i]->get(), path.c_str()) != 0) {
      const int error = errno;
      unpin(directory);
      return makeError(ErrorCode::kGeneric, "XDP program: cannot pin '" + path + "' (is the directory on a bpffs?)", error);
    }
  }
  return {};
}

Result<XdpProgram> XdpProgram::adopt(const std::string& directory) {
  XdpProgram adopted;
  const std::array<UniqueFd*, 6> descriptors{&adopted.rules_,  &adopted.owners_,   &adopted.sockets_,
                                             &adopted.config_, &adopted.counters_, &adopted.link_};
  for (size_t i = 0; i < kPinNames.size(); ++i) {
    const std::string path = directory + "/" + kPinNames[i];
    *descriptors[i] = UniqueFd(bpf_obj_get(path.c_str()));
    if (!descriptors[i]->valid()) return makeError(ErrorCode::kGeneric, "XDP program: cannot open pinned '" + path + "'", errno);
  }
  return adopted;
}

void XdpProgram::unpin(const std::string& directory) {
  for (const char* name : kPinNames) ::unlink((directory + "/" + name).c_str());
}

Result<void> XdpProgram::setSocket(uint32_t queue, int socket, uint32_t owner) {
  // The owner first: in between, a rule of an earlier one can't reach the new socket.
  if (bpf_map_update_elem(owners_.get(), &queue, &owner, BPF_ANY) == 0 &&
      bpf_map_update_elem(sockets_.get(), &queue, &socket, BPF_ANY) == 0) {
    return {};
  }
  return makeError(ErrorCode::kGeneric, "XDP program: cannot enter the socket of queue " + std::to_string(queue), errno);
}

Result<void> XdpProgram::removeSocket(uint32_t queue) {
  if (bpf_map_delete_elem(sockets_.get(), &queue) == 0 || errno == ENOENT) return {};
  return makeError(ErrorCode::kGeneric, "XDP program: cannot remove the socket of queue " + std::to_string(queue), errno);
}

std::vector<SockAddr> XdpProgram::rules() const {
  std::vector<SockAddr> all;
  steer_key key{};
  // Without a key the first one; the last has no next.
  for (int error = bpf_map_get_next_key(rules_.get(), nullptr, &key); error == 0; error = bpf_map_get_next_key(rules_.get(), &key, &key)) {
    all.push_back(addressOf(key));
  }
  return all;
}

Result<void> XdpProgram::addRule(const SockAddr& address, uint32_t owner) {
  const steer_key key = keyOf(address);
  if (bpf_map_update_elem(rules_.get(), &key, &owner, BPF_ANY) == 0) return {};
  const int error = errno;
  return makeError(ErrorCode::kGeneric,
                   "XDP program: cannot steer " + address.toString() +
                       (error == E2BIG ? ", all " + std::to_string(STEER_MAX_RULES) + " rules are in use: close other ports" : ""),
                   error);
}

Result<void> XdpProgram::removeRule(const SockAddr& address) {
  const steer_key key = keyOf(address);
  if (bpf_map_delete_elem(rules_.get(), &key) == 0 || errno == ENOENT) return {};
  return makeError(ErrorCode::kGeneric, "XDP program: cannot stop steering " + address.toString(), errno);
}

Result<void> XdpProgram::configure(const Options& options) {
  const uint32_t only = 0;
  const steer_config config{options.mtu, options.mode == AttachMode::kGeneric ? 1U : 0U, options.vlan};
  if (bpf_map_update_elem(config_.get(), &only, &config, BPF_ANY) == 0) return {};
  return makeError(ErrorCode::kGeneric, "XDP program: cannot set MTU " + std::to_string(options.mtu), errno);
}

Result<void> XdpProgram::setMtu(uint32_t mtu) {
  const uint32_t only = 0;
  steer_config config{};
  if (bpf_map_lookup_elem(config_.get(), &only, &config) == 0) {
    config.mtu = mtu;
    if (bpf_map_update_elem(config_.get(), &only, &config, BPF_ANY) == 0) return {};
  }
  return makeError(ErrorCode::kGeneric, "XDP program: cannot set MTU " + std::to_string(mtu), errno);
}

std::array<SteerCounter, kSteerReasons> XdpProgram::counters() const { return readCounters(counters_, kSteerNames); }

int64_t XdpProgram::framesLeftToKernel() const {
  constexpr size_t kMostCpus = 1024;  // of the machines that this runs on; more are not summed, rather than written past
  static const int cpus = libbpf_num_possible_cpus();
  if (cpus <= 0 || static_cast<size_t>(cpus) > kMostCpus) return 0;
  std::array<uint64_t, kMostCpus> perCpu;
  int64_t frames = 0;
  for (const uint32_t reason : {STEER_TOO_LONG, STEER_PARTIAL}) {
    if (bpf_map_lookup_elem(counters_.get(), &reason, perCpu.data()) != 0) continue;
    for (int cpu = 0; cpu < cpus; ++cpu) frames += static_cast<int64_t>(perCpu[static_cast<size_t>(cpu)]);
  }
  return frames;
}

bool XdpProgram::attached() const { return linkAttached(link_); }

void XdpProgram::detach() {
  if (link_.valid()) bpf_link_detach(link_.get());
  link_.reset();
}

Result<EchoProgram> EchoProgram::attach(uint32_t interfaceIndex, AttachMode mode, bool echo, uint16_t port) {
  auto object = openObject(kEchoObject, kEchoObjectLength, "echo");
  if (!object) return object.error();
  if (const int error = bpf_object__load(object->get()); error != 0) return loadError("echo", -error);
  auto config = mapOf(object->get(), "echo_config");
  if (!config) return config.error();
  const uint32_t only = 0;
  const echo_config value{htons(port), 0};
  if (bpf_map_update_elem(config->get(), &only, &value, BPF_ANY) != 0) {
    return makeError(ErrorCode::kGeneric, "XDP program echo: cannot set the port", errno);
  }
  EchoProgram program;
  auto counters = mapOf(object->get(), "echo_counters");
  if (!counters) return counters.error();
  program.counters_ = counters.take();
  auto link = attachLink(object->get(), echo ? "echo" : "pass", interfaceIndex, mode);
  if (!link) return link.error();
  program.link_ = link.take();
  return program;
}

bool EchoProgram::attached() const { return linkAttached(link_); }

std::array<SteerCounter, EchoProgram::kReasons> EchoProgram::counters() const { return readCounters(counters_, kEchoNames); }

#else

namespace {
Error notBuilt() {
  return makeError(ErrorCode::kNotSupported, "XDP programs are not in this build: install clang and libbpf-dev, then build again");
}
}  // namespace

bool programsAreBuilt() { return false; }
Result<std::optional<std::string>> describeAttachedProgram(uint32_t) { return notBuilt(); }
Result<XdpProgram> XdpProgram::attach(const Options&) { return notBuilt(); }
Result<void> XdpProgram::tryLoad(bool) { return notBuilt(); }
Result<void> XdpProgram::pin(const std::string&) const { return notBuilt(); }
Result<XdpProgram> XdpProgram::adopt(const std::string&) { return notBuilt(); }
void XdpProgram::unpin(const std::string&) {}
Result<void> XdpProgram::setSocket(uint32_t, int, uint32_t) { return notBuilt(); }
Result<void> XdpProgram::removeSocket(uint32_t) { return notBuilt(); }
Result<void> XdpProgram::addRule(const SockAddr&, uint32_t) { return notBuilt(); }
std::vector<SockAddr> XdpProgram::rules() const { return {}; }
Result<void> XdpProgram::removeRule(const SockAddr&) { return notBuilt(); }
Result<void> XdpProgram::setMtu(uint32_t) { return notBuilt(); }
std::array<SteerCounter, kSteerReasons> XdpProgram::counters() const {
  std::array<SteerCounter, kSteerReasons> none{};
  for (size_t i = 0; i < kSteerReasons; ++i) none[i].name = kSteerNames[i];
  return none;
}
int64_t XdpProgram::framesLeftToKernel() const { return 0; }
bool XdpProgram::attached() const { return false; }
void XdpProgram::detach() {}
Result<EchoProgram> EchoProgram::attach(uint32_t, AttachMode, bool, uint16_t) { return notBuilt(); }
bool EchoProgram::attached() const { return false; }
std::array<SteerCounter, EchoProgram::kReasons> EchoProgram::counters() const {
  std::array<SteerCounter, kReasons> none{};
  for (size_t i = 0; i < kReasons; ++i) none[i].name = kEchoNames[i];
  return none;
}

#endif

}  // namespace outrigger::io::xdp
