// SPDX-License-Identifier: Apache-2.0
// See the header.
#include "io/posix/train_transmitter.h"

namespace outrigger::io {
namespace {

// A train travels through the stack as one IP packet: 65535 less the IPv4 and UDP headers. IPv6 would allow 20 more.
constexpr uint32_t kMaxTrainBytes = 65507;
// UDP_MAX_SEGMENTS of kernels before 6.9, which later ones raised: more would be EINVAL there (Linux include/linux/udp.h).
constexpr uint32_t kMaxTrainSegments = 64;

void addReason(std::string& reason, const std::string& text) {
  if (!reason.empty()) reason += "; ";
  reason += text;
}

// 0, or the errno with which the kernel refuses the option.
int probeOption(int fd, int option, int value) { return ::setsockopt(fd, SOL_UDP, option, &value, sizeof(value)) == 0 ? 0 : errno; }

}  // namespace

Caps probeTrains(const std::string& name, const BackendOptions& options) {
  Caps caps;
  caps.name = name;
  caps.segmentationOffload = options.segmentation;
  caps.receiveCoalescing = options.coalescing;
  if (!options.segmentation) addReason(caps.reason, "UDP_SEGMENT: switched off by configuration");
  if (!options.coalescing) addReason(caps.reason, "UDP_GRO: switched off by configuration");
  UniqueFd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, IPPROTO_UDP));
  if (!fd.valid()) fd = UniqueFd(::socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, IPPROTO_UDP));
  if (const int err = options.segmentation ? probeOption(fd.get(), UDP_SEGMENT, 0) : 0; err != 0) {
    caps.segmentationOffload = false;
    addReason(caps.reason, makeError(ErrorCode::kGeneric, "UDP_SEGMENT", err).message);
  }
  if (const int err = options.coalescing ? probeOption(fd.get(), UDP_GRO, 1) : 0; err != 0) {
    caps.receiveCoalescing = false;
    addReason(caps.reason, makeError(ErrorCode::kGeneric, "UDP_GRO", err).message);
  }
  caps.maxTrainLengthBytes = kMaxTrainBytes;
  caps.maxTrainSegments = caps.segmentationOffload ? kMaxTrainSegments : 1;
  return caps;
}

// What the kernel answers to a train that this path can't take: no checksum offload below (EIO), a segment over the path
// MTU or an option that excludes it (EINVAL), too long (EMSGSIZE), no segmentation at all (EOPNOTSUPP).
bool TrainTransmitter::refusesTrain(int err) { return err == EIO || err == EINVAL || err == EMSGSIZE || err == EOPNOTSUPP; }

void TrainTransmitter::addMessage(uint32_t index, uint32_t itemIndex, const TxItem& item, uint32_t offset, uint32_t length, bool train) {
  Message& message = messages_[index];
  message.item = itemIndex;
  message.train = train;
  // sendmmsg only reads, but iovec serves both directions and is not const.
  message.vector = {const_cast<uint8_t*>(item.data + offset), length};
  msghdr& header = headers_[index].msg_hdr;
  header.msg_name = const_cast<sockaddr*>(item.nextHop->address().get());
  header.msg_namelen = item.nextHop->address().length;
  header.msg_iov = &message.vector;
  header.msg_iovlen = 1;
  header.msg_flags = 0;
  if (!train) {
    header.msg_control = nullptr;
    header.msg_controllen = 0;
    return;
  }
  header.msg_control = message.control.data();
  header.msg_controllen = message.control.size();
  cmsghdr* control = CMSG_FIRSTHDR(&header);
  control->cmsg_level = SOL_UDP;
  control->cmsg_type = UDP_SEGMENT;
  control->cmsg_len = CMSG_LEN(sizeof(uint16_t));
  const auto segment = static_cast<uint16_t>(item.segmentLength);
  std::memcpy(CMSG_DATA(control), &segment, sizeof(segment));
}

// Puts what is left of items[first..] into messages, as trains where the path takes them; returns how many.
uint32_t TrainTransmitter::fill(std::span<TxItem> items, uint32_t first, bool segmentation) {
  uint32_t count = 0;
  for (uint32_t index = first; index < items.size(); ++index) {
    const TxItem& item = items[index];
    const uint32_t segment = item.segmentLength == 0 ? item.length : std::min(item.segmentLength, item.length);
    uint32_t step = segment;
    if (segmentation && !item.nextHop->segmentationRefused && segment != 0 && segment < item.length) {
      step = segment * std::clamp<uint32_t>(kMaxTrainBytes / segment, 1, kMaxTrainSegments);
    }
    uint32_t offset = item.sentBytes;
    do {
      if (count == kMaxMessages) return count;
      const uint32_t length = std::min(step, item.length - offset);
      addMessage(count++, index, item, offset, length, length > segment);
      offset += length;
    } while (offset < item.length);
  }
  return count;
}

}  // namespace outrigger::io
