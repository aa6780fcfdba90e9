// SPDX-License-Identifier: Apache-2.0
// What the conductor does with a network publication: end of stream, drain, unblocking. The sender's half is in
// publication_sending.cc and publication_repairs.cc.
#include "driver/network_publication.h"

#include "driver/publication_sender_state.h"
#include "logbuffer/term_ops.h"

namespace outrigger::driver {

using logbuffer::computePosition;
namespace meta = logbuffer::meta;

NetworkPublication::NetworkPublication(const NetworkPublicationParams& params, SendChannelEndpoint* endpoint, MappedFile logFile,
                                       std::string logFileName, const PublicationCounters& counters,
                                       std::unique_ptr<FlowControl> flowControl, const DriverConfig& config,
                                       const DriverCounters& driverCounters)
    : params_(params),
      endpoint_(endpoint),
      logFile_(std::move(logFile)),
      logFileName_(std::move(logFileName)),
      log_(logFile_.data(), params.termLength, logFile_.length()),
      counters_(counters),
      flowControl_(std::move(flowControl)),
      retransmit_(std::make_unique<RetransmitHandler>(config.retransmitUnicastLingerNs)),
      config_(config),
      driverCounters_(driverCounters),
      state_(std::make_unique<SenderState>()) {
  const int64_t start = computePosition(params.startTermId, params.startTermOffset, log_.bits(), params.initialTermId);
  state_->startPosition = start;
  state_->senderPosition = start;
  state_->senderLimit = start;
  state_->publisherLimit = start;
  state_->backedPosition = params.backedPosition;
  state_->requestedPosition = params.backedPosition;
  // A fresh log is zero everywhere: all three terms from the start term on may be written once.
  const int64_t termBegin = start - params.startTermOffset;
  state_->cleanedTo = termBegin + 3 * static_cast<int64_t>(params.termLength);
  state_->spies.reserve(SenderState::kExpectedSpies);
  counters_.senderPosition.set(start);
  counters_.senderLimit.set(start);
  counters_.publisherLimit.set(start);
  counters_.publisherPosition.set(start);
  consumedPosition_.store(start, std::memory_order_relaxed);
  lastConsumerPosition_ = start;
}

NetworkPublication::~NetworkPublication() = default;

bool NetworkPublication::isDrained() const {
  return consumedPosition_.load(std::memory_order_acquire) >= log_.producerPosition(params_.initialTermId);
}

void NetworkPublication::signalEndOfStream(bool revoke) {
  const int64_t position = producerPosition();
  log_.putRelease<int64_t>(meta::kEndOfStreamPosition, position);
  if (revoke) {
    log_.putRelease<uint8_t>(meta::kIsPublicationRevoked, 1);
    revoked_.store(true, std::memory_order_release);
  }
  endOfStream_.store(true, std::memory_order_release);
}

bool NetworkPublication::checkForBlockedPublisher(int64_t nowNs) {
  const int64_t producer = producerPosition();
  const int64_t consumer = counters_.senderPosition.get();
  counters_.publisherPosition.set(producer);
  // A claim blocks when bytes are claimed beyond the consumer, the consumer stands still, and its limit would let it go on.
  const bool stuck = producer > consumer && consumer == lastConsumerPosition_ && counters_.senderLimit.get() > consumer;
  if (!stuck) {
    lastConsumerPosition_ = consumer;
    lastProgressNs_ = nowNs;
    return false;
  }
  if (lastProgressNs_ == 0) lastProgressNs_ = nowNs;
  if (nowNs - lastProgressNs_ <= config_.publicationUnblockTimeoutNs) return false;
  lastProgressNs_ = nowNs;
  if (!logbuffer::unblockLog(log_, consumer, params_.initialTermId)) return false;
  driverCounters_.add(cnc::SystemCounter::kUnblockedPublications, 1);
  return true;
}

}  // namespace outrigger::driver
