// SPDX-License-Identifier: Apache-2.0
// Allocating, releasing and reading counters.
#include "cnc/counters.h"

#include <algorithm>

namespace outrigger::cnc {

Counter CountersManager::allocate(int32_t typeId, std::string_view key, std::string_view label, int64_t nowMs, int64_t registrationId,
                                  int64_t ownerId, int64_t referenceId) {
  int32_t id = kNullCounterId;
  for (auto it = free_.begin(); it != free_.end(); ++it) {
    if (readAt<int64_t>(meta(*it), counter_meta::kFreeForReuseDeadlineMs) <= nowMs) {
      id = *it;
      free_.erase(it);
      break;
    }
  }
  if (id == kNullCounterId) {
    if (highWaterMark_ >= capacity()) return {};
    id = highWaterMark_++;
  }
  uint8_t* m = meta(id);
  uint8_t* v = value(id);
  const size_t keyLength = std::min(key.size(), kMaxCounterKeyLength);
  const size_t labelLength = std::min(label.size(), kMaxCounterLabelLength);
  std::memset(m + counter_meta::kKey, 0, kMaxCounterKeyLength);
  // An empty view may have no address at all, which memcpy does not allow.
  std::copy_n(key.data(), keyLength, m + counter_meta::kKey);
  std::copy_n(label.data(), labelLength, m + counter_meta::kLabel);
  writeAt<int32_t>(m, counter_meta::kTypeId, typeId);
  writeAt<int64_t>(m, counter_meta::kFreeForReuseDeadlineMs, INT64_MAX);
  storeRelease<int32_t>(m + counter_meta::kLabelLength, static_cast<int32_t>(labelLength));
  storeRelease<int64_t>(v + counter_value::kRegistrationId, registrationId);
  storeRelaxed<int64_t>(v + counter_value::kOwnerId, ownerId);
  storeRelaxed<int64_t>(v + counter_value::kReferenceId, referenceId);
  storeRelease<int64_t>(v + counter_value::kValue, 0);
  storeRelease<int32_t>(m + counter_meta::kState, kCounterAllocated);
  return {id, reinterpret_cast<int64_t*>(v + counter_value::kValue)};
}

void CountersManager::release(int32_t id, int64_t nowMs) {
  if (id < 0 || id >= highWaterMark_ || loadRelaxed<int32_t>(meta(id)) != kCounterAllocated) return;
  uint8_t* m = meta(id);
  writeAt<int64_t>(m, counter_meta::kFreeForReuseDeadlineMs, nowMs + kCounterReuseDelayMs);
  storeRelease<int32_t>(m + counter_meta::kState, kCounterReclaimed);
  storeRelease<int64_t>(value(id) + counter_value::kRegistrationId, int64_t{0});
  free_.push_back(id);
}

void CountersManager::setReferenceId(int32_t id, int64_t referenceId) {
  if (id >= 0 && id < capacity()) storeRelease<int64_t>(value(id) + counter_value::kReferenceId, referenceId);
}

void CountersManager::setRegistrationId(int32_t id, int64_t registrationId) {
  if (id >= 0 && id < capacity()) storeRelease<int64_t>(value(id) + counter_value::kRegistrationId, registrationId);
}

void CountersManager::setOwnerId(int32_t id, int64_t ownerId) {
  if (id >= 0 && id < capacity()) storeRelease<int64_t>(value(id) + counter_value::kOwnerId, ownerId);
}

Counter CountersManager::at(int32_t id) const {
  if (id < 0 || id >= capacity()) return {};
  return {id, reinterpret_cast<int64_t*>(value(id) + counter_value::kValue)};
}

int32_t CountersManager::typeOf(int32_t id) const {
  return id < 0 || id >= capacity() ? -1 : loadRelaxed<int32_t>(meta(id) + counter_meta::kTypeId);
}

bool CountersManager::isAllocated(int32_t id) const {
  return id >= 0 && id < capacity() && loadRelaxed<int32_t>(meta(id) + counter_meta::kState) == kCounterAllocated;
}

int64_t CountersManager::registrationIdOf(int32_t id) const {
  return id < 0 || id >= capacity() ? 0 : loadRelaxed<int64_t>(value(id) + counter_value::kRegistrationId);
}

std::vector<CounterSnapshot> readCounters(const CncRegions& regions) {
  std::vector<CounterSnapshot> snapshots;
  const size_t count =
      std::min(regions.countersMetadata.length / kCounterMetadataLength, regions.countersValues.length / kCounterValueLength);
  for (size_t i = 0; i < count; ++i) {
    const uint8_t* m = regions.countersMetadata.data + i * kCounterMetadataLength;
    const uint8_t* v = regions.countersValues.data + i * kCounterValueLength;
    const auto state = loadAcquire<int32_t>(m + counter_meta::kState);
    if (state == kCounterUnused) break;
    if (state != kCounterAllocated) continue;
    CounterSnapshot snapshot;
    snapshot.id = static_cast<int32_t>(i);
    snapshot.typeId = loadRelaxed<int32_t>(m + counter_meta::kTypeId);
    snapshot.value = loadAcquire<int64_t>(v + counter_value::kValue);
    snapshot.registrationId = loadRelaxed<int64_t>(v + counter_value::kRegistrationId);
    snapshot.ownerId = loadRelaxed<int64_t>(v + counter_value::kOwnerId);
    snapshot.referenceId = loadRelaxed<int64_t>(v + counter_value::kReferenceId);
    snapshot.key.assign(m + counter_meta::kKey, m + counter_meta::kKey + kMaxCounterKeyLength);
    const auto labelLength =
        std::clamp<int32_t>(loadAcquire<int32_t>(m + counter_meta::kLabelLength), 0, static_cast<int32_t>(kMaxCounterLabelLength));
    snapshot.label.assign(reinterpret_cast<const char*>(m + counter_meta::kLabel), static_cast<size_t>(labelLength));
    snapshots.push_back(std::move(snapshot));
  }
  return snapshots;
}

}  // namespace outrigger::cnc
