// SPDX-License-Identifier: Apache-2.0
#include "io/nicd_client/seqpacket.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>

namespace outrigger::nicd {
namespace {

// Room for a few more than allowed, so that too many are seen and closed by us; what exceeds even this the kernel closes (MSG_CTRUNC).
constexpr size_t kControlDescriptors = kMaxDescriptors + 2;

union Control {
  cmsghdr align;
  uint8_t bytes[CMSG_SPACE(sizeof(int) * kControlDescriptors)];
};

bool isOver(int err) { return err != EAGAIN && err != EWOULDBLOCK && err != EINTR && err != ENOBUFS && err != ETOOMANYREFS; }

void takeDescriptors(msghdr& header, std::vector<UniqueFd>& descriptors) {
  for (cmsghdr* each = CMSG_FIRSTHDR(&header); each != nullptr; each = CMSG_NXTHDR(&header, each)) {
    if (each->cmsg_level != SOL_SOCKET || each->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (each->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(each) + i * sizeof(int), sizeof(int));
      descriptors.emplace_back(fd);
    }
  }
}

}  // namespace

Transfer sendMessage(int socket, std::span<const uint8_t> message, std::span<const int> descriptors) {
  iovec part{const_cast<uint8_t*>(message.data()), message.size()};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  Control control{};
  if (!descriptors.empty()) {
    header.msg_control = control.bytes;
    header.msg_controllen = CMSG_SPACE(sizeof(int) * descriptors.size());
    cmsghdr* rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int) * descriptors.size());
    std::memcpy(CMSG_DATA(rights), descriptors.data(), sizeof(int) * descriptors.size());
  }
  ssize_t sent = 0;
  do {
    sent = ::sendmsg(socket, &header, MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent >= 0) return Transfer::kDone;
  return isOver(errno) ? Transfer::kClosed : Transfer::kWouldBlock;
}

Transfer receiveMessage(int socket, Received& received) {
  received.descriptors.clear();
  received.bytes.resize(kMaxMessageLength);
  iovec part{received.bytes.data(), received.bytes.size()};
  Control control{};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control.bytes;
  header.msg_controllen = sizeof(control.bytes);
  ssize_t length = 0;
  do {
    length = ::recvmsg(socket, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  } while (length < 0 && errno == EINTR);
  if (length < 0) return isOver(errno) ? Transfer::kClosed : Transfer::kWouldBlock;
  takeDescriptors(header, received.descriptors);
  received.bytes.resize(static_cast<size_t>(length));
  // An empty packet looks like the end; it is no message in any case.
  if (length == 0) return Transfer::kClosed;
  const bool cut = (header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0;
  return cut || received.descriptors.size() > kMaxDescriptors ? Transfer::kTooMuch : Transfer::kDone;
}

Result<UniqueFd> connectTo(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path)) {
    return makeError(ErrorCode::kGeneric, "nicd: socket path '" + path + "' is not of 1 to 107 characters");
  }
  std::memcpy(address.sun_path, path.c_str(), path.size());
  UniqueFd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return makeError(ErrorCode::kGeneric, "nicd: cannot create a UNIX socket", errno);
  // EAGAIN: its queue of connections is full; whoever asks tries again later.
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    const int error = errno;
    std::string fix = "check that outrigger-nicd runs on this node and that its socket is mounted here";
    if (error == EACCES) fix = "give this user's group access to the socket (outrigger-nicd --socket-group)";
    return makeError(ErrorCode::kGeneric, "nicd: cannot connect to '" + path + "', " + fix, error);
  }
  return fd;
}

}  // namespace outrigger::nicd
