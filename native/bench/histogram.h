// SPDX-License-Identifier: Apache-2.0
// The product's histogram under the name that the benchmark programs use.
#pragma once

#include "base/histogram.h"

namespace outrigger::bench {
using outrigger::Histogram;
}  // namespace outrigger::bench
