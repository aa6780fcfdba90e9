// SPDX-License-Identifier: Apache-2.0
// The engine as the floors are: driver and client on one thread, which never sleeps (invoker). Roles send, receive, ping and pong; what the driver runs
// with is in the environment, as for outrigger-driver. So threads, payload, checks and clock are a floor's (floor.cc), and the rest is the engine.
#include <functional>
#include <memory>

#include "driver/config_parser.h"
#include "driver/media_driver.h"
#include "measured_window.h"
#include "round_trips.h"
#include "session.h"

namespace outrigger::bench {
namespace {

constexpr int64_t kNsPerMs = 1'000'000;

class Engine {
 public:
  explicit Engine(const Arguments& arguments) : patienceNs_(arguments.number("patience-ms", 15'000) * kNsPerMs) {
    auto parsed = driver::parseConfig({}, driver::processEnvironment());
    if (!parsed) die(parsed.error().message);
    driver::DriverConfig config = parsed->config;
    config.directory = arguments.text("dir");
    config.deleteDirectoryOnStart = true;
    config.deleteDirectoryOnShutdown = true;
    config.threadingMode = driver::ThreadingMode::kInvoker;
    auto launched = driver::MediaDriver::launch(config);
    if (!launched) die(launched.error().message);
    driver_ = launched.take();
    client::MediaClientOptions options;
    options.directory = config.directory;
    options.useDoorbells = false;  // whom should they wake?
    options.onError = [](const Error& error) { std::fprintf(stderr, "%s\n", error.message.c_str()); };
    auto connected = client::MediaClient::connect(options, nowNs(), clock_.epochMillis());
    if (!connected) die(connected.error().message);
    client_ = connected.take();
  }
  ~Engine() {
    client_->close();
    client_.reset();
    driver_.reset();
  }
  Engine(const Engine&) = delete;

  client::MediaClient& client() { return *client_; }
  const std::string& backend() const { return driver_->backend(); }

  // One duty cycle of everything; returns the time after the driver's.
  int64_t step() {
    driver_->doWork();
    const int64_t now = driver_->workedUntilNs();
    if (now >= nextClientNs_) {
      nextClientNs_ = now + kNsPerMs;
      client_->doWork(now, clock_.epochMillis());
    }
    return now;
  }
  void until(const std::string& what, const std::function<bool()>& reached) {
    const int64_t deadlineNs = nowNs() + patienceNs_;
    while (!reached()) {
      if (stopped()) std::exit(2);
      if (step() > deadlineNs) die(what + " within " + std::to_string(patienceNs_ / kNsPerMs) + " ms");
    }
  }
  std::shared_ptr<client::ExclusivePublication> publication(const std::string& channel, int32_t stream) {
    const int64_t id = client_->addExclusivePublication(channel, stream);
    await(id);
    return client_->exclusivePublication(id);
  }
  std::shared_ptr<client::Subscription> subscription(const std::string& channel, int32_t stream) {
    const int64_t id = client_->addSubscription(channel, stream);
    await(id);
    return client_->subscription(id);
  }

 private:
  void await(int64_t id) {
    client::CommandStatus status;
    until("the driver did not answer", [&] {
      status = client_->status(id);
      return status.done();
    });
    if (!status.succeeded()) die(status.error.message);
  }

  const int64_t patienceNs_;
  SystemClock clock_;
  std::unique_ptr<driver::MediaDriver> driver_;
  std::unique_ptr<client::MediaClient> client_;
  int64_t nextClientNs_ = 0;
};

int32_t streamOf(const Arguments& arguments) { return static_cast<int32_t>(arguments.number("stream", 1001)); }

void sayReady(const Engine& engine) { say("{\"event\":\"ready\",\"backend\":\"" + engine.backend() + "\"}"); }

int64_t offer(client::ExclusivePublication& publication, const uint8_t* data, int32_t length) {
  int64_t result = publication.offer(data, length, client::Wake::kLater);
  if (result == client::kOfferAdminAction) result = publication.offer(data, length, client::Wake::kLater);
  if (result < 0 && result != client::kOfferBackPressured && result != client::kOfferAdminAction && result != client::kOfferNotConnected) {
    die("publication answered " + std::to_string(result));
  }
  return result;
}

int send(const Arguments& arguments) {
  constexpr int64_t kTrainBytes = 65'507;  // the longest UDP payload over IPv4
  const Payload payload;
  const auto length = static_cast<int32_t>(arguments.number("size", kMinMessageLength));
  if (length < kMinMessageLength || length > kMaxMessageLength) die("--size " + std::to_string(length) + " is out of range");
  Engine engine(arguments);
  const auto publication = engine.publication(arguments.text("channel"), streamOf(arguments));
  sayReady(engine);
  engine.until("no subscriber came", [&] { return publication->isConnected(); });
  // Between two duty cycles: what fills two trains, so that those are as long as a floor's.
  const int64_t datagram = publication->maxPayloadLength() + wire::kDataHeaderLength;
  const int64_t burstBytes = 2 * (kTrainBytes / datagram) * datagram;
  std::vector<uint8_t> buffer(kMaxMessageLength);
  int64_t sent = 0;
  while (!stopped()) {
    for (const int64_t end = publication->position() + burstBytes; publication->position() < end;) {
      if (length > publication->maxPayloadLength()) {
        payload.fill(buffer.data(), length, sent, 0);
        if (offer(*publication, buffer.data(), length) < 0) break;
      } else {
        client::BufferClaim claim;
        const int64_t position = publication->tryClaim(length, claim);
        if (position == client::kOfferAdminAction) continue;
        if (position < 0) break;
        payload.fill(claim.data(), length, sent, 0);
        claim.commit();
      }
      ++sent;
    }
    engine.step();
  }
  say("{\"sent\":" + std::to_string(sent) + "}");
  return 0;
}

int receive(const Arguments& arguments) {
  constexpr int32_t kFragments = 256;
  MeasuredWindow window(arguments);
  Engine engine(arguments);
  const auto subscription = engine.subscription(arguments.text("channel"), streamOf(arguments));
  sayReady(engine);
  Checker checker;
  const auto handler = [&](const uint8_t* data, int32_t length, const client::FragmentHeader&) { checker.onMessage(data, length); };
  int64_t now = 0;
  do {
    now = engine.step();
    subscription->pollMessages(handler, kFragments);
  } while (!stopped() && window.goesOn(checker, now));
  if (stopped()) return 2;
  say(window.json(checker));
  return checker.clean() ? 0 : 1;
}

int ping(const Arguments& arguments) {
  RoundTrips trips(arguments);
  Engine engine(arguments);
  const auto subscription = engine.subscription(arguments.text("back"), streamOf(arguments));
  const auto publication = engine.publication(arguments.text("channel"), streamOf(arguments));
  sayReady(engine);
  engine.until("no connection to the reflector and back", [&] { return publication->isConnected() && subscription->isConnected(); });
  std::vector<uint8_t> buffer(kMaxMessageLength);
  const auto handler = [&](const uint8_t* data, int32_t length, const client::FragmentHeader&) { trips.onAnswer(data, length); };
  trips.start();
  for (;;) {
    const int64_t now = engine.step();
    subscription->pollMessages(handler, 64);
    if (stopped() || trips.over(now)) break;
    if (!trips.isDue(now)) continue;
    trips.fill(buffer.data());
    if (offer(*publication, buffer.data(), trips.length()) < 0) {
      trips.refused();
    } else {
      trips.sent();
    }
  }
  say(trips.json());
  return trips.clean() ? 0 : 1;
}

int pong(const Arguments& arguments) {
  Engine engine(arguments);
  const auto subscription = engine.subscription(arguments.text("channel"), streamOf(arguments));
  const auto publication = engine.publication(arguments.text("back"), streamOf(arguments));
  sayReady(engine);
  int64_t reflected = 0;
  const auto handler = [&](const uint8_t* data, int32_t length, const client::FragmentHeader&) {
    if (offer(*publication, data, length) < 0) return client::PollAction::kAbort;
    ++reflected;
    return client::PollAction::kContinue;
  };
  while (!stopped()) {
    engine.step();
    subscription->pollMessages(handler, 64);
  }
  say("{\"reflected\":" + std::to_string(reflected) + "}");
  return 0;
}

int start(const Arguments& arguments) {
  installStop();
  const std::string role = arguments.text("role");
  if (role == "send") return send(arguments);
  if (role == "receive") return receive(arguments);
  if (role == "ping") return ping(arguments);
  if (role == "pong") return pong(arguments);
  die("--role '" + role + "' is none of send, receive, ping, pong");
}

}  // namespace
}  // namespace outrigger::bench

int main(int argc, char** argv) { return outrigger::bench::start(outrigger::bench::Arguments(argc, argv)); }
