// SPDX-License-Identifier: Apache-2.0
// The two kinds of links.
#include "probe/probe_link.h"

#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <optional>

#include "base/clock.h"
#include "base/fd.h"
#include "io/backend.h"
#include "io/frame/netdev.h"
#include "io/xdp/interface_facts.h"
#include "io/xdp/xdp_program.h"

namespace outrigger::probe {
namespace {

using io::xdp::AttachMode;
using io::xdp::EchoProgram;

// A connected socket: the kernel chooses source address and interface.
Result<UniqueFd> connectedSocket(const io::SockAddr& target) {
  UniqueFd fd(::socket(target.family(), SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return makeError(ErrorCode::kGeneric, "ping: cannot create a UDP socket", errno);
  if (::connect(fd.get(), target.get(), target.length) != 0) {
    return makeError(ErrorCode::kGeneric, "ping: no way to " + target.toString() + ": see 'ip route get'", errno);
  }
  return fd;
}

Result<std::string> sourceOf(int socket) {
  io::SockAddr local;
  local.length = sizeof(local.storage);
  if (::getsockname(socket, reinterpret_cast<sockaddr*>(&local.storage), &local.length) != 0) {
    return makeError(ErrorCode::kGeneric, "ping: getsockname", errno);
  }
  local.setPort(0);
  std::string text = local.toString();  // "10.0.0.1:0", "[::1]:0"
  text.resize(text.size() - 2);
  if (text.front() == '[') text = text.substr(1, text.size() - 2);
  return text;
}

class SocketLink final : public ProbeLink {
 public:
  static Result<std::unique_ptr<ProbeLink>> open(const io::SockAddr& target) {
    auto link = std::make_unique<SocketLink>();
    auto fd = connectedSocket(target);
    if (!fd) return fd.error();
    link->fd_ = fd.take();
    // Answers that come while this thread does not run. The limit of the system may be less.
    constexpr int kReceiveBufferBytes = 4 << 20;
    (void)::setsockopt(link->fd_.get(), SOL_SOCKET, SO_RCVBUF, &kReceiveBufferBytes, sizeof(kReceiveBufferBytes));
    auto source = sourceOf(link->fd_.get());
    if (!source) return source.error();
    link->description_.via = "socket";
    auto netdev = io::chooseNetdev("", *source);
    if (netdev) {
      link->description_.interface = netdev->name;
      link->prepare(*netdev, target.isV6());
    }
    return std::unique_ptr<ProbeLink>(std::move(link));
  }

  bool send(std::span<const uint8_t> payload) override {
    return ::send(fd_.get(), payload.data(), payload.size(), 0) == static_cast<ssize_t>(payload.size());
  }
  void receive(const Take& take) override {
    std::array<uint8_t, 2048> buffer;
    for (int i = 0; i < kBurst; ++i) {
      const ssize_t length = ::recv(fd_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
      if (length < 0) return;
      take(buffer.data(), static_cast<uint32_t>(length), clock_.nanoTime());
    }
  }
  int waitHandle() const override { return fd_.get(); }

 private:
  static constexpr int kBurst = 64;

  void prepare(const io::Netdev& netdev, bool v6) {
    const auto facts = io::xdp::readInterfaceFacts(netdev);
    if (facts.hardware) return;
    // No device fills a checksum that the kernel leaves open, and the reflector would send it back as it is: so none (zero, RFC 768; over
    // IPv6 for both ends of one tool, RFC 6936).
    const int on = 1;
    (void)::setsockopt(fd_.get(), SOL_SOCKET, SO_NO_CHECK, &on, sizeof(on));
    if (v6) {
      (void)::setsockopt(fd_.get(), SOL_UDP, UDP_NO_CHECK6_TX, &on, sizeof(on));
      (void)::setsockopt(fd_.get(), SOL_UDP, UDP_NO_CHECK6_RX, &on, sizeof(on));
    }
    if (facts.driver != "veth") return;
    // veth takes frames back from its other end's XDP_TX only while this end runs a native program as well.
    auto pass = EchoProgram::attach(netdev.index, AttachMode::kNative, false, 0);
    if (pass) {
      pass_.emplace(pass.take());
      description_.notes.push_back("a pass program on " + netdev.name + " lets veth return what the reflector sends");
    } else {
      description_.notes.push_back("answers of a native reflector over veth get lost without a native program on this end: " +
                                   pass.error().message);
    }
  }

  UniqueFd fd_;
  SystemClock clock_;
  std::optional<EchoProgram> pass_;
};

class XdpLink final : public ProbeLink {
 public:
  static Result<std::unique_ptr<ProbeLink>> open(const io::SockAddr& target, const std::string& mode) {
    auto link = std::make_unique<XdpLink>();
    auto route = connectedSocket(target);
    if (!route) return route.error();
    auto source = sourceOf(route->get());
    if (!source) return source.error();
    auto netdev = io::chooseNetdev("", *source);
    if (!netdev) return netdev.error();
    io::BackendOptions options;
    options.interface = netdev->name;
    options.xdpMode = mode;
    auto pair = io::openPair("xdp", options);
    if (!pair) return pair.error();
    link->pair_ = pair.take();
    for (const auto& [name, value] : link->pair_.sender->facts()) {
      if (name == "mode") link->description_.via = "xdp (" + value + ")";
    }
    link->description_.interface = netdev->name;
    io::EndpointConfig config;
    auto local = io::SockAddr::parseNumeric(*source, 0);
    if (!local) return local.error();
    config.bindAddress = *local;
    io::DatagramIo& io = *link->pair_.sender;
    auto endpoint = io.openEndpoint(config);
    if (!endpoint) return endpoint.error();
    link->endpoint_ = endpoint.take();
    io.attach(*link->endpoint_);
    auto nextHop = io.resolve(*link->endpoint_, target);
    if (!nextHop) return nextHop.error();
    link->nextHop_ = nextHop.take();
    return std::unique_ptr<ProbeLink>(std::move(link));
  }
  ~XdpLink() override {
    nextHop_.reset();
    if (endpoint_ != nullptr) pair_.sender->detach(*endpoint_);
    endpoint_.reset();
  }

  bool send(std::span<const uint8_t> payload) override {
    io::TxItem item;
    item.nextHop = nextHop_.get();
    item.data = payload.data();
    item.length = static_cast<uint32_t>(payload.size());
    pair_.sender->transmit(*endpoint_, {&item, 1});
    return item.status == io::TxStatus::kSent;
  }
  void receive(const Take& take) override {
    const int64_t nowNs = clock_.nanoTime();
    io::RxBurst burst;
    pair_.sender->poll(burst, nowNs);
    for (size_t i = 0; i < burst.count; ++i) take(burst.packets[i].data, burst.packets[i].length, clock_.nanoTime());
    pair_.sender->release(burst);
  }
  int waitHandle() const override { return pair_.sender->waitHandle(); }
  bool arm() override { return pair_.sender->arm(); }

 private:
  SystemClock clock_;
  io::IoPair pair_;
  std::unique_ptr<io::Endpoint> endpoint_;
  std::unique_ptr<io::NextHop> nextHop_;
};

}  // namespace

Result<std::unique_ptr<ProbeLink>> openLink(LinkKind kind, const io::SockAddr& target, const std::string& mode) {
  return kind == LinkKind::kXdp ? XdpLink::open(target, mode) : SocketLink::open(target);
}

}  // namespace outrigger::probe
