// SPDX-License-Identifier: Apache-2.0
// Sources of configuration.
#include "driver/config_parser.h"

#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>

#include "driver/config_options.h"
#include "driver/config_values.h"
#include "io/impair/impair_config.h"

namespace outrigger::driver {
namespace {

// A typo is at most this far from what was meant.
constexpr size_t kTypoDistance = 3;

class Parser {
 public:
  ParsedConfig parsed;

  // `origin` is what the user wrote: variable, flag, property.
  Result<void> apply(const ConfigOption& option, const std::string& origin, std::string_view value) {
    std::string notice;
    if (!option.apply(parsed.config, value, notice)) {
      return makeError(ErrorCode::kGeneric, origin + "=" + std::string(value) + " is not valid (" + option.meaning + "): allowed is " +
                                                option.allowed + detail(option, value));
    }
    if (!notice.empty()) parsed.notices.push_back(notice);
    return {};
  }

  Result<void> environment(const Environment& variables) {
    std::string unknown;
    // Strategies before their arguments, which mean different things to each: the table's order does that, the environment has none.
    for (const ConfigOption& option : configOptions()) {
      for (const auto& [name, value] : variables) {
        if (name != option.name) continue;
        if (auto r = apply(option, name, value); !r) return r;
      }
    }
    for (const auto& [name, value] : variables) {
      if (findOption(name) != nullptr) continue;
      if (name.starts_with("AERON_")) {
        unknown += (unknown.empty() ? "" : ", ") + name;
      } else if (const ConfigOption* near = nearest(name); near != nullptr) {
        // Other OUTRIGGER_ variables are the sidecar's; only a likely typo is worth a line.
        parsed.notices.push_back(name + " is unknown and ignored; did you mean " + near->name + "?");
      }
    }
    if (!unknown.empty()) parsed.notices.push_back("unknown variables are ignored: " + unknown);
    return {};
  }

  Result<void> argument(const std::vector<std::string>& arguments, size_t& index) {
    const std::string& text = arguments[index];
    if (text == "-h" || text == "--help") {
      parsed.help = true;
      return {};
    }
    if (text == "-v" || text == "--version") {
      parsed.version = true;
      return {};
    }
    if (text == "--explain") {
      parsed.explain = true;
      return {};
    }
    if (text == "--json") {
      parsed.json = true;
      return {};
    }
    if (text.starts_with("-D")) {
      std::string definition = text.substr(2);
      if (definition.empty() && index + 1 < arguments.size()) definition = arguments[++index];
      return property(definition, "-D");
    }
    if (text.starts_with("--")) return flag(text);
    if (text.starts_with("-")) {
      return makeError(ErrorCode::kGeneric, "flag '" + text + "' is unknown: write --name=value, -Dname=value, -h or -v");
    }
    return propertiesFile(text);
  }

  Result<ParsedConfig> finish() {
    DriverConfig& config = parsed.config;
    if (config.directory.empty()) config.directory = defaultDirectory();
    while (config.directory.size() > 1 && config.directory.ends_with('/')) config.directory.pop_back();
    if (config.aeronLoss && config.impair.empty()) {
      auto loss = io::ImpairConfig::parseAeronLoss(config.aeronLossArguments.empty() ? "rate=0" : config.aeronLossArguments);
      if (!loss) return loss.error();
      config.impair = loss->toString();
      if (config.impair == "none") config.impair.clear();
    }
    if (parsed.json && !parsed.explain) return makeError(ErrorCode::kGeneric, "--json goes with --explain; logs are JSON in any case");
    if (auto r = checkConfig(config, parsed.notices); !r) return r.error();
    return parsed;
  }

 private:
  static std::string detail(const ConfigOption& option, std::string_view value) {
    // The impairment's own message says which parameter is wrong.
    if (option.name == "OUTRIGGER_IMPAIR") return "; " + io::ImpairConfig::parse(value).error().message;
    if (option.name.ends_with("_LOSS_ARGS")) return "; " + io::ImpairConfig::parseAeronLoss(value).error().message;
    return {};
  }

  static const ConfigOption* nearest(std::string_view name) {
    const ConfigOption* best = nullptr;
    size_t bestDistance = kTypoDistance + 1;
    for (const ConfigOption& option : configOptions()) {
      const size_t distance = editDistance(name, option.name);
      if (distance < bestDistance) {
        bestDistance = distance;
        best = &option;
      }
    }
    return best;
  }

  Result<void> flag(const std::string& text) {
    const size_t equals = text.find('=');
    const std::string name = text.substr(0, equals);
    const ConfigOption* best = nullptr;
    size_t bestDistance = SIZE_MAX;
    for (const ConfigOption& option : configOptions()) {
      const std::string known = option.flag();
      if (known == name) {
        // A switch needs no value.
        const std::string value = equals == std::string::npos ? "true" : text.substr(equals + 1);
        return apply(option, name, value);
      }
      const size_t distance = editDistance(name, known);
      if (distance < bestDistance) {
        bestDistance = distance;
        best = &option;
      }
    }
    return makeError(ErrorCode::kGeneric, "flag '" + name + "' is unknown; the nearest one is '" + best->flag() + "', --help lists all");
  }

  // "aeron.term.buffer.length=64k": the name of a property, or of a variable.
  Result<void> property(std::string_view line, const std::string& origin) {
    const size_t equals = line.find_first_of("=:");
    if (equals == std::string_view::npos || equals == 0) {
      return makeError(ErrorCode::kGeneric, origin + ": '" + std::string(line) + "' is not name=value");
    }
    const std::string name(trimmed(line.substr(0, equals)));
    std::string variable = name;
    for (char& c : variable) {
      if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
      if (c == '.') c = '_';
    }
    if (const ConfigOption* option = findOption(variable)) return apply(*option, name, trimmed(line.substr(equals + 1)));
    const ConfigOption* near = nearest(variable);
    parsed.notices.push_back(origin + ": property " + name + " is unknown and ignored" +
                             (near == nullptr ? std::string() : "; did you mean " + near->name + "?"));
    return {};
  }

  Result<void> propertiesFile(const std::string& path) {
    std::ifstream file(path);
    if (!file) return makeError(ErrorCode::kGeneric, "cannot read properties file '" + path + "'", errno);
    std::string line;
    std::string joined;
    while (std::getline(file, line)) {
      std::string_view text = trimmed(line);
      if (joined.empty() && (text.empty() || text.front() == '#' || text.front() == '!')) continue;
      const bool goesOn = text.ends_with('\\');
      if (goesOn) text.remove_suffix(1);
      joined += text;
      if (goesOn) continue;
      if (auto r = property(joined, path); !r) return r;
      joined.clear();
    }
    return joined.empty() ? Result<void>() : property(joined, path);
  }
};

}  // namespace

Environment processEnvironment() {
  Environment variables;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    const size_t equals = text.find('=');
    if (equals == std::string_view::npos || (!text.starts_with("AERON_") && !text.starts_with("OUTRIGGER_"))) continue;
    variables.emplace_back(text.substr(0, equals), text.substr(equals + 1));
  }
  std::sort(variables.begin(), variables.end());
  return variables;
}

Result<ParsedConfig> parseConfig(const std::vector<std::string>& arguments, const Environment& environment) {
  Parser parser;
  if (auto r = parser.environment(environment); !r) return r.error();
  for (size_t i = 0; i < arguments.size(); ++i) {
    if (auto r = parser.argument(arguments, i); !r) return r.error();
  }
  return parser.finish();
}

std::string defaultDirectory() {
  const char* user = std::getenv("USER");
  std::string name = user != nullptr ? user : "";
  if (name.empty()) {
    const passwd* entry = ::getpwuid(::getuid());
    name = entry != nullptr && entry->pw_name != nullptr ? entry->pw_name : "default";
  }
  return "/dev/shm/aeron-" + name;
}

std::string configHelp() {
  std::string out =
      "outrigger-driver: a media driver that speaks Aeron's protocol and shared memory; drop-in for aeronmd.\n"
      "\n"
      "Usage: outrigger-driver [--name=value | -Dname=value | properties-file]... [--explain [--json]]\n"
      "\n"
      "Without arguments it is configured by its environment alone. Each option is an environment variable, a flag\n"
      "(AERON_TERM_BUFFER_LENGTH is --term-buffer-length) and a property (-Daeron.term.buffer.length=...). Arguments win over\n"
      "the environment, later ones over earlier ones. SIGTERM and SIGINT end it cleanly.\n"
      "\n"
      "  -h, --help      this text\n"
      "  -v, --version   the version\n"
      "  --explain       what each network backend could do here, why not more, and which one would be used; starts no driver\n"
      "  --json          that as JSON\n"
      "\n";
  const DriverConfig defaults;
  for (const ConfigOption& option : configOptions()) {
    out += "  " + option.name + "\n      " + option.meaning + ".\n      Allowed: " + option.allowed;
    if (option.show) {
      std::string value = option.show(defaults);
      if (option.name == "AERON_DIR") value = defaultDirectory();
      if (option.name == "AERON_UNTETHERED_LINGER_TIMEOUT") value = "that of the window limit";
      out += ". Default: " + (value.empty() ? "none" : value);
    }
    out += ".\n";
  }
  return out;
}

std::vector<std::string> describeConfig(const DriverConfig& config) {
  std::vector<std::string> lines;
  for (const ConfigOption& option : configOptions()) {
    if (option.show) lines.push_back(option.name + "=" + option.show(config));
  }
  return lines;
}

}  // namespace outrigger::driver
