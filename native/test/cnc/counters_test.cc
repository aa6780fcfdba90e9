// SPDX-License-Identifier: Apache-2.0
// Counters: layout, reuse, hostile metadata; and the labels and keys that the driver gives them.
#include "cnc/counters.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

#include "driver/counter_factory.h"

namespace outrigger::cnc {
namespace {

constexpr int32_t kCount = 128;

class Counters : public ::testing::Test {
 protected:
  std::vector<int64_t> metadata = std::vector<int64_t>(kCount * kCounterMetadataLength / 8);
  std::vector<int64_t> values = std::vector<int64_t>(kCount * kCounterValueLength / 8);
  CncRegions regions = [this] {
    CncRegions made;
    made.countersMetadata = {reinterpret_cast<uint8_t*>(metadata.data()), metadata.size() * 8};
    made.countersValues = {reinterpret_cast<uint8_t*>(values.data()), values.size() * 8};
    return made;
  }();
  CountersManager manager{regions.countersMetadata, regions.countersValues};
};

TEST_F(Counters, ACounterCarriesTypeKeyLabelAndOwner) {
  const Counter counter = manager.allocate(7, "key", "label", 1000, 11, 12, 13);
  ASSERT_TRUE(counter.valid());
  counter.set(99);
  const auto all = readCounters(regions);
  ASSERT_EQ(all.size(), 1U);
  EXPECT_EQ(all[0].id, counter.id);
  EXPECT_EQ(all[0].typeId, 7);
  EXPECT_EQ(all[0].label, "label");
  EXPECT_EQ(std::string(all[0].key.begin(), all[0].key.begin() + 3), "key");
  EXPECT_EQ(all[0].value, 99);
  EXPECT_EQ(all[0].registrationId, 11);
  EXPECT_EQ(all[0].ownerId, 12);
  EXPECT_EQ(all[0].referenceId, 13);
  EXPECT_EQ(manager.typeOf(counter.id), 7);
}

TEST_F(Counters, AReleasedIdIsNotReusedWithinItsCoolDown) {
  const Counter first = manager.allocate(1, "", "first", 1000);
  manager.release(first.id, 1000);
  EXPECT_TRUE(readCounters(regions).empty());
  const Counter soon = manager.allocate(1, "", "soon", 1000 + kCounterReuseDelayMs - 1);
  EXPECT_NE(soon.id, first.id);
  const Counter later = manager.allocate(2, "", "later", 1000 + kCounterReuseDelayMs);
  EXPECT_EQ(later.id, first.id);
  EXPECT_EQ(later.get(), 0) << "without the value of its predecessor";
}

TEST_F(Counters, WhenAllAreTakenTheAnswerIsInvalidAndReleasingHelps) {
  std::vector<Counter> all;
  for (int32_t i = 0; i < kCount; ++i) all.push_back(manager.allocate(1, "", "x", 0));
  EXPECT_FALSE(manager.allocate(1, "", "x", 0).valid());
  manager.release(all[5].id, 0);
  EXPECT_EQ(manager.allocate(1, "", "x", kCounterReuseDelayMs).id, all[5].id);
}

TEST_F(Counters, ReleasingTwiceOrNonsenseDoesNothing) {
  const Counter counter = manager.allocate(1, "", "x", 0);
  for (const int32_t id : {counter.id, counter.id, -1, kCount, INT32_MAX, INT32_MIN}) manager.release(id, 0);
  const Counter a = manager.allocate(1, "", "a", 5000);
  const Counter b = manager.allocate(1, "", "b", 5000);
  EXPECT_NE(a.id, b.id);
}

TEST_F(Counters, LongKeysAndLabelsAreCut) {
  const Counter counter = manager.allocate(1, std::string(500, 'k'), std::string(500, 'l'), 0);
  const auto all = readCounters(regions);
  ASSERT_EQ(all.size(), 1U);
  EXPECT_EQ(all[0].label, std::string(kMaxCounterLabelLength, 'l'));
  EXPECT_EQ(all[0].key, std::vector<uint8_t>(kMaxCounterKeyLength, 'k'));
  EXPECT_TRUE(counter.valid());
}

TEST_F(Counters, ReadersSurviveHostileLabelLengths) {
  const Counter counter = manager.allocate(1, "", "label", 0);
  for (const int32_t length : {-1, INT32_MIN, INT32_MAX, 381}) {
    writeAt<int32_t>(regions.countersMetadata.data + static_cast<size_t>(counter.id) * kCounterMetadataLength, counter_meta::kLabelLength,
                     length);
    const auto all = readCounters(regions);
    ASSERT_EQ(all.size(), 1U);
    EXPECT_LE(all[0].label.size(), kMaxCounterLabelLength);
  }
}

TEST_F(Counters, TheDriversOwnCountersHaveAeronsIdsAndDistinctLabels) {
  driver::CounterFactory factory(manager);
  driver::DriverCounters counters;
  ASSERT_TRUE(factory.createDriverCounters(counters, 0));
  std::set<std::string> labels;
  for (const auto& each : readCounters(regions)) {
    labels.insert(each.label);
    if (each.typeId == counter_type::kSystem) {
      EXPECT_EQ(each.id, readAt<int32_t>(each.key.data(), 0)) << "Aeron's tools find system counters by id";
    }
  }
  EXPECT_EQ(labels.size(), static_cast<size_t>(SystemCounter::kCount) + static_cast<size_t>(OutriggerCounter::kCount));
  EXPECT_EQ(readCounters(regions)[static_cast<size_t>(SystemCounter::kErrors)].label, "Errors");
}

TEST_F(Counters, TooSmallABufferForTheDriversOwnCountersIsSaid) {
  CountersManager tiny({regions.countersMetadata.data, 10 * kCounterMetadataLength},
                       {regions.countersValues.data, 10 * kCounterValueLength});
  driver::CounterFactory factory(tiny);
  driver::DriverCounters counters;
  EXPECT_FALSE(factory.createDriverCounters(counters, 0));
}

TEST_F(Counters, AVeryLongChannelIsCutInTheKeyWithItsLength) {
  driver::CounterFactory factory(manager);
  const std::string channel = "aeron:udp?endpoint=10.0.0.1:4000|alias=" + std::string(4000, 'x');
  const Counter stream = factory.stream(counter_type::kSenderPosition, "snd-pos", {5, 6, 7, channel}, 8, 0, 96);
  ASSERT_TRUE(stream.valid());
  const auto all = readCounters(regions);
  EXPECT_EQ(all[0].label.substr(0, 15), "snd-pos: 5 6 7 ");
  const auto length = readAt<int32_t>(all[0].key.data(), 16);
  EXPECT_EQ(length, static_cast<int32_t>(kMaxCounterKeyLength) - 20);
  EXPECT_EQ(std::string(all[0].key.begin() + 20, all[0].key.end()), channel.substr(0, static_cast<size_t>(length)));
  Counter copy = stream;
  factory.release(copy, 0);
  EXPECT_FALSE(copy.valid());
  factory.release(copy, 0);  // an invalid one: nothing happens
}

}  // namespace
}  // namespace outrigger::cnc
