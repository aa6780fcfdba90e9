// SPDX-License-Identifier: Apache-2.0
// Backend `mmsg`: sendmmsg and recvmmsg, with UDP_SEGMENT trains out (a control message per message, so one call carries
// trains of several sizes to several destinations) and UDP_GRO trains in. Falls back by kernel, by option, by destination.
#pragma once

#include <array>

#include "io/backend.h"
#include "io/posix/socket_io_base.h"

namespace outrigger::io {

class MmsgIo final : public SocketIoBase {
 public:
  static Result<std::unique_ptr<DatagramIo>> create(const BackendOptions& options);

  uint32_t transmit(Endpoint& endpoint, std::span<TxItem> items) override;

 private:
  static constexpr size_t kMaxMessages = 64;  // per sendmmsg; the sender's bursts are shorter

  // One message of the call being put together.
  struct Message {
    iovec vector{};
    uint32_t item = 0;  // index into the caller's items
    bool train = false;
    alignas(cmsghdr) std::array<uint8_t, CMSG_SPACE(sizeof(uint16_t))> control{};
  };

  explicit MmsgIo(const BackendOptions& options);
  static Caps probe(const BackendOptions& options);
  uint32_t receive(UdpEndpoint& endpoint, RxBurst& burst, uint32_t firstSlot, uint32_t endSlot, uint32_t& datagrams) override;
  uint32_t fill(std::span<TxItem> items, uint32_t first);
  void addMessage(uint32_t index, uint32_t itemIndex, const TxItem& item, uint32_t offset, uint32_t length, bool train);

  std::array<Message, kMaxMessages> messages_{};
  std::array<mmsghdr, kMaxMessages> headers_{};
};

}  // namespace outrigger::io
