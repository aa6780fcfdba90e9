// SPDX-License-Identifier: Apache-2.0
// A publication that goes over the network: what the sender does with its log (contract between conductor and sender).
// Threads are marked at each member; `shared` ones are atomics.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/fd.h"
#include "driver/agent_messages.h"
#include "driver/driver_config.h"
#include "driver/driver_counters.h"
#include "driver/endpoints.h"
#include "driver/flow_control.h"
#include "logbuffer/descriptor.h"

namespace outrigger::driver {

struct NetworkPublicationParams {
  int64_t registrationId = 0;
  int32_t sessionId = 0;
  int32_t streamId = 0;
  int32_t initialTermId = 0;
  int32_t startTermId = 0;  // term-id= / term-offset= of the URI, else initialTermId / 0
  int32_t startTermOffset = 0;
  int32_t termLength = 0;
  int32_t mtu = 0;
  int32_t ttl = 0;
  int32_t windowLength = 0;  // publication window, bytes
  bool exclusive = false;
  bool signalEos = true;
  bool spiesSimulateConnection = false;
  bool groupSemantics = false;  // MDC or multicast: the SETUP carries the GROUP flag
  int64_t lingerNs = 0;
  int32_t maxResend = 16;
  int64_t backedPosition = 0;  // memory exists up to here
};

struct PublicationCounters {
  cnc::Counter publisherLimit;        // written by the sender
  cnc::Counter publisherPosition;     // written by the conductor
  cnc::Counter senderPosition;        // sender
  cnc::Counter senderLimit;           // sender
  cnc::Counter senderBackPressure;    // sender
  cnc::Counter naksReceived;          // sender
  cnc::Counter flowControlReceivers;  // sender; min and tagged only, else invalid
};

class RetransmitHandler;
struct SenderContext;

class NetworkPublication {
 public:
  NetworkPublication(const NetworkPublicationParams& params, SendChannelEndpoint* endpoint, MappedFile logFile, std::string logFileName,
                     const PublicationCounters& counters, std::unique_ptr<FlowControl> flowControl, const DriverConfig& config,
                     const DriverCounters& driverCounters);
  ~NetworkPublication();

  const NetworkPublicationParams& params() const { return params_; }
  SendChannelEndpoint* endpoint() const { return endpoint_; }
  const logbuffer::LogBuffer& log() const { return log_; }
  const std::string& logFileName() const { return logFileName_; }
  PublicationCounters& counters() { return counters_; }

  // --- shared ---
  // Sender sets it, conductor and log metadata show it: a receiver was heard from within the connection timeout (or a spy simulates one).
  bool isConnected() const { return connected_.load(std::memory_order_acquire); }
  bool hasSpies() const { return spyCount_.load(std::memory_order_acquire) > 0; }
  int64_t senderPosition() const { return counters_.senderPosition.get(); }
  // Everything offered was sent and read by the spies, as far as the sender has seen.
  bool isDrained() const;
  // Time the last retransmission or SM was handled, for the linger.
  int64_t lastActivityNs() const { return lastActivityNs_.load(std::memory_order_relaxed); }
  // The only receiver of a unicast stream said EOS: no linger needed.
  bool receiverSaidEos() const { return receiverSaidEos_.load(std::memory_order_acquire); }

  // --- conductor ---
  // All clients have closed: mark end of stream in the log; the sender then sends EOS heartbeats.
  void signalEndOfStream(bool revoke);
  bool isEndOfStream() const { return endOfStream_.load(std::memory_order_acquire); }
  int64_t producerPosition() const { return log_.producerPosition(params_.initialTermId); }
  // Claims of dead publishers: true when a frame was unblocked. Call on the timer.
  bool checkForBlockedPublisher(int64_t nowNs);

  // --- sender --- (implemented with the Sender; see network_publication.cc)
  // Sends setup, data, heartbeat, retransmissions; moves positions and limits; returns bytes sent.
  int32_t send(SenderContext& context, int64_t nowNs);
  void onStatusMessage(SenderContext& context, const uint8_t* frame, size_t length, const io::SockAddr& source, int64_t nowNs);
  void onNak(SenderContext& context, const wire::NakFrame& nak, int64_t nowNs);
  void onRttMeasurement(SenderContext& context, const wire::RttMeasurementFrame& frame, const io::SockAddr& source, int64_t nowNs);
  void onError(SenderContext& context, const uint8_t* frame, size_t length, const io::SockAddr& source, int64_t nowNs);
  void addSpy(const cnc::Counter& position);
  void removeSpy(const cnc::Counter& position);
  void onTermBacked(int64_t position);
  // The publisher limit moved since the last call: publishers that wait may go on.
  bool takeLimitMoved();
  int64_t nextDeadlineNs(int64_t nowNs) const;
  void elicitSetup();
  // The endpoint's destinations changed: a half-sent train starts over, a receiver drops what it has already.
  void onDestinationsChanged();

 private:
  int64_t minSpyPosition(int64_t otherwise) const;
  int32_t sendSetup(SenderContext& context, int64_t nowNs);
  int64_t heartbeatDueNs(int64_t nowNs) const;
  int32_t sendHeartbeat(SenderContext& context, int64_t nowNs);
  int32_t sendData(SenderContext& context, int64_t nowNs);
  int32_t sendControl(SenderContext& context, const uint8_t* frame, uint32_t length);
  // Returns the position up to which the repair went out, `begin` when nothing did.
  int64_t retransmit(SenderContext& context, int64_t begin, int64_t end);
  void stampRepair(SenderContext& context, uint8_t* frames, int32_t length) const;
  void setSenderLimit(int64_t limit);
  void askForMemory(SenderContext& context, int64_t limit, int64_t nowNs);
  void requestRtt(SenderContext& context, int64_t nowNs);
  void updateConnection(int64_t nowNs);
  void updateLimits(SenderContext& context, int64_t nowNs);
  void reportDamage(SenderContext& context);
  void reportTooLong(SenderContext& context, const io::TxItem& item);
  NetworkPublicationParams params_;
  SendChannelEndpoint* endpoint_;
  MappedFile logFile_;
  std::string logFileName_;
  logbuffer::LogBuffer log_;
  PublicationCounters counters_;
  std::unique_ptr<FlowControl> flowControl_;
  std::unique_ptr<RetransmitHandler> retransmit_;
  const DriverConfig& config_;
  const DriverCounters& driverCounters_;

  std::atomic<bool> connected_{false};
  std::atomic<int32_t> spyCount_{0};
  std::atomic<bool> endOfStream_{false};
  std::atomic<bool> revoked_{false};
  std::atomic<bool> receiverSaidEos_{false};
  std::atomic<int64_t> lastActivityNs_{0};
  std::atomic<int64_t> consumedPosition_{0};  // min of the sender and its spies, written by the sender

  // Conductor only.
  int64_t lastConsumerPosition_ = 0;
  int64_t lastProgressNs_ = 0;

  // Sender only.
  struct SenderState;
  std::unique_ptr<SenderState> state_;
};

}  // namespace outrigger::driver
