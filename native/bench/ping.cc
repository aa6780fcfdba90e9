// SPDX-License-Identifier: Apache-2.0
// Round-trip times between two clients of two drivers, open loop (round_trips.h).
#include "round_trips.h"

namespace outrigger::bench {
namespace {

constexpr int64_t kNsPerMs = 1'000'000;

int run(const Arguments& arguments) {
  installStop();
  RoundTrips trips(arguments);
  const auto client = connectOrDie(arguments);
  const auto stream = static_cast<int32_t>(arguments.number("stream", 1001));
  const auto subscription = orDie(client->awaitSubscription(client->addSubscription(arguments.text("back"), stream)));
  const auto publication = orDie(client->awaitExclusivePublication(client->addExclusivePublication(arguments.text("channel"), stream)));
  say("{\"event\":\"ready\"}");
  const int64_t deadlineNs = nowNs() + arguments.number("patience-ms", 15'000) * kNsPerMs;
  while (!(publication->isConnected() && subscription->isConnected())) {
    if (stopped() || nowNs() > deadlineNs) die("no connection to the reflector and back");
    ::usleep(1000);
  }

  Idle idle(*client, arguments.text("idle", "doorbell"));
  std::vector<uint8_t> buffer(kMaxMessageLength);
  const auto handler = [&](const uint8_t* data, int32_t length, const client::FragmentHeader&) { trips.onAnswer(data, length); };
  const auto hasWork = [&] { return subscription->hasWork(); };
  trips.start();
  for (;;) {
    int32_t work = subscription->pollMessages(handler, 64);
    int64_t now = nowNs();
    if (stopped() || trips.over(now)) break;
    while (trips.isDue(now)) {
      trips.fill(buffer.data());
      const int64_t result = publication->offer(buffer.data(), trips.length());
      if (result == client::kOfferAdminAction) continue;
      if (result == client::kOfferBackPressured) {
        trips.refused();
        break;
      }
      if (result < 0) die("publication answered " + std::to_string(result) + " to a message");
      trips.sent();
      ++work;
      now = nowNs();
    }
    idle.idle(work, now, trips.untilDueNs(now), hasWork);
  }
  say(trips.json());
  client->close();
  return trips.clean() ? 0 : 1;
}

}  // namespace
}  // namespace outrigger::bench

int main(int argc, char** argv) { return outrigger::bench::run(outrigger::bench::Arguments(argc, argv)); }
