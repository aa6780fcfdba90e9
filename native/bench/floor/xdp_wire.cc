// SPDX-License-Identifier: Apache-2.0
// See the header. Kernel documentation: networking/af_xdp.rst.
#include "floor/xdp_wire.h"

#ifdef OUTRIGGER_LIBBPF

#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <linux/if_link.h>

#include <cstddef>

#include "session.h"

namespace outrigger::bench {
namespace {

template <typename T>
T orDie(Result<T> result) {
  if (!result) die(result.error().message);
  return result.take();
}
void orDie(const Result<void>& result) {
  if (!result) die(result.error().message);
}

constexpr uint32_t kHasFrags = 1U << 5;  // BPF_F_XDP_HAS_FRAGS: the program may be given frames of several buffers

}  // namespace

XdpWire::XdpWire(const Plan& plan) : plan_(plan), frameBytes_(kHeaderBytes + plan.length), reserved_(reservePort(plan)) {
  if (plan.segmentation) die("the floor of xdp has no trains");
  const Netdevice device = netdeviceOf(plan.interface);
  // Received frames have the kernel's headroom before them.
  if (device.mtu + 14 + io::xdp::kKernelHeadroom > chunkBytes_) chunkBytes_ = 4096;
  multiBuffer_ = device.mtu + 14 + io::xdp::kKernelHeadroom > chunkBytes_;
  chunksPerFrame_ = (frameBytes_ + chunkBytes_ - 1) / chunkBytes_;
  std::string reason;
  memory_ = orDie(io::xdp::UmemMemory::allocate(kUmemBytes, false, reason));
  transmitStart_ = kUmemBytes / 2;
  frames_ = std::min<uint64_t>(kRing, kUmemBytes / 2 / chunkBytes_) / chunksPerFrame_;
  socket_ = orDie(io::xdp::openXsk());
  io::xdp::UmemLayout layout;
  layout.chunkBytes = chunkBytes_;
  orDie(io::xdp::registerUmem(socket_.get(), memory_.data(), memory_.lengthBytes(), layout));
  const io::xdp::RingSizes sizes{kRing, kRing, kRing, kRing};
  orDie(io::xdp::setRings(socket_.get(), sizes));
  rings_ = orDie(io::xdp::XskRings::map(socket_.get(), sizes));
  const auto receiveChunks = static_cast<uint32_t>(std::min<uint64_t>(kRing, transmitStart_ / chunkBytes_));
  for (uint32_t i = 0; i < receiveChunks; ++i) rings_.fill.push(static_cast<uint64_t>(i) * chunkBytes_);
  rings_.fill.publish();
  used_.reserve(kRing);
  attachProgram(device.index);
  io::xdp::XskBinding binding;
  binding.interfaceIndex = device.index;
  binding.multiBuffer = multiBuffer_;
  orDie(io::xdp::bindXsk(socket_.get(), binding));
  const uint32_t queue = 0;
  const int fd = socket_.get();
  if (::bpf_map_update_elem(map_.get(), &queue, &fd, BPF_ANY) != 0) dieErrno("cannot enter the socket in the program's map");
  const FrameHeader header(plan, device.mac, plan.length);
  for (uint64_t i = 0; i < frames_; ++i) header.writeTo(frameAt(i));
}

// return bpf_redirect_map(&map, context->rx_queue_index, XDP_PASS)
void XdpWire::attachProgram(unsigned interfaceIndex) {
  if (plan_.mode != "native" && plan_.mode != "generic") die("--mode '" + plan_.mode + "' is neither 'native' nor 'generic'");
  map_ = UniqueFd(::bpf_map_create(BPF_MAP_TYPE_XSKMAP, "floor", sizeof(uint32_t), sizeof(uint32_t), 1, nullptr));
  if (map_.get() < 0) dieErrno("cannot create an XSKMAP");
  const auto op = [](uint8_t code, uint8_t to, uint8_t from, int16_t offset, int32_t value) {
    bpf_insn instruction{};
    instruction.code = code;
    instruction.dst_reg = to & 0xF;
    instruction.src_reg = from & 0xF;
    instruction.off = offset;
    instruction.imm = value;
    return instruction;
  };
  const bpf_insn instructions[] = {
      op(BPF_LDX | BPF_MEM | BPF_W, BPF_REG_2, BPF_REG_1, offsetof(xdp_md, rx_queue_index), 0),
      op(BPF_LD | BPF_IMM | BPF_DW, BPF_REG_1, BPF_PSEUDO_MAP_FD, 0, map_.get()),
      op(0, 0, 0, 0, 0),
      op(BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_3, 0, 0, XDP_PASS),
      op(BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_redirect_map),
      op(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
  };
  bpf_prog_load_opts options{};
  options.sz = sizeof(options);
  options.prog_flags = kHasFrags;
  options.expected_attach_type = BPF_XDP;
  program_ = UniqueFd(::bpf_prog_load(BPF_PROG_TYPE_XDP, "floor", "GPL", instructions, std::size(instructions), &options));
  if (program_.get() < 0) dieErrno("cannot load the program");
  bpf_link_create_opts linkOptions{};
  linkOptions.sz = sizeof(linkOptions);
  linkOptions.flags = plan_.mode == "native" ? XDP_FLAGS_DRV_MODE : XDP_FLAGS_SKB_MODE;
  link_ = UniqueFd(::bpf_link_create(program_.get(), static_cast<int>(interfaceIndex), BPF_XDP, &linkOptions));
  if (link_.get() < 0) dieErrno("cannot attach the program to " + plan_.interface);
}

uint32_t XdpWire::room() {
  if (const uint32_t done = rings_.completion.refreshed(); done > 0) {
    rings_.completion.pop(done);
    chunksUnderWay_ -= done;
  }
  const uint64_t free = frames_ - (chunksUnderWay_ + chunksPerFrame_ - 1) / chunksPerFrame_;
  return static_cast<uint32_t>(std::min<uint64_t>(free, kBatch));
}

void XdpWire::send(uint32_t count) {
  for (uint32_t i = 0; i < count; ++i, ++next_) {
    const auto start = static_cast<uint64_t>(frameAt(next_) - memory_.data());
    for (uint32_t done = 0; done < frameBytes_; done += chunkBytes_) {
      const uint32_t part = std::min(chunkBytes_, frameBytes_ - done);
      rings_.transmit.push({start + done, part, done + part < frameBytes_ ? io::xdp::kPacketContinues : 0});
      ++chunksUnderWay_;
    }
  }
  rings_.transmit.publish();
  // In copy mode the kernel sends within the call, a part of the ring at a time.
  while (rings_.transmit.pending() > 0 && !stopped()) {
    if (::sendto(socket_.get(), nullptr, 0, MSG_DONTWAIT, nullptr, 0) < 0 && errno != EAGAIN && errno != EBUSY && errno != ENOBUFS &&
        errno != EINTR) {
      dieErrno("sending what is in the transmit ring");
    }
    if (rings_.transmit.pending() > 0) room();
  }
}

void XdpWire::poll(Sink& sink) {
  uint32_t available = rings_.receive.available();
  if (available == 0) return;
  available = std::min(available, 4 * kBatch);
  uint32_t taken = 0;
  while (taken < available) {
    uint32_t pieces = 1;
    while (taken + pieces < available && (rings_.receive.peek(taken + pieces - 1).options & io::xdp::kPacketContinues) != 0) ++pieces;
    if ((rings_.receive.peek(taken + pieces - 1).options & io::xdp::kPacketContinues) != 0) break;  // its rest comes with the next look
    const xdp_desc first = rings_.receive.peek(taken);
    const uint8_t* const frame = memory_.data() + first.addr;
    uint32_t payload = 0;
    if (isOurs(frame, first.len, plan_.port, payload) && payload > 0) {
      if (pieces == 1) {
        sink.take(frame + kHeaderBytes, std::min(payload, first.len - kHeaderBytes), payload);
      } else {
        uint8_t* const to = sink.room(payload);
        uint32_t copied = 0;
        for (uint32_t i = 0; i < pieces && copied < payload; ++i) {
          const xdp_desc piece = rings_.receive.peek(taken + i);
          const uint32_t skip = i == 0 ? kHeaderBytes : 0;
          const uint32_t part = std::min(piece.len - skip, payload - copied);
          std::memcpy(to + copied, memory_.data() + piece.addr + skip, part);
          copied += part;
        }
        sink.landed(to, copied, payload);
      }
    }
    for (uint32_t i = 0; i < pieces; ++i) used_.push_back(rings_.receive.peek(taken + i).addr & ~static_cast<uint64_t>(chunkBytes_ - 1));
    taken += pieces;
  }
  rings_.receive.pop(taken);
  giveBack();
}

void XdpWire::giveBack() {
  for (const uint64_t chunk : used_) rings_.fill.push(chunk);
  used_.clear();
  rings_.fill.publish();
  if (rings_.fill.needsWakeup()) ::recvfrom(socket_.get(), nullptr, 0, MSG_DONTWAIT, nullptr, nullptr);
}

}  // namespace outrigger::bench

#endif
