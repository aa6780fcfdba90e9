// SPDX-License-Identifier: Apache-2.0
// The table of what routers said.
#include "io/stack/path_mtus.h"

#include <gtest/gtest.h>

namespace outrigger::io {
namespace {

constexpr uint32_t kLink = 1500;

net::IpAddress host(uint32_t number) {
  const uint8_t bytes[]{192, 0, static_cast<uint8_t>(number >> 8), static_cast<uint8_t>(number)};
  return net::IpAddress::fromBytes(AF_INET, bytes);
}

net::IpAddress hostOfIpv6() {
  const std::array<uint8_t, 16> bytes{0x20, 0x01};
  return net::IpAddress::fromBytes(AF_INET6, bytes.data());
}

TEST(PathMtus, narrowOneDestinationAndNoOther) {
  PathMtus mtus(PathMtus::kBesideKernel);
  EXPECT_TRUE(mtus.lower(host(1), 1400, 1));
  EXPECT_EQ(mtus.limit(host(1), kLink, 1), 1400U);
  EXPECT_EQ(mtus.limit(host(2), kLink, 1), kLink);
  EXPECT_EQ(mtus.limit(host(1), 1300, 1), 1300U) << "the link is narrower still";
}

TEST(PathMtus, neverWidenAPathByARoutersWord) {
  PathMtus mtus(PathMtus::kBesideKernel);
  EXPECT_TRUE(mtus.lower(host(1), 1300, 1));
  EXPECT_FALSE(mtus.lower(host(1), 1400, 2));
  EXPECT_EQ(mtus.limit(host(1), kLink, 2), 1300U);
  EXPECT_FALSE(mtus.lower(host(1), 1300, 2)) << "nothing new";
  EXPECT_TRUE(mtus.lower(host(1), 1280, 2));
  EXPECT_EQ(mtus.limit(host(1), kLink, 2), 1280U);
}

TEST(PathMtus, forgetWithTheTrustsTimeAndSayItOnce) {
  for (const PathMtus::Trust& trust : {PathMtus::kBesideKernel, PathMtus::kAlone}) {
    PathMtus mtus(trust);
    ASSERT_TRUE(mtus.lower(host(1), 1300, 5));
    ASSERT_FALSE(mtus.lower(host(1), 1300, 10)) << "but it is heard, and lives longer for it";
    EXPECT_EQ(mtus.limit(host(1), kLink, 9 + trust.lifeNs), 1300U);
    EXPECT_FALSE(mtus.expire(9 + trust.lifeNs));
    EXPECT_EQ(mtus.limit(host(1), kLink, 10 + trust.lifeNs), kLink);
    EXPECT_TRUE(mtus.expire(10 + trust.lifeNs));
    EXPECT_FALSE(mtus.expire(10 + trust.lifeNs));
    EXPECT_TRUE(mtus.lower(host(1), 1400, 10 + trust.lifeNs)) << "what is forgotten may be wider now";
    EXPECT_EQ(mtus.limit(host(1), kLink, 10 + trust.lifeNs), 1400U);
  }
}

TEST(PathMtus, believeNobodyBelowTheLeast) {
  PathMtus alone(PathMtus::kAlone);
  alone.lower(host(1), 1, 1);
  EXPECT_EQ(alone.limit(host(1), kLink, 1), 552U);
  PathMtus beside(PathMtus::kBesideKernel);
  beside.lower(host(1), 1, 1);
  EXPECT_EQ(beside.limit(host(1), kLink, 1), 68U);
  for (PathMtus* each : {&alone, &beside}) {
    each->lower(hostOfIpv6(), 68, 1);
    EXPECT_EQ(each->limit(hostOfIpv6(), kLink, 1), 1280U);
  }
}

TEST(PathMtus, keepThoseHeardOfLastWhenThereAreMoreThanTheyHold) {
  PathMtus mtus(PathMtus::kBesideKernel);
  for (uint32_t i = 0; i < 1000; ++i) {
    EXPECT_TRUE(mtus.lower(host(1 + i), 1300, 2 * i + 1));
    mtus.lower(host(0), 1400, 2 * i + 2);
  }
  EXPECT_EQ(mtus.limit(host(0), kLink, 2000), 1400U) << "heard of again and again";
  EXPECT_EQ(mtus.limit(host(1000), kLink, 2000), 1300U);
  EXPECT_EQ(mtus.limit(host(1), kLink, 2000), kLink);
}

}  // namespace
}  // namespace outrigger::io
