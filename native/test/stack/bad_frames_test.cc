// SPDX-License-Identifier: Apache-2.0
// What the stack does not deliver: each kind of bad frame reaches nobody, is counted under its reason, and its buffer goes back.
#include "io/stack/packet.h"
#include "stack_world.h"

namespace outrigger::io::testing {
namespace {

class BadFrames : public StackWorld {
 protected:
  void SetUp() override {
    HostOptions b;
    b.station.promiscuous = true;
    makeHosts({}, b);
    endpoint_ = hostB->open(kHostB);
    good_ = udpFrame(kMacB, at("127.66.0.9", 4000), endpoint_->localAddress(), pattern(100, 1));
  }
  // Nothing arrives, and exactly this counter grows.
  void expectDropped(const Bytes& frame, StackCounter counter, RxChecksum checksum = RxChecksum::kUnknown) {
    const int64_t before = hostB->count(counter);
    wire.deliver(1, frame, checksum);
    EXPECT_TRUE(hostB->poll(wire.nowNs()).empty());
    EXPECT_EQ(hostB->count(counter), before + 1) << networkCounterName(networkIndex(counter));
    EXPECT_EQ(wire.outstanding(1), 0U);
  }
  void expectDelivered(const Bytes& frame, RxChecksum checksum = RxChecksum::kUnknown) {
    wire.deliver(1, frame, checksum);
    EXPECT_EQ(hostB->poll(wire.nowNs()).size(), 1U);
  }
  // With a right header checksum again after a change.
  static Bytes resummed(Bytes frame) {
    packet::store16(&frame[24], 0);
    packet::storeSum(&frame[24], static_cast<uint16_t>(~foldSum(sumBytes(&frame[14], (frame[14] & 0x0FU) * 4))));
    return frame;
  }

  std::unique_ptr<Endpoint> endpoint_;
  Bytes good_;
};

TEST_F(BadFrames, shorterThanTheirHeadersAreDroppedAtEveryLength) {
  expectDelivered(good_);
  for (size_t length = 0; length < 14; ++length) {
    expectDropped(Bytes(good_.begin(), good_.begin() + static_cast<ptrdiff_t>(length)), StackCounter::kShortFrames);
  }
  for (size_t length = 14; length < good_.size(); ++length) {
    expectDropped(Bytes(good_.begin(), good_.begin() + static_cast<ptrdiff_t>(length)), StackCounter::kTruncatedFrames);
  }
}

TEST_F(BadFrames, withPaddingBehindThePacketAreWhole) {
  Bytes padded = good_;
  padded.resize(padded.size() + 30, 0xEE);
  wire.deliver(1, padded);
  const auto arrivals = hostB->poll(0);
  ASSERT_EQ(arrivals.size(), 1U);
  EXPECT_EQ(arrivals[0].bytes, pattern(100, 1));
}

TEST_F(BadFrames, withAnyBitFlippedBehindTheAddressesAreNeverDelivered) {
  // Whatever of the IP packet a wire may damage is covered by one of the two checksums, or makes it somebody else's.
  for (size_t byte = 14; byte < good_.size(); ++byte) {
    for (int bit = 0; bit < 8; ++bit) {
      Bytes frame = good_;
      frame[byte] ^= static_cast<uint8_t>(1 << bit);
      if (packet::load16(&frame[40]) == 0) continue;  // that says that there is no checksum; which it was depends on the port
      wire.deliver(1, frame);
      EXPECT_TRUE(hostB->poll(0).empty()) << "byte " << byte << " bit " << bit;
    }
  }
  EXPECT_EQ(wire.outstanding(1), 0U);
}

TEST_F(BadFrames, withAWrongUdpChecksumAreDroppedUnlessTheDeviceVouchesForThem) {
  Bytes frame = good_;
  frame[50] ^= 0x40;
  expectDropped(frame, StackCounter::kBadUdpChecksums);
  // CHECKSUM_PARTIAL, from a sender on this machine: the field was never filled in.
  expectDelivered(frame, RxChecksum::kPartial);
  expectDelivered(frame, RxChecksum::kGood);
}

TEST_F(BadFrames, withoutUdpChecksumAreTakenOverIpv4) {
  Bytes frame = good_;
  packet::store16(&frame[40], 0);
  expectDelivered(frame);
}

TEST_F(BadFrames, withAWrongIpHeaderAreDropped) {
  Bytes version = good_;
  version[14] = 0x65;
  expectDropped(resummed(version), StackCounter::kBadIpHeaders);
  Bytes shortHeader = good_;
  shortHeader[14] = 0x44;
  expectDropped(shortHeader, StackCounter::kBadIpHeaders);
  Bytes shortTotal = good_;
  packet::store16(&shortTotal[16], 19);
  expectDropped(resummed(shortTotal), StackCounter::kBadIpHeaders);
  Bytes sum = good_;
  sum[24] ^= 1;
  expectDropped(sum, StackCounter::kBadIpChecksums);
}

TEST_F(BadFrames, withAnImpossibleUdpLengthAreDropped) {
  Bytes tooShort = good_;
  packet::store16(&tooShort[38], 7);
  expectDropped(tooShort, StackCounter::kBadUdpLengths);
  Bytes tooLong = good_;
  packet::store16(&tooLong[38], 109);
  expectDropped(tooLong, StackCounter::kTruncatedFrames);
}

TEST_F(BadFrames, inFragmentsOrWithOptionsAreLeftToTheKernel) {
  Bytes first = good_;
  packet::store16(&first[20], 0x2000);
  expectDropped(resummed(first), StackCounter::kFragments);
  Bytes later = good_;
  packet::store16(&later[20], 0x0010);
  expectDropped(resummed(later), StackCounter::kFragments);
  Bytes options = good_;
  options.insert(options.begin() + 34, {1, 1, 1, 0});
  options[14] = 0x46;
  packet::store16(&options[16], packet::load16(&good_[16]) + 4U);
  expectDropped(resummed(options), StackCounter::kIpOptionPackets);
}

TEST_F(BadFrames, taggedTwiceAreDroppedHoweverTheDeviceShowsTheTags) {
  Bytes once = good_;
  once.insert(once.begin() + 12, {0x81, 0x00, 0x60, 0x00});  // priority 3, no VLAN
  expectDelivered(once);
  Bytes twice = once;
  twice.insert(twice.begin() + 12, {0x81, 0x00, 0x00, 0x00});
  expectDropped(twice, StackCounter::kDoubleTaggedFrames);
  Bytes service = once;
  service.insert(service.begin() + 12, {0x88, 0xA8, 0x00, 0x05});
  expectDropped(service, StackCounter::kDoubleTaggedFrames);
  wire.deliver(1, once, RxChecksum::kUnknown, true, 0);
  EXPECT_TRUE(hostB->poll(0).empty());
  EXPECT_EQ(hostB->count(StackCounter::kDoubleTaggedFrames), 3);
  wire.deliver(1, good_, RxChecksum::kUnknown, true, 0x6000);
  EXPECT_EQ(hostB->poll(0).size(), 1U) << "one tag that the device took out";
}

TEST_F(BadFrames, ofAnotherVlanAreDropped) {
  Bytes tagged = good_;
  tagged.insert(tagged.begin() + 12, {0x81, 0x00, 0x00, 0x07});
  expectDropped(tagged, StackCounter::kOtherVlanFrames);
  wire.deliver(1, good_, RxChecksum::kUnknown, true, 7);
  EXPECT_TRUE(hostB->poll(0).empty());
  EXPECT_EQ(hostB->count(StackCounter::kOtherVlanFrames), 2);
}

TEST_F(BadFrames, thatClaimToComeFromUsAreDropped) {
  Bytes spoofed = good_;
  std::copy(kMacB.begin(), kMacB.end(), spoofed.begin() + 6);
  expectDropped(spoofed, StackCounter::kOwnMacFrames);
}

TEST_F(BadFrames, forOthersAreDropped) {
  Bytes otherMac = good_;
  otherMac[5] ^= 1;
  expectDropped(otherMac, StackCounter::kOtherMacFrames);
  const SockAddr local = endpoint_->localAddress();
  const auto otherPort = static_cast<uint16_t>(local.port() == 65535 ? 1 : local.port() + 1);
  expectDropped(udpFrame(kMacB, at("127.66.0.9", 1), at(kHostB, otherPort), pattern(9, 1)), StackCounter::kOtherPortDatagrams);
  expectDropped(udpFrame(kMacB, at("127.66.0.9", 1), at("127.66.0.7", local.port()), pattern(9, 1)), StackCounter::kOtherAddressDatagrams);
  Bytes arp = good_;
  packet::store16(&arp[12], 0x88CC);  // LLDP
  expectDropped(arp, StackCounter::kOtherProtocolPackets);
  Bytes tcp = good_;
  tcp[23] = 6;
  expectDropped(resummed(tcp), StackCounter::kOtherProtocolPackets);
}

TEST_F(BadFrames, withAnEmptyDatagramAreCountedAtTheirEndpoint) {
  wire.deliver(1, udpFrame(kMacB, at("127.66.0.9", 1), endpoint_->localAddress(), {}));
  EXPECT_TRUE(hostB->poll(0).empty());
  EXPECT_EQ(endpoint_->stats.emptyDatagrams.load(), 1);
}

TEST_F(BadFrames, inMoreBuffersThanAnIpPacketFillsAreDroppedAndCounted) {
  HostOptions b;
  b.address = "127.66.0.3";
  b.station.receiveBufferLength = 2048;
  b.mac = {2, 0, 0, 0, 0, 0x0D};
  Host host(wire, b);
  wire.deliver(2, Bytes(70'000, 0x11));
  EXPECT_TRUE(host.poll(0).empty());
  EXPECT_EQ(host.count(StackCounter::kOversizedFrames), 1);
  EXPECT_EQ(wire.outstanding(2), 0U);
}

class BadV6Frames : public StackWorld {
 protected:
  void SetUp() override {
    HostOptions b;
    b.address = "fd77::2";
    b.mac = kMacB;
    b.kernelOwnsDevice = false;
    hostA = std::make_unique<Host>(wire, HostOptions{});
    hostB = std::make_unique<Host>(wire, b);
    endpoint_ = hostB->open("fd77::2");
    good_ = udpFrame(kMacB, at("fd77::9", 4000), endpoint_->localAddress(), pattern(100, 1));
  }
  void expectDropped(const Bytes& frame, StackCounter counter) {
    const int64_t before = hostB->count(counter);
    wire.deliver(1, frame);
    EXPECT_TRUE(hostB->poll(wire.nowNs()).empty());
    EXPECT_EQ(hostB->count(counter), before + 1) << networkCounterName(networkIndex(counter));
    EXPECT_EQ(wire.outstanding(1), 0U);
  }
  std::unique_ptr<Endpoint> endpoint_;
  Bytes good_;
};

TEST_F(BadV6Frames, areDroppedEachForItsReason) {
  wire.deliver(1, good_);
  const auto arrivals = hostB->poll(0);
  ASSERT_EQ(arrivals.size(), 1U);
  EXPECT_EQ(arrivals[0].source, at("fd77::9", 4000));
  for (size_t length = 14; length < good_.size(); ++length) {
    expectDropped(Bytes(good_.begin(), good_.begin() + static_cast<ptrdiff_t>(length)), StackCounter::kTruncatedFrames);
  }
  Bytes version = good_;
  version[14] = 0x45;
  expectDropped(version, StackCounter::kBadIpHeaders);
  Bytes noSum = good_;
  packet::store16(&noSum[60], 0);
  expectDropped(noSum, StackCounter::kZeroUdpChecksums);
  Bytes wrong = good_;
  wrong.back() ^= 1;
  expectDropped(wrong, StackCounter::kBadUdpChecksums);
  Bytes fragment = good_;
  fragment[20] = packet::kFragment;
  expectDropped(fragment, StackCounter::kFragments);
  for (const uint8_t next : {packet::kHopByHop, packet::kRouting, packet::kDestinationOptions}) {
    Bytes extension = good_;
    extension[20] = next;
    expectDropped(extension, StackCounter::kExtensionHeaderPackets);
  }
}

class VlanFrames : public StackWorld {};

TEST_F(VlanFrames, carryTheStacksTagBothWays) {
  HostOptions a;
  a.vlan = 42;
  HostOptions b = a;
  makeHosts(a, b);
  auto from = hostA->open(kHostA);
  auto to = hostB->open(kHostB);
  auto next = hostA->hop(*from, to->localAddress());
  uint16_t tag = 0;
  wire.onFrame([&](uint32_t, const Bytes& frame) { tag = packet::load16(&frame[14]); });
  EXPECT_EQ(hostA->send(*from, *next, pattern(1400, 2)).status, TxStatus::kSent);
  const auto arrivals = pollAll(*hostB);
  ASSERT_EQ(arrivals.size(), 1U);
  EXPECT_EQ(arrivals[0].bytes, pattern(1400, 2));
  EXPECT_EQ(tag, 42);
  wire.deliver(1, udpFrame(kMacB, at("127.66.0.9", 1), to->localAddress(), pattern(9, 1)));
  EXPECT_TRUE(hostB->poll(0).empty());
  EXPECT_EQ(hostB->count(StackCounter::kOtherVlanFrames), 1);
}

}  // namespace
}  // namespace outrigger::io::testing
