// SPDX-License-Identifier: Apache-2.0
// The subscription object of JavaScript. Its messages do not pass here: ClientState::deliver hands them over.
#include "addon/bindings.h"
#include "addon/conversions.h"

namespace outrigger::addon {
namespace {

struct Parts {
  std::shared_ptr<ClientState> client;
  std::shared_ptr<client::SubscriberTask> task;
};

constexpr size_t kStatsWords = 5;

}  // namespace

Napi::Function SubscriptionBinding::define(Napi::Env env) {
  return DefineClass(env, "SubscriptionBinding",
                     {InstanceMethod<&SubscriptionBinding::addCredit>("addCredit"), InstanceMethod<&SubscriptionBinding::stats>("stats"),
                      InstanceMethod<&SubscriptionBinding::close>("close")});
}

Napi::Object SubscriptionBinding::make(Napi::Env env, std::shared_ptr<ClientState> client, std::shared_ptr<client::SubscriberTask> task) {
  Parts parts{std::move(client), std::move(task)};
  return addonData(env).subscription.New({Napi::External<Parts>::New(env, &parts)});
}

SubscriptionBinding::SubscriptionBinding(const Napi::CallbackInfo& info) : Napi::ObjectWrap<SubscriptionBinding>(info) {
  if (info.Length() < 1 || !info[0].IsExternal()) {
    throwJsError(info.Env(), "INVALID_ARGUMENT", "subscriptions are made by a client");
    return;
  }
  const Parts* parts = info[0].As<Napi::External<Parts>>().Data();
  client_ = parts->client;
  task_ = parts->task;
}

// (messages, bytes): whole numbers that are not negative
Napi::Value SubscriptionBinding::addCredit(const Napi::CallbackInfo& info) {
  const int64_t messages = integerOf(info[0]);
  const int64_t bytes = integerOf(info[1]);
  if (messages < 0 || bytes < 0) {
    throwJsError(info.Env(), "INVALID_ARGUMENT", "credit: must not be negative");
    return info.Env().Undefined();
  }
  if (client_->isClosed()) return info.Env().Undefined();
  task_->subscriber.addCredit(static_cast<uint64_t>(messages), static_cast<uint64_t>(bytes));
  client_->service().wake();
  return info.Env().Undefined();
}

// (words: BigInt64Array(5)): messages, bytes, skipped, gaps, images
Napi::Value SubscriptionBinding::stats(const Napi::CallbackInfo& info) {
  int64_t* words = wordsOf(info[0], kStatsWords);
  if (words == nullptr) {
    throwJsError(info.Env(), "INVALID_ARGUMENT", "stats: needs a BigInt64Array of 5");
    return info.Env().Undefined();
  }
  const client::SubscriberStats stats = task_->subscriber.stats();
  words[0] = static_cast<int64_t>(stats.messages);
  words[1] = static_cast<int64_t>(stats.bytes);
  words[2] = static_cast<int64_t>(stats.skipped);
  words[3] = static_cast<int64_t>(stats.gaps);
  words[4] = static_cast<int64_t>(stats.images);
  return info.Env().Undefined();
}

Napi::Value SubscriptionBinding::close(const Napi::CallbackInfo& info) {
  client_->removeSubscription(task_.get());
  task_->closing.store(true, std::memory_order_release);
  if (!client_->isClosed()) client_->service().wake();
  return info.Env().Undefined();
}

}  // namespace outrigger::addon
