// SPDX-License-Identifier: Apache-2.0
// See the header. Each call into the device is for a batch: one doorbell for many datagrams.
#include "io/verbs_module/ibv_queue.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace outrigger::io::verbs {
namespace {

constexpr uint32_t kCacheLine = 64;
constexpr uint32_t kBatch = 64;
// Control frames, 28 to 64 bytes, and short messages: as much as fits a descriptor of two or three cache lines on common devices.
constexpr uint32_t kInlineBytes = 128;

uint32_t roundUp(uint32_t length) { return (length + kCacheLine - 1) / kCacheLine * kCacheLine; }

class IbvQueue final : public DatagramQueue {
 public:
  IbvQueue(std::shared_ptr<IbvDevice> device, const PortFacts& facts) : device_(std::move(device)), facts_(facts) {}
  ~IbvQueue() override;
  Result<void> open(const QueueOptions& options);

  uint32_t number() const override { return pair_->qp_num; }
  uint32_t receiveSlots() const override { return receiveSlots_; }
  uint32_t sendSlots() const override { return sendSlots_; }
  uint32_t inlineBytes() const override { return inlineBytes_; }
  uint32_t receive(std::span<Received> datagrams) override;
  void giveBack(std::span<const uint32_t> slots) override;
  uint32_t reserve(std::span<SendSlot> slots) override;
  void abort(std::span<const uint32_t> slots) override;
  uint32_t send(std::span<const Outgoing> datagrams) override;
  int handle() const override { return channel_->fd; }
  bool arm() override;
  const QueueStats& stats() const override { return stats_; }
  const QueueFault& fault() const override { return fault_; }

 private:
  Result<void> makePair(const QueueOptions& options);
  Result<void> registerMemory();
  Result<void> activate(uint32_t queueKey);
  void takeCompletions();
  void reclaim();
  void resume();
  uint8_t* receiveMemory(uint32_t slot) const { return memory_ + static_cast<size_t>(slot) * receiveStride_; }
  uint8_t* sendMemory(uint32_t slot) const { return sendMemory_ + static_cast<size_t>(slot) * sendStride_; }

  std::shared_ptr<IbvDevice> device_;
  const PortFacts facts_;
  ibv_comp_channel* channel_ = nullptr;
  ibv_cq* receiveQueue_ = nullptr;
  ibv_cq* sendQueue_ = nullptr;
  ibv_qp* pair_ = nullptr;
  ibv_mr* region_ = nullptr;
  uint8_t* memory_ = nullptr;
  uint8_t* sendMemory_ = nullptr;
  size_t memoryLength_ = 0;
  uint32_t receiveSlots_ = 0;
  uint32_t sendSlots_ = 0;
  uint32_t receiveStride_ = 0;
  uint32_t sendStride_ = 0;
  uint32_t inlineBytes_ = 0;

  std::array<ibv_wc, kBatch> completions_{};  // taken from the device and not delivered yet
  uint32_t completionFirst_ = 0;
  uint32_t completionCount_ = 0;

  std::vector<uint32_t> free_;      // send slots
  std::vector<uint32_t> inFlight_;  // send slots in the order of their posting, a ring
  uint64_t posted_ = 0;
  uint64_t completed_ = 0;
  QueueStats stats_;
  QueueFault fault_;
};

IbvQueue::~IbvQueue() {
  if (pair_ != nullptr) ::ibv_destroy_qp(pair_);
  if (sendQueue_ != nullptr) ::ibv_destroy_cq(sendQueue_);
  if (receiveQueue_ != nullptr) ::ibv_destroy_cq(receiveQueue_);
  if (channel_ != nullptr) ::ibv_destroy_comp_channel(channel_);
  if (region_ != nullptr) ::ibv_dereg_mr(region_);
  if (memory_ != nullptr) ::munmap(memory_, memoryLength_);
}

Result<void> IbvQueue::open(const QueueOptions& options) {
  ibv_device_attr limits{};
  if (const int err = ::ibv_query_device(device_->context, &limits); err != 0) return ibvError(facts_, "ask for the limits", err);
  const auto most = static_cast<uint32_t>(std::max(1, std::min(limits.max_qp_wr, limits.max_cqe)));
  receiveSlots_ = std::min(options.receiveSlots, most);
  sendSlots_ = std::min(options.sendSlots, most);
  if (auto r = makePair(options); !r) return r;
  if (auto r = registerMemory(); !r) return r;
  if (auto r = activate(options.queueKey); !r) return r;
  inFlight_.resize(sendSlots_);
  free_.reserve(sendSlots_);
  for (uint32_t slot = sendSlots_; slot > 0; --slot) free_.push_back(slot - 1);
  std::vector<uint32_t> all(receiveSlots_);
  for (uint32_t slot = 0; slot < receiveSlots_; ++slot) all[slot] = slot;
  giveBack(all);
  if (fault_.present()) return makeError(ErrorCode::kGeneric, "backend verbs: " + fault_.text() + " on " + facts_.device);
  return {};
}

Result<void> IbvQueue::makePair(const QueueOptions&) {
  channel_ = ::ibv_create_comp_channel(device_->context);
  if (channel_ == nullptr) return ibvError(facts_, "make a completion channel", errno);
  const int flags = ::fcntl(channel_->fd, F_GETFL);
  if (::fcntl(channel_->fd, F_SETFL, flags | O_NONBLOCK) != 0) return ibvError(facts_, "make the completion channel non-blocking", errno);
  receiveQueue_ = ::ibv_create_cq(device_->context, static_cast<int>(receiveSlots_), nullptr, channel_, 0);
  sendQueue_ = ::ibv_create_cq(device_->context, static_cast<int>(sendSlots_), nullptr, nullptr, 0);
  if (receiveQueue_ == nullptr || sendQueue_ == nullptr) {
    return ibvError(facts_, "make completion queues of " + std::to_string(std::max(receiveSlots_, sendSlots_)) + " entries", errno);
  }
  ibv_qp_init_attr attributes{};
  attributes.send_cq = sendQueue_;
  attributes.recv_cq = receiveQueue_;
  attributes.qp_type = IBV_QPT_UD;
  attributes.cap.max_send_wr = sendSlots_;
  attributes.cap.max_recv_wr = receiveSlots_;
  attributes.cap.max_send_sge = 1;
  attributes.cap.max_recv_sge = 1;
  attributes.cap.max_inline_data = kInlineBytes;
  pair_ = ::ibv_create_qp(device_->domain, &attributes);
  if (pair_ == nullptr) {
    attributes.cap.max_inline_data = 0;  // some devices have none
    pair_ = ::ibv_create_qp(device_->domain, &attributes);
  }
  if (pair_ == nullptr) {
    return ibvError(facts_, "make a queue pair of " + std::to_string(receiveSlots_) + " + " + std::to_string(sendSlots_) + " entries",
                    errno);
  }
  inlineBytes_ = attributes.cap.max_inline_data;
  return {};
}

Result<void> IbvQueue::registerMemory() {
  receiveStride_ = roundUp(kRouteHeaderLength + facts_.mtu);
  sendStride_ = roundUp(facts_.mtu);
  const size_t receiveLength = static_cast<size_t>(receiveSlots_) * receiveStride_;
  memoryLength_ = receiveLength + static_cast<size_t>(sendSlots_) * sendStride_;
  void* memory = ::mmap(nullptr, memoryLength_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return ibvError(facts_, "map " + std::to_string(memoryLength_) + " bytes of buffers", errno);
  memory_ = static_cast<uint8_t*>(memory);
  sendMemory_ = memory_ + receiveLength;
  // The device keeps writing to these pages, whatever a fork makes of them.
  ::madvise(memory_, memoryLength_, MADV_DONTFORK);
  region_ = ::ibv_reg_mr(device_->domain, memory_, memoryLength_, IBV_ACCESS_LOCAL_WRITE);
  if (region_ != nullptr) return {};
  const int err = errno;
  rlimit limit{};
  ::getrlimit(RLIMIT_MEMLOCK, &limit);
  return ibvError(facts_,
                  "register " + std::to_string(memoryLength_ >> 10) + " KiB of buffers (the limit of locked memory is " +
                      (limit.rlim_cur == RLIM_INFINITY ? "infinite" : std::to_string(limit.rlim_cur >> 10) + " KiB") + ")",
                  err);
}

Result<void> IbvQueue::activate(uint32_t queueKey) {
  ibv_qp_attr attributes{};
  attributes.qp_state = IBV_QPS_INIT;
  attributes.pkey_index = 0;
  attributes.port_num = static_cast<uint8_t>(facts_.port);
  attributes.qkey = queueKey;
  if (const int err = ::ibv_modify_qp(pair_, &attributes, IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_QKEY); err != 0) {
    return ibvError(facts_, "initialise the queue pair", err);
  }
  attributes.qp_state = IBV_QPS_RTR;
  if (const int err = ::ibv_modify_qp(pair_, &attributes, IBV_QP_STATE); err != 0)
    return ibvError(facts_, "make the queue pair receive", err);
  attributes.qp_state = IBV_QPS_RTS;
  attributes.sq_psn = 0;
  if (const int err = ::ibv_modify_qp(pair_, &attributes, IBV_QP_STATE | IBV_QP_SQ_PSN); err != 0) {
    return ibvError(facts_, "make the queue pair send", err);
  }
  return {};
}

void IbvQueue::takeCompletions() {
  if (completionCount_ > 0) return;
  completionFirst_ = 0;
  const int count = ::ibv_poll_cq(receiveQueue_, kBatch, completions_.data());
  if (count < 0) fault_.set("cannot read receive completions", 0);
  completionCount_ = static_cast<uint32_t>(std::max(0, count));
}

uint32_t IbvQueue::receive(std::span<Received> datagrams) {
  takeCompletions();
  uint32_t count = 0;
  std::array<uint32_t, kBatch> broken;
  uint32_t brokenCount = 0;
  while (completionCount_ > 0 && count < datagrams.size()) {
    const ibv_wc& completion = completions_[completionFirst_++];
    --completionCount_;
    const auto slot = static_cast<uint32_t>(completion.wr_id);
    constexpr unsigned kNeeded = IBV_WC_GRH | IBV_WC_WITH_IMM;
    if (completion.status != IBV_WC_SUCCESS || (completion.wc_flags & kNeeded) != kNeeded || completion.byte_len < kRouteHeaderLength) {
      ++stats_.receiveErrors;
      // Posted again it would come back at once, forever: only a queue pair in error throws its buffers out.
      if (completion.status == IBV_WC_WR_FLUSH_ERR) fault_.set("it is in error and gives its receive buffers back", 0);
      broken[brokenCount++] = slot;
      continue;
    }
    Received& received = datagrams[count++];
    received.slot = slot;
    received.routeHeader = receiveMemory(slot);
    received.data = received.routeHeader + kRouteHeaderLength;
    received.length = completion.byte_len - kRouteHeaderLength;
    received.immediate = ntohl(completion.imm_data);
  }
  stats_.received += count;
  if (brokenCount > 0) giveBack({broken.data(), brokenCount});
  return count;
}

void IbvQueue::giveBack(std::span<const uint32_t> slots) {
  if (fault_.present()) return;
  std::array<ibv_recv_wr, kBatch> requests;
  std::array<ibv_sge, kBatch> pieces;
  while (!slots.empty()) {
    const size_t count = std::min<size_t>(slots.size(), kBatch);
    for (size_t i = 0; i < count; ++i) {
      pieces[i] = {reinterpret_cast<uintptr_t>(receiveMemory(slots[i])), kRouteHeaderLength + facts_.mtu, region_->lkey};
      requests[i] = {slots[i], i + 1 < count ? &requests[i + 1] : nullptr, &pieces[i], 1};
    }
    ibv_recv_wr* bad = nullptr;
    // There is room for every slot that there is: it fails only when no later one would pass.
    if (const int err = ::ibv_post_recv(pair_, requests.data(), &bad); err != 0) return fault_.set("cannot post receive buffers", err);
    slots = slots.subspan(count);
  }
}

// Only the last one of a batch is signalled; those before it are complete with it, since a queue pair sends in order. What fails has a completion
// of its own, signalled or not.
void IbvQueue::reclaim() {
  std::array<ibv_wc, kBatch> done;
  bool failed = false;
  int count = kBatch;
  while (count == static_cast<int>(kBatch)) {
    count = ::ibv_poll_cq(sendQueue_, kBatch, done.data());
    if (count < 0) return fault_.set("cannot read send completions", 0);
    for (int i = 0; i < count; ++i) {
      const ibv_wc& completion = done[static_cast<size_t>(i)];
      while (completed_ < completion.wr_id) {
        free_.push_back(inFlight_[completed_ % sendSlots_]);
        ++completed_;
      }
      if (completion.status == IBV_WC_SUCCESS) continue;
      ++stats_.sendErrors;
      failed = true;
    }
  }
  if (failed) resume();
}

// A UD queue pair stops sending after an error, flushes what is posted, and goes on when told to. From a worse error there is no way back.
void IbvQueue::resume() {
  ibv_qp_attr attributes{};
  ibv_qp_init_attr ignored{};
  if (const int err = ::ibv_query_qp(pair_, &attributes, IBV_QP_STATE, &ignored); err != 0) {
    return fault_.set("cannot ask for its state after a failed send", err);
  }
  switch (attributes.qp_state) {
    case IBV_QPS_RTS:  // what came was of before it went on
      return;
    case IBV_QPS_SQE:
      attributes = {};
      attributes.qp_state = IBV_QPS_RTS;
      attributes.cur_qp_state = IBV_QPS_SQE;
      if (const int err = ::ibv_modify_qp(pair_, &attributes, IBV_QP_STATE | IBV_QP_CUR_STATE); err != 0) {
        fault_.set("cannot make it send again after a failed send", err);
      }
      return;
    default:
      return fault_.set("a send failed and left it in error", 0);
  }
}

uint32_t IbvQueue::reserve(std::span<SendSlot> slots) {
  if (free_.size() < slots.size()) reclaim();
  uint32_t count = 0;
  while (count < slots.size() && !free_.empty()) {
    const uint32_t slot = free_.back();
    free_.pop_back();
    slots[count++] = {slot, sendMemory(slot)};
  }
  return count;
}

void IbvQueue::abort(std::span<const uint32_t> slots) {
  for (const uint32_t slot : slots) free_.push_back(slot);
}

uint32_t IbvQueue::send(std::span<const Outgoing> datagrams) {
  std::array<ibv_send_wr, kBatch> requests;
  std::array<ibv_sge, kBatch> pieces;
  uint32_t taken = 0;
  // Each time, though there may be slots enough: else what follows an error would be flushed unnoticed until they run out.
  reclaim();
  while (taken < datagrams.size() && !fault_.present()) {
    const auto batch = datagrams.subspan(taken, std::min<size_t>(datagrams.size() - taken, kBatch));
    const size_t count = batch.size();
    for (size_t i = 0; i < count; ++i) {
      const Outgoing& each = batch[i];
      pieces[i] = {reinterpret_cast<uintptr_t>(sendMemory(each.slot)), each.length, region_->lkey};
      ibv_send_wr& request = requests[i];
      request = {};
      request.wr_id = posted_ + i + 1;
      request.next = i + 1 < count ? &requests[i + 1] : nullptr;
      request.sg_list = &pieces[i];
      request.num_sge = each.length > 0 ? 1 : 0;
      request.opcode = IBV_WR_SEND_WITH_IMM;
      unsigned flags = 0;
      if (i + 1 == count) flags |= IBV_SEND_SIGNALED;
      if (each.length <= inlineBytes_) flags |= IBV_SEND_INLINE;
      request.send_flags = flags;
      request.imm_data = htonl(each.immediate);
      request.wr.ud.ah = static_cast<const IbvAddress*>(each.to)->handle;
      request.wr.ud.remote_qpn = each.queueNumber;
      request.wr.ud.remote_qkey = each.queueKey;
    }
    ibv_send_wr* bad = nullptr;
    size_t posted = count;
    const int err = ::ibv_post_send(pair_, requests.data(), &bad);
    if (err != 0) posted = bad != nullptr ? static_cast<size_t>(bad - requests.data()) : 0;
    for (size_t i = 0; i < posted; ++i) inFlight_[(posted_ + i) % sendSlots_] = batch[i].slot;
    posted_ += posted;
    taken += static_cast<uint32_t>(posted);
    stats_.sent += static_cast<int64_t>(posted);
    if (err == 0) continue;
    // What was posted without a signal comes back with the next batch's.
    if (err != ENOMEM) fault_.set("cannot post sends", err);
    break;
  }
  stats_.sendErrors += static_cast<int64_t>(datagrams.size() - taken);
  for (size_t i = taken; i < datagrams.size(); ++i) free_.push_back(datagrams[i].slot);
  return taken;
}

bool IbvQueue::arm() {
  ibv_cq* queue = nullptr;
  void* context = nullptr;
  unsigned events = 0;
  while (::ibv_get_cq_event(channel_, &queue, &context) == 0) ++events;
  if (events > 0) ::ibv_ack_cq_events(receiveQueue_, events);
  if (const int err = ::ibv_req_notify_cq(receiveQueue_, 0); err != 0) fault_.set("cannot ask to be woken by what arrives", err);
  // What came before the notification was asked for gives none.
  takeCompletions();
  return completionCount_ == 0;
}

}  // namespace

Result<std::unique_ptr<DatagramQueue>> openIbvQueue(std::shared_ptr<IbvDevice> device, const PortFacts& facts,
                                                    const QueueOptions& options) {
  auto queue = std::make_unique<IbvQueue>(std::move(device), facts);
  if (auto r = queue->open(options); !r) return r.error();
  return std::unique_ptr<DatagramQueue>(std::move(queue));
}

}  // namespace outrigger::io::verbs
