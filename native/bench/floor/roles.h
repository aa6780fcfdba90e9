// SPDX-License-Identifier: Apache-2.0
// The four roles of a floor over any wire (wire.h). They fill, check and time exactly as the engine's programs do.
#pragma once

#include <algorithm>
#include <cstring>

#include "floor/wire.h"
#include "measured_window.h"
#include "round_trips.h"
#include "session.h"

namespace outrigger::bench {

template <typename Wire>
void sayReady(const Wire& wire) {
  say("{\"event\":\"ready\"" + wire.facts() + "}");
}

// As fast as the API takes them, until SIGTERM.
template <typename Wire>
int sendAll(Wire& wire, const Plan& plan) {
  const Payload payload;
  sayReady(wire);
  int64_t sequence = 0;
  while (!stopped()) {
    const uint32_t count = wire.room();
    for (uint32_t i = 0; i < count; ++i) payload.fill(wire.slot(i), static_cast<int32_t>(plan.length), sequence++, 0);
    if (count > 0) wire.send(count);
  }
  say("{\"sent\":" + std::to_string(sequence) + "}");
  return 0;
}

// Loss is counted and is no failure; damage is.
template <typename Wire>
int receiveAll(Wire& wire, const Arguments& arguments) {
  MeasuredWindow window(arguments);
  Sink sink;
  sayReady(wire);
  do {
    wire.poll(sink);
  } while (!stopped() && window.goesOn(sink.checker(), nowNs()));
  if (stopped()) return 2;
  say(window.json(sink.checker()));
  return sink.checker().intact() ? 0 : 1;
}

// The next slot, waited for: the one before may still be under way.
template <typename Wire>
uint8_t* slotFor(Wire& wire) {
  while (wire.room() == 0) {
    if (stopped()) return nullptr;
  }
  return wire.slot(0);
}

template <typename Wire>
int ping(Wire& wire, const Arguments& arguments) {
  RoundTrips trips(arguments);
  Sink sink;
  sink.keep();
  sayReady(wire);
  trips.start();
  for (;;) {
    wire.poll(sink);
    sink.handOver([&](const uint8_t* data, int32_t length) { trips.onAnswer(data, length); });
    const int64_t now = nowNs();
    if (stopped() || trips.over(now)) break;
    if (!trips.isDue(now)) continue;
    uint8_t* const slot = slotFor(wire);
    if (slot == nullptr) break;
    trips.fill(slot);
    wire.send(1);
    trips.sent();
  }
  say(trips.json());
  return 0;
}

template <typename Wire>
int pong(Wire& wire, const Plan& plan) {
  Sink sink;
  sink.keep();
  sayReady(wire);
  int64_t reflected = 0;
  while (!stopped()) {
    wire.poll(sink);
    sink.handOver([&](const uint8_t* data, int32_t length) {
      uint8_t* const slot = static_cast<uint32_t>(length) == plan.length ? slotFor(wire) : nullptr;
      if (slot == nullptr) return;
      std::memcpy(slot, data, plan.length);
      wire.send(1);
      ++reflected;
    });
  }
  say("{\"reflected\":" + std::to_string(reflected) + "}");
  return 0;
}

template <typename Wire>
int run(Wire& wire, const Plan& plan, const Arguments& arguments) {
  const std::string role = arguments.text("role");
  if (role == "send") return sendAll(wire, plan);
  if (role == "receive") return receiveAll(wire, arguments);
  if (role == "ping") return ping(wire, arguments);
  if (role == "pong") return pong(wire, plan);
  die("--role '" + role + "' is none of send, receive, ping, pong");
}

}  // namespace outrigger::bench
