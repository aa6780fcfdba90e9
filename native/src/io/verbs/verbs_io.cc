// SPDX-License-Identifier: Apache-2.0
// Life and control part of `verbs`, and what it receives; what it sends is in verbs_transmit.cc.
#include "io/verbs/verbs_io.h"

#include <sys/epoll.h>
#include <sys/random.h>

#include <algorithm>

#include "io/mmsg/mmsg_io.h"
#include "io/posix/udp_io_base.h"

namespace outrigger::io::verbs {
namespace {

constexpr uint32_t kMaxTrainBytes = 65507;
constexpr uint32_t kMaxTrainSegments = 64;
// Of the burst, for what comes through the sockets: they carry what is rare.
constexpr uint32_t kKernelSlots = 16;
// Looking at the sockets costs a system call: on a busy device once in this many polls.
constexpr uint32_t kPollsPerKernelLook = 16;

}  // namespace

void VerbsEndpoint::enter(std::shared_ptr<PeerDirectory> directory) {
  directory_ = std::move(directory);
  ip_ = net::IpAddress::of(localAddress());
  wildcard_ = ip_.unspecified();
  // A link-local address has a scope, which a route header has not: its streams stay with the kernel.
  const auto& gids = directory_->port().facts().gids;
  onDevice_ = std::any_of(gids.begin(), gids.end(), [this](const GidEntry& each) {
    const net::IpAddress address = addressOf(each.gid);
    if (address.isLinkLocalV6()) return false;
    return wildcard_ ? address.family == ip_.family : address == ip_;
  });
  number_ = directory_->addEndpoint(fd(), wildcard_ ? net::IpAddress{} : ip_);
}

VerbsNextHop::VerbsNextHop(std::shared_ptr<PeerDirectory> directory, const VerbsEndpoint& endpoint, const SockAddr& destination)
    : NextHop(destination), directory_(std::move(directory)), onDevice_(endpoint.onDevice()) {
  PeerQuestion question;
  question.number = 1;
  question.endpoint = onDevice_ ? endpoint.number() : 0;
  question.destination = destination;
  peer.cell.question.store(question);
  directory_->watch(peer.cell);
}

uint32_t VerbsNextHop::longestDatagram() const {
  if (!onDevice_) return 0;
  const PeerAnswer answer = now();
  if (answer.state == PeerState::kKernel) return 0;
  return answer.state == PeerState::kReady ? answer.mtu : directory_->port().facts().mtu;
}

VerbsIo::VerbsIo(std::shared_ptr<PeerDirectory> directory, const VerbsOptions& options)
    : directory_(std::move(directory)), options_(options) {
  caps_.name = "verbs";
  // Slices are cut here: one call for many datagrams either way.
  caps_.segmentationOffload = true;
  caps_.maxTrainLengthBytes = kMaxTrainBytes;
  caps_.maxTrainSegments = kMaxTrainSegments;
}

Result<std::unique_ptr<VerbsIo>> VerbsIo::create(std::shared_ptr<PeerDirectory> directory, const VerbsOptions& options) {
  std::unique_ptr<VerbsIo> io(new VerbsIo(std::move(directory), options));
  if (auto r = io->open(); !r) return r.error();
  return io;
}

Result<void> VerbsIo::open() {
  // Of 31 bits: keys above are for privileged queue pairs.
  while (::getrandom(&queueKey_, sizeof(queueKey_), 0) != sizeof(queueKey_)) {
  }
  queueKey_ &= 0x7FFFFFFF;
  mtu_ = directory_->port().facts().mtu;
  QueueOptions queueOptions;
  queueOptions.receiveSlots = options_.receiveSlots;
  queueOptions.sendSlots = options_.sendSlots;
  queueOptions.queueKey = queueKey_;
  auto queue = directory_->port().openQueue(queueOptions);
  if (!queue) return queue.error();
  queue_ = queue.take();
  BackendOptions kernelOptions;
  kernelOptions.segmentation = options_.segmentation;
  // A message of the exchange must not come within a train.
  kernelOptions.coalescing = false;
  kernelOptions.busyPollUs = options_.busyPollUs;
  kernelOptions.receiveSlots = kKernelSlots;
  auto kernel = MmsgIo::create(kernelOptions);
  if (!kernel) return kernel.error();
  kernel_ = kernel.take();
  epoll_ = UniqueFd(::epoll_create1(EPOLL_CLOEXEC));
  epoll_event event{};
  event.events = EPOLLIN;
  if (!epoll_.valid()) return makeError(ErrorCode::kGeneric, "backend verbs: cannot create an epoll descriptor", errno);
  for (const int handle : {queue_->handle(), kernel_->waitHandle()}) {
    if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, handle, &event) != 0) {
      return makeError(ErrorCode::kGeneric, "backend verbs: cannot wait for the device with epoll", errno);
    }
  }
  notes_ = directory_->addNotes();
  for (uint32_t i = 0; i < kControlSets * kWays; ++i) directory_->watch(controlPeers_[i].peer.cell);
  return {};
}

VerbsIo::~VerbsIo() {
  if (notes_ == nullptr) return;
  for (uint32_t i = 0; i < kControlSets * kWays; ++i) directory_->forget(controlPeers_[i].peer.cell);
  directory_->dropNotes(notes_);
}

Result<std::unique_ptr<Endpoint>> VerbsIo::openEndpoint(const EndpointConfig& config) {
  auto endpoint = std::make_unique<VerbsEndpoint>();
  UdpSocketOptions options;
  options.busyPollUs = options_.busyPollUs;
  if (auto r = UdpEndpoint::openInto(*endpoint, config, options); !r) return r.error();
  endpoint->enter(directory_);
  return std::unique_ptr<Endpoint>(std::move(endpoint));
}

Result<std::unique_ptr<NextHop>> VerbsIo::resolve(Endpoint& endpoint, const SockAddr& destination) {
  if (auto plain = kernel_->resolve(endpoint, destination); !plain) return plain.error();
  return std::unique_ptr<NextHop>(std::make_unique<VerbsNextHop>(directory_, static_cast<VerbsEndpoint&>(endpoint), destination));
}

Health VerbsIo::health() {
  if (const int64_t now = directory_->port().outOfBuffers(); now >= 0) {
    if (firstOutOfBuffers_ < 0) firstOutOfBuffers_ = now;
    outOfBuffers_.store(now - firstOutOfBuffers_, std::memory_order_relaxed);
  }
  if (const QueueFault& fault = queue_->fault(); fault.present()) {
    return {Health::State::kGone, "its queue pair on " + directory_->port().facts().device + " is broken: " + fault.text()};
  }
  bool gone = false;
  std::string trouble = directory_->port().trouble(gone);
  if (trouble.empty()) return {};
  return {gone ? Health::State::kGone : Health::State::kDown, std::move(trouble)};
}

std::vector<std::pair<std::string, std::string>> VerbsIo::facts() const {
  const PortFacts& port = directory_->port().facts();
  std::string addresses;
  for (const GidEntry& each : port.gids) addresses += (addresses.empty() ? "" : ", ") + addressOf(each.gid).toString();
  return {{"mode", "RDMA, unreliable datagrams"},
          {"device", port.device + " port " + std::to_string(port.port)},
          {"interface", port.interface.empty() ? "not known" : port.interface},
          {"addresses", addresses},
          {"mtu", std::to_string(port.mtu) + " bytes in a datagram"},
          {"buffers", std::to_string(queue_->receiveSlots()) + " in, " + std::to_string(queue_->sendSlots()) + " out"},
          {"inline sends", queue_->inlineBytes() == 0 ? "none" : "up to " + std::to_string(queue_->inlineBytes()) + " bytes"},
          {"timestamps", kTimestampsWhenRead}};
}

void VerbsIo::attach(Endpoint& base) {
  auto& endpoint = static_cast<VerbsEndpoint&>(base);
  kernel_->attach(endpoint);
  if (endpoint.listed) return;
  endpoint.listed = true;
  VerbsEndpoint*& bucket = ports_[endpoint.port() % kPortBuckets];
  endpoint.nextOfBucket = bucket;
  bucket = &endpoint;
}

void VerbsIo::detach(Endpoint& base) {
  auto& endpoint = static_cast<VerbsEndpoint&>(base);
  kernel_->detach(endpoint);
  if (!endpoint.listed) return;
  VerbsEndpoint** link = &ports_[endpoint.port() % kPortBuckets];
  while (*link != &endpoint) link = &(*link)->nextOfBucket;
  *link = endpoint.nextOfBucket;
  endpoint.nextOfBucket = nullptr;
  endpoint.listed = false;
  for (uint32_t i = 0; i < kControlSets * kWays; ++i) {
    ControlPeer& each = controlPeers_[i];
    if (each.endpoint != endpoint.number()) continue;
    each.endpoint = 0;
    each.peer.cell.question.store({});
  }
}

VerbsEndpoint* VerbsIo::find(const net::IpAddress& destination, uint16_t port) const {
  VerbsEndpoint* any = nullptr;
  for (VerbsEndpoint* each = ports_[port % kPortBuckets]; each != nullptr; each = each->nextOfBucket) {
    if (each->port() != port || each->ip().family != destination.family) continue;
    if (each->wildcard()) {
      any = each;
    } else if (each->ip() == destination) {
      return each;
    }
  }
  return any;
}

void VerbsIo::release(RxBurst& burst) {
  burst.count = 0;
  if (heldCount_ > 0) queue_->giveBack({held_.data(), heldCount_});
  heldCount_ = 0;
}

uint32_t VerbsIo::poll(RxBurst& burst, int64_t nowNs) {
  release(burst);
  uint32_t datagrams = readQueue(burst);
  if (++pollsSinceKernel_ >= kPollsPerKernelLook || kernelReady_ || burst.count == 0) {
    pollsSinceKernel_ = 0;
    kernelReady_ = false;
    kernel_->poll(kernelBurst_, nowNs);
    datagrams += readKernel(burst, nowNs);
  }
  return datagrams;
}

uint32_t VerbsIo::readQueue(RxBurst& burst) {
  const uint32_t count = queue_->receive({received_.data(), RxBurst::kMaxPackets - kKernelSlots});
  for (uint32_t i = 0; i < count; ++i) {
    held_[heldCount_++] = received_[i].slot;
    deliver(received_[i], burst);
  }
  return static_cast<uint32_t>(burst.count);
}

bool VerbsIo::deliver(const Received& received, RxBurst& burst) {
  const auto route = readRouteHeader(std::span<const uint8_t, kRouteHeaderLength>(received.routeHeader, kRouteHeaderLength));
  const auto sourcePort = static_cast<uint16_t>(received.immediate >> 16);
  const auto port = static_cast<uint16_t>(received.immediate);
  if (!route || sourcePort == 0) {
    stats_.add(StackCounter::kBadIpHeaders);
    return false;
  }
  VerbsEndpoint* endpoint = find(route->destination, port);
  if (endpoint == nullptr) {
    stats_.add(StackCounter::kOtherPortDatagrams);
    return false;
  }
  if (received.length == 0) {
    endpoint->stats.emptyDatagrams.fetch_add(1, std::memory_order_relaxed);
    return false;
  }
  stats_.add(StackCounter::kDatagramsReceived);
  Slot& slot = slots_[burst.count];
  route->source.writeTo(slot.source, sourcePort);
  RxPacket& packet = burst.packets[burst.count++];
  packet.data = received.data;
  packet.length = received.length;
  packet.segmentLength = received.length;
  packet.endpoint = endpoint;
  packet.source = &slot.source;
  packet.destination = &endpoint->localAddress();
  packet.arrivedNs = 0;
  if (endpoint->wildcard()) {
    route->destination.writeTo(slot.destination, port);
    packet.destination = &slot.destination;
  }
  return true;
}

uint32_t VerbsIo::readKernel(RxBurst& burst, int64_t nowNs) {
  uint32_t datagrams = 0;
  bool noted = false;
  for (size_t i = 0; i < kernelBurst_.count; ++i) {
    const RxPacket& packet = kernelBurst_.packets[i];
    ExchangeMessage message;
    const ExchangeVerdict verdict = readExchange({packet.data, packet.length}, message);
    if (verdict != ExchangeVerdict::kNotExchange) {
      noted = onExchange(static_cast<VerbsEndpoint&>(*packet.endpoint), packet, verdict, message, nowNs) || noted;
      continue;
    }
    stats_.add(StackCounter::kKernelDatagrams);
    burst.packets[burst.count++] = packet;
    ++datagrams;
  }
  if (noted) directory_->wake();
  return datagrams;
}

bool VerbsIo::onExchange(VerbsEndpoint& endpoint, const RxPacket& packet, ExchangeVerdict verdict, const ExchangeMessage& message,
                         int64_t nowNs) {
  stats_.add(StackCounter::kNeighbourPackets);
  if (verdict == ExchangeVerdict::kMalformed) {
    stats_.add(StackCounter::kBadControlPackets);
    return false;
  }
  if (!(message.kind == ExchangeKind::kAsk ? askLimit_ : answerLimit_).allow(nowNs)) {
    stats_.add(StackCounter::kNeighbourPacketsLimited);
    return false;
  }
  PeerNote note;
  note.endpoint = endpoint.number();
  note.source = *packet.source;
  note.message = message;
  if (message.kind == ExchangeKind::kAsk) {
    answer(endpoint, packet, verdict, message.nonce);
    note.kind = PeerNote::Kind::kHint;
  } else if (verdict == ExchangeVerdict::kOtherVersion) {
    // Its answer is of no use to us; that it refuses ours says the same.
    note.message.kind = ExchangeKind::kRefusal;
    note.message.reason = RefusalReason::kVersion;
  }
  if (notes_->offer(note)) return true;
  stats_.add(StackCounter::kNeighbourPacketsLimited);
  return false;
}

void VerbsIo::answer(VerbsEndpoint& endpoint, const RxPacket& packet, ExchangeVerdict verdict, uint64_t nonce) {
  ExchangeMessage reply;
  reply.nonce = nonce;
  reply.gid = gidOf(net::IpAddress::of(*packet.destination));
  const auto& gids = directory_->port().facts().gids;
  const bool known = std::any_of(gids.begin(), gids.end(), [&](const GidEntry& each) { return each.gid == reply.gid; });
  if (verdict == ExchangeVerdict::kOtherVersion || !known || !endpoint.onDevice()) {
    reply.kind = ExchangeKind::kRefusal;
    reply.reason = verdict == ExchangeVerdict::kOtherVersion ? RefusalReason::kVersion : RefusalReason::kNoGid;
    reply.gid = {};
  } else {
    reply.kind = ExchangeKind::kAnswer;
    reply.queueNumber = queue_->number();
    reply.queueKey = queueKey_;
    reply.mtu = mtu_;
  }
  std::array<uint8_t, kExchangeLength> bytes;
  writeExchange(reply, bytes);
  // One that finds no room is asked for again.
  static_cast<void>(
      ::sendto(endpoint.fd(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL, packet.source->get(), packet.source->length));
}

bool VerbsIo::arm() {
  if (!queue_->arm()) return false;
  if (kernel_->arm()) return true;
  kernelReady_ = true;
  return false;
}

IoTotals VerbsIo::totals() const {
  IoTotals totals = kernel_->totals();
  for (size_t i = 0; i < static_cast<size_t>(StackCounter::kCount); ++i) totals.network[i] = stats_[static_cast<StackCounter>(i)];
  const QueueStats& queue = queue_->stats();
  totals.network[networkIndex(DeviceCounter::kFramesReceived)] = queue.received;
  totals.network[networkIndex(DeviceCounter::kFramesSent)] = queue.sent;
  totals.network[networkIndex(DeviceCounter::kInvalidDescriptors)] = queue.receiveErrors;
  totals.network[networkIndex(DeviceCounter::kTransmitErrors)] = queue.sendErrors;
  if (!options_.countsPort) return totals;
  totals.network[networkIndex(DeviceCounter::kRingFullDrops)] = outOfBuffers_.load(std::memory_order_relaxed);
  const DirectoryStats& directory = directory_->stats();
  totals.network[networkIndex(StackCounter::kNeighbourRequestsSent)] = directory.asks.load(std::memory_order_relaxed);
  totals.network[networkIndex(StackCounter::kPathChanges)] = directory.changes.load(std::memory_order_relaxed);
  totals.network[networkIndex(StackCounter::kBadControlPackets)] += directory.rejected.load(std::memory_order_relaxed);
  totals.network[networkIndex(StackCounter::kUnreachableSends)] = directory.lost.load(std::memory_order_relaxed);
  return totals;
}

}  // namespace outrigger::io::verbs
