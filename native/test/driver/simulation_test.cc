// SPDX-License-Identifier: Apache-2.0
// Two whole drivers and their clients on a simulated network and a virtual clock: streams under loss, reordering, duplication, partitions,
// restarts and churn, judged by what the publisher wrote down. A failing seed is printed and replays exactly: OUTRIGGER_SIM_SEED=<seed>.
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/random.h"
#include "client/media_client.h"
#include "driver/media_driver.h"
#include "io/sim/sim_network.h"
#include "message_check.h"
#include "mortal_io.h"
#include "runtime/temp_directory.h"

namespace outrigger::test {
namespace {

using client::Image;
using client::ImageEndReason;
using client::MediaClient;
using driver::DriverConfig;
using driver::kMilliNs;
using driver::kSecondNs;
using driver::MediaDriver;

constexpr const char* kPublisherHost = "10.0.0.1";
constexpr const char* kSubscriberHost = "10.0.0.2";
constexpr const char* kChannel = "aeron:udp?endpoint=10.0.0.2:40123";
constexpr int32_t kStream = 77;
constexpr int64_t kActiveNs = 4 * kSecondNs;
constexpr int64_t kSettleNs = 60 * kSecondNs;  // long enough for every timeout there is
constexpr int kDefaultSeeds = 40;

// What a publisher wrote: message number -> position after it. Numbers start at 0 in each session.
struct SessionHistory {
  std::vector<int64_t> positions;
  bool closed = false;
};

class Host {
 public:
  Host(io::SimNetwork& network, ManualClock& clock, const char* name, uint64_t seed) : network_(network), clock_(clock), name_(name) {
    config_ = DriverConfig{};
    config_.threadingMode = driver::ThreadingMode::kInvoker;
    config_.termBufferLength = 64 * 1024;
    config_.directory = parent_ / "driver";
    config_.randomSeed = seed | 1;
    config_.backends = {"first", "second"};
    if (seed % 2 == 0) config_.backendRetryNs = 200 * kMilliNs;
  }

  void start() {
    driver::MediaDriverParts parts;
    parts.clock = &clock_;
    parts.openBackend = [this](const std::string& name) { return openMortal(name, fates_, [this] { return network_.createIo(name_); }); };
    ++config_.randomSeed;
    auto launched = MediaDriver::launch(config_, std::move(parts));
    ASSERT_TRUE(launched.ok()) << launched.error().message;
    driver_ = launched.take();
    client::MediaClientOptions options;
    options.directory = config_.directory;
    auto connected = MediaClient::connect(options, clock_.nanoTime(), clock_.epochMillis());
    ASSERT_TRUE(connected.ok()) << connected.error().message;
    client_ = connected.take();
  }
  void stop() {
    client_.reset();
    driver_.reset();
  }
  int32_t step() { return driver_->doWork() + client_->doWork(clock_.nanoTime(), clock_.epochMillis()); }
  int64_t nextDeadlineNs() { return driver_->nextDeadlineNs(); }
  MediaClient& client() { return *client_; }
  // Takes the device of one backend away and gives that of the other one back.
  std::string loseBackend() {
    const std::string lost = lost_ == "first" ? "second" : "first";
    fates_->set(lost_, io::Health::State::kOk);
    fates_->set(lost, io::Health::State::kGone);
    return lost_ = lost;
  }

 private:
  TempDirectory parent_;
  std::shared_ptr<Fates> fates_ = std::make_shared<Fates>();
  std::string lost_;
  io::SimNetwork& network_;
  ManualClock& clock_;
  const char* name_;
  DriverConfig config_;
  std::unique_ptr<MediaDriver> driver_;
  std::unique_ptr<MediaClient> client_;
};

class Simulation {
 public:
  explicit Simulation(uint64_t seed)
      : random_(seed),
        options_(options(seed)),
        network_(options_),
        publisher_(network_, clock_, kPublisherHost, seed * 2),
        subscriber_(network_, clock_, kSubscriberHost, seed * 3) {}
  ~Simulation() {
    subscription_.reset();
    publication_.reset();
    publisher_.stop();
    subscriber_.stop();
  }

  void run() {
    network_.setNow(clock_.nanoTime());
    publisher_.start();
    subscriber_.start();
    if (::testing::Test::HasFatalFailure()) return;
    subscribe();
    publish();
    const int64_t endNs = clock_.nanoTime() + kActiveNs;
    int64_t nextEventNs = clock_.nanoTime() + static_cast<int64_t>(random_.below(500)) * kMilliNs;
    while (clock_.nanoTime() < endNs && error_.empty()) {
      if (clock_.nanoTime() >= nextEventNs) {
        happen();
        nextEventNs = clock_.nanoTime() + static_cast<int64_t>(random_.below(1'500)) * kMilliNs;
      }
      offer();
      if (clock_.nanoTime() >= readerPausedUntilNs_) poll();
      advance(static_cast<int64_t>(random_.below(2'000'000)) + 1'000);
    }
    settle();
  }

  std::string error() const { return error_.empty() ? std::string() : error_ + "\n" + log_.str(); }
  uint64_t received() const { return received_; }
  uint64_t digest() const { return network_.traceDigest(); }

 private:
  static io::SimOptions options(uint64_t seed) {
    Random random(seed * 77 + 5);
    io::SimOptions options;
    options.seed = seed;
    // From a perfect to a miserable link.
    options.link.loss = random.chance(0.3) ? 0 : random.unit() * 0.1;
    options.link.duplicate = random.chance(0.5) ? 0 : random.unit() * 0.05;
    options.link.reorder = random.chance(0.5) ? 0 : random.unit() * 0.1;
    options.link.delayNs = 5'000 + static_cast<int64_t>(random.below(2'000'000));
    options.link.jitterNs = static_cast<int64_t>(random.below(200'000));
    options.coalescing = random.chance(0.7);
    options.segmentationOffload = random.chance(0.7);
    return options;
  }

  void note(const std::string& what) { log_ << clock_.nanoTime() / 1'000 << " us: " << what << "\n"; }
  void fail(const std::string& what) {
    if (error_.empty()) error_ = what;
    note(what);
  }

  // Moves the clock by `ns`, stopping wherever a datagram arrives or an agent is due.
  void advance(int64_t ns) {
    const int64_t endNs = clock_.nanoTime() + ns;
    for (;;) {
      for (int cycles = 0; publisher_.step() + subscriber_.step() > 0 && cycles < 8;) ++cycles;
      const int64_t nowNs = clock_.nanoTime();
      if (nowNs >= endNs) return;
      int64_t nextNs = std::min({endNs, network_.nextEventNs(), publisher_.nextDeadlineNs(), subscriber_.nextDeadlineNs()});
      nextNs = std::max(nextNs, nowNs + 2'000);
      clock_.set(nextNs);
      network_.setNow(nextNs);
    }
  }

  template <typename Condition>
  bool until(Condition condition, int64_t limitNs) {
    const int64_t endNs = clock_.nanoTime() + limitNs;
    while (!condition()) {
      if (clock_.nanoTime() > endNs || !error_.empty()) return false;
      advance(kMilliNs);
    }
    return true;
  }

  void subscribe() {
    const int64_t id = subscriber_.client().addSubscription(
        kChannel, kStream, [this](auto&, const std::shared_ptr<Image>& image) { onAvailable(image); },
        [this](auto&, const std::shared_ptr<Image>& image) { onUnavailable(*image); });
    client::CommandStatus status;
    if (!until([&] { return (status = subscriber_.client().status(id)).done(); }, kSettleNs) || !status.succeeded()) {
      return fail("no subscription: " + status.error.message);
    }
    subscription_ = subscriber_.client().subscription(id);
  }

  void publish() {
    const int64_t id = publisher_.client().addExclusivePublication(kChannel, kStream);
    client::CommandStatus status;
    if (!until([&] { return (status = publisher_.client().status(id)).done(); }, kSettleNs) || !status.succeeded()) {
      return fail("no publication: " + status.error.message);
    }
    publication_ = publisher_.client().exclusivePublication(id);
    if (histories_.contains(publication_->sessionId())) return fail("session id used twice");
    note("publication " + std::to_string(publication_->sessionId()));
  }

  void offer() {
    SessionHistory& history = histories_[publication_->sessionId()];
    const uint64_t burst = random_.below(8);
    for (uint64_t i = 0; i < burst; ++i) {
      const bool large = random_.chance(0.05);
      const auto limit = static_cast<uint64_t>(large ? publication_->maxMessageLength() : 600);
      const auto length = static_cast<int32_t>(kMessageHeader + random_.below(limit - kMessageHeader + 1));
      makeMessage(message_, history.positions.size(), length);
      int64_t result = publication_->offer(message_.data(), length);
      if (result == client::kOfferAdminAction) result = publication_->offer(message_.data(), length);
      if (result < 0) return;
      if (!history.positions.empty() && result <= history.positions.back()) return fail("the publisher's position went back");
      if (result > publication_->positionLimit() + publication_->maxMessageLength() * 2) return fail("the publisher ran past its limit");
      history.positions.push_back(result);
    }
  }

  void poll() {
    if (!subscription_) return;
    subscription_->pollMessages(
        [&](const uint8_t* data, int32_t length, const client::FragmentHeader& header) {
          auto found = images_.find(header.image->correlationId());
          if (found == images_.end()) return fail("a message of an image that was not announced");
          ImageState& image = found->second;
          image.check.onMessage(data, length);
          if (!image.check.error.empty()) return fail("session " + std::to_string(image.sessionId) + ": " + image.check.error);
          const SessionHistory& history = histories_[image.sessionId];
          const uint64_t number = image.check.next - 1;
          if (number >= history.positions.size()) return fail("a message that was never sent");
          if (history.positions[number] != header.position) {
            return fail("message " + std::to_string(number) + " ends at " + std::to_string(header.position) + ", sent it ended at " +
                        std::to_string(history.positions[number]));
          }
          if (header.position <= image.position) return fail("the reader's position went back");
          image.position = header.position;
          ++received_;
        },
        static_cast<int32_t>(1 + random_.below(64)));
  }

  void onAvailable(const std::shared_ptr<Image>& image) {
    note("image of " + std::to_string(image->sessionId()) + " at " + std::to_string(image->position()));
    for (const auto& [id, other] : images_) {
      if (other.sessionId == image->sessionId() && other.available) fail("two images of one session");
    }
    ImageState state;
    state.sessionId = image->sessionId();
    state.available = true;
    state.position = image->joinPosition();
    images_[image->correlationId()] = state;
  }

  void onUnavailable(const Image& image) {
    note("image of " + std::to_string(image.sessionId()) + " gone at " + std::to_string(image.position()));
    ImageState& state = images_[image.correlationId()];
    if (!state.available) fail("an image went twice");
    state.available = false;
    // What ended cleanly was read to its end; an image that timed out may lack the rest, and that is what the event says.
    const SessionHistory& history = histories_[image.sessionId()];
    if (image.endReason() == ImageEndReason::kEndOfStream && history.closed && state.check.received > 0 &&
        state.check.next != history.positions.size()) {
      fail("session " + std::to_string(image.sessionId()) + " ended after message " + std::to_string(state.check.next) + " of " +
           std::to_string(history.positions.size()));
    }
  }

  void partition(bool on) {
    io::SimLink link = options_.link;
    link.partitioned = on;
    ASSERT_TRUE(network_.setLinkBoth(kPublisherHost, kSubscriberHost, link).ok());
    note(on ? "partition" : "healed");
  }

  void waitPolling(int64_t ns) {
    const int64_t endNs = clock_.nanoTime() + ns;
    while (clock_.nanoTime() < endNs && error_.empty()) {
      offer();
      poll();
      advance(5 * kMilliNs);
    }
  }

  void happen() {
    switch (random_.below(11)) {
      case 8:
        note("publisher's backend lost: " + publisher_.loseBackend());
        break;
      case 9:
        note("subscriber's backend lost: " + subscriber_.loseBackend());
        break;
      case 0:
        note("subscriber leaves");
        subscriber_.client().closeSubscription(subscription_);
        for (auto& [id, image] : images_) image.available = false;
        if (random_.chance(0.5)) waitPolling(static_cast<int64_t>(random_.below(3'000)) * kMilliNs);
        subscribe();
        break;
      case 1:
        note("publisher restarts");
        histories_[publication_->sessionId()].closed = true;
        publisher_.client().closePublication(publication_);
        publish();
        break;
      case 2:
        partition(true);
        waitPolling(static_cast<int64_t>(random_.below(2'000)) * kMilliNs);
        partition(false);
        break;
      case 3:
        partition(true);
        waitPolling(11 * kSecondNs + static_cast<int64_t>(random_.below(4'000)) * kMilliNs);
        partition(false);
        break;
      case 4: {
        note("publisher's driver dies");
        partition(true);
        publication_.reset();
        publisher_.stop();
        partition(false);
        publisher_.start();
        publish();
        break;
      }
      case 5:
      case 6:
        readerPausedUntilNs_ = clock_.nanoTime() + static_cast<int64_t>(random_.below(1'500)) * kMilliNs;
        note("reader pauses");
        break;
      default:
        break;
    }
  }

  // After all that, a stream must work: everything from now on arrives, and the publisher is connected.
  void settle() {
    if (!error_.empty()) return;
    note("settling");
    readerPausedUntilNs_ = 0;
    const int32_t sessionId = publication_->sessionId();
    const auto reading = [&]() -> ImageState* {
      for (auto& [id, image] : images_) {
        if (image.sessionId == sessionId && image.available) return &image;
      }
      return nullptr;
    };
    if (!until(
            [&] {
              poll();
              return publication_->isConnected() && reading() != nullptr;
            },
            kSettleNs)) {
      return fail("no connection after everything healed");
    }
    const size_t before = histories_[sessionId].positions.size();
    if (!until(
            [&] {
              if (histories_[sessionId].positions.size() < before + 200) offer();
              poll();
              const ImageState* image = reading();
              return histories_[sessionId].positions.size() >= before + 200 && image != nullptr &&
                     image->check.next == histories_[sessionId].positions.size();
            },
            kSettleNs)) {
      const ImageState* image = reading();
      return fail("stuck: sent " + std::to_string(histories_[sessionId].positions.size()) + ", read " +
                  (image == nullptr ? std::string("nothing, the image is gone") : std::to_string(image->check.next)));
    }
    histories_[sessionId].closed = true;
    publisher_.client().closePublication(publication_);
    if (!until(
            [&] {
              poll();
              return reading() == nullptr;
            },
            kSettleNs)) {
      fail("the image outlives its publisher");
    }
  }

  struct ImageState {
    int32_t sessionId = 0;
    bool available = false;
    int64_t position = 0;
    MessageCheck check{true};
  };

  Random random_;
  ManualClock clock_;
  io::SimOptions options_ = {};
  io::SimNetwork network_;
  Host publisher_;
  Host subscriber_;
  std::shared_ptr<client::ExclusivePublication> publication_;
  std::shared_ptr<client::Subscription> subscription_;
  std::map<int32_t, SessionHistory> histories_;
  std::map<int64_t, ImageState> images_;
  std::vector<uint8_t> message_;
  int64_t readerPausedUntilNs_ = 0;
  uint64_t received_ = 0;
  std::string error_;
  std::ostringstream log_;
};

TEST(DriverSimulation, EveryHistoryIsInOrderExactlyOnceAndGapsAreAnnounced) {
  uint64_t first = 1;
  uint64_t last = kDefaultSeeds;
  if (const char* one = std::getenv("OUTRIGGER_SIM_SEED"); one != nullptr) first = last = std::strtoull(one, nullptr, 10);
  if (const char* many = std::getenv("OUTRIGGER_SIM_SEEDS"); many != nullptr) last = std::strtoull(many, nullptr, 10);
  uint64_t received = 0;
  for (uint64_t seed = first; seed <= last; ++seed) {
    Simulation simulation(seed);
    simulation.run();
    received += simulation.received();
    ASSERT_EQ(simulation.error(), "") << "OUTRIGGER_SIM_SEED=" << seed;
  }
  EXPECT_GT(received, (last - first + 1) * 200) << "the simulated streams did carry something";
}

TEST(DriverSimulation, OneSeedReplaysExactly) {
  for (const uint64_t seed : {3, 11}) {
    uint64_t digests[2];
    uint64_t received[2];
    for (int i = 0; i < 2; ++i) {
      Simulation simulation(seed);
      simulation.run();
      digests[i] = simulation.digest();
      received[i] = simulation.received();
    }
    EXPECT_EQ(digests[0], digests[1]) << seed;
    EXPECT_EQ(received[0], received[1]) << seed;
  }
}

}  // namespace
}  // namespace outrigger::test
