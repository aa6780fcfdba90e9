// SPDX-License-Identifier: Apache-2.0
// Who holds a UDP port that can't be bound. What the kernel tells is a user and an inode, and the process only to who may look into it: not
// across containers. So each of our ports has a sign: a UNIX socket in the network namespace's abstract names, which anyone there can read in
// /proc/net/unix, and which goes with its process. Control threads only; nothing here is proof: a sign says what its maker wrote.
#pragma once

#include <string>

#include "base/fd.h"
#include "io/datagram_io.h"

namespace outrigger::io {

// Whose the ports of this process are from now on, for whoever finds one taken: "outrigger-driver 7 in /dev/shm/aeron". Until it is said they have no
// sign. Of several drivers in a process the last one counts. Any thread.
void namePortsAfter(std::string owner);
std::string portOwner();

// Says to others in this network namespace that `owner` (empty: nobody) holds the port of `socket`, as long as the descriptor is open. Invalid where that fails, and
// for a socket of another namespace: then only the name is missing.
UniqueFd putPortSign(int socket, const SockAddr& address, const std::string& owner);

// Who holds a socket that keeps `address` from being bound in this network namespace, as a phrase: "outrigger-driver 4242 in /dev/shm/aeron",
// "process 17 (nc) of user 0", "a process of user 1000"; empty when there is none. To find a process, all that every process has open is read, which
// takes long on a busy node: kUser leaves that out, for a thread that others wait for.
enum class HolderLook : uint8_t { kProcess, kUser };
std::string portHolder(const SockAddr& address, HolderLook look = HolderLook::kProcess);

// While one lives, portHolder looks for nobody on this thread: it reads what every process has open, which is too much for each of many ports that
// are tried in turn.
class PortTrial {
 public:
  PortTrial();
  ~PortTrial();
  PortTrial(const PortTrial&) = delete;
  PortTrial& operator=(const PortTrial&) = delete;
};

}  // namespace outrigger::io
