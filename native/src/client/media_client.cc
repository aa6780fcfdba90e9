// SPDX-License-Identifier: Apache-2.0
// MediaClient: connecting, commands, waiting, closing. What the driver answers is handled in media_client_conductor.cc.
#include "client/media_client.h"

#include <linux/futex.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>

#include "base/clock.h"

namespace outrigger::client {
namespace {

constexpr size_t kMaxChannelLength = 4095;
constexpr int64_t kPauseNs = 50'000;

void ignoreSigpipeIfDefault() {
  struct sigaction current {};
  if (::sigaction(SIGPIPE, nullptr, &current) == 0 && (current.sa_flags & SA_SIGINFO) == 0 && current.sa_handler == SIG_DFL) {
    ::signal(SIGPIPE, SIG_IGN);
  }
}

void pause(int64_t ns) {
  const timespec duration{0, static_cast<long>(ns)};
  ::nanosleep(&duration, nullptr);
}

}  // namespace

MediaClient::MediaClient(MediaClientOptions options, std::shared_ptr<DriverMemory> memory)
    : options_(std::move(options)),
      memory_(std::move(memory)),
      commands_(memory_),
      responses_(memory_->regions().toClients),
      scratch_(memory_->regions().toClients.length / 8) {
  if (memory_->bells().valid()) slot_ = memory_->bells().claimSlot(commands_.clientId());
}

Result<std::unique_ptr<MediaClient>> MediaClient::connect(MediaClientOptions options, int64_t nowNs, int64_t nowMs) {
  auto memory = DriverMemory::open(options.directory, options.useDoorbells);
  if (!memory) return memory.error();
  const int64_t heartbeatMs = cnc::MpscRing((*memory)->regions().toDriver).consumerHeartbeatMs();
  if (heartbeatMs <= 0 || nowMs - heartbeatMs > options.driverTimeoutNs / 1'000'000 || (*memory)->driverHungUp()) {
    return makeError(ErrorCode::kResourceTemporarilyUnavailable,
                     "the driver of '" + options.directory + "' does not run: " +
                         (heartbeatMs <= 0 ? std::string("it has no heartbeat")
                                           : "its last heartbeat is " + std::to_string(nowMs - heartbeatMs) + " ms old") +
                         "; start it, or name its directory with AERON_DIR");
  }
  if (options.ignoreSigpipe) ignoreSigpipeIfDefault();
  std::unique_ptr<MediaClient> client(new MediaClient(std::move(options), memory.take()));
  // The driver knows a client, and makes its heartbeat counter, from the first command on.
  if (!client->commands_.keepalive()) {
    return makeError(ErrorCode::kResourceTemporarilyUnavailable, "the command ring of '" + client->options_.directory + "' is full");
  }
  client->nextKeepaliveNs_ = nowNs;
  return client;
}

Result<std::unique_ptr<MediaClient>> MediaClient::connectWithin(const MediaClientOptions& options, int64_t timeoutNs) {
  SystemClock clock;
  const int64_t deadlineNs = clock.nanoTime() + timeoutNs;
  for (;;) {
    auto client = connect(options, clock.nanoTime(), clock.epochMillis());
    if (client || clock.nanoTime() >= deadlineNs) return client;
    pause(10 * kPauseNs);
  }
}

MediaClient::~MediaClient() { close(); }

std::string MediaClient::lostReason() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return lostReason_;
}

void MediaClient::start() {
  if (thread_.joinable()) return;
  thread_ = std::thread([this] {
    SystemClock clock;
    while (!stop_.load(std::memory_order_acquire)) {
      // Plain sleeping, not the doorbell: the slot belongs to the thread that polls messages.
      if (doWork(clock.nanoTime(), clock.epochMillis()) == 0) pause(20 * kPauseNs);
    }
  });
}

void MediaClient::close() {
  stop_.store(true, std::memory_order_release);
  if (thread_.joinable()) thread_.join();
  const std::lock_guard<std::mutex> step(stepMutex_);
  if (closed_.exchange(true, std::memory_order_acq_rel)) return;
  if (!isDriverLost()) commands_.close();
  closeEverything(ImageEndReason::kClosed, CommandStatus::Failure::kClosed, "the client was closed", nullptr);
  if (slot_ >= 0) memory_->bells().releaseSlot(slot_);
}

// ---- commands ----

void MediaClient::fail(Pending& pending, CommandStatus::Failure failure, ErrorCode code, std::string message) {
  pending.status.state = CommandStatus::State::kFailed;
  pending.status.failure = failure;
  pending.status.error = makeError(code, std::move(message));
}

template <typename Issue>
int64_t MediaClient::issue(Pending pending, Issue&& send) {
  const int64_t correlationId = commands_.nextCorrelationId();
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (isDriverLost()) {
      fail(pending, CommandStatus::Failure::kDriverLost, ErrorCode::kResourceTemporarilyUnavailable,
           "the driver of '" + options_.directory + "' is lost: " + lostReason_);
    } else if (isClosed()) {
      fail(pending, CommandStatus::Failure::kClosed, ErrorCode::kGeneric, "the client was closed");
    }
    pending_[correlationId] = std::move(pending);
    if (pending_[correlationId].status.done()) return correlationId;
  }
  if (!send(correlationId)) {
    const std::lock_guard<std::mutex> lock(mutex_);
    fail(pending_[correlationId], CommandStatus::Failure::kDriverLost, ErrorCode::kResourceTemporarilyUnavailable,
         "the command ring of '" + options_.directory + "' is full; the driver does not keep up");
  }
  return correlationId;
}

int64_t MediaClient::add(Kind kind, std::string_view channel, int32_t streamId, ImageHandler onAvailable, ImageHandler onUnavailable) {
  Pending pending;
  pending.kind = kind;
  pending.channel = std::string(channel);
  pending.streamId = streamId;
  pending.onAvailable = std::move(onAvailable);
  pending.onUnavailable = std::move(onUnavailable);
  if (channel.size() > kMaxChannelLength) {
    fail(pending, CommandStatus::Failure::kInvalid, ErrorCode::kInvalidChannel,
         "channel of " + std::to_string(channel.size()) + " bytes; at most " + std::to_string(kMaxChannelLength) + " are allowed");
  }
  const bool invalid = pending.status.done();
  return issue(std::move(pending), [&](int64_t correlationId) {
    if (invalid) return true;
    if (kind == Kind::kSubscription) return commands_.addSubscription(correlationId, channel, streamId);
    return commands_.addPublication(correlationId, channel, streamId, kind == Kind::kExclusivePublication);
  });
}

int64_t MediaClient::addSubscription(std::string_view channel, int32_t streamId, ImageHandler onAvailable, ImageHandler onUnavailable) {
  return add(Kind::kSubscription, channel, streamId, std::move(onAvailable), std::move(onUnavailable));
}

int64_t MediaClient::destination(cnc::Command command, bool closed, int64_t registrationId, std::string_view channel) {
  Pending pending;
  pending.channel = std::string(channel);
  if (closed) {
    fail(pending, CommandStatus::Failure::kClosed, ErrorCode::kGeneric, "the publication or subscription was closed");
  } else if (channel.size() > kMaxChannelLength) {
    fail(pending, CommandStatus::Failure::kInvalid, ErrorCode::kInvalidChannel,
         "destination of " + std::to_string(channel.size()) + " bytes; at most " + std::to_string(kMaxChannelLength) + " are allowed");
  }
  const bool invalid = pending.status.done();
  return issue(std::move(pending),
               [&](int64_t correlationId) { return invalid || commands_.destination(command, correlationId, registrationId, channel); });
}

int64_t MediaClient::addDestination(const PublicationBase& publication, std::string_view channel) {
  return destination(cnc::Command::kAddDestination, publication.isClosed(), publication.registrationId(), channel);
}
int64_t MediaClient::removeDestination(const PublicationBase& publication, std::string_view channel) {
  return destination(cnc::Command::kRemoveDestination, publication.isClosed(), publication.registrationId(), channel);
}
int64_t MediaClient::removeDestination(const PublicationBase& publication, int64_t destinationId) {
  return issue(Pending{}, [&](int64_t correlationId) {
    return commands_.removeDestinationById(correlationId, publication.registrationId(), destinationId);
  });
}
int64_t MediaClient::addDestination(const Subscription& subscription, std::string_view channel) {
  return destination(cnc::Command::kAddRcvDestination, subscription.isClosed(), subscription.registrationId(), channel);
}
int64_t MediaClient::removeDestination(const Subscription& subscription, std::string_view channel) {
  return destination(cnc::Command::kRemoveRcvDestination, subscription.isClosed(), subscription.registrationId(), channel);
}

int64_t MediaClient::addCounter(int32_t typeId, std::string_view key, std::string_view label) {
  Pending pending;
  pending.kind = Kind::kCounter;
  const auto keyPart = key.substr(0, cnc::kMaxCounterKeyLength);
  const auto labelPart = label.substr(0, cnc::kMaxCounterLabelLength);
  return issue(std::move(pending), [&](int64_t correlationId) { return commands_.addCounter(correlationId, typeId, keyPart, labelPart); });
}

int64_t MediaClient::addStaticCounter(int32_t typeId, std::string_view key, std::string_view label, int64_t registrationId) {
  Pending pending;
  pending.kind = Kind::kCounter;
  const auto keyPart = key.substr(0, cnc::kMaxCounterKeyLength);
  const auto labelPart = label.substr(0, cnc::kMaxCounterLabelLength);
  return issue(std::move(pending), [&](int64_t correlationId) {
    return commands_.addStaticCounter(correlationId, registrationId, typeId, keyPart, labelPart);
  });
}

int64_t MediaClient::removeCounter(int64_t registrationId) {
  return issue(Pending{}, [&](int64_t correlationId) { return commands_.removeCounter(correlationId, registrationId); });
}

int64_t MediaClient::rejectImage(const Image& image, std::string_view reason) {
  return issue(Pending{}, [&](int64_t correlationId) {
    return commands_.rejectImage(correlationId, image.correlationId(), image.position(), reason);
  });
}

// ---- answers, as the caller sees them ----

CommandStatus MediaClient::status(int64_t correlationId) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = pending_.find(correlationId);
  if (found == pending_.end()) {
    CommandStatus unknown;
    unknown.state = CommandStatus::State::kFailed;
    unknown.failure = CommandStatus::Failure::kInvalid;
    unknown.error = makeError(ErrorCode::kGeneric, "no command " + std::to_string(correlationId) + " is pending");
    return unknown;
  }
  CommandStatus status = found->second.status;
  const Pending& pending = found->second;
  // What made an object stays until the object is taken.
  if (status.done() && !pending.publication && !pending.exclusive && !pending.subscription) pending_.erase(found);
  return status;
}

template <typename T>
std::shared_ptr<T> MediaClient::takeObject(int64_t correlationId, std::shared_ptr<T> Pending::*member) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = pending_.find(correlationId);
  if (found == pending_.end() || !(found->second.*member)) return nullptr;
  std::shared_ptr<T> object = found->second.*member;
  pending_.erase(found);
  return object;
}

std::shared_ptr<Publication> MediaClient::publication(int64_t correlationId) { return takeObject(correlationId, &Pending::publication); }
std::shared_ptr<ExclusivePublication> MediaClient::exclusivePublication(int64_t correlationId) {
  return takeObject(correlationId, &Pending::exclusive);
}
std::shared_ptr<Subscription> MediaClient::subscription(int64_t correlationId) { return takeObject(correlationId, &Pending::subscription); }

void MediaClient::pump() {
  int32_t work = 0;
  if (!thread_.joinable()) {
    SystemClock clock;
    work = doWork(clock.nanoTime(), clock.epochMillis());
  }
  if (work == 0) pause(kPauseNs);
}

CommandStatus MediaClient::await(int64_t correlationId, int64_t timeoutNs) {
  SystemClock clock;
  const int64_t deadlineNs = clock.nanoTime() + timeoutNs;
  for (;;) {
    CommandStatus now = status(correlationId);
    if (now.done()) return now;
    if (clock.nanoTime() >= deadlineNs) {
      now.state = CommandStatus::State::kFailed;
      now.failure = CommandStatus::Failure::kTimeout;
      now.error = makeError(ErrorCode::kGeneric, "the driver did not answer within " + std::to_string(timeoutNs / 1'000'000) + " ms");
      return now;
    }
    pump();
  }
}

template <typename T>
Result<std::shared_ptr<T>> MediaClient::awaitObject(int64_t correlationId, int64_t timeoutNs, std::shared_ptr<T> Pending::*member) {
  const CommandStatus answer = await(correlationId, timeoutNs);
  if (!answer.succeeded()) return answer.error;
  std::shared_ptr<T> object = takeObject(correlationId, member);
  if (!object) return makeError(ErrorCode::kGeneric, "command " + std::to_string(correlationId) + " made no such object");
  return object;
}

Result<std::shared_ptr<Publication>> MediaClient::awaitPublication(int64_t correlationId, int64_t timeoutNs) {
  return awaitObject(correlationId, timeoutNs, &Pending::publication);
}
Result<std::shared_ptr<ExclusivePublication>> MediaClient::awaitExclusivePublication(int64_t correlationId, int64_t timeoutNs) {
  return awaitObject(correlationId, timeoutNs, &Pending::exclusive);
}
Result<std::shared_ptr<Subscription>> MediaClient::awaitSubscription(int64_t correlationId, int64_t timeoutNs) {
  return awaitObject(correlationId, timeoutNs, &Pending::subscription);
}

// ---- closing ----

void MediaClient::closePublication(const std::shared_ptr<Publication>& publication, bool revoke) {
  publication->markClosed();
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (publications_.erase(publication->registrationId()) == 0) return;
  }
  if (!isDriverLost()) commands_.removePublication(commands_.nextCorrelationId(), publication->registrationId(), revoke);
}

void MediaClient::closePublication(const std::shared_ptr<ExclusivePublication>& publication, bool revoke) {
  publication->markClosed();
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (publications_.erase(publication->registrationId()) == 0) return;
  }
  if (!isDriverLost()) commands_.removePublication(commands_.nextCorrelationId(), publication->registrationId(), revoke);
}

void MediaClient::closeSubscription(const std::shared_ptr<Subscription>& subscription) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (subscriptions_.erase(subscription->registrationId()) == 0) return;
    subscription->closeAll(ImageEndReason::kClosed);
  }
  if (!isDriverLost()) commands_.removeSubscription(commands_.nextCorrelationId(), subscription->registrationId());
}

// ---- sleeping ----

void MediaClient::prepareWait() {
  if (slot_ >= 0) {
    memory_->bells().prepareWait(slot_);
  } else {
    localWord_.store(1, std::memory_order_seq_cst);
  }
}

void MediaClient::cancelWait() {
  if (slot_ >= 0) {
    memory_->bells().cancelWait(slot_);
  } else {
    localWord_.store(0, std::memory_order_release);
  }
}

void MediaClient::wait(int64_t timeoutNs, int64_t maxBlindWaitNs) {
  if (slot_ >= 0) {
    memory_->bells().wait(slot_, timeoutNs);
    return;
  }
  const int64_t bounded = std::clamp<int64_t>(std::min(timeoutNs, maxBlindWaitNs), 0, 999'999'999);
  const timespec timeout{0, static_cast<long>(bounded)};
  ::syscall(SYS_futex, reinterpret_cast<int32_t*>(&localWord_), FUTEX_WAIT_PRIVATE, 1, &timeout, nullptr, 0);
  localWord_.store(0, std::memory_order_release);
}

void MediaClient::wake() {
  if (slot_ >= 0) {
    memory_->bells().ringSlot(slot_);
    return;
  }
  int32_t sleeping = 1;
  if (localWord_.compare_exchange_strong(sleeping, 0, std::memory_order_seq_cst)) {
    ::syscall(SYS_futex, reinterpret_cast<int32_t*>(&localWord_), FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
  }
}

}  // namespace outrigger::client
