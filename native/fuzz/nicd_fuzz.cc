// SPDX-License-Identifier: Apache-2.0
// Fuzzes everything that outrigger-nicd and its clients read from each other or from files: requests, answers, claims, session records.
// What is taken must be what the writer would write, and inside its limits.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "io/nicd_client/protocol.h"
#include "nicd/claims.h"
#include "nicd/session.h"

using namespace outrigger;
using namespace outrigger::nicd;

namespace {

constexpr std::string_view kBoot = "boot";

void require(bool condition) {
  if (!condition) std::abort();
}

// A header that fits, so that the bodies behind it are reached: the type comes from the input.
Message withHeader(MessageType base, uint8_t type, std::span<const uint8_t> body) {
  return encodeBytes(static_cast<MessageType>(static_cast<uint16_t>(base) + type), 1, body.first(std::min(body.size(), kMaxMessageLength)));
}

void checkName(std::span<const char> field) {
  require(nameOf(field).size() < field.size());
  require(nameOf(field).find('/') == std::string::npos);
}

void fuzzRequest(std::span<const uint8_t> message) {
  uint64_t id = 0;
  auto request = decodeRequest(message, id);
  if (!request) {
    require(!request.error().message.empty());
    return;
  }
  require(request->requestId == id && id != 0);
  if (const auto* open = std::get_if<OpenXdp>(&request->body)) {
    checkName(open->interface);
    require(open->umemLength % open->chunkLength == 0 && open->receiveEntries <= kMaxRingEntries);
  } else if (const auto* hello = std::get_if<Hello>(&request->body)) {
    checkName(hello->claim);
    checkName(hello->name);
  } else if (const auto* port = std::get_if<OpenPort>(&request->body)) {
    require(addressOf(sockAddrOf(port->address)).port == port->address.port);
  }
}

void fuzzAnswer(std::span<const uint8_t> message) {
  auto answer = decodeAnswer(message);
  if (!answer) return;
  if (const auto* feed = std::get_if<FeedEntries>(&answer->body)) {
    require(feed->entries.size() <= kMaxFeedEntries);
    if (!feed->entries.empty()) require(encodeFeed(feed->session, feed->entries).size() <= kMaxMessageLength);
  } else if (const auto* refused = std::get_if<RefusedText>(&answer->body)) {
    require(encodeRefused(1, refused->refusal, refused->sysErrno, refused->text).size() <=
            sizeof(Header) + sizeof(Refused) + kMaxTextLength);
  }
}

void fuzzFiles(std::string_view text) {
  auto claim = parseClaim("claim", text);
  if (claim) {
    require(!claim->interface.empty() && claim->interface.size() < kInterfaceNameLength);
    for (const PortRange& range : claim->ports) require(range.first != 0 && range.first <= range.last);
  }
  auto record = parseRecord(text, kBoot);
  if (record) {
    // What is read is written the same, but for the order of fields and numbers with leading zeros.
    auto again = parseRecord(formatRecord(*record, kBoot), kBoot);
    require(again.ok());
    require(again->id == record->id && again->ports == record->ports && again->claim == record->claim);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::span<const uint8_t> rest(data + 1, size - 1);
  const std::vector<uint8_t> exact(rest.begin(), rest.end());
  fuzzRequest(exact);
  fuzzAnswer(exact);
  fuzzRequest(withHeader(MessageType::kHello, data[0] & 15, rest));
  fuzzAnswer(withHeader(MessageType::kWelcome, data[0] & 15, rest));
  fuzzFiles({reinterpret_cast<const char*>(rest.data()), rest.size()});
  // With a record's first and last lines around it.
  fuzzFiles("outrigger-nicd session 1\nboot=boot\nid=1\ninterface=va\ninterfaceIndex=2\n" +
            std::string(reinterpret_cast<const char*>(rest.data()), rest.size()) + "\nend\n");
  return 0;
}
