// SPDX-License-Identifier: Apache-2.0
// Publishes as fast as the driver's back pressure lets it, on one exclusive publication. Messages are written straight into the term
// (tryClaim), longer ones than a datagram are offered. Ends after --messages, or on SIGTERM.
#include "payload.h"
#include "session.h"

namespace outrigger::bench {
namespace {

constexpr int32_t kBurst = 64;  // messages between two doorbell rings

struct Counts {
  int64_t sent = 0;
  int64_t bytes = 0;
  int64_t refusedBursts = 0;
};

int64_t sendOne(client::ExclusivePublication& publication, const Payload& payload, std::vector<uint8_t>& buffer, int32_t length,
                int64_t sequence) {
  if (length > publication.maxPayloadLength()) {
    payload.fill(buffer.data(), length, sequence, 0);
    return publication.offer(buffer.data(), length, client::Wake::kLater);
  }
  client::BufferClaim claim;
  const int64_t position = publication.tryClaim(length, claim);
  if (position >= 0) {
    payload.fill(claim.data(), length, sequence, 0);
    claim.commit();
  }
  return position;
}

int run(const Arguments& arguments) {
  installStop();
  const Payload payload;
  const Lengths lengths(arguments.text("size"));
  const int64_t limit = arguments.number("messages", INT64_MAX);
  const auto client = connectOrDie(arguments);
  const auto publication = orDie(client->awaitExclusivePublication(
      client->addExclusivePublication(arguments.text("channel"), static_cast<int32_t>(arguments.number("stream", 1001)))));
  say("{\"event\":\"ready\"}");
  Idle idle(*client, arguments.text("idle", "doorbell"));
  std::vector<uint8_t> buffer(kMaxMessageLength);
  Counts counts;
  const auto mayGoOn = [&] { return publication->isConnected() && publication->position() < publication->positionLimit(); };
  while (!stopped() && counts.sent < limit) {
    int32_t burst = 0;
    while (burst < kBurst && counts.sent < limit) {
      const int32_t length = lengths.of(counts.sent);
      const int64_t result = sendOne(*publication, payload, buffer, length, counts.sent);
      if (result == client::kOfferAdminAction) continue;
      if (result == client::kOfferBackPressured || result == client::kOfferNotConnected) break;
      if (result < 0) die("publication answered " + std::to_string(result) + " to message " + std::to_string(counts.sent));
      ++counts.sent;
      counts.bytes += length;
      ++burst;
    }
    if (burst > 0) publication->ring();
    if (burst < kBurst) {
      ++counts.refusedBursts;
      idle.idle(burst, nowNs(), 100'000'000, mayGoOn);
    }
  }
  client->closePublication(publication);
  say("{\"sent\":" + std::to_string(counts.sent) + ",\"bytes\":" + std::to_string(counts.bytes) +
      ",\"refusedBursts\":" + std::to_string(counts.refusedBursts) + "}");
  client->close();
  return 0;
}

}  // namespace
}  // namespace outrigger::bench

int main(int argc, char** argv) { return outrigger::bench::run(outrigger::bench::Arguments(argc, argv)); }
