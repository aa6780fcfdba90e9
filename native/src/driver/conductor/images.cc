// SPDX-License-Identifier: Apache-2.0
// Images: made when a SETUP arrives for a stream that somebody subscribes to, linked to the subscriptions, and taken back when the stream
// or its subscribers end.
#include <algorithm>

#include "driver/conductor/state.h"

namespace outrigger::driver {

using cnc::OutriggerCounter;
using cnc::SystemCounter;
namespace counter_type = cnc::counter_type;

namespace {

// How often the receiver says that it is gone: a status message may get lost as any other.
constexpr int64_t kEndMessages = 5;

}  // namespace

struct ConductorState::ImageJob {
  AgentEvent event;
  ImageParams params;
  LogSpec spec;
  FileAllocator allocator;
  UntetheredTimeouts untethered;
  std::optional<Result<CreatedLog>> log;
};

void ConductorState::refuseSetup(ReceiveChannelEndpoint* endpoint, int32_t streamId, int32_t sessionId) {
  ReceiverCommand command;
  command.type = ReceiverCommand::Type::kSetupRefused;
  command.endpoint = endpoint;
  command.streamId = streamId;
  command.sessionId = sessionId;
  sendToReceiver(command);
}

namespace {

// A SETUP comes from the network: what it says must be a stream that can be received.
const char* problemOf(const wire::SetupFrame& setup) {
  if (!logbuffer::isValidTermLength(setup.termLength)) return "its term length";
  if (!logbuffer::isValidMtu(setup.mtu) || setup.mtu > logbuffer::maxMessageLength(setup.termLength)) return "its MTU";
  if (setup.termOffset < 0 || setup.termOffset >= setup.termLength || setup.termOffset % wire::kFrameAlignment != 0) {
    return "its term offset";
  }
  if (logbuffer::termDelta(setup.activeTermId, setup.initialTermId) < 0) return "its term ids";
  return nullptr;
}

}  // namespace

void ConductorState::onCreateImage(const AgentEvent& event) {
  const wire::SetupFrame& setup = event.setup;
  const auto found = std::find_if(receiveEndpoints_.begin(), receiveEndpoints_.end(),
                                  [&](const auto& entry) { return &entry->endpoint == event.receiveEndpoint; });
  if (found == receiveEndpoints_.end()) return;
  ReceiveEndpointEntry& endpoint = **found;
  const Subscription* first = nullptr;
  for (const auto& [id, subscription] : subscriptions_) {
    if (subscription->endpoint == &endpoint && subscription->streamId == setup.streamId && subscription->matchesSession(setup.sessionId)) {
      if (first == nullptr || subscription->registrationId < first->registrationId) first = subscription.get();
    }
  }
  const bool exists = std::any_of(images_.begin(), images_.end(), [&](const auto& image) {
    return image->endpoint == &endpoint && !image->removing && image->image->params().sessionId == setup.sessionId &&
           image->image->params().streamId == setup.streamId;
  });
  if (closing_ || endpoint.removing || first == nullptr || exists) {
    return refuseSetup(event.receiveEndpoint, setup.streamId, setup.sessionId);
  }
  if (const char* problem = problemOf(setup)) {
    parts_.counters.add(OutriggerCounter::kSetupRefused, 1);
    recordError("SETUP of session " + std::to_string(setup.sessionId) + " stream " + std::to_string(setup.streamId) + " from " +
                event.address.toString() + " refused: " + problem + " is out of range");
    return refuseSetup(event.receiveEndpoint, setup.streamId, setup.sessionId);
  }

  auto job = std::make_shared<ImageJob>();
  job->event = event;
  job->allocator = parts_.allocator;
  const SubscriptionStreamParams& options = first->params;
  ImageParams& params = job->params;
  params.correlationId = toDriver_.nextCorrelationId();
  params.sessionId = setup.sessionId;
  params.streamId = setup.streamId;
  params.initialTermId = setup.initialTermId;
  params.activeTermId = setup.activeTermId;
  params.termOffset = setup.termOffset;
  params.termLength = setup.termLength;
  params.mtu = setup.mtu;
  params.windowLength = std::min(setup.termLength / 2, options.receiverWindow);
  params.reliable = options.reliable;
  params.groupSemantics = options.group == InferableBoolean::kTrue ||
                          (options.group == InferableBoolean::kInfer && (setup.header.flags & wire::kSetupFlagGroup) != 0);
  params.nakDelayNs = options.nakDelayNs;
  params.congestionControl = options.congestionControl;
  params.randomSeed = random_.next();
  job->untethered = options.untethered(defaultUntethered(config_));

  LogSpec& spec = job->spec;
  spec.path = config_.directory + "/" + cnc::kImagesDirName + "/" + std::to_string(params.correlationId) + ".logbuffer";
  spec.registrationId = params.correlationId;
  spec.sessionId = params.sessionId;
  spec.streamId = params.streamId;
  spec.initialTermId = params.initialTermId;
  spec.startTermId = params.activeTermId;
  spec.startTermOffset = params.termOffset;
  spec.termLength = params.termLength;
  spec.mtu = params.mtu;
  spec.pageSize = config_.filePageSize;
  spec.receiverWindow = params.windowLength;
  spec.socketReceiveBuffer = endpoint.receiveBufferBytes;
  spec.socketSendBuffer = endpoint.sendBufferBytes;
  spec.untetheredWindowLimitNs = job->untethered.windowLimitNs;
  spec.untetheredLingerNs = job->untethered.lingerNs;
  spec.untetheredRestingNs = job->untethered.restingNs;
  spec.group = params.groupSemantics;
  spec.rejoin = options.rejoin;
  spec.reliable = options.reliable;
  spec.sparse = options.sparse;
  spec.tether = options.tether;
  spec.type = logbuffer::LogType::kImage;
  spec.mode = config_.fileMode;

  ++pendingImages_;
  ++endpoint.endpoint.references;  // the endpoint stays until the image is decided on
  ResourceTask task;
  task.run = [job] { job->log.emplace(createLog(job->spec, job->allocator)); };
  task.complete = [this, job] {
    --pendingImages_;
    installImage(*job);
  };
  parts_.resources.submit(std::move(task));
}

void ConductorState::installImage(ImageJob& job) {
  const auto found = std::find_if(receiveEndpoints_.begin(), receiveEndpoints_.end(),
                                  [&](const auto& entry) { return &entry->endpoint == job.event.receiveEndpoint; });
  ReceiveEndpointEntry& endpoint = **found;  // referenced by the job
  const ImageParams& params = job.params;
  const auto giveUp = [&] {
    refuseSetup(&endpoint.endpoint, params.streamId, params.sessionId);
    releaseReceiveEndpoint(endpoint);
  };
  Result<CreatedLog>& log = *job.log;
  if (!log) {
    if (log.error().code == ErrorCode::kStorageSpace) {
      onStorageFull(log.error().message);
    } else {
      recordError(log.error().message);
    }
    return giveUp();
  }
  const uint64_t logLength = log->file.length();
  parts_.counters.add(SystemCounter::kBytesCurrentlyMapped, static_cast<int64_t>(logLength));
  std::vector<Subscription*> wanting;
  for (const auto& [id, subscription] : subscriptions_) {
    if (subscription->endpoint == &endpoint && subscription->streamId == params.streamId &&
        subscription->matchesSession(params.sessionId)) {
      wanting.push_back(subscription.get());
    }
  }
  const auto discard = [&] {
    retireLog(std::make_shared<MappedFile>(std::move(log->file)), job.spec.path, logLength);
    giveUp();
  };
  if (wanting.empty() || closing_) return discard();
  std::sort(wanting.begin(), wanting.end(),
            [](const Subscription* a, const Subscription* b) { return a->registrationId < b->registrationId; });

  auto entry = std::make_unique<ImageEntry>();
  entry->endpoint = &endpoint;
  entry->channel = wanting.front()->channel;
  entry->source = job.event.address.toString();
  entry->untethered = job.untethered;
  entry->logLength = logLength;
  const StreamIdentity identity{params.correlationId, params.sessionId, params.streamId, entry->channel};
  CounterFactory& factory = parts_.counterFactory;
  ImageCounters counters;
  counters.receiverHwm = factory.stream(counter_type::kReceiverHwm, "rcv-hwm", identity, 0, nowMs_);
  counters.receiverPosition = factory.stream(counter_type::kReceiverPosition, "rcv-pos", identity, 0, nowMs_);
  counters.naksSent = factory.stream(counter_type::kReceiverNaksSent, "rcv-naks-sent", identity, 0, nowMs_);
  const int64_t start = logbuffer::computePosition(params.activeTermId, params.termOffset,
                                                   logbuffer::positionBitsToShift(params.termLength), params.initialTermId);
  std::vector<PublicationImage::Subscriber> subscribers;
  if (counters.receiverHwm.valid() && counters.receiverPosition.valid() && counters.naksSent.valid()) {
    counters.receiverHwm.set(start);
    counters.receiverPosition.set(start);
    for (Subscription* subscription : wanting) {
      auto position = makePosition(*subscription, params.sessionId, start, job.untethered);
      if (!position) continue;
      entry->subscribers.push_back(*position);
      subscribers.push_back({position->counter, subscription->params.tether});
    }
  }
  if (subscribers.empty()) {
    recordError("no counters are left for an image of channel '" + entry->channel.substr(0, 160) + "': enlarge the counters buffer");
    factory.release(counters.receiverHwm, nowMs_);
    factory.release(counters.receiverPosition, nowMs_);
    factory.release(counters.naksSent, nowMs_);
    return discard();
  }
  ImageParams made = params;
  made.backedPosition = log->backedPosition;
  entry->backing = LogBacking::of(log->file.fd(), params.termLength, log->backedPosition);
  entry->image = std::make_unique<PublicationImage>(made, &endpoint.endpoint, job.event.address, std::move(log->file), job.spec.path,
                                                    counters, std::move(subscribers), config_, parts_.counters, nowNs_);
  ImageEntry& installed = *entry;
  images_.push_back(std::move(entry));
  ReceiverCommand command;
  command.type = ReceiverCommand::Type::kAddImage;
  command.endpoint = &endpoint.endpoint;
  command.image = installed.image.get();
  sendToReceiver(command);
  for (const SubscriberPosition& position : installed.subscribers) {
    responses_.availableImage(
        {params.correlationId, params.sessionId, params.streamId, position.subscription->registrationId, position.counter.id},
        installed.image->logFileName(), installed.source);
  }
  // The reference of the job is now the image's: given back when the receiver has released it.
}

void ConductorState::linkImage(ImageEntry& entry, Subscription& subscription) {
  PublicationImage& image = *entry.image;
  const ImageParams& params = image.params();
  const bool linked = std::any_of(entry.subscribers.begin(), entry.subscribers.end(),
                                  [&](const SubscriberPosition& position) { return position.subscription == &subscription; });
  if (linked) return;
  auto position = makePosition(subscription, params.sessionId, image.joinPosition(), entry.untethered);
  if (!position) return;
  entry.subscribers.push_back(*position);
  ReceiverCommand command;
  command.type = ReceiverCommand::Type::kAddSubscriber;
  command.image = &image;
  command.counter = position->counter;
  command.value = subscription.params.tether ? 1 : 0;
  sendToReceiver(command);
  responses_.availableImage({params.correlationId, params.sessionId, params.streamId, subscription.registrationId, position->counter.id},
                            image.logFileName(), entry.source);
}

void ConductorState::dropImageSubscriber(ImageEntry& entry, const Subscription& subscription) {
  const auto found = std::find_if(entry.subscribers.begin(), entry.subscribers.end(),
                                  [&](const SubscriberPosition& position) { return position.subscription == &subscription; });
  if (found == entry.subscribers.end()) return;
  if (!entry.removing) {
    ReceiverCommand command;
    command.type = ReceiverCommand::Type::kRemoveSubscriber;
    command.image = entry.image.get();
    command.counter = found->counter;
    sendToReceiver(command);
  }
  parts_.counterFactory.release(found->counter, nowMs_);
  entry.subscribers.erase(found);
  // Nobody wants it any more: the receiver says so to the sender, then announces that the image lingers.
}

void ConductorState::makeImageUnavailable(ImageEntry& entry) {
  entry.told = true;
  for (const SubscriberPosition& position : entry.subscribers) tellUnavailable(entry.image->params().correlationId, position);
  const bool unread = entry.subscribers.empty();
  entry.removeAtNs = nowNs_ + (unread ? 1 : kEndMessages) * config_.statusMessageTimeoutNs;
  entry.lingerEndNs = nowNs_ + (unread ? 0 : config_.imageLivenessTimeoutNs);
}

void ConductorState::removeImage(ImageEntry& entry) {
  entry.removing = true;
  ReceiverCommand command;
  command.type = ReceiverCommand::Type::kRemoveImage;
  command.image = entry.image.get();
  // A stream that ended is over, and one that nobody reads may be wanted again; one that fell silent must not come back from its last
  // datagrams in flight.
  const bool ended = entry.image->isEndOfStream() || entry.image->isRevoked();
  command.value = ended || entry.subscribers.empty() ? 0 : 1;
  sendToReceiver(command);
}

bool ConductorState::stepImage(ImageEntry& entry) {
  PublicationImage& image = *entry.image;
  if (!entry.told) {
    const ImageState state = image.state();
    if (state != ImageState::kLinger && state != ImageState::kDone) return false;
    makeImageUnavailable(entry);
  }
  if (!entry.removing && (nowNs_ >= entry.removeAtNs || closing_)) removeImage(entry);
  if (!entry.released || entry.backing.busy || (nowNs_ < entry.lingerEndNs && !closing_)) return false;
  const std::string path = image.logFileName();
  retireLog(std::shared_ptr<PublicationImage>(std::move(entry.image)), path, entry.logLength);
  return true;
}

ImageEntry* ConductorState::findImage(const PublicationImage* image) {
  for (const auto& entry : images_) {
    if (entry->image.get() == image) return entry.get();
  }
  return nullptr;
}

void ConductorState::onImageReleased(PublicationImage* image) {
  ImageEntry* entry = findImage(image);
  if (entry == nullptr || entry->released) return;
  entry->released = true;
  nextTransitionNs_ = nowNs_;
  for (SubscriberPosition& position : entry->subscribers) parts_.counterFactory.release(position.counter, nowMs_);
  entry->subscribers.clear();
  ImageCounters& counters = image->counters();
  parts_.counterFactory.release(counters.receiverHwm, nowMs_);
  parts_.counterFactory.release(counters.receiverPosition, nowMs_);
  parts_.counterFactory.release(counters.naksSent, nowMs_);
  releaseReceiveEndpoint(*entry->endpoint);
}

void ConductorState::onLoss(const AgentEvent& event) {
  ImageEntry* entry = findImage(event.image);
  if (entry == nullptr) return;
  if (entry->lossOffset >= 0) return parts_.lossReport.update(entry->lossOffset, event.value, nowMs_);
  const ImageParams& params = entry->image->params();
  entry->lossOffset = parts_.lossReport.create(event.value, nowMs_, params.sessionId, params.streamId, entry->channel, entry->source);
}

void ConductorState::onRejectImage(const ClientCommand& command) {
  for (const auto& entry : images_) {
    if (entry->told || entry->image->params().correlationId != command.registrationId) continue;
    entry->image->setRejectReason(command.text.substr(0, wire::kMaxErrorTextLength));
    ReceiverCommand out;
    out.type = ReceiverCommand::Type::kRejectImage;
    out.image = entry->image.get();
    out.value = static_cast<int64_t>(ErrorCode::kImageRejected);
    sendToReceiver(out);
    return responses_.operationSucceeded(command.correlationId);
  }
  for (const auto& entry : ipcs_) {
    if (entry->state == StreamState::kActive && entry->publication->params().registrationId == command.registrationId) {
      return rejectIpc(*entry, command);
    }
  }
  refuse(command.correlationId,
         makeError(ErrorCode::kGeneric, "unable to resolve image for correlationId=" + std::to_string(command.registrationId)));
}

}  // namespace outrigger::driver
