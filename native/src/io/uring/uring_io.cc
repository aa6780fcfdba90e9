// SPDX-License-Identifier: Apache-2.0
// See the header. Two rings: the one that receives always has something under way, and the one that sends has nothing between two calls but the
// notifications of what went without a copy, so waiting for its completions waits for nothing else.
#include "io/uring/uring_io.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>
#include <string>
#include <vector>

#include "io/posix/receive_slots.h"
#include "io/posix/train_transmitter.h"
#include "io/posix/udp_io_base.h"
#include "io/uring/buffer_ring.h"
#include "io/uring/uring.h"
#include "io/uring/zero_copy.h"

namespace outrigger::io {

#if OUTRIGGER_HAS_URING

namespace {

// A multishot recvmsg writes a header, the source address and the control messages before the payload (io_uring_prep_recvmsg_multishot(3)).
constexpr uint32_t kNameLength = sizeof(sockaddr_storage);
constexpr uint32_t kControlOffset = sizeof(io_uring_recvmsg_out) + kNameLength;
constexpr uint32_t kPayloadOffset = kControlOffset + kReceiveControlLength;
// Over the longest UDP datagram or GRO train (65527 bytes) behind those, in whole pages.
constexpr uint32_t kBufferLength = 68 * 1024;
static_assert(kPayloadOffset + 65527 <= kBufferLength);
// The kernel reads up to 32 datagrams of a socket before another has its turn: room for the bursts of several.
constexpr uint32_t kBuffersPerSlot = 4;
constexpr uint32_t kMinBuffers = 64;
constexpr uint32_t kReceiveSubmissions = 64;
constexpr uint32_t kExpectedEndpoints = 256;
// The user data of a send: its place in the batch in the lower bits, and above it the number of one that goes without a copy.
constexpr uint32_t kIndexBits = 8;
static_assert(TrainTransmitter::kMaxMessages <= 1U << kIndexBits);
// A completion for each message of a batch, one more for each that fails without a copy, and those of what is pending.
constexpr uint32_t kSendCompletions = std::bit_ceil(2 * static_cast<uint32_t>(TrainTransmitter::kMaxMessages) + ZeroCopySends::kMaxPending);

class UringIo final : public UdpIoBase {
 public:
  static Result<std::unique_ptr<DatagramIo>> create(const BackendOptions& options);

  void attach(Endpoint& endpoint) override;
  void detach(Endpoint& endpoint) override;
  uint32_t poll(RxBurst& burst, int64_t nowNs) override;
  uint32_t transmit(Endpoint& endpoint, std::span<TxItem> items) override;
  int waitHandle() const override { return receive_.bell(); }
  bool arm() override;
  Health health() override;
  std::vector<std::pair<std::string, std::string>> facts() const override;
  IoTotals totals() const override;
  bool stillReads(const uint8_t* data, size_t length) override;

 private:
  // Uring::enter, and whether the ring can be used any more.
  int enter(Uring& ring, uint32_t wait);
  // An endpoint's standing receive. Its number and generation are in the completions, so that those of a detached one are told apart.
  struct Receiver {
    UdpEndpoint* endpoint = nullptr;
    uint32_t generation = 0;
    bool underWay = false;
  };

  explicit UringIo(const BackendOptions& options)
      : UdpIoBase(probeTrains("uring", options), UdpSocketOptions{options.coalescing, options.busyPollUs}), zeroCopy_(options.zeroCopy) {}

  static uint64_t tagOf(const Receiver& receiver, size_t index) { return static_cast<uint64_t>(receiver.generation) << 32 | index; }
  void startReceivers();
  void cancel(uint64_t tag);
  void take(const io_uring_cqe& completion, RxBurst& burst, uint32_t& datagrams);
  int sendBatch(int fd, mmsghdr* messages, uint32_t count, std::span<const TxItem> items);
  bool chooseUncopied(const mmsghdr* messages, uint32_t count, std::span<const TxItem> items);
  uint32_t takeSendCompletions();
  bool isBroken() const { return brokenErrno_.load(std::memory_order_relaxed) != 0; }

  BufferRing buffers_;  // before the ring that it is registered with, so unmapped after it is closed
  Uring receive_;
  Uring send_;
  msghdr layout_{};  // of every receive
  std::vector<Receiver> receivers_;
  uint32_t idleReceivers_ = 0;                         // to be started
  std::array<uint16_t, RxBurst::kMaxPackets> used_{};  // buffers of the last burst
  uint32_t usedCount_ = 0;
  std::array<DatagramAddresses, RxBurst::kMaxPackets> addresses_{};
  TrainTransmitter transmitter_;
  std::array<int32_t, TrainTransmitter::kMaxMessages> results_{};
  std::array<bool, TrainTransmitter::kMaxMessages> uncopied_{};
  std::array<uint64_t, TrainTransmitter::kMaxMessages> numbers_{};  // of those
  ZeroCopySends zeroCopy_;
  int lateErrno_ = 0;                // of the message behind the last that was sent
  std::atomic<int> brokenErrno_{0};  // why a ring is of no use any more
};

// Rings are enabled only by their owner, so what the owner will do is tried here: setup, enable and enter may be forbidden one by one.
Result<void> tryUring() {
  Uring uring;
  if (auto r = uring.open(1, 2); !r) return r;
  int err = uring.enable() ? 0 : EPERM;
  if (err == 0) {
    uring.next()->opcode = IORING_OP_NOP;
    err = uring.enter(1);
  }
  if (err == 0) return {};
  const UringRefusal refusal = explainUringRefusal(err);
  Error error = makeError(ErrorCode::kGeneric, "backend uring: first use of a ring: " + refusal.cause + "; " + refusal.fix);
  error.sysErrno = err;
  return error;
}

Result<std::unique_ptr<DatagramIo>> UringIo::create(const BackendOptions& options) {
  if (auto r = tryUring(); !r) return r.error();
  std::unique_ptr<UringIo> io(new UringIo(options));
  io->enableCoalescing(io->caps().receiveCoalescing);
  const uint32_t buffers = std::bit_ceil(std::max(kMinBuffers, options.receiveSlots * kBuffersPerSlot));
  // A completion for each buffer, and one for the end of each receive; more are kept by the kernel until there is room.
  if (auto r = io->receive_.open(kReceiveSubmissions, std::bit_ceil(buffers + kExpectedEndpoints)); !r) return r.error();
  if (auto r = io->receive_.openBell(); !r) return r.error();
  if (auto r = io->send_.open(TrainTransmitter::kMaxMessages, kSendCompletions); !r) return r.error();
  if (auto r = io->buffers_.open(io->receive_, buffers, kBufferLength); !r) return r.error();
  if (options.zeroCopy != ZeroCopyMode::kOff) {
    if (const int err = probeZeroCopy(); err != 0) io->zeroCopy_.forbid(err);
  }
  io->layout_.msg_namelen = kNameLength;
  io->layout_.msg_controllen = kReceiveControlLength;
  io->receivers_.reserve(kExpectedEndpoints);
  return std::unique_ptr<DatagramIo>(std::move(io));
}

void UringIo::attach(Endpoint& endpoint) {
  auto& udp = static_cast<UdpEndpoint&>(endpoint);
  if (!enlist(udp)) return;
  auto free = std::find_if(receivers_.begin(), receivers_.end(), [](const Receiver& one) { return one.endpoint == nullptr; });
  if (free == receivers_.end()) free = receivers_.insert(receivers_.end(), Receiver{});
  free->endpoint = &udp;
  ++idleReceivers_;
  if (!receive_.enable()) return;
  startReceivers();
  enter(receive_, 0);
}

void UringIo::detach(Endpoint& endpoint) {
  auto& udp = static_cast<UdpEndpoint&>(endpoint);
  if (!strike(udp)) return;
  const auto found = std::find_if(receivers_.begin(), receivers_.end(), [&](const Receiver& one) { return one.endpoint == &udp; });
  if (found == receivers_.end()) return;
  if (found->underWay) {
    cancel(tagOf(*found, static_cast<size_t>(found - receivers_.begin())));
  } else {
    --idleReceivers_;
  }
  *found = Receiver{nullptr, found->generation + 1, false};
}

// Afterwards nothing in the kernel refers to the socket: its port is free as soon as the endpoint is closed. The request is over when
// its last completion is there, and since it is woken by the cancellation, that takes one or two rounds.
void UringIo::cancel(uint64_t tag) {
  constexpr int kRounds = 1000;
  io_uring_sync_cancel_reg request{};
  request.addr = tag;
  request.fd = -1;
  request.timeout = {-1, -1};
  const auto isLast = [tag](const io_uring_cqe& one) { return one.user_data == tag && (one.flags & IORING_CQE_F_MORE) == 0; };
  for (int round = 0; round < kRounds && !receive_.contains(isLast); ++round) {
    receive_.control(IORING_REGISTER_SYNC_CANCEL, &request, 1);  // ENOENT: it is ending by itself
    receive_.enter(0);
  }
}

void UringIo::startReceivers() {
  for (size_t i = 0; i < receivers_.size() && idleReceivers_ > 0; ++i) {
    Receiver& receiver = receivers_[i];
    if (receiver.endpoint == nullptr || receiver.underWay) continue;
    io_uring_sqe* entry = receive_.next();
    if (entry == nullptr) return;  // the rest with the next poll
    entry->opcode = IORING_OP_RECVMSG;
    entry->fd = receiver.endpoint->fd();
    entry->addr = reinterpret_cast<uintptr_t>(&layout_);
    entry->len = 1;
    entry->ioprio = IORING_RECV_MULTISHOT;
    entry->flags = IOSQE_BUFFER_SELECT;
    entry->buf_group = BufferRing::kGroup;
    entry->user_data = tagOf(receiver, i);
    receiver.underWay = true;
    --idleReceivers_;
  }
}

void UringIo::take(const io_uring_cqe& completion, RxBurst& burst, uint32_t& datagrams) {
  const auto index = static_cast<uint32_t>(completion.user_data);
  Receiver* receiver = &receivers_[index];
  if (receiver->endpoint == nullptr || receiver->generation != static_cast<uint32_t>(completion.user_data >> 32)) receiver = nullptr;
  if (receiver != nullptr && (completion.flags & IORING_CQE_F_MORE) == 0) {
    receiver->underWay = false;
    ++idleReceivers_;
  }
  // No buffer was free: the datagrams wait in the socket. Else an ICMP error for an earlier send.
  if (receiver != nullptr && completion.res < 0 && completion.res != -ENOBUFS && completion.res != -ECANCELED) {
    receiver->endpoint->stats.sendErrors.fetch_add(1, std::memory_order_relaxed);
  }
  if ((completion.flags & IORING_CQE_F_BUFFER) == 0) return;
  const auto id = static_cast<uint16_t>(completion.flags >> IORING_CQE_BUFFER_SHIFT);
  used_[usedCount_++] = id;
  if (receiver == nullptr || completion.res < static_cast<int32_t>(kPayloadOffset)) return;
  uint8_t* buffer = buffers_.buffer(id);
  io_uring_recvmsg_out out{};
  std::memcpy(&out, buffer, sizeof(out));
  DatagramAddresses& addresses = addresses_[burst.count];
  std::memcpy(&addresses.source.storage, buffer + sizeof(out), std::min(out.namelen, kNameLength));
  msghdr header{};
  header.msg_namelen = std::min(out.namelen, kNameLength);
  header.msg_control = buffer + kControlOffset;
  header.msg_controllen = out.controllen;
  header.msg_flags = static_cast<int>(out.flags);
  // The payload's own length is the completion's: out.payloadlen is what it would have been without truncation.
  const uint32_t length = static_cast<uint32_t>(completion.res) - kPayloadOffset;
  RxPacket& packet = burst.packets[burst.count];
  if (!readDatagram(header, buffer + kPayloadOffset, length, *receiver->endpoint, addresses, packet)) return;
  ++burst.count;
  datagrams += datagramCount(packet.length, packet.segmentLength);
}

uint32_t UringIo::poll(RxBurst& burst, int64_t) {
  burst.count = 0;
  if (usedCount_ > 0) {
    for (uint32_t i = 0; i < usedCount_; ++i) buffers_.put(used_[i]);
    buffers_.publish();
    usedCount_ = 0;
  }
  if (!receive_.enable()) return 0;
  receive_.disarmBell();
  uint32_t datagrams = 0;
  // A second time when a receive ended without a datagram, on a late error: the next one is none the worse for it.
  for (int round = 0; round < 2 && burst.count == 0; ++round) {
    if (round > 0 && idleReceivers_ == 0) break;
    if (idleReceivers_ > 0) startReceivers();
    if (receive_.queued() > 0 || receive_.hasWork()) enter(receive_, 0);
    while (usedCount_ < used_.size()) {
      const io_uring_cqe* completion = receive_.peek();
      if (completion == nullptr) break;
      take(*completion, burst, datagrams);
      receive_.advance();
    }
  }
  return datagrams;
}

// What is short for a moment (memory, room for completions) is tried again by the next call; a ring that the kernel will not run is not.
int UringIo::enter(Uring& ring, uint32_t wait) {
  const int err = ring.enter(wait);
  const bool passing = err == 0 || err == EAGAIN || err == EBUSY || err == EBADR || err == ENOMEM || err == ETIME;
  if (!passing) brokenErrno_.store(err, std::memory_order_relaxed);
  return err;
}

// What arrives for a broken ring waits in the sockets.
Health UringIo::health() {
  const int err = brokenErrno_.load(std::memory_order_relaxed);
  if (err == 0) return {};
  return {Health::State::kGone, std::string("its ring is broken: io_uring_enter: ") + std::strerror(err)};
}

bool UringIo::arm() { return idleReceivers_ == 0 && receive_.armBell(); }

// Returns how many sends ended; notifications come on top.
uint32_t UringIo::takeSendCompletions() {
  uint32_t ended = 0;
  for (; const io_uring_cqe* completion = send_.peek(); send_.advance()) {
    const uint64_t number = completion->user_data >> kIndexBits;
    if ((completion->flags & IORING_CQE_F_NOTIF) != 0) {
      zeroCopy_.onNotification(number, (static_cast<uint32_t>(completion->res) & IORING_NOTIF_USAGE_ZC_COPIED) != 0);
      continue;
    }
    results_[completion->user_data & ((1U << kIndexBits) - 1)] = completion->res;
    if (number != 0) zeroCopy_.onEnd(number, completion->res, (completion->flags & IORING_CQE_F_MORE) != 0);
    ++ended;
  }
  return ended;
}

// Notifications are made within calls into the kernel (DEFER_TASKRUN): one is made only where there are some. A ring that is broken tells nothing
// any more.
bool UringIo::stillReads(const uint8_t* data, size_t length) {
  if (zeroCopy_.pending() == 0) return false;
  takeSendCompletions();
  if (send_.hasWork() && !isBroken()) {
    enter(send_, 0);
    takeSendCompletions();
  }
  if (isBroken()) zeroCopy_.forget();
  return zeroCopy_.stillReads(data, length);
}

// Which messages of a batch go without a copy; false: none.
bool UringIo::chooseUncopied(const mmsghdr* messages, uint32_t count, std::span<const TxItem> items) {
  bool any = false;
  for (uint32_t i = 0; i < count; ++i) {
    uncopied_[i] =
        zeroCopy_.on() && zeroCopy_.wants(items[transmitter_.itemOf(i)], static_cast<uint32_t>(messages[i].msg_hdr.msg_iov->iov_len));
    any |= uncopied_[i];
  }
  return any;
}

// As sendmmsg(2), with one call into the kernel. Linked, so that one that finds no room stops those behind it, and the order is kept.
// MSG_DONTWAIT sends end at once, one way or the other, and all ends are waited for: what is under way when it returns are notifications alone.
int UringIo::sendBatch(int fd, mmsghdr* messages, uint32_t count, std::span<const TxItem> items) {
  constexpr int kFlags = MSG_DONTWAIT | MSG_NOSIGNAL;
  if (lateErrno_ != 0) {
    errno = std::exchange(lateErrno_, 0);
    return -1;
  }
  if (zeroCopy_.pending() > 0) takeSendCompletions();
  const bool uncopied = chooseUncopied(messages, count, items);
  // A ring saves nothing for one message, and a broken one sends none.
  if ((count == 1 && !uncopied) || isBroken() || !send_.enable()) return ::sendmmsg(fd, messages, count, kFlags);
  for (uint32_t i = 0; i < count; ++i) {
    const msghdr& header = messages[i].msg_hdr;
    // As many as there is room for were wanted one by one: the last ones may find none.
    uncopied_[i] = uncopied_[i] && zeroCopy_.pending() < ZeroCopySends::kMaxPending;
    io_uring_sqe* entry = send_.next();
    entry->fd = fd;
    if (!uncopied_[i] && header.msg_controllen == 0) {
      // A single datagram: without headers that the kernel would have to read first. Since 6.1, as the ring's own flags.
      entry->opcode = IORING_OP_SEND;
      entry->addr = reinterpret_cast<uintptr_t>(header.msg_iov->iov_base);
      entry->len = static_cast<uint32_t>(header.msg_iov->iov_len);
      entry->addr2 = reinterpret_cast<uintptr_t>(header.msg_name);
      entry->addr_len = static_cast<uint16_t>(header.msg_namelen);
    } else {
      entry->opcode = uncopied_[i] ? IORING_OP_SENDMSG_ZC : IORING_OP_SENDMSG;
      if (uncopied_[i]) entry->ioprio = IORING_SEND_ZC_REPORT_USAGE;
      entry->addr = reinterpret_cast<uintptr_t>(&header);
      entry->len = 1;
    }
    entry->msg_flags = kFlags;
    const uint64_t number =
        uncopied_[i] ? zeroCopy_.add(*items[transmitter_.itemOf(i)].nextHop, header.msg_iov->iov_base, header.msg_iov->iov_len) : 0;
    numbers_[i] = number;
    entry->user_data = number << kIndexBits | i;
    if (i + 1 < count) entry->flags = IOSQE_IO_LINK;
    results_[i] = -ECANCELED;
  }
  for (uint32_t ended = 0; ended < count;) {
    if (const int err = enter(send_, count - ended); err != 0 && !send_.hasCompletion()) {
      // Of these nothing will be heard.
      for (uint32_t i = count - send_.queued(); i < count; ++i) {
        if (numbers_[i] != 0) zeroCopy_.onEnd(numbers_[i], -ECANCELED, false);
      }
      send_.drop();
      // None of them was taken: they go without a ring, and so do all that follow.
      if (ended == 0 && isBroken()) return ::sendmmsg(fd, messages, count, kFlags);
      break;
    }
    ended += takeSendCompletions();
  }
  uint32_t sent = 0;
  while (sent < count && results_[sent] >= 0) ++sent;
  if (sent == count) return static_cast<int>(count);
  int err = -results_[sent];
  if (uncopied_[sent] && ZeroCopySends::isRefusal(err)) {
    // It goes plainly, now: then it was not the message that was refused.
    if (::sendmmsg(fd, messages + sent, 1, kFlags) == 1) {
      zeroCopy_.onRefused(*items[transmitter_.itemOf(sent)].nextHop, err);
      return static_cast<int>(sent + 1);
    }
    err = errno;
  }
  if (sent == 0) {
    errno = err;
    return -1;
  }
  // Unlike sendmmsg's, the error is used up: the next call would not meet it again.
  if (!isWouldBlock(err)) lateErrno_ = err;
  return static_cast<int>(sent);
}

uint32_t UringIo::transmit(Endpoint& endpoint, std::span<TxItem> items) {
  const auto send = [&](int fd, mmsghdr* messages, uint32_t count) { return sendBatch(fd, messages, count, items); };
  return transmitter_.transmit(static_cast<UdpEndpoint&>(endpoint), items, caps().segmentationOffload, send);
}

std::vector<std::pair<std::string, std::string>> UringIo::facts() const {
  return {{"mode", "multishot recvmsg, linked sends"},
          {"receive buffers", std::to_string(buffers_.count()) + " of " + std::to_string(kBufferLength / 1024) + " KiB"},
          {"segmentation offload (UDP_SEGMENT)", caps().segmentationOffload ? "on" : "off"},
          {"receive coalescing (UDP_GRO)", caps().receiveCoalescing ? "on" : "off"},
          {"timestamps", kTimestampsOnArrival},
          {"zero-copy sends", zeroCopy_.describe()}};
}

IoTotals UringIo::totals() const {
  IoTotals totals = UdpIoBase::totals();
  totals.network[networkIndex(DeviceCounter::kZeroCopySends)] = zeroCopy_.sent();
  totals.network[networkIndex(DeviceCounter::kZeroCopyCopied)] = zeroCopy_.copied();
  totals.network[networkIndex(DeviceCounter::kZeroCopyRefused)] = zeroCopy_.refused();
  totals.network[networkIndex(DeviceCounter::kZeroCopyLate)] = zeroCopy_.late();
  return totals;
}

}  // namespace

Result<std::unique_ptr<DatagramIo>> makeUringIo(const BackendOptions& options) { return UringIo::create(options); }

#else

namespace {

constexpr const char* kNotBuilt = "this program was built with kernel headers older than 6.1 (no IORING_SETUP_DEFER_TASKRUN)";

}  // namespace

Result<std::unique_ptr<DatagramIo>> makeUringIo(const BackendOptions&) {
  return makeError(ErrorCode::kNotSupported, std::string("backend uring is left out: ") + kNotBuilt);
}

#endif

Result<IoPair> openUring(const BackendOptions& options) {
  auto sender = makeUringIo(options);
  if (!sender) return sender.error();
  auto receiver = makeUringIo(options);
  if (!receiver) return receiver.error();
  IoPair pair;
  pair.sender = sender.take();
  pair.receiver = receiver.take();
  return pair;
}

BackendReport probeUring(const BackendOptions& options) {
  BackendReport report;
  report.name = "uring";
#if OUTRIGGER_HAS_URING
  auto io = makeUringIo(options);
  if (!io) {
    const UringRefusal refusal = explainUringRefusal(io.error().sysErrno);
    report.availability = Availability::kImpossible;
    report.causes.push_back({"io_uring", refusal.cause, refusal.fix});
    return report;
  }
  if (const std::string& reason = (*io)->caps().reason; !reason.empty()) {
    report.availability = Availability::kDegraded;
    report.causes.push_back({"offload", reason, "switch segmentation and coalescing on"});
  }
  report.facts = (*io)->facts();
#else
  static_cast<void>(options);
  report.availability = Availability::kNotBuilt;
  report.causes.push_back({"io_uring", kNotBuilt, "build it with linux-libc-dev (kernel headers) from 6.1 on"});
#endif
  return report;
}

}  // namespace outrigger::io
