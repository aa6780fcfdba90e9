// SPDX-License-Identifier: Apache-2.0
// The reflector of ping: sends every message back as it came, on the other channel. Ends on SIGTERM.
#include "session.h"

namespace outrigger::bench {
namespace {

int run(const Arguments& arguments) {
  installStop();
  const auto client = connectOrDie(arguments);
  const auto stream = static_cast<int32_t>(arguments.number("stream", 1001));
  const auto subscription = orDie(client->awaitSubscription(client->addSubscription(arguments.text("channel"), stream)));
  const auto publication = orDie(client->awaitExclusivePublication(client->addExclusivePublication(arguments.text("back"), stream)));
  say("{\"event\":\"ready\"}");
  Idle idle(*client, arguments.text("idle", "doorbell"));
  int64_t reflected = 0;
  int64_t refused = 0;
  const auto handler = [&](const uint8_t* data, int32_t length, const client::FragmentHeader&) {
    int64_t result = publication->offer(data, length);
    if (result == client::kOfferAdminAction) result = publication->offer(data, length);
    if (result >= 0) {
      ++reflected;
      return client::PollAction::kContinue;
    }
    ++refused;
    return client::PollAction::kAbort;
  };
  const auto hasWork = [&] { return subscription->hasWork(); };
  while (!stopped()) {
    const int32_t work = subscription->pollMessages(handler, 64);
    idle.idle(work, nowNs(), 100'000'000, hasWork);
  }
  say("{\"reflected\":" + std::to_string(reflected) + ",\"refused\":" + std::to_string(refused) + "}");
  client->close();
  return 0;
}

}  // namespace
}  // namespace outrigger::bench

int main(int argc, char** argv) { return outrigger::bench::run(outrigger::bench::Arguments(argc, argv)); }
