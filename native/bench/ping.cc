// SPDX-License-Identifier: Apache-2.0
// Round-trip time, open loop: message i is due at start + i / rate, whatever happened to those before it, and its time counts from then.
// So a stall is in the latency of everything that was due meanwhile, and not hidden by waiting for the answer.
#include "histogram.h"
#include "payload.h"
#include "session.h"

namespace outrigger::bench {
namespace {

constexpr int64_t kNsPerMs = 1'000'000;
constexpr int64_t kDrainNs = 500 * kNsPerMs;  // for the last answers

int run(const Arguments& arguments) {
  installStop();
  const Payload payload;
  const auto length = static_cast<int32_t>(arguments.number("size", kMinMessageLength));
  const int64_t rate = arguments.number("rate", 5000);
  if (rate < 1 || rate > 1'000'000) die("--rate " + std::to_string(rate) + " is not in 1..1000000 messages a second");
  if (length < kMinMessageLength || length > kMaxMessageLength) die("--size " + std::to_string(length) + " is out of range");
  const int64_t warmup = rate * arguments.number("warmup-ms", 500) / 1000;
  const int64_t total = warmup + rate * arguments.number("measure-ms", 2000) / 1000;
  CpuTimes cpu(arguments.text("cpu", "ping=self"));
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
  Histogram histogram;
  std::vector<uint8_t> buffer(kMaxMessageLength);
  int64_t answered = 0;
  int64_t corrupt = 0;
  int64_t outOfOrder = 0;
  const auto handler = [&](const uint8_t* data, int32_t received, const client::FragmentHeader&) {
    if (!payload.matches(data, received)) {
      ++corrupt;
      return;
    }
    if (Payload::sequence(data) != answered) ++outOfOrder;
    answered = Payload::sequence(data) + 1;
    if (Payload::sequence(data) >= warmup) histogram.record(nowNs() - Payload::timeNs(data));
  };
  const auto hasWork = [&] { return subscription->hasWork(); };
  const int64_t startNs = nowNs() + kNsPerMs;
  const auto dueAt = [&](int64_t sequence) { return startNs + sequence * 1'000'000'000 / rate; };
  int64_t sent = 0;
  int64_t refused = 0;
  bool measuring = false;
  while (!stopped() && answered < total) {
    int32_t work = subscription->pollMessages(handler, 64);
    int64_t now = nowNs();
    while (sent < total && now >= dueAt(sent)) {
      if (sent >= warmup && !measuring) {
        measuring = true;
        cpu.begin();
      }
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
    if (sent == total && now > dueAt(total) + kDrainNs) break;
    const int64_t untilDue = sent < total ? std::max<int64_t>(0, dueAt(sent) - now) : kNsPerMs;
    idle.idle(work, now, untilDue, hasWork);
  }
  if (!measuring) cpu.begin();
  cpu.end();
  const auto us = [&](double percentile) { return std::to_string(static_cast<double>(histogram.valueAt(percentile)) / 1000.0); };
  say("{\"sent\":" + std::to_string(sent) + ",\"answered\":" + std::to_string(answered) +
      ",\"measured\":" + std::to_string(histogram.count()) + ",\"lost\":" + std::to_string(sent - answered) +
      ",\"outOfOrder\":" + std::to_string(outOfOrder) + ",\"corrupt\":" + std::to_string(corrupt) +
      ",\"refused\":" + std::to_string(refused) + ",\"us\":{\"p50\":" + us(50) + ",\"p90\":" + us(90) + ",\"p99\":" + us(99) +
      ",\"p999\":" + us(99.9) + ",\"max\":" + us(100) + "},\"cpuSeconds\":" + cpu.json() + "}");
  client->close();
  return sent == answered && corrupt == 0 && outOfOrder == 0 ? 0 : 1;
}

}  // namespace
}  // namespace outrigger::bench

int main(int argc, char** argv) { return outrigger::bench::run(outrigger::bench::Arguments(argc, argv)); }
