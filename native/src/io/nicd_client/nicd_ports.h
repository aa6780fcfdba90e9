// SPDX-License-Identifier: Apache-2.0
// The ports of a device that outrigger-nicd handed out: a device is one session a queue or socket, and each port is steered to all of them.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "io/frame/frame_io.h"
#include "io/nicd_client/connection.h"

namespace outrigger::nicd {

// Any thread but the one that polls; calls wait for nicd.
class NicdPorts {
 public:
  // Sessions that the connection keeps, at least one. They end with this object.
  NicdPorts(std::shared_ptr<Connection> connection, std::vector<uint64_t> sessions)
      : connection_(std::move(connection)), sessions_(std::move(sessions)) {}
  ~NicdPorts();
  NicdPorts(const NicdPorts&) = delete;
  NicdPorts& operator=(const NicdPorts&) = delete;

  // A UDP socket of the NIC's namespace, bound and steered. The error is nicd's.
  Result<UniqueFd> open(const io::SockAddr& address, int32_t receiveBufferBytes);
  // A port whose socket came from open(), of this device or of one before.
  Result<void> steer(const io::SteerRule& rule);
  // Succeeds also while nicd is away: it is told when it is back (tellLate).
  Result<void> unsteer(const io::SteerRule& rule);
  // Says what could not be said before; cheap when there is nothing.
  void tellLate();

  const std::vector<uint64_t>& sessions() const { return sessions_; }
  Connection& connection() { return *connection_; }

 private:
  Result<Connection::Reply> openOne(uint64_t session, const io::SockAddr& address, int32_t receiveBufferBytes, int existing);

  std::shared_ptr<Connection> connection_;
  std::vector<uint64_t> sessions_;
  std::mutex mutex_;
  std::vector<ClosePort> late_;
};

}  // namespace outrigger::nicd
