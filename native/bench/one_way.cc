// SPDX-License-Identifier: Apache-2.0
// One-way latency between two clients in shared memory, on two drivers of one host: `--role send` publishes open loop, `--role receive`
// records now - the time each message was due. Both read CLOCK_MONOTONIC, which network namespaces share. Checks every message.
#include "histogram.h"
#include "payload.h"
#include "session.h"

namespace outrigger::bench {
namespace {

constexpr int64_t kNsPerMs = 1'000'000;
constexpr int64_t kWarmupMs = 200;

int32_t streamOf(const Arguments& arguments) { return static_cast<int32_t>(arguments.number("stream", 1001)); }

int send(const Arguments& arguments) {
  const Payload payload;
  const auto length = static_cast<int32_t>(arguments.number("size", 288));
  const int64_t rate = arguments.number("rate", 5000);
  if (rate < 1 || rate > 1'000'000) die("--rate " + std::to_string(rate) + " is not in 1..1000000 messages a second");
  if (length < kMinMessageLength || length > kMaxMessageLength) {
    die("--size " + std::to_string(length) + " is not in " + std::to_string(kMinMessageLength) + ".." + std::to_string(kMaxMessageLength));
  }
  const int64_t total = rate * arguments.number("measure-ms", 2000) / 1000;
  const auto client = connectOrDie(arguments);
  const auto publication =
      orDie(client->awaitExclusivePublication(client->addExclusivePublication(arguments.text("channel"), streamOf(arguments))));
  const int64_t deadlineNs = nowNs() + arguments.number("patience-ms", 15'000) * kNsPerMs;
  while (!publication->isConnected()) {
    if (stopped()) return 2;
    if (nowNs() > deadlineNs) die("no subscriber came");
    ::usleep(1000);
  }
  Idle idle(*client, arguments.text("idle", "doorbell"));
  std::vector<uint8_t> buffer(static_cast<size_t>(length));
  const int64_t startNs = nowNs() + kNsPerMs;
  const auto dueAt = [&](int64_t sequence) { return startNs + sequence * 1'000'000'000 / rate; };
  int64_t sent = 0;
  int64_t refused = 0;
  while (!stopped() && sent < total) {
    int32_t work = 0;
    int64_t now = nowNs();
    while (sent < total && now >= dueAt(sent)) {
      payload.fill(buffer.data(), length, sent, dueAt(sent));
      const int64_t result = publication->offer(buffer.data(), length);
      if (result == client::kOfferAdminAction) continue;
      if (result == client::kOfferBackPressured) {
        ++refused;
        break;
      }
      if (result < 0) die("publication answered " + std::to_string(result) + " to message " + std::to_string(sent));
      ++sent;
      ++work;
      now = nowNs();
    }
    if (sent < total) idle.idle(work, now, std::max<int64_t>(0, dueAt(sent) - now), [&] { return false; });
  }
  client->closePublication(publication);
  say("{\"sent\":" + std::to_string(sent) + ",\"refused\":" + std::to_string(refused) + "}");
  client->close();
  return sent == total ? 0 : 1;
}

int receive(const Arguments& arguments) {
  const Payload payload;
  const auto client = connectOrDie(arguments);
  const auto subscription = orDie(client->awaitSubscription(client->addSubscription(arguments.text("channel"), streamOf(arguments))));
  say("{\"event\":\"ready\"}");
  Idle idle(*client, arguments.text("idle", "doorbell"));
  Histogram histogram;
  int64_t received = 0;
  int64_t corrupt = 0;
  int64_t outOfOrder = 0;
  int64_t firstDueNs = 0;
  const auto handler = [&](const uint8_t* data, int32_t length, const client::FragmentHeader&) {
    if (!payload.matches(data, length)) {
      ++corrupt;
      return;
    }
    if (Payload::sequence(data) != received) ++outOfOrder;
    received = Payload::sequence(data) + 1;
    const int64_t dueNs = Payload::timeNs(data);
    if (firstDueNs == 0) firstDueNs = dueNs;
    if (dueNs - firstDueNs >= kWarmupMs * kNsPerMs) histogram.record(nowNs() - dueNs);
  };
  const auto hasWork = [&] { return subscription->hasWork(); };
  const int64_t deadlineNs = nowNs() + arguments.number("patience-ms", 15'000) * kNsPerMs;
  // The stream ends with its publisher.
  while (!stopped()) {
    const int32_t work = subscription->pollMessages(handler, 64);
    const int64_t now = nowNs();
    if (received == 0 && now > deadlineNs) die("no message came");
    const auto& images = subscription->images();
    if (received > 0 && work == 0 && std::all_of(images.begin(), images.end(), [](const auto& image) { return image->isEndOfStream(); })) {
      break;
    }
    idle.idle(work, now, 10 * kNsPerMs, hasWork);
  }
  const auto us = [&](double percentile) { return std::to_string(static_cast<double>(histogram.valueAt(percentile)) / 1000.0); };
  say("{\"received\":" + std::to_string(received) + ",\"measured\":" + std::to_string(histogram.count()) +
      ",\"outOfOrder\":" + std::to_string(outOfOrder) + ",\"corrupt\":" + std::to_string(corrupt) + ",\"us\":{\"p50\":" + us(50) +
      ",\"p90\":" + us(90) + ",\"p99\":" + us(99) + ",\"p999\":" + us(99.9) + ",\"max\":" + us(100) + "}}");
  client->close();
  return corrupt == 0 && outOfOrder == 0 ? 0 : 1;
}

}  // namespace
}  // namespace outrigger::bench

int main(int argc, char** argv) {
  using namespace outrigger::bench;
  const Arguments arguments(argc, argv);
  installStop();
  const std::string role = arguments.text("role");
  if (role == "send") return send(arguments);
  if (role == "receive") return receive(arguments);
  die("--role '" + role + "' is neither 'send' nor 'receive'");
}
