// SPDX-License-Identifier: Apache-2.0
// Backend `socket`: one sendto and one recvmsg a datagram. The reference that every other backend is compared with.
#pragma once

#include "io/backend.h"
#include "io/posix/socket_io_base.h"

namespace outrigger::io {

class SocketIo final : public SocketIoBase {
 public:
  static Result<std::unique_ptr<DatagramIo>> create(const BackendOptions& options);

  uint32_t transmit(Endpoint& endpoint, std::span<TxItem> items) override;

 private:
  explicit SocketIo(const BackendOptions& options);
  uint32_t receive(UdpEndpoint& endpoint, RxBurst& burst, uint32_t firstSlot, uint32_t endSlot, uint32_t& datagrams) override;
};

}  // namespace outrigger::io
