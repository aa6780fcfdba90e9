// SPDX-License-Identifier: Apache-2.0
// Raw backends copy payload once on the way out, into the device's own buffer, and not at all on the way in: the view is of the device's buffer. Control
// frames are built where the device reads them. Shown by a device that notes which memory it gave and got, and by looking at what is copied by calls of
// memcpy and memmove: a payload that went elsewhere first would be read twice.
#include <dlfcn.h>

#include "veth_world.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define OUTRIGGER_COPIES_SEEN 0  // the sanitizers have those functions
#else
#define OUTRIGGER_COPIES_SEEN 1
#endif

namespace {

struct Copy {
  const void* to;
  const void* from;
  size_t length;
};
// Copies of what begins within `from`, noted while that is set.
struct CopyLook {
  const uint8_t* from = nullptr;
  size_t length = 0;
  std::array<Copy, 64> copies{};
  size_t count = 0;
};
thread_local CopyLook copyLook;

#if OUTRIGGER_COPIES_SEEN
void noteCopy(const void* to, const void* from, size_t length) {
  const auto* start = static_cast<const uint8_t*>(from);
  if (copyLook.from == nullptr || start < copyLook.from || start >= copyLook.from + copyLook.length) return;
  if (copyLook.count < copyLook.copies.size()) copyLook.copies[copyLook.count++] = {to, from, length};
}

using MoveFunction = void* (*)(void*, const void*, size_t);
// Until the dynamic linker has an answer, which itself may copy.
void* moveByBytes(void* to, const void* from, size_t length) {
  auto* target = static_cast<volatile uint8_t*>(to);
  const auto* source = static_cast<const volatile uint8_t*>(from);
  if (target <= source) {
    for (size_t i = 0; i < length; ++i) target[i] = source[i];
  } else {
    for (size_t i = length; i-- > 0;) target[i] = source[i];
  }
  return to;
}
MoveFunction realMove = nullptr;
bool asked = false;

void* move(void* to, const void* from, size_t length) {
  if (!asked) {
    asked = true;
    realMove = reinterpret_cast<MoveFunction>(::dlsym(RTLD_NEXT, "memmove"));
  }
  return (realMove != nullptr ? realMove : moveByBytes)(to, from, length);
}
#endif

}  // namespace

#if OUTRIGGER_COPIES_SEEN
extern "C" {
void* memcpy(void* to, const void* from, size_t length) {
  noteCopy(to, from, length);
  return move(to, from, length);
}
void* memmove(void* to, const void* from, size_t length) {
  noteCopy(to, from, length);
  return move(to, from, length);
}
}
#endif

namespace outrigger::io::testing {
namespace {

struct Memory {
  const uint8_t* data;
  size_t length;
  bool holds(const uint8_t* from, size_t bytes) const { return from >= data && from + bytes <= data + length; }
};

bool anyHolds(const std::vector<Memory>& all, const uint8_t* data, size_t length) {
  return std::any_of(all.begin(), all.end(), [&](const Memory& one) { return one.holds(data, length); });
}

class WatchedDevice final : public FrameIo {
 public:
  explicit WatchedDevice(std::unique_ptr<FrameIo> device) : device_(std::move(device)) {}

  const FrameCaps& caps() const override { return device_->caps(); }
  Result<void> steer(const SteerRule& rule) override { return device_->steer(rule); }
  Result<void> unsteer(const SteerRule& rule) override { return device_->unsteer(rule); }
  LinkState link() override { return device_->link(); }
  uint32_t receive(std::span<RxFrame> frames) override {
    const uint32_t count = device_->receive(frames);
    for (const RxFrame& each : frames.first(count)) received.push_back({each.data, each.length});
    return count;
  }
  void giveBack(std::span<const RxFrame> frames) override { device_->giveBack(frames); }
  uint32_t reserve(std::span<TxFrame> frames) override {
    const uint32_t count = device_->reserve(frames);
    for (const TxFrame& each : frames.first(count)) given.push_back({each.data, each.capacity});
    return count;
  }
  void commit(std::span<const TxFrame> frames) override {
    for (const TxFrame& each : frames) committed.push_back({each.data, each.length});
    device_->commit(frames);
  }
  void abort(std::span<const TxFrame> frames) override { device_->abort(frames); }
  bool flush() override { return device_->flush(); }
  int waitHandle() const override { return device_->waitHandle(); }
  bool arm() override { return device_->arm(); }

  std::vector<Memory> received;
  std::vector<Memory> given;
  std::vector<Memory> committed;

 private:
  std::unique_ptr<FrameIo> device_;
};

class StackCopies : public StackOverVeth {
 protected:
  Result<std::unique_ptr<FrameIo>> openDevice() override {
    auto device = StackOverVeth::openDevice();
    if (!device) return device.error();
    auto watched = std::make_unique<WatchedDevice>(device.take());
    device_ = watched.get();
    return std::unique_ptr<FrameIo>(std::move(watched));
  }

  WatchedDevice* device_ = nullptr;
};

TEST_F(StackCopies, areNoneOnTheWayIn) {
  const auto endpoint = open(kNear);
  FarSocket peer(*far_, at(kFar));
  const Bytes datagram = pattern(900, 1);
  peer.send(endpoint->localAddress(), datagram);
  RxBurst burst;
  for (const int64_t limitNs = monotonicNs() + int64_t{kPatienceMs} * 1'000'000; io_->poll(burst, monotonicNs()) == 0;) {
    ASSERT_LT(monotonicNs(), limitNs) << "the datagram never came";
  }
  const RxPacket& packet = burst.packets[0];
  ASSERT_EQ(Bytes(packet.data, packet.data + packet.length), datagram);
  EXPECT_TRUE(anyHolds(device_->received, packet.data, packet.length)) << "the view is of other memory than the device's";
}

TEST_F(StackCopies, areOneOnTheWayOut) {
  const auto endpoint = open(kNear);
  FarSocket peer(*far_, at(kFar));
  connect(*endpoint, peer.address);
  const auto next = hop(*endpoint, peer.address);
  const Bytes train = pattern(5 * 600 + 100, 2);
  // Where copies are seen at all, this one is.
  Bytes elsewhere(train.size());
  volatile size_t all = train.size();
  copyLook = {train.data(), train.size(), {}, 0};
  std::memcpy(elsewhere.data(), train.data(), all);
  ASSERT_EQ(copyLook.count, OUTRIGGER_COPIES_SEEN ? 1U : 0U);
  device_->given.clear();
  device_->committed.clear();
  copyLook = {train.data(), train.size(), {}, 0};
  ASSERT_EQ(send(*endpoint, *next, train, 600).status, TxStatus::kSent);
  copyLook.from = nullptr;
  ASSERT_LT(copyLook.count, copyLook.copies.size()) << "more than is kept account of";
  for (size_t i = 0; i < copyLook.count; ++i) {
    const Copy& copy = copyLook.copies[i];
    EXPECT_TRUE(anyHolds(device_->given, static_cast<const uint8_t*>(copy.to), copy.length))
        << "payload was copied elsewhere than into the device's buffers";
  }
  size_t bytes = 0;
  for (const Memory& frame : device_->committed) {
    EXPECT_TRUE(anyHolds(device_->given, frame.data, frame.length)) << "a frame outside of the device's buffers";
    EXPECT_FALSE((Memory{train.data(), train.size()}.holds(frame.data, 1)));
    bytes += frame.length;
  }
  const size_t headers = 14 + 20 + 8;
  EXPECT_EQ(bytes, train.size() + device_->committed.size() * headers) << "each byte into one buffer";
}

TEST_F(StackCopies, areNoneOfControlFrames) {
  const auto endpoint = open(kNear);
  FarSocket peer(*far_, at(kFar));
  connect(*endpoint, peer.address);
  device_->given.clear();
  device_->committed.clear();
  TxSlot slot;
  ASSERT_EQ(io_->reserve(*endpoint, peer.address, 36, slot), TxStatus::kPending);
  const uint8_t* const built = slot.data;
  EXPECT_TRUE(anyHolds(device_->given, built, 36)) << "built elsewhere than where the device reads it";
  const Bytes frame = pattern(36, 3);
  std::memcpy(slot.data, frame.data(), frame.size());
  ASSERT_EQ(io_->commit(*endpoint, peer.address, slot, 36), TxStatus::kSent);
  ASSERT_EQ(device_->committed.size(), 1U);
  EXPECT_TRUE(device_->committed[0].holds(built, 36));
  // Behind what connect() sent.
  Bytes arrived = peer.receive();
  while (!arrived.empty() && arrived.size() != frame.size()) arrived = peer.receive();
  EXPECT_EQ(arrived, frame);
}

}  // namespace
}  // namespace outrigger::io::testing
