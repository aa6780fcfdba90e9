// SPDX-License-Identifier: Apache-2.0
// What the stack does itself where the kernel does not own the device: ARP and neighbour discovery, echo. All of it rate-limited: a storm costs a
// look at the frame's type and a counter. Errors about what it sent are in net_stack_errors.cc.
#include <algorithm>

#include "io/stack/icmp_messages.h"
#include "io/stack/neighbour_messages.h"
#include "io/stack/net_stack.h"
#include "io/stack/packet.h"

namespace outrigger::io {
namespace {

// Neighbours are looked over this often: their timers are of a second.
constexpr int64_t kNeighbourIntervalNs = 100'000'000;
// An announcement per address; a device has a handful.
constexpr size_t kMaxAnnounced = 64;

}  // namespace

void NetStack::onOther(const ParsedFrame& parsed, const RxFrame& frame) {
  if (parsed.kind == FrameKind::kDropped) return stats_.add(parsed.reason);
  // ARP, NDP and ICMP are the kernel's business wherever it owns the device: it has its own copy of them.
  if (device_->caps().kernelOwnsDevice) return stats_.add(StackCounter::kOtherProtocolPackets);
  if (parsed.kind == FrameKind::kArp) return onNeighbourPacket(parsed);
  if (!parsed.source.isV6() && !isLocal(parsed.destination)) return stats_.add(StackCounter::kOtherAddressDatagrams);
  if (parsed.source.isV6() && parsed.length > 0 && parsed.body[0] >= 133 && parsed.body[0] <= 137) return onNeighbourPacket(parsed);
  onIcmp(parsed, frame);
}

void NetStack::onNeighbourPacket(const ParsedFrame& parsed) {
  stats_.add(StackCounter::kNeighbourPackets);
  if (!neighbourLimit_.allow(nowNs_)) return stats_.add(StackCounter::kNeighbourPacketsLimited);
  NeighbourMessage message;
  if (!(parsed.kind == FrameKind::kArp ? parseArp(parsed, message) : parseNeighbourDiscovery(parsed, message))) {
    return stats_.add(StackCounter::kBadControlPackets);
  }
  if (message.hasMac && isLocal(message.sender)) {
    // Another station claims an address of ours. Nothing is learned from it; who reads the counter finds the duplicate.
    return stats_.add(StackCounter::kAddressConflicts);
  }
  const bool forUs = message.request && isLocal(message.target);
  if (message.hasMac && neighbours_.learn(message.sender, message.senderMac, forUs, nowNs_)) ++version_;
  if (!forUs) return;
  NeighbourFrame answer;
  answer.ownMac = link_.mac;
  answer.own = message.target;
  answer.target = message.sender;
  answer.toMac = message.hasMac ? message.senderMac : parsed.sourceMac;
  answer.vlan = options_.vlan;
  sendControlFrame(kMaxNeighbourFrameLength, [&](uint8_t* to) { return writeNeighbourAnswer(answer, true, to); });
}

void NetStack::onIcmp(const ParsedFrame& parsed, const RxFrame& frame) {
  IcmpError error;
  switch (parseIcmp(parsed, frame.checksum, error)) {
    case IcmpKind::kEchoRequest:
      stats_.add(StackCounter::kEchoRequests);
      if (parsed.broadcast || !isLocal(parsed.destination)) return stats_.add(StackCounter::kOtherAddressDatagrams);
      if (!echoLimit_.allow(nowNs_) || echoReplyLength(parsed, options_.vlan) > device_->caps().transmitBufferLength) {
        return stats_.add(StackCounter::kEchoRequestsLimited);
      }
      sendControlFrame(echoReplyLength(parsed, options_.vlan), [&](uint8_t* to) {
        writeEchoReply(parsed, link_.mac, options_.vlan, to);
        return echoReplyLength(parsed, options_.vlan);
      });
      return;
    case IcmpKind::kError:
      return onIcmpError(error);
    case IcmpKind::kMalformed:
      return stats_.add(StackCounter::kBadControlPackets);
    case IcmpKind::kNeighbourDiscovery:
    case IcmpKind::kOther:
      return stats_.add(StackCounter::kOtherProtocolPackets);
  }
}

template <typename Write>
void NetStack::sendControlFrame(uint32_t room, Write&& write) {
  TxFrame frame;
  if (room > device_->caps().transmitBufferLength || device_->reserve({&frame, 1}) == 0) return stats_.add(StackCounter::kRingFull);
  frame.length = write(frame.data);
  if (frame.length < packet::kMinFrameLength) {
    std::memset(frame.data + frame.length, 0, packet::kMinFrameLength - frame.length);
    frame.length = packet::kMinFrameLength;
  }
  frame.more = false;
  frame.checksumStart = 0;
  frame.checksumOffset = 0;
  frame.segmentLength = 0;
  commit({&frame, 1});
  device_->flush();
  stats_.add(StackCounter::kFramesSent);
}

// The address of ours to speak from to `other`: in the same prefix if there is one.
net::IpAddress NetStack::ownAddressFor(const net::IpAddress& other) const {
  const net::LocalAddress* best = nullptr;
  for (const net::LocalAddress& each : addresses_) {
    if (each.address.family != other.family || each.interfaceIndex != device_->caps().interfaceIndex) continue;
    if (best == nullptr || other.inPrefix(each.address, each.prefixLength)) best = &each;
  }
  return best == nullptr ? net::IpAddress{} : best->address;
}

void NetStack::askForNeighbours(int64_t nowNs) {
  if (!neighbourWanted_ && lastNeighbourNs_ != 0 && nowNs - lastNeighbourNs_ < kNeighbourIntervalNs) return;
  lastNeighbourNs_ = std::max<int64_t>(nowNs, 1);
  neighbourWanted_ = false;
  refreshAddresses();
  if (announcedVersion_ != addressVersion_ || announcedLink_ != link_.generation) announce();
  const bool changed = neighbours_.due(nowNs, [&](const NeighbourTable::Request& request) {
    NeighbourFrame ask;
    ask.ownMac = link_.mac;
    ask.own = ownAddressFor(request.address);
    ask.target = request.address;
    ask.toMac = request.mac;
    ask.unicast = request.unicast;
    ask.vlan = options_.vlan;
    if (ask.own.family != request.address.family) return;  // no address of this family to ask from
    stats_.add(StackCounter::kNeighbourRequestsSent);
    sendControlFrame(kMaxNeighbourFrameLength, [&](uint8_t* to) { return writeNeighbourRequest(ask, to); });
  });
  if (changed) ++version_;
}

// Tells the link which MAC address our addresses have: switches and neighbours may remember another from before a failover.
void NetStack::announce() {
  announcedVersion_ = addressVersion_;
  announcedLink_ = link_.generation;
  size_t announced = 0;
  for (const net::LocalAddress& each : addresses_) {
    if (each.interfaceIndex != device_->caps().interfaceIndex || announced++ >= kMaxAnnounced) continue;
    NeighbourFrame frame;
    frame.ownMac = link_.mac;
    frame.own = each.address;
    frame.vlan = options_.vlan;
    sendControlFrame(kMaxNeighbourFrameLength, [&](uint8_t* to) { return writeNeighbourAnswer(frame, false, to); });
  }
}

}  // namespace outrigger::io
