// SPDX-License-Identifier: Apache-2.0
#include "nicd/status.h"

#include <cstdio>
#include <utility>

namespace outrigger::nicd {
namespace {

// Objects and arrays are opened and closed by hand; commas come by themselves.
class Json {
 public:
  Json& open(char bracket, std::string_view key = {}) {
    begin(key);
    text_ += bracket;
    fresh_ = true;
    return *this;
  }
  Json& close(char bracket) {
    text_ += bracket;
    fresh_ = false;
    return *this;
  }
  Json& add(std::string_view key, int64_t value) {
    begin(key);
    text_ += std::to_string(value);
    return *this;
  }
  Json& add(std::string_view key, std::string_view value) {
    begin(key);
    quote(value);
    return *this;
  }
  Json& flag(std::string_view key, bool value) {
    begin(key);
    text_ += value ? "true" : "false";
    return *this;
  }
  std::string take() { return std::move(text_); }

 private:
  void begin(std::string_view key) {
    if (!fresh_) text_ += ',';
    fresh_ = false;
    if (key.empty()) return;
    quote(key);
    text_ += ':';
  }
  void quote(std::string_view value) {
    text_ += '"';
    for (const char c : value) {
      if (c == '"' || c == '\\') text_ += '\\';
      if (static_cast<unsigned char>(c) < 0x20) {
        char escape[8];
        std::snprintf(escape, sizeof(escape), "\\u%04x", static_cast<unsigned>(c));
        text_ += escape;
      } else {
        text_ += c;
      }
    }
    text_ += '"';
  }

  std::string text_;
  bool fresh_ = true;
};

std::string stateOf(const Session& session) { return session.expired ? "expired" : session.attached ? "attached" : "leased"; }

std::string idText(uint64_t id) {
  char text[20];
  std::snprintf(text, sizeof(text), "%016llx", static_cast<unsigned long long>(id));
  return text;
}

std::string kindText(const SessionRecord& record) { return record.kind == SessionKind::kPacket ? "packet" : "xdp"; }

}  // namespace

std::string modeName(const SessionRecord& record) {
  if (record.kind == SessionKind::kPacket) return "";
  switch (static_cast<XdpMode>(record.mode)) {
    case XdpMode::kZeroCopy:
      return "zero-copy";
    case XdpMode::kNativeCopy:
      return "native copy";
    case XdpMode::kGeneric:
      return "generic";
    case XdpMode::kAuto:
      break;
  }
  return "unknown";
}

std::string statusJson(const StatusView& view) {
  Json json;
  json.open('{').add("uptimeMs", view.uptimeMs).add("leaseMs", view.options.leaseMs).add("bpfDirectory", view.options.bpfDirectory);
  const Registry::Totals& totals = view.registry.totals;
  json.open('{', "totals")
      .add("opened", totals.opened)
      .add("resumed", totals.resumed)
      .add("closed", totals.closed)
      .add("collected", totals.collected)
      .add("refusedRequests", totals.refused)
      .add("refusedConnections", view.refusedConnections)
      .add("malformed", view.malformed)
      .close('}');
  json.open('[', "interfaces");
  for (const auto& [index, device] : view.registry.devices()) {
    json.open('{').add("name", device->netdev().name).add("index", index).add("mode", device->generic() ? "generic" : "native");
    json.add("reason", device->reason()).flag("attached", device->program().attached()).open('{', "frames");
    for (const auto& counter : device->program().counters()) json.add(counter.name, counter.frames);
    json.close('}').close('}');
  }
  json.close(']').open('[', "sessions");
  for (const auto& [id, session] : view.registry.sessions()) {
    const SessionRecord& record = session->record;
    json.open('{').add("id", idText(id)).add("kind", kindText(record)).add("state", stateOf(*session)).add("interface", record.interface);
    json.add("queue", record.queue).add("mode", modeName(record)).add("memoryBytes", static_cast<int64_t>(record.memoryBytes));
    json.add("uid", record.uid).add("pid", record.pid).add("claim", record.claim).open('[', "ports");
    for (const Address& port : record.ports) json.add({}, sockAddrOf(port).toString());
    json.close(']').close('}');
  }
  json.close(']').open('[', "clients");
  for (const StatusClient& client : view.clients) {
    json.open('{').add("name", client.name).add("uid", client.uid).add("pid", client.pid).add("claim", client.claim);
    json.add("requests", client.requests).add("feedResyncs", client.feedResyncs).open('[', "sessions");
    for (const uint64_t id : client.sessions) json.add({}, idText(id));
    json.close(']').close('}');
  }
  return json.close(']').close('}').take() + "\n";
}

std::string statusText(const StatusView& view) {
  const Registry::Totals& totals = view.registry.totals;
  std::string text = "up " + std::to_string(view.uptimeMs / 1000) + " s, lease " + std::to_string(view.options.leaseMs) + " ms, " +
                     (view.options.bpfDirectory.empty() ? "nothing pinned" : "pinned in " + view.options.bpfDirectory) + "\n";
  text += "sessions opened " + std::to_string(totals.opened) + ", resumed " + std::to_string(totals.resumed) + ", closed " +
          std::to_string(totals.closed) + ", collected " + std::to_string(totals.collected) + "; refused: requests " +
          std::to_string(totals.refused) + ", connections " + std::to_string(view.refusedConnections) + ", malformed " +
          std::to_string(view.malformed) + "\n";
  for (const auto& [index, device] : view.registry.devices()) {
    text += "interface " + device->netdev().name + ": " + (device->generic() ? "generic" : "native") +
            (device->program().attached() ? "" : ", DETACHED") + (device->reason().empty() ? "" : " (" + device->reason() + ")") + ";";
    for (const auto& counter : device->program().counters()) {
      if (counter.frames != 0) text += std::string(" ") + counter.name + " " + std::to_string(counter.frames);
    }
    text += "\n";
  }
  for (const auto& [id, session] : view.registry.sessions()) {
    const SessionRecord& record = session->record;
    text += "session " + idText(id) + ": " + kindText(record) + " " + record.interface + " queue " + std::to_string(record.queue) + " " +
            modeName(record) + ", " + stateOf(*session) + ", user " + std::to_string(record.uid) + " process " +
            std::to_string(record.pid) + (record.claim.empty() ? "" : " claim " + record.claim) + ", ports:";
    for (const Address& port : record.ports) text += " " + sockAddrOf(port).toString();
    text += "\n";
  }
  for (const StatusClient& client : view.clients) {
    text += "client " + (client.name.empty() ? std::string("(no name)") : client.name) + ": user " + std::to_string(client.uid) +
            " process " + std::to_string(client.pid) + ", sessions " + std::to_string(client.sessions.size()) + ", requests " +
            std::to_string(client.requests) + "\n";
  }
  return text;
}

}  // namespace outrigger::nicd
