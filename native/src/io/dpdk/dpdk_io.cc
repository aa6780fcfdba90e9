// SPDX-License-Identifier: Apache-2.0
#include "io/dpdk/dpdk_io.h"

#include <rte_epoll.h>
#include <rte_ether.h>
#include <sys/epoll.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "io/xdp/partial_checksum.h"

namespace outrigger::io::dpdk {
namespace {

rte_mbuf* mbufOf(uint64_t cookie) { return reinterpret_cast<rte_mbuf*>(cookie); }
uint64_t cookieOf(rte_mbuf* mbuf) { return reinterpret_cast<uint64_t>(mbuf); }

// Of the frame up to the UDP header: what a device needs to find the fields it fills in.
constexpr uint32_t kIpv4Length = 20;
constexpr uint32_t kIpv6Length = 40;
// IEEE 802.1Q: the tag, of a type and 16 bits whose last twelve are the id, stands behind the two addresses.
constexpr uint32_t kMacsLength = 12;
constexpr uint32_t kTagLength = 4;
constexpr uint16_t kVlanIdBits = 0x0FFF;
// More than any ring holds; a wire never ends.
constexpr uint32_t kMaxLeftBursts = 64;
// A flood of what is not ours must let the agent go on with its other work: it looks at so many frames at a time, whoever they are for. Four
// bursts: enough to clear what others sent out of the way, short enough for a poll.
constexpr uint32_t kMaxLooks = 256;

void grow(std::atomic<int64_t>& counter, int64_t by) {
  counter.store(counter.load(std::memory_order_relaxed) + by, std::memory_order_relaxed);
}

}  // namespace

Result<std::unique_ptr<DpdkIo>> DpdkIo::open(const EalPlan& plan) {
  auto port = Port::open(plan);
  if (!port) return port.error();
  std::optional<ExceptionTap> tap;
  if (!(*port)->caps().kernelOwnsDevice && !plan.addresses.empty()) {
    const LinkState link = (*port)->link();
    auto opened = ExceptionTap::open({plan.exceptionInterface, link.mac, link.mtu, plan.addresses, plan.gateways});
    if (!opened) return opened.error();
    tap.emplace(opened.take());
    tap->setCarrier(link.up);
  }
  std::unique_ptr<DpdkIo> io(new DpdkIo(port.take(), std::move(tap), plan.vlan));
  if (auto made = io->makeWaitHandle(); !made) return made.error();
  return io;
}

DpdkIo::DpdkIo(std::unique_ptr<Port> port, std::optional<ExceptionTap> tap, uint16_t vlan)
    : port_(std::move(port)), tap_(std::move(tap)), vlan_(vlan), caps_(port_->caps()), flows_(vlan) {
  pending_.reserve(port_->transmitDescriptors());
  lastLink_ = port_->link();
  mtu_.store(lastLink_.mtu, std::memory_order_relaxed);
  rte_eth_stats_get(port_->id(), &base_);
  if (tap_) {
    caps_.kernelOwnsDevice = true;
    caps_.exceptionPath = true;
    caps_.interface = tap_->name();
    caps_.interfaceIndex = tap_->index();
    caps_.mode += ", exception interface " + tap_->name();
  }
  filtered_ = caps_.kernelOwnsDevice;
}

Result<void> DpdkIo::makeWaitHandle() {
  if (port_->interruptFd() < 0) return {};
  waitFd_ = UniqueFd(::epoll_create1(EPOLL_CLOEXEC));
  epoll_event event{};
  event.events = EPOLLIN;
  bool added = waitFd_.valid() && ::epoll_ctl(waitFd_.get(), EPOLL_CTL_ADD, port_->interruptFd(), &event) == 0;
  if (added && tap_) added = ::epoll_ctl(waitFd_.get(), EPOLL_CTL_ADD, tap_->fd(), &event) == 0;
  if (!added) return makeError(ErrorCode::kGeneric, "dpdk: cannot make a descriptor to sleep on", errno);
  return {};
}

DpdkIo::~DpdkIo() {
  if (port_->traits().flowIsolation) flows_.clear(port_->id());
  while (receivedNext_ < receivedCount_) rte_pktmbuf_free(received_[receivedNext_++]);
  while (pendingNext_ < pending_.size()) rte_pktmbuf_free(pending_[pendingNext_++]);
  if (chainHead_ != nullptr) rte_pktmbuf_free(chainHead_);
  // A ring outlives its port, with what nobody took: the next port of that name would receive it.
  for (uint32_t i = 0; i < kMaxLeftBursts && fetch(); i++) {
    while (receivedNext_ < receivedCount_) rte_pktmbuf_free(received_[receivedNext_++]);
  }
}

Result<void> DpdkIo::steer(const SteerRule& rule) {
  if (port_->traits().flowIsolation) {
    if (auto added = flows_.add(port_->id(), rule.address); !added) return added;
  }
  filter_.add(rule.address);
  return {};
}

Result<void> DpdkIo::unsteer(const SteerRule& rule) {
  filter_.remove(rule.address);
  return port_->traits().flowIsolation ? flows_.remove(port_->id(), rule.address) : Result<void>();
}

std::optional<uint32_t> DpdkIo::queueOf(const SockAddr& source, const SockAddr& destination) const {
  return port_->rss() ? port_->rss()->queueOf(source, destination) : std::nullopt;
}

LinkState DpdkIo::link() {
  const std::lock_guard lock(linkMutex_);
  LinkState now = port_->link();
  if (tap_ && now.up != lastLink_.up) tap_->setCarrier(now.up);
  // What the kernel sends there has to fit the device.
  if (tap_ && now.mtu != lastLink_.mtu && now.mtu != 0) tap_->setMtu(now.mtu);
  const bool same = now.mac == lastLink_.mac && now.mtu == lastLink_.mtu && now.up == lastLink_.up && now.gone == lastLink_.gone;
  now.generation = lastLink_.generation + (same ? 0 : 1);
  lastLink_ = now;
  mtu_.store(now.mtu, std::memory_order_relaxed);
  return now;
}

// True when there is something to deliver.
bool DpdkIo::fetch() {
  if (receivedNext_ < receivedCount_) return true;
  receivedNext_ = 0;
  receivedCount_ = 0;
  for (uint16_t i = 0; i < port_->queues() && receivedCount_ == 0; i++) {
    receivedCount_ = rte_eth_rx_burst(port_->id(), nextQueue_, received_.data(), kBurst);
    nextQueue_ = static_cast<uint16_t>(nextQueue_ + 1 == port_->queues() ? 0 : nextQueue_ + 1);
  }
  return receivedCount_ > 0;
}

RxChecksum DpdkIo::checksumOf(const rte_mbuf* packet) const {
  if ((packet->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK) == RTE_MBUF_F_RX_L4_CKSUM_GOOD) return RxChecksum::kGood;
  if (!port_->traits().fedByKernel) return RxChecksum::kUnknown;
  // These drivers pass on no word about the checksum of a frame that came from a socket of this host, over veth for one.
  const bool partial = xdp::hasPartialChecksum(rte_pktmbuf_mtod(packet, const uint8_t*), packet->data_len);
  return partial ? RxChecksum::kPartial : RxChecksum::kUnknown;
}

// How many of `frames` the packet took: 0 when it needs more of them than there are.
uint32_t DpdkIo::deliver(rte_mbuf* packet, std::span<RxFrame> frames) {
  if (packet->nb_segs > frames.size()) return 0;
  const RxChecksum checksum = checksumOf(packet);
  const bool tagged = (packet->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED) != 0;
  const uint16_t tag = packet->vlan_tci;
  uint32_t count = 0;
  for (rte_mbuf* segment = packet; segment != nullptr;) {
    rte_mbuf* next = segment->next;
    RxFrame& frame = frames[count++];
    frame.data = rte_pktmbuf_mtod(segment, const uint8_t*);
    frame.length = segment->data_len;
    frame.segmentLength = 0;
    frame.more = next != nullptr;
    frame.checksum = checksum;
    frame.vlanTci = tag;
    frame.vlanPresent = tagged;
    frame.arrivedNs = 0;  // a device's clock counts ticks of its own, from a time of its own
    frame.cookie = cookieOf(segment);
    segment = next;
  }
  return count;
}

// Asked of devices with an exception interface, behind which nobody else could want the frame. Elsewhere the kernel sorts its own.
bool DpdkIo::isOfOtherVlan(const rte_mbuf* packet) const {
  if (vlan_ == 0 || !tap_) return false;
  if ((packet->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED) != 0) return (packet->vlan_tci & kVlanIdBits) != vlan_;
  const auto* bytes = rte_pktmbuf_mtod(packet, const uint8_t*);
  if (packet->data_len < sizeof(rte_ether_hdr) + kTagLength || bytes[kMacsLength] != 0x81 || bytes[kMacsLength + 1] != 0x00) return true;
  return ((bytes[kMacsLength + 2] << 8 | bytes[kMacsLength + 3]) & kVlanIdBits) != vlan_;
}

// Received and not the stack's: the kernel's where it has an exception interface; elsewhere it has its own copy, or never had any.
void DpdkIo::setAside(rte_mbuf* packet) {
  if (tap_) {
    // It gets the frame as it was on the wire; that of a VLAN, the frame without the tag.
    const bool stripped = (packet->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED) != 0;
    const bool whole = !stripped || vlan_ != 0 || rte_vlan_insert(&packet) == 0;
    const uint32_t tag = vlan_ != 0 && !stripped ? kTagLength : 0;
    std::array<iovec, 8> pieces;
    size_t count = 0;
    if (whole && packet->nb_segs < pieces.size()) {
      for (rte_mbuf* segment = packet; segment != nullptr; segment = segment->next) {
        auto* bytes = rte_pktmbuf_mtod(segment, uint8_t*);
        uint32_t length = segment->data_len;
        if (segment == packet && tag != 0) {
          pieces[count++] = {bytes, kMacsLength};
          bytes += kMacsLength + tag;
          length -= kMacsLength + tag;
        }
        pieces[count++] = {bytes, length};
      }
    }
    const bool taken = count > 0 && tap_->give(std::span(pieces).first(count), packet->pkt_len - tag);
    grow(taken ? stats.exceptionFrames : stats.exceptionDrops, 1);
  }
  rte_pktmbuf_free(packet);
}

// What the kernel sends there: ARP and NDP, ICMP, and what the stack left to the reserved socket.
void DpdkIo::readExceptions() {
  // Where there was more than is taken at a time the next call goes on: such a sender's fragments would overrun the interface's queue.
  receivesSinceRead_ = kReceivesPerExceptionRead;
  for (uint32_t i = 0; i < kMaxExceptionFrames; i++) {
    if (pending_.size() - pendingNext_ + reserved_ >= pending_.capacity()) break;
    rte_mbuf* buffer = rte_pktmbuf_alloc(port_->transmitPool());
    if (buffer == nullptr) {
      grow(stats.noBuffer, 1);
      break;
    }
    auto* bytes = rte_pktmbuf_mtod(buffer, uint8_t*);
    const uint32_t tag = vlan_ != 0 ? kTagLength : 0;
    uint32_t length = tap_->take({bytes + tag, rte_pktmbuf_tailroom(buffer) - tag});
    if (length == 0) {
      rte_pktmbuf_free(buffer);
      receivesSinceRead_ = 0;
      break;
    }
    if (tag != 0) {
      std::memmove(bytes, bytes + tag, kMacsLength);
      const std::array<uint8_t, kTagLength> inserted{0x81, 0x00, static_cast<uint8_t>(vlan_ >> 8), static_cast<uint8_t>(vlan_)};
      std::copy(inserted.begin(), inserted.end(), bytes + kMacsLength);
      length += tag;
    }
    buffer->data_len = static_cast<uint16_t>(length);
    buffer->pkt_len = length;
    queueForTransmit(buffer);
  }
  transmitPending();
}

// The next one that was received. When it is not the stack's, it is gone afterwards.
bool DpdkIo::isOurs(rte_mbuf* packet) {
  if (isOfOtherVlan(packet)) {
    receivedNext_++;
    rte_pktmbuf_free(packet);
    grow(stats.otherVlanFrames, 1);
    return false;
  }
  if (!filtered_) return true;
  const std::span<const uint8_t> head(rte_pktmbuf_mtod(packet, const uint8_t*), packet->data_len);
  const UdpPlace place = findUdp(head);
  // One tag was taken out and another is in the frame: nobody's here, so the kernel's.
  const bool taggedTwice = (packet->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED) != 0 && place.ip > sizeof(rte_ether_hdr);
  if (taggedTwice || !filter_.wants(head, place, port_->mac())) {
    receivedNext_++;
    setAside(packet);
    return false;
  }
  // A train of datagrams that was never segmented is cut to a slot's length by af_packet, which does not say so; a short one comes whole.
  if (place.end > packet->pkt_len || place.end - place.ip > mtu_.load(std::memory_order_relaxed)) {
    receivedNext_++;
    rte_pktmbuf_free(packet);
    grow(stats.oversizedFrames, 1);
    return false;
  }
  return true;
}

uint32_t DpdkIo::receive(std::span<RxFrame> frames) {
  if (armed_) {
    disarm();
    receivesSinceRead_ = kReceivesPerExceptionRead;
  }
  if (tap_ && ++receivesSinceRead_ >= kReceivesPerExceptionRead) {
    readExceptions();
  }
  if (filtered_) filter_.refresh();
  uint32_t count = 0;
  int64_t packets = 0;
  int64_t bytes = 0;
  uint32_t looks = kMaxLooks;
  while (count < frames.size() && looks-- > 0 && fetch()) {
    rte_mbuf* packet = received_[receivedNext_];
    if (!isOurs(packet)) continue;
    const uint32_t length = packet->pkt_len;
    const uint32_t taken = deliver(packet, frames.subspan(count));
    if (taken == 0 && count > 0) break;  // next call: a frame is not split between two
    receivedNext_++;
    if (taken == 0) {
      rte_pktmbuf_free(packet);
      grow(stats.oversizedFrames, 1);
      continue;
    }
    count += taken;
    packets++;
    bytes += length;
  }
  if (packets > 0) {
    grow(stats.receivedFrames, packets);
    grow(stats.receivedBytes, bytes);
  }
  return count;
}

void DpdkIo::giveBack(std::span<const RxFrame> frames) {
  for (const RxFrame& frame : frames) rte_pktmbuf_free_seg(mbufOf(frame.cookie));
}

uint32_t DpdkIo::reserve(std::span<TxFrame> frames) {
  const auto capacity = static_cast<uint32_t>(pending_.capacity());
  const auto waiting = [&] { return static_cast<uint32_t>(pending_.size()) - pendingNext_ + reserved_; };
  if (waiting() + frames.size() > capacity) transmitPending();
  uint32_t wanted = std::min(static_cast<uint32_t>(frames.size()), capacity - std::min(capacity, waiting()));
  uint32_t count = 0;
  std::array<rte_mbuf*, kBurst> buffers{};
  while (count < wanted) {
    uint32_t now = std::min(wanted - count, kBurst);
    // All or nothing, so less is asked for near the end of the pool.
    while (now > 0 && rte_pktmbuf_alloc_bulk(port_->transmitPool(), buffers.data(), now) != 0) now /= 2;
    if (now == 0) break;
    for (uint32_t i = 0; i < now; i++) {
      TxFrame& frame = frames[count++];
      frame = TxFrame{};
      frame.data = rte_pktmbuf_mtod(buffers[i], uint8_t*);
      frame.capacity = rte_pktmbuf_tailroom(buffers[i]) & ~1u;
      frame.cookie = cookieOf(buffers[i]);
    }
  }
  reserved_ += count;
  if (count == 0 && !frames.empty()) grow(stats.noBuffer, 1);
  return count;
}

void DpdkIo::commit(std::span<const TxFrame> frames) {
  reserved_ -= static_cast<uint32_t>(frames.size());
  for (const TxFrame& frame : frames) {
    rte_mbuf* buffer = mbufOf(frame.cookie);
    buffer->data_len = static_cast<uint16_t>(frame.length);
    buffer->pkt_len = frame.length;
    if (chainHead_ == nullptr) {
      chainHead_ = buffer;
      if (frame.checksumStart != 0) {
        const uint32_t ip = frame.isIpv6 ? kIpv6Length : kIpv4Length;
        buffer->tx_offload = rte_mbuf_tx_offload(frame.checksumStart - ip, ip, 0, 0, 0, 0, 0);
        buffer->ol_flags |= RTE_MBUF_F_TX_UDP_CKSUM | (frame.isIpv6 ? RTE_MBUF_F_TX_IPV6 : RTE_MBUF_F_TX_IPV4);
      }
    } else {
      chainTail_->next = buffer;
      chainHead_->nb_segs = static_cast<uint16_t>(chainHead_->nb_segs + 1);
      chainHead_->pkt_len += frame.length;
    }
    chainTail_ = buffer;
    if (frame.more) continue;
    queueForTransmit(chainHead_);
    chainHead_ = nullptr;
  }
}

// Room was reserved, counted in buffers: when the vector is at its end, what the device took has left some at its front.
void DpdkIo::queueForTransmit(rte_mbuf* packet) {
  if (pending_.size() == pending_.capacity()) {
    pending_.erase(pending_.begin(), pending_.begin() + pendingNext_);
    pendingNext_ = 0;
  }
  pending_.push_back(packet);
}

void DpdkIo::abort(std::span<const TxFrame> frames) {
  reserved_ -= static_cast<uint32_t>(frames.size());
  for (const TxFrame& frame : frames) rte_pktmbuf_free_seg(mbufOf(frame.cookie));
}

void DpdkIo::transmitPending() {
  const auto waiting = static_cast<uint32_t>(pending_.size()) - pendingNext_;
  if (waiting == 0) return;
  // The device may free what it takes, so lengths are read first; only the count of bytes needs them.
  int64_t bytes = 0;
  std::array<uint32_t, kBurst> lengths;
  uint32_t left = waiting;
  while (left > 0) {
    const auto burst = static_cast<uint16_t>(std::min(left, kBurst));
    for (uint16_t i = 0; i < burst; i++) lengths[i] = pending_[pendingNext_ + i]->pkt_len;
    const uint16_t sent = rte_eth_tx_burst(port_->id(), 0, &pending_[pendingNext_], burst);
    for (uint16_t i = 0; i < sent; i++) bytes += lengths[i];
    pendingNext_ += sent;
    left -= sent;
    if (sent < burst) break;
  }
  if (const uint32_t sent = waiting - left; sent > 0) {
    grow(stats.transmittedFrames, sent);
    grow(stats.transmittedBytes, bytes);
  }
  if (left == 0) {
    pending_.clear();
    pendingNext_ = 0;
  }
}

bool DpdkIo::flush() {
  transmitPending();
  return pending_.empty();
}

void DpdkIo::kernelSent() {
  if (!tap_) return;
  receivesSinceRead_ = kReceivesPerExceptionRead;
  if (++kernelSends_ < kKernelSendsPerRead) return;
  kernelSends_ = 0;
  readExceptions();
}

// True when there is something for the stack, or so much for others that the next poll has to go on with it.
bool DpdkIo::hasArrivals() {
  if (filtered_) filter_.refresh();
  for (uint32_t looks = kMaxLooks; fetch(); looks--) {
    if (looks == 0 || isOurs(received_[receivedNext_])) return true;
  }
  return false;
}

bool DpdkIo::arm() {
  if (port_->interruptFd() < 0) return !hasArrivals();
  for (uint16_t queue = 0; queue < port_->queues(); queue++) rte_eth_dev_rx_intr_enable(port_->id(), queue);
  armed_ = true;
  // What came between the last look and the line above raises no interrupt on every device.
  if (!hasArrivals()) return true;
  disarm();
  return false;
}

void DpdkIo::disarm() {
  armed_ = false;
  for (uint16_t queue = 0; queue < port_->queues(); queue++) rte_eth_dev_rx_intr_disable(port_->id(), queue);
  // Takes the event off the descriptors; without it they would stay readable.
  std::array<rte_epoll_event, 8> events;
  rte_epoll_wait(port_->interruptFd(), events.data(), static_cast<int>(events.size()), 0);
}

void DpdkIo::refreshStats() {
  rte_eth_stats now{};
  if (rte_eth_stats_get(port_->id(), &now) != 0) return;
  const auto since = [](uint64_t value, uint64_t base) { return value > base ? static_cast<int64_t>(value - base) : 0; };
  stats.ringFullDrops.store(since(now.imissed, base_.imissed) + since(now.rx_nombuf, base_.rx_nombuf), std::memory_order_relaxed);
  stats.transmitErrors.store(since(now.oerrors, base_.oerrors), std::memory_order_relaxed);
  stats.receiveErrors.store(since(now.ierrors, base_.ierrors), std::memory_order_relaxed);
}

}  // namespace outrigger::io::dpdk
