// SPDX-License-Identifier: Apache-2.0
// Receives one stream, checks every message, and counts what arrives in a window of time that starts --warmup-ms after the first message.
// With --messages it ends after that many instead. CPU time of the processes named by --cpu is read at both ends of the same window.
#include <algorithm>

#include "checker.h"
#include "session.h"

namespace outrigger::bench {
namespace {

constexpr int32_t kFragmentLimit = 256;
constexpr int64_t kNsPerMs = 1'000'000;
constexpr int64_t kDrainNs = 2'000 * kNsPerMs;

int run(const Arguments& arguments) {
  installStop();
  const int64_t warmupNs = arguments.number("warmup-ms", 500) * kNsPerMs;
  const int64_t measureNs = arguments.number("measure-ms", 2000) * kNsPerMs;
  const int64_t limit = arguments.number("messages", INT64_MAX);
  const int64_t patienceNs = arguments.number("patience-ms", 15'000) * kNsPerMs;
  CpuTimes cpu(arguments.text("cpu", "receiver=self"));
  const auto client = connectOrDie(arguments);
  const auto subscription = orDie(client->awaitSubscription(
      client->addSubscription(arguments.text("channel"), static_cast<int32_t>(arguments.number("stream", 1001)))));
  say("{\"event\":\"ready\"}");
  Idle idle(*client, arguments.text("idle", "doorbell"));
  Checker checker;
  const auto handler = [&](const uint8_t* data, int32_t length, const client::FragmentHeader&) { checker.onMessage(data, length); };
  const auto hasWork = [&] { return subscription->hasWork(); };

  const int64_t startedNs = nowNs();
  int64_t firstNs = 0;
  int64_t beginNs = 0;
  int64_t endNs = 0;
  int64_t messagesBefore = 0;
  int64_t bytesBefore = 0;
  while (!stopped() && endNs == 0) {
    const int32_t work = subscription->pollMessages(handler, kFragmentLimit);
    const int64_t now = nowNs();
    if (firstNs == 0) {
      if (checker.messages() > 0) firstNs = now;
      if (now - startedNs > patienceNs) die("no message came within " + std::to_string(patienceNs / kNsPerMs) + " ms");
    }
    if (firstNs != 0 && beginNs == 0 && now - firstNs >= warmupNs) {
      cpu.begin();
      beginNs = nowNs();
      messagesBefore = checker.messages();
      bytesBefore = checker.bytes();
    }
    if (checker.messages() >= limit || (beginNs != 0 && now - beginNs >= measureNs)) endNs = now;
    idle.idle(work, now, 10'000'000, hasWork);
  }
  if (endNs == 0) endNs = nowNs();
  if (beginNs == 0) {
    cpu.begin();
    beginNs = firstNs == 0 ? startedNs : firstNs;
  }
  cpu.end();
  const double seconds = static_cast<double>(endNs - beginNs) / 1e9;
  say("{\"messages\":" + std::to_string(checker.messages() - messagesBefore) +
      ",\"bytes\":" + std::to_string(checker.bytes() - bytesBefore) + ",\"seconds\":" + std::to_string(seconds) + "," + checker.json() +
      ",\"total\":" + std::to_string(checker.messages()) + ",\"cpuSeconds\":" + cpu.json() + "}");
  // The sender is told to stop only now: read on until the stream has ended, so that no driver is left with half of it in the next run.
  const int64_t drainUntilNs = nowNs() + kDrainNs;
  while (!stopped() && subscription->isConnected() && nowNs() < drainUntilNs) {
    const int32_t work = subscription->pollMessages(handler, kFragmentLimit);
    const auto& images = subscription->images();
    if (std::all_of(images.begin(), images.end(), [](const auto& image) { return image->isEndOfStream(); })) break;
    idle.idle(work, nowNs(), 10'000'000, hasWork);
  }
  client->close();
  return checker.clean() ? 0 : 1;
}

}  // namespace
}  // namespace outrigger::bench

int main(int argc, char** argv) { return outrigger::bench::run(outrigger::bench::Arguments(argc, argv)); }
