// SPDX-License-Identifier: Apache-2.0
// The explanation and its two forms.
#include "driver/explain.h"

#include <algorithm>

#include "base/json.h"

namespace outrigger::driver {

namespace {

constexpr size_t kNameWidth = 10;
constexpr size_t kAvailabilityWidth = 12;

std::string padded(std::string text, size_t width) {
  if (text.size() < width) text.resize(width, ' ');
  return text;
}

// Why a preload is or isn't at work, and what to do.
io::BackendCause causeOf(const io::Preload& preload) {
  if (preload.loaded) return {preload.name, preload.library + " is loaded: socket and mmsg run on it", ""};
  if (preload.asked) {
    return {preload.name, "LD_PRELOAD names " + preload.library + ", but it is not loaded: the dynamic linker did not find it",
            "install it, or give its whole path in LD_PRELOAD"};
  }
  return {preload.name, preload.library + " is not loaded",
          "with a NIC of " + preload.vendor + " start the driver with LD_PRELOAD=" + preload.library};
}

void writeCause(JsonWriter& json, const io::BackendCause& cause) {
  json.beginObject().field("what", cause.what).field("cause", cause.cause).field("fix", cause.fix).endObject();
}

}  // namespace

const char* availabilityText(io::Availability availability) {
  switch (availability) {
    case io::Availability::kAvailable:
      return "available";
    case io::Availability::kDegraded:
      return "degraded";
    case io::Availability::kImpossible:
      return "impossible";
    case io::Availability::kNotBuilt:
      return "not built";
  }
  return "";
}

Explanation explain(const DriverConfig& config, const std::vector<io::Backend>& table) {
  const io::BackendOptions options = backendOptionsOf(config);
  Explanation explanation;
  explanation.order = config.backends;
  explanation.preloads = io::preloads();
  for (const io::Backend& backend : table) {
    io::BackendReport report;
    if (io::BackendCause cause = io::vlanCause(backend.name, options); cause.what.empty()) {
      report = backend.probe(options);
    } else {
      report.availability = io::Availability::kImpossible;
      report.causes.push_back(std::move(cause));
    }
    report.name = backend.name;
    explanation.reports.push_back(std::move(report));
  }
  for (const std::string& name : config.backends) {
    const auto found =
        std::find_if(explanation.reports.begin(), explanation.reports.end(), [&](const auto& each) { return each.name == name; });
    if (found == explanation.reports.end()) continue;
    if (found->availability == io::Availability::kAvailable || found->availability == io::Availability::kDegraded) {
      explanation.wouldUse = name;
      break;
    }
  }
  return explanation;
}

std::string explanationText(const Explanation& explanation) {
  std::string out;
  const std::string indent(kNameWidth + kAvailabilityWidth, ' ');
  for (const io::BackendReport& report : explanation.reports) {
    std::string facts;
    for (const auto& [key, value] : report.facts) facts += (facts.empty() ? "" : ", ") + key + ": " + value;
    out += padded(report.name, kNameWidth) + padded(availabilityText(report.availability), kAvailabilityWidth) + facts + "\n";
    for (const io::BackendCause& cause : report.causes) {
      out += indent + cause.what + ": " + cause.cause + "\n";
      if (!cause.fix.empty()) out += indent + "  fix: " + cause.fix + "\n";
    }
  }
  out += "\nBy preload, as run modes of socket and mmsg:\n";
  for (const io::Preload& preload : explanation.preloads) {
    const io::BackendCause cause = causeOf(preload);
    out += padded(preload.name, kNameWidth) + padded(preload.loaded ? "active" : "not loaded", kAvailabilityWidth) + cause.cause + "\n";
    if (!cause.fix.empty()) out += indent + "  fix: " + cause.fix + "\n";
  }
  std::string order;
  for (const std::string& name : explanation.order) order += (order.empty() ? "" : ",") + name;
  out +=
      "\nOUTRIGGER_BACKENDS=" + order + ": " +
      (explanation.wouldUse.empty() ? "none of them opens here, a driver would not start" : "a driver would use " + explanation.wouldUse) +
      "\n";
  return out;
}

std::string explanationJson(const Explanation& explanation) {
  JsonWriter json;
  json.beginObject();
  json.field("wouldUse", explanation.wouldUse);
  json.key("order").beginArray();
  for (const std::string& name : explanation.order) json.value(name);
  json.endArray();
  json.key("backends").beginArray();
  for (const io::BackendReport& report : explanation.reports) {
    json.beginObject().field("name", report.name).field("availability", availabilityText(report.availability));
    json.key("causes").beginArray();
    for (const io::BackendCause& cause : report.causes) writeCause(json, cause);
    json.endArray();
    json.key("facts").beginObject();
    for (const auto& [key, value] : report.facts) json.field(key, value);
    json.endObject();
    json.endObject();
  }
  json.endArray();
  json.key("preloads").beginArray();
  for (const io::Preload& preload : explanation.preloads) {
    const io::BackendCause cause = causeOf(preload);
    json.beginObject()
        .field("name", preload.name)
        .field("availability", preload.loaded ? "active" : "not loaded")
        .field("cause", cause.cause)
        .field("fix", cause.fix)
        .endObject();
  }
  json.endArray();
  json.endObject();
  return json.text() + "\n";
}

}  // namespace outrigger::driver
