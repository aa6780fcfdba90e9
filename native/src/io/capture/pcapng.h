// SPDX-License-Identifier: Apache-2.0
// Blocks of a pcapng file (draft-ietf-opsawg-pcapng), as bytes: section, interface, packet, statistics. In the byte order of this machine, which
// the section header says. Times are nanoseconds.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace outrigger::io::pcapng {

enum class Direction : uint32_t { kInbound = 1, kOutbound = 2 };

struct InterfaceStatistics {
  int64_t startNs = 0;
  int64_t endNs = 0;
  int64_t received = 0;
  int64_t dropped = 0;  // by the capture, for want of room
};

// Each appends one block to `out`.
void sectionHeader(std::vector<uint8_t>& out, const std::string& application);
// Interfaces are numbered from 0 in the order of their blocks. Ethernet.
void interfaceDescription(std::vector<uint8_t>& out, const std::string& name, const std::string& description, uint32_t snapLength);
void enhancedPacket(std::vector<uint8_t>& out, uint32_t interfaceId, int64_t timestampNs, std::span<const uint8_t> data,
                    uint32_t originalLength, Direction direction);
void interfaceStatistics(std::vector<uint8_t>& out, uint32_t interfaceId, int64_t timestampNs, const InterfaceStatistics& statistics);

}  // namespace outrigger::io::pcapng
