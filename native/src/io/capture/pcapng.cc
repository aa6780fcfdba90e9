// SPDX-License-Identifier: Apache-2.0
// pcapng blocks; see the header. Section numbers are those of draft-ietf-opsawg-pcapng.
#include "io/capture/pcapng.h"

#include <cstring>

namespace outrigger::io::pcapng {
namespace {

constexpr uint32_t kSectionHeaderBlock = 0x0A0D0D0A;  // 4.1
constexpr uint32_t kInterfaceDescriptionBlock = 1;    // 4.2
constexpr uint32_t kInterfaceStatisticsBlock = 5;     // 4.6
constexpr uint32_t kEnhancedPacketBlock = 6;          // 4.3
constexpr uint32_t kByteOrderMagic = 0x1A2B3C4D;
constexpr uint16_t kLinkTypeEthernet = 1;
constexpr uint8_t kNanoseconds = 9;  // if_tsresol: 10^-9

enum Option : uint16_t {
  kEndOfOptions = 0,
  kUserApplication = 4,  // of the section header
  kInterfaceName = 2,    // of the interface description
  kInterfaceDescription = 3,
  kTimestampResolution = 9,
  kPacketFlags = 2,  // of the packet
  kStartTime = 2,    // of the statistics
  kEndTime = 3,
  kReceived = 4,
  kDropped = 5,
};

template <typename T>
void put(std::vector<uint8_t>& out, T value) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(&value);
  out.insert(out.end(), bytes, bytes + sizeof(value));
}

void putBytes(std::vector<uint8_t>& out, const void* data, size_t length) {
  const auto* bytes = static_cast<const uint8_t*>(data);
  out.insert(out.end(), bytes, bytes + length);
  out.resize((out.size() + 3) & ~size_t{3});  // every part ends at a multiple of 4, and every block begins at one
}

void option(std::vector<uint8_t>& out, uint16_t code, const void* data, size_t length) {
  put(out, code);
  put(out, static_cast<uint16_t>(length));
  putBytes(out, data, length);
}
void option(std::vector<uint8_t>& out, uint16_t code, const std::string& text) { option(out, code, text.data(), text.size()); }
void option(std::vector<uint8_t>& out, uint16_t code, int64_t value) { option(out, code, &value, sizeof(value)); }
void timeOption(std::vector<uint8_t>& out, uint16_t code, int64_t timeNs) {
  const uint32_t words[2] = {static_cast<uint32_t>(static_cast<uint64_t>(timeNs) >> 32), static_cast<uint32_t>(timeNs)};
  option(out, code, words, sizeof(words));
}
void endOptions(std::vector<uint8_t>& out) {
  put(out, static_cast<uint16_t>(kEndOfOptions));
  put(out, uint16_t{0});
}

size_t beginBlock(std::vector<uint8_t>& out, uint32_t type) {
  const size_t at = out.size();
  put(out, type);
  put(out, uint32_t{0});  // length: known at the end
  return at;
}
void endBlock(std::vector<uint8_t>& out, size_t at) {
  const auto length = static_cast<uint32_t>(out.size() - at + sizeof(uint32_t));
  put(out, length);
  std::memcpy(out.data() + at + 4, &length, sizeof(length));
}

void putTime(std::vector<uint8_t>& out, int64_t timeNs) {
  put(out, static_cast<uint32_t>(static_cast<uint64_t>(timeNs) >> 32));
  put(out, static_cast<uint32_t>(timeNs));
}

}  // namespace

void sectionHeader(std::vector<uint8_t>& out, const std::string& application) {
  const size_t at = beginBlock(out, kSectionHeaderBlock);
  put(out, kByteOrderMagic);
  put(out, uint16_t{1});  // version 1.0
  put(out, uint16_t{0});
  put(out, int64_t{-1});  // length of the section: unknown
  option(out, kUserApplication, application);
  endOptions(out);
  endBlock(out, at);
}

void interfaceDescription(std::vector<uint8_t>& out, const std::string& name, const std::string& description, uint32_t snapLength) {
  const size_t at = beginBlock(out, kInterfaceDescriptionBlock);
  put(out, kLinkTypeEthernet);
  put(out, uint16_t{0});
  put(out, snapLength);
  if (!name.empty()) option(out, kInterfaceName, name);
  option(out, kInterfaceDescription, description);
  option(out, kTimestampResolution, &kNanoseconds, sizeof(kNanoseconds));
  endOptions(out);
  endBlock(out, at);
}

void enhancedPacket(std::vector<uint8_t>& out, uint32_t interfaceId, int64_t timestampNs, std::span<const uint8_t> data,
                    uint32_t originalLength, Direction direction) {
  const size_t at = beginBlock(out, kEnhancedPacketBlock);
  put(out, interfaceId);
  putTime(out, timestampNs);
  put(out, static_cast<uint32_t>(data.size()));
  put(out, originalLength);
  putBytes(out, data.data(), data.size());
  const auto flags = static_cast<uint32_t>(direction);
  option(out, kPacketFlags, &flags, sizeof(flags));
  endOptions(out);
  endBlock(out, at);
}

void interfaceStatistics(std::vector<uint8_t>& out, uint32_t interfaceId, int64_t timestampNs, const InterfaceStatistics& statistics) {
  const size_t at = beginBlock(out, kInterfaceStatisticsBlock);
  put(out, interfaceId);
  putTime(out, timestampNs);
  timeOption(out, kStartTime, statistics.startNs);
  timeOption(out, kEndTime, statistics.endNs);
  option(out, kReceived, statistics.received);
  option(out, kDropped, statistics.dropped);
  endOptions(out);
  endBlock(out, at);
}

}  // namespace outrigger::io::pcapng
