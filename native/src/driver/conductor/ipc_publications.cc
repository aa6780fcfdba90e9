// SPDX-License-Identifier: Apache-2.0
// IPC publications: made, linked to clients and subscriptions, drained, removed.
#include <algorithm>

#include "driver/conductor/state.h"

namespace outrigger::driver {

using cnc::OutriggerCounter;
using cnc::SystemCounter;
namespace counter_type = cnc::counter_type;

ConductorState::LaneStep ConductorState::addIpcPublication(const std::shared_ptr<PendingAdd>& add, ClientSession& session) {
  const ClientCommand& command = add->command;
  const bool exclusive = command.type == cnc::Command::kAddExclusivePublication;
  const auto fail = [&](const Error& error) {
    refuse(command.correlationId, error);
    return LaneStep::kFinished;
  };
  auto uri = net::ChannelUri::parse(command.channel);
  if (!uri) return fail(uri.error());
  auto parsed = parsePublicationParams(*uri, command.streamId, config_);
  if (!parsed) return fail(parsed.error());
  PublicationStreamParams stream = parsed.take();
  if (!exclusive) {
    for (const auto& entry : ipcs_) {
      const IpcPublicationParams& params = entry->publication->params();
      if (entry->state != StreamState::kActive || params.exclusive || params.streamId != command.streamId) continue;
      // Several concurrent publications of a stream may live side by side when each names its session.
      if (stream.sessionId && *stream.sessionId != params.sessionId) continue;
      if (auto same = confirmSameStream(*uri, stream, entry->stream, params.sessionId); !same) return fail(same.error());
      linkPublication(session, command.correlationId, *entry);
      return LaneStep::kFinished;
    }
  }
  auto sessionId = chooseSessionId(stream, command.streamId, nullptr, true);
  if (!sessionId) return fail(sessionId.error());
  fillPosition(stream);
  struct Job {
    LogSpec spec;
    FileAllocator allocator;
    std::optional<Result<CreatedLog>> log;
  };
  auto job = std::make_shared<Job>();
  job->spec = logSpecOf(stream, command, *sessionId);
  job->allocator = parts_.allocator;
  ResourceTask task;
  task.run = [job] { job->log.emplace(createLog(job->spec, job->allocator)); };
  task.complete = [this, add, job, stream] {
    laneBusy_ = false;
    const ClientCommand& asked = add->command;
    ClientSession* owner = findSession(asked.clientId);
    Result<CreatedLog>& log = *job->log;
    if (!log) {
      if (log.error().code == ErrorCode::kStorageSpace) parts_.counters.add(OutriggerCounter::kStorageWaits, 1);
      if (owner != nullptr) refuse(asked.correlationId, log.error());
      return finishAdd(add);
    }
    const uint64_t logLength = log->file.length();
    parts_.counters.add(SystemCounter::kBytesCurrentlyMapped, static_cast<int64_t>(logLength));
    IpcPublicationParams params;
    params.registrationId = asked.correlationId;
    params.sessionId = job->spec.sessionId;
    params.streamId = asked.streamId;
    params.initialTermId = stream.initialTermId;
    params.startTermId = stream.termId;
    params.startTermOffset = stream.termOffset;
    params.termLength = stream.termLength;
    params.windowLength = stream.windowLength;
    params.exclusive = asked.type == cnc::Command::kAddExclusivePublication;
    params.backedPosition = log->backedPosition;
    const StreamIdentity identity{params.registrationId, params.sessionId, params.streamId, asked.channel};
    CounterFactory& factory = parts_.counterFactory;
    cnc::Counter position;
    cnc::Counter limit;
    if (owner != nullptr) {
      position = factory.stream(counter_type::kPublisherPosition, params.exclusive ? "pub-pos (exclusive)" : "pub-pos (concurrent)",
                                identity, asked.clientId, nowMs_);
      limit = factory.stream(counter_type::kPublisherLimit, "pub-lmt", identity, asked.clientId, nowMs_);
    }
    if (!position.valid() || !limit.valid()) {
      factory.release(position, nowMs_);
      factory.release(limit, nowMs_);
      retireLog(std::make_shared<MappedFile>(std::move(log->file)), job->spec.path, logLength);
      if (owner != nullptr) {
        refuse(asked.correlationId, makeError(ErrorCode::kResourceTemporarilyUnavailable,
                                              "no counters are left for an IPC publication: enlarge the counters buffer of the driver"));
      }
      return finishAdd(add);
    }
    auto entry = std::make_unique<IpcEntry>();
    entry->stream = stream;
    entry->channel = asked.channel;
    entry->backing = LogBacking::of(log->file.fd(), stream.termLength, log->backedPosition);
    entry->publication = std::make_unique<IpcPublication>(params, std::move(log->file), job->spec.path, limit, position);
    IpcEntry& installed = *entry;
    ipcs_.push_back(std::move(entry));
    linkPublication(*owner, asked.correlationId, installed);
    for (const auto& [id, subscription] : subscriptions_) {
      if (subscription->kind == SubscriptionKind::kIpc) linkIpc(installed, *subscription);
    }
    finishAdd(add);
  };
  parts_.resources.submit(std::move(task));
  return LaneStep::kTaskRunning;
}

void ConductorState::linkPublication(ClientSession& session, int64_t correlationId, IpcEntry& entry) {
  ++entry.references;
  session.publications.push_back({correlationId, nullptr, &entry});
  const IpcPublicationParams& params = entry.publication->params();
  PublicationReadyFields ready;
  ready.correlationId = correlationId;
  ready.registrationId = params.registrationId;
  ready.sessionId = params.sessionId;
  ready.streamId = params.streamId;
  ready.positionLimitCounterId = entry.publication->publisherLimit().id;
  ready.exclusive = params.exclusive;
  responses_.publicationReady(ready, entry.publication->logFileName());
}

bool ConductorState::stepIpcPublication(IpcEntry& entry) {
  if (entry.cooldownEndNs != 0 && nowNs_ >= entry.cooldownEndNs) {
    entry.cooldownEndNs = 0;
    for (const auto& [id, subscription] : subscriptions_) {
      if (subscription->kind == SubscriptionKind::kIpc) linkIpc(entry, *subscription);
    }
  }
  switch (entry.state) {
    case StreamState::kActive:
      return false;
    case StreamState::kDraining:
      if (!entry.revoked && !entry.publication->isDrained()) {
        if (entry.publication->unblockNow()) parts_.counters.add(SystemCounter::kUnblockedPublications, 1);
        return false;
      }
      unlinkIpc(entry);
      entry.state = StreamState::kLinger;
      [[fallthrough]];
    case StreamState::kLinger:
    case StreamState::kRemoving:
    case StreamState::kReleased:
      break;
  }
  if (entry.references > 0 || entry.backing.busy) return false;
  parts_.counterFactory.release(entry.publication->publisherPosition(), nowMs_);
  parts_.counterFactory.release(entry.publication->publisherLimit(), nowMs_);
  const std::string path = entry.publication->logFileName();
  const uint64_t logLength = entry.publication->logFileLength();
  retireLog(std::shared_ptr<IpcPublication>(std::move(entry.publication)), path, logLength);
  return true;
}

void ConductorState::rejectIpc(IpcEntry& entry, const ClientCommand& command) {
  parts_.counters.add(SystemCounter::kImagesRejected, 1);
  const IpcPublicationParams& params = entry.publication->params();
  PublicationErrorFields fields;
  fields.registrationId = params.registrationId;
  fields.sessionId = params.sessionId;
  fields.streamId = params.streamId;
  fields.source = *io::SockAddr::parseNumeric("127.0.0.1", 0);
  fields.errorCode = static_cast<int32_t>(ErrorCode::kImageRejected);
  responses_.publicationError(fields, command.text);
  unlinkIpc(entry);
  entry.cooldownEndNs = nowNs_ + config_.imageLivenessTimeoutNs;
  responses_.operationSucceeded(command.correlationId);
}

}  // namespace outrigger::driver
