// SPDX-License-Identifier: Apache-2.0
#include "nicd/status_client.h"

#include <poll.h>

#include "io/nicd_client/seqpacket.h"

namespace outrigger::nicd {
namespace {

constexpr int kAnswerTimeMs = 10'000;

Result<Answer> nextAnswer(int socket) {
  for (;;) {
    pollfd polled{socket, POLLIN, 0};
    if (::poll(&polled, 1, kAnswerTimeMs) <= 0) return makeError(ErrorCode::kGeneric, "outrigger-nicd does not answer");
    Received received;
    const Transfer got = receiveMessage(socket, received);
    if (got == Transfer::kWouldBlock) continue;
    if (got != Transfer::kDone) return makeError(ErrorCode::kGeneric, "outrigger-nicd closed the connection");
    auto answer = decodeAnswer(received.bytes);
    if (!answer) return answer.error();
    if (const auto* refused = std::get_if<RefusedText>(&answer->body))
      return makeError(ErrorCode::kGeneric, refused->text, refused->sysErrno);
    return answer;
  }
}

}  // namespace

Result<std::string> fetchStatus(const std::string& path, bool json) {
  auto socket = connectTo(path);
  if (!socket) return socket.error();
  Hello hello;
  static_cast<void>(setName(hello.name, "status"));
  static_cast<void>(sendMessage(socket->get(), encode(MessageType::kHello, 1, hello), {}));
  if (auto welcome = nextAnswer(socket->get()); !welcome) return welcome.error();
  const StatusRequest request{static_cast<uint32_t>(json ? StatusFormat::kJson : StatusFormat::kText), 0};
  static_cast<void>(sendMessage(socket->get(), encode(MessageType::kStatus, 2, request), {}));
  std::string text;
  for (;;) {
    auto answer = nextAnswer(socket->get());
    if (!answer) return answer.error();
    const auto* part = std::get_if<StatusText>(&answer->body);
    if (part == nullptr) return makeError(ErrorCode::kGeneric, "outrigger-nicd answers something else than its status");
    text += part->text;
    if (!part->more) return text;
  }
}

}  // namespace outrigger::nicd
