// SPDX-License-Identifier: Apache-2.0
// The three objects that JavaScript holds: client, publication, subscription. Thin: arguments in, results out; what they do is
// native/src/client's. Each belongs to one environment (main thread or worker) and is used on its thread only.
#pragma once

#include <napi.h>

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "client/batch_publisher.h"
#include "client/client_service.h"

namespace outrigger::addon {

// An operation that ends in JavaScript, mostly by settling a promise.
class JsOperation : public client::Operation {
 public:
  explicit JsOperation(Napi::Env env) : deferred_(Napi::Promise::Deferred::New(env)) {}
  Napi::Promise promise() const { return deferred_.Promise(); }
  // JavaScript thread, once.
  virtual void complete(Napi::Env env) = 0;

 protected:
  Napi::Promise::Deferred deferred_;
};

// A subscription as the JavaScript side knows it: while it is open, its callbacks are held here.
struct SubscriptionRecord {
  std::shared_ptr<client::SubscriberTask> task;
  Napi::FunctionReference onBurst;  // (bytes: Buffer, bounds?: number[]): begin and end of each response, when there are several
  Napi::FunctionReference onEnd;    // (reason: string)
  client::ResponseChunk taken;
};

// One connection to a driver. Lives until the service thread has ended and JavaScript has been told, however early its wrapper is collected.
class ClientState : public std::enable_shared_from_this<ClientState> {
 public:
  static std::shared_ptr<ClientState> connect(Napi::Env env, const std::string& directory, int64_t driverTimeoutMs, Napi::Function onLost);

  client::ClientService& service() { return *service_; }
  const std::string& directory() const { return directory_; }
  bool isClosed() const { return closing_; }
  void submit(std::shared_ptr<JsOperation> operation) { service_->submit(std::move(operation)); }
  Napi::Promise close(Napi::Env env);
  // The process or worker ends: tells the driver, waits for the thread. Nothing is delivered and no promise settled any more.
  void closeNow();

  void addSubscription(const std::shared_ptr<SubscriptionRecord>& record) { subscriptions_[record->task.get()] = record; }
  void removeSubscription(const client::SubscriberTask* task) { subscriptions_.erase(task); }

 private:
  static void onNotified(napi_env env, napi_value callback, void* context, void* data);
  static void onEnvironmentEnds(void* self);
  void drain(Napi::Env env);
  void deliver(Napi::Env env, const std::shared_ptr<client::SubscriberTask>& task);
  void endSubscription(Napi::Env env, const std::shared_ptr<client::SubscriberTask>& task, client::SubscriberEnd end);
  void release();

  napi_env env_ = nullptr;
  std::string directory_;
  std::shared_ptr<client::ClientService> service_;
  napi_threadsafe_function wakeJs_ = nullptr;
  Napi::FunctionReference onLost_;
  std::unordered_map<const client::SubscriberTask*, std::shared_ptr<SubscriptionRecord>> subscriptions_;
  std::vector<Napi::Promise::Deferred> closers_;
  bool closing_ = false;
  bool released_ = false;
};

// A publication and the offers that wait for it, in their order.
struct PublicationState {
  explicit PublicationState(std::shared_ptr<client::Publication> publication) : publisher(std::move(publication)) {}
  explicit PublicationState(std::shared_ptr<client::ExclusivePublication> publication) : publisher(std::move(publication)) {}
  void close(client::MediaClient& client);

  client::BatchPublisher publisher;
  std::mutex mutex;
  std::vector<const void*> waiting;
};

class ClientBinding : public Napi::ObjectWrap<ClientBinding> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit ClientBinding(const Napi::CallbackInfo& info);

 private:
  Napi::Value clientId(const Napi::CallbackInfo& info);
  Napi::Value addPublication(const Napi::CallbackInfo& info);
  Napi::Value addSubscription(const Napi::CallbackInfo& info);
  Napi::Value counters(const Napi::CallbackInfo& info);
  Napi::Value errors(const Napi::CallbackInfo& info);
  Napi::Value losses(const Napi::CallbackInfo& info);
  Napi::Value driver(const Napi::CallbackInfo& info);
  Napi::Value close(const Napi::CallbackInfo& info);
  Napi::Value closeNow(const Napi::CallbackInfo& info);

  std::shared_ptr<ClientState> state_;
};

class PublicationBinding : public Napi::ObjectWrap<PublicationBinding> {
 public:
  static Napi::Function define(Napi::Env env);
  static Napi::Object make(Napi::Env env, std::shared_ptr<ClientState> client, std::shared_ptr<PublicationState> state);
  explicit PublicationBinding(const Napi::CallbackInfo& info);
  // Collected without close: the driver must not keep it for nobody.
  ~PublicationBinding() override;

 private:
  Napi::Value describe(const Napi::CallbackInfo& info);
  Napi::Value isConnected(const Napi::CallbackInfo& info);
  Napi::Value isClosed(const Napi::CallbackInfo& info);
  Napi::Value position(const Napi::CallbackInfo& info);
  Napi::Value offer(const Napi::CallbackInfo& info);
  Napi::Value offerWait(const Napi::CallbackInfo& info);
  Napi::Value addDestination(const Napi::CallbackInfo& info);
  Napi::Value removeDestination(const Napi::CallbackInfo& info);
  Napi::Value drained(const Napi::CallbackInfo& info);
  Napi::Value close(const Napi::CallbackInfo& info);

  std::shared_ptr<ClientState> client_;
  std::shared_ptr<PublicationState> state_;
};

class SubscriptionBinding : public Napi::ObjectWrap<SubscriptionBinding> {
 public:
  static Napi::Function define(Napi::Env env);
  static Napi::Object make(Napi::Env env, std::shared_ptr<ClientState> client, std::shared_ptr<client::SubscriberTask> task);
  explicit SubscriptionBinding(const Napi::CallbackInfo& info);

 private:
  Napi::Value addCredit(const Napi::CallbackInfo& info);
  Napi::Value stats(const Napi::CallbackInfo& info);
  Napi::Value close(const Napi::CallbackInfo& info);

  std::shared_ptr<ClientState> client_;
  std::shared_ptr<client::SubscriberTask> task_;
};

// What an environment keeps of this module.
struct AddonData {
  Napi::FunctionReference client;
  Napi::FunctionReference publication;
  Napi::FunctionReference subscription;
  client::PublishBatch batch;  // of the offer that runs
};
AddonData& addonData(Napi::Env env);

}  // namespace outrigger::addon
