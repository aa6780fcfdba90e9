// SPDX-License-Identifier: Apache-2.0
// NetStack beside a real kernel, to a host behind a gateway: the far end forwards to a third namespace.
#include "behind_gateway.h"

namespace outrigger::io::testing {
namespace {

struct Way {
  const char* name;
  std::vector<std::string> near;  // commands in the near namespace
  std::vector<std::string> far;   // and in that of the gateway
  const char* local;              // address of the endpoint
  const char* beyond;             // and of the host behind the gateway
  const char* addresses;          // an exception interface is given these
  const char* gateways;           // and these instead of what the near commands do
};

const std::vector<Way> kWays = {
    {"Gateway", {"ip route add 192.0.2.0/24 via 10.92.0.2"}, {}, "10.92.0.1", kBeyond, "10.92.0.1/24", "10.92.0.2"},
    {"GatewayOfIpv6", {"ip -6 route add 2001:db8:92::/64 via fd92::2"}, {}, "fd92::1", kBeyondV6, "fd92::1/64", "fd92::2"},
    // As many a pod has it: an address alone, and a gateway that is in no network of the interface.
    {"OnlinkGatewayOfALoneAddress",
     {"ip addr flush dev near0", "ip addr add 10.93.0.1/32 dev near0", "ip route add default via 169.254.1.1 dev near0 onlink"},
     {"ip addr add 169.254.1.1/32 dev far0", "ip route add 10.93.0.1/32 dev far0"},
     "10.93.0.1",
     kBeyond,
     "10.93.0.1/32",
     "169.254.1.1"},
};

class StackBehindGateway : public BehindGateway, public ::testing::WithParamInterface<std::tuple<const char*, size_t>> {
 protected:
  StackBehindGateway() : BehindGateway(std::get<0>(GetParam())) {}
  const Way& way() const { return kWays[std::get<1>(GetParam())]; }

  void SetUp() override {
    addresses_ = way().addresses;
    gateways_ = way().gateways;
    BehindGateway::SetUp();
    if (IsSkipped()) return;
    if (!hasExceptions()) {
      for (const std::string& line : way().near) near(line);
    }
    for (const std::string& line : way().far) far(line);
  }
};

TEST_P(StackBehindGateway, exchangesDatagramsWithAHostBeyondByTheDevice) {
  auto endpoint = open(way().local);
  FarSocket peer(*beyond_, at(way().beyond));
  auto next = hop(*endpoint, peer.address);
  connect(*endpoint, peer.address);
  const int64_t kernelSends = count(StackCounter::kKernelSends);
  for (uint32_t i = 0; i < 20; ++i) {
    ASSERT_NO_FATAL_FAILURE(exchange(*endpoint, *next, peer, pattern(1400, i)));
  }
  EXPECT_EQ(count(StackCounter::kKernelSends), kernelSends) << "to the gateway's MAC address, not through the kernel";
}

INSTANTIATE_TEST_SUITE_P(Devices, StackBehindGateway,
                         ::testing::Combine(::testing::Values("packet", "native", "generic", "dpdk", "dpdkExceptions"),
                                            ::testing::Range<size_t>(0, 3)),
                         [](const auto& row) { return std::string(std::get<0>(row.param)) + kWays[std::get<1>(row.param)].name; });

}  // namespace
}  // namespace outrigger::io::testing
