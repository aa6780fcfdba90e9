// SPDX-License-Identifier: Apache-2.0
// `outrigger-probe reflect`: holds the echo program (bpf/echo.bpf.c) on an interface until it is told to end.
#pragma once

#include "probe/options.h"

namespace outrigger::probe {

// Prints a line of JSON when the program is attached and one with its counters at the end. Returns the exit status; ends on SIGINT, SIGTERM, a closed
// standard input where that is a pipe, or when the program is no longer attached.
int reflect(const Options& options);

}  // namespace outrigger::probe
