// SPDX-License-Identifier: Apache-2.0
// Fuzzes channel URIs as a client may send them: parsing, typed parameters, printing and UDP channel rules. Names resolve from
// a table of one, so that no input starts a name look-up.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "io/impair/impair_config.h"
#include "net/udp_channel.h"

using namespace outrigger;

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

Result<io::SockAddr> resolver(const std::string& host, uint16_t port, bool preferV6) {
  if (host == "localhost") return io::SockAddr::parseNumeric(preferV6 ? "::1" : "127.0.0.1", port);
  return io::SockAddr::parseNumeric(host, port);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  auto uri = net::ChannelUri::parse(text);
  if (uri.ok()) {
    auto again = net::ChannelUri::parse(uri->toString());
    // The spy prefix has a long and a short form, so the printed text may be over the limit when the read one was not.
    require(again.ok() || uri->toString().size() > net::kMaxChannelUriLength);
    if (again.ok()) require(again->toString() == uri->toString());
    for (const char* key : {"session-id", "ttl", "mtu", "term-length", "linger", "reliable"}) {
      (void)uri->getInt64(key, 0, INT32_MIN, INT32_MAX);
      (void)uri->getBool(key, false);
      const auto bytes = uri->getSizeBytes(key, 0, 0, 1 << 30);
      require(!bytes.ok() || (bytes.value() >= 0 && bytes.value() <= 1 << 30));
      const auto ns = uri->getDurationNs(key, 0);
      require(!ns.ok() || ns.value() >= 0);
    }
  } else {
    require(!uri.error().message.empty() && uri.error().message.size() < 1000);
  }
  auto channel = net::UdpChannel::parse(text, resolver);
  if (channel.ok()) {
    require(!channel->canonicalForm.empty());
    require(channel->ttl >= 0 && channel->ttl <= 255);
  } else {
    require(!channel.error().message.empty() && channel.error().message.size() < 1000);
  }
  (void)net::splitHostPort(text);
  if (auto impair = io::ImpairConfig::parse(text); impair.ok()) require(io::ImpairConfig::parse(impair->toString()).ok());
  return 0;
}
