// SPDX-License-Identifier: Apache-2.0
// The capture's thread and its client.
#include "driver/capture_service.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>

#include "driver/version.h"
#include "io/capture/frame_expander.h"
#include "io/capture/pcapng.h"

namespace outrigger::driver {

namespace {

// Between two looks at the rings, which hold 20 ms at full speed.
constexpr int kLookMs = 2;
// Bytes that wait for a client; more stays in the rings, and what finds no room there is counted.
constexpr size_t kMaxWaitingBytes = 1u << 20;
// A client that asks nothing, or does not read the end of its file, is let go.
constexpr int kPatienceMs = 2'000;
constexpr uint32_t kMaxSnapLength = 262'144;  // as tcpdump's
constexpr size_t kMaxRequest = 128;

int64_t epochNanos() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<int64_t>(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
}

// "capture snaplen=N": N, or nothing.
bool parseRequest(std::string_view line, uint32_t& snapLength) {
  constexpr std::string_view kBegin = "capture snaplen=";
  if (!line.starts_with(kBegin)) return false;
  line.remove_prefix(kBegin.size());
  const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), snapLength);
  return error == std::errc() && end == line.data() + line.size() && snapLength >= 1 && snapLength <= kMaxSnapLength;
}

void sendLine(int fd, const std::string& line) {
  [[maybe_unused]] const ssize_t sent = ::send(fd, line.data(), line.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
}

// Of a backend without taps: who does see its datagrams. RDMA's go out of the device as RoCE v2, which is UDP to port 4791; only the software
// device sends them through the kernel.
std::string whereToLook(const std::string& backend) {
  if (backend == "verbs") {
    return "whose RDMA datagrams neither this command sees nor, of hardware, tcpdump on the network interface: capture RoCE v2 (UDP "
           "port 4791) on a mirror port of the switch, or on the RDMA device where 'tcpdump -D' lists it; over rdma_rxe, and what is sent "
           "by UDP, 'tcpdump -i any -w FILE udp' shows";
  }
  return "whose datagrams go through the kernel: tcpdump sees them as they are, as in 'tcpdump -i any -w FILE udp port PORT'";
}

}  // namespace

// One capture: what its client gets, and from where.
struct CaptureService::Client {
  struct Source {
    std::shared_ptr<io::CaptureTap> tap;
    uint32_t interfaceId = 0;
    int64_t startNs = 0;
    int64_t seenBefore = 0;
    int64_t droppedBefore = 0;
  };

  int fd = -1;
  uint32_t snapLength = 0;
  uint32_t interfaces = 0;
  std::vector<Source> sources;
  std::vector<uint8_t> waiting;  // for the client
  size_t written = 0;            // of it
  io::FrameExpander expander;
  bool gone = false;

  void open(const Shown& shown) {
    for (const auto& tap : shown.taps) {
      tap->start(snapLength);
      io::pcapng::interfaceDescription(waiting, tap->interface(), tap->description(), snapLength);
      sources.push_back({tap, interfaces++, epochNanos(), tap->ring().seen(), tap->ring().dropped()});
    }
  }
  // Takes what there is, as far as it may wait.
  void drain(size_t limit) {
    for (const Source& source : sources) {
      io::CapturedFrame frame;
      while (waiting.size() < limit && source.tap->ring().peek(frame)) {
        const auto direction = frame.outbound ? io::pcapng::Direction::kOutbound : io::pcapng::Direction::kInbound;
        expander.expand(frame, [&](std::span<const uint8_t> data, uint32_t originalLength) {
          io::pcapng::enhancedPacket(waiting, source.interfaceId, frame.timestampNs, data, originalLength, direction);
        });
        source.tap->ring().pop();
      }
    }
  }
  void close() {
    for (const Source& source : sources) source.tap->stop();
    drain(SIZE_MAX);
    for (const Source& source : sources) {
      const io::CaptureRing& ring = source.tap->ring();
      const int64_t dropped = ring.dropped() - source.droppedBefore;
      const int64_t nowNs = epochNanos();
      io::pcapng::interfaceStatistics(waiting, source.interfaceId, nowNs,
                                      {source.startNs, nowNs, ring.seen() - source.seenBefore + dropped, dropped});
    }
    sources.clear();
  }
  void write() {
    while (written < waiting.size()) {
      const ssize_t sent = ::send(fd, waiting.data() + written, waiting.size() - written, MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent < 0) {
        gone = errno != EAGAIN && errno != EINTR;
        return;
      }
      written += static_cast<size_t>(sent);
    }
    waiting.clear();
    written = 0;
  }
};

Result<std::unique_ptr<CaptureService>> CaptureService::start(const std::string& directory, mode_t mode) {
  std::unique_ptr<CaptureService> service(new CaptureService());
  service->path_ = directory + "/" + kSocketName;
  const auto failed = [&](const char* what, int err) {
    return makeError(ErrorCode::kGeneric, std::string("`outrigger capture` is not possible: ") + what + " '" + service->path_ + "'", err);
  };
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (service->path_.size() >= sizeof(address.sun_path)) return failed("the path is longer than 107 bytes:", 0);
  std::copy(service->path_.begin(), service->path_.end(), address.sun_path);
  service->listening_ = UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  service->wake_ = UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!service->listening_.valid() || !service->wake_.valid()) return failed("cannot make a socket for", errno);
  ::unlink(service->path_.c_str());
  const int fd = service->listening_.get();
  if (::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) return failed("cannot bind", errno);
  if (::chmod(service->path_.c_str(), mode) != 0) return failed("cannot set the mode of", errno);
  if (::listen(fd, 4) != 0) return failed("cannot listen on", errno);
  service->thread_ = std::thread([raw = service.get()] { raw->run(); });
  return service;
}

CaptureService::~CaptureService() {
  if (!thread_.joinable()) return;
  ending_.store(true, std::memory_order_release);
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(wake_.get(), &one, sizeof(one));
  thread_.join();
  ::unlink(path_.c_str());
}

void CaptureService::show(std::string backend, std::vector<std::shared_ptr<io::CaptureTap>> taps) {
  const std::lock_guard lock(mutex_);
  ++shown_.generation;
  shown_.backend = std::move(backend);
  shown_.taps = std::move(taps);
}

CaptureService::Shown CaptureService::shown() {
  const std::lock_guard lock(mutex_);
  return shown_;
}

void CaptureService::run() {
  ::pthread_setname_np(::pthread_self(), "or-capture");
  while (!ending()) {
    pollfd polled[2] = {{listening_.get(), POLLIN, 0}, {wake_.get(), POLLIN, 0}};
    ::poll(polled, 2, -1);
    UniqueFd connection(::accept4(listening_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (connection.valid() && !ending()) serve(std::move(connection));
  }
}

void CaptureService::refuseOthers() {
  const UniqueFd other(::accept4(listening_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (other.valid()) sendLine(other.get(), "error: another capture of this driver is running; end it first\n");
}

void CaptureService::serve(UniqueFd connection) {
  Client client;
  client.fd = connection.get();
  std::string request;
  while (request.find('\n') == std::string::npos) {
    pollfd polled[2] = {{client.fd, POLLIN, 0}, {wake_.get(), POLLIN, 0}};
    if (::poll(polled, 2, kPatienceMs) <= 0 || ending()) return;
    char bytes[kMaxRequest];
    const ssize_t got = ::recv(client.fd, bytes, sizeof(bytes), MSG_DONTWAIT);
    if (got <= 0 || request.size() > kMaxRequest) return;
    request.append(bytes, static_cast<size_t>(got));
  }
  if (!parseRequest(std::string_view(request).substr(0, request.find('\n')), client.snapLength)) {
    return sendLine(client.fd, "error: asked for '" + request.substr(0, request.find('\n')) +
                                   "', allowed is 'capture snaplen=N' with N from 1 to " + std::to_string(kMaxSnapLength) + "\n");
  }
  Shown now = shown();
  if (now.taps.empty()) {
    return sendLine(client.fd, "error: the driver runs " + now.backend + ", " + whereToLook(now.backend) + "\n");
  }
  sendLine(client.fd, "ok\n");
  io::pcapng::sectionHeader(client.waiting, std::string("outrigger-driver ") + kVersion);
  client.open(now);
  bool finished = false;
  while (!finished && !client.gone && !ending()) {
    if (Shown next = shown(); next.generation != now.generation) {
      client.close();
      now = std::move(next);
      finished = now.taps.empty();  // the rest is not to be had here
      client.open(now);
    }
    client.drain(kMaxWaitingBytes);
    client.write();
    // While much waits, writing is what to wait for; else time.
    const bool full = !client.waiting.empty();
    pollfd polled[3] = {
        {client.fd, static_cast<short>(POLLIN | (full ? POLLOUT : 0)), 0}, {wake_.get(), POLLIN, 0}, {listening_.get(), POLLIN, 0}};
    ::poll(polled, 3, kLookMs);
    if ((polled[2].revents & POLLIN) != 0) refuseOthers();
    if ((polled[0].revents & (POLLIN | POLLHUP | POLLERR)) != 0) {
      char byte = 0;
      const ssize_t got = ::recv(client.fd, &byte, 1, MSG_DONTWAIT);
      finished = finished || got == 0 || (got < 0 && errno != EAGAIN);
    }
  }
  client.close();
  const int64_t endNs = epochNanos() + static_cast<int64_t>(kPatienceMs) * 1'000'000;
  while (!client.waiting.empty() && !client.gone && epochNanos() < endNs) {
    client.write();
    pollfd polled{client.fd, POLLOUT, 0};
    if (!client.waiting.empty()) ::poll(&polled, 1, kPatienceMs);
  }
}

}  // namespace outrigger::driver
