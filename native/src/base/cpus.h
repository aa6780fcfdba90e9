// SPDX-License-Identifier: Apache-2.0
// CPUs by their numbers: which ones there are for this thread, and how a list of them is written. Sharing them out is not done here.
#pragma once

#include <string>
#include <vector>

namespace outrigger {

// Of the calling thread, which are the process's until it is bound to others; ascending, empty when the kernel does not say.
std::vector<int> allowedCpus();

// As taskset and the kernel write them: "0,2-4".
std::string cpuListText(const std::vector<int>& cpus);

}  // namespace outrigger
