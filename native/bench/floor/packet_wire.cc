// SPDX-License-Identifier: Apache-2.0
// See the header. Layout and statuses of the rings: Linux Documentation/networking/packet_mmap.rst.
#include "floor/packet_wire.h"

#include <linux/if_packet.h>
#include <sys/mman.h>

#include "floor/udp_socket.h"
#include "session.h"

namespace outrigger::bench {
namespace {

constexpr uint32_t kTransmitOffset = TPACKET2_HDRLEN - sizeof(sockaddr_ll);
constexpr uint32_t kTrainSlotBytes = 64 * 1024;

uint32_t statusOf(const uint8_t* slot) {
  return __atomic_load_n(&reinterpret_cast<const tpacket2_hdr*>(slot)->tp_status, __ATOMIC_ACQUIRE);
}
void setStatus(uint8_t* slot, uint32_t status) {
  __atomic_store_n(&reinterpret_cast<tpacket2_hdr*>(slot)->tp_status, status, __ATOMIC_RELEASE);
}

uint32_t slotFor(uint32_t bytes) {
  uint32_t slot = 2048;
  while (slot < bytes) slot *= 2;
  return slot;
}

void option(int fd, int name, int value, const char* what) {
  if (::setsockopt(fd, SOL_PACKET, name, &value, sizeof(value)) != 0) dieErrno(what);
}

UniqueFd openPacket() {
  UniqueFd fd(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0));
  if (!fd.valid()) dieErrno("cannot create an AF_PACKET socket");
  return fd;
}

void bindTo(int fd, unsigned index, uint16_t protocol) {
  sockaddr_ll address{};
  address.sll_family = AF_PACKET;
  address.sll_protocol = htons(protocol);
  address.sll_ifindex = static_cast<int>(index);
  if (::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) dieErrno("cannot bind the AF_PACKET socket");
}

uint8_t* mapRing(int fd, size_t bytes) {
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
  if (memory == MAP_FAILED) dieErrno("cannot map a ring of AF_PACKET");
  return static_cast<uint8_t*>(memory);
}

}  // namespace

PacketWire::PacketWire(const Plan& plan)
    : plan_(plan),
      length_(plan.length),
      bulk_(plan.mode == "bulk"),
      perSlot_(plan.segmentation ? std::min(trainLength(plan), (kTrainSlotBytes - 256) / plan.length) : 1),
      vnetBytes_(plan.segmentation ? sizeof(io::VnetHeader) : 0),
      reserved_(reservePort(plan)) {
  if (plan.mode != "bulk" && plan.mode != "latency") die("--mode '" + plan.mode + "' is neither 'latency' nor 'bulk'");
  if (plan.segmentation && !bulk_) die("the floor of packet takes trains in mode 'bulk' only: a slot of V2 is as long as a frame");
  const Netdevice device = netdeviceOf(plan.interface);
  openTransmit(device);
  openReceive(device);
}

PacketWire::~PacketWire() {
  if (transmit_ != nullptr) ::munmap(transmit_, static_cast<size_t>(slotBytes_) * slots_);
  if (receive_ != nullptr) ::munmap(receive_, kRingBytes);
}

void PacketWire::openTransmit(const Netdevice& device) {
  transmitFd_ = openPacket();
  const int fd = transmitFd_.get();
  option(fd, PACKET_VERSION, TPACKET_V2, "PACKET_VERSION");
  if (vnetBytes_ > 0) option(fd, PACKET_VNET_HDR, 1, "PACKET_VNET_HDR");
  option(fd, PACKET_QDISC_BYPASS, 1, "PACKET_QDISC_BYPASS");
  // The kernel charges frames under way against it.
  const int buffer = kRingBytes;
  if (::setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof(buffer)) != 0) dieErrno("SO_SNDBUFFORCE");
  dataOffset_ = kTransmitOffset + vnetBytes_;
  slotBytes_ = plan_.segmentation ? kTrainSlotBytes : slotFor(dataOffset_ + kHeaderBytes + length_);
  slots_ = kRingBytes / slotBytes_;
  tpacket_req request{};
  request.tp_block_size = kBlockBytes;
  request.tp_block_nr = kRingBytes / kBlockBytes;
  request.tp_frame_size = slotBytes_;
  request.tp_frame_nr = slots_;
  if (::setsockopt(fd, SOL_PACKET, PACKET_TX_RING, &request, sizeof(request)) != 0) dieErrno("PACKET_TX_RING");
  transmit_ = mapRing(fd, static_cast<size_t>(slotBytes_) * slots_);
  bindTo(fd, device.index, 0);
  const uint32_t payload = length_ * perSlot_;
  FrameHeader header(plan_, device.mac, payload);
  io::VnetHeader vnet;
  if (vnetBytes_ > 0) {
    header.openChecksum();
    vnet.flags = io::kVnetNeedsChecksum;
    vnet.headerLength = kHeaderBytes;
    vnet.checksumStart = kUdpOffset;
    vnet.checksumOffset = 6;
    if (perSlot_ > 1) {
      vnet.gsoType = io::kVnetGsoUdpL4;
      vnet.gsoSize = static_cast<uint16_t>(length_);
    }
  }
  for (uint32_t i = 0; i < slots_; ++i) {
    uint8_t* const slot = transmitSlot(i);
    reinterpret_cast<tpacket2_hdr*>(slot)->tp_len = vnetBytes_ + kHeaderBytes + payload;
    std::memcpy(slot + kTransmitOffset, &vnet, vnetBytes_);
    header.writeTo(slot + dataOffset_);
  }
}

void PacketWire::openReceive(const Netdevice& device) {
  receiveFd_ = openPacket();
  const int fd = receiveFd_.get();
  option(fd, PACKET_VERSION, bulk_ ? TPACKET_V3 : TPACKET_V2, "PACKET_VERSION");
  if (vnetBytes_ > 0) option(fd, PACKET_VNET_HDR, 1, "PACKET_VNET_HDR");
  const int ignoreOutgoing = 1;
  constexpr int kPacketIgnoreOutgoing = 23;
  option(fd, kPacketIgnoreOutgoing, ignoreOutgoing, "PACKET_IGNORE_OUTGOING");
  if (bulk_) {
    tpacket_req3 request{};
    request.tp_block_size = kBlockBytes;
    request.tp_block_nr = kRingBytes / kBlockBytes;
    request.tp_frame_size = 2048;
    request.tp_frame_nr = kRingBytes / 2048;
    request.tp_retire_blk_tov = 1;
    if (::setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &request, sizeof(request)) != 0) dieErrno("PACKET_RX_RING");
  } else {
    receiveSlotBytes_ = slotFor(device.mtu + 256);
    receiveSlots_ = kRingBytes / receiveSlotBytes_;
    tpacket_req request{};
    request.tp_block_size = kBlockBytes;
    request.tp_block_nr = kRingBytes / kBlockBytes;
    request.tp_frame_size = receiveSlotBytes_;
    request.tp_frame_nr = receiveSlots_;
    if (::setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &request, sizeof(request)) != 0) dieErrno("PACKET_RX_RING");
  }
  receive_ = mapRing(fd, kRingBytes);
  bindTo(fd, device.index, ETH_P_IP);
}

uint32_t PacketWire::room() {
  uint32_t free = 0;
  while (free < kBatch && free < slots_ && statusOf(transmitSlot(next_ + free)) == TP_STATUS_AVAILABLE) ++free;
  return free * perSlot_;
}

// Whole slots: `count` is what room() gave, or one datagram without trains.
void PacketWire::send(uint32_t count) {
  for (uint32_t i = 0; i < count; i += perSlot_) setStatus(transmitSlot(next_++), TP_STATUS_SEND_REQUEST);
  while (::send(transmitFd_.get(), nullptr, 0, MSG_DONTWAIT) < 0 && !stopped()) {
    if (errno != EAGAIN && errno != EINTR && errno != ENOBUFS) dieErrno("sending what is in the transmit ring");
  }
}

void PacketWire::take(const uint8_t* frame, uint32_t length, const uint8_t* vnet, Sink& sink) {
  uint32_t payload = 0;
  if (!isOurs(frame, length, plan_.port, payload) || payload == 0) return;
  uint32_t segment = payload;
  if (vnetBytes_ > 0) {
    io::VnetHeader header;
    std::memcpy(&header, vnet, sizeof(header));
    if (header.gsoType == io::kVnetGsoUdpL4 && header.gsoSize > 0) segment = header.gsoSize;
  }
  sink.take(frame + kHeaderBytes, std::min(payload, length - kHeaderBytes), segment);
}

void PacketWire::pollSlots(Sink& sink) {
  for (uint32_t i = 0; i < kBatch; ++i) {
    uint8_t* const slot = receive_ + read_ % receiveSlots_ * receiveSlotBytes_;
    if ((statusOf(slot) & TP_STATUS_USER) == 0) return;
    const auto* header = reinterpret_cast<const tpacket2_hdr*>(slot);
    take(slot + header->tp_mac, header->tp_snaplen, slot + header->tp_mac - vnetBytes_, sink);
    setStatus(slot, TP_STATUS_KERNEL);
    ++read_;
  }
}

void PacketWire::pollBlocks(Sink& sink) {
  uint8_t* const block = receive_ + read_ % (kRingBytes / kBlockBytes) * kBlockBytes;
  tpacket_hdr_v1& description = reinterpret_cast<tpacket_block_desc*>(block)->hdr.bh1;
  if ((__atomic_load_n(&description.block_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER) == 0) return;
  const uint8_t* at = block + description.offset_to_first_pkt;
  for (uint32_t i = 0; i < description.num_pkts; ++i) {
    const auto* header = reinterpret_cast<const tpacket3_hdr*>(at);
    take(at + header->tp_mac, header->tp_snaplen, at + header->tp_mac - vnetBytes_, sink);
    at += header->tp_next_offset;
  }
  __atomic_store_n(&description.block_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
  ++read_;
}

}  // namespace outrigger::bench
