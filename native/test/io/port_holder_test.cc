// SPDX-License-Identifier: Apache-2.0
// A port that is taken: who has it, also from where that process can't be seen.
#include <gmock/gmock.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <functional>

#include "io/posix/port_holder.h"
#include "io/posix/udp_endpoint.h"

namespace outrigger::io {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

EndpointConfig configFor(const std::string& host, uint16_t port) {
  EndpointConfig config;
  config.bindAddress = *SockAddr::parseNumeric(host, port);
  return config;
}

// Of a process that said whose its ports are, as a driver does.
class PortHolder : public ::testing::Test {
 protected:
  void SetUp() override { namePortsAfter("outrigger-driver 7 in /dev/shm/first"); }
  void TearDown() override { namePortsAfter(""); }
};

std::string refusalOf(const EndpointConfig& config) {
  auto endpoint = UdpEndpoint::open(config, {});
  EXPECT_FALSE(endpoint) << config.bindAddress.toString() << " was free";
  return endpoint ? "" : endpoint.error().message;
}

UniqueFd plainSocket(const std::string& host, uint16_t port, SockAddr& bound) {
  const auto address = SockAddr::parseNumeric(host, port);
  UniqueFd socket(::socket(address->family(), SOCK_DGRAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(::bind(socket.get(), address->get(), address->length), 0) << std::strerror(errno);
  bound.length = sizeof(bound.storage);
  EXPECT_EQ(::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&bound.storage), &bound.length), 0);
  return socket;
}

// As a user who may see nothing of ours.
void asNobody(const std::function<void()>& body) {
  std::fflush(nullptr);
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::setresgid(65534, 65534, 65534) != 0 || ::setresuid(65534, 65534, 65534) != 0) ::_exit(2);
    body();
    std::fflush(nullptr);
    ::_exit(::testing::Test::HasFailure() ? 1 : 0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0) << "see its output above";
}

TEST_F(PortHolder, ASecondEndpointIsToldTheOwnerOfTheFirst) {
  for (const char* host : {"127.0.0.1", "::1"}) {
    auto first = UdpEndpoint::open(configFor(host, 0), {});
    ASSERT_TRUE(first) << first.error().message;
    const uint16_t port = (*first)->localAddress().port();
    EXPECT_THAT(refusalOf(configFor(host, port)), HasSubstr("held by outrigger-driver 7 in /dev/shm/first;"));
    const char* any = host[0] == ':' ? "::" : "0.0.0.0";
    EXPECT_THAT(refusalOf(configFor(any, port)), HasSubstr("held by outrigger-driver 7 in /dev/shm/first;"))
        << "a wildcard is in its way too";
    first->reset();
    EXPECT_TRUE(UdpEndpoint::open(configFor(host, port), {})) << "and the sign went with it";
    EXPECT_EQ(portHolder(*SockAddr::parseNumeric(host, port)), "");
  }
}

TEST_F(PortHolder, AnotherUserIsToldToo) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to become another user";
  auto first = UdpEndpoint::open(configFor("127.0.0.1", 0), {});
  ASSERT_TRUE(first) << first.error().message;
  const uint16_t port = (*first)->localAddress().port();
  asNobody([&] { EXPECT_THAT(refusalOf(configFor("127.0.0.1", port)), HasSubstr("held by outrigger-driver 7 in /dev/shm/first;")); });
}

TEST_F(PortHolder, ASocketOfAnyProgramIsNamedByItsProcess) {
  SockAddr bound;
  const UniqueFd other = plainSocket("0.0.0.0", 0, bound);
  EXPECT_THAT(refusalOf(configFor("127.0.0.1", bound.port())),
              AllOf(HasSubstr("held by process " + std::to_string(::getpid()) + " ("), HasSubstr(") of user 0")));
}

TEST_F(PortHolder, AProcessThatCannotBeSeenIsNamedByItsUser) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to become another user";
  SockAddr bound;
  UniqueFd other = plainSocket("::", 0, bound);
  asNobody([&] {
    other.reset();  // its copy
    EXPECT_THAT(refusalOf(configFor("127.0.0.1", bound.port())),
                AllOf(HasSubstr("held by a process of user 0 that can't be seen from here"), Not(HasSubstr("process 1"))));
  });
}

TEST_F(PortHolder, WhoTriesManyPortsInTurnIsNotKeptByALookForEachHolder) {
  auto first = UdpEndpoint::open(configFor("127.0.0.1", 0), {});
  ASSERT_TRUE(first) << first.error().message;
  const uint16_t port = (*first)->localAddress().port();
  {
    const PortTrial trial;
    EXPECT_THAT(refusalOf(configFor("127.0.0.1", port)), HasSubstr("held by another socket ("));
  }
  EXPECT_THAT(refusalOf(configFor("127.0.0.1", port)), HasSubstr("held by outrigger-driver 7"));
}

TEST_F(PortHolder, WhatASignSaysIsOnlyEverPrintedAsText) {
  SockAddr bound;
  const UniqueFd socket = plainSocket("127.0.0.1", 0, bound);
  const UniqueFd sign = putPortSign(socket.get(), bound, std::string("evil\x1b[2J") + std::string(300, 'x'));
  ASSERT_TRUE(sign.valid());
  EXPECT_THAT(portHolder(bound), AllOf(HasSubstr("evil?[2Jxxx"), Not(HasSubstr("\x1b"))));
}

}  // namespace
}  // namespace outrigger::io
