// SPDX-License-Identifier: Apache-2.0
// Seeded pseudo-random numbers (splitmix64). One seed replays one run exactly; not for secrets.
#pragma once

#include <cstdint>

namespace outrigger {

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  uint64_t next() {
    // splitmix64 (Steele, Lea, Flood 2014): golden-gamma counter, then two xor-shift-multiply rounds.
    uint64_t z = (state_ += 0x9E3779B97F4A7C15ULL);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
    return z ^ (z >> 31);
  }
  uint64_t below(uint64_t bound) { return bound == 0 ? 0 : next() % bound; }                // [0, bound)
  double unit() { return static_cast<double>(next() >> 11) * (1.0 / 9007199254740992.0); }  // [0, 1)
  bool chance(double probability) { return unit() < probability; }

 private:
  uint64_t state_;
};

}  // namespace outrigger
