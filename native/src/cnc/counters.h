// SPDX-License-Identifier: Apache-2.0
// Counters of cnc.dat: values (128 bytes each) and metadata (512 bytes each) in Aeron's layout; allocation by the conductor, reading by
// anyone. Type ids and system counter ids are Aeron's, so that its tools read ours.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/shared_memory.h"
#include "cnc/cnc_file.h"

namespace outrigger::cnc {

constexpr size_t kCounterValueLength = 128;
constexpr size_t kCounterMetadataLength = 512;
constexpr size_t kMaxCounterKeyLength = 112;
constexpr size_t kMaxCounterLabelLength = 380;
constexpr int32_t kNullCounterId = -1;

namespace counter_value {
constexpr size_t kValue = 0;
constexpr size_t kRegistrationId = 8;
constexpr size_t kOwnerId = 16;
constexpr size_t kReferenceId = 24;
}  // namespace counter_value
namespace counter_meta {
constexpr size_t kState = 0;
constexpr size_t kTypeId = 4;
constexpr size_t kFreeForReuseDeadlineMs = 8;
constexpr size_t kKey = 16;
constexpr size_t kLabelLength = 128;
constexpr size_t kLabel = 132;
}  // namespace counter_meta

constexpr int32_t kCounterUnused = 0;
constexpr int32_t kCounterAllocated = 1;
constexpr int32_t kCounterReclaimed = -1;
constexpr int64_t kCounterReuseDelayMs = 1000;  // readers of a freed counter get this long to notice

namespace counter_type {
constexpr int32_t kSystem = 0;
constexpr int32_t kPublisherLimit = 1;
constexpr int32_t kSenderPosition = 2;
constexpr int32_t kReceiverHwm = 3;
constexpr int32_t kSubscriberPosition = 4;
constexpr int32_t kReceiverPosition = 5;
constexpr int32_t kSendChannelStatus = 6;
constexpr int32_t kReceiveChannelStatus = 7;
constexpr int32_t kSenderLimit = 9;
constexpr int32_t kPerImage = 10;
constexpr int32_t kClientHeartbeat = 11;
constexpr int32_t kPublisherPosition = 12;
constexpr int32_t kSenderBackPressure = 13;
constexpr int32_t kLocalSockaddr = 14;
constexpr int32_t kFlowControlReceivers = 17;
constexpr int32_t kMdcDestinations = 18;
constexpr int32_t kSenderNaksReceived = 19;
constexpr int32_t kReceiverNaksSent = 20;
// Ours, far above every range that Aeron uses.
constexpr int32_t kOutriggerBase = 40000;
constexpr int32_t kOutriggerSystem = kOutriggerBase;  // driver-wide counters Aeron has no id for; key: int32 OutriggerCounter
constexpr int32_t kOutriggerBackendInfo = kOutriggerBase + 1;
constexpr int32_t kOutriggerNetwork = kOutriggerBase + 2;  // what raw backends count, label "outrigger network: <name>"; key: int32
// One for each manual destination, under its registration id: when it last sent a status message, on the driver's monotonic clock; 0: never.
constexpr int32_t kOutriggerDestination = kOutriggerBase + 3;
}  // namespace counter_type

// Channel status values of kSendChannelStatus / kReceiveChannelStatus.
constexpr int64_t kChannelStatusInitializing = 0;
constexpr int64_t kChannelStatusErrored = -1;
constexpr int64_t kChannelStatusActive = 1;
constexpr int64_t kChannelStatusClosing = 2;

enum class SystemCounter : int32_t {
  kBytesSent = 0,
  kBytesReceived,
  kReceiverProxyFails,
  kSenderProxyFails,
  kConductorProxyFails,
  kNaksSent,
  kNaksReceived,
  kStatusMessagesSent,
  kStatusMessagesReceived,
  kHeartbeatsSent,
  kHeartbeatsReceived,
  kRetransmitsSent,
  kFlowControlUnderRuns,
  kFlowControlOverRuns,
  kInvalidPackets,
  kErrors,
  kShortSends,
  kFreeFails,
  kSenderFlowControlLimits,
  kUnblockedPublications,
  kUnblockedCommands,
  kPossibleTtlAsymmetry,
  kControllableIdleStrategy,
  kLossGapFills,
  kClientTimeouts,
  kResolutionChanges,
  kConductorMaxCycleTime,
  kConductorCycleTimeThresholdExceeded,
  kSenderMaxCycleTime,
  kSenderCycleTimeThresholdExceeded,
  kReceiverMaxCycleTime,
  kReceiverCycleTimeThresholdExceeded,
  kNameResolverMaxTime,
  kNameResolverTimeThresholdExceeded,
  kAeronVersion,
  kBytesCurrentlyMapped,
  kRetransmittedBytes,
  kRetransmitOverflow,
  kErrorFramesReceived,
  kErrorFramesSent,
  kPublicationsRevoked,
  kPublicationImagesRevoked,
  kImagesRejected,
  kControlProtocolVersion,
  kStatusMessagesRejected,
  kNativeResourceAgentFails,
  kCount,
};

// Driver-wide counters of ours (type kOutriggerSystem), one a kind of drop or event that Aeron does not count.
enum class OutriggerCounter : int32_t {
  kReceiveQueueDrops = 0,  // datagrams the kernel dropped for want of socket buffer (SO_RXQ_OVFL)
  kSendErrors,             // datagrams lost to an error of the send call
  kSegmentationFallbacks,  // trains sent datagram by datagram after the kernel refused them
  kUnknownStreamDrops,     // datagrams for a stream nobody subscribes to
  kSetupRefused,           // SETUP whose term length or MTU cannot be received
  kDatagramsSent,
  kDatagramsReceived,
  kSendCalls,              // transmit system calls: datagrams / calls shows what segmentation offload buys
  kNaksSuppressed,         // NAKs not sent because the repair budget of the RTT was used up
  kRetransmitsSuppressed,  // NAKs answered by a retransmission that is still under way
  kStorageWaits,           // times a term could not be backed with memory (volume full)
  kCommandsRejected,       // malformed or unknown client commands
  kDoorbellsRung,          // sleeping clients woken
  kImpairedDrops,          // datagrams dropped on purpose by the impair layer
  kBackendChanges,         // moves of all streams to another network backend
  kSourcesRefused,         // SETUPs and data of streams without image, from addresses that the policy does not list as publishers
  kCommandsForbidden,      // client commands that the policy does not allow
  kCount,
};

struct Counter {
  int32_t id = kNullCounterId;
  int64_t* value = nullptr;

  int64_t get() const { return loadAcquire<int64_t>(value); }
  int64_t getRelaxed() const { return loadRelaxed<int64_t>(value); }
  void set(int64_t v) const { storeRelease<int64_t>(value, v); }
  // Single writer increment: cheaper than a locked add, and every counter has one writing agent.
  void add(int64_t delta) const { storeRelease<int64_t>(value, loadRelaxed<int64_t>(value) + delta); }
  void addAtomic(int64_t delta) const { fetchAdd<int64_t>(value, delta); }
  void proposeMax(int64_t v) const {
    if (v > loadRelaxed<int64_t>(value)) storeRelease<int64_t>(value, v);
  }
  bool valid() const { return value != nullptr; }
};

struct CounterSnapshot {
  int32_t id = 0;
  int32_t typeId = 0;
  int64_t value = 0;
  int64_t registrationId = 0;
  int64_t ownerId = 0;
  int64_t referenceId = 0;
  std::vector<uint8_t> key;
  std::string label;
};

// Conductor only.
class CountersManager {
 public:
  CountersManager() = default;
  CountersManager(Region metadata, Region values) : metadata_(metadata), values_(values) {}

  int32_t capacity() const { return static_cast<int32_t>(values_.length / kCounterValueLength); }
  // Invalid Counter when none is free. The key is cut to 112 bytes, the label to 380.
  Counter allocate(int32_t typeId, std::string_view key, std::string_view label, int64_t nowMs, int64_t registrationId = 0,
                   int64_t ownerId = 0, int64_t referenceId = 0);
  void release(int32_t id, int64_t nowMs);
  void setReferenceId(int32_t id, int64_t referenceId);
  void setRegistrationId(int32_t id, int64_t registrationId);
  void setOwnerId(int32_t id, int64_t ownerId);
  Counter at(int32_t id) const;  // invalid when out of range
  int32_t typeOf(int32_t id) const;
  bool isAllocated(int32_t id) const;
  int64_t registrationIdOf(int32_t id) const;               // 0 when out of range
  int32_t highWaterMark() const { return highWaterMark_; }  // ids from here on were never given out

 private:
  uint8_t* meta(int32_t id) const { return metadata_.data + static_cast<size_t>(id) * kCounterMetadataLength; }
  uint8_t* value(int32_t id) const { return values_.data + static_cast<size_t>(id) * kCounterValueLength; }

  Region metadata_;
  Region values_;
  int32_t highWaterMark_ = 0;
  std::vector<int32_t> free_;
};

// Any process. Reads fields once and bounds every length: the metadata may be hostile.
std::vector<CounterSnapshot> readCounters(const CncRegions& regions);

}  // namespace outrigger::cnc
