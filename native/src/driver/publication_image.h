// SPDX-License-Identifier: Apache-2.0
// An image: the local copy of a remote publication's stream (contract between conductor and receiver).
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/fd.h"
#include "driver/agent_messages.h"
#include "driver/driver_config.h"
#include "driver/driver_counters.h"
#include "driver/endpoints.h"
#include "logbuffer/descriptor.h"
#include "logbuffer/frame_stamps.h"

namespace outrigger::driver {

enum class ImageState : uint8_t {
  kActive,
  kDraining,  // no packets for the liveness timeout, end of stream, or nobody subscribes: subscribers read what is there
  kLinger,    // drained: the conductor tells clients that it is unavailable, then waits out the linger
  kDone,
};

struct ImageParams {
  int64_t correlationId = 0;  // registration id, log file name
  int32_t sessionId = 0;
  int32_t streamId = 0;
  int32_t initialTermId = 0;
  int32_t activeTermId = 0;  // of the SETUP: where the image starts
  int32_t termOffset = 0;
  int32_t termLength = 0;
  int32_t mtu = 0;
  int32_t windowLength = 0;  // receiver window, bytes, already limited to term/2
  bool reliable = true;
  bool groupSemantics = false;  // NAK back-off as a member of a group
  int64_t nakDelayNs = -1;      // nak-delay=, -1 = driver default
  CongestionControlKind congestionControl = CongestionControlKind::kStatic;
  int64_t backedPosition = 0;
  uint64_t randomSeed = 0;
};

struct ImageCounters {
  cnc::Counter receiverHwm;       // receiver
  cnc::Counter receiverPosition;  // receiver
  cnc::Counter naksSent;          // receiver
};

struct ReceiverContext;

class PublicationImage {
 public:
  struct Subscriber {
    cnc::Counter position;
    bool tethered = true;
  };

  PublicationImage(const ImageParams& params, ReceiveChannelEndpoint* endpoint, const io::SockAddr& source, MappedFile logFile,
                   std::string logFileName, const ImageCounters& counters, std::vector<Subscriber> subscribers, const DriverConfig& config,
                   const DriverCounters& driverCounters, int64_t nowNs);
  ~PublicationImage();

  const ImageParams& params() const { return params_; }
  ReceiveChannelEndpoint* endpoint() const { return endpoint_; }
  const logbuffer::LogBuffer& log() const { return log_; }
  const std::string& logFileName() const { return logFileName_; }
  const io::SockAddr& source() const { return source_; }
  ImageCounters& counters() { return counters_; }

  // --- shared ---
  ImageState state() const { return state_.load(std::memory_order_acquire); }
  void setState(ImageState state) { state_.store(state, std::memory_order_release); }
  int64_t lastPacketNs() const { return lastPacketNs_.load(std::memory_order_relaxed); }
  bool isEndOfStream() const { return endOfStream_.load(std::memory_order_acquire); }  // EOS seen: log meta end_of_stream_position is set
  bool isRevoked() const { return revoked_.load(std::memory_order_acquire); }
  int64_t rebuildPosition() const { return counters_.receiverPosition.get(); }
  int64_t endOfStreamPosition() const { return log_.getAcquire<int64_t>(logbuffer::meta::kEndOfStreamPosition); }
  // Position a subscriber that joins now starts from: the lowest position that is still whole in the log for it.
  int64_t joinPosition() const { return joinPosition_.load(std::memory_order_acquire); }

  // --- conductor ---
  void setRejectReason(std::string reason) { rejectReason_ = std::move(reason); }  // before ReceiverCommand::kRejectImage

  // --- receiver --- (see publication_image.cc)
  // A validated DATA datagram, or a run of contiguous ones (`length` bytes, cut every segmentLength), and the times to write into its messages;
  // returns bytes taken.
  int32_t onData(ReceiverContext& context, const uint8_t* data, uint32_t length, uint32_t segmentLength, const io::SockAddr& source,
                 std::span<const logbuffer::FrameStamp> stamps, int64_t nowNs);
  void onRttMeasurement(ReceiverContext& context, const wire::RttMeasurementFrame& frame, const io::SockAddr& source, int64_t nowNs);
  // Once a duty cycle: rebuild position, window, status messages, loss, NAKs, RTT measurement. Returns work count.
  int32_t doWork(ReceiverContext& context, int64_t nowNs);
  void addSubscriber(const cnc::Counter& position, bool tethered);
  void removeSubscriber(const cnc::Counter& position);
  void onTermBacked(int64_t position);
  void reject(ReceiverContext& context, int64_t nowNs);
  void onSetup(const wire::SetupFrame& setup, const io::SockAddr& source, int64_t nowNs);  // a repeated SETUP while active
  // Whether a subscription still wants this stream and session. An image that nobody wants drains; one whose subscribers merely rest goes on.
  void setInterest(bool interested);
  bool hasSubscribers() const { return !subscribers_.empty(); }
  // Frames became readable, or the stream ended, since the last call: clients that wait have work.
  bool takeAdvanced();
  // When doWork must run again even if no packet comes.
  int64_t nextDeadlineNs(int64_t nowNs) const;

 private:
  int64_t consumedPosition() const;
  int32_t onHeartbeat(ReceiverContext& context, const uint8_t* data, int64_t nowNs);
  bool openGap(int64_t end, int64_t nowNs);
  void insertFresh(int64_t position, int64_t end, const uint8_t* run, int32_t length, std::span<const logbuffer::FrameStamp> stamps);
  void insertLate(int64_t position, const uint8_t* run, int32_t length, std::span<const logbuffer::FrameStamp> stamps, int64_t nowNs);
  void updatePositions();
  void enter(ReceiverContext& context, ImageState state, int64_t nowNs);
  int32_t recoverLoss(ReceiverContext& context, int64_t nowNs);
  bool isBeyondRepair(ReceiverContext& context, int64_t nowNs);
  void reportLoss(ReceiverContext& context, int64_t nowNs);
  int32_t askForMemory(ReceiverContext& context, int64_t windowEnd, int64_t nowNs);
  int32_t requestRtt(ReceiverContext& context, int64_t nowNs);
  int32_t sendStatusMessage(ReceiverContext& context, int64_t position, int32_t window, uint8_t flags, int64_t nowNs);
  bool sendNak(ReceiverContext& context, int64_t begin, int64_t end);
  int32_t sendRejection(ReceiverContext& context, int64_t nowNs);
  bool sendControl(ReceiverContext& context, const uint8_t* frame, uint32_t length, const io::SockAddr& destination);
  int32_t work(ReceiverContext& context, int64_t nowNs);
  int32_t windDown(ReceiverContext& context, int64_t nowNs);
  int64_t rttDueNs(int64_t nowNs) const;

  ImageParams params_;
  ReceiveChannelEndpoint* endpoint_;
  io::SockAddr source_;
  MappedFile logFile_;
  std::string logFileName_;
  logbuffer::LogBuffer log_;
  ImageCounters counters_;
  const DriverConfig& config_;
  const DriverCounters& driverCounters_;
  std::string rejectReason_;

  std::atomic<ImageState> state_{ImageState::kActive};
  std::atomic<int64_t> lastPacketNs_{0};
  std::atomic<bool> endOfStream_{false};
  std::atomic<bool> revoked_{false};
  std::atomic<int64_t> joinPosition_{0};

  // Receiver only.
  std::vector<Subscriber> subscribers_;
  struct ReceiverState;
  std::unique_ptr<ReceiverState> receiver_;
};

}  // namespace outrigger::driver
