// SPDX-License-Identifier: Apache-2.0
#include "io/nicd_client/protocol.h"

#include <algorithm>
#include <cstring>

namespace outrigger::nicd {
namespace {

constexpr uint64_t kMaxUmemLength = 4ull << 30;
constexpr uint32_t kMaxTxMetadataLength = 256;
constexpr uint32_t kSlotAlignment = 16;  // TPACKET_ALIGNMENT
constexpr uint32_t kPageLength = 4096;
constexpr uint32_t kMaxQueue = 4096;
constexpr int32_t kMaxSocketBuffer = 256 << 20;

Error malformed(const std::string& what) { return makeError(ErrorCode::kMalformedCommand, what); }

Error badValue(const char* field, uint64_t value, const char* allowed) {
  return malformed(std::string(field) + " is " + std::to_string(value) + ", allowed is " + allowed);
}

bool isPowerOfTwo(uint64_t value) { return value != 0 && (value & (value - 1)) == 0; }

// Interfaces: what the kernel's dev_valid_name allows and no control character. Claims and clients may be shown and be file names.
bool isNameCharacter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.' || c == ':' ||
         c == '@' || c == '+';
}

bool isName(std::string_view text) { return text != "." && text != ".." && std::all_of(text.begin(), text.end(), isNameCharacter); }

// Ends inside the field, and only zeros follow: nothing is carried along unseen.
Result<void> checkName(const char* what, std::span<const char> field, bool mayBeEmpty) {
  const auto end = std::find(field.begin(), field.end(), '\0');
  if (end == field.end() || std::any_of(end, field.end(), [](char c) { return c != '\0'; })) {
    return malformed(std::string(what) + " does not end inside its field of " + std::to_string(field.size()) + " bytes");
  }
  const std::string_view text(field.data(), static_cast<size_t>(end - field.begin()));
  if (text.empty() && !mayBeEmpty) return malformed(std::string(what) + " is empty");
  if (!isName(text)) return malformed(std::string(what) + " is no name: letters, digits and -_.:@+ are allowed");
  return {};
}

Result<void> checkAddress(const Address& address) {
  if (address.family != 4 && address.family != 6) return badValue("address family", address.family, "4 or 6");
  if (address.family == 4 && address.scope != 0) return badValue("scope of an IPv4 address", address.scope, "0");
  if (address.family == 4 && std::any_of(address.bytes + 4, address.bytes + 16, [](uint8_t b) { return b != 0; })) {
    return malformed("an IPv4 address has bytes behind its fourth");
  }
  return {};
}

Result<void> checkRing(const char* what, uint32_t entries) {
  if (!isPowerOfTwo(entries) || entries > kMaxRingEntries) return badValue(what, entries, "a power of two up to 65536");
  return {};
}

Result<void> check(const Hello& hello) {
  if (hello.minVersion == 0 || hello.minVersion > hello.maxVersion) {
    return badValue("lowest version", hello.minVersion, "from 1 to the highest version");
  }
  if (hello.reserved != 0) return badValue("reserved field", hello.reserved, "0");
  if (auto r = checkName("claim", hello.claim, true); !r) return r;
  return checkName("client name", hello.name, true);
}

Result<void> check(const OpenXdp& open) {
  if (auto r = checkName("interface", open.interface, false); !r) return r;
  if (open.queue >= kMaxQueue) return badValue("queue", open.queue, "below 4096");
  if (open.mode > static_cast<uint32_t>(XdpMode::kGeneric)) return badValue("mode", open.mode, "0 to 3");
  if (open.chunkLength != 2048 && open.chunkLength != 4096) return badValue("chunk length", open.chunkLength, "2048 or 4096");
  if (open.umemLength == 0 || open.umemLength > kMaxUmemLength || open.umemLength % open.chunkLength != 0) {
    return badValue("UMEM length", open.umemLength, "a multiple of the chunk length up to 4 GiB");
  }
  if (open.headroom >= open.chunkLength - 256) return badValue("headroom", open.headroom, "less than the chunk length without 256");
  if (auto r = checkRing("fill ring", open.fillEntries); !r) return r;
  if (auto r = checkRing("completion ring", open.completionEntries); !r) return r;
  if (auto r = checkRing("receive ring", open.receiveEntries); !r) return r;
  if (auto r = checkRing("transmit ring", open.transmitEntries); !r) return r;
  if ((open.flags & ~kXdpFlags) != 0) return badValue("flags", open.flags, "0 to 7");
  if (open.txMetadataLength > kMaxTxMetadataLength || open.txMetadataLength % 8 != 0) {
    return badValue("metadata length", open.txMetadataLength, "a multiple of 8 up to 256");
  }
  return {};
}

Result<void> check(const OpenPacket& open) {
  if (auto r = checkName("interface", open.interface, false); !r) return r;
  if (open.role < static_cast<uint32_t>(PacketRole::kReceiveSlots) || open.role > static_cast<uint32_t>(PacketRole::kTransmit)) {
    return badValue("role", open.role, "1 to 3");
  }
  if ((open.flags & ~kPacketFlags) != 0) return badValue("flags", open.flags, "0 or 1");
  if (open.reserved != 0) return badValue("reserved field", open.reserved, "0");
  if (open.blockLength == 0 || open.blockLength % kPageLength != 0 || open.blockLength > kMaxPacketRing) {
    return badValue("block length", open.blockLength, "a multiple of 4096 up to 1 GiB");
  }
  if (open.slotLength == 0 || open.slotLength % kSlotAlignment != 0 || open.slotLength > open.blockLength) {
    return badValue("slot length", open.slotLength, "a multiple of 16 up to the block length");
  }
  if (open.blocks == 0 || open.blocks > kMaxPacketRing / open.blockLength) {
    return badValue("number of blocks", open.blocks, "what makes a ring of up to 1 GiB");
  }
  return {};
}

Result<void> check(const OpenPort& open) {
  if (open.receiveBufferBytes < 0 || open.receiveBufferBytes > kMaxSocketBuffer) {
    return malformed("receive buffer is " + std::to_string(open.receiveBufferBytes) + ", allowed is 0 to 256 MiB");
  }
  if (open.reserved != 0) return badValue("reserved field", open.reserved, "0");
  return checkAddress(open.address);
}

Result<void> check(const ClosePort& close) {
  if (close.address.port == 0) return badValue("port", 0, "1 to 65535");
  return checkAddress(close.address);
}

Result<void> check(const Describe& describe) { return checkName("interface", describe.interface, true); }
Result<void> check(const Resolve& resolve) { return checkAddress(resolve.address); }
Result<void> check(const SessionRequest&) { return {}; }
Result<void> check(const Resume&) { return {}; }
Result<void> check(const StatusRequest& status) {
  if (status.format > static_cast<uint32_t>(StatusFormat::kText)) return badValue("format", status.format, "0 or 1");
  return status.reserved == 0 ? Result<void>() : badValue("reserved field", status.reserved, "0");
}
Result<void> check(const Watch& watch) {
  if (watch.cell >= kMaxCells) return badValue("cell", watch.cell, "below 4096");
  if (auto r = checkAddress(watch.destination); !r) return r;
  return watch.source.family == 0 ? Result<void>() : checkAddress(watch.source);
}
Result<void> check(const Unwatch& unwatch) {
  if (unwatch.cell >= kMaxCells) return badValue("cell", unwatch.cell, "below 4096");
  return unwatch.reserved == 0 ? Result<void>() : badValue("reserved field", unwatch.reserved, "0");
}

template <typename Body>
constexpr size_t bodyLength() {
  return std::is_empty_v<Body> ? 0 : sizeof(Body);
}

template <typename Body>
Result<Request> decodeBody(uint64_t requestId, std::span<const uint8_t> bytes) {
  if (bytes.size() != bodyLength<Body>()) {
    return malformed("the request is " + std::to_string(bytes.size()) + " bytes long, " + std::to_string(bodyLength<Body>()) + " are due");
  }
  Body body;
  if constexpr (!std::is_empty_v<Body>) std::memcpy(static_cast<void*>(&body), bytes.data(), sizeof(Body));
  if (auto r = check(body); !r) return r.error();
  return Request{requestId, body};
}

Result<Header> decodeHeader(std::span<const uint8_t> message) {
  Header header;
  if (message.size() < sizeof(header)) {
    return malformed("a message of " + std::to_string(message.size()) + " bytes is shorter than a header");
  }
  if (message.size() > kMaxMessageLength) return badValue("message length", message.size(), "up to 8192");
  std::memcpy(&header, message.data(), sizeof(header));
  if (header.length != message.size()) return badValue("length in the header", header.length, "that of the packet");
  if (header.reserved != 0) return badValue("reserved field of the header", header.reserved, "0");
  return header;
}

// A fixed body and the text behind it, whose length the body tells.
template <typename Body>
Result<std::string> decodeText(std::span<const uint8_t> bytes, Body& body) {
  if (bytes.size() < sizeof(Body)) return malformed("an answer of " + std::to_string(bytes.size()) + " bytes is too short");
  std::memcpy(&body, bytes.data(), sizeof(Body));
  if (body.textLength != bytes.size() - sizeof(Body)) return badValue("text length", body.textLength, "what follows the answer");
  return std::string(reinterpret_cast<const char*>(bytes.data()) + sizeof(Body), body.textLength);
}

template <typename Body>
Result<Answer> decodeFixed(uint64_t requestId, std::span<const uint8_t> bytes) {
  if (bytes.size() != bodyLength<Body>()) return malformed("an answer of " + std::to_string(bytes.size()) + " bytes has the wrong length");
  Body body;
  if constexpr (!std::is_empty_v<Body>) std::memcpy(static_cast<void*>(&body), bytes.data(), sizeof(Body));
  return Answer{requestId, body};
}

Result<Answer> decodeFeed(std::span<const uint8_t> bytes) {
  Feed feed;
  if (bytes.size() < sizeof(feed)) return malformed("a feed message is too short");
  std::memcpy(&feed, bytes.data(), sizeof(feed));
  if (feed.count > kMaxFeedEntries || bytes.size() != sizeof(feed) + feed.count * sizeof(FeedEntry)) {
    return badValue("feed entries", feed.count, "as many as the message holds");
  }
  FeedEntries result{feed.session, std::vector<FeedEntry>(feed.count)};
  if (feed.count != 0) {
    std::memcpy(static_cast<void*>(result.entries.data()), bytes.data() + sizeof(feed), feed.count * sizeof(FeedEntry));
  }
  for (const FeedEntry& entry : result.entries) {
    if (entry.kind < static_cast<uint8_t>(FeedKind::kLink) || entry.kind > static_cast<uint8_t>(FeedKind::kRoute)) {
      return badValue("feed kind", entry.kind, "1 to 4");
    }
    if (entry.route > static_cast<uint8_t>(FeedRoute::kUnreachable)) return badValue("route state", entry.route, "0 to 3");
    if (entry.neighbour > static_cast<uint8_t>(FeedNeighbour::kStale)) return badValue("neighbour state", entry.neighbour, "0 to 2");
    if (entry.prefixLength > 128) return badValue("prefix length", entry.prefixLength, "up to 128");
    for (const Address* each : {&entry.address, &entry.nextHop}) {
      if (each->family == 0) continue;
      if (auto r = checkAddress(*each); !r) return r.error();
    }
  }
  return Answer{0, std::move(result)};
}

std::span<const uint8_t> bytesOf(std::string_view text) { return {reinterpret_cast<const uint8_t*>(text.data()), text.size()}; }

std::string_view shortened(std::string_view text) { return text.substr(0, kMaxTextLength); }

}  // namespace

bool mayCarry(const RequestBody& request, size_t descriptors) {
  if (std::holds_alternative<OpenXdp>(request) || std::holds_alternative<Resume>(request)) return descriptors == 1;
  if (std::holds_alternative<OpenPort>(request)) return descriptors <= 1;
  return descriptors == 0;
}

Result<Request> decodeRequest(std::span<const uint8_t> message, uint64_t& requestId) {
  auto header = decodeHeader(message);
  if (!header) return header.error();
  requestId = header->requestId;
  if (requestId == 0) return badValue("request number", 0, "not 0");
  const std::span<const uint8_t> bytes = message.subspan(sizeof(Header));
  switch (static_cast<MessageType>(header->type)) {
    case MessageType::kHello:
      return decodeBody<Hello>(requestId, bytes);
    case MessageType::kOpenXdp:
      return decodeBody<OpenXdp>(requestId, bytes);
    case MessageType::kOpenPacket:
      return decodeBody<OpenPacket>(requestId, bytes);
    case MessageType::kOpenPort:
      return decodeBody<OpenPort>(requestId, bytes);
    case MessageType::kClosePort:
      return decodeBody<ClosePort>(requestId, bytes);
    case MessageType::kResolve:
      return decodeBody<Resolve>(requestId, bytes);
    case MessageType::kStatistics:
      return decodeBody<Statistics>(requestId, bytes);
    case MessageType::kCloseSession:
      return decodeBody<CloseSession>(requestId, bytes);
    case MessageType::kResume:
      return decodeBody<Resume>(requestId, bytes);
    case MessageType::kWatch:
      return decodeBody<Watch>(requestId, bytes);
    case MessageType::kUnwatch:
      return decodeBody<Unwatch>(requestId, bytes);
    case MessageType::kStatus:
      return decodeBody<StatusRequest>(requestId, bytes);
    case MessageType::kDescribe:
      return decodeBody<Describe>(requestId, bytes);
    default:
      return badValue("request type", header->type, "1 to 13");
  }
}

Result<Answer> decodeAnswer(std::span<const uint8_t> message) {
  auto header = decodeHeader(message);
  if (!header) return header.error();
  const uint64_t requestId = header->requestId;
  const std::span<const uint8_t> bytes = message.subspan(sizeof(Header));
  switch (static_cast<MessageType>(header->type)) {
    case MessageType::kWelcome:
      return decodeFixed<Welcome>(requestId, bytes);
    case MessageType::kRefused: {
      Refused body;
      auto text = decodeText(bytes, body);
      if (!text) return text.error();
      return Answer{requestId, RefusedText{static_cast<Refusal>(body.refusal), body.sysErrno, text.take()}};
    }
    case MessageType::kOpened: {
      Opened body;
      auto text = decodeText(bytes, body);
      if (!text) return text.error();
      return Answer{requestId, OpenedText{body, text.take()}};
    }
    case MessageType::kPortOpened: {
      auto answer = decodeFixed<PortOpened>(requestId, bytes);
      if (answer) {
        if (auto r = checkAddress(std::get<PortOpened>(answer->body).address); !r) return r.error();
      }
      return answer;
    }
    case MessageType::kDone:
      return decodeFixed<Done>(requestId, bytes);
    case MessageType::kStatisticsAnswer:
      return decodeFixed<StatisticsAnswer>(requestId, bytes);
    case MessageType::kStatusPart: {
      StatusPart body;
      auto text = decodeText(bytes, body);
      if (!text) return text.error();
      return Answer{requestId, StatusText{body.more != 0, text.take()}};
    }
    case MessageType::kFeed:
      return decodeFeed(bytes);
    case MessageType::kSessionLost: {
      SessionLost body;
      auto text = decodeText(bytes, body);
      if (!text) return text.error();
      return Answer{requestId, LostText{body.session, text.take()}};
    }
    case MessageType::kDescribed: {
      auto answer = decodeFixed<Described>(requestId, bytes);
      if (answer) {
        const Described& described = std::get<Described>(answer->body);
        if (auto r = checkName("interface", described.interface, false); !r) return r.error();
        if (auto r = checkName("driver", described.driver, true); !r) return r.error();
      }
      return answer;
    }
    default:
      return badValue("answer type", header->type, "100 to 109");
  }
}

Message encodeBytes(MessageType type, uint64_t requestId, std::span<const uint8_t> body, std::span<const uint8_t> tail) {
  Header header;
  header.length = static_cast<uint32_t>(sizeof(header) + body.size() + tail.size());
  header.type = static_cast<uint16_t>(type);
  header.requestId = requestId;
  Message message(header.length);
  std::memcpy(message.data(), &header, sizeof(header));
  if (!body.empty()) std::memcpy(message.data() + sizeof(header), body.data(), body.size());
  if (!tail.empty()) std::memcpy(message.data() + sizeof(header) + body.size(), tail.data(), tail.size());
  return message;
}

Message encodeRefused(uint64_t requestId, Refusal refusal, int32_t sysErrno, std::string_view text) {
  text = shortened(text);
  return encode(MessageType::kRefused, requestId, Refused{static_cast<uint32_t>(refusal), sysErrno, static_cast<uint32_t>(text.size())},
                bytesOf(text));
}

Message encodeLost(uint64_t session, std::string_view text) {
  text = shortened(text);
  return encode(MessageType::kSessionLost, 0, SessionLost{session, static_cast<uint32_t>(text.size())}, bytesOf(text));
}

Message encodeFeed(uint64_t session, std::span<const FeedEntry> entries) {
  return encode(MessageType::kFeed, 0, Feed{session, static_cast<uint32_t>(entries.size()), 0},
                {reinterpret_cast<const uint8_t*>(entries.data()), entries.size_bytes()});
}

Address addressOf(const io::SockAddr& address) {
  Address result;
  result.port = address.port();
  if (address.family() == AF_INET) {
    result.family = 4;
    std::memcpy(result.bytes, &reinterpret_cast<const sockaddr_in*>(&address.storage)->sin_addr, 4);
  } else if (address.family() == AF_INET6) {
    const auto* v6 = reinterpret_cast<const sockaddr_in6*>(&address.storage);
    result.family = 6;
    result.scope = v6->sin6_scope_id;
    std::memcpy(result.bytes, &v6->sin6_addr, 16);
  }
  return result;
}

io::SockAddr sockAddrOf(const Address& address) {
  io::SockAddr result;
  if (address.family == 4) {
    auto* v4 = reinterpret_cast<sockaddr_in*>(&result.storage);
    v4->sin_family = AF_INET;
    std::memcpy(&v4->sin_addr, address.bytes, 4);
    result.length = sizeof(*v4);
  } else {
    auto* v6 = reinterpret_cast<sockaddr_in6*>(&result.storage);
    v6->sin6_family = AF_INET6;
    v6->sin6_scope_id = address.scope;
    std::memcpy(&v6->sin6_addr, address.bytes, 16);
    result.length = sizeof(*v6);
  }
  result.setPort(address.port);
  return result;
}

bool setName(std::span<char> field, std::string_view text) {
  if (text.size() >= field.size() || !isName(text)) return false;
  std::fill(field.begin(), field.end(), '\0');
  std::copy(text.begin(), text.end(), field.begin());
  return true;
}

std::string nameOf(std::span<const char> field) { return {field.data(), ::strnlen(field.data(), field.size())}; }

}  // namespace outrigger::nicd
