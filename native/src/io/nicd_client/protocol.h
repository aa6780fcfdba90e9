// SPDX-License-Identifier: Apache-2.0
// What a driver and outrigger-nicd say to each other over a UNIX SOCK_SEQPACKET socket: one message a packet, descriptors beside it
// (SCM_RIGHTS). Layouts, limits and validation; no socket is touched here. All fields little-endian, structs have no padding.
//
// A conversation: Hello, answered by Welcome or Refused; then requests, each answered once, by its requestId, in the order in which they
// came; Watch and Unwatch only when they are refused. Between answers nicd sends Feed and SessionLost messages, with requestId 0. What can't be decoded ends the connection.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>
#include <vector>

#include "base/result.h"
#include "io/datagram_io.h"

namespace outrigger::nicd {

static_assert(std::endian::native == std::endian::little, "messages are little-endian; this host is not supported");

// Versions that this build speaks. A change of any struct is a new version; nicd answers the highest that both know.
// Before the first release version 1 may still change: no other build speaks it yet.
constexpr uint16_t kMinVersion = 1;
constexpr uint16_t kMaxVersion = 1;

constexpr size_t kMaxMessageLength = 8192;  // of any message: two pages, far below what a UNIX socket takes whole
constexpr size_t kMaxDescriptors = 2;       // beside one message
constexpr size_t kInterfaceNameLength = 16;
constexpr size_t kClaimNameLength = 64;
constexpr size_t kTokenLength = 32;
constexpr size_t kMaxTextLength = 1024;

enum class MessageType : uint16_t {
  // Driver to nicd.
  kHello = 1,
  kOpenXdp = 2,
  kOpenPacket = 3,
  kOpenPort = 4,
  kClosePort = 5,
  kResolve = 6,
  kStatistics = 7,
  kCloseSession = 8,
  kResume = 9,
  kWatch = 10,
  kUnwatch = 11,
  kStatus = 12,
  kDescribe = 13,
  // nicd to driver.
  kWelcome = 100,
  kRefused = 101,
  kOpened = 102,
  kPortOpened = 103,
  kDone = 104,
  kStatisticsAnswer = 105,
  kStatusPart = 106,
  kFeed = 107,
  kSessionLost = 108,
  kDescribed = 109,
};

enum class Refusal : uint32_t {
  kSystem = 1,        // a system call failed: sysErrno
  kMalformed = 2,     // the message, or a value in it; the connection ends
  kVersion = 3,       // no common version
  kNotAllowed = 4,    // uid, claim, interface, address or port
  kLimit = 5,         // of this client, or of all
  kBusy = 6,          // the queue, port or XDP slot belongs to another
  kUnknown = 7,       // no such session, interface or claim
  kUnsupported = 8,   // this nicd, kernel or device can't
  kOutOfTurn = 9,     // a request before Hello, Hello twice
  kUnavailable = 10,  // interface down or gone
};

#pragma pack(push, 1)

struct Header {
  uint32_t length = 0;  // of the whole message
  uint16_t type = 0;
  uint16_t reserved = 0;
  uint64_t requestId = 0;
};
static_assert(sizeof(Header) == 16);

// IPv6, or IPv4 in the first four bytes; network order. Port in host order.
struct Address {
  uint8_t bytes[16] = {};
  uint16_t family = 0;  // 4 or 6; 0: none
  uint16_t port = 0;
  uint32_t scope = 0;  // of an IPv6 link-local address

  bool operator==(const Address& other) const = default;
};
static_assert(sizeof(Address) == 24);

struct Hello {
  uint16_t minVersion = kMinVersion;
  uint16_t maxVersion = kMaxVersion;
  uint32_t reserved = 0;
  char claim[kClaimNameLength] = {};  // empty: none
  uint8_t token[kTokenLength] = {};   // the claim's secret
  char name[kClaimNameLength] = {};   // for the log
};
static_assert(sizeof(Hello) == 168);

// What is the interface like? Asked before memory is laid out for it.
struct Describe {
  char interface[kInterfaceNameLength] = {};  // empty: the claim's, or the only one that may be opened
};
static_assert(sizeof(Describe) == 16);

// In order of preference, best first.
enum class XdpMode : uint32_t { kAuto = 0, kZeroCopy = 1, kNativeCopy = 2, kGeneric = 3 };

constexpr uint32_t kXdpNeedWakeup = 1;   // XDP_USE_NEED_WAKEUP
constexpr uint32_t kXdpMultiBuffer = 2;  // XDP_USE_SG, with a program that takes frames of several buffers
constexpr uint32_t kXdpBusyPoll =
    4;                             // SO_PREFER_BUSY_POLL and its budget, which need CAP_NET_ADMIN; not in the answer where it can't be had
constexpr uint32_t kXdpFlags = 7;  // all
constexpr uint32_t kMaxRingEntries = 1 << 16;

// Beside it: one memfd, sealed against shrinking and growing, fully allocated. For a further queue over the same memory: the socket of an
// earlier session of the same client instead, and its number in sharedSession; mode and flags are then that one's.
struct OpenXdp {
  char interface[kInterfaceNameLength] = {};
  uint32_t queue = 0;
  uint32_t mode = 0;           // XdpMode
  uint64_t umemLength = 0;     // bytes, a multiple of chunkLength; the length of the memfd
  uint64_t sharedSession = 0;  // 0: none
  uint32_t chunkLength = 0;    // 2048 or 4096
  uint32_t headroom = 0;       // bytes before each received frame, beside the kernel's own
  uint32_t fillEntries = 0;    // rings: powers of two
  uint32_t completionEntries = 0;
  uint32_t receiveEntries = 0;
  uint32_t transmitEntries = 0;
  uint32_t flags = 0;
  uint32_t txMetadataLength = 0;  // before each frame to send; 0: none
};
static_assert(sizeof(OpenXdp) == 72);

enum class PacketRole : uint32_t {
  kReceiveSlots = 1,   // TPACKET_V2
  kReceiveBlocks = 2,  // TPACKET_V3
  kTransmit = 3,
};

constexpr uint32_t kPacketVnetHeader = 1;  // PACKET_VNET_HDR
constexpr uint32_t kPacketFlags = 1;

// An AF_PACKET socket with its ring, bound to the interface. A receiving one has a filter that lets steered ports through, one that sends a
// filter that lets nothing through; both are locked. The ring is as the driver says, who maps it.
struct OpenPacket {
  char interface[kInterfaceNameLength] = {};
  uint32_t role = 0;  // PacketRole
  uint32_t flags = 0;
  uint32_t slotLength = 0;   // bytes, a multiple of 16
  uint32_t blockLength = 0;  // bytes, a multiple of 4096
  uint32_t blocks = 0;
  uint32_t reserved = 0;
};
static_assert(sizeof(OpenPacket) == 40);
constexpr uint32_t kMaxPacketRing = 1u << 30;  // bytes

// Binds a UDP socket to the address in the NIC's namespace and steers what comes to it into the session. Port 0: any free one. With the
// socket of a port that the client has already (from another session) beside it, that one goes on being used and none comes back.
struct OpenPort {
  uint64_t session = 0;
  Address address;
  int32_t receiveBufferBytes = 0;  // of the UDP socket, 0: the system's default
  uint32_t reserved = 0;
};
static_assert(sizeof(OpenPort) == 40);

struct ClosePort {
  uint64_t session = 0;
  Address address;
};
static_assert(sizeof(ClosePort) == 32);

// Asks the kernel to find a neighbour's hardware address; the answer comes by the feed.
struct Resolve {
  uint64_t session = 0;
  Address address;
};
static_assert(sizeof(Resolve) == 32);

// How would a datagram leave? Answered by a Feed entry now and whenever the answer changes, until Unwatch. The same cell
// again: another question.
struct Watch {
  uint64_t session = 0;
  uint32_t cell = 0;    // the client's number for it, below kMaxCells
  uint32_t number = 0;  // of the question: comes back with each answer
  Address destination;  // port 0
  Address source;       // family 0: the route's choice
};
static_assert(sizeof(Watch) == 64);
constexpr uint32_t kMaxCells = 4096;

struct Unwatch {
  uint64_t session = 0;
  uint32_t cell = 0;
  uint32_t reserved = 0;
};
static_assert(sizeof(Unwatch) == 16);

struct SessionRequest {
  uint64_t session = 0;
};
static_assert(sizeof(SessionRequest) == 8);

// After a reconnect. Beside it: the session's socket, so that it can be entered into a map that was lost with nicd.
struct Resume {
  uint64_t session = 0;
  uint8_t token[kTokenLength] = {};
};
static_assert(sizeof(Resume) == 40);

struct Welcome {
  uint16_t version = 0;
  uint16_t reserved = 0;
  uint32_t leaseMs = 0;   // how long sessions outlive their connection
  uint64_t instance = 0;  // differs after a restart
  uint64_t maxUmemBytes = 0;
  uint32_t maxSessions = 0;
  uint32_t maxPorts = 0;  // of a session
};
static_assert(sizeof(Welcome) == 32);

// Followed by textLength bytes of UTF-8: a whole sentence.
struct Refused {
  uint32_t refusal = 0;  // Refusal
  int32_t sysErrno = 0;
  uint32_t textLength = 0;
};
static_assert(sizeof(Refused) == 12);

constexpr uint32_t kFeatureHardware = 1;         // stands on a bus: frames come from outside of this kernel
constexpr uint32_t kFeatureUdpSegmentation = 2;  // tx-udp-segmentation
constexpr uint32_t kFeatureChecksum = 4;         // a request for a checksum in the transmit metadata costs less than to compute it

constexpr uint32_t kFeatureZeroCopy = 8;  // the device's driver may bind with zero-copy
constexpr uint32_t kFeaturePacket = 16;   // this client may have AF_PACKET sockets

struct Described {
  char interface[kInterfaceNameLength] = {};
  char driver[32] = {};
  uint32_t interfaceIndex = 0;
  uint32_t mtu = 0;
  uint32_t queues = 0;
  uint32_t features = 0;
  uint8_t mac[6] = {};
  uint16_t up = 0;  // bool
  char reserved[8] = {};
  uint8_t queueMask[32] = {};  // bit by receive queue: that the client may open
};
static_assert(sizeof(Described) == 112);
constexpr uint32_t kDescribedQueues = 256;

// Followed by textLength bytes: why nothing better. Beside it: the socket (XSK or packet).
struct Opened {
  uint64_t session = 0;
  uint8_t token[kTokenLength] = {};  // proves the session in Resume
  uint32_t interfaceIndex = 0;
  uint32_t mtu = 0;
  uint8_t mac[6] = {};
  uint16_t up = 0;      // bool
  uint32_t mode = 0;    // XdpMode; of a packet session 0
  uint32_t flags = 0;   // of the request, as granted
  uint32_t queues = 0;  // receive queues of the interface
  uint32_t textLength = 0;
};
static_assert(sizeof(Opened) == 72);

// Beside it: the UDP socket, unless the request brought one.
struct PortOpened {
  Address address;  // with the real port
};
static_assert(sizeof(PortOpened) == 24);

struct StatisticsAnswer {
  uint64_t steered = 0;       // of the interface: frames handed to queues' sockets
  uint64_t leftToKernel = 0;  // of the interface: for a steered port, but only the kernel can take them apart (a train in one piece)
  uint64_t passed = 0;        // of the interface: what was the kernel's otherwise
  uint64_t feedResyncs = 0;   // of the connection: times that the feed was sent anew since its reader was slow
};
static_assert(sizeof(StatisticsAnswer) == 32);

enum class StatusFormat : uint32_t { kJson = 0, kText = 1 };

struct StatusRequest {
  uint32_t format = 0;  // StatusFormat
  uint32_t reserved = 0;
};
static_assert(sizeof(StatusRequest) == 8);

// Followed by textLength bytes; the last part has `more` zero.
struct StatusPart {
  uint32_t more = 0;
  uint32_t textLength = 0;
};
static_assert(sizeof(StatusPart) == 8);

enum class FeedKind : uint8_t {
  kLink = 1,       // of the session's interface
  kAddresses = 2,  // the local addresses follow: forget those of before
  kAddress = 3,
  kRoute = 4,  // the answer to a Watch: route and neighbour
};

constexpr uint8_t kFeedUp = 1;    // link: administratively up and with carrier
constexpr uint8_t kFeedGone = 2;  // link: removed, or its program is detached
constexpr uint8_t kFeedLast = 4;  // address: that was the last one; kAddresses has it when there are none

// As net::RouteState and net::NeighbourState.
enum class FeedRoute : uint8_t { kUnknown = 0, kForward = 1, kLocal = 2, kUnreachable = 3 };
enum class FeedNeighbour : uint8_t { kMissing = 0, kUsable = 1, kStale = 2 };

// One entry of the feed; which fields count depends on the kind.
struct FeedEntry {
  uint8_t kind = 0;  // FeedKind
  uint8_t flags = 0;
  uint8_t route = 0;      // FeedRoute
  uint8_t neighbour = 0;  // FeedNeighbour
  uint32_t cell = 0;      // route
  uint32_t number = 0;    // route: of the question
  uint32_t interfaceIndex = 0;
  uint32_t mtu = 0;          // link, route
  uint8_t mac[6] = {};       // link; route: of the next hop
  uint8_t prefixLength = 0;  // address
  uint8_t reserved = 0;
  Address address;  // address; route: the source to send from
  Address nextHop;  // route
};
static_assert(sizeof(FeedEntry) == 76);

// Followed by `count` entries.
struct Feed {
  uint64_t session = 0;
  uint32_t count = 0;
  uint32_t reserved = 0;
};
static_assert(sizeof(Feed) == 16);
constexpr size_t kMaxFeedEntries = (kMaxMessageLength - sizeof(Header) - sizeof(Feed)) / sizeof(FeedEntry);

// Followed by textLength bytes: what happened. The session is no more.
struct SessionLost {
  uint64_t session = 0;
  uint32_t textLength = 0;
};
static_assert(sizeof(SessionLost) == 12);

#pragma pack(pop)

// --- requests, as nicd reads them ---

struct CloseSession : SessionRequest {};
struct Statistics : SessionRequest {};

using RequestBody = std::variant<Hello, OpenXdp, OpenPacket, OpenPort, ClosePort, Resolve, Statistics, CloseSession, Resume, Watch, Unwatch,
                                 StatusRequest, Describe>;

struct Request {
  uint64_t requestId = 0;
  RequestBody body;
};

// Whether so many descriptors may come with a request.
bool mayCarry(const RequestBody& request, size_t descriptors);

// Checks everything that the message alone can show: lengths, reserved fields, names, ranges. The error says which value is wrong.
// `requestId` is set as soon as the header holds, also when the rest does not.
Result<Request> decodeRequest(std::span<const uint8_t> message, uint64_t& requestId);

// --- answers, as a driver reads them ---

struct RefusedText {
  Refusal refusal = Refusal::kSystem;
  int32_t sysErrno = 0;
  std::string text;
};
struct OpenedText {
  Opened opened;
  std::string reason;
};
struct StatusText {
  bool more = false;
  std::string text;
};
struct FeedEntries {
  uint64_t session = 0;
  std::vector<FeedEntry> entries;
};
struct LostText {
  uint64_t session = 0;
  std::string text;
};
struct Done {};

using AnswerBody =
    std::variant<Welcome, RefusedText, OpenedText, PortOpened, Done, StatisticsAnswer, StatusText, FeedEntries, LostText, Described>;

struct Answer {
  uint64_t requestId = 0;
  AnswerBody body;
};

Result<Answer> decodeAnswer(std::span<const uint8_t> message);

// --- writing ---

using Message = std::vector<uint8_t>;

// A whole message: header, a fixed body, bytes after it.
Message encodeBytes(MessageType type, uint64_t requestId, std::span<const uint8_t> body, std::span<const uint8_t> tail = {});

template <typename Body>
Message encode(MessageType type, uint64_t requestId, const Body& body, std::span<const uint8_t> tail = {}) {
  static_assert(std::is_trivially_copyable_v<Body>);
  return encodeBytes(type, requestId, {reinterpret_cast<const uint8_t*>(&body), sizeof(Body)}, tail);
}
Message encodeRefused(uint64_t requestId, Refusal refusal, int32_t sysErrno, std::string_view text);
Message encodeLost(uint64_t session, std::string_view text);
Message encodeFeed(uint64_t session, std::span<const FeedEntry> entries);

// --- values ---

Address addressOf(const io::SockAddr& address);
io::SockAddr sockAddrOf(const Address& address);
// Empty when the text with its end does not fit `size` bytes or is not a name of an interface, claim or client.
bool setName(std::span<char> field, std::string_view text);
std::string nameOf(std::span<const char> field);

}  // namespace outrigger::nicd
