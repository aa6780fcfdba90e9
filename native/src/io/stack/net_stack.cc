// SPDX-License-Identifier: Apache-2.0
// NetStack's life: opening, endpoints, next hops, upkeep. The ways of datagrams are in net_stack_receive.cc, net_stack_transmit.cc,
// net_stack_paths.cc and net_stack_errors.cc.
#include "io/stack/net_stack.h"

#include <linux/sock_diag.h>
#include <netinet/udp.h>
#include <sched.h>
#include <sys/epoll.h>

#include <algorithm>

#include "io/stack/packet.h"
#include "io/stack/socket_filter.h"

namespace outrigger::io {
namespace {

constexpr size_t kExpectedEndpoints = 256;  // attaching up to this many allocates nothing
constexpr uint32_t kCopyBlocks = 512;       // 32 MiB of address space: four endpoints with full queues of the longest trains
constexpr uint32_t kMaxTrainBytes = 65507;  // what one IPv4 packet can carry as UDP
constexpr int64_t kUpkeepIntervalNs = 1'000'000'000;

std::atomic<uint64_t> nextEndpointId{1};

// Bytes of a UDP datagram in an IP packet.
uint32_t payloadOf(uint32_t mtu, bool v6) {
  const uint32_t headers = (v6 ? packet::kIpv6Length : packet::kIpv4Length) + packet::kUdpLength;
  return mtu > headers ? mtu - headers : 0;
}

bool isUnspecified(const SockAddr& address) { return net::IpAddress::of(address).unspecified(); }

Error unreceivable(const SockAddr& local, const std::string& backend, Error error) {
  error.code = ErrorCode::kChannelEndpointError;
  error.message = "UDP endpoint " + local.toString() + ": backend " + backend + " can't receive for it: " + error.message;
  return error;
}

// A socket of the device's own network namespace, bound there already, for UdpEndpoint to take over.
class HandedSocket final : public Endpoint {
 public:
  // The configuration to open with: what the socket has, and what this process could only make worse, is left out.
  EndpointConfig take(UniqueFd socket, const EndpointConfig& wanted) {
    socket_ = std::move(socket);
    EndpointConfig config = wanted;
    config.predecessor = this;
    config.receiveBufferBytes = 0;
    config.interfaceName.clear();
    return config;
  }
  const SockAddr& localAddress() const override { return none_; }
  int32_t receiveBufferBytes() const override { return 0; }
  int32_t sendBufferBytes() const override { return 0; }
  int socketFd() const override { return socket_.get(); }

 private:
  UniqueFd socket_;
  SockAddr none_;
};

Caps capsOf(const FrameCaps& device) {
  Caps caps;
  caps.name = device.name;
  // Slices of many datagrams are cut here where the device can't: one call for all of them either way.
  caps.segmentationOffload = true;
  caps.receiveCoalescing = device.receiveTrains;
  caps.maxTrainLengthBytes = kMaxTrainBytes;
  caps.maxTrainSegments = NetStack::kMaxTrainSegments;
  caps.reason = device.reason;
  caps.alwaysPolled = device.exceptionPath;
  return caps;
}

}  // namespace

StackEndpoint::StackEndpoint(std::shared_ptr<NetStack> stack, uint32_t face, std::unique_ptr<UdpEndpoint> reserved, int32_t queue,
                             const EndpointConfig& config)
    : stack_(std::move(stack)),
      face_(face),
      id_(nextEndpointId.fetch_add(1, std::memory_order_relaxed)),
      reserved_(std::move(reserved)),
      queue_(queue),
      ip_(net::IpAddress::of(reserved_->localAddress())),
      port_(reserved_->localAddress().port()),
      wildcard_(isUnspecified(reserved_->localAddress())),
      hopLimit_(config.ttl > 0 ? static_cast<uint8_t>(std::min(config.ttl, 255)) : uint8_t{64}) {}

StackEndpoint::~StackEndpoint() {
  // What can't be taken out of the device's filter is dropped by the stack, which no longer knows the port.
  static_cast<void>(stack_->device().unsteer({localAddress()}));
  stack_->queues().forget(queue_);
}

StackNextHop::StackNextHop(std::shared_ptr<NetStack> stack, StackEndpoint& endpoint, const SockAddr& destination)
    : NextHop(destination), stack_(std::move(stack)) {
  stack_->ask(path, endpoint, destination);
  stack_->tables().watch(path.cell);
  stack_->enlist(path);
}

uint32_t StackNextHop::longestDatagram() const { return stack_->longestDatagram(path.cell.answer.load()); }

uint32_t StackEndpoint::longestReceivable() const { return stack_->longestReceivable(ip_.isV6()); }

StackNextHop::~StackNextHop() {
  stack_->delist(path);
  stack_->tables().forget(path.cell);
}

NetStack::NetStack(std::unique_ptr<FrameIo> device, std::shared_ptr<net::KernelTables> tables, const StackOptions& options)
    : device_(std::move(device)),
      tap_(std::make_shared<CaptureTap>(device_->caps().interface, "backend " + device_->caps().name + ", " + device_->caps().mode)),
      tables_(std::move(tables)),
      options_(options),
      caps_(capsOf(device_->caps())),
      queues_(*device_),
      faces_(options.faces),
      copies_(kCopyBlocks),
      controlPaths_(std::make_unique<Path[]>(kControlPaths)),
      pathMtus_(device_->caps().kernelOwnsDevice ? PathMtus::kBesideKernel : PathMtus::kAlone) {}

Result<std::shared_ptr<NetStack>> NetStack::create(std::unique_ptr<FrameIo> device, std::shared_ptr<net::KernelTables> tables,
                                                   const StackOptions& options) {
  std::shared_ptr<NetStack> stack(new NetStack(std::move(device), std::move(tables), options));
  if (auto r = stack->open(); !r) return r.error();
  return stack;
}

NetStack::~NetStack() {
  for (uint32_t i = 0; i < kControlPaths; ++i) tables_->forget(controlPaths_[i].cell);
  RxBurst none;
  for (uint32_t i = 0; i < faces_.size(); ++i) release(i, none);
}

Result<void> NetStack::open() {
  const auto failed = [this](const std::string& what, int err) {
    return makeError(ErrorCode::kGeneric, "backend " + caps_.name + ": " + what, err);
  };
  if (!copies_.valid()) return failed("cannot map " + std::to_string(kCopyBlocks) + " blocks of 64 KiB", errno);
  const LinkState link = device_->link();
  if (link.gone) return failed("its device can't be used: " + link.reason, 0);
  link_ = {link.mac, link.mtu, link.generation};
  publishedLink_.store(link_);
  linkVersion_ = publishedLink_.version();
  rules_ = {link_.mac, options_.vlan};
  addresses_.reserve(net::KernelTables::kMaxLocalAddresses);
  for (Face& face : faces_) {
    face.attached.reserve(kExpectedEndpoints);
    face.kernelSlots = std::make_unique<ReceiveSlots>(options_.receiveSlots);
    if (!face.kernelSlots->valid()) return failed("cannot map receive slots of 64 KiB", errno);
    face.kernelEpoll = UniqueFd(::epoll_create1(EPOLL_CLOEXEC));
    if (!face.kernelEpoll.valid()) return failed("cannot create an epoll descriptor", errno);
    if (face.wakes.error() != 0) return failed("cannot create an epoll descriptor", face.wakes.error());
    face.wakes.add(face.kernelEpoll.get());
    if (const int handle = device_->waitHandle(); handle >= 0) face.wakes.add(handle);
    if (!face.wakes.watch()) return failed("cannot wait for the device with epoll", errno);
  }
  for (uint32_t i = 0; i < kControlPaths; ++i) tables_->watch(controlPaths_[i].cell);
  // Before anything can arrive: to a stack that doesn't know its addresses, a datagram to a wildcard port is another host's.
  addressVersion_ = tables_->addressVersion();
  while (!tables_->copyAddresses(addresses_)) ::sched_yield();
  return {};
}

Result<std::unique_ptr<Endpoint>> NetStack::openEndpoint(uint32_t face, const EndpointConfig& config) {
  if (!device_->caps().kernelOwnsDevice && !isUnspecified(config.bindAddress) && !hasAddress(config.bindAddress)) {
    return makeError(ErrorCode::kChannelEndpointError,
                     "UDP endpoint " + config.bindAddress.toString() + ": cannot bind: the device of backend " + caps_.name +
                         " does not have this address",
                     EADDRNOTAVAIL);
  }
  UdpSocketOptions socketOptions;
  socketOptions.receiveErrors = true;
  // Where the kernel does not own the device it does not have the address either, and the port is reserved all the same.
  socketOptions.freeBind = !device_->caps().kernelOwnsDevice;
  const FrameCaps& device = device_->caps();
  socketOptions.arrival = device.kernelSeesFrames;
  socketOptions.countDrops = !device.kernelSeesFrames;
  HandedSocket handed;
  EndpointConfig own = config;
  if (config.predecessor == nullptr) {
    auto socket = device_->openPort(config.bindAddress, config.receiveBufferBytes);
    if (!socket) return unreceivable(config.bindAddress, caps_.name, socket.error());
    if (socket->valid()) own = handed.take(socket.take(), config);
  }
  int32_t queue = QueueSpread::kNone;
  auto reserved = queues_.open(
      own, socketOptions, [&] { return sourceOf(own); }, queue);
  if (!reserved) return reserved.error();
  const auto refused = [&](Error error) {
    queues_.forget(queue);
    return error;
  };
  // Fragments and local traffic come as trains where the kernel can do that; one by one where not.
  const int coalesce = 1;
  ::setsockopt((*reserved)->fd(), SOL_UDP, UDP_GRO, &coalesce, sizeof(coalesce));
  const SockAddr local = (*reserved)->localAddress();
  if (device.kernelSeesFrames) {
    if (auto r = dropDeviceCopies((*reserved)->fd(), local.isV6(), device.interfaceIndex); !r) {
      return refused(makeError(r.error().code, "UDP endpoint " + local.toString() + ": " + r.error().message));
    }
  }
  if (auto steered = device_->steer({local, (*reserved)->fd()}); !steered) {
    return refused(unreceivable(local, caps_.name, steered.error()));
  }
  return std::unique_ptr<Endpoint>(std::make_unique<StackEndpoint>(shared_from_this(), face, reserved.take(), queue, config));
}

bool NetStack::hasAddress(const SockAddr& address) const {
  std::vector<net::LocalAddress> known;
  known.reserve(net::KernelTables::kMaxLocalAddresses);
  while (!tables_->copyAddresses(known)) ::sched_yield();
  const net::IpAddress wanted = net::IpAddress::of(address);
  return std::any_of(known.begin(), known.end(), [&](const net::LocalAddress& each) { return each.address == wanted; });
}

Result<std::unique_ptr<NextHop>> NetStack::resolve(Endpoint& endpoint, const SockAddr& destination) {
  if (destination.family() != endpoint.localAddress().family()) {
    return makeError(ErrorCode::kInvalidChannel, "destination " + destination.toString() + " is of another address family than endpoint " +
                                                     endpoint.localAddress().toString());
  }
  if (destination.port() == 0) {
    return makeError(ErrorCode::kInvalidChannel, "destination " + destination.toString() + " has port 0: name the port to send to");
  }
  return std::unique_ptr<NextHop>(std::make_unique<StackNextHop>(shared_from_this(), static_cast<StackEndpoint&>(endpoint), destination));
}

void NetStack::attach(Endpoint& base) {
  auto& endpoint = static_cast<StackEndpoint&>(base);
  if (endpoint.attachIndex != StackEndpoint::kNotAttached) return;
  Face& face = faces_[endpoint.face()];
  endpoint.attachIndex = face.attached.size();
  face.attached.push_back(&endpoint);
  ++attached_;
  StackEndpoint*& bucket = ports_[endpoint.port() % kPortBuckets];
  endpoint.nextOfBucket = bucket;
  bucket = &endpoint;
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.ptr = &endpoint;
  ::epoll_ctl(face.kernelEpoll.get(), EPOLL_CTL_ADD, endpoint.reserved().fd(), &event);
}

void NetStack::detach(Endpoint& base) {
  auto& endpoint = static_cast<StackEndpoint&>(base);
  if (endpoint.attachIndex == StackEndpoint::kNotAttached) return;
  Face& face = faces_[endpoint.face()];
  ::epoll_ctl(face.kernelEpoll.get(), EPOLL_CTL_DEL, endpoint.reserved().fd(), nullptr);
  StackEndpoint** link = &ports_[endpoint.port() % kPortBuckets];
  while (*link != &endpoint) link = &(*link)->nextOfBucket;
  *link = endpoint.nextOfBucket;
  endpoint.nextOfBucket = nullptr;
  StackEndpoint* last = face.attached.back();
  face.attached[endpoint.attachIndex] = last;
  last->attachIndex = endpoint.attachIndex;
  face.attached.pop_back();
  --attached_;
  endpoint.attachIndex = StackEndpoint::kNotAttached;
  while (endpoint.hasWaiting()) {
    const Held held = endpoint.front().held;
    if (held.block == CopyPool::kNone) --heldFrames_;
    endpoint.pop();
    --face.waiting;
    drop(held);
  }
  giveBackDropped();
  forgetControlPaths(endpoint);
  endpoint.takeReservedStats();
  face.detachedTotals.add(endpoint.stats);
}

IoTotals NetStack::totals(uint32_t index) const {
  const Face& face = faces_[index];
  IoTotals totals = face.detachedTotals;
  for (const StackEndpoint* endpoint : face.attached) totals.add(endpoint->stats);
  if (index != 0) return totals;  // what the stack counts it counts once
  for (size_t i = 0; i < static_cast<size_t>(StackCounter::kCount); ++i) totals.network[i] = stats_[static_cast<StackCounter>(i)];
  const FrameStats& device = device_->stats;
  const auto take = [&](DeviceCounter counter, const std::atomic<int64_t>& value) {
    totals.network[networkIndex(counter)] = value.load(std::memory_order_relaxed);
  };
  take(DeviceCounter::kFramesReceived, device.receivedFrames);
  take(DeviceCounter::kFramesSent, device.transmittedFrames);
  take(DeviceCounter::kRingFullDrops, device.ringFullDrops);
  take(DeviceCounter::kNoBuffer, device.noBuffer);
  take(DeviceCounter::kFillRingEmpty, device.fillRingEmpty);
  take(DeviceCounter::kInvalidDescriptors, device.invalidDescriptors);
  take(DeviceCounter::kTransmitErrors, device.transmitErrors);
  take(DeviceCounter::kOversizedFrames, device.oversizedFrames);
  take(DeviceCounter::kOtherVlanFrames, device.otherVlanFrames);
  take(DeviceCounter::kLeftToKernel, device.leftToKernel);
  take(DeviceCounter::kReceiveErrors, device.receiveErrors);
  take(DeviceCounter::kExceptionFrames, device.exceptionFrames);
  take(DeviceCounter::kExceptionDrops, device.exceptionDrops);
  return totals;
}

bool NetStack::arm(uint32_t index) {
  Face& face = faces_[index];
  if (face.waiting > 0 || !face.wakes.watch()) return false;
  epoll_event event{};
  if (::epoll_wait(face.kernelEpoll.get(), &event, 1, 0) > 0) {
    face.kernelReady = true;
    return false;
  }
  return device_->arm();
}

// Of one that leaves by our device: what else the kernel sends it cuts itself.
uint32_t NetStack::longestDatagram(const net::RouteAnswer& answer) const {
  if (answer.route != net::RouteState::kForward || answer.interfaceIndex != device_->caps().interfaceIndex) return 0;
  const uint32_t linkMtu = publishedLink_.load().mtu;
  return payloadOf(answer.mtu == 0 ? linkMtu : std::min(answer.mtu, linkMtu), answer.source.isV6());
}

uint32_t NetStack::longestReceivable(bool v6) const {
  return device_->caps().kernelOwnsDevice ? 0 : payloadOf(publishedLink_.load().mtu, v6);
}

Health NetStack::health() {
  const std::lock_guard lock(linkMutex_);
  const LinkState now = device_->link();
  if (now.gone) return {Health::State::kGone, now.reason};
  if (now.generation != publishedLink_.load().generation) publishedLink_.store({now.mac, now.mtu, now.generation});
  return {now.up ? Health::State::kOk : Health::State::kDown, now.reason};
}

std::vector<std::pair<std::string, std::string>> NetStack::facts() const {
  const std::lock_guard lock(linkMutex_);
  const FrameCaps& caps = device_->caps();
  std::string offloads;
  for (const std::string& offload : caps.offloads) offloads += (offloads.empty() ? "" : ", ") + offload;
  std::vector<std::pair<std::string, std::string>> facts = {
      {"mode", caps.mode},
      {"interface", caps.interface.empty() ? "not the kernel's" : caps.interface},
      {"queues", std::to_string(caps.queues)},
      {"mtu", std::to_string(publishedLink_.load().mtu)},
      {"offloads", offloads.empty() ? "none" : offloads},
      {"checksums", caps.transmitChecksum ? "made by the device" : "made in the copy"},
      {"trains", caps.transmitSegmentation ? "cut by the device" : "cut into frames"},
      {"timestamps", caps.arrivalTimes ? kTimestampsOnArrival : kTimestampsWhenRead},
      {"ARP, NDP and ICMP", caps.kernelOwnsDevice ? "the kernel's" : "our own"}};
  if (!caps.memory.empty()) facts.emplace_back("memory", caps.memory);
  if (options_.vlan != 0) facts.insert(facts.begin() + 2, {"vlan", std::to_string(options_.vlan)});
  if (!caps.openedBy.empty()) facts.insert(facts.begin() + 1, {"by", caps.openedBy});
  return facts;
}

void NetStack::upkeep(int64_t nowNs) {
  if (publishedLink_.version() != linkVersion_ && publishedLink_.tryLoad(link_, linkVersion_)) {
    rules_.ownMac = link_.mac;
    ++version_;
  }
  if (!device_->caps().kernelOwnsDevice) askForNeighbours(nowNs);
  if (lastUpkeepNs_ != 0 && nowNs - lastUpkeepNs_ < kUpkeepIntervalNs) return;
  lastUpkeepNs_ = nowNs;
  if (pathMtus_.expire(nowNs)) ++version_;
  device_->refreshStats();
  if (device_->caps().kernelSeesFrames) countReservedDrops();
}

// The kernel counts what a socket's filter drops with what its buffer has no room for, so it says more than was lost: what is above the datagrams
// that the device delivered found no room.
void NetStack::countReservedDrops() {
  for (Face& face : faces_) {
    for (StackEndpoint* endpoint : face.attached) {
      std::array<uint32_t, SK_MEMINFO_VARS> memory{};
      socklen_t length = sizeof(memory);
      if (::getsockopt(endpoint->reserved().fd(), SOL_SOCKET, SO_MEMINFO, memory.data(), &length) != 0) continue;
      const uint32_t fresh = memory[SK_MEMINFO_DROPS] - endpoint->lastReservedDrops;
      endpoint->lastReservedDrops = memory[SK_MEMINFO_DROPS];
      stats_.add(StackCounter::kReservedSocketDrops, fresh);
    }
  }
}

}  // namespace outrigger::io
