// SPDX-License-Identifier: Apache-2.0
// The publication object of JavaScript: batches in, how far they were taken out.
#include "addon/bindings.h"
#include "addon/conversions.h"
#include "addon/drain_check.h"

namespace outrigger::addon {
namespace {

using client::OfferOutcome;
using client::OfferStatus;

constexpr size_t kOfferWords = 5;
constexpr size_t kKeptMessages = 1 << 16;
constexpr int32_t kMalformed = 0;  // no OfferStatus

struct Parts {
  std::shared_ptr<ClientState> client;
  std::shared_ptr<PublicationState> state;
};

// The facade reads these after a synchronous call, which is cheaper than an object with five properties.
void store(int64_t* words, const OfferOutcome& outcome, size_t total, uint64_t sequence) {
  words[0] = static_cast<int64_t>(outcome.accepted);
  words[1] = static_cast<int64_t>(total);
  words[2] = outcome.position;
  words[3] = static_cast<int64_t>(sequence);
  words[4] = static_cast<int64_t>(outcome.bytes);
}

Napi::Value describeOutcome(Napi::Env env, const OfferOutcome& outcome, size_t total, uint64_t sequence) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("status", Napi::Number::New(env, static_cast<int32_t>(outcome.status)));
  object.Set("accepted", Napi::Number::New(env, outcome.accepted));
  object.Set("total", Napi::Number::New(env, static_cast<double>(total)));
  object.Set("position", Napi::BigInt::New(env, outcome.position));
  object.Set("sequence", Napi::BigInt::New(env, sequence));
  object.Set("bytes", Napi::Number::New(env, static_cast<double>(outcome.bytes)));
  return object;
}

bool mayWait(OfferStatus status) { return status == OfferStatus::kBackPressured || status == OfferStatus::kNotConnected; }

void add(OfferOutcome& sum, const OfferOutcome& more) {
  sum.status = more.status;
  sum.accepted += more.accepted;
  sum.bytes += more.bytes;
  if (more.accepted > 0) sum.position = more.position;
}

// Goes on offering until all is taken, something final happens or the deadline has passed.
class OfferWait final : public JsOperation {
 public:
  OfferWait(Napi::Env env, std::shared_ptr<PublicationState> publication, const uint8_t* request, size_t length, size_t start,
            int64_t timeoutNs)
      : JsOperation(env), publication_(std::move(publication)), bytes_(request, request + length), start_(start), timeoutNs_(timeoutNs) {
    // The caller may change or transfer its buffer meanwhile, so these are bytes of our own.
    client::readPublishBatch(bytes_.data(), bytes_.size(), batch_);
    total_ = batch_.messages.size() - std::min(start_, batch_.messages.size());
    const std::lock_guard<std::mutex> lock(publication_->mutex);
    publication_->waiting.push_back(this);
  }

  void begin(const OfferOutcome& outcome) { sum_ = outcome; }

  bool step(client::MediaClient& client, int64_t nowNs) override {
    if (deadlineNs_ == 0) deadlineNs_ = nowNs + timeoutNs_;
    bool first = false;
    {
      const std::lock_guard<std::mutex> lock(publication_->mutex);
      first = publication_->waiting.front() == this;
    }
    const bool over =
        nowNs >= deadlineNs_ || client.isDriverLost() || client.isClosed() || publication_->publisher.publication().isClosed();
    if (!first && !over) return false;
    if (first || publication_->publisher.publication().isClosed()) {
      add(sum_, publication_->publisher.offer(batch_.messages.data() + start_ + sum_.accepted, total_ - sum_.accepted));
    } else {
      sum_.status = OfferStatus::kBackPressured;  // behind others that wait longer
    }
    if (!over && mayWait(sum_.status)) return false;
    const std::lock_guard<std::mutex> lock(publication_->mutex);
    std::erase(publication_->waiting, this);
    return true;
  }

  void complete(Napi::Env env) override { deferred_.Resolve(describeOutcome(env, sum_, total_, batch_.sequence)); }

 private:
  std::shared_ptr<PublicationState> publication_;
  std::vector<uint8_t> bytes_;
  client::PublishBatch batch_;
  size_t start_;
  size_t total_ = 0;
  int64_t timeoutNs_;
  int64_t deadlineNs_ = 0;
  OfferOutcome sum_;
};

class ChangeDestination final : public JsOperation {
 public:
  ChangeDestination(Napi::Env env, int64_t command) : JsOperation(env), command_(command) {}
  bool step(client::MediaClient& client, int64_t) override {
    status_ = client.status(command_);
    return status_.done();
  }
  void complete(Napi::Env env) override {
    if (!status_.succeeded()) return deferred_.Reject(makeJsError(env, status_).Value());
    deferred_.Resolve(Napi::BigInt::New(env, status_.value));
  }

 private:
  int64_t command_;
  client::CommandStatus status_;
};

class AwaitDrained final : public JsOperation {
 public:
  AwaitDrained(Napi::Env env, std::shared_ptr<PublicationState> publication, int64_t timeoutNs)
      : JsOperation(env),
        publication_(std::move(publication)),
        check_(publication_->publisher.publication(), publication_->publisher.position()),
        timeoutNs_(timeoutNs) {}

  bool step(client::MediaClient& client, int64_t nowNs) override {
    if (deadlineNs_ == 0) deadlineNs_ = nowNs + timeoutNs_;
    if (client.isDriverLost() || client.isClosed()) return true;
    drained_ = check_.isDrained(client.memory());
    return drained_ || nowNs >= deadlineNs_;
  }
  void complete(Napi::Env env) override { deferred_.Resolve(Napi::Boolean::New(env, drained_)); }

 private:
  std::shared_ptr<PublicationState> publication_;
  DrainCheck check_;
  int64_t timeoutNs_;
  int64_t deadlineNs_ = 0;
  bool drained_ = false;
};

Napi::Promise rejected(Napi::Env env, const char* code, const std::string& message) {
  const auto deferred = Napi::Promise::Deferred::New(env);
  deferred.Reject(makeJsError(env, code, message).Value());
  return deferred.Promise();
}

}  // namespace

void PublicationState::close(client::MediaClient& client) {
  if (publisher.exclusive()) {
    client.closePublication(publisher.exclusive());
  } else {
    client.closePublication(publisher.concurrent());
  }
}

Napi::Function PublicationBinding::define(Napi::Env env) {
  using Self = PublicationBinding;
  return DefineClass(
      env, "PublicationBinding",
      {InstanceMethod<&Self::describe>("describe"), InstanceMethod<&Self::isConnected>("isConnected"),
       InstanceMethod<&Self::isClosed>("isClosed"), InstanceMethod<&Self::position>("position"), InstanceMethod<&Self::offer>("offer"),
       InstanceMethod<&Self::offerWait>("offerWait"), InstanceMethod<&Self::addDestination>("addDestination"),
       InstanceMethod<&Self::removeDestination>("removeDestination"), InstanceMethod<&Self::drained>("drained"),
       InstanceMethod<&Self::close>("close")});
}

Napi::Object PublicationBinding::make(Napi::Env env, std::shared_ptr<ClientState> client, std::shared_ptr<PublicationState> state) {
  Parts parts{std::move(client), std::move(state)};
  return addonData(env).publication.New({Napi::External<Parts>::New(env, &parts)});
}

PublicationBinding::PublicationBinding(const Napi::CallbackInfo& info) : Napi::ObjectWrap<PublicationBinding>(info) {
  if (info.Length() < 1 || !info[0].IsExternal()) {
    throwJsError(info.Env(), "INVALID_ARGUMENT", "publications are made by a client");
    return;
  }
  const Parts* parts = info[0].As<Napi::External<Parts>>().Data();
  client_ = parts->client;
  state_ = parts->state;
}

PublicationBinding::~PublicationBinding() {
  if (state_) state_->close(client_->service().client());
}

Napi::Value PublicationBinding::describe(const Napi::CallbackInfo& info) {
  const client::PublicationBase& publication = state_->publisher.publication();
  Napi::Object object = Napi::Object::New(info.Env());
  object.Set("sessionId", Napi::Number::New(info.Env(), publication.sessionId()));
  object.Set("streamId", Napi::Number::New(info.Env(), publication.streamId()));
  object.Set("maxMessageBytes", Napi::Number::New(info.Env(), publication.maxMessageLength()));
  object.Set("maxPayloadBytes", Napi::Number::New(info.Env(), publication.maxPayloadLength()));
  return object;
}

Napi::Value PublicationBinding::isConnected(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), state_->publisher.publication().isConnected());
}

Napi::Value PublicationBinding::isClosed(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), state_->publisher.publication().isClosed());
}

// (words: BigInt64Array(2)): position, limit; below zero when closed
Napi::Value PublicationBinding::position(const Napi::CallbackInfo& info) {
  int64_t* words = wordsOf(info[0], 2);
  if (words == nullptr) {
    throwJsError(info.Env(), "INVALID_ARGUMENT", "position: needs a BigInt64Array of 2");
    return info.Env().Undefined();
  }
  words[0] = state_->publisher.position();
  words[1] = state_->publisher.publication().positionLimit();
  return info.Env().Undefined();
}

// (request, startIndex, words: BigInt64Array(5)): status; the words are accepted, total, position, sequence, bytes
Napi::Value PublicationBinding::offer(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const uint8_t* request = nullptr;
  size_t length = 0;
  int64_t* words = wordsOf(info[2], kOfferWords);
  if (!bytesOf(info[0], request, length) || words == nullptr) {
    throwJsError(env, "INVALID_ARGUMENT", "batch: is no Uint8Array");
    return env.Undefined();
  }
  client::PublishBatch& batch = addonData(env).batch;
  if (const client::CodecError error = client::readPublishBatch(request, length, batch); error != client::CodecError::kNone) {
    throwJsError(env, "INVALID_ARGUMENT",
                 "batch: is no encoded outrigger.v1.PublishRequest with a batch: it " + std::string(client::describe(error)));
    return Napi::Number::New(env, kMalformed);
  }
  const size_t start = std::min(static_cast<size_t>(integerOf(info[1])), batch.messages.size());
  const size_t total = batch.messages.size() - start;
  const OfferOutcome outcome = state_->publisher.offer(batch.messages.data() + start, total);
  store(words, outcome, total, batch.sequence);
  if (batch.messages.capacity() > kKeptMessages) batch.messages = {};
  return Napi::Number::New(env, static_cast<int32_t>(outcome.status));
}

// (request, startIndex, timeoutMs)
Napi::Value PublicationBinding::offerWait(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const uint8_t* request = nullptr;
  size_t length = 0;
  if (!bytesOf(info[0], request, length)) return rejected(env, "INVALID_ARGUMENT", "batch: is no Uint8Array");
  client::PublishBatch& batch = addonData(env).batch;
  if (const client::CodecError error = client::readPublishBatch(request, length, batch); error != client::CodecError::kNone) {
    return rejected(env, "INVALID_ARGUMENT",
                    "batch: is no encoded outrigger.v1.PublishRequest with a batch: it " + std::string(client::describe(error)));
  }
  const size_t start = std::min(static_cast<size_t>(integerOf(info[1])), batch.messages.size());
  const size_t total = batch.messages.size() - start;
  OfferOutcome outcome;
  outcome.status = OfferStatus::kBackPressured;
  bool othersWait = false;
  {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    othersWait = !state_->waiting.empty();
  }
  if (!othersWait) outcome = state_->publisher.offer(batch.messages.data() + start, total);
  const int64_t timeoutNs = integerOf(info[2]) * 1'000'000;
  if (!mayWait(outcome.status) || timeoutNs <= 0 || client_->isClosed()) {
    const auto deferred = Napi::Promise::Deferred::New(env);
    deferred.Resolve(describeOutcome(env, outcome, total, batch.sequence));
    return deferred.Promise();
  }
  auto operation = std::make_shared<OfferWait>(env, state_, request, length, start, timeoutNs);
  operation->begin(outcome);
  const Napi::Promise promise = operation->promise();
  client_->submit(std::move(operation));
  return promise;
}

Napi::Value PublicationBinding::addDestination(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (client_->isClosed()) return rejected(env, "CLOSED", "the client was closed");
  const int64_t command = client_->service().client().addDestination(state_->publisher.publication(), textOf(info[0]));
  auto operation = std::make_shared<ChangeDestination>(env, command);
  const Napi::Promise promise = operation->promise();
  client_->submit(std::move(operation));
  return promise;
}

Napi::Value PublicationBinding::removeDestination(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (client_->isClosed()) return rejected(env, "CLOSED", "the client was closed");
  const int64_t command = client_->service().client().removeDestination(state_->publisher.publication(), textOf(info[0]));
  auto operation = std::make_shared<ChangeDestination>(env, command);
  const Napi::Promise promise = operation->promise();
  client_->submit(std::move(operation));
  return promise;
}

// (timeoutMs)
Napi::Value PublicationBinding::drained(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (client_->isClosed()) return rejected(env, "CLOSED", "the client was closed");
  auto operation = std::make_shared<AwaitDrained>(env, state_, integerOf(info[0]) * 1'000'000);
  const Napi::Promise promise = operation->promise();
  client_->submit(std::move(operation));
  return promise;
}

Napi::Value PublicationBinding::close(const Napi::CallbackInfo& info) {
  state_->close(client_->service().client());
  if (!client_->isClosed()) client_->service().wake();  // offers that wait end now
  return info.Env().Undefined();
}

}  // namespace outrigger::addon
