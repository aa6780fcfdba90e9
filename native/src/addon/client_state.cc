// SPDX-License-Identifier: Apache-2.0
// Life of a connection: how the service thread wakes JavaScript, what it then hears, and every way for it to end.
#include "addon/bindings.h"
#include "addon/conversions.h"

namespace outrigger::addon {
namespace {

// Kept for the next burst of a subscription; one that needed more gives it back.
constexpr size_t kKeptChunkBytes = 1024 * 1024;

const char* reasonOf(client::SubscriberEnd end) {
  switch (end) {
    case client::SubscriberEnd::kSlow:
      return "SLOW";
    case client::SubscriberEnd::kDriverLost:
      return "DRIVER_LOST";
    default:
      return "CLOSED";
  }
}

// Callbacks of the facade do not throw. Should one, the rest of the burst must still be told.
void call(Napi::Env env, const Napi::FunctionReference& function, const std::initializer_list<napi_value>& arguments) {
  if (function.IsEmpty()) return;
  napi_value receiver = nullptr;
  napi_value result = nullptr;
  if (napi_get_undefined(env, &receiver) != napi_ok) return;
  if (napi_call_function(env, receiver, function.Value(), arguments.size(), arguments.begin(), &result) == napi_pending_exception) {
    napi_get_and_clear_last_exception(env, &result);
  }
}

}  // namespace

std::shared_ptr<ClientState> ClientState::connect(Napi::Env env, const std::string& directory, int64_t driverTimeoutMs,
                                                  Napi::Function onLost) {
  auto state = std::make_shared<ClientState>();
  state->env_ = env;
  state->directory_ = directory;
  state->onLost_ = Napi::Persistent(onLost);
  // Node owns the state from here on, until the function is released or the environment ends.
  auto* held = new std::shared_ptr<ClientState>(state);
  const auto letGo = [](napi_env, void* data, void*) { delete static_cast<std::shared_ptr<ClientState>*>(data); };
  const Napi::String name = Napi::String::New(env, "outrigger");
  if (napi_create_threadsafe_function(env, nullptr, nullptr, name, 0, 1, held, letGo, state.get(), onNotified, &state->wakeJs_) !=
      napi_ok) {
    delete held;
    throwJsError(env, "DRIVER_UNAVAILABLE", "Node could not make another thread-safe function; close clients that are not used");
    return nullptr;
  }
  client::MediaClientOptions options;
  options.directory = directory;
  options.driverTimeoutNs = driverTimeoutMs * 1'000'000;
  napi_threadsafe_function wakeJs = state->wakeJs_;
  auto service =
      client::ClientService::start(std::move(options), [wakeJs] { napi_call_threadsafe_function(wakeJs, nullptr, napi_tsfn_nonblocking); });
  if (!service) {
    throwJsError(env, "DRIVER_UNAVAILABLE", service.error().message);
    state->release();
    return nullptr;
  }
  state->service_ = service.take();
  // Runs before Node's own hook for the function, which was added earlier: the thread is gone before what it calls is.
  napi_add_env_cleanup_hook(env, onEnvironmentEnds, state.get());
  return state;
}

Napi::Promise ClientState::close(Napi::Env env) {
  const auto deferred = Napi::Promise::Deferred::New(env);
  if (released_) {
    deferred.Resolve(env.Undefined());
    return deferred.Promise();
  }
  closers_.push_back(deferred);
  if (!closing_) {
    closing_ = true;
    subscriptions_.clear();
    onLost_.Reset();
    service_->requestStop();
  }
  return deferred.Promise();
}

void ClientState::closeNow() {
  if (released_) return;
  closing_ = true;
  subscriptions_.clear();
  onLost_.Reset();
  service_->stopNow();
}

void ClientState::release() {
  released_ = true;
  closing_ = true;
  subscriptions_.clear();
  onLost_.Reset();
  if (service_) {
    service_->stopNow();
    napi_remove_env_cleanup_hook(env_, onEnvironmentEnds, this);
  }
  napi_release_threadsafe_function(wakeJs_, napi_tsfn_release);
}

void ClientState::onEnvironmentEnds(void* self) {
  auto* state = static_cast<ClientState*>(self);
  state->released_ = true;
  state->closing_ = true;
  state->service_->stopNow();
  // References must go while the environment is still there; promises that are open stay open, there is nobody to hear of them.
  (void)state->service_->drain();
  state->subscriptions_.clear();
  state->onLost_.Reset();
}

void ClientState::onNotified(napi_env env, napi_value, void* context, void*) {
  if (env == nullptr) return;
  auto* state = static_cast<ClientState*>(context);
  if (!state->released_) state->shared_from_this()->drain(Napi::Env(env));
}

void ClientState::drain(Napi::Env env) {
  client::ClientService::Output output = service_->drain();
  for (const auto& operation : output.done) {
    Napi::HandleScope scope(env);
    static_cast<JsOperation&>(*operation).complete(env);
  }
  for (const auto& task : output.ready) deliver(env, task);
  for (const auto& [task, end] : output.ended) endSubscription(env, task, end);
  if (output.lost) {
    Napi::HandleScope scope(env);
    call(env, onLost_, {Napi::String::New(env, output.lostReason)});
  }
  if (!output.stopped) return;
  release();
  for (const auto& closer : closers_) closer.Resolve(env.Undefined());
  closers_.clear();
}

void ClientState::deliver(Napi::Env env, const std::shared_ptr<client::SubscriberTask>& task) {
  const auto found = subscriptions_.find(task.get());
  if (found == subscriptions_.end()) return;
  const std::shared_ptr<SubscriptionRecord> record = found->second;  // a callback may close it
  client::ResponseChunk& chunk = record->taken;
  bool wasFull = false;
  if (!task->subscriber.take(chunk, &wasFull)) return;
  if (wasFull) service_->wake();
  Napi::HandleScope scope(env);
  // One copy and one Buffer a burst; the facade cuts it into responses.
  const auto& responses = chunk.responses();
  const size_t begin = responses.front().begin;
  const size_t length = responses.back().begin + responses.back().length - begin;
  const auto bytes = Napi::Buffer<uint8_t>::Copy(env, chunk.data() + begin, length);
  if (responses.size() == 1) {
    chunk.clear(kKeptChunkBytes);
    return call(env, record->onBurst, {bytes});
  }
  Napi::Array bounds = Napi::Array::New(env, 2 * responses.size());
  uint32_t index = 0;
  for (const auto& response : responses) {
    bounds.Set(index++, Napi::Number::New(env, static_cast<double>(response.begin - begin)));
    bounds.Set(index++, Napi::Number::New(env, static_cast<double>(response.begin - begin + response.length)));
  }
  chunk.clear(kKeptChunkBytes);
  call(env, record->onBurst, {bytes, bounds});
}

void ClientState::endSubscription(Napi::Env env, const std::shared_ptr<client::SubscriberTask>& task, client::SubscriberEnd end) {
  deliver(env, task);
  const auto found = subscriptions_.find(task.get());
  if (found == subscriptions_.end()) return;
  const std::shared_ptr<SubscriptionRecord> record = found->second;
  subscriptions_.erase(found);
  Napi::HandleScope scope(env);
  call(env, record->onEnd, {Napi::String::New(env, reasonOf(end))});
}

}  // namespace outrigger::addon
