// SPDX-License-Identifier: Apache-2.0
// The holes of an image between what is whole and the highest position seen: an ordered list of fixed capacity, one entry a hole, with what
// the loss detector knows about it. Receiver thread only; memory is taken once, in the constructor.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>

namespace outrigger::driver {

struct Gap {
  int64_t begin = 0;  // positions
  int64_t end = 0;
  int64_t detectedNs = 0;
  int64_t dueNs = 0;  // when the next NAK for it may go out
  int64_t lastNakNs = 0;
  int32_t naks = 0;       // sent for it so far
  bool answered = false;  // part of it came after a NAK: its time was taken
};

class GapList {
 public:
  explicit GapList(size_t capacity) : capacity_(std::max<size_t>(capacity, 1)), gaps_(std::make_unique<Gap[]>(capacity_)) {}

  bool empty() const { return size_ == 0; }
  bool full() const { return size_ == capacity_; }
  size_t size() const { return size_; }
  size_t capacity() const { return capacity_; }
  Gap& operator[](size_t index) { return gaps_[head_ + index]; }
  const Gap& operator[](size_t index) const { return gaps_[head_ + index]; }
  const Gap& front() const { return gaps_[head_]; }

  // A hole behind all others. Null when the list is full.
  Gap* append(int64_t begin, int64_t end) {
    if (full()) return nullptr;
    if (head_ + size_ == capacity_) {
      std::move(&gaps_[head_], &gaps_[head_] + size_, &gaps_[0]);
      head_ = 0;
    }
    Gap& gap = gaps_[head_ + size_++];
    gap = {};
    gap.begin = begin;
    gap.end = end;
    return &gap;
  }

  // Index of the first hole that ends behind `position`; size() when there is none.
  size_t find(int64_t position) const {
    const Gap* first = &gaps_[head_];
    const Gap* found = std::partition_point(first, first + size_, [&](const Gap& gap) { return gap.end <= position; });
    return static_cast<size_t>(found - first);
  }

  // Cuts [begin, end), which lies inside hole `index`, out of it. False, with nothing changed, when that takes one more entry than there is.
  bool fill(size_t index, int64_t begin, int64_t end) {
    Gap& gap = (*this)[index];
    if (begin <= gap.begin && end >= gap.end) {
      remove(index);
      return true;
    }
    if (begin <= gap.begin) {
      gap.begin = end;
      return true;
    }
    if (end >= gap.end) {
      gap.end = begin;
      return true;
    }
    if (full()) return false;
    insertCopyBehind(index);
    (*this)[index].end = begin;
    (*this)[index + 1].begin = end;
    return true;
  }

 private:
  void remove(size_t index) {
    if (index == 0) {  // repairs come in order: mostly the first one
      head_ = size_ == 1 ? 0 : head_ + 1;
    } else {
      Gap* at = &gaps_[head_ + index];
      std::move(at + 1, &gaps_[head_] + size_, at);
    }
    --size_;
  }
  void insertCopyBehind(size_t index) {
    if (head_ > 0) {  // the front moves: as far as the hole, and mostly it is among the first
      std::move(&gaps_[head_], &gaps_[head_] + index + 1, &gaps_[head_ - 1]);
      --head_;
    } else {
      Gap* at = &gaps_[head_ + index];
      std::move_backward(at, &gaps_[head_] + size_, &gaps_[head_] + size_ + 1);
    }
    ++size_;
    // Either way entry `index` and the one behind it now hold the same hole.
    (*this)[index + 1] = (*this)[index];
  }

  size_t capacity_;
  size_t head_ = 0;
  size_t size_ = 0;
  std::unique_ptr<Gap[]> gaps_;
};

}  // namespace outrigger::driver
