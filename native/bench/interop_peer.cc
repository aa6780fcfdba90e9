// SPDX-License-Identifier: Apache-2.0
// Our client as a peer of the interop tests: obeys `<number> <verb> key=value ...` on standard input and answers each line with one of
// JSON, as test/interop/java does on Aeron's client, so that both can stand at either end of a test. No driver lives in here.
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <iostream>
#include <map>
#include <mutex>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "client/media_client.h"

namespace {

using namespace outrigger;
using namespace outrigger::client;

int64_t nowNs() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// A request that can't be done ends its thread's work with this text; the process goes on.
struct Failure {
  std::string message;
  std::string code;
};

class Json {
 public:
  Json& raw(const std::string& key, const std::string& value) {
    text_ += (text_.size() > 1 ? ",\"" : "\"") + key + "\":" + value;
    return *this;
  }
  Json& number(const std::string& key, int64_t value) { return raw(key, std::to_string(value)); }
  Json& flag(const std::string& key, bool value) { return raw(key, value ? "true" : "false"); }
  Json& text(const std::string& key, const std::string& value) { return raw(key, quoted(value)); }
  std::string str() const { return text_ + "}"; }

  static std::string quoted(const std::string& value) {
    std::string out = "\"";
    for (const char c : value) {
      if (c == '"' || c == '\\') out += '\\';
      out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    }
    return out + "\"";
  }

 private:
  std::string text_ = "{";
};

class Options {
 public:
  explicit Options(std::istringstream& words) {
    for (std::string word; words >> word;) {
      const size_t equals = word.find('=');
      if (equals != std::string::npos) values_[word.substr(0, equals)] = word.substr(equals + 1);
    }
  }
  bool has(const std::string& key) const { return values_.contains(key); }
  std::string text(const std::string& key, const std::string& fallback = {}) const {
    const auto found = values_.find(key);
    return found == values_.end() ? fallback : found->second;
  }
  int64_t number(const std::string& key, int64_t fallback) const { return has(key) ? std::stoll(text(key)) : fallback; }
  bool flag(const std::string& key) const { return text(key) == "true"; }

 private:
  std::map<std::string, std::string> values_;
};

// The message of test/interop/java's Payload.
namespace payload {
constexpr int32_t kMinLength = 16;

uint64_t word(int64_t sequence, int32_t at) {
  return (static_cast<uint64_t>(sequence) * 0x9E3779B97F4A7C15U + static_cast<uint64_t>(at)) * 0xBF58476D1CE4E5B9U;
}

uint8_t tail(int64_t sequence, int32_t at) {
  return static_cast<uint8_t>(static_cast<uint64_t>(sequence) * 31 + static_cast<uint64_t>(at));
}

void fill(uint8_t* data, int32_t length, int32_t stream, int64_t sequence) {
  writeAt<int64_t>(data, 0, sequence);
  writeAt<int32_t>(data, 8, length);
  writeAt<int32_t>(data, 12, stream);
  int32_t at = kMinLength;
  for (; at + 8 <= length; at += 8) writeAt<uint64_t>(data, static_cast<size_t>(at), word(sequence, at));
  for (; at < length; ++at) data[at] = tail(sequence, at);
}

bool matches(const uint8_t* data, int32_t length, int32_t stream, int64_t sequence) {
  if (length < kMinLength || readAt<int32_t>(data, 8) != length || readAt<int32_t>(data, 12) != stream) return false;
  int32_t at = kMinLength;
  for (; at + 8 <= length; at += 8) {
    if (readAt<uint64_t>(data, static_cast<size_t>(at)) != word(sequence, at)) return false;
  }
  for (; at < length; ++at) {
    if (data[at] != tail(sequence, at)) return false;
  }
  return true;
}
}  // namespace payload

const char* offerName(int64_t result) {
  switch (result) {
    case kOfferNotConnected:
      return "NOT_CONNECTED";
    case kOfferBackPressured:
      return "BACK_PRESSURED";
    case kOfferAdminAction:
      return "ADMIN_ACTION";
    case kOfferClosed:
      return "CLOSED";
    case kOfferMaxPositionExceeded:
      return "MAX_POSITION_EXCEEDED";
    case kOfferMessageTooLong:
      return "MESSAGE_TOO_LONG";
    default:
      return "OK";
  }
}

// Either kind of publication behind one face.
struct Sender {
  std::shared_ptr<MediaClient> client;
  std::shared_ptr<Publication> shared;
  std::shared_ptr<ExclusivePublication> exclusive;
  int64_t next = 0;
  std::mutex mutex;

  const PublicationBase& base() const { return shared ? static_cast<const PublicationBase&>(*shared) : *exclusive; }
  int64_t offer(const uint8_t* data, int32_t length) { return shared ? shared->offer(data, length) : exclusive->offer(data, length); }
  int64_t claim(int32_t length, BufferClaim& claim) {
    return shared ? shared->tryClaim(length, claim) : exclusive->tryClaim(length, claim);
  }
  int64_t position() const { return shared ? shared->position() : exclusive->position(); }

  int32_t length(const std::string& size, bool claimed) const {
    const int32_t most = base().maxPayloadLength();
    if (size == "max") return claimed ? most : base().maxMessageLength();
    if (size == "payload") return most;
    if (size != "mix") return std::stoi(size);
    const auto mixed = static_cast<int64_t>(static_cast<uint64_t>(next + 1) * 0x9E3779B97F4A7C15U >> 33);
    const int32_t upTo = claimed || mixed % 16 != 0 ? most : base().maxMessageLength() / 4;
    return payload::kMinLength + static_cast<int32_t>(mixed / 16 % (upTo - payload::kMinLength + 1));
  }

  Json send(const Options& options) {
    const std::lock_guard lock(mutex);
    const int64_t count = options.number("count", 0);
    const bool claimed = options.flag("claim");
    const int64_t deadline = nowNs() + options.number("timeout-ms", 30'000) * 1'000'000;
    std::vector<uint8_t> buffer(static_cast<size_t>(base().maxMessageLength()));
    int64_t sent = 0;
    int64_t refused[3] = {};  // by -result - 1: not connected, back pressured, admin action
    while (sent < count) {
      const int32_t bytes = length(options.text("size", "64"), claimed);
      int64_t result = 0;
      if (claimed) {
        BufferClaim room;
        result = claim(bytes, room);
        if (result > 0) {
          payload::fill(room.data(), bytes, base().streamId(), next);
          room.commit();
          base().ring();
        }
      } else {
        payload::fill(buffer.data(), bytes, base().streamId(), next);
        result = offer(buffer.data(), bytes);
      }
      if (result > 0) {
        ++sent;
        ++next;
        continue;
      }
      if (result < kOfferAdminAction) throw Failure{"after " + std::to_string(sent) + ": " + offerName(result), {}};
      ++refused[-result - 1];
      if (nowNs() > deadline) {
        if (options.flag("partial")) break;
        throw Failure{"after " + std::to_string(sent) + " of " + std::to_string(count) + ": " + offerName(result), {}};
      }
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
    return Json()
        .number("sent", sent)
        .number("next", next)
        .number("notConnected", refused[0])
        .number("backPressured", refused[1])
        .number("adminActions", refused[2])
        .number("position", position());
  }

  Json json() const {
    return Json()
        .text("registrationId", std::to_string(base().registrationId()))
        .number("session", base().sessionId())
        .number("maxMessage", base().maxMessageLength())
        .number("maxPayload", base().maxPayloadLength())
        .number("termLength", base().termLength())
        .number("position", position())
        .number("limit", base().positionLimit())
        .flag("connected", base().isConnected())
        .flag("closed", base().isClosed())
        .number("status", base().channelStatus())
        .raw("addresses", "[]");
  }
};

struct Seen {
  std::shared_ptr<Image> image;
  int64_t count = 0;
  int64_t bytes = 0;
  int64_t first = -1;
  int64_t next = 0;
  int64_t outOfOrder = 0;
  std::pair<int64_t, int64_t> firstWrong{-1, -1};  // what was due and what came, the first time that they differed
  int64_t corrupt = 0;
  int64_t longest = 0;
  int64_t reserved = 0;  // value of the last message's header
  bool ended = false;
  ImageEndReason reason = ImageEndReason::kNone;
};

// One subscription; polled by the thread of its client.
struct Collector {
  std::shared_ptr<Subscription> subscription;
  bool paused = false;
  bool closed = false;
  std::mutex mutex;
  std::vector<Seen> images;

  Seen& seen(const std::shared_ptr<Image>& image) {
    for (Seen& one : images) {
      if (one.image == image) return one;
    }
    images.emplace_back().image = image;
    return images.back();
  }

  int32_t poll() {
    const std::lock_guard lock(mutex);
    if (paused || closed) return 0;
    return subscription->pollMessages(
        [&](const uint8_t* data, int32_t length, const FragmentHeader& header) {
          Seen* one = nullptr;
          for (const auto& image : subscription->images()) {
            if (image.get() == header.image) one = &seen(image);
          }
          const int64_t sequence = length < payload::kMinLength ? -1 : readAt<int64_t>(data, 0);
          if (one->first < 0) {
            one->first = sequence;
          } else if (sequence != one->next) {
            if (one->outOfOrder++ == 0) one->firstWrong = {one->next, sequence};
          }
          if (!payload::matches(data, length, header.streamId(), sequence)) ++one->corrupt;
          one->next = sequence + 1;
          one->bytes += length;
          one->longest = std::max<int64_t>(one->longest, length);
          one->reserved = header.reservedValue();
          ++one->count;
        },
        64);
  }

  int64_t total(auto&& figure) {
    const std::lock_guard lock(mutex);
    int64_t sum = 0;
    for (const Seen& one : images) sum += figure(one);
    return sum;
  }

  Json json() {
    const std::lock_guard lock(mutex);
    std::string list;
    int64_t count = 0;
    for (const Seen& one : images) {
      count += one.count;
      list += (list.empty() ? "" : ",") + Json()
                                              .number("session", one.image->sessionId())
                                              .text("source", one.image->sourceIdentity())
                                              .number("joinPosition", one.image->joinPosition())
                                              .number("count", one.count)
                                              .number("bytes", one.bytes)
                                              .number("first", one.first)
                                              .number("next", one.next)
                                              .number("outOfOrder", one.outOfOrder)
                                              .number("due", one.firstWrong.first)
                                              .number("came", one.firstWrong.second)
                                              .number("corrupt", one.corrupt)
                                              .number("longest", one.longest)
                                              .text("reserved", std::to_string(one.reserved))
                                              .flag("ended", one.ended)
                                              .number("endPosition", one.ended ? one.image->position() : -1)
                                              .flag("endOfStream", one.reason == ImageEndReason::kEndOfStream)
                                              .flag("revoked", one.reason == ImageEndReason::kRevoked)
                                              .str();
    }
    return Json()
        .number("count", count)
        .flag("connected", subscription->isConnected())
        .number("status", subscription->channelStatus())
        .raw("addresses", "[]")
        .raw("images", "[" + list + "]");
  }
};

// A client with the thread that polls its subscriptions, sleeping as the sidecar's does.
struct Client {
  std::shared_ptr<MediaClient> media;
  std::mutex mutex;
  std::vector<std::shared_ptr<Collector>> collectors;
  std::vector<std::string> errors;
  std::atomic<bool> stop{false};
  std::thread poller;

  void start() {
    media->start();
    poller = std::thread([this] {
      ClientIdle idle(*media);
      const auto pollAll = [this] {
        int32_t work = 0;
        std::unique_lock lock(mutex);
        const auto all = collectors;
        lock.unlock();
        for (const auto& collector : all) work += collector->poll();
        return work;
      };
      while (!stop) idle.idle(pollAll(), nowNs(), 20'000'000, [&] { return pollAll() > 0; });
    });
  }
  void close() {
    stop = true;
    if (poller.joinable()) {
      media->wake();
      poller.join();
    }
    media->close();
  }
};

class Server {
 public:
  void run() {
    std::vector<std::thread> workers;
    for (std::string line; std::getline(std::cin, line);) {
      workers.emplace_back([this, line] { answer(line); });
    }
    for (auto& worker : workers) worker.join();
    for (auto& [name, client] : clients_) client->close();
  }

 private:
  void answer(const std::string& line) {
    std::istringstream words(line);
    std::string number;
    std::string verb;
    words >> number >> verb;
    const Options options(words);
    Json json;
    try {
      json = handle(verb, options);
    } catch (const Failure& failure) {
      json = Json().text("error", failure.message).text("kind", failure.code.empty() ? "Failure" : "Refused");
      if (!failure.code.empty()) json.text("code", failure.code);
    }
    json.raw("re", number);
    const std::lock_guard lock(output_);
    std::cout << json.str() << std::endl;
  }

  Json handle(const std::string& verb, const Options& options) {
    if (verb == "client") return addClient(options);
    if (verb == "pub") return addSender(options);
    if (verb == "sub") return addCollector(options);
    if (verb == "send") return find(senders_, options.text("name"))->send(options);
    if (verb == "offer") return offerOnce(options);
    if (verb == "pub-status") return find(senders_, options.text("name"))->json();
    if (verb == "sub-status") return find(collectors_, options.text("name"))->json();
    if (verb == "await-pub") return awaitSender(options);
    if (verb == "await-sub") return awaitCollector(options);
    if (verb == "add-destination" || verb == "remove-destination") return destination(options, verb == "add-destination");
    if (verb == "client-status") return clientStatus(options);
    if (verb == "close") return close(options.text("name"));
    if (verb == "pause") {
      const auto collector = find(collectors_, options.text("name"));
      const std::lock_guard lock(collector->mutex);
      collector->paused = options.flag("on");
      return {};
    }
    throw Failure{"unknown request " + verb, {}};
  }

  template <typename T>
  std::shared_ptr<T> find(std::map<std::string, std::shared_ptr<T>>& objects, const std::string& name) {
    const std::lock_guard lock(objects_);
    const auto found = objects.find(name);
    if (found == objects.end()) throw Failure{"nothing of that kind is named " + name, {}};
    return found->second;
  }

  template <typename T>
  void put(std::map<std::string, std::shared_ptr<T>>& objects, const Options& options, std::shared_ptr<T> object) {
    const std::lock_guard lock(objects_);
    objects[options.text("name")] = std::move(object);
  }

  template <typename T>
  static T take(Result<T> result) {
    if (!result.ok()) throw Failure{result.error().message, std::to_string(static_cast<int>(result.error().code))};
    return std::move(result.value());
  }

  Json addClient(const Options& options) {
    auto client = std::make_shared<Client>();
    MediaClientOptions settings;
    settings.directory = options.text("dir");
    settings.driverTimeoutNs = options.number("driver-timeout-ms", 10'000) * 1'000'000;
    Client* raw = client.get();
    settings.onDriverLost = [raw](const std::string& reason) {
      const std::lock_guard lock(raw->mutex);
      raw->errors.push_back(reason);
    };
    settings.onError = [raw](const Error& error) {
      const std::lock_guard lock(raw->mutex);
      raw->errors.push_back(error.message);
    };
    client->media = take(MediaClient::connectWithin(settings, 10'000'000'000));
    client->start();
    put(clients_, options, client);
    return Json().text("clientId", std::to_string(client->media->clientId()));
  }

  Json clientStatus(const Options& options) {
    const auto client = find(clients_, options.text("name"));
    if (options.has("await-closed")) await(options, "closing of the client", [&] { return client->media->isDriverLost(); });
    const std::lock_guard lock(client->mutex);
    std::string list;
    for (const auto& error : client->errors) list += (list.empty() ? "" : ",") + Json::quoted(error);
    return Json().flag("closed", client->media->isClosed() || client->media->isDriverLost()).raw("errors", "[" + list + "]");
  }

  Json addSender(const Options& options) {
    const auto client = find(clients_, options.text("client"));
    auto sender = std::make_shared<Sender>();
    sender->client = client->media;
    const auto stream = static_cast<int32_t>(options.number("stream", 0));
    if (options.flag("exclusive")) {
      sender->exclusive =
          take(client->media->awaitExclusivePublication(client->media->addExclusivePublication(options.text("channel"), stream)));
    } else {
      sender->shared = take(client->media->awaitPublication(client->media->addPublication(options.text("channel"), stream)));
    }
    put(senders_, options, sender);
    return sender->json();
  }

  Json addCollector(const Options& options) {
    const auto client = find(clients_, options.text("client"));
    auto collector = std::make_shared<Collector>();
    collector->paused = options.flag("paused");
    const auto onAvailable = [collector](Subscription&, const std::shared_ptr<Image>& image) {
      const std::lock_guard lock(collector->mutex);
      collector->seen(image);
    };
    const auto onUnavailable = [collector](Subscription&, const std::shared_ptr<Image>& image) {
      const std::lock_guard lock(collector->mutex);
      Seen& one = collector->seen(image);
      one.ended = true;
      one.reason = image->endReason();
    };
    const int64_t id = client->media->addSubscription(options.text("channel"), static_cast<int32_t>(options.number("stream", 0)),
                                                      onAvailable, onUnavailable);
    collector->subscription = take(client->media->awaitSubscription(id));
    put(collectors_, options, collector);
    const std::lock_guard lock(client->mutex);
    client->collectors.push_back(collector);
    return collector->json();
  }

  Json offerOnce(const Options& options) {
    const auto sender = find(senders_, options.text("name"));
    std::vector<uint8_t> buffer(static_cast<size_t>(options.number("size", 64)));
    payload::fill(buffer.data(), static_cast<int32_t>(buffer.size()), sender->base().streamId(), sender->next);
    const int64_t result = sender->offer(buffer.data(), static_cast<int32_t>(buffer.size()));
    if (result > 0) ++sender->next;
    return Json().number("result", result).text("name", offerName(result));
  }

  Json awaitSender(const Options& options) {
    const auto sender = find(senders_, options.text("name"));
    if (options.has("connected")) {
      const bool wanted = options.flag("connected");
      await(options, "connected", [&] { return sender->base().isConnected() == wanted; });
    }
    if (options.has("closed")) await(options, "closed", [&] { return sender->base().isClosed(); });
    return sender->json();
  }

  Json awaitCollector(const Options& options) {
    const auto collector = find(collectors_, options.text("name"));
    const auto await = [&](const char* key, auto&& figure, bool exact) {
      if (!options.has(key)) return;
      const int64_t wanted = options.number(key, 0);
      Server::await(options, std::string(key) + ": " + collector->json().str(), [&] {
        const int64_t now = collector->total(figure);
        return exact ? now == wanted : now >= wanted;
      });
    };
    await(
        "count", [](const Seen& one) { return one.count; }, false);
    await(
        "images", [](const Seen& one) { return one.ended ? 0 : 1; }, true);
    await(
        "ended", [](const Seen& one) { return one.ended ? 1 : 0; }, false);
    return collector->json();
  }

  Json destination(const Options& options, bool add) {
    const auto sender = find(senders_, options.text("name"));
    const std::string channel = options.text("channel");
    const int64_t id =
        add ? sender->client->addDestination(sender->base(), channel) : sender->client->removeDestination(sender->base(), channel);
    const CommandStatus status = sender->client->await(id);
    if (!status.succeeded()) throw Failure{status.error.message, std::to_string(static_cast<int>(status.error.code))};
    return {};
  }

  Json close(const std::string& name) {
    std::unique_lock lock(objects_);
    if (const auto sender = senders_.extract(name)) {
      lock.unlock();
      if (sender.mapped()->shared) sender.mapped()->client->closePublication(sender.mapped()->shared);
      if (sender.mapped()->exclusive) sender.mapped()->client->closePublication(sender.mapped()->exclusive);
    } else if (const auto collector = collectors_.extract(name)) {
      const auto clients = clients_;
      lock.unlock();
      for (const auto& [key, client] : clients) {
        const std::lock_guard hold(client->mutex);
        if (std::erase(client->collectors, collector.mapped()) == 0) continue;
        const std::lock_guard polling(collector.mapped()->mutex);
        collector.mapped()->closed = true;
        client->media->closeSubscription(collector.mapped()->subscription);
      }
    } else if (const auto client = clients_.extract(name)) {
      lock.unlock();
      client.mapped()->close();
    } else {
      throw Failure{"nothing is named " + name, {}};
    }
    return {};
  }

  template <typename Condition>
  static void await(const Options& options, const std::string& what, Condition&& condition) {
    const int64_t deadline = nowNs() + options.number("timeout-ms", 45'000) * 1'000'000;
    while (!condition()) {
      if (nowNs() > deadline) throw Failure{"no " + what, {}};
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }

  std::mutex output_;
  std::mutex objects_;
  std::map<std::string, std::shared_ptr<Client>> clients_;
  std::map<std::string, std::shared_ptr<Sender>> senders_;
  std::map<std::string, std::shared_ptr<Collector>> collectors_;
};

}  // namespace

int main() {
  Server().run();
  return 0;
}
