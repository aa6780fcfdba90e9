// SPDX-License-Identifier: Apache-2.0
// Error log and loss report: writing by the driver, reading by tools.
#include "cnc/error_log.h"

#include <algorithm>

namespace outrigger::cnc {
namespace {

constexpr size_t kErrorHeaderLength = 24;
constexpr size_t kErrorAlignment = 8;
constexpr size_t kMaxErrorText = 2048;
constexpr size_t kLossHeaderLength = 40;
constexpr size_t kLossAlignment = 64;

// Reads an int32-prefixed text inside [offset, end); moves offset past it, 4-aligned. False when it does not fit.
bool readText(const Region& region, size_t& offset, std::string& out) {
  if (offset + 4 > region.length) return false;
  const auto length = readAt<int32_t>(region.data, offset);
  offset += 4;
  if (length < 0 || static_cast<size_t>(length) > region.length - offset) return false;
  out.assign(reinterpret_cast<const char*>(region.data + offset), static_cast<size_t>(length));
  offset = alignUp<size_t>(offset + static_cast<size_t>(length), 4);
  return true;
}

}  // namespace

bool ErrorLog::record(std::string_view text, int64_t nowMs) {
  text = text.substr(0, kMaxErrorText);
  for (const Known& known : known_) {
    if (known.text == text) {
      uint8_t* record = region_.data + known.offset;
      storeRelease<int64_t>(record + 8, nowMs);
      fetchAdd<int32_t>(record + 4, 1);
      return true;
    }
  }
  const size_t length = kErrorHeaderLength + text.size();
  if (nextOffset_ + alignUp(length, kErrorAlignment) > region_.length) return false;
  uint8_t* record = region_.data + nextOffset_;
  std::memcpy(record + kErrorHeaderLength, text.data(), text.size());
  writeAt<int64_t>(record, 16, nowMs);
  writeAt<int64_t>(record, 8, nowMs);
  writeAt<int32_t>(record, 4, 1);
  storeRelease<int32_t>(record, static_cast<int32_t>(length));
  known_.push_back({std::string(text), nextOffset_});
  nextOffset_ += alignUp(length, kErrorAlignment);
  return true;
}

std::vector<ErrorObservation> ErrorLog::read(Region region) {
  std::vector<ErrorObservation> out;
  size_t offset = 0;
  while (offset + kErrorHeaderLength <= region.length) {
    const auto length = loadAcquire<int32_t>(region.data + offset);
    if (length < static_cast<int32_t>(kErrorHeaderLength) || static_cast<size_t>(length) > region.length - offset) break;
    ErrorObservation observation;
    observation.count = loadAcquire<int32_t>(region.data + offset + 4);
    observation.lastMs = loadAcquire<int64_t>(region.data + offset + 8);
    observation.firstMs = readAt<int64_t>(region.data, offset + 16);
    observation.text.assign(reinterpret_cast<const char*>(region.data + offset + kErrorHeaderLength),
                            static_cast<size_t>(length) - kErrorHeaderLength);
    out.push_back(std::move(observation));
    offset += alignUp(static_cast<size_t>(length), kErrorAlignment);
  }
  return out;
}

int64_t LossReport::create(int64_t bytesLost, int64_t nowMs, int32_t sessionId, int32_t streamId, std::string_view channel,
                           std::string_view source) {
  const size_t channelLength = alignUp<size_t>(channel.size(), 4);
  const size_t length = kLossHeaderLength + 4 + channelLength + 4 + source.size();
  const size_t aligned = alignUp(length, kLossAlignment);
  if (region_.data == nullptr || nextOffset_ + aligned > region_.length) return -1;
  const size_t offset = nextOffset_;
  uint8_t* record = region_.data + offset;
  writeAt<int64_t>(record, 8, bytesLost);
  writeAt<int64_t>(record, 16, nowMs);
  writeAt<int64_t>(record, 24, nowMs);
  writeAt<int32_t>(record, 32, sessionId);
  writeAt<int32_t>(record, 36, streamId);
  writeAt<int32_t>(record, 40, static_cast<int32_t>(channel.size()));
  std::memcpy(record + 44, channel.data(), channel.size());
  writeAt<int32_t>(record, 44 + channelLength, static_cast<int32_t>(source.size()));
  std::memcpy(record + 48 + channelLength, source.data(), source.size());
  storeRelease<int64_t>(record, int64_t{1});
  nextOffset_ += aligned;
  return static_cast<int64_t>(offset);
}

void LossReport::update(int64_t offset, int64_t bytesLost, int64_t nowMs) const {
  if (offset < 0) return;
  uint8_t* record = region_.data + offset;
  storeRelease<int64_t>(record + 24, nowMs);
  fetchAdd<int64_t>(record + 8, bytesLost);
  fetchAdd<int64_t>(record, 1);
}

std::vector<LossEntry> LossReport::read(Region region) {
  std::vector<LossEntry> out;
  size_t offset = 0;
  while (offset + kLossHeaderLength <= region.length) {
    LossEntry entry;
    entry.observations = loadAcquire<int64_t>(region.data + offset);
    if (entry.observations <= 0) break;
    entry.bytesLost = loadAcquire<int64_t>(region.data + offset + 8);
    entry.firstMs = readAt<int64_t>(region.data, offset + 16);
    entry.lastMs = loadAcquire<int64_t>(region.data + offset + 24);
    entry.sessionId = readAt<int32_t>(region.data, offset + 32);
    entry.streamId = readAt<int32_t>(region.data, offset + 36);
    size_t cursor = offset + kLossHeaderLength;
    if (!readText(region, cursor, entry.channel) || !readText(region, cursor, entry.source)) break;
    out.push_back(std::move(entry));
    offset = alignUp(cursor, kLossAlignment);
  }
  return out;
}

}  // namespace outrigger::cnc
