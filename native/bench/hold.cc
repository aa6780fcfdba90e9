// SPDX-License-Identifier: Apache-2.0
// Holds --streams publications or subscriptions open and sends nothing: what a driver costs when it is idle. Says `ready` when all are made, then
// `connected` when each has its peer. Ends on SIGTERM.
#include <algorithm>

#include "session.h"

namespace outrigger::bench {
namespace {

int run(const Arguments& arguments) {
  installStop();
  const auto client = connectOrDie(arguments);
  const std::string channel = arguments.text("channel");
  const std::string role = arguments.text("role");
  const auto first = static_cast<int32_t>(arguments.number("stream", 1001));
  const auto streams = static_cast<int32_t>(arguments.number("streams", 1));
  if (role != "publish" && role != "subscribe") die("--role '" + role + "' is neither 'publish' nor 'subscribe'");
  std::vector<std::shared_ptr<client::ExclusivePublication>> publications;
  std::vector<std::shared_ptr<client::Subscription>> subscriptions;
  for (int32_t i = 0; i < streams; ++i) {
    if (role == "publish") {
      publications.push_back(orDie(client->awaitExclusivePublication(client->addExclusivePublication(channel, first + i))));
    } else {
      subscriptions.push_back(orDie(client->awaitSubscription(client->addSubscription(channel, first + i))));
    }
  }
  say("{\"event\":\"ready\"}");
  const auto connected = [&] {
    return std::all_of(publications.begin(), publications.end(), [](const auto& one) { return one->isConnected(); }) &&
           std::all_of(subscriptions.begin(), subscriptions.end(), [](const auto& one) { return one->isConnected(); });
  };
  while (!stopped() && !connected()) ::usleep(1000);
  say("{\"event\":\"connected\"}");
  while (!stopped()) ::usleep(100'000);
  client->close();
  return 0;
}

}  // namespace
}  // namespace outrigger::bench

int main(int argc, char** argv) { return outrigger::bench::run(outrigger::bench::Arguments(argc, argv)); }
