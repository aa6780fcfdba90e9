// SPDX-License-Identifier: Apache-2.0
// ImpairIo; see the header.
#include "io/impair/impair_io.h"

#include <sys/mman.h>

#include <algorithm>

namespace outrigger::io {
namespace {

constexpr size_t kFrameTypeOffset = 6;          // u16 in the common frame header
constexpr uint64_t kTransmitSeedSalt = 0x7478;  // so that both directions of one seed draw different numbers

void count(std::atomic<int64_t>& counter) { counter.fetch_add(1, std::memory_order_relaxed); }

uint32_t stepOf(const TxItem& item) { return item.segmentLength == 0 ? item.length : std::min(item.segmentLength, item.length); }

}  // namespace

Result<std::unique_ptr<DatagramIo>> ImpairIo::wrap(std::unique_ptr<DatagramIo> inner, const ImpairConfig& config) {
  void* memory = ::mmap(nullptr, kCopiesLength, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return makeError(ErrorCode::kGeneric, "impairment: cannot map memory for copies", errno);
  return std::unique_ptr<DatagramIo>(new ImpairIo(std::move(inner), config, static_cast<uint8_t*>(memory)));
}

ImpairIo::ImpairIo(std::unique_ptr<DatagramIo> inner, const ImpairConfig& config, uint8_t* copies)
    : inner_(std::move(inner)),
      config_(config),
      caps_(inner_->caps()),
      receiveRandom_(config.seed),
      transmitRandom_(config.seed ^ kTransmitSeedSalt),
      copies_(copies) {
  if (!caps_.reason.empty()) caps_.reason += "; ";
  caps_.reason += "traffic is impaired on purpose: " + config_.toString();
}

ImpairIo::~ImpairIo() { ::munmap(copies_, kCopiesLength); }

std::vector<std::pair<std::string, std::string>> ImpairIo::facts() const {
  auto facts = inner_->facts();
  facts.emplace_back("impairment", config_.toString());
  return facts;
}

ImpairIo::Action ImpairIo::decide(const ImpairProfile& profile, Random& random, ImpairStats& stats, const uint8_t* data, uint32_t length) {
  if (config_.frameMask != ImpairConfig::kAllFrames) {
    if (length < kFrameTypeOffset + sizeof(uint16_t)) return Action::kPass;
    uint16_t type = 0;
    std::memcpy(&type, data + kFrameTypeOffset, sizeof(type));
    if (type >= 32 || (config_.frameMask & (1U << type)) == 0) return Action::kPass;
  }
  count(stats.seen);
  if (profile.loss > 0 && random.chance(profile.loss)) {
    count(stats.lost);
    return Action::kLose;
  }
  if (profile.duplicate > 0 && random.chance(profile.duplicate)) {
    count(stats.duplicated);
    return Action::kDuplicate;
  }
  if (profile.corrupt > 0 && length > 0 && random.chance(profile.corrupt)) {
    count(stats.corrupted);
    return Action::kCorrupt;
  }
  return profile.reorder > 0 && random.chance(profile.reorder) ? Action::kReorder : Action::kPass;
}

void ImpairIo::flipBit(Random& random, uint8_t* data, uint32_t length) {
  const uint64_t bit = random.below(static_cast<uint64_t>(length) * 8);
  data[bit / 8] = static_cast<uint8_t>(data[bit / 8] ^ (1U << (bit % 8)));
}

// --- receive ---

RxPacket ImpairIo::copyOf(const RxPacket& train, const uint8_t* data, uint32_t length) {
  const size_t index = nextReceiveCopy_;
  nextReceiveCopy_ = (nextReceiveCopy_ + 1) % kReceiveCopies;
  uint8_t* copy = copies_ + index * kCopyLength;
  std::memcpy(copy, data, length);
  Addresses& addresses = copyAddresses_[index];
  addresses.source = *train.source;
  RxPacket packet = train;
  packet.data = copy;
  packet.length = length;
  packet.segmentLength = length;
  packet.source = &addresses.source;
  if (train.destination != nullptr) {
    addresses.destination = *train.destination;
    packet.destination = &addresses.destination;
  }
  return packet;
}

void ImpairIo::emit(RxBurst& burst, const RxPacket& packet) {
  burst.packets[burst.count++] = packet;
  runOpen_ = false;
}

// Appends an untouched datagram: neighbours in one train stay a train.
void ImpairIo::extendRun(RxBurst& burst, const RxPacket& train, const uint8_t* data, uint32_t length) {
  if (runOpen_) {
    RxPacket& last = burst.packets[burst.count - 1];
    if (last.data + last.length == data && last.segmentLength == train.segmentLength && last.length % last.segmentLength == 0) {
      last.length += length;
      return;
    }
  }
  RxPacket packet = train;
  packet.data = data;
  packet.length = length;
  packet.segmentLength = length;
  emit(burst, packet);
  runOpen_ = true;
}

void ImpairIo::receiveDatagram(RxBurst& burst, const RxPacket& train, const uint8_t* data, uint32_t length) {
  switch (decide(config_.receive, receiveRandom_, receiveStats_, data, length)) {
    case Action::kLose:
      return;
    case Action::kReorder:
      if (!holding_) {
        count(receiveStats_.reordered);
        held_ = copyOf(train, data, length);
        holding_ = true;
        return;
      }
      extendRun(burst, train, data, length);
      break;
    case Action::kPass:
      extendRun(burst, train, data, length);
      break;
    case Action::kDuplicate: {
      RxPacket packet = train;
      packet.data = data;
      packet.length = length;
      packet.segmentLength = length;
      emit(burst, packet);
      emit(burst, packet);
      break;
    }
    case Action::kCorrupt: {
      const RxPacket packet = copyOf(train, data, length);
      flipBit(receiveRandom_, const_cast<uint8_t*>(packet.data), length);
      emit(burst, packet);
      break;
    }
  }
  if (holding_) {
    holding_ = false;
    emit(burst, held_);
  }
}

uint32_t ImpairIo::poll(RxBurst& burst, int64_t nowNs) {
  if (!config_.receive.active()) return inner_->poll(burst, nowNs);
  burst.count = 0;
  runOpen_ = false;
  if (receivedIndex_ >= received_.count) {
    inner_->poll(received_, nowNs);
    receivedIndex_ = 0;
    receivedOffset_ = 0;
    if (received_.count == 0 && holding_) {  // nothing came to overtake it
      holding_ = false;
      emit(burst, held_);
    }
  }
  constexpr size_t kPacketsPerDatagram = 3;  // itself, its duplicate, the held one behind it
  while (receivedIndex_ < received_.count && burst.count + kPacketsPerDatagram <= RxBurst::kMaxPackets) {
    const RxPacket& train = received_.packets[receivedIndex_];
    if (receivedOffset_ < train.length) {
      const uint32_t length = std::min(train.segmentLength, train.length - receivedOffset_);
      receiveDatagram(burst, train, train.data + receivedOffset_, length);
      receivedOffset_ += length;
    }
    if (receivedOffset_ >= train.length) {
      ++receivedIndex_;
      receivedOffset_ = 0;
      runOpen_ = false;
    }
  }
  uint32_t datagrams = 0;
  for (size_t i = 0; i < burst.count; ++i) {
    const RxPacket& packet = burst.packets[i];
    datagrams += (packet.length + packet.segmentLength - 1) / packet.segmentLength;
  }
  return datagrams;
}

bool ImpairIo::arm() {
  const bool pending = receivedIndex_ < received_.count || holding_;
  return !pending && inner_->arm();
}

void ImpairIo::detach(Endpoint& endpoint) {
  for (size_t i = receivedIndex_; i < received_.count; ++i) {
    if (received_.packets[i].endpoint == &endpoint) received_.packets[i].length = 0;
  }
  if (holding_ && held_.endpoint == &endpoint) holding_ = false;
  inner_->detach(endpoint);
}

// --- transmit ---

void ImpairIo::push(const TxItem& source, const uint8_t* data, uint32_t length, Progress progress) {
  TxItem& item = innerItems_[innerCount_];
  item = TxItem{};
  item.nextHop = source.nextHop;
  item.data = data;
  item.length = length;
  item.segmentLength = length;
  item.lent = source.lent && data >= source.data && data < source.data + source.length;  // not a corrupted copy of ours
  progress_[innerCount_] = progress;
  ++innerCount_;
}

// Turns items from (item, offset) on into inner items, as many as fit; leaves (item, offset) behind the last one decided.
void ImpairIo::decompose(std::span<const TxItem> items, uint32_t& item, uint32_t& offset) {
  constexpr uint32_t kItemsPerDatagram = 3;  // itself, its duplicate, the held one behind it
  innerCount_ = 0;
  size_t copiesUsed = 0;
  const TxItem* heldItem = nullptr;
  const uint8_t* heldData = nullptr;
  uint32_t heldLength = 0;
  Progress last;
  bool room = true;
  while (room && item < items.size()) {
    const TxItem& outer = items[item];
    const uint32_t step = stepOf(outer);
    bool run = false;
    do {
      if (innerCount_ + kItemsPerDatagram > kMaxInnerItems - 1 || copiesUsed == kTransmitCopies) {
        room = false;
        break;
      }
      const uint8_t* data = outer.data + offset;
      const uint32_t length = std::min(step, outer.length - offset);
      last = Progress{item, offset + length, false};
      offset += length;
      Action action = decide(config_.transmit, transmitRandom_, transmitStats_, data, length);
      if (action == Action::kReorder) {
        if (heldItem == nullptr) {
          count(transmitStats_.reordered);
          heldItem = &outer;
          heldData = data;
          heldLength = length;
          run = false;
          continue;
        }
        action = Action::kPass;
      }
      if (action == Action::kLose) {
        run = false;
        continue;
      }
      if (action == Action::kPass && run) {
        TxItem& open = innerItems_[innerCount_ - 1];
        open.length += length;
        progress_[innerCount_ - 1].endBytes = offset;
        continue;
      }
      if (action == Action::kCorrupt) {
        uint8_t* copy = copies_ + (kReceiveCopies + copiesUsed++) * kCopyLength;
        std::memcpy(copy, data, length);
        flipBit(transmitRandom_, copy, length);
        push(outer, copy, length, last);
      } else {
        Progress progress = last;
        progress.run = action == Action::kPass;
        push(outer, data, length, progress);
        if (action == Action::kDuplicate) push(outer, data, length, last);
      }
      run = action == Action::kPass && heldItem == nullptr && length == step;
      if (heldItem != nullptr) {
        push(*heldItem, heldData, heldLength, last);
        heldItem = nullptr;
      }
    } while (offset < outer.length);
    if (room && offset >= outer.length) {
      ++item;
      offset = 0;
    }
  }
  if (heldItem != nullptr) push(*heldItem, heldData, heldLength, last);  // nothing came to overtake it
}

// Marks everything up to `to` as done.
void ImpairIo::advance(std::span<TxItem> items, uint32_t& finished, const Progress& to, TxStatus status) {
  const auto finish = [&](TxItem& item) {
    item.sentBytes = item.length;
    if (item.status == TxStatus::kPending) item.status = TxStatus::kSent;
    ++finished;
  };
  while (finished < to.item) finish(items[finished]);
  if (to.item < finished || to.item >= items.size()) return;
  TxItem& item = items[to.item];
  if (status != TxStatus::kSent) item.status = status;
  item.sentBytes = std::max(item.sentBytes, to.endBytes);
  if (item.sentBytes >= item.length) finish(item);
}

uint32_t ImpairIo::transmit(Endpoint& endpoint, std::span<TxItem> items) {
  if (!config_.transmit.active()) return inner_->transmit(endpoint, items);
  for (TxItem& item : items) {
    item.status = TxStatus::kPending;
    item.sentBytes = 0;
  }
  uint32_t finished = 0;
  while (finished < items.size()) {
    uint32_t item = finished;
    uint32_t offset = items[finished].sentBytes;
    decompose(items, item, offset);
    const uint32_t done = innerCount_ == 0 ? 0 : inner_->transmit(endpoint, std::span<TxItem>(innerItems_.data(), innerCount_));
    for (uint32_t i = 0; i < done; ++i) advance(items, finished, progress_[i], innerItems_[i].status);
    if (done < innerCount_) {
      const TxItem& blocked = innerItems_[done];
      const Progress& progress = progress_[done];
      if (progress.run && blocked.sentBytes > 0) {
        advance(items, finished, Progress{progress.item, progress.endBytes - blocked.length + blocked.sentBytes, false}, TxStatus::kSent);
      }
      if (finished < items.size()) items[finished].status = blocked.status;
      return finished;
    }
    // What was lost behind the last inner item is over and done with, too. (item, 0) means: all items before it.
    advance(items, finished, Progress{item, offset, false}, TxStatus::kSent);
  }
  return finished;
}

TxStatus ImpairIo::commit(Endpoint& endpoint, const SockAddr& destination, TxSlot& slot, uint32_t length) {
  if (!config_.transmit.active()) return inner_->commit(endpoint, destination, slot, length);
  switch (decide(config_.transmit, transmitRandom_, transmitStats_, slot.data, length)) {
    case Action::kLose:
      inner_->abort(endpoint, slot);
      return TxStatus::kSent;
    case Action::kDuplicate: {
      TxSlot second;
      if (inner_->reserve(endpoint, destination, length, second) == TxStatus::kPending) {
        std::memcpy(second.data, slot.data, length);
        inner_->commit(endpoint, destination, second, length);
      }
      break;
    }
    case Action::kCorrupt:
      flipBit(transmitRandom_, slot.data, length);
      break;
    case Action::kReorder:  // a single frame has no neighbour here to change places with
    case Action::kPass:
      break;
  }
  return inner_->commit(endpoint, destination, slot, length);
}

}  // namespace outrigger::io
