// SPDX-License-Identifier: Apache-2.0
// Requests and answers on rtnetlink, see netlink(7) and the kernel's userspace-api/netlink/intro.rst.
#include "net/netlink_socket.h"

#include <sys/socket.h>

#include <cstring>

namespace outrigger::net {
namespace {

// A dump that is interrupted this often tells of a machine whose tables never rest: take what there is.
constexpr int kMaxDumpAttempts = 10;
// Notifications between two looks: a burst of a few thousand neighbours (about 100 bytes each) must fit. The kernel caps it by rmem_max.
constexpr int kReceiveBufferBytes = 1 << 20;

struct Request {
  nlmsghdr header{};
  union {
    ifinfomsg link;
    ifaddrmsg address;
    ndmsg neighbour;
    rtmsg route;
    uint8_t bytes[256];
  } body{};

  Request(uint16_t type, uint16_t flags, size_t fixedLength, uint32_t sequence) {
    header.nlmsg_len = static_cast<uint32_t>(NLMSG_LENGTH(fixedLength));
    header.nlmsg_type = type;
    header.nlmsg_flags = static_cast<uint16_t>(NLM_F_REQUEST | flags);
    header.nlmsg_seq = sequence;
  }
  void add(uint16_t type, const void* data, size_t length) {
    auto* at = reinterpret_cast<uint8_t*>(this) + NLMSG_ALIGN(header.nlmsg_len);
    rtattr attribute{};
    attribute.rta_type = type;
    attribute.rta_len = static_cast<uint16_t>(RTA_LENGTH(length));
    std::memcpy(at, &attribute, sizeof(attribute));
    std::memcpy(at + RTA_LENGTH(0), data, length);
    header.nlmsg_len = static_cast<uint32_t>(NLMSG_ALIGN(header.nlmsg_len) + RTA_ALIGN(attribute.rta_len));
  }
};

int errorOf(const nlmsghdr* message) {
  if (message->nlmsg_len < NLMSG_LENGTH(sizeof(nlmsgerr))) return EPROTO;
  nlmsgerr error{};
  std::memcpy(&error, NLMSG_DATA(message), sizeof(error));
  return -error.error;
}

}  // namespace

Result<NetlinkSocket> NetlinkSocket::open(std::initializer_list<uint32_t> groups) {
  UniqueFd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  if (!fd.valid()) return makeError(ErrorCode::kGeneric, "cannot open an rtnetlink socket", errno);
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) {
    return makeError(ErrorCode::kGeneric, "cannot bind an rtnetlink socket", errno);
  }
  ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUF, &kReceiveBufferBytes, sizeof(kReceiveBufferBytes));
  for (const uint32_t group : groups) {
    if (::setsockopt(fd.get(), SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)) != 0) {
      return makeError(ErrorCode::kGeneric, "cannot join rtnetlink group " + std::to_string(group), errno);
    }
  }
  return NetlinkSocket(std::move(fd));
}

// Length of a datagram from the kernel, or -errno.
int NetlinkSocket::receive(std::vector<uint8_t>& buffer, bool wait) {
  while (true) {
    sockaddr_nl from{};
    iovec vector{buffer.data(), buffer.size()};
    msghdr header{};
    header.msg_name = &from;
    header.msg_namelen = sizeof(from);
    header.msg_iov = &vector;
    header.msg_iovlen = 1;
    const ssize_t length = ::recvmsg(fd_.get(), &header, wait ? 0 : MSG_DONTWAIT);
    if (length < 0) {
      if (errno == EINTR) continue;
      return -errno;
    }
    if (from.nl_pid != 0) continue;  // another process wrote to us: only the kernel is believed
    if ((header.msg_flags & MSG_TRUNC) != 0) return -ENOBUFS;
    return static_cast<int>(length);
  }
}

Result<void> NetlinkSocket::dump(uint16_t type, uint8_t family, const std::function<void()>& restart,
                                 const std::function<void(const nlmsghdr*)>& visit) {
  for (int attempt = 0; attempt < kMaxDumpAttempts; ++attempt) {
    restart();
    const size_t fixed = type == RTM_GETLINK    ? sizeof(ifinfomsg)
                         : type == RTM_GETADDR  ? sizeof(ifaddrmsg)
                         : type == RTM_GETNEIGH ? sizeof(ndmsg)
                                                : sizeof(rtmsg);
    Request request(type, NLM_F_DUMP, fixed, ++sequence_);
    request.body.bytes[0] = family;  // the first field of all four
    if (::send(fd_.get(), &request, request.header.nlmsg_len, 0) < 0) {
      return makeError(ErrorCode::kGeneric, "cannot ask rtnetlink for a dump of type " + std::to_string(type), errno);
    }
    bool done = false;
    bool interrupted = false;
    int err = 0;
    while (!done) {
      const int length = receive(buffer_, true);
      if (length < 0)
        return makeError(ErrorCode::kGeneric, "cannot read a dump of type " + std::to_string(type) + " from rtnetlink", -length);
      forEachMessage(buffer_.data(), static_cast<size_t>(length), [&](const nlmsghdr* message) {
        if (message->nlmsg_seq != sequence_) return true;  // left over from an earlier request
        interrupted |= (message->nlmsg_flags & NLM_F_DUMP_INTR) != 0;
        if (message->nlmsg_type == NLMSG_DONE) {
          done = true;
        } else if (message->nlmsg_type == NLMSG_ERROR) {
          done = true;
          err = errorOf(message);
        } else {
          visit(message);
        }
        return !done;
      });
    }
    if (err != 0) return makeError(ErrorCode::kGeneric, "rtnetlink refuses a dump of type " + std::to_string(type), err);
    if (!interrupted) return {};
  }
  return {};
}

int NetlinkSocket::route(const RouteQuestion& question, NetlinkRoute& out) {
  Request request(RTM_GETROUTE, 0, sizeof(rtmsg), ++sequence_);
  request.body.route.rtm_family = question.destination.family;
  request.body.route.rtm_dst_len = static_cast<uint8_t>(question.destination.length() * 8);
  request.add(RTA_DST, question.destination.bytes.data(), question.destination.length());
  if (question.source.family == question.destination.family && !question.source.unspecified()) {
    request.body.route.rtm_src_len = static_cast<uint8_t>(question.source.length() * 8);
    request.add(RTA_SRC, question.source.bytes.data(), question.source.length());
  }
  if (question.destination.isLinkLocalV6() && question.scopeInterface != 0) {
    request.add(RTA_OIF, &question.scopeInterface, sizeof(question.scopeInterface));
  }
  if (::send(fd_.get(), &request, request.header.nlmsg_len, 0) < 0) return errno;
  while (true) {
    const int length = receive(buffer_, true);
    if (length < 0) return -length;
    int answer = -1;
    forEachMessage(buffer_.data(), static_cast<size_t>(length), [&](const nlmsghdr* message) {
      if (message->nlmsg_seq != sequence_) return true;
      if (message->nlmsg_type == NLMSG_ERROR) {
        answer = errorOf(message);
      } else {
        answer = parseRoute(message, out) ? 0 : EPROTO;
      }
      return false;
    });
    if (answer >= 0) return answer;
  }
}

bool NetlinkSocket::drain(const std::function<void(const nlmsghdr*)>& visit) {
  bool complete = true;
  while (true) {
    const int length = receive(buffer_, false);
    if (length == -ENOBUFS) {
      complete = false;
      continue;
    }
    if (length < 0) return complete;
    forEachMessage(buffer_.data(), static_cast<size_t>(length), [&](const nlmsghdr* message) {
      visit(message);
      return true;
    });
  }
}

}  // namespace outrigger::net
