// SPDX-License-Identifier: Apache-2.0
#include "nicd/claims.h"

#include <fcntl.h>

#include <algorithm>
#include <charconv>
#include <cstring>

#include "base/fd.h"
#include "nicd/numbers.h"

namespace outrigger::nicd {
namespace {

constexpr size_t kMaxClaimLength = 16 * 1024;
constexpr uint16_t kFirstOrdinaryPort = 1024;

std::string_view trim(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t\r");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

// Calls `take` with each item of a list; false as soon as it says false.
template <typename Take>
bool forEachItem(std::string_view list, const Take& take) {
  while (!list.empty()) {
    const size_t comma = list.find(',');
    if (!take(trim(list.substr(0, comma)))) return false;
    list = comma == std::string_view::npos ? std::string_view{} : list.substr(comma + 1);
  }
  return true;
}

bool takeNumbers(std::string_view text, std::vector<uint32_t>& numbers) {
  return forEachItem(text, [&](std::string_view item) { return parseNumber(item, numbers.emplace_back()); });
}

bool takeRange(std::string_view item, std::vector<PortRange>& ports) {
  PortRange range;
  const size_t dash = item.find('-');
  if (!parseNumber(item.substr(0, dash), range.first)) return false;
  range.last = range.first;
  if (dash != std::string_view::npos && !parseNumber(item.substr(dash + 1), range.last)) return false;
  ports.push_back(range);
  return range.first != 0 && range.first <= range.last;
}

bool takeAddress(std::string_view item, std::vector<io::SockAddr>& addresses) {
  auto parsed = io::SockAddr::parseNumeric(std::string(item), 0);
  if (!parsed) return false;
  addresses.push_back(*parsed);
  return true;
}

bool takeLine(Claim& claim, std::string_view key, std::string_view value, bool& hasToken) {
  if (key == "token") return hasToken = fromHex(value, claim.token);
  if (key == "interface") {
    claim.interface = std::string(value);
    return !value.empty() && value.size() < kInterfaceNameLength;
  }
  if (key == "queues") return takeNumbers(value, claim.queues);
  if (key == "uids") return takeNumbers(value, claim.uids);
  if (key == "ports") return forEachItem(value, [&](std::string_view item) { return takeRange(item, claim.ports); });
  if (key == "addresses") return forEachItem(value, [&](std::string_view item) { return takeAddress(item, claim.addresses); });
  if (key == "packet") {
    claim.packet = value == "yes";
    return value == "yes" || value == "no";
  }
  return false;
}

Error noSuchClaim(const std::string& name) {
  return makeError(ErrorCode::kGeneric, "claim '" + name + "' is unknown or its token is another: check what the pod was given");
}

Result<std::string> readFile(const std::string& path, const std::string& name) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!fd.valid()) return noSuchClaim(name);
  std::string text(kMaxClaimLength + 1, '\0');
  const ssize_t length = ::read(fd.get(), text.data(), text.size());
  if (length < 0) return noSuchClaim(name);
  text.resize(static_cast<size_t>(length));
  return text;
}

}  // namespace

bool Claim::allowsQueue(uint32_t queue) const { return queues.empty() || std::find(queues.begin(), queues.end(), queue) != queues.end(); }

bool Claim::allowsAddress(const Address& address) const {
  return addresses.empty() || std::any_of(addresses.begin(), addresses.end(), [&](const io::SockAddr& each) {
           const Address allowed = addressOf(each);
           return allowed.family == address.family && std::memcmp(allowed.bytes, address.bytes, sizeof(allowed.bytes)) == 0;
         });
}

bool Claim::allowsPort(uint16_t port) const {
  if (ports.empty()) return port >= kFirstOrdinaryPort;
  return std::any_of(ports.begin(), ports.end(), [&](const PortRange& range) { return port >= range.first && port <= range.last; });
}

Result<Claim> parseClaim(std::string_view name, std::string_view text) {
  const auto bad = [&](int line, std::string_view content) {
    // The content may be the token: it is not repeated.
    return makeError(ErrorCode::kGeneric, "claim '" + std::string(name) + "', line " + std::to_string(line) + ": '" +
                                              std::string(trim(content.substr(0, content.find('=')))) + "' is unknown or has a bad value");
  };
  if (text.size() > kMaxClaimLength) return makeError(ErrorCode::kGeneric, "claim '" + std::string(name) + "' is longer than 16 KiB");
  Claim claim;
  claim.name = std::string(name);
  bool hasToken = false;
  for (int number = 1; !text.empty(); ++number) {
    const size_t end = text.find('\n');
    const std::string_view line = trim(text.substr(0, end));
    text = end == std::string_view::npos ? std::string_view{} : text.substr(end + 1);
    if (line.empty() || line.front() == '#') continue;
    const size_t equals = line.find('=');
    if (equals == std::string_view::npos) return bad(number, line);
    if (!takeLine(claim, trim(line.substr(0, equals)), trim(line.substr(equals + 1)), hasToken)) return bad(number, line);
  }
  if (!hasToken || claim.interface.empty()) {
    return makeError(ErrorCode::kGeneric, "claim '" + std::string(name) + "' lacks its token or interface");
  }
  return claim;
}

Result<Claim> loadClaim(const std::string& directory, const std::string& name, const Token& token) {
  if (name.empty()) return makeError(ErrorCode::kGeneric, "a claim is needed here: set OUTRIGGER_NICD_CLAIM to the claim's file");
  if (name.find('/') != std::string::npos || name.front() == '.') return noSuchClaim(name);
  auto text = readFile(directory + "/" + name, name);
  if (!text) return text.error();
  auto claim = parseClaim(name, *text);
  if (!claim) return claim.error();
  if (!sameToken(claim->token, token)) return noSuchClaim(name);
  return claim;
}

bool sameToken(const Token& a, const Token& b) {
  uint8_t difference = 0;
  for (size_t i = 0; i < a.size(); ++i) difference = static_cast<uint8_t>(difference | (a[i] ^ b[i]));
  return difference == 0;
}

std::string toHex(const Token& token) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const uint8_t byte : token) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

bool fromHex(std::string_view text, Token& token) {
  if (text.size() != 2 * token.size()) return false;
  for (size_t i = 0; i < token.size(); ++i) {
    const auto [end, error] = std::from_chars(text.data() + 2 * i, text.data() + 2 * i + 2, token[i], 16);
    if (error != std::errc() || end != text.data() + 2 * i + 2) return false;
  }
  return true;
}

}  // namespace outrigger::nicd
