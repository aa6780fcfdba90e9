// SPDX-License-Identifier: Apache-2.0
// The conductor's duty cycle: commands in, agents' events, timers, and what it sends to other agents.
#include <algorithm>

#include "driver/conductor/state.h"

namespace outrigger::driver {

using cnc::OutriggerCounter;
using cnc::SystemCounter;

namespace {

// 1.0.0, composed as Aeron does; a client reads it to learn which commands it may send.
constexpr int64_t kControlProtocolVersion = 1 << 16;
constexpr int32_t kCommandsPerCycle = 64;
constexpr int32_t kEventsPerCycle = 256;
constexpr int32_t kAnswersPerCycle = 64;
// How often streams that are ending (draining, lingering) are looked at: nobody rings when the last byte is consumed.
constexpr int64_t kTransitionIntervalNs = 20 * kMilliNs;
// How soon a command is offered again to an agent whose ring was full.
constexpr int64_t kOfferAgainNs = kMilliNs;

}  // namespace

ConductorState::ConductorState(ConductorParts parts, int64_t nowNs, int64_t nowMs)
    : parts_(std::move(parts)),
      config_(parts_.config),
      toDriver_(parts_.cnc.toDriver),
      responses_(parts_.cnc.toClients),
      senderIo_(&parts_.senderIo),
      receiverIo_(&parts_.receiverIo),
      names_("or-names", [bells = &parts_.doorbells] { bells->ringAgent(cnc::AgentId::kConductor); }),
      backends_("or-backends", [bells = &parts_.doorbells] { bells->ringAgent(cnc::AgentId::kConductor); }),
      random_(config_.randomSeed ^ 0xC0D0C702ULL),
      nowNs_(nowNs),
      nowMs_(nowMs),
      nextTimerNs_(nowNs + config_.timerIntervalNs),
      lastRingProgressNs_(nowNs),
      nextSessionId_(static_cast<int32_t>(random_.next())) {
  names_.useThread(config_.threadingMode != ThreadingMode::kInvoker);
  backends_.useThread(config_.threadingMode != ThreadingMode::kInvoker);
  nextBetterNs_ = nowNs + config_.backendRetryNs;
  lastRingHead_ = toDriver_.consumerPosition();
  toDriver_.consumerHeartbeatMs(nowMs);
  parts_.counters[SystemCounter::kControlProtocolVersion].set(kControlProtocolVersion);
  // At once: no client may find the driver without the policy that is there.
  if (hasPolicy()) onPolicyRead(readPolicyFile(config_.policyFile, config_.policyOwner, *policyText_));
}

ConductorState::~ConductorState() {
  names_.stop();
  backends_.stop();
}

int32_t ConductorState::doWork(int64_t nowNs, int64_t nowMs) {
  nowNs_ = nowNs;
  nowMs_ = nowMs;
  int32_t work = 0;
  flushToAgents();
  if (!closing_) work += readCommands();
  work += pollEvents(parts_.fromSender);
  work += pollEvents(parts_.fromReceiver);
  work += names_.pollAnswers(kAnswersPerCycle);
  work += parts_.resources.pollAnswers(kAnswersPerCycle);
  work += backends_.pollAnswers(kAnswersPerCycle);
  work += stepBackend();
  work += stepLane();
  for (const auto& ipc : ipcs_) {
    if (ipc->state != StreamState::kActive) continue;
    if (ipc->publication->updateLimit()) {
      limitMoved_ = true;
      ++work;
    }
    wantMemory(ipc->backing, ipc->publication->wantedMemory());
    stepBacking(*ipc);
  }
  if (nowNs >= nextTimerNs_) {
    nextTimerNs_ = nowNs + config_.timerIntervalNs;
    onTimer();
    ++work;
  }
  if (nowNs >= nextTransitionNs_) {
    nextTransitionNs_ = nowNs + kTransitionIntervalNs;
    work += onTransitions();
  }
  flushToAgents();
  if (std::exchange(senderRung_, false)) parts_.doorbells.ringAgent(cnc::AgentId::kSender);
  if (std::exchange(receiverRung_, false)) parts_.doorbells.ringAgent(cnc::AgentId::kReceiver);
  const bool sent = responses_.takeSent();
  if (std::exchange(limitMoved_, false) || sent) {
    const int32_t rung = parts_.doorbells.ringClients();
    if (rung > 0) parts_.counters.add(OutriggerCounter::kDoorbellsRung, rung);
  }
  return work;
}

int64_t ConductorState::nextDeadlineNs(int64_t nowNs) const {
  int64_t deadline = std::min(nextTimerNs_, nowNs + kSecondNs);
  if (inTransition()) deadline = std::min(deadline, nextTransitionNs_);
  if (!toSender_.empty() || !toReceiver_.empty() || !lane_.empty() || !parts_.resources.idle() || !names_.idle() || !backends_.idle()) {
    deadline = std::min(deadline, nowNs + kOfferAgainNs);
  }
  if (parts_.backends != nullptr && !alwaysHealthy_) deadline = std::min(deadline, nextHealthNs_);
  return std::max(deadline, nowNs);
}

int32_t ConductorState::readCommands() {
  int64_t corrupted = 0;
  const int32_t count = toDriver_.read([this](int32_t type, const uint8_t* message, int32_t length) { onMessage(type, message, length); },
                                       kCommandsPerCycle, corrupted);
  if (corrupted > 0) {
    parts_.counters.add(OutriggerCounter::kCommandsRejected, corrupted);
    recordError("the command ring held a record of impossible length: what was in it is lost");
  }
  return count;
}

int32_t ConductorState::pollEvents(SpscRing<AgentEvent>& ring) {
  // Each cycle comes here, and an event is long.
  if (ring.empty()) return 0;
  int32_t count = 0;
  AgentEvent event;
  while (count < kEventsPerCycle && ring.poll(event)) {
    event.text[sizeof(event.text) - 1] = '\0';
    onEvent(event);
    ++count;
  }
  return count;
}

void ConductorState::onEvent(const AgentEvent& event) {
  switch (event.type) {
    case AgentEvent::Type::kEndpointReleased:
      if (event.sendEndpoint != nullptr) {
        if (SendEndpointEntry* entry = entryOf(event.sendEndpoint)) {
          entry->released = true;
          destroySendEndpoint(*entry);
        }
      } else {
        const auto found = std::find_if(receiveEndpoints_.begin(), receiveEndpoints_.end(),
                                        [&](const auto& entry) { return &entry->endpoint == event.receiveEndpoint; });
        if (found != receiveEndpoints_.end()) {
          (*found)->released = true;
          destroyReceiveEndpoint(**found);
        }
      }
      break;
    case AgentEvent::Type::kPublicationReleased:
      onPublicationReleased(event.publication);
      break;
    case AgentEvent::Type::kDestinationReleased:
      onDestinationReleased(event);
      break;
    case AgentEvent::Type::kImageReleased:
      onImageReleased(event.image);
      break;
    case AgentEvent::Type::kResolveDestination:
      onResolveDestination(event);
      break;
    case AgentEvent::Type::kDestinationExpired:
      onDestinationExpired(event);
      break;
    case AgentEvent::Type::kCreateImage:
      onCreateImage(event);
      break;
    case AgentEvent::Type::kBackTerm:
      onBackTerm(event);
      break;
    case AgentEvent::Type::kPublicationError:
      onPublicationError(event);
      break;
    case AgentEvent::Type::kLossObserved:
      onLoss(event);
      break;
    case AgentEvent::Type::kError:
      recordError(event.text);
      break;
    case AgentEvent::Type::kBackendSwitched:
      onBackendSwitched();
      break;
    case AgentEvent::Type::kSourcesReleased:
      onSourcesReleased(event.sources);
      break;
    case AgentEvent::Type::kSourceRefused:
      onSourceRefused(event);
      break;
    case AgentEvent::Type::kImageStateChanged:
      nextTransitionNs_ = nowNs_;
      break;
  }
}

void ConductorState::onTimer() {
  if (!closing_) {
    toDriver_.consumerHeartbeatMs(nowMs_);
    checkSessions();
  }
  // A client that died between claiming ring space and filling it.
  const int64_t head = toDriver_.consumerPosition();
  if (head != lastRingHead_ || head == toDriver_.producerPosition()) {
    lastRingHead_ = head;
    lastRingProgressNs_ = nowNs_;
  } else if (nowNs_ - lastRingProgressNs_ > config_.clientLivenessTimeoutNs) {
    lastRingProgressNs_ = nowNs_;
    if (toDriver_.unblock()) parts_.counters.add(SystemCounter::kUnblockedCommands, 1);
  }
  for (const auto& entry : networks_) {
    if (entry->state == StreamState::kActive) entry->publication->checkForBlockedPublisher(nowNs_);
  }
  for (const auto& entry : ipcs_) {
    if (entry->state == StreamState::kActive && entry->publication->checkForBlockedPublisher(nowNs_, config_.publicationUnblockTimeoutNs)) {
      parts_.counters.add(SystemCounter::kUnblockedPublications, 1);
    }
  }
  checkUntethered();
  checkNames();
  lookAtPolicy();
}

bool ConductorState::inTransition() const {
  const auto ending = [](const auto& entry) {
    return entry->state != StreamState::kActive || entry->backing.wantedPosition > entry->backing.backedPosition;
  };
  return std::any_of(networks_.begin(), networks_.end(), ending) || std::any_of(ipcs_.begin(), ipcs_.end(), ending) ||
         std::any_of(images_.begin(), images_.end(), [](const auto& entry) {
           return entry->told || entry->image->state() != ImageState::kActive ||
                  entry->backing.wantedPosition > entry->backing.backedPosition;
         });
}

int32_t ConductorState::onTransitions() {
  int32_t work = 0;
  const auto stepAll = [&](auto& entries, auto step) {
    for (size_t i = 0; i < entries.size();) {
      stepBacking(*entries[i]);
      if (step(*entries[i])) {
        // Gone: the last one takes its place.
        std::swap(entries[i], entries.back());
        entries.pop_back();
        ++work;
      } else {
        ++i;
      }
    }
  };
  stepAll(networks_, [this](NetworkEntry& entry) { return stepNetworkPublication(entry); });
  stepAll(ipcs_, [this](IpcEntry& entry) { return stepIpcPublication(entry); });
  stepAll(images_, [this](ImageEntry& entry) { return stepImage(entry); });
  return work;
}

void ConductorState::sendToSender(const SenderCommand& command) {
  senderRung_ = true;
  if (toSender_.empty() && parts_.toSender.offer(command)) return;
  if (toSender_.empty()) parts_.counters.add(SystemCounter::kSenderProxyFails, 1);
  toSender_.push_back(command);
}

void ConductorState::sendToReceiver(const ReceiverCommand& command) {
  receiverRung_ = true;
  if (toReceiver_.empty() && parts_.toReceiver.offer(command)) return;
  if (toReceiver_.empty()) parts_.counters.add(SystemCounter::kReceiverProxyFails, 1);
  toReceiver_.push_back(command);
}

void ConductorState::flushToAgents() {
  while (!toSender_.empty() && parts_.toSender.offer(toSender_.front())) {
    toSender_.pop_front();
    senderRung_ = true;
  }
  while (!toReceiver_.empty() && parts_.toReceiver.offer(toReceiver_.front())) {
    toReceiver_.pop_front();
    receiverRung_ = true;
  }
}

void ConductorState::recordError(const std::string& text) {
  parts_.counters.add(SystemCounter::kErrors, 1);
  parts_.errorLog.record(text, nowMs_);
}

void ConductorState::refuse(int64_t correlationId, const Error& error) {
  // With CHANNEL_ENDPOINT_ERROR Aeron's clients take the id for that of a channel status counter, and the command would wait for its
  // time-out. Its drivers answer a socket that does not open with a generic error, too.
  const ErrorCode code = error.code == ErrorCode::kChannelEndpointError ? ErrorCode::kGeneric : error.code;
  responses_.error(correlationId, code, error.message);
  recordError(error.message);
}

void ConductorState::close(int64_t nowNs) {
  if (closing_) return;
  closing_ = true;
  nowNs_ = nowNs;
  while (!sessions_.empty()) endSession(*sessions_.begin()->second, false);
  while (!subscriptions_.empty()) removeSubscription(*subscriptions_.begin()->second);
  lane_.clear();
  policyWaiting_.clear();
  policyWaitingNext_.clear();
  pending_.clear();
  endSwitchNow();
  flushToAgents();
  nextTransitionNs_ = nowNs;
}

bool ConductorState::closed() const {
  return closing_ && networks_.empty() && ipcs_.empty() && images_.empty() && sendEndpoints_.empty() && receiveEndpoints_.empty() &&
         !laneBusy_ && !moving() && parts_.resources.idle() && names_.idle() && backends_.idle() && toSender_.empty() &&
         toReceiver_.empty();
}

// ---- the contract's face ----

Conductor::Conductor(ConductorParts parts, int64_t nowNs, int64_t nowMs)
    : state_(std::make_unique<State>(std::move(parts), nowNs, nowMs)) {}
Conductor::~Conductor() = default;
int32_t Conductor::doWork(int64_t nowNs, int64_t nowMs) { return state_->doWork(nowNs, nowMs); }
int64_t Conductor::nextDeadlineNs(int64_t nowNs) const { return state_->nextDeadlineNs(nowNs); }
bool Conductor::terminationRequested() const { return state_->terminationRequested(); }
void Conductor::close(int64_t nowNs) { state_->close(nowNs); }
bool Conductor::closed() const { return state_->closed(); }

}  // namespace outrigger::driver
