// SPDX-License-Identifier: Apache-2.0
// See the header.
#include "io/tap/tap_io.h"

#include <linux/if_ether.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "io/frame/vnet_header.h"
#include "io/packet/packet_filter.h"

// Linux 6.2; the headers may be older.
#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

namespace outrigger::io {
namespace {

Error failed(const std::string& name, const std::string& what, int err) {
  std::string hint;
  if (err == EPERM) hint = ": it needs CAP_NET_ADMIN in this network namespace";
  if (err == ENOENT) hint = ": load the module 'tun', or give the container the device";
  if (err == EBUSY) hint = ": another process has this interface open, choose another name";
  return makeError(ErrorCode::kGeneric, "backend tap, interface " + name + ": " + what + hint, err);
}

}  // namespace

Result<std::unique_ptr<TapIo>> TapIo::open(const TapOptions& options) {
  std::unique_ptr<TapIo> io(new TapIo(options));
  if (auto r = io->create(options); !r) return r.error();
  return io;
}

TapIo::~TapIo() {
  if (memory_ != nullptr) ::munmap(memory_, static_cast<size_t>(buffers_) * 2 * kBufferLength);
}

Result<void> TapIo::create(const TapOptions& options) {
  fd_ = UniqueFd(::open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC));
  if (!fd_.valid()) return failed(options.name, "cannot open /dev/net/tun", errno);
  ifreq request{};
  if (options.name.size() >= IFNAMSIZ) return failed(options.name, "the name is longer than 15 characters", 0);
  std::memcpy(request.ifr_name, options.name.data(), options.name.size());
  request.ifr_flags = static_cast<short>(IFF_TAP | IFF_NO_PI | (vnetHeader_ ? IFF_VNET_HDR : 0));
  if (::ioctl(fd_.get(), TUNSETIFF, &request) != 0) return failed(options.name, "cannot make it", errno);
  netdev_.name = std::string(request.ifr_name, ::strnlen(request.ifr_name, IFNAMSIZ));
  netdev_.index = ::if_nametoindex(netdev_.name.c_str());
  auto link = LinkReader::open(netdev_);
  if (!link) return link.error();
  link_ = link.take();
  // Our end: the interface's address, which is random and locally administered, with one bit turned, so that both differ.
  mac_ = link_->read().mac;
  mac_[5] ^= 1;
  caps_.name = "tap";
  caps_.mode = "TAP";
  caps_.interface = netdev_.name;
  caps_.interfaceIndex = netdev_.index;
  caps_.transmitBufferLength = kBufferLength - kFrameOffset;
  caps_.kernelOwnsDevice = false;
  caps_.singleOwner = true;
  caps_.receiveChecksum = vnetHeader_;
  caps_.transmitChecksum = vnetHeader_;
  if (vnetHeader_) {
    if (::ioctl(fd_.get(), TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_USO4 | TUN_F_USO6) == 0) {
      caps_.receiveTrains = true;
      caps_.transmitSegmentation = true;
      caps_.offloads = {"transmit checksum", "receive checksum", "receive trains", "transmit segmentation"};
    } else {
      caps_.reason = makeError(ErrorCode::kGeneric, "trains: the kernel refuses TUN_F_USO4 (it has it from 6.2 on)", errno).message;
      if (::ioctl(fd_.get(), TUNSETOFFLOAD, TUN_F_CSUM) != 0) return failed(netdev_.name, "cannot set TUN_F_CSUM", errno);
      caps_.offloads = {"transmit checksum", "receive checksum"};
    }
  } else {
    caps_.reason = "checksum offload and trains: off, they need IFF_VNET_HDR";
  }
  void* memory = ::mmap(nullptr, static_cast<size_t>(buffers_) * 2 * kBufferLength, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return failed(netdev_.name, "cannot map its buffers", errno);
  memory_ = static_cast<uint8_t*>(memory);
  for (uint32_t i = buffers_; i-- > 0;) {
    freeReceive_.push_back(i);
    freeTransmit_.push_back(buffers_ + i);
  }
  return filtered_ ? replaceFilter({}) : Result<void>();
}

Result<void> TapIo::replaceFilter(const std::vector<SteerRule>& rules) {
  auto program = buildPacketFilter(rules, FilterView::kDevice);
  if (!program) return program.error();
  sock_fprog description{};
  description.len = static_cast<unsigned short>(program->size());
  description.filter = program->data();
  if (::ioctl(fd_.get(), TUNATTACHFILTER, &description) == 0) return {};
  return failed(netdev_.name, "cannot attach a filter of " + std::to_string(program->size()) + " instructions", errno);
}

Result<void> TapIo::steer(const SteerRule& rule) {
  if (!filtered_) return {};
  const std::lock_guard<std::mutex> lock(rulesMutex_);
  const auto known = std::find_if(rules_.begin(), rules_.end(), [&](const SteerRule& one) { return one.address == rule.address; });
  if (known != rules_.end()) return {};
  std::vector<SteerRule> rules = rules_;
  rules.push_back(rule);
  if (auto r = replaceFilter(rules); !r) return r;
  rules_ = std::move(rules);
  return {};
}

Result<void> TapIo::unsteer(const SteerRule& rule) {
  const std::lock_guard<std::mutex> lock(rulesMutex_);
  std::vector<SteerRule> rules = rules_;
  if (std::erase_if(rules, [&](const SteerRule& one) { return one.address == rule.address; }) == 0) return {};
  if (auto r = replaceFilter(rules); !r) return r;
  rules_ = std::move(rules);
  return {};
}

LinkState TapIo::link() {
  LinkState state = link_->read();
  state.mac = mac_;
  return state;
}

uint32_t TapIo::receive(std::span<RxFrame> frames) {
  uint32_t count = 0;
  int64_t bytes = 0;
  const uint32_t headerLength = vnetHeader_ ? sizeof(VnetHeader) : 0;
  while (count < frames.size() && !freeReceive_.empty()) {
    const uint32_t index = freeReceive_.back();
    uint8_t* data = bufferAt(index) + kFrameOffset;
    const ssize_t received = ::read(fd_.get(), data - headerLength, kBufferLength - kFrameOffset + headerLength);
    if (received < 0 && errno == EINTR) continue;
    if (received <= 0) break;
    RxFrame& frame = frames[count];
    frame = RxFrame{};
    frame.data = data;
    frame.length = static_cast<uint32_t>(received) - headerLength;
    frame.cookie = index;
    if (received < static_cast<ssize_t>(headerLength + ETH_HLEN) || (vnetHeader_ && !readVnetHeader(data - headerLength, frame))) {
      stats.invalidDescriptors.fetch_add(1, std::memory_order_relaxed);
      continue;
    }
    freeReceive_.pop_back();
    bytes += frame.length;
    ++count;
  }
  if (count != 0) {
    stats.receivedFrames.fetch_add(count, std::memory_order_relaxed);
    stats.receivedBytes.fetch_add(bytes, std::memory_order_relaxed);
  }
  return count;
}

void TapIo::giveBack(std::span<const RxFrame> frames) {
  for (const RxFrame& frame : frames) freeReceive_.push_back(static_cast<uint32_t>(frame.cookie));
}

uint32_t TapIo::reserve(std::span<TxFrame> frames) {
  const auto count = static_cast<uint32_t>(std::min(frames.size(), freeTransmit_.size()));
  for (uint32_t i = 0; i < count; ++i) {
    frames[i] = TxFrame{};
    frames[i].cookie = freeTransmit_.back();
    frames[i].data = bufferAt(freeTransmit_.back()) + kFrameOffset;
    frames[i].capacity = kBufferLength - kFrameOffset;
    freeTransmit_.pop_back();
  }
  if (count == 0 && !frames.empty()) stats.noBuffer.fetch_add(1, std::memory_order_relaxed);
  return count;
}

// The kernel takes each frame at once, or not at all: it has no queue in this direction.
void TapIo::commit(std::span<const TxFrame> frames) {
  for (const TxFrame& frame : frames) {
    uint8_t* data = bufferAt(static_cast<uint32_t>(frame.cookie)) + kFrameOffset;
    size_t length = frame.length;
    if (vnetHeader_) {
      const VnetHeader header = vnetHeaderOf(frame);
      data -= sizeof(header);
      length += sizeof(header);
      std::memcpy(data, &header, sizeof(header));
    }
    ssize_t written = 0;
    do {
      written = ::write(fd_.get(), data, length);
    } while (written < 0 && errno == EINTR);
    if (written == static_cast<ssize_t>(length)) {
      stats.transmittedFrames.fetch_add(1, std::memory_order_relaxed);
      stats.transmittedBytes.fetch_add(frame.length, std::memory_order_relaxed);
    } else {
      stats.transmitErrors.fetch_add(1, std::memory_order_relaxed);
    }
    freeTransmit_.push_back(static_cast<uint32_t>(frame.cookie));
  }
}

void TapIo::abort(std::span<const TxFrame> frames) {
  for (const TxFrame& frame : frames) freeTransmit_.push_back(static_cast<uint32_t>(frame.cookie));
}

bool TapIo::arm() {
  pollfd handle{fd_.get(), POLLIN, 0};
  return ::poll(&handle, 1, 0) <= 0 || (handle.revents & POLLIN) == 0;
}

}  // namespace outrigger::io
