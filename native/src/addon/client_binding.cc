// SPDX-License-Identifier: Apache-2.0
// The client object of JavaScript: opening of publications and subscriptions, reading of counters and logs.
#include "addon/bindings.h"
#include "addon/conversions.h"
#include "base/clock.h"

namespace outrigger::addon {
namespace {

using client::CommandStatus;

class AddPublication final : public JsOperation {
 public:
  AddPublication(Napi::Env env, std::shared_ptr<ClientState> state, int64_t command, bool exclusive)
      : JsOperation(env), state_(std::move(state)), command_(command), exclusive_(exclusive) {}

  bool step(client::MediaClient& client, int64_t) override {
    status_ = client.status(command_);
    if (!status_.done()) return false;
    if (!status_.succeeded()) return true;
    if (exclusive_) {
      if (auto made = client.exclusivePublication(command_)) publication_ = std::make_shared<PublicationState>(std::move(made));
    } else {
      if (auto made = client.publication(command_)) publication_ = std::make_shared<PublicationState>(std::move(made));
    }
    return true;
  }

  void complete(Napi::Env env) override {
    if (!publication_) return deferred_.Reject(makeJsError(env, status_).Value());
    deferred_.Resolve(PublicationBinding::make(env, state_, publication_));
  }

 private:
  std::shared_ptr<ClientState> state_;
  int64_t command_;
  bool exclusive_;
  CommandStatus status_;
  std::shared_ptr<PublicationState> publication_;
};

class AddSubscription final : public JsOperation {
 public:
  AddSubscription(Napi::Env env, std::shared_ptr<ClientState> state, std::shared_ptr<SubscriptionRecord> record, int64_t command)
      : JsOperation(env), state_(std::move(state)), record_(std::move(record)), task_(record_->task), command_(command) {}

  bool step(client::MediaClient& client, int64_t) override {
    status_ = client.status(command_);
    if (!status_.done()) return false;
    task_->subscription = client.subscription(command_);
    if (task_->subscription) state_->service().adopt(task_);
    return true;
  }

  void complete(Napi::Env env) override {
    if (!status_.succeeded()) {
      state_->removeSubscription(task_.get());
      record_.reset();
      return deferred_.Reject(makeJsError(env, status_).Value());
    }
    record_.reset();
    deferred_.Resolve(SubscriptionBinding::make(env, state_, task_));
  }

 private:
  std::shared_ptr<ClientState> state_;
  std::shared_ptr<SubscriptionRecord> record_;  // JavaScript thread: holds references
  std::shared_ptr<client::SubscriberTask> task_;
  int64_t command_;
  CommandStatus status_;
};

client::SlowPolicy policyOf(const std::string& name) {
  if (name == "SKIP") return client::SlowPolicy::kSkip;
  return name == "DISCONNECT_AFTER" ? client::SlowPolicy::kDisconnectAfter : client::SlowPolicy::kBlock;
}

}  // namespace

Napi::Function ClientBinding::define(Napi::Env env) {
  return DefineClass(
      env, "ClientBinding",
      {InstanceMethod<&ClientBinding::clientId>("clientId"), InstanceMethod<&ClientBinding::addPublication>("addPublication"),
       InstanceMethod<&ClientBinding::addSubscription>("addSubscription"), InstanceMethod<&ClientBinding::counters>("counters"),
       InstanceMethod<&ClientBinding::errors>("errors"), InstanceMethod<&ClientBinding::losses>("losses"),
       InstanceMethod<&ClientBinding::driver>("driver"), InstanceMethod<&ClientBinding::close>("close"),
       InstanceMethod<&ClientBinding::closeNow>("closeNow")});
}

// (directory, driverTimeoutMs, onLost)
ClientBinding::ClientBinding(const Napi::CallbackInfo& info) : Napi::ObjectWrap<ClientBinding>(info) {
  if (info.Length() < 3 || !info[0].IsString() || !info[1].IsNumber() || !info[2].IsFunction()) {
    throwJsError(info.Env(), "INVALID_ARGUMENT", "connect: needs a directory, a timeout and a callback");
    return;
  }
  state_ = ClientState::connect(info.Env(), info[0].As<Napi::String>().Utf8Value(), info[1].As<Napi::Number>().Int64Value(),
                                info[2].As<Napi::Function>());
}

Napi::Value ClientBinding::clientId(const Napi::CallbackInfo& info) {
  return Napi::BigInt::New(info.Env(), state_->service().client().clientId());
}

// (channel, streamId, exclusive)
Napi::Value ClientBinding::addPublication(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (state_->isClosed()) {
    throwJsError(env, "CLOSED", "the client was closed");
    return env.Undefined();
  }
  const std::string channel = textOf(info[0]);
  const int32_t streamId = static_cast<int32_t>(integerOf(info[1]));
  const bool exclusive = flagOf(info[2]);
  client::MediaClient& client = state_->service().client();
  const int64_t command = exclusive ? client.addExclusivePublication(channel, streamId) : client.addPublication(channel, streamId);
  auto operation = std::make_shared<AddPublication>(env, state_, command, exclusive);
  const Napi::Promise promise = operation->promise();
  state_->submit(std::move(operation));
  return promise;
}

// (channel, streamId, slowPolicy, disconnectAfterMs, maxBatchBytes, onBurst, onEnd)
Napi::Value ClientBinding::addSubscription(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (state_->isClosed()) {
    throwJsError(env, "CLOSED", "the client was closed");
    return env.Undefined();
  }
  if (info.Length() < 7 || !info[5].IsFunction() || !info[6].IsFunction()) {
    throwJsError(env, "INVALID_ARGUMENT", "subscription: needs two callbacks");
    return env.Undefined();
  }
  const std::string channel = textOf(info[0]);
  const int32_t streamId = static_cast<int32_t>(integerOf(info[1]));
  client::SubscriberOptions options;
  options.policy = policyOf(textOf(info[2]));
  options.disconnectAfterNs = integerOf(info[3]) * 1'000'000;
  options.maxBatchBytes = static_cast<size_t>(integerOf(info[4]));
  options.reliable = channel.find("reliable=false") == std::string::npos;
  auto record = std::make_shared<SubscriptionRecord>();
  record->task = std::make_shared<client::SubscriberTask>(options);
  record->onBurst = Napi::Persistent(info[5].As<Napi::Function>());
  record->onEnd = Napi::Persistent(info[6].As<Napi::Function>());
  state_->addSubscription(record);
  const std::weak_ptr<client::SubscriberTask> weak = record->task;
  const int64_t command = state_->service().client().addSubscription(
      channel, streamId,
      [weak](client::Subscription&, const std::shared_ptr<client::Image>& image) {
        if (const auto task = weak.lock()) task->subscriber.onAvailable(image);
      },
      [weak](client::Subscription&, const std::shared_ptr<client::Image>& image) {
        SystemClock clock;
        if (const auto task = weak.lock()) task->subscriber.onUnavailable(image, clock.nanoTime());
      });
  auto operation = std::make_shared<AddSubscription>(env, state_, std::move(record), command);
  const Napi::Promise promise = operation->promise();
  state_->submit(std::move(operation));
  return promise;
}

Napi::Value ClientBinding::counters(const Napi::CallbackInfo& info) {
  return toJs(info.Env(), cnc::readCounters(state_->service().client().memory().regions()));
}

Napi::Value ClientBinding::errors(const Napi::CallbackInfo& info) {
  return toJs(info.Env(), cnc::ErrorLog::read(state_->service().client().memory().regions().errorLog));
}

Napi::Value ClientBinding::losses(const Napi::CallbackInfo& info) { return toJs(info.Env(), readLosses(state_->directory())); }

Napi::Value ClientBinding::driver(const Napi::CallbackInfo& info) {
  const client::MediaClient& client = state_->service().client();
  const cnc::CncRegions& regions = client.memory().regions();
  return driverToJs(info.Env(), regions.pid, regions.startTimestampMs, client.driverHeartbeatMs());
}

Napi::Value ClientBinding::close(const Napi::CallbackInfo& info) { return state_->close(info.Env()); }

Napi::Value ClientBinding::closeNow(const Napi::CallbackInfo& info) {
  state_->closeNow();
  return info.Env().Undefined();
}

}  // namespace outrigger::addon
