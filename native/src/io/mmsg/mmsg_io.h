// SPDX-License-Identifier: Apache-2.0
// Backend `mmsg`: sendmmsg and recvmmsg, with UDP_SEGMENT trains out (a control message per message, so one call carries
// trains of several sizes to several destinations) and UDP_GRO trains in. Falls back by kernel, by option, by destination.
#pragma once

#include "io/backend.h"
#include "io/posix/socket_io_base.h"
#include "io/posix/train_transmitter.h"

namespace outrigger::io {

class MmsgIo final : public SocketIoBase {
 public:
  static Result<std::unique_ptr<DatagramIo>> create(const BackendOptions& options);

  uint32_t transmit(Endpoint& endpoint, std::span<TxItem> items) override;

 private:
  explicit MmsgIo(const BackendOptions& options);
  uint32_t receive(UdpEndpoint& endpoint, RxBurst& burst, uint32_t firstSlot, uint32_t endSlot, uint32_t& datagrams) override;

  TrainTransmitter transmitter_;
};

}  // namespace outrigger::io
